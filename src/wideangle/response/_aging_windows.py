"""Fits of aging to all times, and what windows of later times say about the exponent."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from wideangle.response._aging_curves import (
    LEAST_TIMES,
    MOST_BINS,
    Array,
    Curve,
    Index,
    bin_starts,
    curve_of_networks,
    curve_with_errors,
    curves_alone,
)
from wideangle.response._aging_fit import CurveFit, fit_alone, fit_networks, interval_of_gamma
from wideangle.response._aging_input import too_few

# More windows hardly change the interval: they begin at beginnings of bins, of which there are 12.
_WINDOWS = 8
# Two more than a curve has at least, so that errors from residuals have five degrees of freedom: with three Student's
# quantile is a quarter larger.
_TIMES_LEFT = LEAST_TIMES + 2
# Of the width of the interval of all times. Windows whose interval is wider tell less, and would make it their own. As
# measured: up to 1.5, intervals of forces with noise miss 1 up to twice as often; up to 3 they cover no more, and are
# wider for true power laws.
_WIDEST = 2.0


@dataclass(frozen=True, eq=False)
class Measured:
    """Responses (time,) or (network, time) of one factor, and errors (time,) of their mean.

    ``shared`` is an error that networks share; ``error`` is that of one curve, None where it is unknown.
    """

    responses: Array
    time: Array
    shared: Array
    error: Array | None

    @property
    def mean(self) -> Array:
        """The mean over networks (time,)."""
        return np.asarray(np.atleast_2d(self.responses).mean(axis=0))

    def since(self, start: int) -> Measured:
        """Return what is measured from a time on."""
        error = None if self.error is None else self.error[start:]
        return Measured(self.responses[..., start:], self.time[start:], self.shared[start:], error)

    def curves(self, relative: bool = True) -> list[Curve]:
        """Return the curve with its errors, or where they are unknown what it may be: see :func:`curves_alone`."""
        if not too_few(self.responses):
            return [curve_of_networks(self.responses, self.time, self.shared, relative)]
        if self.error is not None:
            return [curve_with_errors(self.mean, self.time, self.error, relative)]
        return curves_alone(self.mean, self.time, relative)

    def curve_like(self, other: Curve) -> Curve:
        """Return the curve, without errors with deviations of the same kind as those of another one."""
        curves = self.curves(other.relative)
        return curves[0] if curves[0].errors_known else next(curve for curve in curves if curve.kind == other.kind)


def fit_laws(given: Measured, laws: tuple[str, ...], confidence: float) -> CurveFit:
    """Fit laws to responses at all times, and choose; the interval of gamma also holds what later times say."""
    curves, plain = given.curves(), given.curves(relative=False)
    if len(curves) == 1:
        fit = fit_networks(curves[0], plain[0], laws, confidence)
    else:
        fit = fit_alone(curves, plain, laws, confidence)
    if "power law" in fit.laws:
        intervals = fit.laws["power law"].intervals
        intervals["gamma"] = _with_later(intervals["gamma"], given, fit.curve, confidence)
    return fit


def _with_later(interval: tuple[float, float], given: Measured, curve: Curve, confidence: float) -> tuple[float, float]:
    """Return the hull of an interval of gamma and those of windows of later times that are not much wider.

    Where errors are unknown they are taken to be of the same kind as at all times, of the size that each window shows.
    """
    low, high = interval
    widest = _WIDEST * (high - low)
    if not math.isfinite(widest):
        return interval
    for start in _later_starts(given.time):
        later = given.since(start)
        if not np.any(later.mean):
            break
        first, last = interval_of_gamma(later.curve_like(curve), confidence)
        if last - first <= widest:
            low, high = min(low, first), max(high, last)
    return low, high


def _later_starts(time: Array) -> Index:
    """Return where windows of later times begin: some of the beginnings of bins, with times enough left."""
    starts = bin_starts(time, MOST_BINS)[1:]
    starts = starts[starts <= len(time) - _TIMES_LEFT]
    chosen = np.linspace(0, max(len(starts) - 1, 0), min(_WINDOWS, len(starts))).round().astype(np.intp)
    return np.asarray(starts[chosen])
