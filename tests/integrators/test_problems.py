"""Standard test problems against SciPy at far tighter tolerances, and against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

import wideangle as wa

numba = pytest.importorskip("numba")
Floats = NDArray[np.float64]
Function = Callable[..., Any]


# T. E. Hull, W. H. Enright, B. M. Fellen and A. E. Sedgwick, SIAM J. Numer. Anal. 9 (1972) 603: the classes of DETEST.
def a1(t, y, params, out):  # type: ignore[no-untyped-def]
    out[0] = -y[0]


def a2(t, y, params, out):  # type: ignore[no-untyped-def]
    out[0] = -0.5 * y[0] ** 3


def a3(t, y, params, out):  # type: ignore[no-untyped-def]
    out[0] = y[0] * math.cos(t)


def a4(t, y, params, out):  # type: ignore[no-untyped-def]
    out[0] = 0.25 * y[0] * (1.0 - 0.05 * y[0])


def a5(t, y, params, out):  # type: ignore[no-untyped-def]
    out[0] = (y[0] - t) / (y[0] + t)


def b1(t, y, params, out):  # type: ignore[no-untyped-def]
    out[0], out[1] = 2.0 * (y[0] - y[0] * y[1]), -(y[1] - y[0] * y[1])


def b2(t, y, params, out):  # type: ignore[no-untyped-def]
    out[0], out[1], out[2] = -y[0] + y[1], y[0] - 2.0 * y[1] + y[2], y[1] - y[2]


def b3(t, y, params, out):  # type: ignore[no-untyped-def]
    out[0], out[1], out[2] = -y[0], y[0] - y[1] ** 2, y[1] ** 2


def b4(t, y, params, out):  # type: ignore[no-untyped-def]
    r = math.sqrt(y[0] ** 2 + y[1] ** 2)
    out[0], out[1], out[2] = -y[1] - y[0] * y[2] / r, y[0] - y[1] * y[2] / r, y[0] / r


def b5(t, y, params, out):  # type: ignore[no-untyped-def]
    out[0], out[1], out[2] = y[1] * y[2], -y[0] * y[2], -0.51 * y[0] * y[1]


def c1(t, y, params, out):  # type: ignore[no-untyped-def]
    out[0] = -y[0]
    for i in range(1, len(y) - 1):
        out[i] = y[i - 1] - y[i]
    out[-1] = y[-2]


def c2(t, y, params, out):  # type: ignore[no-untyped-def]
    out[0] = -y[0]
    for i in range(1, len(y) - 1):
        out[i] = i * y[i - 1] - (i + 1) * y[i]
    out[-1] = (len(y) - 1) * y[-2]


def c3(t, y, params, out):  # type: ignore[no-untyped-def]
    n = len(y)
    for i in range(n):
        left = y[i - 1] if i > 0 else 0.0
        right = y[i + 1] if i < n - 1 else 0.0
        out[i] = left - 2.0 * y[i] + right


def orbit(t, y, params, out):  # type: ignore[no-untyped-def]
    cube = (y[0] ** 2 + y[1] ** 2) ** 1.5
    out[0], out[1], out[2], out[3] = y[2], y[3], -y[0] / cube, -y[1] / cube


def e1(t, y, params, out):  # type: ignore[no-untyped-def]
    out[0], out[1] = y[1], -(y[1] / (t + 1.0) + (1.0 - 0.25 / (t + 1.0) ** 2) * y[0])


def e2(t, y, params, out):  # type: ignore[no-untyped-def]
    out[0], out[1] = y[1], (1.0 - y[0] ** 2) * y[1] - y[0]


def e3(t, y, params, out):  # type: ignore[no-untyped-def]
    out[0], out[1] = y[1], y[0] ** 3 / 6.0 - y[0] + 2.0 * math.sin(2.78535 * t)


def e4(t, y, params, out):  # type: ignore[no-untyped-def]
    out[0], out[1] = y[1], 0.032 - 0.4 * y[1] ** 2


def e5(t, y, params, out):  # type: ignore[no-untyped-def]
    out[0], out[1] = y[1], math.sqrt(1.0 + y[1] ** 2) / (25.0 - t)


def kepler_start(eccentricity: float) -> list[float]:
    return [1.0 - eccentricity, 0.0, 0.0, math.sqrt((1.0 + eccentricity) / (1.0 - eccentricity))]


UNIT = [1.0] + [0.0] * 9
BESSEL = [0.6713967071418030, 0.09540051444747446]
DETEST: dict[str, tuple[Function, list[float]]] = {
    "A1": (a1, [1.0]),
    "A2": (a2, [1.0]),
    "A3": (a3, [1.0]),
    "A4": (a4, [1.0]),
    "A5": (a5, [4.0]),
    "B1": (b1, [1.0, 3.0]),
    "B2": (b2, [2.0, 0.0, 1.0]),
    "B3": (b3, [1.0, 0.0, 0.0]),
    "B4": (b4, [3.0, 0.0, 0.0]),
    "B5": (b5, [0.0, 1.0, 1.0]),
    "C1": (c1, UNIT),
    "C2": (c2, UNIT),
    "C3": (c3, UNIT),
    "D1": (orbit, kepler_start(0.1)),
    "D3": (orbit, kepler_start(0.5)),
    "D5": (orbit, kepler_start(0.9)),
    "E1": (e1, BESSEL),
    "E2": (e2, [2.0, 0.0]),
    "E3": (e3, [0.0, 0.0]),
    "E4": (e4, [30.0, 0.0]),
    "E5": (e5, [0.0, 0.0]),
}


def reference(rhs: Function, start: list[float], times: Floats, params: Floats, **options: Any) -> Floats:
    """Solve with SciPy at the tightest tolerance it allows, with the uncompiled function."""

    def slopes(t: float, y: Floats) -> Floats:
        out = np.zeros_like(y)
        rhs(t, y, params, out)
        return out

    options = {"method": "DOP853", "rtol": 1e-13, "atol": 1e-15} | options
    solution = solve_ivp(slopes, (times[0], times[-1]), start, t_eval=times, **options)
    assert solution.success
    return np.asarray(solution.y.T)


@pytest.mark.parametrize("name", DETEST)
def test_detest(name: str) -> None:
    rhs, start = DETEST[name]
    times = np.linspace(0.0, 20.0, 21)
    truth = reference(rhs, start, times, np.empty(0))
    size = np.abs(truth).max()
    for method, rtol, factor in (("dop853", 1e-9, 1e3), ("tsit5", 1e-7, 1e3), ("rodas5p", 1e-7, 3e3)):
        run = wa.integrators.integrate(rhs, start, times, method=method, rtol=rtol, atol=rtol * 1e-2).isel(trajectory=0)
        assert int(run.status) == 0
        assert abs(run.y.values - truth).max() < factor * rtol * size, (method, abs(run.y.values - truth).max() / size)
    automatic = wa.integrators.integrate(rhs, start, times, rtol=1e-9, atol=1e-11).isel(trajectory=0)
    assert int(automatic.method) == 1, "not stiff"


def van_der_pol(t, y, params, out):  # type: ignore[no-untyped-def]
    out[0], out[1] = y[1], params[0] * (1.0 - y[0] ** 2) * y[1] - y[0]


def robertson(t, y, params, out):  # type: ignore[no-untyped-def]
    slow, middle, fast = 0.04 * y[0], 1e4 * y[1] * y[2], 3e7 * y[1] ** 2
    out[0], out[1], out[2] = middle - slow, slow - middle - fast, fast


def robertson_jacobian(t, y, params, out):  # type: ignore[no-untyped-def]
    out[0, 0], out[0, 1], out[0, 2] = -0.04, 1e4 * y[2], 1e4 * y[1]
    out[1, 0], out[1, 1], out[1, 2] = 0.04, -1e4 * y[2] - 6e7 * y[1], -1e4 * y[1]
    out[2, 0], out[2, 1], out[2, 2] = 0.0, 6e7 * y[1], 0.0


def oregonator(t, y, params, out):  # type: ignore[no-untyped-def]
    out[0] = 77.27 * (y[1] + y[0] * (1.0 - 8.375e-6 * y[0] - y[1]))
    out[1] = (y[2] - (1.0 + y[0]) * y[1]) / 77.27
    out[2] = 0.161 * (y[0] - y[2])


def hires(t, y, params, out):  # type: ignore[no-untyped-def]
    out[0] = -1.71 * y[0] + 0.43 * y[1] + 8.32 * y[2] + 0.0007
    out[1] = 1.71 * y[0] - 8.75 * y[1]
    out[2] = -10.03 * y[2] + 0.43 * y[3] + 0.035 * y[4]
    out[3] = 8.32 * y[1] + 1.71 * y[2] - 1.12 * y[3]
    out[4] = -1.745 * y[4] + 0.43 * y[5] + 0.43 * y[6]
    out[5] = -280.0 * y[5] * y[7] + 0.69 * y[3] + 1.71 * y[4] - 0.43 * y[5] + 0.69 * y[6]
    out[6] = 280.0 * y[5] * y[7] - 1.81 * y[6]
    out[7] = -280.0 * y[5] * y[7] + 1.81 * y[6]


STIFF: dict[str, tuple[Function, list[float], Floats, float]] = {
    "van der Pol": (van_der_pol, [2.0, 0.0], np.array([0.0, 400.0, 1000.0, 2000.0]), 1e-14),
    "Robertson": (robertson, [1.0, 0.0, 0.0], np.array([0.0, *4.0 * 10.0 ** np.arange(-1, 11)]), 1e-20),
    "Oregonator": (oregonator, [1.0, 2.0, 3.0], np.array([0.0, 30.0, 120.0, 360.0]), 1e-14),
    "HIRES": (hires, [1.0, 0, 0, 0, 0, 0, 0, 0.0057], np.array([0.0, 1.0, 100.0, 321.8122]), 1e-16),
}


@pytest.mark.parametrize("name", STIFF)
def test_stiff_problems(name: str) -> None:
    rhs, start, times, atol = STIFF[name]
    params = np.array([1000.0])
    truth = reference(rhs, start, times, params, method="Radau", rtol=1e-12, atol=atol)
    for method in ("rodas5p", "auto"):
        run = wa.integrators.integrate(
            rhs, start, times, params=params, method=method, rtol=1e-9, atol=max(1e-16, atol * 10.0)
        ).isel(trajectory=0)
        assert int(run.status) == 0
        assert int(run.method) == 2
        np.testing.assert_allclose(run.y.values, truth, rtol=1e-6, atol=1e-9 * np.abs(truth).max(axis=0).min())
    assert int(run.n_steps) < 10_000


def test_jacobian_of_the_user() -> None:
    _, start, times, _ = STIFF["Robertson"]
    options: dict[str, Any] = {"method": "rodas5p", "rtol": 1e-8, "atol": 1e-14}
    given = wa.integrators.integrate(robertson, start, times, jacobian=robertson_jacobian, **options).isel(trajectory=0)
    differences = wa.integrators.integrate(robertson, start, times, **options).isel(trajectory=0)
    np.testing.assert_allclose(given.y, differences.y, rtol=1e-7)
    assert int(given.n_evaluations) < int(differences.n_evaluations)
    assert abs(int(given.n_steps) - int(differences.n_steps)) < 20
    wrong = wa.integrators.integrate(robertson, start, times, jacobian=no_jacobian, **options).isel(trajectory=0)
    assert int(wrong.n_steps) > 2 * int(given.n_steps)


def no_jacobian(t, y, params, out):  # type: ignore[no-untyped-def]
    out[:, :] = 0.0


def test_explicit_methods_give_up_on_stiff_problems() -> None:
    rhs, start, times, _ = STIFF["van der Pol"]
    run = wa.integrators.integrate(rhs, start, times, params=[1000.0], method="dop853", max_steps=3000).isel(
        trajectory=0
    )
    assert int(run.status) == 3
    assert int(run.n_steps + run.n_rejected) == 3000
    assert np.isnan(run.y[-1]).all()
    assert 0.0 < float(run.final_time) < 400.0


def test_stiffness_is_decided_for_each_trajectory() -> None:
    run = wa.integrators.integrate(van_der_pol, [2.0, 0.0], [0.0, 20.0], params=[[0.1], [1e4], [1.0], [1e5]])
    assert run.method.values.tolist() == [1, 2, 1, 2]
    assert (run.status == 0).all()


@numba.njit
def starvation(t, m, params, out):  # type: ignore[no-untyped-def]
    """Gradient starvation of two modes under cross-entropy."""
    common, rare = 1.0 / (1.0 + math.exp(m[0])), 1.0 / (1.0 + math.exp(m[0] + m[1]))
    out[0] = 2.0 * m[0] * ((1.0 - params[0]) * common + params[0] * rare)
    out[1] = 2.0 * m[1] * params[0] * rare


@pytest.mark.parametrize("method", ["auto", "dop853", "rodas5p"])
def test_starvation_exponent_at_late_times(method: str) -> None:
    """While the rare margin is small it is the power ``frequency`` of the common one, to t = 1e12."""
    start, frequency = np.array([1e-3, 1e-9]), np.array([[0.1], [0.25]])
    run = wa.integrators.integrate(starvation, start, [0.0, 1e6, 1e12], params=frequency, method=method)
    growth = np.log(run.y.isel(time=-1).values / start)
    np.testing.assert_allclose(growth[:, 1] / growth[:, 0], frequency[:, 0], atol=1e-5)


def test_times_far_from_zero() -> None:
    """The smallest step is relative to the time, and a step of one still goes through at 1e12."""
    run = wa.integrators.integrate(a3, [1.0], [1e9, 1e9 + 5.0], rtol=1e-7).isel(trajectory=0)
    np.testing.assert_allclose(run.y[-1], np.exp(np.sin(1e9 + 5.0) - np.sin(1e9)), rtol=1e-5)
