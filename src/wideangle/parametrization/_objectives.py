"""What full-batch training minimizes: the mean over samples of a loss of one output, or of several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import check_array, check_choice, check_integer, check_numbers
from wideangle.losses import LOSSES, Loss, parse_loss

Array = NDArray[np.float64]

_MULTIPLE = ("squared", "cross-entropy")


@dataclass(frozen=True, eq=False)
class Objective:
    """A mean loss over samples, with its targets (sample, unit).

    They are numbers for the squared loss, labels -1 or 1 of one output, and rows that are one at the class and zero
    elsewhere for the cross-entropy of several outputs.
    """

    loss: Loss
    targets: Array
    scalar: bool

    @property
    def n_outputs(self) -> int:
        """Number of outputs of the network."""
        return int(self.targets.shape[1])

    def value(self, outputs: Array) -> Array:
        """Return the mean loss, given outputs (..., sample, unit)."""
        if self.loss.name == "squared":
            return np.asarray(np.mean(0.5 * np.sum((outputs - self.targets) ** 2, axis=-1), axis=-1))
        if self.scalar:
            return np.asarray(np.mean(self.loss.value(self.targets * outputs), axis=(-2, -1)))
        shifted = outputs - outputs.max(axis=-1, keepdims=True)
        chosen = np.sum(self.targets * shifted, axis=-1)
        return np.asarray(np.mean(np.log(np.sum(np.exp(shifted), axis=-1)) - chosen, axis=-1))

    def descent(self, outputs: Array, learning_rate: float) -> Array:
        """Return minus the learning rate times the derivative of the mean loss by the outputs, (sample, unit)."""
        if self.loss.name == "squared":
            slopes = outputs - self.targets
        elif self.scalar:
            slopes = -self.targets * self.loss.force(self.targets * outputs)
        else:
            raised = np.exp(outputs - outputs.max(axis=1, keepdims=True))
            slopes = raised / raised.sum(axis=1, keepdims=True) - self.targets
        return np.asarray(-learning_rate / len(self.targets) * slopes)


def check_objective(loss: Any, y0: Any, n_outputs: Any, n_samples: int) -> Objective:
    """Return the loss with targets for that many samples, or raise."""
    if n_outputs is not None:
        remedy = "give the number of classes or of outputs, or None for a single output"
        n_outputs = check_integer("n_outputs", n_outputs, low=1, high=10**6, remedy=remedy)
    kind = parse_loss(check_choice("loss", loss, LOSSES) if not isinstance(loss, Loss) else loss)
    if kind.name == "squared":
        targets, scalar = _check_numbers(y0, n_outputs)
    elif n_outputs is None:
        targets, scalar = _check_signs(y0, kind.name)[:, None], True
    elif kind.name == "cross-entropy":
        targets, scalar = np.eye(n_outputs)[_check_classes(y0, n_outputs)], False
    else:
        raise ValueError(f"loss must be one of {_MULTIPLE} where n_outputs is given, got {kind.name!r}; leave it out")
    if len(targets) != n_samples:
        raise ValueError(f"y0 must have one entry for each of the {n_samples} samples of x0, got {len(targets)}")
    return Objective(kind, targets, scalar)


def _check_numbers(y0: Any, n_outputs: int | None) -> tuple[Array, bool]:
    remedy = "give targets (sample), or (sample, output) for several outputs"
    targets = check_numbers("y0", y0, ndim=(0, 1, 2), largest=1e50, remedy=remedy)
    scalar = targets.ndim < 2
    if n_outputs is not None and n_outputs != (1 if scalar else targets.shape[1]):
        raise ValueError(f"n_outputs must be that of y0, got {n_outputs} and y0 of shape {targets.shape}; {remedy}")
    return targets.reshape(-1, 1) if scalar else targets, scalar


def _check_signs(y0: Any, loss: str) -> Array:
    several = ", or n_outputs for integer classes from 0" if loss == "cross-entropy" else ""
    remedy = f"give labels -1 and 1{several}"
    labels = np.atleast_1d(check_numbers("y0", y0, ndim=(0, 1), remedy=remedy))
    if not np.all(np.abs(labels) == 1.0):
        wrong = labels[np.abs(labels) != 1.0][0]
        raise ValueError(f"y0 must hold labels -1 and 1 for the loss {loss!r} of one output, got {wrong:g}; {remedy}")
    return labels


def _check_classes(y0: Any, n_outputs: int) -> NDArray[np.int64]:
    remedy = f"give an integer class from 0 to {n_outputs - 1} for each sample"
    labels = np.atleast_1d(check_array("y0", y0, ndim=(0, 1), remedy=remedy))
    if labels.dtype.kind not in "iu":
        raise TypeError(f"y0 must hold integers, got type {labels.dtype}; {remedy}")
    if labels.min() < 0 or labels.max() >= n_outputs:
        raise ValueError(
            f"y0 must hold classes from 0 to {n_outputs - 1}, got {labels.min()} to {labels.max()}; {remedy}"
        )
    return labels.astype(np.int64)
