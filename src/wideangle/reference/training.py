"""Training of classifiers in PyTorch."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import check_integer, check_positive_real, check_seed
from wideangle.data import LabelledData
from wideangle.reference._torch import BATCHES, generator, require_torch, torch_threads

if TYPE_CHECKING:
    import torch

TRAINED = 0
DIVERGED = 1

_EVALUATED_AT_ONCE = 1000


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """What a training run came to.

    Parameters
    ----------
    accuracy
        Share of the test set that is classified correctly, from 0 to 1; NaN if training diverged.
    train_loss
        Cross-entropy of each minibatch before its step, in nats, shape (step,). The last value is not finite if
        training diverged in the loss.
    steps
        Number of minibatches seen.
    seconds
        Wall time of the steps, without the evaluation.
    status
        0 trained, 1 diverged: the loss, or an output on the test set, became infinite or NaN.
    """

    accuracy: float
    train_loss: NDArray[np.float64]
    steps: int
    seconds: float
    status: int


class TrainingOptions(NamedTuple):
    """Checked options of a training run; the fields are arguments of `train_classifier`."""

    learning_rate: float
    batch_size: int
    steps: int


def check_training_options(
    data: Any, *, learning_rate: Any, batch_size: Any, epochs: Any, steps: Any
) -> TrainingOptions:
    """Return the options with the number of steps worked out, or raise."""
    if not isinstance(data, LabelledData):
        raise TypeError(
            f"data must be a LabelledData, got {type(data).__name__}; take one from wideangle.data, such as "
            f"wideangle.data.load_digits(seed=1)"
        )
    remedy = "give a positive learning rate, such as 1e-3"
    rate = check_positive_real("learning_rate", learning_rate, remedy=remedy)
    n_train = len(data.x_train)
    remedy = f"give at most the {n_train} training samples, such as {min(100, n_train)}"
    size = check_integer("batch_size", batch_size, low=1, high=n_train, remedy=remedy)
    if steps is None:
        epochs = check_integer("epochs", epochs, low=1, high=10**9, remedy="give a number of epochs, such as 1")
        return TrainingOptions(rate, size, epochs * math.ceil(n_train / size))
    remedy = "give a number of minibatches, such as 600, or None to count in epochs"
    return TrainingOptions(rate, size, check_integer("steps", steps, low=1, high=10**12, remedy=remedy))


def train_classifier(
    model: torch.nn.Module,
    data: LabelledData,
    *,
    seed: int,
    learning_rate: float = 1e-3,
    batch_size: int = 100,
    epochs: int = 1,
    steps: int | None = None,
    n_threads: int = 1,
) -> TrainingResult:
    """Train a classifier in place with Adam on the cross-entropy, and test it.

    Parameters
    ----------
    model
        Maps inputs of shape (sample, feature) in float32 to one output per class, on the CPU.
    data
        Training and test set.
    seed
        Seed of the order of the samples, 0 <= seed < 2**64; reshuffled every epoch. PyTorch's global generator is
        neither used nor advanced. The result is the same for the same seed, number of threads, machine and version of
        PyTorch.
    learning_rate
        Of Adam, with PyTorch's other defaults (betas 0.9 and 0.999, eps 1e-8, no weight decay). Default 1e-3.
    batch_size
        Samples in a minibatch, default 100. The last one of an epoch is smaller if the sizes do not divide.
    epochs
        Passes over the training set, default 1. Time is counted in steps and epochs here, since Adam follows no
        gradient flow: learning rate times steps bounds how far a weight moves, and is no flow time.
    steps
        Number of minibatches in place of ``epochs``; begins the training set again as often as needed.
    n_threads
        Threads of PyTorch during the call, restored afterwards. Default 1. Two threads on two idle cores took 0.6
        times as long for layers of 256 neurons and as long for layers of 50; on busy cores, up to ten times as long.

    Returns
    -------
    TrainingResult
        Divergence is no error but a status.

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    TypeError, ValueError
        If an argument is of the wrong type or out of range, or the model does not fit the data.

    Examples
    --------
    >>> import wideangle as wa
    >>> data = wa.data.load_digits(seed=1)
    >>> model = wa.reference.build_mlp((64,), n_inputs=64, n_outputs=10, seed=1)
    >>> result = wa.reference.train_classifier(model, data, seed=1, epochs=4)
    >>> result.steps, result.accuracy > 0.8
    (56, True)
    """
    options = check_training_options(
        data, learning_rate=learning_rate, batch_size=batch_size, epochs=epochs, steps=steps
    )
    check_seed(seed)
    check_integer("n_threads", n_threads, low=1, high=1024, remedy="give 1 or more")
    require_torch()
    import torch

    with torch_threads(n_threads):
        # torch.tensor copies: the arrays are read-only, which from_numpy cannot express.
        x_train, y_train = torch.tensor(data.x_train), torch.tensor(data.y_train)
        x_test, y_test = torch.tensor(data.x_test), torch.tensor(data.y_test)
        _check_outputs(model, x_test[:1], data.n_classes)
        rng = generator(seed, BATCHES)
        start = time.perf_counter()
        train_loss = _take_steps(model, x_train, y_train, options, rng)
        seconds = time.perf_counter() - start
        diverged = not math.isfinite(train_loss[-1])
        accuracy = math.nan if diverged else _accuracy(model, x_test, y_test)
    return TrainingResult(
        accuracy=accuracy,
        train_loss=np.array(train_loss),
        steps=len(train_loss),
        seconds=seconds,
        status=DIVERGED if math.isnan(accuracy) else TRAINED,
    )


def _take_steps(
    model: torch.nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    options: TrainingOptions,
    rng: torch.Generator,
) -> list[float]:
    import torch

    # Fused: one kernel for all weights. For 50 layers a step takes 40% less time than with the default.
    optimizer = torch.optim.Adam(model.parameters(), lr=options.learning_rate, fused=True)
    train_loss = []
    for batch in itertools.islice(sample_batches(len(x), options.batch_size, rng), options.steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x[batch]), y[batch])
        train_loss.append(loss.item())
        if not math.isfinite(train_loss[-1]):
            break
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return train_loss


def sample_batches(n_samples: int, batch_size: int, rng: torch.Generator) -> Iterator[torch.Tensor]:
    """Yield batches of samples for ever, all samples in a new order in every epoch."""
    import torch

    while True:
        yield from torch.split(torch.randperm(n_samples, generator=rng, device=rng.device), batch_size)


def _accuracy(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Return the share of correct classes, or NaN if an output is not finite."""
    import torch

    correct = 0
    with torch.inference_mode():
        for some_x, some_y in zip(torch.split(x, _EVALUATED_AT_ONCE), torch.split(y, _EVALUATED_AT_ONCE), strict=True):
            outputs = model(some_x)
            if not outputs.isfinite().all():
                return math.nan
            correct += int((outputs.argmax(dim=1) == some_y).sum())
    return correct / len(y)


def _check_outputs(model: torch.nn.Module, x: torch.Tensor, n_classes: int) -> None:
    import torch

    expected = f"one input of {x.shape[1]} features to {n_classes} outputs"
    remedy = f"build it with n_inputs={x.shape[1]}, n_outputs={n_classes}"
    try:
        with torch.inference_mode():
            shape = tuple(model(x).shape)
    except RuntimeError as error:
        raise ValueError(f"model must map {expected}, got the error {error}; {remedy}") from error
    if shape != (1, n_classes):
        raise ValueError(f"model must map {expected}, got outputs of shape {shape}; {remedy}")
