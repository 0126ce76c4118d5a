"""The driver of two-layer networks: gradient flow with its boundaries as events, and gradient descent."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from wideangle.dynamics._flow_boundaries import ACTIVATION, NONE, margin_tolerance, size_of_weights
from wideangle.dynamics._flow_crossings import earliest
from wideangle.dynamics._flow_field import (
    EVALUATIONS,
    EVENTS,
    HELD,
    HINGE,
    OUTPUT,
    REJECTED,
    SLIDES,
    START,
    STEPS,
    Flow,
    Work,
    evaluate,
    restore,
)
from wideangle.dynamics._flow_patterns import pass_zero, vanishes
from wideangle.dynamics._flow_settling import set_rates, settle
from wideangle.dynamics._flow_steps import error_of_step, first_step, interpolate, run_dense, run_stages
from wideangle.integrators._calls import addresses, njit_on_disk
from wideangle.integrators._digest import package_digest

FINISHED, _, STEP_TOO_SMALL, TOO_MANY_STEPS, NON_FINITE, CHATTERING = range(6)
STOPPED = 100
_SMALLEST = 16.0 * 2.0**-52
# Events in a row without time going on, beyond the number of neurons and samples.
_STANDSTILL = 100
# Numbers, more than loops are unrolled to.
_GAP = 64


@njit
def _set_pattern(flow: Any, work: Any) -> None:
    """Read the pattern off the initial state, with relu'(0) = 0."""
    n, h = flow.neurons, flow.samples
    for i in range(n):
        work.alive[i] = 1
        work.passed[i] = 0
        work.slides_of[i] = 0
    for place in range(n * h):
        work.active[place] = 0.0
    work.count[SLIDES] = work.count[HELD] = 0
    evaluate(flow, work, START, START)
    for i in range(n):
        work.alive[i] = 0
        for j in range(h):
            on = work.pre[i * h + j] > 0.0
            work.side[i * h + j] = 1.0 if on else -1.0
            work.active[i * h + j] = 1.0 if on else 0.0
            work.alive[i] += 1 if on else 0
    evaluate(flow, work, START, START)
    for j in range(h):
        work.margin_side[j] = 1.0 if work.margin[j] < 1.0 else -1.0


@njit
def _keep_ends(flow: Any, work: Any, pre: Any, margin: Any) -> None:
    for place in range(flow.neurons * flow.samples):
        pre[place] = work.pre[place]
    for j in range(flow.samples):
        margin[j] = work.margin[j]


@njit
def _begin_step(flow: Any, work: Any, kind: Any, index: Any) -> Any:
    """Prepare the state, the pattern and the velocity at y[0:] for the next step."""
    if flow.stepped:
        evaluate(flow, work, START, START)
        return True
    if work.count[SLIDES] + work.count[HELD] > 0:
        restore(flow, work, START)
    fine = settle(flow, work, kind, index)
    _keep_ends(flow, work, work.pre0, work.margin0)
    return fine


@njit
def _move_to_end(tableau: Any, flow: Any, work: Any) -> None:
    """Make the end of the step the start of the next, with the velocity there."""
    size, last = flow.size, tableau.last * flow.size
    for q in range(size):
        work.y[q] = work.y[2 * size + q]
        work.k[q] = work.k[last + q]
    if flow.stepped:
        return
    for place in range(flow.neurons * flow.samples):
        work.pre0[place], work.rate0[place] = work.pre1[place], work.rate1[place]
    for j in range(flow.samples):
        work.margin0[j], work.margin_rate0[j] = work.margin1[j], work.margin_rate1[j]


@njit
def _move_to_boundary(tableau: Any, flow: Any, work: Any, kind: Any, index: Any, where: Any) -> Any:
    """Make a boundary within the step the start of the next; return its kind, or NONE if it has been dealt with."""
    size = flow.size
    interpolate(tableau, flow, work, where, size)
    is_zero = kind == ACTIVATION and vanishes(flow, work, index)
    before = size_of_weights(flow, work, START, index // flow.samples) if is_zero else 0.0
    for q in range(size):
        work.y[2 * size + q] = work.y[q]
        work.y[q] = work.y[size + q]
    if is_zero:
        pass_zero(flow, work, index, before)
        return NONE
    return kind


@njit
def _find_event(tableau: Any, flow: Any, work: Any, step: Any) -> Any:
    """Return the kind and index of the boundary that a step crosses first, and at which fraction of it."""
    end, last = 2 * flow.size, tableau.last * flow.size
    if work.count[SLIDES] + work.count[HELD] > 0:
        # Else the drift off one boundary might cross another that coincides with it.
        run_dense(tableau, flow, work, step)
        restore(flow, work, end)
        evaluate(flow, work, end, last)
    _keep_ends(flow, work, work.pre1, work.margin1)
    set_rates(flow, work, end, last, work.rate1, work.margin_rate1)
    if flow.loss == HINGE:
        for j in range(flow.samples):
            work.margin_size[j] = margin_tolerance(flow, work, end, j)
    return earliest(tableau, flow, work, step)


@njit
def _write_outputs(tableau: Any, flow: Any, work: Any, out: Any, t: Any, step: Any, until: Any, exact: Any) -> None:
    """Write the output times up to ``until``; ``exact`` is one that is the end of the step, or -1."""
    output, size = work.count[OUTPUT], flow.size
    while output < flow.n_times and flow.times[output] <= until:
        at = 2 * size
        if flow.times[output] != exact:
            run_dense(tableau, flow, work, step)
            interpolate(tableau, flow, work, min((flow.times[output] - t) / step, 1.0), size)
            at = size
        for q in range(size):
            out[output * size + q] = work.y[at + q]
        output += 1
    work.count[OUTPUT] = output


@njit
def _follow(tableau: Any, flow: Any, work: Any, out: Any, stop: Any) -> Any:
    """Follow the flow from time 0 and return the time reached and the status."""
    size, t, end = flow.size, 0.0, flow.times[flow.n_times - 1]
    while work.count[OUTPUT] < flow.n_times and flow.times[work.count[OUTPUT]] <= 0.0:
        for q in range(size):
            out[work.count[OUTPUT] * size + q] = work.y[q]
        work.count[OUTPUT] += 1
    if work.count[OUTPUT] == flow.n_times:
        return t, FINISHED
    if not flow.stepped:
        _set_pattern(flow, work)
    if not _begin_step(flow, work, NONE, START):
        return t, CHATTERING
    step = first_step(tableau, flow, work, end)
    if not step > 0.0:
        return t, NON_FINITE
    previous, retry, standing = 1e-4, False, 0
    while work.count[OUTPUT] < flow.n_times:
        if stop[0] != 0:
            return t, STOPPED
        if work.count[STEPS] + work.count[REJECTED] >= flow.max_steps:
            return t, TOO_MANY_STEPS
        is_last = t + 1.01 * step >= end
        tried = end - t if is_last else step
        run_stages(tableau, flow, work, tried)
        error = error_of_step(tableau, flow, work, tried)
        ratio = 0.1
        if error < math.inf:
            ratio = 0.9 * max(error, 1e-10) ** -tableau.alpha * previous**tableau.beta
            ratio = min(max(ratio, tableau.smallest_ratio), 1.0 if retry else tableau.largest_ratio)
        step = tried * ratio
        if not error <= 1.0:
            work.count[REJECTED] += 1
            retry = True
            if not step > _SMALLEST * t or step < 1e-300:
                return t, STEP_TOO_SMALL if error < math.inf else NON_FINITE
            continue
        work.count[STEPS] += 1
        previous, retry = max(error, 1e-4), False
        kind, index, where = NONE, START, 1.0
        if not flow.stepped:
            kind, index, where = _find_event(tableau, flow, work, tried)
        if kind == NONE:
            t_next = end if is_last else t + tried
            _write_outputs(tableau, flow, work, out, t, tried, t_next, t_next)
            _move_to_end(tableau, flow, work)
            standing = 0
        else:
            t_next = t + where * tried
            _write_outputs(tableau, flow, work, out, t, tried, t_next, -1.0)
            kind = _move_to_boundary(tableau, flow, work, kind, index, where)
            standing = standing + 1 if t_next == t else 0
            if standing > _STANDSTILL + flow.neurons + flow.samples or not _begin_step(flow, work, kind, index):
                return t, CHATTERING
        t = t_next
    return t, FINISHED


@njit
def _descend(flow: Any, work: Any, out: Any, stop: Any, learning_rate: Any, steps: Any) -> Any:
    """Run gradient descent and write the states after so many steps."""
    size, h = flow.size, flow.samples
    done = 0
    for output in range(flow.n_times):
        while done < steps[output]:
            if stop[0] != 0:
                return done * learning_rate, STOPPED
            evaluate(flow, work, START, START)
            # Changes of the pattern, which pre0 remembers.
            for place in range(flow.neurons * h):
                if done > 0 and work.active[place] != work.pre0[place]:
                    work.count[EVENTS] += 1
                work.pre0[place] = work.active[place]
            total = 0.0
            for q in range(size):
                work.y[q] += learning_rate * work.k[q]
                total += 0.0 * work.y[q]
            done += 1
            if total != 0.0:
                return done * learning_rate, NON_FINITE
        for q in range(size):
            out[output * size + q] = work.y[q]
        work.count[OUTPUT] = output + 1
    work.count[STEPS] = done
    return done * learning_rate, FINISHED


def digest() -> int:
    """Return a number that changes with the source of the driver, for the key of what is cached on disk."""
    content = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("_flow*.py")))
    return int.from_bytes(hashlib.sha256(content).digest()[:6], "little") ^ package_digest()


def _drivers(key: int) -> Any:
    def follow(tableau: Any, flow: Any, work: Any, out: Any, stop: Any) -> Any:
        t, status = _follow(addresses(tableau), addresses(flow), addresses(work), out, stop)
        return t, status, key

    def descend(flow: Any, work: Any, out: Any, stop: Any, learning_rate: Any, steps: Any) -> Any:
        t, status = _descend(addresses(flow), addresses(work), out, stop, learning_rate, steps)
        return t, status, key

    return njit_on_disk(nogil=True)(follow), njit_on_disk(nogil=True)(descend)


follow, descend = _drivers(digest())


def apart(array: Any) -> Any:
    """Return a flat copy of an array with unused memory around it.

    Vectorised loops compare addresses when they run, and where two arrays are too close to each other take another
    branch, which adds in another order: the last bits of results would depend on where memory happens to lie.
    """
    memory = np.zeros(array.size + 2 * _GAP, dtype=array.dtype)
    result = memory[_GAP : _GAP + array.size]
    result[:] = array.ravel()
    return result


def make_work(flow: Flow, stages: int, dense_rows: int) -> Work:
    """Allocate what one trajectory needs."""
    n, h, d, size = flow.neurons, flow.samples, flow.features, flow.size
    boundaries = 0 if flow.stepped else n * h
    exact = not flow.stepped

    def zeros(length: int) -> Any:
        return apart(np.zeros(max(length, 1)))

    def integers(length: int) -> Any:
        return apart(np.zeros(max(length, 1), dtype=np.int64))

    held = h if exact and flow.loss == HINGE else 0
    return Work(
        zeros(3 * size),
        zeros(stages * size),
        zeros(dense_rows * size),
        zeros(boundaries),
        zeros(n * h),
        integers(n),
        integers(n),
        integers(boundaries + h),
        zeros(n * h),
        zeros(n * h),
        zeros(boundaries),
        zeros(boundaries),
        zeros(boundaries),
        zeros(h),
        zeros(h),
        zeros(h),
        zeros(h),
        zeros(h),
        zeros(h),
        zeros(h),
        zeros(h),
        zeros(h),
        integers(8),
        integers(flow.capacity),
        integers(flow.capacity),
        integers(n),
        zeros(flow.capacity * d),
        zeros(flow.capacity),
        integers(flow.capacity + held),
        zeros(flow.capacity),
        integers(held),
        zeros(held),
        zeros(held * held),
        zeros(max(d, 2 * n * dense_rows)),
    )


__all__ = ["CHATTERING", "EVALUATIONS", "FINISHED", "STOPPED", "apart", "descend", "digest", "follow", "make_work"]
