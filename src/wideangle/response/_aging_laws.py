r"""The laws of aging as one family, and the regions of its parameters that responses allow.

Every law is :math:`a\,e^{-\Delta\,\ell_\tau(t)}` with

.. math:: \ell_\tau(t) = \frac{\ln(1 + t/\tau) - \ln(1 + t_0/\tau)}{\ln(1 + t_1/\tau) - \ln(1 + t_0/\tau)}

between the first and the last time: the power law :math:`(1 + t/\tau)^{-\gamma}` for finite :math:`\tau`, the
exponential for :math:`\tau \to \infty`, the constant for :math:`\Delta = 0`. :math:`\Delta`, the logarithm of the whole
change, is what responses tell best, whereas :math:`\gamma` and :math:`\tau` degenerate as :math:`\tau` grows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from wideangle.response._aging_curves import Array, Curve

INFINITE = np.array([np.inf])

_DELTAS = 61
_SPARSE = 6
_NEAR = np.array([0.9, 0.99, 1.0, 1.01, 1.1])
_VANISHED = 20.0
_EDGE_ZOOMS = 4
_SECTIONS = 16
_STEPS = 50
_HALVINGS = 26
_ACROSS_AMPLITUDES = 41


@dataclass(frozen=True)
class Search:
    """How finely laws are searched.

    Attributes
    ----------
    farthest
        tau/t_1 beyond which a power law counts as an exponential; below its inverse, of the first positive t, tau
        counts as 0.
    per_e
        Values of tau on a grid, for each factor of e.
    zooms
        Times that the grid is made finer about the best tau, by a factor of 7 each.
    across
        Values of tau between the ends of those that are allowed.
    precision
        Of delta.
    """

    farthest: float
    per_e: int
    zooms: int
    across: int
    precision: float


FINE = Search(farthest=1e6, per_e=4, zooms=8, across=41, precision=1e-11)
# For intervals alone: as measured, by less than 1 % of their width from those of a fine search.
COARSE = Search(farthest=1e3, per_e=2, zooms=3, across=21, precision=1e-5)


@dataclass(frozen=True, eq=False)
class Point:
    """Parameters of a law, and the deviation of the response from it."""

    log_tau: float
    delta: float
    deviation: float


@dataclass(frozen=True)
class Fitter:
    """Deviations of a curve from laws, with a covariance of the mean."""

    curve: Curve
    whitener: Array
    target: Array
    search: Search = FINE

    @classmethod
    def prepare(cls, curve: Curve, misfit: float, search: Search = FINE) -> Fitter:
        """Count a misfit, in units of the curve's scales, among the errors."""
        values, vectors = np.linalg.eigh(curve.covariance + np.diag(curve.rounding**2) + misfit**2 * curve.misfit)
        # Below the last digit of the largest the values are rounding.
        values = np.maximum(values, np.finfo(float).eps * values[-1])
        whitener = vectors.T / np.sqrt(values)[:, None]
        return cls(curve, whitener, whitener @ curve.mean, search)

    def progress(self, log_tau: Array) -> Array:
        """Return the course of ln response from 0 to 1, (..., time)."""
        inverse = np.exp(-np.asarray(log_tau))[..., None]
        time = self.curve.time
        with np.errstate(invalid="ignore"):
            course = np.log1p(time * inverse) - np.log1p(time[0] * inverse)
            course = course / course[..., -1:]
        return np.asarray(np.where(inverse > 0.0, course, (time - time[0]) / (1.0 - time[0])))

    def span(self, log_tau: Array) -> Array:
        """Return what gamma is to be multiplied with for delta."""
        inverse = np.exp(-np.asarray(log_tau))
        return np.asarray(np.log1p(inverse) - np.log1p(self.curve.time[0] * inverse))

    def deviations(self, course: Array, delta: Array) -> tuple[Array, Array, Array, Array]:
        """Return squared deviations for courses (..., time) and delta, and what belongs to the best amplitudes.

        That is the logarithm of a factor, the amplitude at the first time in units of it, and its weight, the inverse
        of its variance.
        """
        exponent = -delta[..., None] * course - self.curve.log_scale
        top = exponent.max(axis=-1)
        law = self.curve.bins(np.exp(exponent - top[..., None])) @ self.whitener.T
        weight = np.sum(law**2, axis=-1)
        amplitude = law @ self.target / weight
        rest = self.target - amplitude[..., None] * law
        return np.sum(rest**2, axis=-1), top, amplitude, weight

    def best_delta(self, log_tau: Array, around: tuple[float, float] | None = None) -> tuple[Array, Array]:
        """Return delta of the least deviation for each tau, and the deviation; between two values if they are known."""
        course = self.progress(log_tau)
        if around is not None:
            low, high = (np.full(len(course), end) for end in around)
            return self._descend(course, 0.5 * (low + high), low, high)
        grid = self._grid(course)
        best = np.argmin(self._sparse.deviations(self._sparse.progress(log_tau)[:, None, :], grid)[0], axis=1)
        rows = np.arange(len(course))
        low = grid[rows, np.maximum(best - 2, 0)]
        high = grid[rows, np.minimum(best + 2, grid.shape[1] - 1)]
        return self._descend(course, grid[rows, best], low, high)

    @cached_property
    def _sparse(self) -> Fitter:
        """The same with few times in each bin, for the search on a grid."""
        curve = self.curve
        ends = np.append(curve.starts[1:], len(curve.time))
        chosen = [
            np.unique(np.linspace(start, end - 1, _SPARSE).astype(np.intp))
            for start, end in zip(curve.starts, ends, strict=True)
        ]
        counts = np.array([len(times) for times in chosen])
        kept, starts = np.concatenate(chosen), np.cumsum(counts) - counts
        sparse = replace(
            curve, time=curve.time[kept], log_scale=curve.log_scale[kept], starts=starts, counts=counts.astype(float)
        )
        return replace(self, curve=sparse)

    def _grid(self, course: Array) -> Array:
        """Return values of delta to search, (tau, delta).

        They lie between those at which the response is gone but at one end.
        """
        with np.errstate(divide="ignore"):
            down = _VANISHED / course[:, 1]
            up = _VANISHED / (1.0 - course[:, -2])
        reach = 2.0 * np.ptp(self.curve.log_scale)
        low, high = np.arcsinh(-np.minimum(up + reach, 1e15) * 4), np.arcsinh(np.minimum(down + reach, 1e15) * 4)
        grid = np.sinh(np.linspace(low, high, _DELTAS, axis=1)) / 4
        # Errors may be so small that on the grid no law is near: a line through the logarithms then is.
        curve = self.curve
        with np.errstate(divide="ignore"):
            logs = np.maximum(np.log(np.abs(curve.mean)), -_VANISHED) + curve.bins(curve.log_scale)
        place = curve.bins(course)
        place = place - place.mean(axis=1, keepdims=True)
        line = -(place @ (logs - logs.mean())) / np.sum(place**2, axis=1)
        return np.sort(np.concatenate([grid, line[:, None] * _NEAR], axis=1), axis=1)

    def _descend(self, course: Array, delta: Array, low: Array, high: Array) -> tuple[Array, Array]:
        """Find minima between bounds, all at once, by Gauss-Newton steps or halves where these lead out of bounds."""
        for _ in range(_STEPS):
            slope, curvature = self._slope(course, delta)
            low, high = np.where(slope < 0.0, delta, low), np.where(slope < 0.0, high, delta)
            with np.errstate(divide="ignore", invalid="ignore"):
                new = delta - slope / curvature
            new = np.where((new > low) & (new < high), new, 0.5 * (low + high))
            moved, delta = np.abs(new - delta), new
            if np.all(moved <= self.search.precision * (1.0 + np.abs(delta))):
                break
        return delta, self.deviations(course, delta)[0]

    def _slope(self, course: Array, delta: Array) -> tuple[Array, Array]:
        """Return half of the slope and of the curvature (Gauss-Newton) of the deviation by delta."""
        exponent = -delta[:, None] * course - self.curve.log_scale
        values = np.exp(exponent - exponent.max(axis=1, keepdims=True))
        law = self.curve.bins(values) @ self.whitener.T
        change = -self.curve.bins(values * course) @ self.whitener.T
        weight = np.sum(law**2, axis=1)
        amplitude = law @ self.target / weight
        change *= amplitude[:, None]
        rest = self.target - amplitude[:, None] * law
        along = np.sum(change * law, axis=1) ** 2 / weight
        return -np.sum(rest * change, axis=1), np.sum(change**2, axis=1) - along

    def law(self, point: Point) -> Array:
        """Return the best law with the parameters of a point at all times, in the curve's unit."""
        course = self.progress(np.array([point.log_tau]))
        _, top, amplitude, _ = self.deviations(course, np.array([point.delta]))
        with np.errstate(under="ignore"):
            return np.asarray(amplitude * np.exp(-point.delta * course[0] - top))

    def missed(self, point: Point) -> float:
        """Return the root mean square deviation of the bins from a law, in units of the curve's scales."""
        law = self.curve.bins(self.law(point) * np.exp(-self.curve.log_scale))
        return float(np.sqrt(np.mean((self.curve.mean - law) ** 2)))

    def rest(self, point: Point) -> Array:
        """Return what a law leaves of one curve at each time, scaled."""
        return np.asarray(self.curve.single - self.law(point) * np.exp(-self.curve.log_scale))

    @cached_property
    def taus(self) -> Array:
        """A grid of ln(tau/t_1), the last of them infinite."""
        time = self.curve.time
        high = np.log(self.search.farthest)
        low = np.log(time[time > 0.0][0]) - high
        return np.append(np.linspace(low, high, int(self.search.per_e * (high - low))), np.inf)

    @cached_property
    def best_on_taus(self) -> tuple[Array, Array]:
        """What :meth:`best_delta` returns for :attr:`taus`."""
        return self.best_delta(self.taus)

    def constant(self) -> Point:
        """Return the constant law."""
        course = self.progress(INFINITE)
        return Point(np.inf, 0.0, float(self.deviations(course, np.zeros(1))[0][0]))

    def exponential(self) -> Point:
        """Return the best exponential."""
        delta, deviation = self.best_delta(INFINITE)
        return Point(np.inf, float(delta[0]), float(deviation[0]))

    def power_law(self) -> Point:
        """Return the best power law, which is the exponential where none with a finite time is better."""
        grid = self.taus
        delta, deviation = self.best_on_taus
        best = int(np.argmin(deviation))
        found = Point(float(grid[best]), float(delta[best]), float(deviation[best]))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 2)]
        around = _around(delta[max(best - 1, 0) : best + 2])
        for _ in range(self.search.zooms):
            fine = np.linspace(low, high, _SECTIONS)
            delta, deviation = self.best_delta(fine, around)
            best = int(np.argmin(deviation))
            around = _around(delta[max(best - 1, 0) : best + 2])
            if deviation[best] < found.deviation:
                found = Point(float(fine[best]), float(delta[best]), float(deviation[best]))
            low, high = fine[max(best - 1, 0)], fine[min(best + 1, _SECTIONS - 1)]
        return found


def _around(delta: Array) -> tuple[float, float]:
    """Return bounds well outside of values at neighbouring tau."""
    low, high = float(delta.min()), float(delta.max())
    room = high - low + 1e-3 * (1.0 + abs(high))
    return low - room, high + room


class Region:
    """Parameters of laws whose deviation stays below a limit, tau by tau."""

    def __init__(self, fitter: Fitter, log_tau: Array, limit: float, best: Point) -> None:
        self.fitter, self.log_tau, self.limit = fitter, log_tau, limit
        self.course = fitter.progress(log_tau)
        middle, deviation = fitter.best_delta(log_tau)
        own = log_tau == best.log_tau
        middle, deviation = np.where(own, best.delta, middle), np.where(own, best.deviation, deviation)
        inside = deviation <= limit
        self.log_tau, self.course, middle = log_tau[inside], self.course[inside], middle[inside]
        self.low, self.high = self._end(middle, -1.0), self._end(middle, 1.0)

    def _end(self, middle: Array, sign: float) -> Array:
        """Return where the deviation passes the limit on one side, infinite where it does not."""
        width = 1e-9 * (1.0 + np.abs(middle))
        for _ in range(60):
            inside = self.fitter.deviations(self.course, middle + sign * width)[0] <= self.limit
            if not np.any(inside):
                break
            width = np.where(inside, 2.5 * width, width)
            if np.all(width[inside] > 1e12):
                break
        never = width > 1e12
        low, high = width / 2.5, width
        for _ in range(_HALVINGS):
            trial = 0.5 * (low + high)
            inside = self.fitter.deviations(self.course, middle + sign * trial)[0] <= self.limit
            low, high = np.where(inside, trial, low), np.where(inside, high, trial)
        return np.asarray(np.where(never, sign * np.inf, middle + sign * high))

    def of(self, values: Array) -> tuple[float, float]:
        """Return the interval of delta times ``values``, one for each tau."""
        with np.errstate(invalid="ignore"):
            ends = np.stack([self.low * values, self.high * values])
        return float(np.nanmin(ends)), float(np.nanmax(ends))

    def amplitudes(self, at_zero: bool) -> tuple[float, float]:
        """Return the interval of the amplitude in units of the response, at time 0 or at the first time."""
        part = np.linspace(0.0, 1.0, _ACROSS_AMPLITUDES)
        low, high = (np.clip(end, -1e12, 1e12)[:, None] for end in (self.low, self.high))
        delta = low + (high - low) * part
        deviation, top, amplitude, weight = self.fitter.deviations(self.course[:, None, :], delta)
        room = np.sqrt(np.maximum(self.limit - deviation, 0.0) / weight)
        factor = log_factor(self.fitter, self.log_tau[:, None], delta, top) if at_zero else -top
        with np.errstate(over="ignore"):
            ends = np.stack([amplitude - room, amplitude + room]) * np.exp(factor)
        return float(ends.min()), float(ends.max())


def log_factor(fitter: Fitter, log_tau: Array, delta: Array, top: Array) -> Array:
    """Return ln of what takes an amplitude of :meth:`Fitter.deviations` to time 0."""
    inverse = np.exp(-log_tau)
    start = fitter.curve.time[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        before = np.log1p(start * inverse) / fitter.span(log_tau)
    return np.asarray(delta * np.where(inverse > 0.0, before, start / (1.0 - start)) - top)


def allowed_taus(fitter: Fitter, best: Point, limit: float) -> Array:
    """Return a grid of ln(tau/t_1) across those allowed by the limit; it begins at -inf or ends at inf if they do."""
    grid = fitter.taus
    inside = grid[fitter.best_on_taus[1] <= limit]
    first, last = min([best.log_tau, *inside]), max([best.log_tau, *inside])
    low = _edge(fitter, first, best, limit, -1)
    high = _edge(fitter, last, best, limit, 1)
    if low == np.inf:
        return INFINITE
    far = [np.inf] if high == np.inf else []
    # The ends of an interval count as much as its middle: sines put more points there.
    part = 0.5 * (1.0 - np.cos(np.linspace(0.0, np.pi, fitter.search.across)))
    start, stop = max(low, grid[0]), min(high, grid[-2])
    own = [best.log_tau] if np.isfinite(best.log_tau) else []
    return np.unique([*(start + (stop - start) * part), *own, *far])


def _edge(fitter: Fitter, inside: float, best: Point, limit: float, side: int) -> float:
    """Return the last allowed ln tau on one side of an allowed one."""
    grid, deltas = fitter.taus, fitter.best_on_taus[0]
    beyond = np.flatnonzero(grid > inside) if side > 0 else np.flatnonzero(grid < inside)
    if not len(beyond):
        return float(side * np.inf)
    place = beyond[0] if side > 0 else beyond[-1]
    outside = grid[place]
    if outside == np.inf:
        return inside  # Only the exponential lies farther, and it is excluded.
    if inside == np.inf:
        return float(inside)
    near = deltas[grid == inside]
    around = _around(np.array([deltas[place], *(near if len(near) else [best.delta])]))
    for _ in range(_EDGE_ZOOMS):
        fine = np.linspace(inside, outside, _SECTIONS)
        allowed = np.flatnonzero(fitter.best_delta(fine, around)[1] <= limit)
        last = int(allowed[-1]) if len(allowed) else 0
        inside, outside = fine[last], fine[min(last + 1, _SECTIONS - 1)]
    return float(inside)
