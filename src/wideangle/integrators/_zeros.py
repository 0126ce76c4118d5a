"""Zeros of event functions within a step, on the dense output of one trajectory."""

from __future__ import annotations

import math
from typing import Any

from wideangle.integrators._calls import call_scalar, kernel


@kernel
def evaluate_events(watch: Any, t: Any, state: Any, params: Any, out: Any, at: Any, size: Any, n_params: Any) -> Any:
    """Evaluate all functions into ``out`` from ``at`` on, and return whether all are numbers."""
    for function in range(watch.functions):
        call_scalar(watch.address[function], t, state, params, out, at + watch.offset[function], size, n_params)
    harm = 0.0
    for e in range(watch.size):
        harm += out[at + e] * 0.0
    return harm == 0.0


@kernel
def crosses(before: Any, after: Any, direction: Any) -> Any:
    """Return whether a function has come to zero or changed its sign, in the right direction."""
    if before < 0.0:
        return after >= 0.0 and direction >= 0
    if before > 0.0:
        return after <= 0.0 and direction <= 0
    return False


@kernel
def next_fraction(x1: Any, f1: Any, x2: Any, f2: Any, x3: Any, f3: Any) -> Any:
    """Return where between x1 and x2 to look next: inverse quadratic interpolation where it is safe, or halfway.

    T. R. Chandrupatla, Adv. Eng. Softw. 28 (1997) 145. x1 is the latest point and x3 the one dropped for it.
    """
    if f3 in (f1, f2):
        return 0.5
    xi, phi = (x1 - x2) / (x3 - x2), (f1 - f2) / (f3 - f2)
    if not (phi * phi < xi and (1.0 - phi) * (1.0 - phi) < 1.0 - xi):
        return 0.5
    return f1 / (f2 - f1) * f3 / (f2 - f3) + (x3 - x1) / (x2 - x1) * f1 / (f3 - f1) * f2 / (f3 - f2)


@kernel
def earliest(zero: Any, size: Any) -> Any:
    """Return the index of the earliest zero that is left, or -1."""
    best, index = math.inf, -1
    for e in range(size):
        if zero[e] < best:
            best, index = zero[e], e
    return index


@kernel
def record_event(watch: Any, owner: Any, e: Any, t: Any, state: Any, size: Any) -> None:
    """Count a zero, and keep it if there is a place."""
    row = owner * watch.size + e
    place = watch.count[row]
    watch.count[row] += 1
    if place < watch.capacity[e]:
        watch.time[row * watch.places + place] = t
        for i in range(size):
            watch.state[(row * watch.places + place) * size + i] = state[i]
