"""Explicit Runge-Kutta pairs over lanes: sixteen trajectories at a time, each with its own time, step and error.

All lanes take a step together, and none waits for another: a rejected lane tries again while its neighbours move on,
and a lane whose trajectory has ended takes the next one. The step control is that of E. Hairer, S. P. Norsett and
G. Wanner, *Solving Ordinary Differential Equations I*, section II.4, and so are the first step and, of volume II,
section IV.2, the test for stiffness.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from wideangle.integrators import _status as status
from wideangle.integrators._calls import addresses, call_rhs, fetch_add
from wideangle.integrators._compilation import package_digest
from wideangle.integrators._lanes import (
    LANES,
    lanes_abs,
    lanes_fma,
    lanes_sqrt,
    load,
    mask_bits,
    store,
    where_lanes,
)
from wideangle.integrators._math import _lanes_exp, _lanes_log

# Rows of Work.lane: one number a lane.
_TIME, _STEP, _TRIED, _NEXT_TIME, _LOG_ERROR, _OUTPUT, _ACCEPTED, _REJECTED, _EVALUATIONS, _STIFF, _CALM, _RETRY = (
    LANES * row for row in range(12)
)
_LANE_ROWS = 12
_SAFETY = 0.9
_EPSILON = 2.0**-52
# A step must stay this many units in the last place of the time.
_SMALLEST = 16.0 * _EPSILON
# Steps in a row that the stability bound has to limit, and as many without that before they are forgotten (DOP853).
_STIFF_STEPS, _CALM_STEPS = 15, 6
# A trajectory is not handed over for fewer steps than this.
_STEPS_LEFT = 50.0


class Problem(NamedTuple):
    """What all threads read."""

    rhs: int
    number: int
    y0: Any
    own_y0: bool  # or all begin with the same
    params: Any
    own_params: bool
    times: Any
    n_times: int
    end: float
    rtol: float
    atol: Any
    max_steps: int
    watch_stiffness: bool
    hand: int


class Shared(NamedTuple):
    """How the threads and their starter speak with each other."""

    next: Any  # the next trajectory to begin
    done: Any  # trajectories ended, by thread
    stop: Any  # not 0: stop at once


class Result(NamedTuple):
    """What the threads fill in, a row a trajectory."""

    y: Any
    status: Any
    method: Any
    steps: Any
    rejected: Any
    evaluations: Any
    final_time: Any
    final_step: Any
    final_y: Any


class Work(NamedTuple):
    """What one thread works on. Blocks are [component][lane]."""

    thread: int
    size: int
    n_params: int
    y: Any
    points: Any  # the point of a stage, and the end of the step
    k: Any
    params: Any
    time: Any
    lane: Any
    dense: Any
    scratch: Any
    owner: Any  # the trajectory in each lane, or -1
    output: Any  # index of the next output time of each lane
    # The next trajectories, begun together.
    hand: Any  # [next place, number]
    hand_y: Any
    hand_k: Any
    hand_params: Any
    hand_step: Any
    hand_owner: Any


def make_work(thread: int, size: int, n_params: int, stages: int, dense_rows: int) -> Work:
    """Allocate what one thread needs."""
    block = size * LANES

    def zeros(length: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        # Whole vectors on cache lines.
        memory = np.zeros(length + 8)
        first = (-memory.ctypes.data // 8) % 8
        return memory[first : first + length]

    return Work(
        thread,
        size,
        n_params,
        zeros(block),
        zeros(2 * block),
        zeros(stages * block),
        zeros(n_params * LANES),
        zeros(LANES),
        zeros(_LANE_ROWS * LANES),
        zeros(dense_rows * block),
        zeros(2 * size + n_params),
        np.full(LANES, -1),
        np.zeros(LANES, dtype=np.int64),
        np.zeros(2, dtype=np.int64),
        zeros(block),
        zeros(block),
        zeros(n_params * LANES),
        zeros(LANES),
        np.full(LANES, -1),
    )


@njit  # type: ignore[untyped-decorator]
def _weighted(start: Any, place: Any, weight: Any, row: Any, k: Any, component: Any) -> Any:
    """Return the sum of slopes that a row of a sparse matrix gives for a component."""
    first = start[row]
    total = weight[first] * load(k, place[first] + component * LANES)
    for entry in range(first + 1, start[row + 1]):
        total = lanes_fma(weight[entry], load(k, place[entry] + component * LANES), total)
    return total


@njit  # type: ignore[untyped-decorator]
def _run_stages(problem: Any, tableau: Any, work: Any, first: Any, stop: Any, lanes: Any) -> None:
    """Evaluate stages of the step tried."""
    t, h = load(work.lane, _TIME), load(work.lane, _TRIED)
    for stage in range(first, stop):
        at = work.size * LANES if stage == tableau.last else 0
        for i in range(work.size):
            slope = _weighted(tableau.start, tableau.place, tableau.weight, stage, work.k, i)
            store(work.points, at + i * LANES, lanes_fma(h, slope, load(work.y, i * LANES)))
        store(work.time, 0, lanes_fma(tableau.c[stage], h, t))
        call_rhs(
            problem.rhs,
            work.time,
            work.points,
            at,
            work.params,
            work.k,
            stage * work.size * LANES,
            work.size,
            work.n_params,
            lanes,
            work.scratch,
        )


@njit  # type: ignore[untyped-decorator]
def _error(problem: Any, tableau: Any, work: Any) -> Any:
    """Return the error of the step in units of the tolerance, NaN where anything is not finite."""
    n = work.size
    first = second = harm = load(work.lane, _TIME) * 0.0
    for i in range(n):
        y, end = load(work.y, i * LANES), load(work.points, (n + i) * LANES)
        y_size, end_size = lanes_abs(y), lanes_abs(end)
        larger = where_lanes(y_size < end_size, end_size, y_size)
        inverse = 1.0 / lanes_fma(problem.rtol, larger, problem.atol[i])
        e = _weighted(tableau.test_start, tableau.test_place, tableau.test_weight, 0, work.k, i) * inverse
        first = lanes_fma(e, e, first)
        if tableau.corrected:
            e = _weighted(tableau.test_start, tableau.test_place, tableau.test_weight, 1, work.k, i) * inverse
            second = lanes_fma(e, e, second)
        # Zero times anything finite.
        harm = lanes_fma(end, 0.0, lanes_fma(load(work.k, (tableau.last * n + i) * LANES), 0.0, harm))
    h = load(work.lane, _TRIED)
    if not tableau.corrected:
        return lanes_fma(h, lanes_sqrt(first / n), harm)
    divisor = lanes_sqrt(lanes_fma(0.01, second, first) * n)
    ratio = where_lanes(first == 0.0, first, first / divisor)
    return lanes_fma(h, ratio, harm)


@njit  # type: ignore[untyped-decorator]
def _looks_stiff(tableau: Any, work: Any, accepted: Any) -> Any:
    """Count the steps that stability limits, and return the lanes that have had enough of them."""
    n = work.size
    slopes = points = load(work.lane, _TIME) * 0.0
    for i in range(n):
        end = load(work.k, (tableau.last * n + i) * LANES)
        difference = end - load(work.k, ((tableau.last - 1) * n + i) * LANES)
        slopes = lanes_fma(difference, difference, slopes)
        distance = _weighted(tableau.test_start, tableau.test_place, tableau.test_weight, 2, work.k, i)
        points = lanes_fma(distance, distance, points)
    # |slopes| / |points| estimates h times the largest eigenvalue; points carry a factor 1/h.
    limited = points * (tableau.stability * tableau.stability) < slopes
    stiff, calm = load(work.lane, _STIFF), load(work.lane, _CALM)
    calm = where_lanes(limited, 0.0, calm + 1.0)
    stiff = where_lanes(limited, stiff + 1.0, where_lanes(calm < _CALM_STEPS, stiff, 0.0))
    store(work.lane, _STIFF, where_lanes(accepted, stiff, load(work.lane, _STIFF)))
    store(work.lane, _CALM, where_lanes(accepted, calm, load(work.lane, _CALM)))
    return (float(_STIFF_STEPS) <= stiff) & accepted


@njit  # type: ignore[untyped-decorator]
def _run_dense(problem: Any, tableau: Any, work: Any, lanes: Any) -> None:
    """Prepare the dense output of the step: its further stages and its factors."""
    n = work.size
    _run_stages(problem, tableau, work, tableau.last + 1, tableau.stages, lanes)
    h = load(work.lane, _TRIED)
    for row in range(tableau.dense_rows):
        for i in range(n):
            factor = _weighted(tableau.dense_start, tableau.dense_place, tableau.dense_weight, row, work.k, i)
            store(work.dense, (row * n + i) * LANES, h * factor)


@njit  # type: ignore[untyped-decorator]
def _interpolate(tableau: Any, work: Any, lane: Any, x: Any, i: Any) -> Any:
    """Return a component of a lane at a fraction of the step."""
    n = work.size
    value = 0.0
    for row in range(tableau.dense_rows - 1, -1, -1):
        value = (value + work.dense[(row * n + i) * LANES + lane]) * (x if row % 2 == 0 else 1.0 - x)
    return work.y[i * LANES + lane] + value


@njit  # type: ignore[untyped-decorator]
def _write_outputs(problem: Any, tableau: Any, work: Any, result: Any, lane: Any, until: Any) -> None:
    """Write the output times of a lane up to a time within its step."""
    n, times, owner = work.size, problem.times, work.owner[lane]
    t, h, end = work.lane[_TIME + lane], work.lane[_TRIED + lane], work.lane[_NEXT_TIME + lane]
    output = work.output[lane]
    while output < problem.n_times and times[output] <= until:
        x = (times[output] - t) / h
        for i in range(n):
            if times[output] == end:
                result.y[(owner * problem.n_times + output) * n + i] = work.points[(n + i) * LANES + lane]
            else:
                result.y[(owner * problem.n_times + output) * n + i] = _interpolate(tableau, work, lane, x, i)
        output += 1
    work.output[lane] = output
    work.lane[_OUTPUT + lane] = times[output] if output < problem.n_times else math.inf


@njit  # type: ignore[untyped-decorator]
def _finish(work: Any, result: Any, shared: Any, lane: Any, code: Any) -> None:
    """Record how the trajectory of a lane ended, and free the lane."""
    owner = work.owner[lane]
    result.status[owner] = code
    result.steps[owner] = int(work.lane[_ACCEPTED + lane])
    result.rejected[owner] = int(work.lane[_REJECTED + lane])
    result.evaluations[owner] = int(work.lane[_EVALUATIONS + lane])
    result.final_time[owner] = work.lane[_TIME + lane]
    if code == status.STIFF:
        result.final_step[owner] = work.lane[_STEP + lane]
        for i in range(work.size):
            result.final_y[owner * work.size + i] = work.y[i * LANES + lane]
    work.owner[lane] = -1
    shared.done[work.thread] += 1


@njit  # type: ignore[untyped-decorator]
def _begin_hand(problem: Any, tableau: Any, work: Any, result: Any, shared: Any) -> Any:
    """Take the next trajectories and compute their first slopes and steps; return False where none is left."""
    n, n_all = work.size, problem.number
    first = fetch_add(shared.next, problem.hand)
    number = min(problem.hand, n_all - first)
    if number <= 0:
        return False
    for lane in range(LANES):
        owner = first + min(lane, number - 1)
        work.hand_owner[lane] = owner
        row = owner if problem.own_y0 else 0
        for i in range(n):
            work.hand_y[i * LANES + lane] = problem.y0[row * n + i]
            if lane < number:
                result.y[owner * problem.n_times * n + i] = problem.y0[row * n + i]
        row = owner if problem.own_params else 0
        for i in range(work.n_params):
            work.hand_params[i * LANES + lane] = problem.params[row * work.n_params + i]
    store(work.hand_step, 0, _first_step(problem, tableau, work, (1 << number) - 1))
    work.hand[0], work.hand[1] = 0, number
    return True


@njit  # type: ignore[untyped-decorator]
def _first_step(problem: Any, tableau: Any, work: Any, lanes: Any) -> Any:
    """Guess the first step of all trajectories of the hand from two slopes; NaN where the first is not finite."""
    n, t0 = work.size, problem.times[0]
    span = problem.end - t0
    store(work.time, 0, t0)
    call_rhs(
        problem.rhs,
        work.time,
        work.hand_y,
        0,
        work.hand_params,
        work.hand_k,
        0,
        n,
        work.n_params,
        lanes,
        work.scratch,
    )
    d0 = d1 = d2 = load(work.time, 0) * 0.0
    for i in range(n):
        y, slope = load(work.hand_y, i * LANES), load(work.hand_k, i * LANES)
        inverse = 1.0 / lanes_fma(problem.rtol, lanes_abs(y), problem.atol[i])
        d0, d1 = lanes_fma(y * inverse, y * inverse, d0), lanes_fma(slope * inverse, slope * inverse, d1)
    d0, d1 = lanes_sqrt(d0 / n), lanes_sqrt(d1 / n)
    small = (d0 < 1e-5) | (d1 < 1e-5)
    h0 = where_lanes(small, 1e-6, 0.01 * d0 / d1)
    h0 = where_lanes(h0 < span, h0, span)
    for i in range(n):
        store(work.points, i * LANES, lanes_fma(h0, load(work.hand_k, i * LANES), load(work.hand_y, i * LANES)))
    store(work.time, 0, t0 + h0)
    # The second slope goes where the hand is not: stage slots belong to the lanes.
    call_rhs(
        problem.rhs,
        work.time,
        work.points,
        0,
        work.hand_params,
        work.dense,
        0,
        n,
        work.n_params,
        lanes,
        work.scratch,
    )
    for i in range(n):
        inverse = 1.0 / lanes_fma(problem.rtol, lanes_abs(load(work.hand_y, i * LANES)), problem.atol[i])
        change = (load(work.dense, i * LANES) - load(work.hand_k, i * LANES)) * inverse
        d2 = lanes_fma(change, change, d2)
    d2 = lanes_sqrt(d2 / n) / h0
    largest = where_lanes(d1 < d2, d2, d1)
    power = _lanes_exp((math.log(0.01) - _lanes_log(largest)) / tableau.order)
    smooth = largest <= 1e-15
    least = where_lanes(h0 * 1e-3 > 1e-6, h0 * 1e-3, 1e-6)
    h1 = where_lanes(smooth, least, power)
    h = where_lanes(h1 < 100.0 * h0, h1, 100.0 * h0)
    h = where_lanes(h < span, h, span)
    # Where the second slope is not finite the first guess has to do; where the first is not, nothing does.
    h = where_lanes(d2 < math.inf, h, h0)
    return where_lanes(d1 < math.inf, h, math.nan)


@njit  # type: ignore[untyped-decorator]
def _refill(problem: Any, tableau: Any, work: Any, result: Any, shared: Any) -> Any:
    """Give every free lane the next trajectory, and return the lanes in use as a bit set."""
    n, in_use = work.size, 0
    for lane in range(LANES):
        while work.owner[lane] < 0:
            if work.hand[0] == work.hand[1] and not _begin_hand(problem, tableau, work, result, shared):
                break
            place = work.hand[0]
            work.hand[0] += 1
            work.owner[lane] = work.hand_owner[place]
            for i in range(n):
                work.y[i * LANES + lane] = work.hand_y[i * LANES + place]
                work.k[i * LANES + lane] = work.hand_k[i * LANES + place]
            for i in range(work.n_params):
                work.params[i * LANES + lane] = work.hand_params[i * LANES + place]
            for row in range(_LANE_ROWS):
                work.lane[row * LANES + lane] = 0.0
            work.output[lane] = 1
            work.lane[_OUTPUT + lane] = problem.times[1]
            work.lane[_TIME + lane] = problem.times[0]
            work.lane[_STEP + lane] = work.hand_step[place]
            work.lane[_LOG_ERROR + lane] = math.log(1e-4)
            work.lane[_EVALUATIONS + lane] = 2.0
            if not math.isfinite(work.hand_step[place]):
                _finish(work, result, shared, lane, status.NON_FINITE)
        if work.owner[lane] >= 0:
            in_use |= 1 << lane
    return in_use


@njit  # type: ignore[untyped-decorator]
def _propose(problem: Any, work: Any) -> None:
    """Set the step to try and where it ends; the last one ends on the last output time."""
    t, h, end = load(work.lane, _TIME), load(work.lane, _STEP), problem.end
    is_last = end <= lanes_fma(1.01, h, t)
    store(work.lane, _TRIED, where_lanes(is_last, end - t, h))
    store(work.lane, _NEXT_TIME, where_lanes(is_last, end, t + h))


@njit  # type: ignore[untyped-decorator]
def _control(tableau: Any, work: Any, error: Any) -> None:
    """Set the next step from the error of the one tried, and count."""
    accepted = error <= 1.0
    log_error = _lanes_log(where_lanes(error < 1e-10, 1e-10, error))
    exponent = tableau.beta * load(work.lane, _LOG_ERROR) - tableau.alpha * log_error
    ratio = _SAFETY * _lanes_exp(exponent)
    ratio = where_lanes(ratio < tableau.smallest_ratio, tableau.smallest_ratio, ratio)
    # No growth right after a rejection, and none without acceptance.
    retry = load(work.lane, _RETRY) > 0.0
    largest = where_lanes(retry, 1.0, tableau.largest_ratio)
    ratio = where_lanes(ratio < largest, ratio, largest)
    ratio = where_lanes(error < math.inf, ratio, 0.1)
    store(work.lane, _STEP, load(work.lane, _TRIED) * ratio)
    kept = where_lanes(log_error < math.log(1e-4), math.log(1e-4), log_error)
    store(work.lane, _LOG_ERROR, where_lanes(accepted, kept, load(work.lane, _LOG_ERROR)))
    store(work.lane, _RETRY, where_lanes(accepted, 0.0, 1.0))
    store(work.lane, _ACCEPTED, load(work.lane, _ACCEPTED) + where_lanes(accepted, 1.0, 0.0))
    store(work.lane, _REJECTED, load(work.lane, _REJECTED) + where_lanes(accepted, 0.0, 1.0))
    store(work.lane, _EVALUATIONS, load(work.lane, _EVALUATIONS) + tableau.last)


@njit  # type: ignore[untyped-decorator]
def _advance(tableau: Any, work: Any, accepted: Any) -> None:
    """Move the accepted lanes to the ends of their steps."""
    n = work.size
    for i in range(n):
        end, slope = load(work.points, (n + i) * LANES), load(work.k, (tableau.last * n + i) * LANES)
        store(work.y, i * LANES, where_lanes(accepted, end, load(work.y, i * LANES)))
        store(work.k, i * LANES, where_lanes(accepted, slope, load(work.k, i * LANES)))
    store(work.lane, _TIME, where_lanes(accepted, load(work.lane, _NEXT_TIME), load(work.lane, _TIME)))


@njit  # type: ignore[untyped-decorator]
def _reach_outputs(problem: Any, tableau: Any, work: Any, result: Any, lanes: Any) -> None:
    """Write the outputs that the steps of these lanes pass."""
    inside = 0
    for lane in range(LANES):
        if lanes >> lane & 1 and work.lane[_OUTPUT + lane] < work.lane[_NEXT_TIME + lane]:
            inside |= 1 << lane
            work.lane[_EVALUATIONS + lane] += tableau.stages - tableau.last - 1
    if inside:
        _run_dense(problem, tableau, work, inside)
    for lane in range(LANES):
        if lanes >> lane & 1:
            _write_outputs(problem, tableau, work, result, lane, work.lane[_NEXT_TIME + lane])


@njit  # type: ignore[untyped-decorator]
def _end_lanes(problem: Any, work: Any, result: Any, shared: Any, lanes: Any, error: Any, stiff: Any) -> None:
    """End the trajectories that have arrived, failed or turned out stiff."""
    store(work.time, 0, error)
    for lane in range(LANES):
        if not lanes >> lane & 1:
            continue
        t, h = work.lane[_TIME + lane], work.lane[_STEP + lane]
        left = problem.end - t
        if work.output[lane] == problem.n_times:
            _finish(work, result, shared, lane, status.FINISHED)
        elif work.time[lane] > 1.0 and h < _SMALLEST * abs(t):
            _finish(work, result, shared, lane, status.STEP_TOO_SMALL)
        elif not work.time[lane] <= 1.0 and not h > _SMALLEST * abs(t):
            _finish(work, result, shared, lane, status.NON_FINITE)
        elif work.lane[_ACCEPTED + lane] + work.lane[_REJECTED + lane] >= problem.max_steps:
            _finish(work, result, shared, lane, status.TOO_MANY_STEPS)
        elif stiff >> lane & 1 and left > _STEPS_LEFT * h:
            _finish(work, result, shared, lane, status.STIFF)


@njit  # type: ignore[untyped-decorator]
def _run(problem: Any, tableau: Any, work: Any, result: Any, shared: Any) -> None:
    in_use = _refill(problem, tableau, work, result, shared)
    while in_use and shared.stop[0] == 0:
        _propose(problem, work)
        _run_stages(problem, tableau, work, 1, tableau.last + 1, in_use)
        error = _error(problem, tableau, work)
        accepted = error <= 1.0
        _control(tableau, work, error)
        stiff = 0
        if problem.watch_stiffness:
            stiff = mask_bits(_looks_stiff(tableau, work, accepted)) & in_use
        end = load(work.lane, _NEXT_TIME)
        outputs = mask_bits(accepted & (load(work.lane, _OUTPUT) <= end)) & in_use
        if outputs:
            _reach_outputs(problem, tableau, work, result, outputs)
        _advance(tableau, work, accepted)
        t, h = load(work.lane, _TIME), load(work.lane, _STEP)
        n_steps = load(work.lane, _ACCEPTED) + load(work.lane, _REJECTED)
        going = (_SMALLEST * lanes_abs(t) < h) & (n_steps < float(problem.max_steps))
        ends = (outputs | stiff | ~mask_bits(going)) & in_use
        if ends:
            _end_lanes(problem, work, result, shared, ends, error, stiff)
            in_use = _refill(problem, tableau, work, result, shared)


def _driver(digest: int) -> Any:
    def run_explicit(problem: Any, tableau: Any, work: Any, result: Any, shared: Any) -> Any:
        """Integrate trajectories, taken one after another from a counter that all threads share, until none is left.

        The digest makes part of the key under which Numba keeps the compiled code.
        """
        _run(addresses(problem), addresses(tableau), addresses(work), addresses(result), addresses(shared))
        return digest

    return njit(nogil=True, cache=True)(run_explicit)


run_explicit = _driver(package_digest())
