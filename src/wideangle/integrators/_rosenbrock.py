"""The stiff method: Rodas5P, one trajectory at a time, with the Jacobian from the user or by central differences.

G. Steinebach, BIT Numer. Math. 63 (2023) 27: order 5, L-stable, stiffly accurate, with an embedded method of order 4
and a dense output of order 4. With U_j for the stages, W = 1/(h gamma) - df/dy and a step h from (t, y),

    W U_i = f(t + alpha_i h, y + sum_j a_ij U_j) + sum_j c_ij U_j / h + gamma_i h df/dt,

the step ends in y + sum_j a_8j U_j + U_8, and U_8 is the error. The sixteen lanes of the explicit methods serve to
evaluate as many columns of the Jacobian at once; the trajectory itself stands in lane 0.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from wideangle.integrators import _status as status
from wideangle.integrators._calls import addresses, call_rhs, call_scalar, fetch_add, kernel, njit_on_disk
from wideangle.integrators._digest import package_digest
from wideangle.integrators._lanes import LANES
from wideangle.integrators._linear import factor, solve
from wideangle.integrators._outputs import finish, gather, look_for_events, run_through_events, write_outputs
from wideangle.integrators._records import (
    ACCEPTED,
    EVALUATIONS,
    LANE_ROWS,
    NEXT_TIME,
    OUTPUT,
    REJECTED,
    SMALLEST,
    STEP,
    TIME,
    TRIED,
    zeros,
)
from wideangle.integrators._tableaux import RODAS5P
from wideangle.integrators._zeros import evaluate_events

_STAGES = RODAS5P.alpha.size
_GAMMA = float(RODAS5P.gamma[0])
_THIRD = 2.0 ** (-52.0 / 3.0)
# Of a component that is zero, for differences.
_LARGEST_SCALE = 1e-3


class Rosenbrock(NamedTuple):
    """Coefficients and what one thread needs beside Work."""

    dense_rows: int
    alpha: Any
    gamma: Any
    a: Any  # (stage, stage), and likewise c
    c: Any
    h: Any  # (3, stage): the dense output
    u: Any
    jacobian: Any
    lu: Any
    pivot: Any
    time_slope: Any
    slope: Any
    right: Any
    todo: Any  # the trajectories to integrate


def make_rosenbrock(size: int, todo: Any) -> Rosenbrock:
    """Allocate what one thread needs."""
    return Rosenbrock(
        4,
        *RODAS5P,
        zeros(_STAGES * size),
        zeros(size * size),
        zeros(size * size),
        np.zeros(size, dtype=np.int64),
        zeros(size),
        zeros(size),
        zeros(size),
        todo,
    )


@kernel
def _slopes(problem: Any, work: Any, lanes: Any) -> None:
    """Evaluate the right-hand side at the first block of points."""
    rhs, n, m = problem.rhs, work.size, work.n_params
    call_rhs(rhs, work.time, work.points, 0, work.params, work.k, 0, n, m, lanes, work.scratch)


@kernel
def _difference(above: Any, below: Any, middle: Any, step: Any) -> Any:
    """Return the central difference, or one to the side where the other leaves the domain of the function."""
    if not math.isfinite(below):
        return (above - middle) / step
    if not math.isfinite(above):
        return (middle - below) / step
    return (above - below) / (2.0 * step)


@kernel
def _differentiate_time(problem: Any, work: Any, method: Any) -> None:
    """Set df/dt by differences that look ahead, in lanes 1 and 2."""
    n, t, h = work.size, work.lane[TIME], work.lane[STEP]
    step = max(_THIRD * h, min(0.25 * h, 2.0**-26 * abs(t)))
    step = (t + step) - t
    for i in range(n):
        for lane in range(3):
            work.points[i * LANES + lane] = work.y[i * LANES]
    work.time[0], work.time[1], work.time[2] = t, t + step, t + 2.0 * step
    _slopes(problem, work, 7)
    for i in range(n):
        here, near, far = work.k[i * LANES], work.k[i * LANES + 1], work.k[i * LANES + 2]
        method.slope[i] = here
        method.time_slope[i] = (4.0 * (near - here) - (far - here)) / (2.0 * step) if step > 0.0 else 0.0
    work.lane[EVALUATIONS] += 3.0


@kernel
def _differentiate(problem: Any, work: Any, method: Any) -> None:
    """Set the Jacobian by differences, a column in two lanes."""
    n, t, h = work.size, work.lane[TIME], work.lane[STEP]
    for lane in range(LANES):
        work.time[lane] = t
    for first in range(0, n, LANES // 2):
        columns = min(LANES // 2, n - first)
        for i in range(n):
            for lane in range(LANES):
                work.points[i * LANES + lane] = work.y[i * LANES]
        for column in range(columns):
            j = first + column
            y = work.y[j * LANES]
            # Where absolute errors alone count, their ratio to relative ones says nothing of the size of y.
            least = min(problem.atol[j] / problem.rtol, _LARGEST_SCALE)
            scale = max(abs(y), h * abs(method.slope[j]), least)
            step = (y + _THIRD * scale) - y
            method.right[j] = step
            work.points[j * LANES + 2 * column] = y + step
            work.points[j * LANES + 2 * column + 1] = y - step
        _slopes(problem, work, (1 << 2 * columns) - 1)
        for column in range(columns):
            j = first + column
            for i in range(n):
                above, below = work.k[i * LANES + 2 * column], work.k[i * LANES + 2 * column + 1]
                method.jacobian[i * n + j] = _difference(above, below, method.slope[i], method.right[j])
    work.lane[EVALUATIONS] += 2.0 * n


@kernel
def _linearize(problem: Any, work: Any, method: Any) -> None:
    """Set slope, df/dt and the Jacobian at the begin of a step."""
    _differentiate_time(problem, work, method)
    if problem.jacobian == 0:
        _differentiate(problem, work, method)
        return
    gather(work, work.y, 0, 0)
    n, t = work.size, work.lane[TIME]
    call_scalar(problem.jacobian, t, work.state, work.own_params, method.jacobian, 0, n, work.n_params)


@kernel
def _try_step(problem: Any, work: Any, method: Any) -> Any:
    """Compute all stages and the end of the step; return its error in units of the tolerance."""
    n, t, h, u = work.size, work.lane[TIME], work.lane[TRIED], method.u
    for i in range(n):
        for j in range(n):
            method.lu[i * n + j] = -method.jacobian[i * n + j]
        method.lu[i * n + i] += 1.0 / (h * _GAMMA)
    factor(method.lu, method.pivot, n)
    for stage in range(_STAGES):
        if stage > 0:
            work.time[0] = t + method.alpha[stage] * h
            for i in range(n):
                point = work.y[i * LANES]
                for j in range(stage):
                    point += method.a[stage * _STAGES + j] * u[j * n + i]
                work.points[i * LANES] = point
            _slopes(problem, work, 1)
        for i in range(n):
            right = method.slope[i] if stage == 0 else work.k[i * LANES]
            right += method.gamma[stage] * h * method.time_slope[i]
            for j in range(stage):
                right += method.c[stage * _STAGES + j] / h * u[j * n + i]
            method.right[i] = right
        solve(method.lu, method.pivot, method.right, n)
        for i in range(n):
            u[stage * n + i] = method.right[i]
    work.lane[EVALUATIONS] += _STAGES - 1.0
    total = 0.0
    for i in range(n):
        # The point of the last stage, and U_8.
        end = work.points[i * LANES] + u[(_STAGES - 1) * n + i]
        work.points[(n + i) * LANES] = end
        scale = problem.atol[i] + problem.rtol * max(abs(work.y[i * LANES]), abs(end))
        total += (u[(_STAGES - 1) * n + i] / scale) ** 2 + 0.0 * end
    return math.sqrt(total / n)


@kernel
def _prepare_dense(work: Any, method: Any) -> None:
    """Set the factors of the dense output y0 + x (F0 + (1 - x) (F1 + x (F2 + (1 - x) F3)))."""
    n = work.size
    for i in range(n):
        k1 = k2 = k3 = 0.0
        for stage in range(_STAGES):
            u = method.u[stage * n + i]
            k1 += method.h[stage] * u
            k2 += method.h[_STAGES + stage] * u
            k3 += method.h[2 * _STAGES + stage] * u
        work.dense[i * LANES] = work.points[(n + i) * LANES] - work.y[i * LANES]
        work.dense[(n + i) * LANES] = k1
        work.dense[(2 * n + i) * LANES] = k2 + k3
        work.dense[(3 * n + i) * LANES] = -k3


@kernel
def _begin(problem: Any, watch: Any, work: Any, result: Any, owner: Any) -> Any:
    """Put a trajectory into lane 0, at its begin or where an explicit method left it; return whether it can go on."""
    n, m = work.size, work.n_params
    row = owner if problem.own_params else 0
    for i in range(m):
        for lane in range(LANES):
            work.params[i * LANES + lane] = problem.params[row * m + i]
    for row in range(LANE_ROWS):
        work.lane[row * LANES] = 0.0
    work.owner[0] = owner
    continued = result.status[owner] == status.STIFF
    row = owner if problem.own_y0 else 0
    for i in range(n):
        work.y[i * LANES] = result.next_y[owner * n + i] if continued else problem.y0[row * n + i]
        work.points[i * LANES] = work.y[i * LANES]
        if not continued:
            result.y[owner * problem.n_times * n + i] = work.y[i * LANES]
    work.output[0] = result.next_output[owner] if continued else 1
    work.lane[OUTPUT] = problem.times[work.output[0]]
    work.lane[TIME] = work.time[0] = result.final_time[owner]
    work.lane[ACCEPTED] = result.steps[owner]
    work.lane[REJECTED] = result.rejected[owner]
    work.lane[EVALUATIONS] = result.evaluations[owner] + 1.0
    _slopes(problem, work, 1)
    d0 = d1 = harm = 0.0
    for i in range(n):
        scale = problem.atol[i] + problem.rtol * abs(work.y[i * LANES])
        d0 += (work.y[i * LANES] / scale) ** 2
        d1 += (work.k[i * LANES] / scale) ** 2
        harm += work.k[i * LANES] * 0.0
    h = 0.01 * math.sqrt(d0 / d1) if d0 > 1e-10 * n and 1e-10 * n < d1 < math.inf else 1e-6
    work.lane[STEP] = result.next_step[owner] if continued else min(h, problem.end - problem.times[0])
    gather(work, work.y, 0, 0)
    sound = evaluate_events(watch, work.time[0], work.state, work.own_params, work.before, 0, n, m)
    return sound and harm == 0.0


@kernel
def _accept(problem: Any, watch: Any, work: Any, method: Any, result: Any) -> Any:
    """Pass outputs and events and move to the end of the step; return a status, or PENDING to go on."""
    n = work.size
    crossing = 0
    if watch.size:
        crossing, failing = look_for_events(watch, work, 1)
        if failing:
            return status.NON_FINITE
    until, ended = work.lane[NEXT_TIME], False
    if crossing or work.lane[OUTPUT] <= until:
        _prepare_dense(work, method)
    if crossing:
        x = run_through_events(method, watch, work, 0)
        ended = x < math.inf
        if ended:
            until = work.lane[TIME] + x * work.lane[TRIED]
    if work.lane[OUTPUT] <= until:
        write_outputs(problem, method, work, result, 0, until)
    for i in range(n):
        work.y[i * LANES] = work.points[(n + i) * LANES]
    for e in range(watch.size):
        work.before[e] = work.after[e]
    work.lane[TIME] = until
    if ended:
        return status.EVENT
    return status.FINISHED if work.output[0] == problem.n_times else status.PENDING


@kernel
def _integrate_one(problem: Any, watch: Any, work: Any, method: Any, result: Any, shared: Any, owner: Any) -> Any:
    """Integrate one trajectory, and return how it ended."""
    if not _begin(problem, watch, work, result, owner):
        return status.NON_FINITE
    linear, retry = False, False
    while shared.stop[0] == 0:
        t = work.lane[TIME]
        work.lane[STEP] = max(work.lane[STEP], SMALLEST * abs(t))
        is_last = t + 1.01 * work.lane[STEP] >= problem.end
        work.lane[TRIED] = problem.end - t if is_last else work.lane[STEP]
        work.lane[NEXT_TIME] = problem.end if is_last else t + work.lane[STEP]
        if not linear:
            _linearize(problem, work, method)
            linear = True
        error = _try_step(problem, work, method)
        ratio = min(1.0 if retry else 6.0, max(0.2, 0.9 * max(error, 1e-10) ** -0.2)) if error < math.inf else 0.1
        work.lane[STEP] = work.lane[TRIED] * ratio
        retry = not error <= 1.0
        if retry:
            work.lane[REJECTED] += 1.0
        else:
            work.lane[ACCEPTED] += 1.0
            code, linear = _accept(problem, watch, work, method, result), False
            if code != status.PENDING:
                return code
        if retry and not work.lane[STEP] > SMALLEST * abs(t):
            return status.STEP_TOO_SMALL if math.isfinite(error) else status.NON_FINITE
        if work.lane[ACCEPTED] + work.lane[REJECTED] >= problem.max_steps:
            return status.TOO_MANY_STEPS
    return status.PENDING


@kernel
def _run(problem: Any, watch: Any, work: Any, method: Any, result: Any, shared: Any, number: Any) -> None:
    while shared.stop[0] == 0:
        place = fetch_add(shared.next, 1)
        if place >= number:
            return
        owner = method.todo[place]
        code = _integrate_one(problem, watch, work, method, result, shared, owner)
        if code != status.PENDING:
            result.method[owner] = status.RODAS5P
            finish(work, result, shared, 0, code)


def _driver(digest: int) -> Any:
    def run_rosenbrock(problem: Any, watch: Any, work: Any, method: Any, result: Any, shared: Any) -> Any:
        """Integrate the trajectories of a list, taken one after another from a counter that all threads share.

        The digest makes part of the key under which Numba keeps the compiled code.
        """
        _run(
            addresses(problem),
            addresses(watch),
            addresses(work),
            addresses(method),
            addresses(result),
            addresses(shared),
            method.todo.size,
        )
        return digest

    return njit_on_disk(nogil=True, error_model="numpy")(run_rosenbrock)


run_rosenbrock = _driver(package_digest())
