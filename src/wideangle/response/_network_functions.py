"""Values and gradients of many networks at points of their own, in NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import check_numbers
from wideangle.activations import Activation
from wideangle.response._state import States

Array = NDArray[np.float64]
Layers = list[tuple[Array, Array]]
"""Weights (state, unit, input) and biases (state, unit) of each layer."""

# Numbers of an intermediate array, which should stay in the cache of the second level, roughly.
_BLOCK = 500_000


def check_points(x: Any, states: States) -> Array:
    """Return inputs (point, feature); those of the training for None."""
    if x is None:
        if states.x is None:
            raise ValueError("x must be given, as state holds no training inputs; give an array (point, feature)")
        return states.x
    remedy = f"give an array (point, feature) with {states.sizes[0]} feature(s)"
    points = check_numbers("x", x, ndim=(2,), remedy=remedy, largest=1e100)
    if points.shape[1] != states.sizes[0]:
        raise ValueError(f"x must have {states.sizes[0]} feature(s) for this state, got shape {points.shape}; {remedy}")
    return points


def blocks(n_states: int, numbers: int) -> Iterator[slice]:
    """Divide the states so that with this many numbers for each of them a block is not too large."""
    step = max(1, _BLOCK // max(numbers, 1))
    for first in range(0, n_states, step):
        yield slice(first, first + step)


def select(layers: Layers, rows: slice | NDArray[Any]) -> Layers:
    """Return the layers of some of the states."""
    return [(weights[rows], biases[rows]) for weights, biases in layers]


def preactivations(layers: Layers, activation: Activation, points: Array) -> list[Array]:
    """Return z (state, unit, point) of each of the layers, at points (point, feature) or (state, point, feature)."""
    result: list[Array] = []
    h = points.swapaxes(-1, -2)
    for weights, biases in layers:
        z = np.matmul(weights, h)
        z += biases[..., None]
        result.append(z)
        if len(result) < len(layers):
            h = activation.value(z)
    return result


def outputs(layers: Layers, activation: Activation, points: Array) -> Array:
    """Return f (state, point)."""
    return preactivations(layers, activation, points)[-1][:, 0]


def slopes(layers: Layers, activation: Activation, z: list[Array]) -> list[Array]:
    """Return df/dz (state, unit, point) of each layer from the pre-activations."""
    result = [np.ones_like(z[-1])]
    for layer in range(len(layers) - 1, 0, -1):
        above = np.matmul(layers[layer][0].swapaxes(-1, -2), result[-1])
        result.append(above * activation.derivative(z[layer - 1]))
    return result[::-1]


def values_and_gradients(layers: Layers, activation: Activation, points: Array) -> tuple[Array, Array]:
    """Return f (state, point) and df/dx (state, point, feature)."""
    z = preactivations(layers, activation, points)
    gradient = np.matmul(slopes(layers, activation, z)[0].swapaxes(-1, -2), layers[0][0])
    return z[-1][:, 0], gradient
