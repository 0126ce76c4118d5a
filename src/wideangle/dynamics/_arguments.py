"""Checks of arguments that the functions of dynamics share."""

from __future__ import annotations

from typing import Any

import numpy as np

from wideangle._checks import check_array, check_integer, check_real
from wideangle.dynamics._growth import Array

MAX_DEPTH = 1000
_LARGEST = 1e100


def check_depth(value: Any) -> int:
    """Return a number of factors, at least 1."""
    remedy = "give the number of factors of a mode: 1 for a linear model, 2 for a network with one hidden layer"
    return check_integer("depth", value, low=1, high=MAX_DEPTH, remedy=remedy)


def check_numbers(name: str, value: Any, *, remedy: str, largest: float = np.inf) -> Array:
    """Return finite float64 of any shape but an empty one, with magnitudes up to ``largest``."""
    array = check_array(name, value, ndim=range(65), remedy=remedy)
    with np.errstate(over="ignore"):
        result = array.astype(np.float64)
    wrong = ~(np.abs(result) <= largest) | ~np.isfinite(result)
    if np.any(wrong):
        limit = "" if largest == np.inf else f" and at most {largest:g} in size"
        raise ValueError(f"{name} must be finite{limit}, got {result[wrong].flat[0]}; {remedy}")
    return result


def check_positive(name: str, value: Any, *, remedy: str) -> Array:
    """Return positive finite float64 of any shape but an empty one."""
    result = check_numbers(name, value, remedy=remedy)
    if not np.all(result > 0.0):
        raise ValueError(f"{name} must be positive, got {result.min()}; {remedy}")
    return result


def check_margins(name: str, value: Any) -> Array:
    """Return margins, finite and at most 1e100 in size."""
    return check_numbers(name, value, remedy="give margins y f, such as 0.01", largest=_LARGEST)


def check_imbalance(value: Any, depth: int) -> Array:
    """Return |imbalance|, which must be 0 unless there are two factors."""
    remedy = "give r (z^2 - u^2), constant along the flow, or 0 for a balanced mode"
    result = np.abs(check_numbers("imbalance", value, remedy=remedy, largest=_LARGEST))
    if depth != 2 and np.any(result > 0.0):
        raise ValueError(f"imbalance must be 0 for depth {depth}, got {result.max()}; set depth=2 or imbalance=0")
    return result


def check_times(value: Any) -> Array:
    """Return strictly increasing times from 0 on."""
    remedy = "give strictly increasing times of gradient flow, 0 or later"
    check_array("times", value, ndim=(1,), remedy=remedy)
    times = check_numbers("times", value, remedy=remedy)
    if times[0] < 0.0:
        raise ValueError(f"times must not be negative, got {times[0]}; {remedy}")
    steps = np.diff(times)
    if np.any(steps <= 0.0):
        k = int(np.argmax(steps <= 0.0))
        raise ValueError(f"times must increase, got times[{k}] = {times[k]}, times[{k + 1}] = {times[k + 1]}; {remedy}")
    return times


def check_rtol(value: Any) -> float:
    """Return the relative error allowed in a step."""
    remedy = "give a relative error allowed in a step, from 1e-14 to 0.1"
    rtol = check_real("rtol", value, remedy=remedy)
    if not 1e-14 <= rtol <= 0.1:
        raise ValueError(f"rtol must lie in [1e-14, 0.1], got {value!r}; {remedy}")
    return rtol


def broadcast(**arrays: Array) -> tuple[tuple[int, ...], list[Array]]:
    """Return the common shape and the arrays, each with one dimension."""
    try:
        full = np.broadcast_arrays(*arrays.values())
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"the shapes of the arguments do not fit together: {shapes}; make them broadcast") from None
    return full[0].shape, [np.ravel(array) for array in full]
