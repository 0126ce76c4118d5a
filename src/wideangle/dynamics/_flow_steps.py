"""Steps of an explicit Runge-Kutta pair for one trajectory: stages, error, dense output, the size of the next."""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from wideangle.dynamics._flow_field import DENSE, evaluate


@njit(fastmath={"contract"})  # type: ignore[untyped-decorator]
def _run_stage(tableau: Any, flow: Any, work: Any, step: Any, stage: Any) -> None:
    size = flow.size
    at = 2 * size if stage == tableau.last else size
    for q in range(size):
        work.y[at + q] = 0.0
    for entry in range(tableau.start[stage], tableau.start[stage + 1]):
        place, weight = tableau.place[entry], tableau.weight[entry]
        for q in range(size):
            work.y[at + q] += weight * work.k[place + q]
    for q in range(size):
        work.y[at + q] = work.y[q] + step * work.y[at + q]
    evaluate(flow, work, at, stage * size)


@njit  # type: ignore[untyped-decorator]
def run_stages(tableau: Any, flow: Any, work: Any, step: Any) -> None:
    """Take a step from y[0:], where the velocity is k[0:], to y[2 size:]."""
    work.count[DENSE] = 0
    for stage in range(1, tableau.last + 1):
        _run_stage(tableau, flow, work, step, stage)


@njit(fastmath={"reassoc", "contract"})  # type: ignore[untyped-decorator]
def error_of_step(tableau: Any, flow: Any, work: Any, step: Any) -> Any:
    """Return the error of a step in units of the tolerance, root mean square over the state."""
    size, first, second = flow.size, 0.0, 0.0
    # The middle state is free by now.
    for test in range(2 if tableau.corrected else 1):
        for q in range(size):
            work.y[size + q] = 0.0
        for entry in range(tableau.test_start[test], tableau.test_start[test + 1]):
            place, weight = tableau.test_place[entry], tableau.test_weight[entry]
            for q in range(size):
                work.y[size + q] += weight * work.k[place + q]
        total = 0.0
        for q in range(size):
            larger = max(abs(work.y[q]), abs(work.y[2 * size + q]))
            total += (work.y[size + q] / (flow.atol + flow.rtol * larger)) ** 2
        if test == 0:
            first = total
        else:
            second = total
    # Zero times anything finite.
    harm = 0.0
    for q in range(size):
        harm += 0.0 * work.y[2 * size + q] + 0.0 * work.k[tableau.last * size + q]
    if not tableau.corrected:
        return step * math.sqrt(first / size) + harm
    if first == 0.0:
        return harm
    return step * first / math.sqrt((first + 0.01 * second) * size) + harm


@njit(fastmath={"contract"})  # type: ignore[untyped-decorator]
def run_dense(tableau: Any, flow: Any, work: Any, step: Any) -> None:
    """Make the dense output of the step just taken, unless that was done."""
    if work.count[DENSE] == 1:
        return
    work.count[DENSE] = 1
    size = flow.size
    for stage in range(tableau.last + 1, tableau.stages):
        _run_stage(tableau, flow, work, step, stage)
    for row in range(tableau.dense_rows):
        place = row * size
        for q in range(size):
            work.dense[place + q] = 0.0
        for entry in range(tableau.dense_start[row], tableau.dense_start[row + 1]):
            source, weight = tableau.dense_place[entry], step * tableau.dense_weight[entry]
            for q in range(size):
                work.dense[place + q] += weight * work.k[source + q]


@njit  # type: ignore[untyped-decorator]
def interpolate(tableau: Any, flow: Any, work: Any, x: Any, at: Any) -> None:
    """Put the state at a fraction x of the step into y[at:]."""
    for q in range(flow.size):
        value = 0.0
        for row in range(tableau.dense_rows - 1, -1, -1):
            value = (value + work.dense[row * flow.size + q]) * (x if row % 2 == 0 else 1.0 - x)
        work.y[at + q] = work.y[q] + value


@njit  # type: ignore[untyped-decorator]
def first_step(tableau: Any, flow: Any, work: Any, span: Any) -> Any:
    """Guess a first step from the velocity k[0:] and that a little later (Hairer, Norsett, Wanner, section II.4)."""
    size = flow.size
    d0 = d1 = d2 = 0.0
    for q in range(size):
        unit = flow.atol + flow.rtol * abs(work.y[q])
        d0 += (work.y[q] / unit) ** 2
        d1 += (work.k[q] / unit) ** 2
    d0, d1 = math.sqrt(d0 / size), math.sqrt(d1 / size)
    if not d1 < math.inf:
        return math.nan
    guess = 1e-6 if d0 < 1e-5 or d1 < 1e-5 else 0.01 * d0 / d1
    guess = min(guess, span)
    for q in range(size):
        work.y[size + q] = work.y[q] + guess * work.k[q]
    evaluate(flow, work, size, size)
    for q in range(size):
        unit = flow.atol + flow.rtol * abs(work.y[q])
        d2 += ((work.k[size + q] - work.k[q]) / unit) ** 2
    d2 = math.sqrt(d2 / size) / guess
    if not d2 < math.inf:
        return guess
    largest = max(d1, d2)
    step = max(1e-6, 1e-3 * guess) if largest <= 1e-15 else (0.01 / largest) ** (1.0 / tableau.order)
    return min(min(100.0 * guess, step), span)
