"""Transition densities of ln sin^2 theta from one layer to the next, each truncated at 0 and renormalised."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from wideangle.propagation import rules
from wideangle.propagation.rules import Array

NEGLIGIBLE = 34.0
"""exp(-34) of its peak, about 2e-15, is where a density is cut."""

_GAUSSIAN_REACH = 10.0
_GAUSSIAN_NODES = 64
_TABLE_POINTS = 4001


class Kernel(Protocol):
    """A transition density k(x | y), written as exp(columns[..., 0] + core(x - y, columns)).

    ``columns`` holds what varies smoothly with the start y and can be interpolated.
    """

    n_nodes: int

    def columns(self, y: Array, theta: Array) -> Array:
        """Return the columns for starts y with angles theta, shape (len(y), n_columns)."""

    def core(self, step: Array, columns: Array) -> Array:
        """Return the logarithm of the kernel, less column 0, for steps x - y."""

    def reach(self, y: Array, columns: Array) -> tuple[Array, Array]:
        """Return the lowest and highest x that the starts reach with a density worth counting."""


class GaussianKernel:
    """N(y + shift, variance) restricted to x <= 0, with ``law(theta)`` returning shift and variance."""

    n_nodes = _GAUSSIAN_NODES

    def __init__(self, law: Callable[[Array], tuple[Array, Array]]) -> None:
        self._law = law

    def columns(self, y: Array, theta: Array) -> Array:
        from scipy.special import log_ndtr

        shift, variance = self._law(theta)
        sd = np.sqrt(variance)
        below = log_ndtr(-(y + shift) / sd)
        return np.stack([-np.log(sd) - 0.5 * math.log(2.0 * math.pi) - below, shift, 1.0 / sd], axis=-1)

    def core(self, step: Array, columns: Array) -> Array:
        return -0.5 * ((step - columns[..., 1]) * columns[..., 2]) ** 2

    def reach(self, y: Array, columns: Array) -> tuple[Array, Array]:
        centre, margin = y + columns[:, 1], _GAUSSIAN_REACH / columns[:, 2]
        return centre - margin, centre + margin


class SmallAngleKernel:
    r"""The exact law of :math:`x - y = \ln(\chi^2_{K-1}/\chi^2_K)`, K ~ Binomial(width, 1/2) given K >= 2, to x <= 0.

    Given K the ratio of independent chi-squares is a ratio of gamma variables, and its logarithm s has the density
    :math:`\frac{\Gamma(K-1/2)}{\sqrt{8\pi}\,\Gamma(K-1)}\, e^{-s/4}\, \mathrm{sech}(s/2)^{K-1/2}` (derived: the
    beta-prime density with its constant simplified by Legendre's duplication formula).
    """

    def __init__(self, width: int) -> None:
        self._log_density, self._cdf, self._low, self._high = _small_angle_table(width)
        _, variance = rules.small_angle_rule(width)
        # Far exponential tails make the interval long in standard deviations at small widths.
        self.n_nodes = max(_GAUSSIAN_NODES, math.ceil((self._high - self._low) / math.sqrt(variance) * 5.0))

    def columns(self, y: Array, theta: Array) -> Array:
        below: Array = self._cdf(np.minimum(-y, self._high))
        return -np.log(below)[:, None]

    def core(self, step: Array, columns: Array) -> Array:
        inside = (step > self._low) & (step < self._high)
        return np.where(inside, self._log_density(np.clip(step, self._low, self._high)), -np.inf)

    def reach(self, y: Array, columns: Array) -> tuple[Array, Array]:
        return y + self._low, y + self._high


def small_angle_log_density(width: int, step: Array) -> Array:
    """Return the logarithm of the density of :class:`SmallAngleKernel`, before truncation."""
    from scipy.special import logsumexp, poch

    active, weights = rules.active_neurons(width)
    constants = np.log(weights) + np.log(poch(active - 1.0, 0.5)) - 0.5 * math.log(8.0 * math.pi)
    half = 0.5 * np.abs(step)
    # The first form keeps its digits for small steps, where ln cosh u is u^2/2; the second does not overflow.
    log_cosh = np.where(
        half < 1.0,
        np.log1p(2.0 * np.sinh(0.5 * np.minimum(half, 1.0)) ** 2),
        half + np.log1p(0.5 * np.expm1(-2.0 * half)),
    )
    exponents = constants[:, None] - (active[:, None] - 0.5) * log_cosh
    result: Array = logsumexp(exponents, axis=0) - 0.25 * step
    return result


@lru_cache(maxsize=64)
def _small_angle_table(width: int) -> tuple[Any, Any, float, float]:
    """Return splines of the log density and of the distribution function, and the interval that they cover."""
    from scipy.interpolate import CubicSpline

    _, variance = rules.small_angle_rule(width)
    sd = math.sqrt(variance)
    peak = float(small_angle_log_density(width, np.zeros(1))[0])

    def end(direction: float) -> float:
        distance = sd
        while small_angle_log_density(width, np.array([direction * distance]))[0] > peak - NEGLIGIBLE:
            distance *= 1.1
        return direction * distance

    low, high = end(-1.0), end(1.0)
    steps = np.linspace(low, high, _TABLE_POINTS)
    log_density = small_angle_log_density(width, steps)
    density = CubicSpline(steps, np.exp(log_density))
    return CubicSpline(steps, log_density), density.antiderivative(), low, high
