"""Training of classifiers in epochs, to zero training error and beyond, with the last hidden layer on the way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle.reference._steps import EVALUATED_AT_ONCE, PERFORMANCE, Tensors, performance, take_steps
from wideangle.reference.training import DIVERGED, TRAINED

if TYPE_CHECKING:
    import torch

OUT_OF_EPOCHS = 2
AT_ZERO_ERROR = "zero training error"
LAST = "last"

_TRAIN_ACCURACY = 1  # Entry of PERFORMANCE.


class Descent(NamedTuple):
    """Stochastic gradient descent with momentum, and when it ends.

    With ``to_zero_error``, ``extra_epochs`` after the first epoch whose training error is zero, which may be
    ``max_epochs`` at the latest; without, after ``max_epochs``. Weight decay times a weight is added to its gradient.
    """

    learning_rate: float
    momentum: float
    weight_decay: float
    batch_size: int
    max_epochs: int
    extra_epochs: int
    to_zero_error: bool


class LayerRecord(NamedTuple):
    """Arrays to keep the last hidden layer of one network in; their first axis is that of what is to be kept.

    ``epoch`` (kept), ``train_features`` and ``test_features`` (kept, sample, neuron), ``readout`` (kept, class,
    neuron), ``bias`` (kept, class).
    """

    epoch: NDArray[np.float64]
    train_features: NDArray[np.float32]
    test_features: NDArray[np.float32]
    readout: NDArray[np.float32]
    bias: NDArray[np.float32]

    def write(self, places: list[int], epoch: int, model: torch.nn.Sequential, data: Tensors, stopped: Event) -> None:
        """Keep what the network is now."""
        readout: Any = model[-1]
        self.epoch[places] = epoch
        self.readout[places] = readout.weight.detach().numpy()
        self.bias[places] = readout.bias.detach().numpy()
        for kept, x in ((self.train_features, data.x_train), (self.test_features, data.x_test)):
            _fill_outputs(kept[places[0]], model[:-1], x, stopped)
            kept[places] = kept[places[0]]


class EpochRun(NamedTuple):
    """What training came to.

    ``performance`` (epoch, entry of PERFORMANCE), from epoch 0, which is initialisation; ``zero_error``, the first
    epoch without training errors; ``test_outputs`` (sample, class), of the end, NaN if training diverged.
    """

    performance: NDArray[np.float64]
    zero_error: int | None
    status: int
    test_outputs: NDArray[np.float32]


def train_epochs(
    model: torch.nn.Sequential,
    data: Tensors,
    descent: Descent,
    *,
    seed: int,
    keep: Sequence[str],
    record: LayerRecord | None,
    stopped: Event,
) -> EpochRun:
    """Train on the cross-entropy of batches, in place, and keep the last hidden layer as ``keep`` says.

    ``keep`` has epochs as strings, "zero training error" and "last". Where training diverges before one of them, or
    does not come so far, ``record`` stays as it is.
    """
    import torch

    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=descent.learning_rate,
        momentum=descent.momentum,
        weight_decay=descent.weight_decay,
        fused=True,
    )
    n_batches = math.ceil(len(data.x_train) / descent.batch_size)
    end = descent.max_epochs
    status, zero_error = DIVERGED, None
    rows: list[list[float]] = []
    readout: Any = model[-1]
    test_outputs = np.full((len(data.x_test), readout.out_features), np.nan, dtype=np.float32)
    for taken, _ in enumerate(
        take_steps(
            model,
            optimizer,
            data,
            seed=seed,
            n_steps=(end + descent.extra_epochs) * n_batches,
            batch_size=descent.batch_size,
            stopped=stopped,
        )
    ):
        epoch, rest = divmod(taken, n_batches)
        if rest:
            continue
        row = performance(model, data, stopped)
        if not np.isfinite(row).all():
            break
        rows.append(row)
        if row[_TRAIN_ACCURACY] == 1.0 and zero_error is None:
            zero_error = epoch
            end = epoch + descent.extra_epochs if descent.to_zero_error else end
        now = {str(epoch), AT_ZERO_ERROR if epoch == zero_error else "", LAST if epoch == end else ""}
        places = [place for place, label in enumerate(keep) if label in now]
        if places and record is not None:
            record.write(places, epoch, model, data, stopped)
        if epoch == end:
            status = OUT_OF_EPOCHS if descent.to_zero_error and zero_error is None else TRAINED
            _fill_outputs(test_outputs, model, data.x_test, stopped)
            break
    return EpochRun(np.reshape(rows, (-1, len(PERFORMANCE))), zero_error, status, test_outputs)


def _fill_outputs(into: NDArray[np.float32], module: torch.nn.Module, x: torch.Tensor, stopped: Event) -> None:
    """Write the outputs for all samples, (sample, output), or some of them once stopped."""
    import torch

    with torch.inference_mode():
        for start in range(0, len(x), EVALUATED_AT_ONCE):
            if stopped.is_set():
                return
            some = slice(start, start + EVALUATED_AT_ONCE)
            into[some] = module(x[some]).numpy()
