"""Powers of the size with which errors of chunks approach a limit."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
LEAST_SIZES = 2
LEAST_SIZES_FREE = 4  # If the limit is fitted, too.

_LIMITS = 60
_NOT_FITTED = "the exponent cannot be fitted: "

Array = NDArray[np.float64]


class Decay(NamedTuple):
    """error = limit + amplitude size^exponent, with the interval of the exponent; or why it was not fitted."""

    exponent: float
    low: float
    high: float
    limit: float
    amplitude: float
    reason: str


def fit_decay(
    errors: Array, sizes: NDArray[np.int64], width: int, limit: float | None, *, confidence: float, seed: int
) -> Decay:
    """Fit a power to errors (chunk, size) of the chunks of a layer, all of one size or more.

    Weighted least squares in the logarithm of the mean over chunks less the limit. The interval comes from resampled
    chunks, each with all its sizes, as these are nested, and from the layer, which is itself one draw of neurons: what
    chunks of its size would scatter by between layers enters in proportion w/P. (For a mean square of sums over w of P
    neurons, of which the layer's own sum is off by a factor 1 + X, the mean over its chunks is off by 1 + X w/P.)
    Scatter between chunks of a layer is less than between layers by that part, 1 - (w/P)^2. Deviations
    are widened as Student's quantiles are, for the number of chunks that they come from.
    """
    errors, sizes, why = _usable(errors, sizes, limit)
    if why:
        return _none(why)
    n_chunks, mean = len(errors), errors.mean(axis=0)
    parts = sizes / width
    scatter = errors.var(axis=0, ddof=1) / mean**2
    inside = parts < 1.0
    of_layer = float(np.median(scatter[inside] / (1.0 - parts[inside] ** 2))) if inside.any() else 0.0
    deviation = mean * np.sqrt(scatter / n_chunks + of_layer * parts**2)
    rng = np.random.Generator(np.random.Philox(seed))
    drawn = errors[rng.integers(n_chunks, size=(RESAMPLES, n_chunks))].mean(axis=1)
    drawn *= 1.0 + math.sqrt(of_layer) * parts * rng.standard_normal((RESAMPLES, 1))
    widening = math.sqrt(n_chunks / (n_chunks - 1)) * _student(confidence, n_chunks - 1)
    return _decay(mean, deviation, drawn, sizes, limit, confidence, widening)


def fit_width_decay(errors: Array, widths: NDArray[np.int64], limit: float, *, confidence: float, seed: int) -> Decay:
    """Fit a power to errors (run, width) of networks that share nothing.

    As there are few runs, errors have one relative scatter at all widths, and are drawn from Gaussians.
    """
    errors, widths, why = _usable(errors, widths, limit)
    if why:
        return _none(why)
    n_runs, mean = len(errors), errors.mean(axis=0)
    deviation = mean * math.sqrt(float(np.mean(errors.var(axis=0, ddof=1) / mean**2)) / n_runs)
    rng = np.random.Generator(np.random.Philox(seed))
    drawn = mean + deviation * rng.standard_normal((RESAMPLES, len(widths)))
    return _decay(mean, deviation, drawn, widths, limit, confidence, _student(confidence, (n_runs - 1) * len(widths)))


def _usable(errors: Array, sizes: NDArray[np.int64], limit: float | None) -> tuple[Array, NDArray[np.int64], str]:
    """Return errors of the sizes at which their mean is above the limit, and why they are too few, if they are."""
    usable = errors.mean(axis=0) > (0.0 if limit is None else limit)
    least = LEAST_SIZES_FREE if limit is None else LEAST_SIZES
    why = _why(limit, usable, least) if np.count_nonzero(usable) < least else ""
    return errors[:, usable], sizes[usable], why


def _student(confidence: float, freedom: int) -> float:
    """Return by how much an interval of Student's distribution is wider than a Gaussian one."""
    from scipy import stats

    level = 0.5 + confidence / 2.0
    return float(stats.t.ppf(level, freedom) / stats.norm.ppf(level))


def _decay(
    mean: Array,
    deviation: Array,
    drawn: Array,
    sizes: NDArray[np.int64],
    limit: float | None,
    confidence: float,
    widening: float,
) -> Decay:
    """Return the fit to a mean, with the interval of fits to drawn means."""
    if not np.all(deviation > 0.0):
        return _none("errors do not vary")
    exponent, at, amplitude = (float(each[0]) for each in _fit(mean[None], deviation, sizes, limit))
    exponents = _fit(drawn, deviation, sizes, limit)[0]
    low, high = (np.nanquantile(exponents, [0.5 - confidence / 2.0, 0.5 + confidence / 2.0]) - exponent) * widening
    return Decay(exponent, exponent + min(float(low), 0.0), exponent + max(float(high), 0.0), at, amplitude, "")


def _none(why: str) -> Decay:
    return Decay(math.nan, math.nan, math.nan, math.nan, math.nan, _NOT_FITTED + why)


def _why(limit: float | None, usable: NDArray[np.bool_], least: int) -> str:
    if len(usable) < least:
        remedy = "give more chunk_sizes" if limit is not None else "give more chunk_sizes, or asymptotic_error"
        return f"there are {len(usable)} chunk sizes from the critical width on, and it takes {least}; {remedy}"
    over = "0" if limit is None else f"the asymptotic error of {limit:.6g}"
    return f"only {np.count_nonzero(usable)} chunk sizes from the critical width on have errors above {over}"


def _fit(means: Array, deviation: Array, sizes: NDArray[np.int64], limit: float | None) -> tuple[Array, Array, Array]:
    """Return exponents, limits and amplitudes for rows of mean errors."""
    if limit is not None:
        exponent, level, _ = _line(means, deviation, sizes, np.full(len(means), limit))
        return exponent, np.full(len(means), limit), np.exp(level)
    lowest = means.min(axis=1)
    tried = [_line(means, deviation, sizes, part * lowest) for part in 1.0 - np.geomspace(1.0, 0.01, _LIMITS)]
    best = np.argmin([misfit for *_, misfit in tried], axis=0)
    rows = np.arange(len(means))
    exponents, levels = (np.array([each[k] for each in tried])[best, rows] for k in (0, 1))
    return exponents, (1.0 - np.geomspace(1.0, 0.01, _LIMITS))[best] * lowest, np.exp(levels)


def _line(means: Array, deviation: Array, sizes: NDArray[np.int64], limits: Array) -> tuple[Array, Array, Array]:
    """Return slope, intercept and misfit of lines through logarithms of errors above limits, one of each row."""
    above = means - limits[:, None]
    known = above > 0.0
    y = np.log(np.where(known, above, 1.0))
    x = np.log(sizes)
    weights = np.where(known, above / deviation, 0.0) ** 2
    total = weights.sum(axis=1, keepdims=True)
    total = np.maximum(total, np.finfo(np.float64).tiny)
    x_mean, y_mean = (weights * x).sum(axis=1, keepdims=True) / total, (weights * y).sum(axis=1, keepdims=True) / total
    spread = (weights * (x - x_mean) ** 2).sum(axis=1)
    nothing = np.full(len(means), np.nan)  # Of resampled errors, only one may lie above the limit.
    slope = np.divide((weights * (x - x_mean) * (y - y_mean)).sum(axis=1), spread, out=nothing, where=spread > 0.0)
    left = y - y_mean - slope[:, None] * (x - x_mean)
    return slope, (y_mean[:, 0] - slope * x_mean[:, 0]), (weights * left**2).sum(axis=1)
