"""Means over one or two Gaussian variables that enter infinitely wide networks after a large first step."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_REACH = 9.0  # standard deviations
_COUNTS = (12, 24, 48)  # nodes in a panel, until doubling them makes no difference
_ENOUGH = 1e-12
_ROUNDINGS = 16 * float(np.finfo(np.float64).eps)
_PANELS = np.linspace(-_REACH, _REACH, 7)
# Where activations change most, in their own argument.
_BENDS = np.array([-16.0, -8.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 8.0, 16.0])
_SERIES_BELOW = 1.0


class Slopes(NamedTuple):
    """Slopes of an activation just above and just below zero: all that counts of it where its argument vanishes."""

    above: float
    below: float

    @property
    def mean_square(self) -> float:
        """Mean over both sides."""
        return 0.5 * (self.above**2 + self.below**2)


def rectified_product(scale: Array, cosine: Array, sine: Array) -> Array:
    r"""Return :math:`E[\max(u, 0) \max(v, 0)]` of Gaussians with scale = :math:`\sigma_u \sigma_v`.

    ``cosine`` and ``sine``, at least 0, are those of the angle whose cosine is the correlation, times the scale. Cho
    and Saul, Kernel methods for deep learning (2009), with a series where the two terms nearly cancel.
    """
    angle = np.arctan2(sine, cosine)
    rest = math.pi - angle
    closed = sine + rest * cosine
    total, power = np.zeros_like(rest), rest.copy()
    for k in range(1, 12):
        power = power * rest * rest / (2 * k * (2 * k + 1))
        total = total + (2 * k if k % 2 else -2 * k) * power
    return np.asarray(np.where(rest < _SERIES_BELOW, scale * total, closed) / (2.0 * math.pi))


@cache
def _legendre(count: int) -> tuple[Array, Array]:
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return nodes, weights


def _rule(breaks: Array, count: int) -> tuple[Array, Array]:
    """Nodes and weights of the standard normal law, with the panels that the last axis of ``breaks`` separates."""
    breaks = np.sort(np.clip(breaks, -_REACH, _REACH), axis=-1)
    nodes, weights = _legendre(count)
    half = 0.5 * np.diff(breaks, axis=-1)[..., None]
    z = breaks[..., :-1, None] + half * (1.0 + nodes)
    w = half * weights * np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    return z.reshape(*z.shape[:-2], -1), w.reshape(*w.shape[:-2], -1)


def _with_bends(mean: Array, deviation: Array) -> Array:
    """Break points of a standard normal z for functions of mean + deviation z."""
    # Where the deviation is tiny nothing bends within reach.
    bends = (_BENDS - np.asarray(mean)[..., None]) / np.maximum(np.asarray(deviation), 1e-100)[..., None]
    return np.concatenate([np.broadcast_to(_PANELS, (*bends.shape[:-1], len(_PANELS))), bends], axis=-1)


def gaussian_mean(function: Callable[[Array], Array], deviation: float) -> tuple[float, float]:
    r"""Return :math:`E[f(\sigma z)]` for a function that bends where activations do, and its error."""

    def value(count: int) -> tuple[float, float]:
        z, w = _rule(_with_bends(np.zeros(()), np.array(deviation)), count)
        terms = w * function(deviation * z)
        return float(np.sum(terms)), float(np.sum(np.abs(terms)))

    return _refined(value)


def pair_mean(
    outer: Callable[[Array], Array],
    inner: Callable[[Array], Array],
    deviation: float,
    slope: float,
    spread: Callable[[Array], Array],
) -> tuple[float, float]:
    r"""Return :math:`E[f(u)\, g(\beta u + \tau(u) z)]` and its error, with u normal with the given deviation.

    Parameters
    ----------
    outer, inner
        f and g, which bend where activations do.
    deviation
        Of u, above 0.
    slope, spread
        :math:`\beta` and :math:`\tau(u) \ge 0`.
    """

    def value(count: int) -> tuple[float, float]:
        # g bends in u where its mean does.
        bends = np.concatenate(
            [_with_bends(np.zeros(()), np.array(size)) for size in (deviation, abs(slope) * deviation)], axis=-1
        )
        z, w = _rule(bends, count)
        kept = w > 1e-22
        u, w = deviation * z[kept], w[kept]
        tau = spread(u)
        nodes, weights = _rule(_with_bends(slope * u, tau), count)
        values = weights * inner(slope * u[:, None] + tau[:, None] * nodes)
        left = w * outer(u)
        return float(np.sum(left * values.sum(axis=-1))), float(np.sum(np.abs(left) * np.abs(values).sum(axis=-1)))

    return _refined(value)


def _refined(value: Callable[[int], tuple[float, float]]) -> tuple[float, float]:
    """Return a value with an error, of the rule and of roundings, given value and sum of magnitudes for some nodes."""
    (before, _), change, size = value(_COUNTS[0]), math.inf, 0.0
    for count in _COUNTS[1:]:
        now, size = value(count)
        before, change = now, abs(now - before)
        if change <= _ENOUGH * abs(now):
            break
    return before, change + _ROUNDINGS * size
