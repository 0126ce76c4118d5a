"""Activations of a layer, and what goes with them, as a user gives them."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wideangle._checks import check_array, check_choice, check_numbers

LARGEST = 1e100  # Squares of activations are summed.
_ROWS_AT_ONCE = 4096


class Layer(NamedTuple):
    """Checked activations: float32 or float64, C-contiguous, finite; ``varying`` marks neurons that do vary."""

    features: NDArray[Any]
    varying: NDArray[np.bool_]
    targets: NDArray[np.int64] | None
    n_dropped: int


class Readout(NamedTuple):
    """Checked weights of the next layer, (class, neuron), its biases, and the classes that are right."""

    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    targets: NDArray[np.int64]


def check_layer(features: ArrayLike, targets: ArrayLike | None, missing: Literal["raise", "drop"]) -> Layer:
    """Return activations of at least two neurons for at least three samples, without those that are not finite."""
    remedy = "give the activations of a layer, one row a sample and one column a neuron"
    check_choice("missing", missing, ("raise", "drop"))
    array = check_array("features", features, ndim=(2,), remedy=remedy)
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64)
    labels = None if targets is None else _check_targets(targets, len(array))
    usable = _usable_rows(array)
    n_dropped = len(array) - int(np.count_nonzero(usable))
    if n_dropped:
        if missing == "raise":
            count = int(np.count_nonzero(~_usable(array[~usable])))
            raise ValueError(
                f"features must be finite and at most {LARGEST:g} in size, got {count} other value(s) in {n_dropped} of"
                f" {len(array)} samples, the first in row {int(np.argmin(usable))};"
                f' give missing="drop" to leave these samples out'
            )
        array, labels = array[usable], None if labels is None else labels[usable]
    if array.shape[0] < 3 or array.shape[1] < 2:
        raise ValueError(
            f"features must hold at least 3 samples of at least 2 neurons, got shape {array.shape}"
            f"{f' after {n_dropped} samples were dropped' if n_dropped else ''}; {remedy}"
        )
    array = np.ascontiguousarray(array)
    varying = np.ptp(array, axis=0) > 0
    if not varying.any():
        raise ValueError(
            f"features must vary, got {array.shape[1]} neurons that are constant over {len(array)} samples; give"
            f" activations of different inputs"
        )
    return Layer(array, varying, labels, n_dropped)


def check_readout(readout: Any, bias: Any, layer: Layer) -> Readout | None:
    """Return weights and biases that fit a layer and its targets, or None if there are neither."""
    if readout is None:
        for name, given in (("bias", bias), ("targets", layer.targets)):
            if given is not None:
                raise ValueError(f"{name} needs the readout it belongs to; give readout, of shape (class, neuron)")
        return None
    if layer.targets is None:
        raise ValueError("readout needs targets to compare with; give the label of each sample")
    neurons = layer.features.shape[1]
    remedy = f"give the weights of the next layer, of shape (class, {neurons}), as torch.nn.Linear holds them"
    weights = check_numbers("readout", readout, ndim=(2,), remedy=remedy, largest=LARGEST)
    if weights.shape[1] != neurons or len(weights) < 2:
        turned = "; this looks like its transpose: give readout.T" if weights.shape[0] == neurons else ""
        raise ValueError(
            f"readout must have at least 2 classes and the {neurons} neurons of features, got shape"
            f" {weights.shape}{turned}; {remedy}"
        )
    classes = len(weights)
    shifts = np.zeros(classes)
    if bias is not None:
        remedy = f"give one number for each of the {classes} classes of the readout"
        shifts = check_numbers("bias", bias, ndim=(1,), remedy=remedy, largest=LARGEST)
        if len(shifts) != classes:
            raise ValueError(f"bias must hold {classes} numbers, got {len(shifts)}; {remedy}")
    if layer.targets.max() >= classes:
        worst = int(np.argmax(layer.targets))
        raise ValueError(
            f"targets must lie between 0 and {classes - 1}, the classes of the readout, got targets[{worst}] ="
            f" {layer.targets[worst]}; number the classes from 0"
        )
    return Readout(weights, shifts, layer.targets)


def _check_targets(targets: ArrayLike, n_samples: int) -> NDArray[np.int64]:
    remedy = "give the class of each sample as an integer from 0"
    array = check_array("targets", targets, ndim=(1,), remedy=remedy)
    if len(array) != n_samples:
        raise ValueError(f"targets must hold one label for each of the {n_samples} samples, got {len(array)}; {remedy}")
    labels = array.astype(np.int64)
    if (labels != array).any() or labels.min() < 0:
        wrong = int(np.argmax((labels != array) | (labels < 0)))
        raise ValueError(f"targets must be integers from 0, got targets[{wrong}] = {array[wrong]}; {remedy}")
    return labels


def _usable_rows(array: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which samples are finite and not too large, without a copy of the whole array."""
    blocks = range(0, len(array), _ROWS_AT_ONCE)
    return np.concatenate([_usable(array[at : at + _ROWS_AT_ONCE]).all(axis=1) for at in blocks])


def _usable(array: NDArray[Any]) -> NDArray[np.bool_]:
    usable: NDArray[np.bool_] = np.abs(array) <= min(LARGEST, float(np.finfo(array.dtype).max))
    return usable
