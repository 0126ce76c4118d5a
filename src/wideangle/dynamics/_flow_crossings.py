"""Where a step crosses a boundary first."""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from wideangle.dynamics._flow_boundaries import (
    ACTIVATION,
    HOLD,
    MARGIN,
    NONE,
    READOUT,
    ROUNDINGS,
    SLACK,
    SLIDE,
    outside,
    size_of_weights,
)
from wideangle.dynamics._flow_field import EPSILON, HELD, HINGE, SLIDES, START, evaluate
from wideangle.dynamics._flow_steps import interpolate, run_dense

_HALVINGS = 60
_LOOKS = 3


@njit
def earliest(tableau: Any, flow: Any, work: Any, step: Any) -> Any:
    """Return the kind and index of the boundary that the step crosses first, and where.

    The step runs from y[0:] to y[2 size:].
    """
    n, h, end = flow.neurons, flow.samples, 2 * flow.size
    kind, found, where = NONE, START, 1.0
    for i in range(n):
        if work.alive[i] == 0:
            continue
        unit = ROUNDINGS * EPSILON * size_of_weights(flow, work, end, i)
        for j in range(h):
            index = i * h + j
            side, tolerance = work.side[index], unit * flow.norm[j]
            start, stop = side * work.pre0[index], side * work.pre1[index]
            dips = stop >= -tolerance and _dips(start, stop, side * work.rate0[index], side * work.rate1[index], step)
            if stop >= -tolerance and not dips:
                continue
            run_dense(tableau, flow, work, step)
            x = _crossing(tableau, flow, work, ACTIVATION, index, start, tolerance, dips, where)
            if x < where or (kind == NONE and x <= where):
                kind, found, where = ACTIVATION, index, x
    if flow.loss == HINGE:
        for j in range(h):
            side = work.margin_side[j]
            tolerance = work.margin_size[j]
            start, stop = side * (1.0 - work.margin0[j]), side * (1.0 - work.margin1[j])
            dips = stop >= -tolerance and _dips(
                start, stop, -side * work.margin_rate0[j], -side * work.margin_rate1[j], step
            )
            if side == 0.0 or (stop >= -tolerance and not dips):
                continue
            run_dense(tableau, flow, work, step)
            x = _crossing(tableau, flow, work, MARGIN, j, start, tolerance, dips, where)
            if x < where or (kind == NONE and x <= where):
                kind, found, where = MARGIN, j, x
    if work.count[SLIDES] + work.count[HELD] == 0:
        return kind, found, where
    return _earliest_release(tableau, flow, work, step, kind, found, where)


@njit
def _crossing(
    tableau: Any, flow: Any, work: Any, kind: Any, index: Any, start: Any, tolerance: Any, dips: Any, stop: Any
) -> Any:
    """Return the fraction of the step at which a boundary is crossed before ``stop``, or 2."""
    _prepare(tableau, flow, work, kind, index)
    high = stop
    if dips:
        high = _lowest(tableau, flow, work, kind, index, stop)
    if _distance(tableau, flow, work, kind, index, high) >= -tolerance:
        return 2.0
    return _root(tableau, flow, work, kind, index, start, tolerance, high)


@njit
def _earliest_release(tableau: Any, flow: Any, work: Any, step: Any, kind: Any, found: Any, where: Any) -> Any:
    """Continue the search among the boundaries that are slid on: coefficients that reach 0 or 1, readouts that turn."""
    n, d, end = flow.neurons, flow.features, 2 * flow.size
    for entry in range(work.count[SLIDES]):
        neuron = work.slide_neuron[entry]
        if work.y[n * d + neuron] * work.y[end + n * d + neuron] < 0.0:
            run_dense(tableau, flow, work, step)
            _prepare(tableau, flow, work, READOUT, neuron)
            if _distance(tableau, flow, work, READOUT, neuron, where) < 0.0:
                x = _root(tableau, flow, work, READOUT, neuron, abs(work.y[n * d + neuron]), 0.0, where)
                if x < where or (kind == NONE and x <= where):
                    kind, found, where = READOUT, neuron, x
    # Coefficients are looked at in a few points, as one may leave [0, 1] and come back within the step.
    for part in range(1, _LOOKS + 1):
        x = where * part / _LOOKS
        run_dense(tableau, flow, work, step)
        _look(tableau, flow, work, x)
        left = NONE
        for entry in range(work.count[SLIDES]):
            work.is_out[entry] = 1 if outside(work.coefficient[entry]) else 0
            left = SLIDE if work.is_out[entry] else left
        for entry in range(work.count[HELD]):
            work.is_out[work.count[SLIDES] + entry] = outside(work.held_coefficient[entry])
            left = HOLD if work.is_out[work.count[SLIDES] + entry] else left
        if left == NONE:
            continue
        for entry in range(work.count[SLIDES] + work.count[HELD]):
            if work.is_out[entry]:
                release, place = (SLIDE, entry) if entry < work.count[SLIDES] else (HOLD, entry - work.count[SLIDES])
                if _distance(tableau, flow, work, release, place, x) < -SLACK:
                    x = _root(tableau, flow, work, release, place, 1.0, SLACK, x)
                    kind, found, where = release, place, x
        break
    return kind, found, where


@njit
def _root(tableau: Any, flow: Any, work: Any, kind: Any, index: Any, start: Any, tolerance: Any, high: Any) -> Any:
    """Return the fraction of the step at which a distance turns negative, given that it is so at ``high``."""
    if start < -tolerance:
        return 0.0
    low, at_low = 0.0, start
    if start <= tolerance:
        # It leaves the boundary first: begin where it is clear of it.
        low, at_low = high, 0.0
        for _ in range(_HALVINGS):
            low *= 0.5
            at_low = _distance(tableau, flow, work, kind, index, low)
            if at_low > 0.0:
                break
        if at_low <= 0.0:
            return 0.0
    at_high = _distance(tableau, flow, work, kind, index, high)
    side = 0
    for _ in range(200):
        if high - low <= 2.0 * EPSILON * high or at_high == 0.0:
            break
        # Illinois' rule.
        x = high - at_high * (high - low) / (at_high - at_low)
        if not low < x < high:
            x = 0.5 * (low + high)
            if not low < x < high:
                break
        value = _distance(tableau, flow, work, kind, index, x)
        if value > 0.0:
            low, at_low = x, value
            if side == 1:
                at_high *= 0.5
            side = 1
        else:
            high, at_high = x, value
            if side == -1:
                at_low *= 0.5
            side = -1
        if abs(value) <= 0.02 * tolerance and value <= 0.0:
            break
    return high


@njit
def _dips(start: Any, end: Any, rate0: Any, rate1: Any, step: Any) -> Any:
    """Return whether the cubic through both ends comes down to half the smaller of them in between."""
    if not (rate0 < 0.0 and rate1 > 0.0):
        return False
    a, b = step * rate0, step * rate1
    # Its derivative is a + 2 (3 D - 2 a - b) x + 3 (a + b - 2 D) x^2.
    change = end - start
    c1, c2 = 2.0 * (3.0 * change - 2.0 * a - b), 3.0 * (a + b - 2.0 * change)
    root = math.sqrt(max(c1 * c1 - 4.0 * c2 * a, 0.0))
    divisor = c1 + root
    x = min(max(-2.0 * a / divisor, 0.0), 1.0) if divisor > 0.0 else 0.5
    value = start + x * (a + x * (0.5 * c1 + x * c2 / 3.0))
    return value <= 0.5 * min(start, end)


@njit
def _lowest(tableau: Any, flow: Any, work: Any, kind: Any, index: Any, stop: Any) -> Any:
    """Return where the distance is least before ``stop``, by golden sections."""
    low, high, golden = 0.0, stop, 0.5 * (math.sqrt(5.0) - 1.0)
    a, b = high - golden * (high - low), low + golden * (high - low)
    at_a = _distance(tableau, flow, work, kind, index, a)
    at_b = _distance(tableau, flow, work, kind, index, b)
    for _ in range(50):
        if at_a < at_b:
            high, b, at_b = b, a, at_a
            a = high - golden * (high - low)
            at_a = _distance(tableau, flow, work, kind, index, a)
        else:
            low, a, at_a = a, b, at_b
            b = low + golden * (high - low)
            at_b = _distance(tableau, flow, work, kind, index, b)
    return a if at_a < at_b else b


@njit
def _prepare(tableau: Any, flow: Any, work: Any, kind: Any, index: Any) -> None:
    """Write what distance() needs of a boundary into work.polynomial."""
    n, h, d, rows = flow.neurons, flow.samples, flow.features, tableau.dense_rows
    if kind == ACTIVATION:
        place, sample = index // h * d, index % h
        for row in range(rows):
            total = 0.0
            for q in range(d):
                total += work.dense[row * flow.size + place + q] * flow.rows[sample * d + q]
            work.polynomial[row] = total
    elif kind == READOUT:
        for row in range(rows):
            work.polynomial[row] = work.dense[row * flow.size + n * d + index]
    elif kind == MARGIN:
        for i in range(n):
            if work.active[i * h + index] == 0.0:
                continue
            for row in range(rows):
                total = 0.0
                for q in range(d):
                    total += work.dense[row * flow.size + i * d + q] * flow.rows[index * d + q]
                work.polynomial[2 * i * rows + row] = total
                work.polynomial[(2 * i + 1) * rows + row] = work.dense[row * flow.size + n * d + i]


@njit
def _distance(tableau: Any, flow: Any, work: Any, kind: Any, index: Any, x: Any) -> Any:
    """Return how far a fraction x of the step is from a boundary, positive on the side that the pattern says."""
    n, h, d, rows = flow.neurons, flow.samples, flow.features, tableau.dense_rows
    if kind == ACTIVATION:
        return work.side[index] * (work.pre0[index] + _nested(tableau, work.polynomial, 0, x))
    if kind == READOUT:
        start = work.y[n * d + index]
        return (1.0 if start > 0.0 else -1.0) * (start + _nested(tableau, work.polynomial, 0, x))
    if kind == MARGIN:
        total = 0.0
        for i in range(n):
            if work.active[i * h + index] != 0.0:
                pre = work.pre0[i * h + index] + _nested(tableau, work.polynomial, 2 * i * rows, x)
                readout = work.y[n * d + i] + _nested(tableau, work.polynomial, (2 * i + 1) * rows, x)
                total += readout * pre
        return work.margin_side[index] * (1.0 - flow.scale * flow.label[index] * total)
    _look(tableau, flow, work, x)
    value = work.coefficient[index] if kind == SLIDE else work.held_coefficient[index]
    return min(value, 1.0 - value)


@njit
def _nested(tableau: Any, polynomial: Any, first: Any, x: Any) -> Any:
    value = 0.0
    for row in range(tableau.dense_rows - 1, -1, -1):
        value = (value + polynomial[first + row]) * (x if row % 2 == 0 else 1.0 - x)
    return value


@njit
def _look(tableau: Any, flow: Any, work: Any, x: Any) -> None:
    """Evaluate the coefficients of what slides at a fraction of the step."""
    interpolate(tableau, flow, work, x, flow.size)
    evaluate(flow, work, flow.size, flow.size)
