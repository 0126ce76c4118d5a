"""Measured convergence orders of the methods and of their interpolants, with fixed steps of the compiled code."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special

import wideangle as wa
from wideangle.integrators import _outputs, _records, _rosenbrock, _steps
from wideangle.integrators._calls import addresses
from wideangle.integrators._compilation import compile_rhs
from wideangle.integrators._lanes import LANES, load, store
from wideangle.integrators._tableaux import DOP853, TSIT5

numba = pytest.importorskip("numba")
Floats = NDArray[np.float64]
END = 4.0


@numba.njit
def rotation(t, y, params, out):  # type: ignore[no-untyped-def]
    """Euler's equations of a free top, and a factor that depends on the time."""
    out[0], out[1], out[2] = y[1] * y[2], -y[0] * y[2], -0.51 * y[0] * y[1]
    out[3] = math.cos(t) * y[3]


def exact(t: float | Floats) -> Floats:
    """Jacobi's elliptic functions."""
    sn, cn, dn, _ = special.ellipj(t, 0.51)
    return np.array([sn, cn, dn, np.exp(np.sin(t))])


START = exact(0.0)


def make_problem(size: int) -> _records.Problem:
    none = np.zeros((1, 0))
    compiled = compile_rhs("rhs", rotation)
    times = np.array([0.0, END])
    return _records.Problem(
        compiled.address,
        0,
        1,
        size,
        0,
        none,
        False,
        none,
        False,
        times,
        2,
        END,
        1e-8,
        np.full(size, 1e-12),
        1,
        False,
        1,
    )


@numba.njit
def explicit_steps(problem, tableau, work, h, n_steps, fraction):  # type: ignore[no-untyped-def]
    """Take steps of one length; return the end, and the interpolant at a fraction of the last step."""
    problem, tableau, work = addresses(problem), addresses(tableau), addresses(work)
    for step in range(n_steps):
        store(work.lane, _records.TRIED, h)
        store(work.lane, _records.NEXT_TIME, (step + 1) * h)
        _steps.run_stages(problem, tableau, work, 1, tableau.last + 1, 1)
        if step == n_steps - 1:
            _outputs._run_dense(problem, tableau, work, 1)
            inside = [_outputs._interpolate(tableau, work, 0, fraction, i) for i in range(work.size)]
        _steps.advance(tableau, work, load(work.time, 0) * 0.0 <= 0.0)
    return [work.y[i * LANES] for i in range(work.size)], inside


@numba.njit
def rosenbrock_steps(problem, method, work, h, n_steps, fraction):  # type: ignore[no-untyped-def]
    problem, method, work = addresses(problem), addresses(method), addresses(work)
    n = work.size
    for step in range(n_steps):
        work.lane[_records.TIME] = step * h
        work.lane[_records.STEP] = work.lane[_records.TRIED] = h
        _rosenbrock._linearize(problem, work, method)
        _rosenbrock._try_step(problem, work, method)
        if step == n_steps - 1:
            _rosenbrock._prepare_dense(work, method)
            inside = [_outputs._interpolate(method, work, 0, fraction, i) for i in range(n)]
        for i in range(n):
            work.y[i * LANES] = work.points[(n + i) * LANES]
    return [work.y[i * LANES] for i in range(n)], inside


def errors(method: str, n_steps: int, fraction: float = 0.45) -> tuple[float, float]:
    """Return the error at the end and that of the interpolant in a step that begins with exact values."""
    h, size = END / n_steps, START.size
    problem = make_problem(size)
    found = []
    for steps, start in ((n_steps, START), (1, START)):
        tableau: Any = {"dop853": DOP853, "tsit5": TSIT5}.get(method)
        if tableau is None:
            work = _records.make_work(0, size, 0, 1, 4, 0)
            work.y.reshape(size, LANES)[:] = start[:, None]
            stiff = _rosenbrock.make_rosenbrock(size, np.zeros(0, dtype=np.int64))
            found.append(rosenbrock_steps(problem, stiff, work, h, steps, fraction))
        else:
            tableau = tableau.spread(size * LANES)
            work = _records.make_work(0, size, 0, tableau.stages, tableau.dense_rows, 0)
            work.y.reshape(size, LANES)[:] = start[:, None]
            first = np.array([1.0, 0.0, 0.0, 1.0])
            work.k[: size * LANES].reshape(size, LANES)[:] = first[:, None]
            found.append(explicit_steps(problem, tableau, work, h, steps, fraction))
    end = np.linalg.norm(np.array(found[0][0]) - exact(END))
    inside = np.linalg.norm(np.array(found[1][1]) - exact(fraction * h))
    return float(end), float(inside)


@pytest.mark.parametrize(
    ("method", "order", "inner_order", "n_steps"),
    [
        ("tsit5", 5, 4, (40, 56, 80, 120, 160)),
        ("dop853", 8, 7, (12, 16, 20, 24, 28)),
        ("rodas5p", 5, 4, (40, 56, 80, 120, 160)),
    ],
)
def test_measured_orders(method: str, order: int, inner_order: int, n_steps: tuple[int, ...]) -> None:
    measured = np.array([errors(method, n) for n in n_steps])
    assert measured.min() > 1e-14, "errors at the level of rounding measure no order"
    slopes = -np.polyfit(np.log(n_steps), np.log(measured), 1)[0]
    assert abs(slopes[0] - order) < 0.2
    # Within one step the error of an interpolant of order q is O(h^(q + 1)).
    assert abs(slopes[1] - (inner_order + 1)) < 0.2


@pytest.mark.parametrize("method", ["tsit5", "dop853", "rodas5p"])
def test_error_falls_with_the_tolerance(method: str) -> None:
    tolerances = np.geomspace(1e-6, 1e-11, 11)
    times = np.linspace(0.0, 20.0, 101)
    truth = exact(times).T
    found = []
    for rtol in tolerances:
        run = wa.integrators.integrate(rotation, START, times, method=method, rtol=rtol, atol=rtol)
        found.append(float(abs(run.y - truth).max()))
    assert np.all(np.array(found) < 1000.0 * tolerances)
    assert np.all(np.array(found) > 0.01 * tolerances)
