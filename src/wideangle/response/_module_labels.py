"""Labels and losses of modules with one output or several: what is allowed, values and derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import check_numbers
from wideangle.losses import Loss
from wideangle.response._module_data import TrainingData

Array = NDArray[np.float64]


def check_labels(data: TrainingData, n_samples: int, n_outputs: int, loss: Loss) -> NDArray[Any]:
    """Return labels (sample) or targets (sample, output) in float64, or classes for the cross-entropy as integers."""
    name, labels = data.name, data.labels
    if len(labels) != n_samples:
        raise ValueError(f"{name} must hold {n_samples} labels, one for each sample of x_train, got {len(labels)}")
    if n_outputs == 1:
        return _check_one_label(data, n_samples, loss)
    if loss.name not in ("cross-entropy", "squared"):
        raise ValueError(
            f"loss must be 'cross-entropy' or 'squared' for a module of {n_outputs} outputs, got {loss.name!r}; give a "
            "module with one output"
        )
    if labels.ndim == 2:
        if loss.name != "squared" or labels.shape[1] != n_outputs:
            raise ValueError(
                f"{name} must hold one class for each sample, or with the squared loss {n_outputs} targets, one for "
                f"each output, got shape {labels.shape}"
            )
        return check_numbers(name, labels, remedy="give finite targets")
    wrong = np.flatnonzero((labels < 0) | (labels >= n_outputs) | (labels != np.floor(labels)) | np.isnan(labels))
    if wrong.size:
        raise ValueError(
            f"{name} must hold classes from 0 to {n_outputs - 1} for a module of {n_outputs} outputs, got "
            f"{name}[{wrong[0]}] = {labels[wrong[0]]}; number the classes from 0 on, for labels -1 and 1 with "
            "(y + 1) // 2"
        )
    classes = labels.astype(np.int64)
    return classes if loss.name == "cross-entropy" else np.eye(n_outputs)[classes]


def _check_one_label(data: TrainingData, n_samples: int, loss: Loss) -> Array:
    name, labels = data.name, data.labels
    if data.classes is not None:
        if data.classes != 2:
            raise ValueError(
                f"x_train must have two classes for a module with one output, got {data.classes}; choose two of them, "
                "or give a module with an output for each class"
            )
        return 2.0 * labels - 1.0
    if labels.size != n_samples:
        raise ValueError(f"{name} must hold one label for each sample of a single output, got shape {labels.shape}")
    values = check_numbers(name, labels.reshape(-1), remedy="give finite labels")
    wrong = np.flatnonzero(np.abs(values) != 1.0)
    if loss.name != "squared" and wrong.size:
        raise ValueError(
            f"{name} must be -1 or 1 for loss={loss.name!r} and a module with one output, got {name}[{wrong[0]}] = "
            f"{values[wrong[0]]:g}; give 2 * y - 1 for labels 0 and 1, or a module with an output for each class"
        )
    return values


def derivative(loss: Loss, outputs: Array, labels: NDArray[Any]) -> Array:
    """Return the derivative (sample, output) of the loss by the outputs."""
    if loss.name == "squared":
        return np.asarray(outputs - labels.reshape(outputs.shape), np.float64)
    if outputs.shape[1] == 1:
        y = labels[:, None]
        return -y * loss.force(y * outputs)
    shares: Array = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    # Of its own class the share less 1, without the cancellation.
    own = np.arange(len(labels)), labels
    shares[own] = 0.0
    shares[own] = -shares.sum(axis=1)
    return shares


def mean_loss(loss: Loss, outputs: Array, labels: NDArray[Any]) -> float:
    """Return the mean loss over samples of outputs (sample, output)."""
    if loss.name == "squared":
        return float(0.5 * np.square(outputs - labels.reshape(outputs.shape)).sum(axis=1).mean())
    if outputs.shape[1] == 1:
        return float(loss.value(labels * outputs[:, 0]).mean())
    above = outputs - outputs[np.arange(len(labels)), labels][:, None]
    largest = above.max(axis=1)
    return float(np.mean(largest + np.log(np.exp(above - largest[:, None]).sum(axis=1))))
