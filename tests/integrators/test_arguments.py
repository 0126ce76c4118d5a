"""Bad arguments are refused before any work, with the argument, the value and the remedy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from wideangle.integrators import Event, integrate

numba = pytest.importorskip("numba")


@numba.njit
def decay(t, y, params, out):  # type: ignore[no-untyped-def]
    out[0] = -y[0]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"y0": [np.nan]}, ValueError, r"y0 must be finite, got y0\[0\] = nan"),
        ({"y0": [[1.0], [np.inf]]}, ValueError, r"y0 must be finite, got y0\[1, 0\] = inf; give \(component,\)"),
        ({"y0": 1.0}, ValueError, r"y0 must have 1 or 2 dimension\(s\), got shape \(\); give \(component,\) or"),
        ({"y0": []}, ValueError, r"y0 must not be empty, got shape \(0,\)"),
        ({"y0": np.zeros((0, 3))}, ValueError, r"y0 must not be empty"),
        ({"y0": np.zeros((2, 3, 4))}, ValueError, r"y0 must have 1 or 2 dimension\(s\), got shape \(2, 3, 4\)"),
        ({"y0": [1j]}, TypeError, r"y0 must hold real numbers, got type complex128"),
        ({"y0": ["a"]}, TypeError, r"y0 must hold real numbers"),
        ({"params": [np.nan]}, ValueError, r"params must be finite"),
        ({"params": 3.0}, ValueError, r"params must have 1 or 2 dimension\(s\).*give \(parameter,\) or"),
        ({"params": np.zeros((3, 2)), "y0": np.ones((4, 1))}, ValueError, r"shapes \(4, 1\) and \(3, 2\); give one"),
        ({"times": [0.0]}, ValueError, r"times must have at least two values, got \[0.0\]; give strictly increasing"),
        ({"times": [0.0, 1.0, 1.0]}, ValueError, r"times must increase, got times\[1\] = 1.0, times\[2\] = 1.0"),
        ({"times": [1.0, 0.0]}, ValueError, r"times must increase, got times\[0\] = 1.0, times\[1\] = 0.0"),
        ({"times": [0.0, np.inf]}, ValueError, r"times must be finite, got times\[1\] = inf"),
        ({"times": [0.0, np.nan]}, ValueError, r"times must be finite"),
        ({"times": 1.0}, ValueError, r"times must have 1 dimension"),
        ({"times": [[0.0, 1.0]]}, ValueError, r"times must have 1 dimension"),
        ({"method": "euler"}, ValueError, r"method must be one of 'auto', 'tsit5', 'dop853', 'rodas5p', got 'euler'"),
        ({"method": 5}, TypeError, r"method must be a string"),
        ({"rtol": 0.0}, ValueError, r"rtol must lie in \[1e-14, 0.1\], got 0.0; give a relative tolerance"),
        ({"rtol": 1.0}, ValueError, r"rtol must lie in"),
        ({"rtol": "small"}, TypeError, r"rtol must be a real number"),
        ({"rtol": np.nan}, ValueError, r"rtol must be finite"),
        ({"atol": 0.0}, ValueError, r"atol must be positive, got 0.0; give one positive number, or one for each"),
        ({"atol": [1e-9, 1e-9]}, ValueError, r"atol must be a number or have one for each of 1 components, got 2"),
        ({"atol": np.nan}, ValueError, r"atol must be finite, got nan; give one positive number"),
        ({"atol": None}, TypeError, r"atol must hold real numbers"),
        ({"max_steps": 0}, ValueError, r"max_steps must lie between 1 and"),
        ({"max_steps": 10.5}, TypeError, r"max_steps must be an integer"),
        ({"n_threads": 0}, ValueError, r"n_threads must lie between 1 and"),
        ({"progress": 1}, TypeError, r"progress must be True or False"),
        (
            {"rhs": None},
            TypeError,
            r"rhs must be a function, got None \(NoneType\); give a function f\(t, y, params, out\)",
        ),
        ({"rhs": np.sin}, TypeError, r"rhs must be a Python function, got <ufunc 'sin'>"),
        ({"rhs": Event}, TypeError, r"rhs must be a function"),
        ({"rhs": lambda t, y: y}, TypeError, r"rhs must take the arguments \(t, y, params, out\), got .*\(t, y\)"),
        ({"jacobian": 3}, TypeError, r"jacobian must be a function, got 3"),
        ({"jacobian": lambda t: t}, TypeError, r"jacobian must take the arguments \(t, y, params, out\)"),
        ({"events": 3}, TypeError, r"events must be an Event"),
    ],
)
def test_refused(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"rhs": decay, "y0": [1.0], "times": [0.0, 1.0]} | changes
    with pytest.raises(error, match=message):
        integrate(arguments.pop("rhs"), arguments.pop("y0"), arguments.pop("times"), **arguments)


def test_a_function_that_numba_cannot_compile() -> None:
    def talks(t, y, params, out):  # type: ignore[no-untyped-def]
        out[0] = {"a": [1, "b"]}[params[0]]

    with pytest.raises(TypeError, match=r"rhs could not be compiled by Numba, got <function .*talks.*; use floats"):
        integrate(talks, [1.0], [0.0, 1.0], params=[1.0])


def test_too_much_memory() -> None:
    times = np.linspace(0.0, 1.0, 10**6)
    many = np.broadcast_to(np.ones((1, 1)), (10**6, 1))
    with pytest.raises(ValueError, match=r"trajectories at 1000000 times need .* GiB .* ask for fewer times"):
        integrate(decay, [1.0], times, params=many)


def test_a_plain_function_is_compiled() -> None:
    def half(t, y, params, out):  # type: ignore[no-untyped-def]
        out[0] = 1.0 / (t - t + 2.0)

    run = integrate(half, [0.0], [0.0, 1.0]).isel(trajectory=0)
    np.testing.assert_allclose(run.y[1, 0], 0.5, rtol=1e-14)
