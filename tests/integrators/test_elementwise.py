"""Functions of lanes against mpmath, and what compiles for lanes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wideangle.integrators import integrate
from wideangle.integrators._calls import addresses
from wideangle.integrators._lanes import LANES, load, store
from wideangle.integrators._records import Shared
from wideangle.integrators.elementwise import logistic, softplus, where

numba = pytest.importorskip("numba")
Floats = NDArray[np.float64]


def in_lanes(function: Any) -> Callable[[Floats], Floats]:
    """Return the function over arrays, computed in lanes."""

    @numba.njit
    def run(arrays):  # type: ignore[no-untyped-def]
        memory = addresses(arrays)
        for at in range(0, arrays.next.size, LANES):
            store(memory.done, at, function(load(memory.next, at)))

    def call(values: Floats) -> Floats:
        padded = np.zeros(-(-values.size // LANES) * LANES)
        padded[: values.size] = values
        result = np.full(padded.size, np.nan)
        run(Shared(padded, result, padded))  # any named tuple of arrays
        return result[: values.size]

    return call


@numba.njit
def exp(x):  # type: ignore[no-untyped-def]
    return math.exp(x)


@numba.njit
def expm1(x):  # type: ignore[no-untyped-def]
    return math.expm1(x)


@numba.njit
def log(x):  # type: ignore[no-untyped-def]
    return math.log(x)


@numba.njit
def log1p(x):  # type: ignore[no-untyped-def]
    return math.log1p(x)


@numba.njit
def tanh(x):  # type: ignore[no-untyped-def]
    return math.tanh(x)


def logistic_truth(x: Any) -> Any:
    return 1 / (1 + mpmath.exp(-x))


def softplus_truth(x: Any) -> Any:
    return mpmath.log1p(mpmath.exp(x))


RANDOM = np.random.default_rng(1)
WIDE, NEAR = RANDOM.uniform(-1.0, 1.0, 1500), RANDOM.standard_normal(1500)
TINY = 10.0 ** RANDOM.uniform(-310.0, 0.0, 1500) * np.sign(NEAR)
# Function, truth, arguments, error in units in the last place.
ACCURACY: dict[str, tuple[Any, Any, Floats, float]] = {
    "exp": (exp, mpmath.exp, np.r_[745.0 * WIDE, NEAR, np.linspace(-745.2, -700.0, 700), TINY, 709.78], 1.0),
    "expm1": (expm1, mpmath.expm1, np.r_[709.0 * WIDE, 50.0 * WIDE, NEAR, TINY], 2.0),
    "log": (log, mpmath.log, np.r_[10.0 ** (308.0 * WIDE), np.exp(NEAR), 1.0 + 1e-6 * NEAR, np.abs(TINY)], 1.0),
    "log1p": (log1p, mpmath.log1p, np.r_[10.0 ** (308.0 * WIDE), WIDE, 1e-4 * NEAR, TINY], 2.0),
    "tanh": (tanh, mpmath.tanh, np.r_[25.0 * WIDE, NEAR, TINY], 3.0),
    "logistic": (logistic, logistic_truth, np.r_[708.0 * WIDE, NEAR, TINY], 3.0),
    "softplus": (softplus, softplus_truth, np.r_[700.0 * WIDE, NEAR, TINY], 3.0),
}


@pytest.mark.parametrize("name", ACCURACY)
def test_accuracy(name: str) -> None:
    function, truth, arguments, allowed = ACCURACY[name]
    got = in_lanes(function)(arguments)
    with mpmath.workprec(2200 if name == "log1p" else 160):
        exact = [truth(mpmath.mpf(float(x))) for x in arguments]
        errors = [abs(mpmath.mpf(float(g)) - e) / np.spacing(abs(float(e))) for g, e in zip(got, exact, strict=True)]
    worst = int(np.argmax(errors))
    assert errors[worst] < allowed, (float(arguments[worst]), float(errors[worst]))
    # The same function of single numbers.
    np.testing.assert_allclose(got[:200], [function(x) for x in arguments[:200]], rtol=1e-15, atol=1e-320)


def test_special_values() -> None:
    inf, nan = math.inf, math.nan
    for function, arguments, values in (
        (exp, [0.0, -0.0, inf, -inf, nan, 709.79, -745.14, -1e308], [1.0, 1.0, inf, 0.0, nan, inf, 0.0, 0.0]),
        (expm1, [0.0, -0.0, inf, -inf, nan, 710.0], [0.0, -0.0, inf, -1.0, nan, inf]),
        (log, [1.0, 0.0, -0.0, inf, -1.0, -inf, nan, 5e-324], [0.0, -inf, -inf, inf, nan, nan, nan, math.log(5e-324)]),
        (log1p, [0.0, -0.0, -1.0, inf, -2.0, nan, 5e-324], [0.0, -0.0, -inf, inf, nan, nan, 5e-324]),
        (tanh, [0.0, -0.0, inf, -inf, nan, 5e-324], [0.0, -0.0, 1.0, -1.0, nan, 5e-324]),
        (logistic, [inf, -inf, nan, -1e5], [1.0, 0.0, nan, 0.0]),
        (softplus, [inf, -inf, nan, 1e5], [inf, 0.0, nan, 1e5]),
    ):
        got = in_lanes(function)(np.array(arguments))
        np.testing.assert_array_equal(got, values)
        np.testing.assert_array_equal(np.signbit(got), np.signbit(values) | (np.isnan(got) & np.signbit(got)))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=LANES, max_size=LANES))
def test_lanes_are_ieee_arithmetic(values: list[float]) -> None:
    """A formula of every operation gives the bits that NumPy gives for each number by itself."""
    x = np.array(values)
    with np.errstate(all="ignore"):
        y = -x * 3.0 + 1.5 / (x - 2.0) - abs(x) ** 2
        expected = np.where((x > 1.0) | (x <= -3.0), y, np.where(x != y, np.sqrt(abs(x)), x**-1))
    np.testing.assert_array_equal(FORMULA(x), expected)


@numba.njit
def formula(x):  # type: ignore[no-untyped-def]
    y = -x * 3.0 + 1.5 / (x - 2.0) - abs(x) ** 2
    return where((x > 1.0) | (x <= -3.0), y, where(x != y, math.sqrt(abs(x)), x**-1))


FORMULA = in_lanes(formula)


def vector_sum(t, y, params, out):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(y.size):
        total += y[i]
    for i in range(y.shape[0]):
        out[i] = -total * y[i - 1] / len(params)


def library(t, y, params, out):  # type: ignore[no-untyped-def]
    out[0] = np.sin(t) * math.cos(y[0]) + math.erf(y[1]) + max(y[0], 0.5) - min(1.0, y[1])
    out[1] = np.exp(-y[1]) ** 0.5 + np.tanh(y[0]) - np.arctan(y[1]) + np.log1p(abs(y[0])) * params[0]


def chosen(t, y, params, out):  # type: ignore[no-untyped-def]
    out[0] = where(y[0] > y[1], -y[0], params[0])
    out[1] = 1.0


def branch(t, y, params, out):  # type: ignore[no-untyped-def]
    out[0] = -y[0] if y[0] > y[1] else params[0]
    out[1] = 1.0


def both(t, y, params, out):  # type: ignore[no-untyped-def]
    out[0] = -y[0]
    if y[0] > 0.0 and t > 0.5:
        out[0] = -2.0 * y[0]
    out[1] = 1.0


def negation(t, y, params, out):  # type: ignore[no-untyped-def]
    out[0] = 1.0 if not y[0] else -1.0
    out[1] = 0.0


def slices(t, y, params, out):  # type: ignore[no-untyped-def]
    out[:] = -params[0] * y


def products(t, y, params, out):  # type: ignore[no-untyped-def]
    out[:] = np.dot(np.array([[-1.0, 0.5], [0.25, -2.0]]), y)


def truncation(t, y, params, out):  # type: ignore[no-untyped-def]
    out[0] = float(int(y[0])) + params[0]
    out[1] = 1.0


@pytest.mark.parametrize("rhs", [vector_sum, library, chosen])
def test_compiled_for_lanes(rhs: Callable[..., None]) -> None:
    """And the result is that of the function called lane by lane."""

    def scalar(t, y, params, out):  # type: ignore[no-untyped-def]
        if t < -1.0:
            out[0] = 0.0
        compiled(t, y, params, out)

    compiled = numba.njit(rhs)
    y0, params = [[1.0, 0.5], [0.3, 2.0], [-0.5, 0.1]], [[0.7], [1.3], [-0.4]]
    run = integrate(rhs, y0, [0.0, 1.0], params=params, rtol=1e-11)
    assert run.attrs["rhs_in_lanes"] == "True"
    assert np.isfinite(run.y).all()
    other = integrate(scalar, y0, [0.0, 1.0], params=params, rtol=1e-11)
    assert other.attrs["rhs_in_lanes"] == "False"
    np.testing.assert_allclose(run.y, other.y, rtol=1e-10)


@pytest.mark.parametrize("rhs", [branch, both, negation, slices, products, truncation])
def test_called_lane_by_lane(rhs: Callable[..., None]) -> None:
    """A branch on values must never compile for lanes: all would go the way of one."""
    y0, params = np.array([[1.0, 0.5], [0.3, 2.0], [-0.5, 0.1]]), np.array([[0.7], [1.3], [-0.4]])
    run = integrate(rhs, y0, [0.0, 0.25], params=params, rtol=1e-10)
    assert run.attrs["rhs_in_lanes"] == "False"
    assert np.isfinite(run.y).all()
    for k in range(3):
        alone = integrate(rhs, y0[k], [0.0, 0.25], params=params[k], rtol=1e-10).isel(trajectory=0)
        np.testing.assert_array_equal(run.y[k], alone.y)
