"""Checks of what training takes: data with labels that fit the loss, batches, noise, and the steps to record."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import (
    check_choice,
    check_increasing_integers,
    check_integer,
    check_memory,
    check_positive_real,
    check_real,
    check_rtol,
)
from wideangle.data import LabelledData
from wideangle.losses import Loss
from wideangle.propagation._inputs import as_numbers, check_inputs

Array = NDArray[np.float64]

MAX_STEPS = 10**12
METHODS = ("descent", "flow")
KEPT = ("tangent_kernel", "hidden_activations")


def check_data(data: Any, loss: Loss) -> tuple[Array, Array]:
    """Return inputs (sample, feature) and labels (sample) that fit the loss."""
    if isinstance(data, LabelledData):
        if data.n_classes != 2:
            raise ValueError(
                f"data must have two classes, got {data!r}; choose two of them and give (x, y) with labels -1 and 1"
            )
        return data.x_train.astype(np.float64), 2.0 * data.y_train.astype(np.float64) - 1.0
    remedy = (
        "give a pair (x, y) of inputs (sample, feature) and labels (sample,), or wa.data.LabelledData of two classes"
    )
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise TypeError(f"data must be a pair of arrays, got {type(data).__name__}; {remedy}")
    x = check_inputs("x", data[0])
    y = as_numbers("y", data[1], remedy=remedy)
    if y.shape != (len(x),):
        raise ValueError(f"y must hold one label for each of the {len(x)} rows of x, got shape {y.shape}; {remedy}")
    return x, check_labels("y", y, loss)


def check_labels(name: str, y: Array, loss: Loss) -> Array:
    """Return labels if the loss can take them: -1 and 1, or any numbers for the squared loss."""
    wrong = np.flatnonzero(np.abs(y) != 1.0)
    if loss.name != "squared" and wrong.size:
        raise ValueError(
            f"{name} must be -1 or 1 for the {loss.name} loss, got {name}[{wrong[0]}] = {y[wrong[0]]:g}; give -1 "
            "and 1, or take loss='squared' for other numbers"
        )
    return y


def check_batch(batch: Any, n_samples: int) -> int | None:
    """Return the number of samples of a batch, or None for all of them."""
    if isinstance(batch, str) and batch == "full":
        return None
    remedy = "give 'full' or a number of samples"
    if isinstance(batch, str):
        raise ValueError(f"batch must be 'full' or an integer, got {batch!r}; {remedy}")
    return check_integer("batch", batch, low=1, high=n_samples, remedy=f"{remedy}, of which data has {n_samples}")


def check_learning_rate(value: Any) -> float:
    """Return a positive learning rate."""
    return check_positive_real("learning_rate", value, remedy="give a positive learning rate, such as 0.1")


def check_noise(value: Any, loss: Loss) -> float:
    """Return the standard deviation of label noise, or the probability of a flip; 0 for none."""
    if value is None:
        return 0.0
    squared = loss.name == "squared"
    kind = "standard deviation of the noise" if squared else "probability that a label changes its sign"
    remedy = f"give the {kind}, or None"
    result = check_real("noise", value, remedy=remedy)
    if result < 0.0 or (result > 1.0 and not squared):
        allowed = "0 or more" if squared else f"between 0 and 1 for the {loss.name} loss"
        raise ValueError(f"noise must be {allowed}, got {value!r}; {remedy}")
    return result


def check_biases(value: Any) -> str:
    """Return which layers have biases: "all", "hidden" ones alone, or "none"."""
    if isinstance(value, str) and value == "hidden":
        return value
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"biases must be True, False or 'hidden', got {value!r}; give one of them")
    return "all" if value else "none"


def check_method(method: Any, batch: Any, noise: float, rtol: Any, *, smooth: bool) -> float:
    """Return what a step of gradient flow may err by, which has no meaning for batches and noise, or 0 for descent."""
    method = check_choice("method", method, METHODS)
    tolerance = check_rtol((1e-8 if smooth else 1e-6) if rtol is None else rtol)
    if method == "descent":
        return 0.0
    if batch != "full":
        raise ValueError(f"batch must be 'full' for method='flow', got {batch!r}; take method='descent' for batches")
    if noise:
        raise ValueError(f"noise must be None for method='flow', got {noise!r}; take method='descent' for label noise")
    return tolerance


def check_records(record: Any, n_steps: int) -> tuple[int, ...]:
    """Return the steps to record, increasing."""
    remedy = f"give None, an interval in steps, or increasing steps from 0 to n_steps = {n_steps}"
    if record is None:
        powers = (2**k for k in range(n_steps.bit_length()))
        return tuple(sorted({0, n_steps, *powers}))
    if isinstance(record, np.ndarray) and record.ndim == 0:
        record = record.item()
    if isinstance(record, Iterable) and not isinstance(record, (str, bytes)):
        return check_increasing_integers("record", record, low=0, high=n_steps, remedy=remedy)
    interval = check_integer("record", record, low=1, high=max(n_steps, 1), remedy=remedy)
    steps = range(0, n_steps + 1, interval)
    check_memory(40 * len(steps), f"record = {interval} makes {len(steps)} records, which need", remedy=remedy)
    return tuple(steps) if steps[-1] == n_steps else (*steps, n_steps)


def check_kept(keep: Any) -> tuple[str, ...]:
    """Return what else to keep."""
    names = (keep,) if isinstance(keep, str) else keep
    if not isinstance(names, Iterable):
        raise TypeError(f"keep must be a sequence of names, got {keep!r}; choose from {', '.join(KEPT)}")
    names = tuple(names)
    for name in names:
        if name not in KEPT:
            raise ValueError(f"keep must hold names from {', '.join(map(repr, KEPT))}, got {name!r}")
    return names
