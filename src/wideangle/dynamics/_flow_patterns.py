"""Changes of the pattern at a boundary: crossing, sliding, holding, letting go, passing the point of zero weights."""

from __future__ import annotations

from typing import Any

from numba import njit

from wideangle.dynamics._flow_boundaries import ACTIVATION, HOLD, MARGIN, READOUT, SLIDE, size_of_weights
from wideangle.dynamics._flow_field import EVENTS, HELD, SLIDES, START, set_duals

_VANISHED, _PAST, _NEAR, _TURNS = 1e-13, 1e-11, 1e-9, 4


@njit
def apply(flow: Any, work: Any, kind: Any, index: Any) -> Any:
    """Change the pattern at the boundary that ended a step."""
    if kind in (ACTIVATION, MARGIN):
        return cross(flow, work, kind, index)
    work.count[EVENTS] += 1
    if kind == SLIDE:
        side = 1.0 if work.coefficient[index] > 0.5 else -1.0
        release(flow, work, index, side)
    elif kind == HOLD:
        let_go(flow, work, index, 1.0 if work.held_coefficient[index] > 0.5 else -1.0)
    elif kind == READOUT:
        # Beyond, what attracted repels: the neuron leaves its boundaries, on the side where relu' is 0.
        place = flow.neurons * flow.features + index
        tiny = 1e-18 * size_of_weights(flow, work, START, index)
        work.y[place] = tiny if work.k[place] > 0.0 else -tiny
        for entry in range(work.count[SLIDES] - 1, -1, -1):
            if work.slide_neuron[entry] == index:
                release(flow, work, entry, -1.0)
    return True


@njit
def cross(flow: Any, work: Any, kind: Any, index: Any) -> Any:
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


@njit
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


@njit
def release(flow: Any, work: Any, entry: Any, side: Any) -> None:
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


@njit
def let_go(flow: Any, work: Any, entry: Any, side: Any) -> None:
    work.margin_side[work.held[entry]] = side
    work.count[HELD] -= 1
    for later in range(entry, work.count[HELD]):
        work.held[later] = work.held[later + 1]
        work.held_coefficient[later] = work.held_coefficient[later + 1]


@njit
def _set_side(flow: Any, work: Any, index: Any, side: Any) -> None:
    work.alive[index // flow.samples] += (1 if side >= 0.0 else 0) - (1 if work.side[index] >= 0.0 else 0)
    work.side[index] = side
    work.active[index] = 1.0 if side > 0.0 else 0.0


@njit
def vanishes(flow: Any, work: Any, index: Any) -> Any:
    """Return whether a step to y[size:] that ends on a boundary ends where the weights of its neuron are zero.

    A neuron that slides gets there in finite time; all its boundaries meet in that point. So may one that circles
    around it, through infinitely many boundaries, which is followed down to a tiny distance, or for some turns.
    """
    neuron = index // flow.samples
    size = size_of_weights(flow, work, flow.size, neuron)
    readout = abs(work.y[flow.size + flow.neurons * flow.features + neuron])
    if work.passed[neuron] > 0 and size <= _NEAR * readout:
        work.passed[neuron] += 1
    circles = work.passed[neuron] > 0 and size <= _VANISHED * readout
    circles = circles or work.passed[neuron] > _TURNS * flow.samples
    return circles or size <= _VANISHED * size_of_weights(flow, work, START, neuron)


@njit
def pass_zero(flow: Any, work: Any, index: Any, before: Any) -> None:
    """Take a neuron whose weights have become zero, and were ``before`` in size, past that point.

    It goes on in a straight line, a tiny way, to where the field may carry it off. If the field only brings it back,
    it rests at zero, where it feels no sample as relu'(0) = 0.
    """
    neuron, n, h, d = index // flow.samples, flow.neurons, flow.samples, flow.features
    work.count[EVENTS] += 1
    for entry in range(work.count[SLIDES] - 1, -1, -1):
        if work.slide_neuron[entry] == neuron:
            release(flow, work, entry, -1.0)
    readout = abs(work.y[n * d + neuron])
    comes_back = before <= _NEAR * readout or work.passed[neuron] > _TURNS * h
    work.passed[neuron] = 1
    for q in range(d):
        # y[2 size:] is free, and holds the weights before the step.
        weight = work.y[2 * flow.size + neuron * d + q]
        work.y[neuron * d + q] = 0.0 if comes_back else -_PAST * readout / before * weight
    for j in range(h):
        pre = 0.0
        for q in range(d):
            pre += work.y[neuron * d + q] * flow.rows[j * d + q]
        _set_side(flow, work, neuron * h + j, 1.0 if pre > _PAST * _NEAR * readout * flow.norm[j] else -1.0)
