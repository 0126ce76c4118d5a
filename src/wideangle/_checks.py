"""Checks of arguments, made before any work starts.

Each returns its argument in the one form that the rest of the package uses, or raises an error that names the
argument, the value, what is allowed and the remedy.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_SEED = 2**64 - 1
MAX_SAMPLES = 10**15
MAX_WIDTH = 2**31


def check_integer(name: str, value: Any, *, low: int, high: int, remedy: str) -> int:
    """Return ``value`` as an int in [low, high]; NumPy integers pass, booleans and floats do not."""
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r} (bool); {remedy}")
    try:
        result = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r} ({type(value).__name__}); {remedy}") from None
    if not low <= result <= high:
        raise ValueError(f"{name} must lie between {low} and {high}, got {result}; {remedy}")
    return result


def check_real(name: str, value: Any, *, remedy: str) -> float:
    """Return ``value`` as a finite float; booleans, strings, arrays and complex numbers do not pass."""
    if isinstance(value, (bool, str, bytes, complex)) or getattr(value, "ndim", 0) != 0:
        raise TypeError(f"{name} must be a real number, got {value!r} ({type(value).__name__}); {remedy}")
    try:
        result = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a real number, got {value!r} ({type(value).__name__}); {remedy}") from None
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise ValueError(f"{name} must be finite, got {value!r}; {remedy}")
    return result


def check_positive_real(name: str, value: Any, *, remedy: str) -> float:
    """Return ``value`` as a finite float above 0."""
    result = check_real(name, value, remedy=remedy)
    if result <= 0.0:
        raise ValueError(f"{name} must be positive, got {value!r}; {remedy}")
    return result


def as_plain(value: Any) -> Any:
    """Return what NumPy reads: the values of labelled arrays, tensors without their gradients, others as they are."""
    if hasattr(value, "dims") and hasattr(value, "values"):
        return value.values
    if callable(getattr(value, "detach", None)):
        return value.detach().cpu()
    return value


def check_array(name: str, value: Any, *, ndim: Collection[int], remedy: str) -> NDArray[Any]:
    """Return ``value`` as an array of real numbers with one of these numbers of dimensions, none of them of length 0.

    Its values, which may be NaN or infinite, its type and its layout stay as they are.
    """
    try:
        result = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} could not be read as an array ({error}); {remedy}") from None
    if result.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold real numbers, got type {result.dtype}; {remedy}")
    if result.ndim not in ndim:
        allowed = " or ".join(map(str, ndim))
        raise ValueError(f"{name} must have {allowed} dimension(s), got shape {result.shape}; {remedy}")
    if result.size == 0:
        raise ValueError(f"{name} must not be empty, got shape {result.shape}; {remedy}")
    return result


def check_numbers(
    name: str, value: Any, *, remedy: str, ndim: Collection[int] = range(65), largest: float = math.inf
) -> NDArray[np.float64]:
    """Return a new array of finite float64, not empty, with magnitudes up to ``largest``, its last axis contiguous."""
    array = check_array(name, value, ndim=ndim, remedy=remedy)
    with np.errstate(over="ignore"):
        result = array.astype(np.float64, order="C")
    wrong = np.argwhere(~(np.abs(result) <= largest) | ~np.isfinite(result))
    if len(wrong):
        place = f"{name}[{', '.join(map(str, wrong[0]))}] = " if result.ndim else ""
        limit = "" if largest == math.inf else f" and at most {largest:g} in size"
        raise ValueError(f"{name} must be finite{limit}, got {place}{result[tuple(wrong[0])]}; {remedy}")
    return result


def check_increasing(name: str, value: Any, *, remedy: str) -> NDArray[np.float64]:
    """Return a new array of finite and strictly increasing float64, of one dimension and not empty."""
    result = check_numbers(name, value, ndim=(1,), remedy=remedy)
    wrong = np.flatnonzero(result[1:] <= result[:-1])
    if wrong.size:
        k = int(wrong[0])
        pair = f"{name}[{k}] = {result[k]}, {name}[{k + 1}] = {result[k + 1]}"
        raise ValueError(f"{name} must increase, got {pair}; {remedy}")
    return result


def check_increasing_integers(name: str, value: Any, *, low: int, high: int, remedy: str) -> tuple[int, ...]:
    """Return integers in [low, high] that increase strictly, one of them or more."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a sequence of integers, got {value!r}; {remedy}")
    result = tuple(
        check_integer(f"{name}[{place}]", item, low=low, high=high, remedy=remedy) for place, item in enumerate(value)
    )
    if not result or list(result) != sorted(set(result)):
        raise ValueError(f"{name} must hold increasing numbers, got {list(result)}; {remedy}")
    return result


def check_rtol(value: Any) -> float:
    """Return the relative tolerance of an integrator."""
    remedy = "give a relative tolerance between 1e-14 and 0.1"
    result = check_real("rtol", value, remedy=remedy)
    if not 1e-14 <= result <= 0.1:
        raise ValueError(f"rtol must lie in [1e-14, 0.1], got {value!r}; {remedy}")
    return result


def check_theta0(value: Any) -> float:
    """Return the angle between the inputs in radians, 0 < theta0 <= pi."""
    remedy = "give the angle between the two inputs in radians, 0 < theta0 <= pi"
    result = check_real("theta0", value, remedy=remedy)
    if not 0.0 < result <= math.pi:
        raise ValueError(f"theta0 must lie in (0, pi], got {value!r}; {remedy}")
    return result


def check_seed(value: Any) -> int:
    """Return the seed, 0 <= seed < 2**64."""
    return check_integer("seed", value, low=0, high=MAX_SEED, remedy="give a non-negative integer below 2**64")


def check_samples(name: str, value: Any) -> int:
    """Return a number of samples, at least 1."""
    return check_integer(
        name, value, low=1, high=MAX_SAMPLES, remedy="give a number of independent samples, such as 10_000"
    )


def check_threads(value: Any) -> int:
    """Return a number of threads, with 0 standing for every core available to the process."""
    if value is None:
        return 0
    return check_integer("n_threads", value, low=1, high=1024, remedy="give 1 or more, or None for every core")


def check_memory(needed: int, what: str, *, remedy: str) -> None:
    """Refuse what needs more bytes than the machine has; ``what`` begins the message and ends in a verb."""
    present = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > present:
        raise ValueError(f"{what} {needed / 2**30:.3g} GiB and this machine has {present / 2**30:.3g} GiB; {remedy}")


def check_choice(name: str, value: Any, allowed: Collection[str]) -> str:
    """Return ``value`` if it is one of ``allowed``."""
    choices = ", ".join(repr(choice) for choice in allowed)
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {value!r} ({type(value).__name__}); choose one of {choices}")
    if value not in allowed:
        raise ValueError(f"{name} must be one of {choices}, got {value!r}")
    return value


def check_flag(name: str, value: Any) -> bool:
    """Return a true or false argument; NumPy booleans pass, numbers do not."""
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):
        return bool(value)
    raise TypeError(f"{name} must be True or False, got {value!r} ({type(value).__name__})")
