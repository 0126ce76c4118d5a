"""Where a step crosses a boundary first, and what the pattern is beyond it."""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from wideangle.dynamics._flow_field import (
    EPSILON,
    EVENTS,
    HELD,
    HINGE,
    SLIDES,
    evaluate,
    margin_rate,
    set_duals,
)
from wideangle.dynamics._flow_steps import interpolate, run_dense

# Kinds of boundaries.
NONE, ACTIVATION, MARGIN, READOUT, SLIDE, HOLD = range(6)
# Distances and rates below so many roundings of their terms count as none.
_ROUNDINGS = 64.0
_SLACK = 1e-11
_HALVINGS = 60


@njit  # type: ignore[untyped-decorator]
def _nested(tableau: Any, polynomial: Any, first: Any, x: Any) -> Any:
    value = 0.0
    for row in range(tableau.dense_rows - 1, -1, -1):
        value = (value + polynomial[first + row]) * (x if row % 2 == 0 else 1.0 - x)
    return value


@njit  # type: ignore[untyped-decorator]
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


@njit  # type: ignore[untyped-decorator]
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
    interpolate(tableau, flow, work, x, flow.size)
    evaluate(flow, work, flow.size, flow.size)
    value = work.coefficient[index] if kind == SLIDE else work.held_coefficient[index]
    return min(value, 1.0 - value)


@njit  # type: ignore[untyped-decorator]
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


@njit  # type: ignore[untyped-decorator]
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


@njit  # type: ignore[untyped-decorator]
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


@njit  # type: ignore[untyped-decorator]
def _size_of_weights(flow: Any, work: Any, at: Any, neuron: Any) -> Any:
    total = 0.0
    for q in range(flow.features):
        total += work.y[at + neuron * flow.features + q] ** 2
    return math.sqrt(total)


@njit  # type: ignore[untyped-decorator]
def margin_tolerance(flow: Any, work: Any, at: Any, sample: Any) -> Any:
    """Return what roundings make of the distance of a margin from 1."""
    n, h, total = flow.neurons, flow.samples, 1.0
    for i in range(n):
        if work.active[i * h + sample] != 0.0:
            total += flow.scale * abs(work.y[at + n * flow.features + i] * work.pre[i * h + sample])
    return _ROUNDINGS * EPSILON * total


@njit  # type: ignore[untyped-decorator]
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


@njit  # type: ignore[untyped-decorator]
def earliest(tableau: Any, flow: Any, work: Any, step: Any) -> Any:
    """Return the kind and index of the boundary that the step crosses first, and where.

    The step runs from y[0:] to y[2 size:].
    """
    n, h, end = flow.neurons, flow.samples, 2 * flow.size
    kind, found, where = NONE, 0, 1.0
    for i in range(n):
        if work.alive[i] == 0:
            continue
        unit = _ROUNDINGS * EPSILON * _size_of_weights(flow, work, end, i)
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


@njit  # type: ignore[untyped-decorator]
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


@njit  # type: ignore[untyped-decorator]
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
    for release, number in ((SLIDE, work.count[SLIDES]), (HOLD, work.count[HELD])):
        for entry in range(number):
            # Looked for at a few points, as a coefficient may come back within the step.
            for part in range(1, 5):
                x = 0.25 * part * where
                run_dense(tableau, flow, work, step)
                if _distance(tableau, flow, work, release, entry, x) >= -_SLACK:
                    continue
                x = _root(tableau, flow, work, release, entry, 1.0, _SLACK, x)
                kind, found, where = release, entry, x
                break
    return kind, found, where


@njit  # type: ignore[untyped-decorator]
def _set_side(flow: Any, work: Any, index: Any, side: Any) -> None:
    work.alive[index // flow.samples] += (1 if side >= 0.0 else 0) - (1 if work.side[index] >= 0.0 else 0)
    work.side[index] = side
    work.active[index] = 1.0 if side > 0.0 else 0.0


@njit  # type: ignore[untyped-decorator]
def _slide(flow: Any, work: Any, index: Any) -> Any:
    """Hold a neuron on the boundary of a sample; return False where there is no room for one more."""
    entry, neuron = work.count[SLIDES], index // flow.samples
    if entry == flow.capacity:
        return False
    _set_side(flow, work, index, 0.0)
    work.slide_neuron[entry], work.slide_sample[entry] = neuron, index % flow.samples
    work.count[SLIDES] += 1
    work.slides_of[neuron] += 1
    set_duals(flow, work, neuron)
    return True


@njit  # type: ignore[untyped-decorator]
def _release(flow: Any, work: Any, entry: Any, side: Any) -> None:
    neuron = work.slide_neuron[entry]
    _set_side(flow, work, neuron * flow.samples + work.slide_sample[entry], side)
    work.count[SLIDES] -= 1
    work.slides_of[neuron] -= 1
    for later in range(entry, work.count[SLIDES]):
        work.slide_neuron[later] = work.slide_neuron[later + 1]
        work.slide_sample[later] = work.slide_sample[later + 1]
        work.coefficient[later] = work.coefficient[later + 1]
    for later in range(work.count[SLIDES]):
        set_duals(flow, work, work.slide_neuron[later])


@njit  # type: ignore[untyped-decorator]
def _let_go(flow: Any, work: Any, entry: Any, side: Any) -> None:
    work.margin_side[work.held[entry]] = side
    work.count[HELD] -= 1
    for later in range(entry, work.count[HELD]):
        work.held[later] = work.held[later + 1]
        work.held_coefficient[later] = work.held_coefficient[later + 1]


@njit  # type: ignore[untyped-decorator]
def _cross(flow: Any, work: Any, kind: Any, index: Any) -> Any:
    """Take a boundary to its other side, or hold the flow on it if it has just come from there."""
    work.count[EVENTS] += 1
    if kind == ACTIVATION:
        if work.touched[index] == 0:
            work.touched[index] = 1
            _set_side(flow, work, index, -work.side[index])
            return True
        return _slide(flow, work, index)
    place = flow.neurons * flow.samples + index
    if work.touched[place] == 0:
        work.touched[place] = 1
        work.margin_side[index] = -work.margin_side[index]
    else:
        work.margin_side[index] = 0.0
        work.held[work.count[HELD]] = index
        work.count[HELD] += 1
    return True


@njit  # type: ignore[untyped-decorator]
def _apply(flow: Any, work: Any, kind: Any, index: Any) -> Any:
    """Change the pattern at the boundary that ended a step."""
    if kind in (ACTIVATION, MARGIN):
        return _cross(flow, work, kind, index)
    work.count[EVENTS] += 1
    if kind == SLIDE:
        side = 1.0 if work.coefficient[index] > 0.5 else -1.0
        _release(flow, work, index, side)
    elif kind == HOLD:
        _let_go(flow, work, index, 1.0 if work.held_coefficient[index] > 0.5 else -1.0)
    elif kind == READOUT:
        # Beyond, what attracted repels: the neuron leaves its boundaries, on the side where relu' is 0.
        place = flow.neurons * flow.features + index
        sign = 1.0 if work.y[place] <= 0.0 else -1.0
        work.y[place] = sign * 1e-18 * _size_of_weights(flow, work, 0, index)
        for entry in range(work.count[SLIDES] - 1, -1, -1):
            if work.slide_neuron[entry] == index:
                _release(flow, work, entry, -1.0)
    return True


@njit  # type: ignore[untyped-decorator]
def _find_push(flow: Any, work: Any) -> Any:
    """Return a boundary on which the state lies and across which its velocity points, if there is one."""
    n, h = flow.neurons, flow.samples
    total = 0.0
    for j in range(h):
        total += abs(work.force[j]) * flow.norm[j]
    for i in range(n):
        if work.alive[i] == 0:
            continue
        unit = _ROUNDINGS * EPSILON * _size_of_weights(flow, work, 0, i)
        push = _ROUNDINGS * EPSILON * abs(work.y[n * flow.features + i]) * total
        for j in range(h):
            index = i * h + j
            if work.side[index] * work.pre[index] <= unit * flow.norm[j] and (
                work.side[index] * work.rate0[index] < -push * flow.norm[j]
            ):
                return ACTIVATION, index
    if flow.loss == HINGE:
        for j in range(h):
            side, tolerance = work.margin_side[j], margin_tolerance(flow, work, 0, j)
            if side * (1.0 - work.margin[j]) <= tolerance and -side * work.margin_rate0[j] < -_margin_push(
                flow, work, j
            ):
                return MARGIN, j
    return NONE, 0


@njit  # type: ignore[untyped-decorator]
def _margin_push(flow: Any, work: Any, sample: Any) -> Any:
    """Return what roundings make of the rate of a margin."""
    n, h, d, total = flow.neurons, flow.samples, flow.features, 0.0
    for i in range(n):
        if work.active[i * h + sample] != 0.0:
            rate = 0.0
            for q in range(d):
                rate += abs(work.k[i * d + q] * flow.rows[sample * d + q])
            total += abs(work.k[n * d + i] * work.pre[i * h + sample])
            total += abs(work.y[n * d + i]) * rate
    return 16.0 * _ROUNDINGS * EPSILON * flow.scale * total


@njit  # type: ignore[untyped-decorator]
def settle(flow: Any, work: Any, kind: Any, index: Any) -> Any:
    """Find the pattern with which the flow goes on from y[0:] after a boundary was reached, and the velocity k[0:].

    Boundaries change one at a time until none is left that the velocity pushes across, and no coefficient of a
    sliding one lies outside [0, 1]. Returns False if that does not come to an end.
    """
    n, h = flow.neurons, flow.samples
    for place in range(n * h + h):
        work.touched[place] = 0
    if kind != NONE:
        if kind in (SLIDE, HOLD):
            evaluate(flow, work, 0, 0)
        if not _apply(flow, work, kind, index):
            return False
    for _ in range(100 + 4 * (n + h)):
        evaluate(flow, work, 0, 0)
        set_rates(flow, work, 0, 0, work.rate0, work.margin_rate0)
        changed = False
        for entry in range(work.count[SLIDES]):
            value = work.coefficient[entry]
            if value < -_SLACK or value > 1.0 + _SLACK:
                work.count[EVENTS] += 1
                _release(flow, work, entry, 1.0 if value > 0.5 else -1.0)
                changed = True
                break
        if changed:
            continue
        for entry in range(work.count[HELD]):
            value = work.held_coefficient[entry]
            if value < -_SLACK or value > 1.0 + _SLACK:
                work.count[EVENTS] += 1
                _let_go(flow, work, entry, 1.0 if value > 0.5 else -1.0)
                changed = True
                break
        if changed:
            continue
        pushed, at = _find_push(flow, work)
        if pushed == NONE:
            return True
        if not _cross(flow, work, pushed, at):
            return False
    return False
