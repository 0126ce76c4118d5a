"""Checks of arguments that the functions of dynamics share."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from wideangle._checks import check_increasing, check_integer, check_numbers
from wideangle.dynamics._growth import Array

MAX_DEPTH = 1000
LARGEST = 1e100  # Of margins, weights and inputs, so that their products stay finite.


def check_depth(value: Any) -> int:
    """Return a number of factors, at least 1."""
    remedy = "give the number of factors of a mode: 1 for a linear model, 2 for a network with one hidden layer"
    return check_integer("depth", value, low=1, high=MAX_DEPTH, remedy=remedy)


def check_positive(name: str, value: Any, *, remedy: str, ndim: Collection[int] = range(65)) -> Array:
    """Return positive finite float64, not empty."""
    result = check_numbers(name, value, ndim=ndim, remedy=remedy)
    if not np.all(result > 0.0):
        raise ValueError(f"{name} must be positive, got {result.min()}; {remedy}")
    return result


def check_margins(name: str, value: Any) -> Array:
    """Return margins, finite and at most 1e100 in size."""
    return check_numbers(name, value, remedy="give margins y f, such as 0.01", largest=LARGEST)


def check_imbalance(value: Any, depth: int) -> Array:
    """Return |imbalance|, which must be 0 unless there are two factors."""
    remedy = "give r (z^2 - u^2), constant along the flow, or 0 for a balanced mode"
    result = np.abs(check_numbers("imbalance", value, remedy=remedy, largest=LARGEST))
    if depth != 2 and np.any(result > 0.0):
        raise ValueError(f"imbalance must be 0 for depth {depth}, got {result.max()}; set depth=2 or imbalance=0")
    return result


def check_times(value: Any) -> Array:
    """Return strictly increasing times from 0 on."""
    remedy = "give strictly increasing times of gradient flow, 0 or later"
    times = check_increasing("times", value, remedy=remedy)
    if times[0] < 0.0:
        raise ValueError(f"times must not be negative, got {times[0]}; {remedy}")
    return times


def broadcast(**arrays: Array) -> tuple[tuple[int, ...], list[Array]]:
    """Return the common shape and the arrays, each with one dimension."""
    try:
        full = np.broadcast_arrays(*arrays.values())
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"the shapes of the arguments do not fit together: {shapes}; make them broadcast") from None
    return full[0].shape, [np.ravel(array) for array in full]
