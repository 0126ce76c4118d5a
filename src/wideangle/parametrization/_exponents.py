"""Exponents of the width fitted to sizes, their intervals, and what these say about predicted ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle.reports.claims import AGREES, DISAGREES, NOT_RESOLVED

Array = NDArray[np.float64]

_RESAMPLES = 2000


class Fit(NamedTuple):
    """Exponents and the ends of their intervals, each (...)."""

    exponent: Array
    low: Array
    high: Array


def fit_exponents(sizes: Array, widths: Array, *, confidence: float, seed: int) -> Fit:
    """Fit powers of the width to sizes (width, seed, ...).

    Straight lines through means over seeds of ln size against ln width, all widths with the same weight: the sizes of a
    seed are those of a number of networks that goes like one over the width, as narrow ones vary the more. The noise is
    not taken to be the same, though: the bootstrap resamples the seeds of each width apart from those of others. Its
    deviations are widened by the root of n/(n - 1), as those of n resampled values are too small by that, and by
    Student's quantile over the normal one, with Satterthwaite's degrees of freedom.

    Infinite sizes, of networks that diverged, count as the largest floats, so that exponents are lower bounds; where
    the narrowest networks diverge too, nothing is known. Sizes that are zero throughout have the exponent minus
    infinity, and nothing is known where only some are.
    """
    n_widths, n_seeds = sizes.shape[:2]
    shape, flat = sizes.shape[2:], sizes.reshape(n_widths, n_seeds, -1)
    zero = flat == 0.0
    known = np.all(np.isfinite(flat[0]), axis=0) & ~np.any(zero | np.isnan(flat), axis=(0, 1))
    logs = np.log(np.clip(flat[..., known], None, np.finfo(np.float64).max))
    results = np.empty((3, flat.shape[2]))
    results[:, ~known] = np.array([np.nan, -np.inf, np.inf])[:, None]
    results[:, np.all(zero, axis=(0, 1))] = -np.inf
    slopes = _slope_weights(widths)
    estimate = slopes @ logs.mean(axis=1)
    draws = np.random.Generator(np.random.Philox(seed)).integers(n_seeds, size=(_RESAMPLES, n_widths, n_seeds))
    counts = (draws[..., None] == np.arange(n_seeds)).sum(axis=2) / n_seeds
    resampled = np.einsum("rws,w,wse->re", counts, slopes, logs, optimize=True)
    ends = np.quantile(resampled - estimate, [0.5 - confidence / 2.0, 0.5 + confidence / 2.0], axis=0)
    results[0, known] = estimate
    results[1:, known] = estimate + ends * _widening(logs, slopes, confidence)
    return Fit(*(row.reshape(shape) for row in results))


def _widening(logs: Array, slopes: Array, confidence: float) -> Array:
    """Return the factor (entry) for deviations of the bootstrap, from logarithms (width, seed, entry)."""
    from scipy import stats

    n_seeds = logs.shape[1]
    parts = slopes[:, None] ** 2 * logs.var(axis=1, ddof=1)
    squares = np.sum(parts**2, axis=0)
    ones = np.full_like(squares, n_seeds - 1.0)
    freedom = np.divide((n_seeds - 1) * parts.sum(axis=0) ** 2, squares, out=ones, where=squares > 0.0)
    level = 0.5 + confidence / 2.0
    quantiles = stats.t.ppf(level, freedom) / stats.norm.ppf(level)
    return np.asarray(np.sqrt(n_seeds / (n_seeds - 1)) * quantiles)


def _slope_weights(widths: Array) -> Array:
    """Return what a mean at each width contributes to the slope."""
    x = np.log(widths)
    x = x - x.mean()
    return np.asarray(x / (x @ x))


def allowed_range(predicted: Array, tolerance: float) -> tuple[Array, Array]:
    """Return where a measured exponent is taken to be the predicted one.

    What is predicted to grow only has to: a network whose sizes grow leaves the leading order of its first step, and
    how fast depends on its learning rate.
    """
    grows = predicted > 0.0
    return np.where(grows, 0.0, predicted - tolerance), np.where(grows, np.inf, predicted + tolerance)


def judge(low: Array, high: Array, predicted: Array, tolerance: float) -> NDArray[np.str_]:
    """Return verdicts, as :class:`wideangle.reports.Claim` has them; empty where nothing is predicted."""
    allowed_low, allowed_high = allowed_range(predicted, tolerance)
    inside = (low >= allowed_low) & (high <= allowed_high)
    outside = (high < allowed_low) | (low > allowed_high)
    verdicts = np.where(inside, AGREES, np.where(outside, DISAGREES, NOT_RESOLVED))
    return np.where(np.isnan(predicted), "", verdicts)
