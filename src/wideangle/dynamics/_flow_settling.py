"""With which pattern the flow goes on from a boundary."""

from __future__ import annotations

from typing import Any

from numba import njit

from wideangle.dynamics._flow_boundaries import (
    ACTIVATION,
    HOLD,
    MARGIN,
    NONE,
    READOUT,
    ROUNDINGS,
    SLIDE,
    margin_rate_tolerance,
    margin_tolerance,
    outside,
    size_of_weights,
)
from wideangle.dynamics._flow_field import EPSILON, EVENTS, HELD, HINGE, SLIDES, START, evaluate, margin_rate
from wideangle.dynamics._flow_patterns import apply, cross, let_go, release


@njit
def settle(flow: Any, work: Any, kind: Any, index: Any) -> Any:
    """Find the pattern with which the flow goes on from y[0:] after a boundary was reached, and the velocity k[0:].

    Boundaries change one at a time until none is left that the velocity pushes across, and no coefficient of a
    sliding one lies outside [0, 1]. Returns False if that does not come to an end.
    """
    n, h = flow.neurons, flow.samples
    for place in range(n * h + h):
        work.touched[place] = 0
    if kind != NONE:
        if kind in (SLIDE, HOLD, READOUT):
            evaluate(flow, work, START, START)
        if not apply(flow, work, kind, index):
            return False
    for turn in range(400 + 8 * (n + h)):
        evaluate(flow, work, START, START)
        set_rates(flow, work, START, START, work.rate0, work.margin_rate0)
        if _drop(flow, work, turn):
            continue
        pushed, at = _find_push(flow, work)
        if pushed == NONE:
            return True
        if not cross(flow, work, pushed, at):
            return False
    return False


@njit
def _drop(flow: Any, work: Any, turn: Any) -> Any:
    """Let go one of what slides or is held with a coefficient outside [0, 1]; return whether there was one."""
    # Each time beginning with another one, so that no two of them take turns for ever.
    for place in range(work.count[SLIDES]):
        entry = (place + turn) % work.count[SLIDES]
        value = work.coefficient[entry]
        if outside(value):
            work.count[EVENTS] += 1
            release(flow, work, entry, 1.0 if value > 0.5 else -1.0)
            return True
    for place in range(work.count[HELD]):
        entry = (place + turn) % work.count[HELD]
        value = work.held_coefficient[entry]
        if outside(value):
            work.count[EVENTS] += 1
            let_go(flow, work, entry, 1.0 if value > 0.5 else -1.0)
            return True
    return False


@njit
def _find_push(flow: Any, work: Any) -> Any:
    """Return a boundary on which the state lies and across which its velocity points, if there is one."""
    n, h = flow.neurons, flow.samples
    total = 0.0
    for j in range(h):
        total += abs(work.force[j]) * flow.norm[j]
    for i in range(n):
        if work.alive[i] == 0:
            continue
        unit = ROUNDINGS * EPSILON * size_of_weights(flow, work, START, i)
        push = ROUNDINGS * EPSILON * abs(work.y[n * flow.features + i]) * total
        for j in range(h):
            index = i * h + j
            if work.side[index] * work.pre[index] <= unit * flow.norm[j] and (
                work.side[index] * work.rate0[index] < -push * flow.norm[j]
            ):
                return ACTIVATION, index
    if flow.loss == HINGE:
        for j in range(h):
            side, tolerance = work.margin_side[j], margin_tolerance(flow, work, START, j)
            if side * (1.0 - work.margin[j]) <= tolerance and -side * work.margin_rate0[j] < -margin_rate_tolerance(
                flow, work, j
            ):
                return MARGIN, j
    return NONE, START


@njit
def set_rates(flow: Any, work: Any, at: Any, to: Any, rate: Any, margin_rates: Any) -> None:
    """Compute the rates of all pre-activations, and under the hinge of all margins, after evaluate(at, to)."""
    n, h, d = flow.neurons, flow.samples, flow.features
    for i in range(n):
        if work.alive[i] == 0:
            continue
        row = i * h
        for q in range(d):
            slope, column = work.k[to + i * d + q], q * h
            if q == 0:
                for j in range(h):
                    rate[row + j] = slope * flow.x[j]
            else:
                for j in range(h):
                    rate[row + j] += slope * flow.x[column + j]
    if flow.loss == HINGE:
        for j in range(h):
            margin_rates[j] = margin_rate(flow, work, at, to, j)
