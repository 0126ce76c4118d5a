"""The axes of a grid: lists, and tables that name a sequence."""

from __future__ import annotations

import itertools
import math
import reprlib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wideangle.studies._cells import MAX_CELLS, NO_LISTS, is_array, plain

_SEQUENCES = {
    "linspace": "[first, last, number]",
    "geomspace": "[first, last, number]",
    "range": "[first, beyond the last, step]",
}


def axis(name: str, values: Any) -> list[Any]:
    """Return the values of an axis of a grid: a list, or a table that names a sequence."""
    remedy = f"give a list such as {name} = [1, 2], or {name} = {{ linspace = [0.1, 1.0, 10] }}"
    if isinstance(values, Mapping):
        if len(values) != 1 or next(iter(values)) not in _SEQUENCES:
            forms = ", ".join(f"{{ {kind} = {form} }}" for kind, form in _SEQUENCES.items())
            near = [each for kind in values for each in get_close_matches(str(kind), _SEQUENCES, n=1)]
            if len(values) == 1 and near:
                remedy = f"did you mean {near[0]!r}?"
            raise ValueError(f"grid.{name} must be a list or one of {forms}, got {dict(values)!r}; {remedy}")
        ((kind, numbers),) = values.items()
        return _sequence(f"grid.{name}.{kind}", kind, numbers)
    is_list = isinstance(values, Iterable) and not isinstance(values, (str, *NO_LISTS))
    if not is_list or getattr(values, "ndim", 1) == 0:
        raise TypeError(f"grid.{name} must be a list, got {values!r}; {remedy}, or put one value under parameters")
    # Iterables may be longer than memory, or have no end.
    result = [plain(f"grid.{name}", value) for value in itertools.islice(values, MAX_CELLS + 1)]
    if len(result) > MAX_CELLS:
        raise _too_many(f"grid.{name}", "more")
    if not result:
        raise ValueError(f"grid.{name} must not be empty, as the grid then has no cell; {remedy}")
    return result


def _sequence(name: str, kind: str, numbers: Any) -> list[Any]:
    remedy = f"give three numbers {_SEQUENCES[kind]}"
    if isinstance(numbers, (list, tuple)) or is_array(numbers):
        numbers = plain(name, numbers)
    if not isinstance(numbers, list) or len(numbers) != 3:
        raise ValueError(f"{name} must hold three numbers, got {numbers!r}; {remedy}")
    first, last, step = numbers
    if kind == "range":
        if not all(type(number) is int for number in numbers) or step == 0:
            raise ValueError(f"{name} must hold integers and a step other than 0, got {numbers!r}; {remedy}")
        _check_length(name, max(0, -((first - last) // step)))
        result: list[Any] = list(range(first, last, step))
    else:
        if not all(map(_is_float, numbers)):
            raise ValueError(
                f"{name} must hold finite numbers, got {reprlib.repr(numbers)}; {remedy}, each below 1.8e308"
            )
        if not isinstance(step, int) or step < 1:
            raise ValueError(f"{name} must end in a number of values, at least 1, got {step!r}; {remedy}")
        # By signs, as products of small numbers are 0, and those of large ones infinite.
        if kind == "geomspace" and (first == 0.0 or last == 0.0 or (first < 0.0) != (last < 0.0)):
            raise ValueError(f"{name} must begin and end at numbers of the same sign, got {first} and {last}; {remedy}")
        _check_length(name, step)
        with np.errstate(over="ignore", invalid="ignore"):
            values = getattr(np, kind)(float(first), float(last), step)
        if not np.all(np.isfinite(values)):
            raise ValueError(
                f"{name} must have values and differences that floats reach, got {first} and {last}; {remedy} closer "
                "together"
            )
        whole = isinstance(first, int) and isinstance(last, int) and _whole(values)
        result = (np.rint(values).astype(np.int64) if whole else values).tolist()
    if not result:
        raise ValueError(f"{name} must not be empty, got {numbers!r}; {remedy}")
    return result


def _is_float(number: Any) -> bool:
    """Whether it is a number that floats reach."""
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        return False
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


def _whole(values: NDArray[np.float64]) -> bool:
    """Whether all values are integers but for rounding, which is larger in geometric sequences."""
    size = np.abs(values)
    return bool(np.all((np.abs(values - np.rint(values)) <= 1e-13 * size) & (size < 2.0**40)))


def _check_length(name: str, number: int) -> None:
    if number > MAX_CELLS:
        raise _too_many(name, reprlib.repr(number))


def _too_many(name: str, number: str) -> ValueError:
    return ValueError(f"{name} has at most {MAX_CELLS} values, as a study has cells, got {number}; give fewer")
