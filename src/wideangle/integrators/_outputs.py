"""What happens within a step of the explicit pairs: output times and events, on the dense output."""

from __future__ import annotations

import math
from typing import Any

from wideangle.integrators import _status as status
from wideangle.integrators._calls import kernel
from wideangle.integrators._lanes import LANES, load, store
from wideangle.integrators._records import ACCEPTED, EVALUATIONS, NEXT_TIME, OUTPUT, REJECTED, STEP, TIME, TRIED
from wideangle.integrators._steps import run_stages, weighted
from wideangle.integrators._zeros import crosses, earliest, evaluate_events, next_fraction, record_event

_MOST_ITERATIONS = 200


@kernel
def _run_dense(problem: Any, tableau: Any, work: Any, lanes: Any) -> None:
    """Prepare the dense output of the step: its further stages and its factors."""
    n = work.size
    run_stages(problem, tableau, work, tableau.last + 1, tableau.stages, lanes)
    h = load(work.lane, TRIED)
    for row in range(tableau.dense_rows):
        for i in range(n):
            factor = weighted(tableau.dense_start, tableau.dense_place, tableau.dense_weight, row, work.k, i)
            store(work.dense, (row * n + i) * LANES, h * factor)


@kernel
def _interpolate(tableau: Any, work: Any, lane: Any, x: Any, i: Any) -> Any:
    """Return a component of a lane at a fraction of the step."""
    n = work.size
    value = 0.0
    for row in range(tableau.dense_rows - 1, -1, -1):
        value = (value + work.dense[(row * n + i) * LANES + lane]) * (x if row % 2 == 0 else 1.0 - x)
    return work.y[i * LANES + lane] + value


@kernel
def write_outputs(problem: Any, tableau: Any, work: Any, result: Any, lane: Any, until: Any) -> None:
    """Write the output times of a lane up to a time within its step."""
    n, times, owner = work.size, problem.times, work.owner[lane]
    t, h, end = work.lane[TIME + lane], work.lane[TRIED + lane], work.lane[NEXT_TIME + lane]
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
    work.lane[OUTPUT + lane] = times[output] if output < problem.n_times else math.inf


@kernel
def gather(work: Any, block: Any, at: Any, lane: Any) -> None:
    """Copy the state of a lane from a block, and its parameters, to where functions of one trajectory read them."""
    for i in range(work.size):
        work.state[i] = block[at + i * LANES + lane]
    for i in range(work.n_params):
        work.own_params[i] = work.params[i * LANES + lane]


@kernel
def look_for_events(watch: Any, work: Any, lanes: Any) -> Any:
    """Evaluate the events at the ends of the steps; return the lanes where one changes sign and those that fail."""
    crossing = failing = 0
    for lane in range(LANES):
        if not lanes >> lane & 1:
            continue
        gather(work, work.points, work.size * LANES, lane)
        at, t = lane * watch.size, work.lane[NEXT_TIME + lane]
        if not evaluate_events(watch, t, work.state, work.own_params, work.after, at, work.size, work.n_params):
            failing |= 1 << lane
            continue
        for e in range(watch.size):
            if crosses(work.before[at + e], work.after[at + e], watch.direction[e]):
                crossing |= 1 << lane
                break
    return crossing, failing


@kernel
def keep_signs(watch: Any, work: Any, lanes: Any) -> None:
    """Make the ends of the steps of these lanes the begins of the next."""
    for at in range(LANES * watch.size):
        if lanes >> at // watch.size & 1:
            work.before[at] = work.after[at]


@kernel
def _evaluate_within(tableau: Any, watch: Any, work: Any, lane: Any, x: Any) -> None:
    """Evaluate the events at a fraction of the step."""
    for i in range(work.size):
        work.state[i] = _interpolate(tableau, work, lane, x, i)
    t = work.lane[TIME + lane] + x * work.lane[TRIED + lane]
    evaluate_events(watch, t, work.state, work.own_params, work.trial, 0, work.size, work.n_params)


@kernel
def _locate(tableau: Any, watch: Any, work: Any, lane: Any, e: Any) -> Any:
    """Return the fraction of the step at which event e has just changed its sign."""
    x1, f1 = 1.0, work.after[lane * watch.size + e]
    x2, f2 = 0.0, work.before[lane * watch.size + e]
    end, fraction = x1, 0.5
    t, h = work.lane[TIME + lane], work.lane[TRIED + lane]
    # A fraction of half a unit in the last place of the time, or of one.
    finest = 2.0**-53 * max(1.0, abs(t) / h)
    rises = f2 < 0.0
    for _ in range(_MOST_ITERATIONS):
        width = abs(x2 - x1)
        if f1 == 0.0 or width <= 2.0 * finest:
            break
        least = min(finest / width, 0.5)
        x = x1 + min(max(fraction, least), 1.0 - least) * (x2 - x1)
        _evaluate_within(tableau, watch, work, lane, x)
        f = work.trial[e]
        if (f >= 0.0) == (f1 >= 0.0) and (f <= 0.0) == (f1 <= 0.0):
            x3, f3 = x1, f1
        else:
            x3, f3, x2, f2 = x2, f2, x1, f1
        x1, f1 = x, f
        if f >= 0.0 if rises else f <= 0.0:
            end = x
        fraction = next_fraction(x1, f1, x2, f2, x3, f3)
    return end


@kernel
def run_through_events(tableau: Any, watch: Any, work: Any, lane: Any) -> Any:
    """Record the events of a step in their order, up to a terminal one; return its fraction, or infinity."""
    at = lane * watch.size
    gather(work, work.y, 0, lane)
    for e in range(watch.size):
        work.zero[e] = math.inf
        if crosses(work.before[at + e], work.after[at + e], watch.direction[e]):
            work.zero[e] = _locate(tableau, watch, work, lane, e)
    ended = math.inf
    while True:
        e = earliest(work.zero, watch.size)
        if e < 0 or work.zero[e] > ended:
            return ended
        x = work.zero[e]
        work.zero[e] = math.inf
        for i in range(work.size):
            work.state[i] = _interpolate(tableau, work, lane, x, i)
        t = work.lane[TIME + lane] + x * work.lane[TRIED + lane]
        record_event(watch, work.owner[lane], e, t, work.state, work.size)
        if watch.terminal[e] != 0:
            ended = x


@kernel
def pass_outputs(problem: Any, tableau: Any, watch: Any, work: Any, result: Any, lanes: Any, crossing: Any) -> Any:
    """Write the outputs that the steps of these lanes pass and run through their events; return the lanes that end."""
    inside, ended = crossing, 0
    for lane in range(LANES):
        if lanes >> lane & 1 and work.lane[OUTPUT + lane] < work.lane[NEXT_TIME + lane]:
            inside |= 1 << lane
        if inside >> lane & 1:
            work.lane[EVALUATIONS + lane] += tableau.stages - tableau.last - 1
    if inside:
        _run_dense(problem, tableau, work, inside)
    for lane in range(LANES):
        until = work.lane[NEXT_TIME + lane]
        if crossing >> lane & 1:
            x = run_through_events(tableau, watch, work, lane)
            if x < math.inf:
                ended |= 1 << lane
                until = work.lane[TIME + lane] + x * work.lane[TRIED + lane]
        if lanes >> lane & 1:
            write_outputs(problem, tableau, work, result, lane, until)
        if ended >> lane & 1:
            work.lane[NEXT_TIME + lane] = until
    return ended


@kernel
def finish(work: Any, result: Any, shared: Any, lane: Any, code: Any) -> None:
    """Record how the trajectory of a lane ended, and free the lane."""
    owner = work.owner[lane]
    result.status[owner] = code
    result.steps[owner] = int(work.lane[ACCEPTED + lane])
    result.rejected[owner] = int(work.lane[REJECTED + lane])
    result.evaluations[owner] = int(work.lane[EVALUATIONS + lane])
    result.final_time[owner] = work.lane[TIME + lane]
    if code == status.STIFF:
        result.next_step[owner] = work.lane[STEP + lane]
        result.next_output[owner] = work.output[lane]
        for i in range(work.size):
            result.next_y[owner * work.size + i] = work.y[i * LANES + lane]
    else:
        shared.done[work.thread] += 1
    work.owner[lane] = -1
