"""Explicit Runge-Kutta pairs over lanes: sixteen trajectories at a time, each with its own time, step and error.

All lanes take a step together, and none waits for another: a rejected lane tries again while its neighbours move on,
and a lane whose trajectory has ended takes the next one. The first step is that of
E. Hairer, S. P. Norsett and G. Wanner, *Solving Ordinary Differential Equations I*, section II.4.
"""

from __future__ import annotations

import math
from typing import Any

from wideangle.integrators import _status as status
from wideangle.integrators._calls import addresses, call_rhs, fetch_add, kernel, njit_on_disk
from wideangle.integrators._digest import package_digest
from wideangle.integrators._lanes import (
    LANES,
    bits_mask,
    lanes_abs,
    lanes_fma,
    lanes_sqrt,
    load,
    mask_bits,
    store,
    where_lanes,
)
from wideangle.integrators._math import _lanes_exp, _lanes_log
from wideangle.integrators._outputs import finish, gather, keep_signs, look_for_events, pass_outputs
from wideangle.integrators._records import (
    ACCEPTED,
    EVALUATIONS,
    LANE_ROWS,
    LOG_ERROR,
    NEXT_TIME,
    OUTPUT,
    REJECTED,
    SMALLEST,
    STEP,
    TIME,
)
from wideangle.integrators._steps import advance, control, looks_stiff, propose, run_stages, step_error
from wideangle.integrators._zeros import evaluate_events

# A trajectory is not handed over for fewer steps than this.
_STEPS_LEFT = 50.0
_EPSILON = 2.0**-52


@kernel
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


@kernel
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
    d0 = d1 = d2 = harm = load(work.time, 0) * 0.0
    for i in range(n):
        y, slope = load(work.hand_y, i * LANES), load(work.hand_k, i * LANES)
        inverse = 1.0 / lanes_fma(problem.rtol, lanes_abs(y), problem.atol[i])
        d0, d1 = lanes_fma(y * inverse, y * inverse, d0), lanes_fma(slope * inverse, slope * inverse, d1)
        harm = lanes_fma(slope, 0.0, harm)
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
    # Norms of huge slopes are infinite, and the guess is zero.
    h = where_lanes(h > 0.0, h, _EPSILON * span)
    return where_lanes(harm == 0.0, h, math.nan)


@kernel
def _refill(problem: Any, tableau: Any, watch: Any, work: Any, result: Any, shared: Any) -> Any:
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
            for row in range(LANE_ROWS):
                work.lane[row * LANES + lane] = 0.0
            work.output[lane] = 1
            work.lane[OUTPUT + lane] = problem.times[1]
            work.lane[TIME + lane] = problem.times[0]
            work.lane[STEP + lane] = work.hand_step[place]
            work.lane[LOG_ERROR + lane] = math.log(1e-4)
            work.lane[EVALUATIONS + lane] = 2.0
            gather(work, work.y, 0, lane)
            t, at = problem.times[0], lane * watch.size
            sound = evaluate_events(watch, t, work.state, work.own_params, work.before, at, n, work.n_params)
            if not (sound and math.isfinite(work.hand_step[place])):
                finish(work, result, shared, lane, status.NON_FINITE)
        if work.owner[lane] >= 0:
            in_use |= 1 << lane
    return in_use


@kernel
def _end_lanes(problem: Any, work: Any, result: Any, shared: Any, lanes: Any, ends: Any) -> None:
    """End the trajectories that have arrived, failed or turned out stiff; ``ends`` says in which lanes."""
    ended, failing, stiff = ends
    for lane in range(LANES):
        if not lanes >> lane & 1:
            continue
        t, h = work.lane[TIME + lane], work.lane[STEP + lane]
        if ended >> lane & 1:
            finish(work, result, shared, lane, status.EVENT)
        elif failing >> lane & 1:
            finish(work, result, shared, lane, status.NON_FINITE)
        elif work.output[lane] == problem.n_times:
            finish(work, result, shared, lane, status.FINISHED)
        elif not (h > SMALLEST * abs(t) or work.time[lane] <= 1.0):
            # The last errors stand where the time of stages has no more need to.
            code = status.STEP_TOO_SMALL if math.isfinite(work.time[lane]) else status.NON_FINITE
            finish(work, result, shared, lane, code)
        elif work.lane[ACCEPTED + lane] + work.lane[REJECTED + lane] >= problem.max_steps:
            finish(work, result, shared, lane, status.TOO_MANY_STEPS)
        elif stiff >> lane & 1 and problem.end - t > _STEPS_LEFT * h:
            finish(work, result, shared, lane, status.STIFF)


@kernel
def _run(problem: Any, tableau: Any, watch: Any, work: Any, result: Any, shared: Any) -> None:
    in_use = _refill(problem, tableau, watch, work, result, shared)
    while in_use and shared.stop[0] == 0:
        propose(problem, work)
        run_stages(problem, tableau, work, 1, tableau.last + 1, in_use)
        error = step_error(problem, tableau, work)
        accepted = error <= 1.0
        control(tableau, work, error)
        stiff = crossing = failing = ended = 0
        if problem.watch_stiffness:
            stiff = mask_bits(looks_stiff(tableau, work, accepted)) & in_use
        moving = mask_bits(accepted) & in_use
        if watch.size:
            crossing, failing = look_for_events(watch, work, moving)
            accepted = accepted & bits_mask(~failing)
        outputs = mask_bits(accepted & (load(work.lane, OUTPUT) <= load(work.lane, NEXT_TIME))) & in_use
        if outputs | crossing:
            ended = pass_outputs(problem, tableau, watch, work, result, outputs | crossing, crossing)
        advance(tableau, work, accepted)
        keep_signs(watch, work, moving)
        t, h = load(work.lane, TIME), load(work.lane, STEP)
        n_steps = load(work.lane, ACCEPTED) + load(work.lane, REJECTED)
        going = mask_bits(((SMALLEST * lanes_abs(t) < h) | (error <= 1.0)) & (n_steps < float(problem.max_steps)))
        lanes = (outputs | stiff | ended | failing | ~going) & in_use
        if lanes:
            store(work.time, 0, error)
            _end_lanes(problem, work, result, shared, lanes, (ended, failing, stiff))
            in_use = _refill(problem, tableau, watch, work, result, shared)


def _driver(digest: int) -> Any:
    def run_explicit(problem: Any, tableau: Any, watch: Any, work: Any, result: Any, shared: Any) -> Any:
        """Integrate trajectories, taken one after another from a counter that all threads share, until none is left.

        The digest makes part of the key under which Numba keeps the compiled code.
        """
        _run(
            addresses(problem),
            addresses(tableau),
            addresses(watch),
            addresses(work),
            addresses(result),
            addresses(shared),
        )
        return digest

    return njit_on_disk(nogil=True, error_model="numpy")(run_explicit)


run_explicit = _driver(package_digest())
