"""The vector field of a two-layer ReLU network on a finite data set, with its activation pattern held fixed.

The network is f(x) = s sum_i z_i relu(w_i . x). Which samples a neuron is active on, and under the hinge which samples
have a margin below 1, is part of the state of the driver and not read off the weights, so that the field is smooth
within a step. An index that the flow holds on its boundary slides: its coefficient between 0 and 1, in Clarke's sense,
keeps the boundary's distance constant. For activations that is a projection of the force on a neuron.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from numba import njit

CROSS_ENTROPY, HINGE, SQUARED, EXPONENTIAL = range(4)
# Places in Work.count.
SLIDES, HELD, EVENTS, STEPS, REJECTED, EVALUATIONS, OUTPUT, DENSE = range(8)
EPSILON = 2.0**-52


class Flow(NamedTuple):
    """What all trajectories share."""

    neurons: int
    samples: int
    features: int
    size: int  # numbers in a state: weights (neuron, feature), then readouts
    x: Any  # (feature, sample)
    rows: Any  # (sample, feature)
    gram: Any  # (sample, sample)
    norm: Any  # of each sample
    label: Any
    scale: float  # s
    rate: float  # s times the factor of all velocities, over the number of samples
    loss: int
    stepped: bool  # the pattern is read off the weights at every evaluation
    rtol: float
    atol: float
    max_steps: int
    times: Any
    n_times: int
    capacity: int  # activations that may slide at once


class Work(NamedTuple):
    """What one trajectory is integrated in."""

    y: Any  # three states: the point reached, that of a stage, the end of the step
    k: Any
    dense: Any
    side: Any  # (neuron, sample): 1 active, -1 not, 0 sliding
    active: Any  # 1 where active, else 0
    alive: Any  # of each neuron: samples on which it is active or slides
    touched: Any  # boundaries changed at one moment
    pre: Any  # w . x of the latest evaluation, and of the two ends of the step, with their rates
    pre0: Any
    rate0: Any
    pre1: Any
    rate1: Any
    margin_side: Any  # hinge: 1 below margin 1, -1 above, 0 held
    margin: Any
    margin0: Any
    margin_rate0: Any
    margin1: Any
    margin_rate1: Any
    margin_size: Any  # the sum of the sizes of the margin's terms
    force: Any  # of each sample, with the label and the rate
    weighted: Any
    count: Any
    slide_neuron: Any
    slide_sample: Any
    slides_of: Any  # by neuron
    dual: Any  # of the sliding samples of a neuron, within their span
    coefficient: Any  # of what slides
    pull: Any
    held: Any  # samples whose margin is held at 1
    held_coefficient: Any
    matrix: Any
    polynomial: Any


@njit(fastmath={"reassoc", "contract"})  # type: ignore[untyped-decorator]
def _read(flow: Any, work: Any, at: Any) -> None:
    """Compute the pre-activations and margins at a state."""
    n, h, d = flow.neurons, flow.samples, flow.features
    for j in range(h):
        work.margin[j] = 0.0
    for i in range(n):
        if work.alive[i] == 0 and not flow.stepped:
            continue
        row, place = i * h, at + i * d
        weight = work.y[place]
        for j in range(h):
            work.pre[row + j] = weight * flow.x[j]
        for q in range(1, d):
            weight, column = work.y[place + q], q * h
            for j in range(h):
                work.pre[row + j] += weight * flow.x[column + j]
        readout = work.y[at + n * d + i]
        if flow.stepped:
            for j in range(h):
                work.active[row + j] = 1.0 if work.pre[row + j] > 0.0 else 0.0
        for j in range(h):
            work.margin[j] += readout * work.active[row + j] * work.pre[row + j]
    for j in range(h):
        work.margin[j] *= flow.scale * flow.label[j]


@njit  # type: ignore[untyped-decorator]
def slope_of_loss(loss: Any, margin: Any) -> Any:
    """Return the force -l'(m) of a loss that is smooth."""
    if loss == CROSS_ENTROPY:
        decay = math.exp(-abs(margin))
        return (decay if margin > 0.0 else 1.0) / (1.0 + decay)
    if loss == SQUARED:
        return 1.0 - margin
    return math.exp(-margin)


@njit  # type: ignore[untyped-decorator]
def _set_forces(flow: Any, work: Any) -> None:
    for j in range(flow.samples):
        if flow.loss != HINGE:
            force = slope_of_loss(flow.loss, work.margin[j])
        elif flow.stepped:
            force = 1.0 if work.margin[j] < 1.0 else 0.0
        else:
            force = 1.0 if work.margin_side[j] > 0.0 else 0.0
        work.force[j] = flow.rate * flow.label[j] * force


@njit(fastmath={"reassoc", "contract"})  # type: ignore[untyped-decorator]
def _set_slopes(flow: Any, work: Any, at: Any, to: Any) -> None:
    n, h, d = flow.neurons, flow.samples, flow.features
    for i in range(n):
        row, place = i * h, to + i * d
        if work.alive[i] == 0 and not flow.stepped:
            for q in range(d):
                work.k[place + q] = 0.0
            work.k[to + n * d + i] = 0.0
            continue
        total = 0.0
        for j in range(h):
            value = work.force[j] * work.active[row + j]
            work.weighted[j] = value
            total += value * work.pre[row + j]
        work.k[to + n * d + i] = total
        for q in range(d):
            total, column = 0.0, q * h
            for j in range(h):
                total += work.weighted[j] * flow.x[column + j]
            work.k[place + q] = total
        if work.slides_of[i] > 0:
            _project(flow, work, i, place)
        readout = work.y[at + n * d + i]
        for q in range(d):
            work.k[place + q] *= readout


@njit  # type: ignore[untyped-decorator]
def _project(flow: Any, work: Any, neuron: Any, place: Any) -> None:
    """Take from the force on a neuron what would move it off the boundaries that it slides on."""
    d = flow.features
    for entry in range(work.count[SLIDES]):
        if work.slide_neuron[entry] == neuron:
            total = 0.0
            for q in range(d):
                total += work.dual[entry * d + q] * work.k[place + q]
            work.pull[entry] = -total
    for entry in range(work.count[SLIDES]):
        if work.slide_neuron[entry] == neuron:
            for q in range(d):
                work.k[place + q] += work.pull[entry] * flow.rows[work.slide_sample[entry] * d + q]


@njit  # type: ignore[untyped-decorator]
def margin_rate(flow: Any, work: Any, at: Any, to: Any, sample: Any) -> Any:
    """Return the rate of a margin, with w . x from the latest evaluation."""
    n, h, d = flow.neurons, flow.samples, flow.features
    total = 0.0
    for i in range(n):
        if work.active[i * h + sample] != 0.0:
            rate = 0.0
            for q in range(d):
                rate += work.k[to + i * d + q] * flow.rows[sample * d + q]
            total += work.k[to + n * d + i] * work.pre[i * h + sample] + work.y[at + n * d + i] * rate
    return flow.scale * flow.label[sample] * total


@njit  # type: ignore[untyped-decorator]
def _projected_product(flow: Any, work: Any, neuron: Any, a: Any, b: Any) -> Any:
    """Return x_a . P x_b, P projecting on what the sliding boundaries of a neuron leave free."""
    h, d = flow.samples, flow.features
    total = flow.gram[a * h + b]
    if work.slides_of[neuron] > 0:
        for entry in range(work.count[SLIDES]):
            if work.slide_neuron[entry] == neuron:
                part = 0.0
                for q in range(d):
                    part += work.dual[entry * d + q] * flow.rows[b * d + q]
                total -= part * flow.gram[a * h + work.slide_sample[entry]]
    return total


@njit  # type: ignore[untyped-decorator]
def _solve_held(flow: Any, work: Any, at: Any) -> None:
    """Replace held_coefficient, desired rates of the held margins, by the forces on their samples that give them."""
    n, h, m = flow.neurons, flow.samples, work.count[HELD]
    for a in range(m):
        for b in range(a + 1):
            p, q = work.held[a], work.held[b]
            total = 0.0
            for i in range(n):
                if work.active[i * h + p] * work.active[i * h + q] != 0.0:
                    readout = work.y[at + n * flow.features + i]
                    total += readout * readout * _projected_product(flow, work, i, p, q)
                    total += work.pre[i * h + p] * work.pre[i * h + q]
            # The forces carry the label of q.
            work.matrix[a * m + b] = flow.scale * flow.label[p] * flow.label[q] * total
    # Cholesky; a margin that those before it determine gets no force.
    for a in range(m):
        diagonal = work.matrix[a * m + a]
        for b in range(a):
            total = work.matrix[a * m + b]
            for c in range(b):
                total -= work.matrix[a * m + c] * work.matrix[b * m + c]
            work.matrix[a * m + b] = total / work.matrix[b * m + b]
        total = diagonal
        for c in range(a):
            total -= work.matrix[a * m + c] ** 2
        work.matrix[a * m + a] = math.sqrt(total) if total > 1e-13 * diagonal else math.inf
        total = work.held_coefficient[a]
        for c in range(a):
            total -= work.matrix[a * m + c] * work.held_coefficient[c]
        work.held_coefficient[a] = total / work.matrix[a * m + a]
    for a in range(m - 1, -1, -1):
        total = work.held_coefficient[a]
        for c in range(a + 1, m):
            total -= work.matrix[c * m + a] * work.held_coefficient[c]
        work.held_coefficient[a] = total / work.matrix[a * m + a]


@njit  # type: ignore[untyped-decorator]
def _push_held(flow: Any, work: Any, at: Any, to: Any) -> None:
    """Add to a slope in k what the forces held_coefficient on the held samples do."""
    n, h, d = flow.neurons, flow.samples, flow.features
    for a in range(work.count[HELD]):
        sample = work.held[a]
        force = flow.label[sample] * work.held_coefficient[a]
        work.force[sample] += force
        for i in range(n):
            if work.active[i * h + sample] == 0.0:
                continue
            work.k[to + n * d + i] += force * work.pre[i * h + sample]
            readout = work.y[at + n * d + i]
            for q in range(d):
                work.k[to + i * d + q] += force * readout * flow.rows[sample * d + q]
            if work.slides_of[i] == 0:
                continue
            for entry in range(work.count[SLIDES]):
                if work.slide_neuron[entry] == i:
                    part = 0.0
                    for q in range(d):
                        part += work.dual[entry * d + q] * flow.rows[sample * d + q]
                    work.pull[entry] -= force * part
                    for q in range(d):
                        work.k[to + i * d + q] -= force * readout * part * flow.rows[work.slide_sample[entry] * d + q]


@njit  # type: ignore[untyped-decorator]
def evaluate(flow: Any, work: Any, at: Any, to: Any) -> None:
    """Put the velocity of the state y[at:] into k[to:], and the coefficients of what slides beside it."""
    work.count[EVALUATIONS] += 1
    _read(flow, work, at)
    _set_forces(flow, work)
    _set_slopes(flow, work, at, to)
    if work.count[HELD] > 0:
        for a in range(work.count[HELD]):
            work.held_coefficient[a] = -margin_rate(flow, work, at, to, work.held[a])
        _solve_held(flow, work, at)
        _push_held(flow, work, at, to)
        for a in range(work.count[HELD]):
            work.held_coefficient[a] /= flow.rate
    for entry in range(work.count[SLIDES]):
        force = work.force[work.slide_sample[entry]]
        pull = work.pull[entry]
        work.coefficient[entry] = 0.0 if pull == 0.0 else (pull / force if force != 0.0 else math.inf)


@njit  # type: ignore[untyped-decorator]
def restore(flow: Any, work: Any, at: Any) -> None:
    """Undo the drift off the boundaries that are slid on, of the order of the error of a step.

    Along the gradients of the held margins, which the conserved quantities do not change along. Uses k[0:].
    """
    d = flow.features
    for entry in range(work.count[SLIDES]):
        place, total = at + work.slide_neuron[entry] * d, 0.0
        for q in range(d):
            total += work.y[place + q] * flow.rows[work.slide_sample[entry] * d + q]
        work.pull[entry] = total
    for entry in range(work.count[SLIDES]):
        place = at + work.slide_neuron[entry] * d
        for q in range(d):
            work.y[place + q] -= work.pull[entry] * work.dual[entry * d + q]
    if work.count[HELD] == 0:
        return
    for _ in range(2):
        _read(flow, work, at)
        for a in range(work.count[HELD]):
            work.held_coefficient[a] = 1.0 - work.margin[work.held[a]]
        _solve_held(flow, work, at)
        for q in range(flow.size):
            work.k[q] = 0.0
        _push_held(flow, work, at, 0)
        for q in range(flow.size):
            work.y[at + q] += work.k[q]


@njit  # type: ignore[untyped-decorator]
def set_duals(flow: Any, work: Any, neuron: Any) -> None:
    """Compute the dual vectors of the sliding samples of a neuron by Gauss-Jordan elimination of their Gram matrix."""
    d, h = flow.features, flow.samples
    for entry in range(work.count[SLIDES]):
        if work.slide_neuron[entry] == neuron:
            for q in range(d):
                work.dual[entry * d + q] = 0.0
    # Gram-Schmidt, one sample after another: the dual of the new one is what the others leave of it, normalised, and
    # the others lose their component along the new sample.
    for entry in range(work.count[SLIDES]):
        if work.slide_neuron[entry] != neuron:
            continue
        sample, total = work.slide_sample[entry], 0.0
        for q in range(d):
            work.polynomial[q] = flow.rows[sample * d + q]
        for other in range(entry):
            if work.slide_neuron[other] == neuron:
                part = 0.0
                for q in range(d):
                    part += work.dual[other * d + q] * flow.rows[sample * d + q]
                for q in range(d):
                    work.polynomial[q] -= part * flow.rows[work.slide_sample[other] * d + q]
        for q in range(d):
            total += work.polynomial[q] ** 2
        if total <= 1e-24 * flow.gram[sample * h + sample]:
            continue
        for other in range(entry):
            if work.slide_neuron[other] == neuron:
                part = 0.0
                for q in range(d):
                    part += work.dual[other * d + q] * flow.rows[sample * d + q]
                for q in range(d):
                    work.dual[other * d + q] -= part * work.polynomial[q] / total
        for q in range(d):
            work.dual[entry * d + q] = work.polynomial[q] / total
