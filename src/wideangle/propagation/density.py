"""Predicted probability density of ln sin^2 of the angle between two inputs, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from wideangle._checks import check_choice, check_integer, check_theta0
from wideangle._provenance import provenance
from wideangle.network import MLP
from wideangle.propagation import rules
from wideangle.propagation._network import check_angle_network
from wideangle.propagation._transitions import NEGLIGIBLE, GaussianKernel, Kernel, SmallAngleKernel
from wideangle.propagation.prediction import (
    APPROXIMATIONS,
    SOURCES,
    check_finite_widths,
    start_of_chain,
    unit_legendre,
)
from wideangle.propagation.rules import Array

if TYPE_CHECKING:
    import xarray as xr

_MIN_POINTS = 16
_MAX_POINTS = 10_000_000
# The error to which a layer's density is interpolated, relative to its peak.
_TOLERANCE = 1e-8
_POINTS_PER_SD = 8.0
_COARSE_POINTS = 129
_BLOCK = 2**18


def predict_angle_density(net: MLP, theta0: float, *, method: str = "finite-width", n_points: int = 2001) -> xr.Dataset:
    r"""Predict the probability density of :math:`X_l = \ln\sin^2\theta_l` for the angle between two inputs.

    The transition density of one layer is integrated over the density of the layer before. Each is restricted to
    X <= 0 and renormalised, which matters only where the angle comes near pi/2.

    Parameters
    ----------
    net
        A bias-free ReLU network whose layers are at least 2 wide. Its weight variance does not matter.
    theta0
        Angle between the inputs in radians, 0 < theta0 <= pi.
    method
        The transition density of a layer of width n:

        ``"finite-width"`` (default)
            :math:`N(\mu(\theta, n), \sigma^2(\theta, n))` of Theorem 1 of Jakub and Nica, arXiv 2302.09712.
        ``"finite-width-linear"``
            Their Approximation 2, :math:`N(X - \frac{2}{3\pi}\theta - \rho(n), 8n/(n+5)^2)`; meant for acute angles.
        ``"small-angle"``
            The exact law as :math:`\theta \to 0`, new here: X plus :math:`\ln(\chi^2_{K-1}/\chi^2_K)` with
            independent chi-squares and K ~ Binomial(n, 1/2) given K >= 2 (see :func:`predict_angles`).
    n_points
        Number of values of X, default 2001, at least 16.

    Returns
    -------
    xarray.Dataset
        ``density(layer, log_sin2)``, and ``mean(layer)`` and ``variance(layer)`` of each density, computed on a grid of
        its own rather than on the coordinate. Layers run 1…L: layer 0 is a point mass and is left out. The coordinate
        ``log_sin2`` covers every layer to 1e-14 of its peak. It is evenly spaced if that leaves every layer 8 points
        per standard deviation, and otherwise denser in the range of a narrow layer, so integrate with the trapezoidal
        rule, ``density.integrate("log_sin2")``. A density is accurate to about 1e-7 of its peak.

    Raises
    ------
    TypeError, ValueError
        If ``net`` has biases or a layer of width 1, ``theta0`` lies outside (0, pi], ``n_points`` is out of range, or
        the method is unknown or ``"infinite-width"``, which has no density.

    Examples
    --------
    >>> import wideangle as wa
    >>> angles = wa.propagation.predict_angle_density(wa.MLP(widths=(256,) * 32), 0.1)
    >>> (angles.variance.sel(layer=30) ** 0.5).round(3).item()
    0.834
    """
    import xarray as xr

    check_angle_network(net)
    theta0 = check_theta0(theta0)
    method = check_choice("method", method, APPROXIMATIONS)
    if method == "infinite-width":
        raise ValueError(
            "method must have fluctuations, got 'infinite-width', where the angle is certain and has no density; "
            "choose one of " + ", ".join(repr(name) for name in _KERNELS) + ", or predict_angles for the angle itself"
        )
    check_finite_widths(net, method)
    n_points = check_integer(
        "n_points", n_points, low=_MIN_POINTS, high=_MAX_POINTS, remedy="give a number of grid points, such as 2001"
    )
    layers = _propagate([_KERNELS[method](width) for width in net.widths], theta0, start_of_chain(theta0, method))
    coordinate = _common_coordinate(layers, n_points)
    dataset = xr.Dataset(
        {
            "density": (
                ("layer", "log_sin2"),
                np.stack([layer.density(coordinate) for layer in layers]),
                {"long_name": "probability density of ln sin^2 theta"},
            ),
            "mean": ("layer", np.array([layer.mean for layer in layers]), {"long_name": "mean of ln sin^2 theta"}),
            "variance": (
                "layer",
                np.array([layer.variance for layer in layers]),
                {"long_name": "variance of ln sin^2 theta"},
            ),
        },
        coords={"layer": np.arange(1, net.depth + 1), "log_sin2": coordinate},
    )
    dataset.attrs = provenance(
        "wideangle.propagation.predict_angle_density",
        source=SOURCES[method],
        net=net,
        theta0=theta0,
        method=method,
        n_points=n_points,
    )
    return dataset


_KERNELS: dict[str, Callable[[int], Kernel]] = {
    "finite-width": lambda width: GaussianKernel(partial(rules.theorem1, width=width)),
    "finite-width-linear": lambda width: GaussianKernel(partial(rules.linear_rule, width=width)),
    "small-angle": SmallAngleKernel,
}


class _Layer(NamedTuple):
    """The density of X = -s^2 in one layer: a spline of its logarithm over s.

    In s the angle, and with it every transition density, is smooth up to X = 0, where in X it goes like a square root.
    """

    s: Array
    log_density: Any
    mean: float
    variance: float

    def density(self, x: Array) -> Array:
        s = np.sqrt(-x)
        inside = (s >= self.s[0]) & (s <= self.s[-1])
        result = np.zeros_like(x)
        result[inside] = np.exp(self.log_density(s[inside]))
        return result


def _propagate(kernels: list[Kernel], theta0: float, start: float) -> list[_Layer]:
    first = kernels[0]
    y = np.array([start])
    columns = first.columns(y, np.array([theta0]))
    (low,), (high,) = first.reach(y, columns)
    layers = [_tabulate(lambda x: columns[0, 0] + first.core(x - start, columns), low, high)]
    for kernel in kernels[1:]:
        transition = _Transition(layers[-1], kernel)
        layers.append(_tabulate(transition, *transition.reach))
    return layers


class _Transition:
    """The log density of the next layer, integrated over this one at any x."""

    def __init__(self, layer: _Layer, kernel: Kernel) -> None:
        from scipy.interpolate import CubicSpline

        y = -(layer.s**2)
        columns = kernel.columns(y, rules.angle_of_log_sin2(y))
        columns[:, 0] += layer.log_density(layer.s)
        self._core = kernel.core
        self._table = CubicSpline(layer.s, columns)
        self._nodes, self._weights = unit_legendre(kernel.n_nodes)
        # The starts that reach x are an interval of s. Its ends are interpolated, so they need a finer grid.
        fine = np.interp(np.arange(16 * (len(y) - 1) + 1) / 16.0, np.arange(len(y)), layer.s)
        lowest, highest = kernel.reach(-(fine**2), self._table(fine))
        self._lowest = np.minimum.accumulate(lowest)[::-1]
        self._highest = np.maximum.accumulate(highest[::-1])
        self._s = fine[::-1]
        self.reach = float(self._lowest[0]), float(self._highest[-1])

    def __call__(self, x: Array) -> Array:
        block = max(1, _BLOCK // self._nodes.size)
        return np.concatenate([self._integrate(x[start : start + block]) for start in range(0, x.size, block)])

    def _integrate(self, x: Array) -> Array:
        begin = np.interp(x, self._lowest, self._s)
        length = np.maximum(np.interp(x, self._highest, self._s) - begin, 0.0)
        s = begin[:, None] + length[:, None] * self._nodes
        columns = self._table(s)
        exponent = columns[..., 0] + self._core(x[:, None] + s**2, columns)
        with np.errstate(divide="ignore"):
            log_density: Array = np.log(length * ((2.0 * s * np.exp(exponent)) @ self._weights))
        return log_density


def _tabulate(log_density: Callable[[Array], Array], low: float, high: float) -> _Layer:
    """Tabulate a density between the given ends, on a grid refined until its spline meets the tolerance."""
    from scipy.interpolate import CubicSpline

    def evaluate(s: Array) -> Array:
        return log_density(-(s**2))

    coarse = np.linspace(math.sqrt(max(-high, 0.0)), math.sqrt(-low), _COARSE_POINTS)
    values = evaluate(coarse)
    kept = np.flatnonzero(values > values.max() - NEGLIGIBLE)
    s = np.linspace(coarse[max(kept[0] - 1, 0)], coarse[min(kept[-1] + 1, coarse.size - 1)], _COARSE_POINTS)
    values = evaluate(s)
    peak = values.max()
    # Zeros of the density become finite logarithms, as far below the tolerance.
    floor = peak - 3.0 * NEGLIGIBLE
    values = np.maximum(values, floor)
    pending = np.arange(s.size - 1)
    while pending.size:
        middle = 0.5 * (s[pending] + s[pending + 1])
        exact = np.maximum(evaluate(middle), floor)
        error = np.abs(np.exp(CubicSpline(s, values)(middle) - peak) - np.exp(exact - peak))
        # Below this length rounding of x itself dominates.
        splittable = s[pending + 1] ** 2 - s[pending] ** 2 > 2.0**20 * np.spacing(s[pending + 1] ** 2)
        left = pending + np.arange(pending.size)
        s = np.insert(s, pending + 1, middle)
        values = np.insert(values, pending + 1, exact)
        left = left[(error > _TOLERANCE) & splittable]
        pending = np.sort(np.concatenate([left, left + 1]))
    return _normalised(s, CubicSpline(s, values))


def _normalised(s: Array, log_density: Any) -> _Layer:
    nodes, weights = unit_legendre(4)
    lengths = np.diff(s)
    points = (s[:-1, None] + lengths[:, None] * nodes).ravel()
    log_values = log_density(points)
    masses = (lengths[:, None] * weights).ravel() * 2.0 * points * np.exp(log_values)
    total = masses.sum()
    log_density.c[-1] -= math.log(total)
    masses /= total
    centre = points[np.argmax(log_values)]
    deviations = (centre - points) * (centre + points)
    shift = float(masses @ deviations)
    variance = float(masses @ (deviations - shift) ** 2)
    return _Layer(s, log_density, float(shift - centre**2), variance)


def _common_coordinate(layers: list[_Layer], n_points: int) -> Array:
    """Return values of X that cover every layer, evenly spaced unless a layer is too narrow for that."""
    spacings = np.array([math.sqrt(layer.variance) / _POINTS_PER_SD for layer in layers])
    # Two points more on either side, so that the density is 0 before the points grow sparse.
    lows = np.array([-(layer.s[-1] ** 2) for layer in layers]) - 2.0 * spacings
    highs = np.minimum(np.array([-(layer.s[0] ** 2) for layer in layers]) + 2.0 * spacings, 0.0)
    breaks = np.unique(np.concatenate([lows, highs]))
    lengths = np.diff(breaks)
    middles = 0.5 * (breaks[:-1] + breaks[1:])
    needed = np.zeros_like(middles)
    for low, high, spacing in zip(lows, highs, spacings, strict=True):
        within = (middles > low) & (middles < high)
        needed[within] = np.maximum(needed[within], 1.0 / spacing)
    # Evenly spaced points fill up what the narrow layers leave, but always a tenth.
    even = (n_points - 1) / (breaks[-1] - breaks[0])
    fewest, most = 0.1 * even, even
    for _ in range(60):
        trial = 0.5 * (fewest + most)
        fits = np.maximum(needed, trial) @ lengths <= n_points - 1
        fewest, most = (trial, most) if fits else (fewest, trial)
    counts = np.concatenate([[0.0], np.cumsum(np.maximum(needed, most) * lengths)])
    coordinate: Array = np.interp(np.linspace(0.0, counts[-1], n_points), counts, breaks)
    return coordinate
