"""Steps of training on a labelled data set, and what a network makes of the whole set."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event
from typing import TYPE_CHECKING, NamedTuple

from wideangle.data import LabelledData
from wideangle.reference._torch import BATCHES, generator
from wideangle.reference.training import sample_batches

if TYPE_CHECKING:
    import torch

    from wideangle.reference.scaled_modules import ScaledOptimizer

PERFORMANCE = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
EVALUATED_AT_ONCE = 1000


class Tensors(NamedTuple):
    """A training and a test set as tensors."""

    x_train: torch.Tensor
    y_train: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor


def as_tensors(data: LabelledData) -> Tensors:
    """Copy data, whose arrays are read-only, to tensors."""
    import torch

    return Tensors(*(torch.tensor(array) for array in (data.x_train, data.y_train, data.x_test, data.y_test)))


def take_steps(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer | ScaledOptimizer,
    data: Tensors,
    *,
    seed: int,
    n_steps: int,
    batch_size: int,
    stopped: Event,
) -> Iterator[float]:
    """Yield the loss of the next batch before each step and after the last one; the step is taken on resuming."""
    import torch

    batches = sample_batches(len(data.x_train), batch_size, generator(seed, BATCHES))
    for taken, batch in enumerate(batches):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(data.x_train[batch]), data.y_train[batch])
        yield loss.item()
        if taken == n_steps or stopped.is_set():
            return
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def mean_loss(
    model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, stopped: Event | None = None
) -> tuple[float, float]:
    """Return the mean cross-entropy and the share of correct classes; anything once stopped."""
    import torch

    loss, correct = 0.0, 0
    with torch.inference_mode():
        for some_x, some_y in zip(torch.split(x, EVALUATED_AT_ONCE), torch.split(y, EVALUATED_AT_ONCE), strict=True):
            if stopped is not None and stopped.is_set():
                break
            outputs = model(some_x)
            loss += float(torch.nn.functional.cross_entropy(outputs, some_y, reduction="sum"))
            correct += int((outputs.argmax(dim=1) == some_y).sum())
    return loss / len(y), correct / len(y)


def performance(model: torch.nn.Module, data: Tensors, stopped: Event | None = None) -> list[float]:
    """Return the entries of PERFORMANCE; anything once stopped."""
    train, test = (data.x_train, data.y_train), (data.x_test, data.y_test)
    return [*mean_loss(model, *train, stopped), *mean_loss(model, *test, stopped)]
