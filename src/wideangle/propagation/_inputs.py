"""What the kernels and the sweeps accept as inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def check_inputs(name: str, value: Any) -> Array:
    """Return inputs as finite float64 of shape (input, feature), in C order; a copy only where one is needed."""
    remedy = "give an array of numbers of shape (input, feature)"
    array = as_numbers(name, value, remedy=remedy)
    if array.ndim == 1:
        raise ValueError(
            f"{name} must have shape (input, feature), got shape {array.shape}; for a single input give "
            f"{name}[None, :], for inputs of one feature {name}[:, None]"
        )
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} must have shape (input, feature) with no side 0, got {array.shape}; {remedy}")
    return array


def as_numbers(name: str, value: Any, *, remedy: str) -> Array:
    """Return an array of integers or floats of any kind as finite float64 in C order."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be an array of real numbers, got {type(value).__name__}; {remedy}") from error
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}; {remedy}")
    with np.errstate(over="ignore"):
        result = np.ascontiguousarray(array, dtype=np.float64).reshape(array.shape)
    if not np.all(np.isfinite(result)):
        position = tuple(int(index[0]) for index in np.nonzero(~np.isfinite(np.atleast_1d(result))))
        raise ValueError(f"{name} must be finite, got {np.atleast_1d(result)[position]} at {position}; {remedy}")
    return result
