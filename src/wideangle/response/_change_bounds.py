r"""Bounds on the change of the output over a ball of inputs.

Derived. If the change of the pre-activations of a layer is :math:`A d + e` with :math:`|e| \le E`, each unit moves by
at most :math:`\rho = r \lVert A_i \rVert_* + E_i`, in the dual norm. On such an interval the activation differs from
:math:`\alpha u` by at most :math:`\beta`, so that the next layer has :math:`W \alpha A` and
:math:`|W| (\alpha E + \beta)`. With :math:`\alpha = 0` these are intervals; for ReLU the slope of the chord is never
worse than that. The other bound is the product of the spectral norms of the weights and the largest slopes. Rounding
is allowed for by a factor.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from wideangle.activations import Activation
from wideangle.response._network_functions import Layers, preactivations

Array = NDArray[np.float64]

# Zeros of the second derivative, next to which slopes are extreme; those of sin are treated apart.
_EXTREME_SLOPES = {
    "gelu": (-math.sqrt(2.0), math.sqrt(2.0)),
    "silu": (-2.3993572805154671, 2.3993572805154671),
    "erf": (0.0,),
    "tanh": (0.0,),
    "sigmoid": (0.0,),
    "elu": (),
}
_MONOTONE_BOUNDED = ("erf", "tanh", "sigmoid")
_ROUNDING = 1e-12


def change_bound(layers: Layers, activation: Activation, points: Array, radius: float, norm: str) -> Array:
    """Return what the change of the output (state, point) cannot exceed."""
    z = preactivations(layers, activation, points)
    shape = (*z[0].shape, points.shape[1])
    linear = np.broadcast_to(layers[0][0][:, :, None], shape)
    error = np.zeros(shape[:3])
    for before, (weights, _) in zip(z[:-1], layers[1:], strict=True):
        slope, gap = _relaxation(activation, before, radius * _dual_norm(linear, norm) + error)
        above = (slope[..., None] * linear).reshape(len(weights), weights.shape[2], -1)
        linear = np.matmul(weights, above).reshape(len(weights), weights.shape[1], *shape[2:])
        error = np.matmul(np.abs(weights), np.abs(slope) * error + gap)
    relaxed = (radius * _dual_norm(linear, norm) + error)[:, 0]
    product = _lipschitz(layers, activation, norm)[:, None] * radius
    bound: Array = np.asarray(np.minimum(relaxed, product) * (1.0 + _ROUNDING))
    return bound


def _dual_norm(rows: Array, norm: str) -> Array:
    return np.abs(rows).sum(axis=-1) if norm == "linf" else np.sqrt((rows**2).sum(axis=-1))


def _lipschitz(layers: Layers, activation: Activation, norm: str) -> Array:
    # A box of side 2r lies in the ball of radius r sqrt(d).
    result = np.full(len(layers[0][0]), math.sqrt(layers[0][0].shape[2]) if norm == "linf" else 1.0)
    everywhere = np.array(50.0)
    least, largest = slope_range(activation, -everywhere, everywhere)
    for weights, _ in layers:
        result = result * np.linalg.norm(weights, 2, axis=(1, 2))
    return result * float(max(abs(least), abs(largest))) ** (len(layers) - 1)


def slope_range(activation: Activation, low: Array, high: Array) -> tuple[Array, Array]:
    """Return the smallest and the largest slope of the activation between two places."""
    if activation.homogeneous:
        below, above = np.where(high > 0.0, 1.0, activation.slope), np.where(low < 0.0, activation.slope, 1.0)
        return np.minimum(below, above), np.maximum(below, above)
    ends = activation.derivative(low), activation.derivative(high)
    least, largest = np.minimum(*ends), np.maximum(*ends)
    if activation.name == "sin":
        turn = 2.0 * math.pi
        largest = np.where(np.floor(high / turn) >= np.ceil(low / turn), 1.0, largest)
        return np.where(np.floor((high - math.pi) / turn) >= np.ceil((low - math.pi) / turn), -1.0, least), largest
    for place in _EXTREME_SLOPES[activation.name]:
        inside, slope = (low < place) & (place < high), float(activation.derivative(place))
        least, largest = (
            np.where(inside, np.minimum(least, slope), least),
            np.where(inside, np.maximum(largest, slope), largest),
        )
    return least, largest


def _relaxation(activation: Activation, z: Array, reach: Array) -> tuple[Array, Array]:
    r"""Return :math:`\alpha, \beta` with :math:`|\phi(z+u)-\phi(z)-\alpha u| \le \beta` for :math:`|u| \le` reach."""
    if activation.homogeneous:
        # phi(z) = k z + (1-k) max(z, 0). The chord over a kink is off by as much at both ends as at the kink.
        crosses = np.abs(z) < reach
        share = np.where(crosses, (z + reach) / np.where(crosses, 2.0 * reach, 1.0), z > 0.0)
        jump = 1.0 - activation.slope
        return activation.slope + jump * share, abs(jump) * np.where(crosses, 0.5 * (reach - np.abs(z)), 0.0)
    least, largest = slope_range(activation, z - reach, z + reach)
    slope, gap = 0.5 * (least + largest), 0.5 * (largest - least) * reach
    if activation.name == "sin":
        range_of_values = 1.0 + np.abs(np.sin(z))
    elif activation.name in _MONOTONE_BOUNDED:
        here = activation.value(z)
        range_of_values = np.maximum(activation.value(z + reach) - here, here - activation.value(z - reach))
    else:
        return slope, gap
    flat = range_of_values < np.abs(slope) * reach + gap
    return np.where(flat, 0.0, slope), np.where(flat, range_of_values, gap)
