"""The loop over the steps of the mean-field model, compiled."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any, NamedTuple

from wideangle.integrators._calls import addresses, kernel, njit_on_disk
from wideangle.integrators._digest import package_digest

# In the order of wideangle.losses.LOSSES.
CROSS_ENTROPY, HINGE, SQUARED, EXPONENTIAL = range(4)
# Places in Run.count.
RECORD, KNOT, DIVERGED = range(3)
LARGEST = 1e100


class Model(NamedTuple):
    """What all runs share."""

    points: int
    loss: int
    learning_rate: float
    knots: Any  # steps between which the plasticity is linear
    n_knots: int
    records: Any  # steps
    n_records: int


class Run(NamedTuple):
    """One run: its kernel and plasticity, and what it has come to."""

    columns: Any  # (sample, point): the kernel of every point with a sample
    plasticity: Any  # (knot)
    slope: Any  # (knot): change of the plasticity in each step that follows
    output: Any  # (point): the present one
    force: Any  # (batch): what the columns of a step are multiplied with
    recorded: Any  # (record, point)
    count: Any  # next record, knot, and the step of divergence or -1


class Visits(NamedTuple):
    """The samples of a block of steps."""

    first: int  # step
    steps: int
    batch: int
    index: Any  # (step, batch), -1 where a batch is smaller
    label: Any
    stride: int  # from one step to the next, 0 if all are the same


@kernel
def _slope_of_loss(loss: Any, output: Any, label: Any) -> Any:
    if loss == SQUARED:
        return output - label
    margin = label * output
    if loss == HINGE:
        return -label if margin < 1.0 else 0.0
    if loss == EXPONENTIAL:
        return -label * math.exp(-margin)
    decay = math.exp(-abs(margin))
    return -label * (decay if margin > 0.0 else 1.0) / (1.0 + decay)


@kernel
def _plasticity(model: Any, run: Any, step: Any) -> Any:
    knot = run.count[KNOT]
    while knot + 1 < model.n_knots and model.knots[knot + 1] <= step:
        knot += 1
    run.count[KNOT] = knot
    return run.plasticity[knot] + max(step - model.knots[knot], 0) * run.slope[knot]


@kernel
def _set_forces(model: Any, run: Any, visits: Any, at: Any, scale: Any) -> Any:
    """Compute the forces of a step; return their number, or -1 if an output is too large."""
    number = 0
    while number < visits.batch and visits.index[at + number] >= 0:
        output = run.output[visits.index[at + number]]
        if not abs(output) <= LARGEST:
            return -1
        run.force[number] = _slope_of_loss(model.loss, output, visits.label[at + number])
        number += 1
    scale /= number
    for b in range(number):
        run.force[b] *= scale
    return number


@kernel
def _descend(model: Any, run: Any, visits: Any, at: Any, number: Any, stop: Any) -> None:
    """Move the outputs by the columns of a step, four of them at once."""
    points, b = model.points, 0
    while b + 4 <= number:
        if stop[0] != 0:
            return
        at0, at1 = visits.index[at + b] * points, visits.index[at + b + 1] * points
        at2, at3 = visits.index[at + b + 2] * points, visits.index[at + b + 3] * points
        f0, f1, f2, f3 = run.force[b], run.force[b + 1], run.force[b + 2], run.force[b + 3]
        for p in range(points):
            near = f0 * run.columns[at0 + p] + f1 * run.columns[at1 + p]
            far = f2 * run.columns[at2 + p] + f3 * run.columns[at3 + p]
            run.output[p] -= near + far
        b += 4
    while b < number:
        column, force = visits.index[at + b] * points, run.force[b]
        for p in range(points):
            run.output[p] -= force * run.columns[column + p]
        b += 1


@kernel
def _record(model: Any, run: Any, step: Any) -> Any:
    """Write the outputs if this step is to be recorded; return whether the run can go on."""
    record = run.count[RECORD]
    if record == model.n_records or model.records[record] != step:
        return True
    for p in range(model.points):
        if not abs(run.output[p]) <= LARGEST:
            run.count[DIVERGED] = step
            return False
    for p in range(model.points):
        run.recorded[record * model.points + p] = run.output[p]
    run.count[RECORD] = record + 1
    return True


@kernel
def _advance(model: Any, run: Any, visits: Any, stop: Any) -> None:
    for k in range(visits.steps):
        step, at = visits.first + k, k * visits.stride
        if stop[0] != 0 or not _record(model, run, step):
            return
        number = _set_forces(model, run, visits, at, model.learning_rate * _plasticity(model, run, step))
        if number < 0:
            run.count[DIVERGED] = step
            return
        _descend(model, run, visits, at, number, stop)
    _record(model, run, visits.first + visits.steps)


def _driver(key: int) -> Any:
    def advance(model: Any, run: Any, visits: Any, stop: Any) -> Any:
        _advance(addresses(model), addresses(run), addresses(visits), stop)
        return key

    return njit_on_disk(nogil=True, error_model="numpy")(advance)


def _digest() -> int:
    """Return a number that changes with the source, for the key of what is cached on disk."""
    own = hashlib.sha256(Path(__file__).read_bytes()).digest()
    return int.from_bytes(own[:6], "little") ^ package_digest()


advance = _driver(_digest())
"""Take a block of steps; count[DIVERGED] tells the step in which an output was too large, or -1."""
