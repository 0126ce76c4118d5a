"""Optimal learning rates from losses on a grid, and how they drift with the width."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BAND = 0.15
N_BOOTSTRAP = 2000
VERDICTS = ("transfers", "does not transfer", "unresolved")
_CAP = math.log(10.0)


class Optima(NamedTuple):
    """Optimal learning rates by width, log2; their slope against log2 width; limits of 95% of both."""

    best: Array
    low: Array
    high: Array
    drift: float
    drift_low: float
    drift_high: float
    verdict: str


def find_optima(rates: Array, losses: Array, widths: Array, *, seed: int) -> Optima:
    """Find the optimum for each width from losses (width, rate, run), which are infinite where a run diverged.

    Limits are Student's. The variance of an optimum is that of a bootstrap over runs, corrected for their number and
    averaged over widths, plus that of a uniform distribution over the spacing of the grid.
    """
    grid, n_runs = np.log2(rates), losses.shape[2]
    logs = np.log(np.maximum(losses, np.finfo(np.float64).tiny))
    means = logs.mean(axis=2)
    best = np.array([_vertex(grid, some[None])[0] for some in means])
    lowest = means.argmin(axis=1)
    best[(lowest == 0) | (lowest == len(grid) - 1) | ~np.isfinite(means.min(axis=1))] = math.nan
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0, 0, 0)))
    drawn = rng.integers(n_runs, size=(N_BOOTSTRAP, n_runs))
    scatter = [_vertex(grid, some[:, drawn].mean(axis=2).T).var() for some in logs]
    spacing = np.diff(grid).max()
    variance = np.mean(scatter) * n_runs / (n_runs - 1) + spacing**2 / 12.0
    quantile = _student(len(widths) * (n_runs - 1))
    half = quantile * math.sqrt(variance)
    drift, error = _slope(np.log2(widths), best, variance)
    low, high = drift - quantile * error, drift + quantile * error
    return Optima(best, best - half, best + half, drift, low, high, _verdict(low, high))


def _vertex(grid: Array, logs: Array) -> Array:
    """Return the minimum of the parabola through the least of the losses, (draw, rate), and its neighbours.

    It is never further from the least than half way to a neighbour. Losses above ten times the least count as that.
    """
    lowest = logs.argmin(axis=1)
    draws = np.arange(len(logs))
    least = logs[draws, lowest]
    inside = (lowest > 0) & (lowest < len(grid) - 1) & np.isfinite(least)
    middle = np.clip(lowest, 1, len(grid) - 2)
    with np.errstate(invalid="ignore"):
        left, right = (np.minimum(logs[draws, middle + side] - least, _CAP) for side in (-1, 1))
    before, after = grid[middle] - grid[middle - 1], grid[middle + 1] - grid[middle]
    # Slopes of the chords to both sides; where three losses are equal there is no parabola.
    down, up = left / before, right / after
    total = down + up
    moved = inside & (total > 0.0)
    result: Array = grid[lowest]
    shift = (down * after - up * before)[moved] / (2.0 * total[moved])
    result[moved] = grid[middle][moved] + shift
    return result


def _slope(x: Array, y: Array, variance: float) -> tuple[float, float]:
    """Return the slope of a straight line and its error: that of points of a variance, or their scatter if larger."""
    x = x - x.mean()
    slope = float(x @ y / (x @ x))
    residual = y - y.mean() - slope * x
    return slope, math.sqrt(max(variance, float(residual @ residual) / (len(x) - 2)) / float(x @ x))


def _student(freedom: int) -> float:
    from scipy import stats

    return float(stats.t.ppf(0.975, freedom))


def _verdict(low: float, high: float) -> str:
    if low >= -BAND and high <= BAND:
        return VERDICTS[0]
    return VERDICTS[1] if high < -BAND or low > BAND else VERDICTS[2]
