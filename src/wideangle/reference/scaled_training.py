"""Training of networks under a width scaling, with measures of what becomes of their layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from threading import Event
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle.data import LabelledData
from wideangle.reference._steps import PERFORMANCE, Tensors, mean_loss, performance, take_steps
from wideangle.reference._torch import BATCHES, generator
from wideangle.reference.scaled_measures import RANKS, diversity_of_units, ranks_of_update
from wideangle.reference.training import DIVERGED, TRAINED, sample_batches

if TYPE_CHECKING:
    import torch

    from wideangle.reference.scaled_modules import ScaledMLP, ScaledOptimizer

Array = NDArray[np.float64]

MEASURED_SAMPLES = 500


class Curves(NamedTuple):
    """What was recorded of a run; NaN from where it diverged.

    ``loss`` (step), ``performance`` (record, entry of PERFORMANCE), ``outputs`` (record, probe, class), ``diversity``
    (record, 2, layer), also with the dimension, ``ranks`` (record, entry of RANKS, layer).
    """

    loss: Array
    performance: Array
    outputs: Array
    diversity: Array
    ranks: Array
    status: int


def train_scaled(
    model: ScaledMLP,
    optimizer: ScaledOptimizer,
    data: Tensors,
    *,
    seed: int,
    n_steps: int,
    batch_size: int,
    record: Sequence[int],
    n_probes: int,
    stopped: Event,
) -> Curves:
    """Train on the cross-entropy of batches, and record what :class:`Curves` lists after some numbers of steps."""
    layers, classes = len(model.weights), model.weights[-1].shape[0]
    curves = Curves(
        loss=np.full(n_steps, np.nan),
        performance=np.full((len(record), len(PERFORMANCE)), np.nan),
        outputs=np.full((len(record), n_probes, classes), np.nan),
        diversity=np.full((len(record), 2, layers), np.nan),
        ranks=np.full((len(record), len(RANKS), layers), np.nan),
        status=TRAINED,
    )
    starts = [weight.detach().clone() for weight in model.weights]
    roundings = [float(start.square().mean().sqrt()) for start in starts]
    for taken, loss in enumerate(
        take_steps(model, optimizer, data, seed=seed, n_steps=n_steps, batch_size=batch_size, stopped=stopped)
    ):
        if taken == 1 and model.scaling.drops_initial:
            for start in starts[1:-1]:
                start.zero_()
        if not math.isfinite(loss):
            return curves._replace(status=DIVERGED)
        if taken in record:
            place = record.index(taken)
            curves.performance[place] = performance(model, data)
            if not np.isfinite(curves.performance[place]).all():
                curves.performance[place] = np.nan
                return curves._replace(status=DIVERGED)
            _record_layers(curves, place, model, data.x_test[: max(MEASURED_SAMPLES, n_probes)])
            for layer, (weight, start, size) in enumerate(zip(model.weights, starts, roundings, strict=True)):
                curves.ranks[place, :, layer] = ranks_of_update(weight.detach() - start, size, taken)
        if taken < n_steps:
            curves.loss[taken] = loss
    return curves


def final_loss(
    model: ScaledMLP,
    optimizer: ScaledOptimizer,
    data: Tensors,
    *,
    seed: int,
    n_steps: int,
    batch_size: int,
    stopped: Event,
) -> float:
    """Train and return the mean cross-entropy of all training samples, infinite if training diverged."""
    for loss in take_steps(model, optimizer, data, seed=seed, n_steps=n_steps, batch_size=batch_size, stopped=stopped):
        if not math.isfinite(loss):
            return math.inf
    loss, _ = mean_loss(model, data.x_train, data.y_train)
    return loss if math.isfinite(loss) else math.inf


def first_batch(data: LabelledData, *, seed: int, batch_size: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the batch of the first step."""
    chosen = next(sample_batches(len(data.x_train), batch_size, generator(seed, BATCHES))).numpy()
    return data.x_train[chosen], data.y_train[chosen]


def _record_layers(curves: Curves, place: int, model: ScaledMLP, x: torch.Tensor) -> None:
    import torch

    with torch.inference_mode():
        values = model.preactivations(x)
    curves.outputs[place] = values[-1][: curves.outputs.shape[1]].numpy()
    for layer, value in enumerate(values):
        curves.diversity[place, :, layer] = diversity_of_units(value[:MEASURED_SAMPLES])
