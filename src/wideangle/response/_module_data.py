"""Training data of modules: inputs with labels beside them, or both in one."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import check_array
from wideangle.data import LabelledData

_REMEDY = (
    "give inputs as x_train and labels as y_train, or as x_train a pair (x, y), a wideangle.data.LabelledData or a "
    "torch.utils.data.TensorDataset of both"
)


class TrainingData(NamedTuple):
    """Inputs as they were given, labels as an array, and what error messages call these.

    ``classes`` is the number of classes where it is certain that the labels are such, else None.
    """

    x: Any
    labels: NDArray[Any]
    name: str
    classes: int | None = None


def read_training_data(x_train: Any, y_train: Any) -> TrainingData:
    """Return inputs and labels, of which there must be the latter just once."""
    both = _both_in_one(x_train, alone=y_train is None)
    if both is not None and y_train is not None:
        raise ValueError(
            f"y_train must be left out where x_train holds labels, got y_train and as x_train {_described(x_train)}; "
            f"{_REMEDY}"
        )
    if both is not None:
        return both
    if y_train is None:
        raise ValueError(f"y_train must be given where x_train holds no labels, got {_described(x_train)}; {_REMEDY}")
    return TrainingData(x_train, _labels("y_train", y_train), "y_train")


def _both_in_one(value: Any, *, alone: bool) -> TrainingData | None:
    """Return inputs and labels that are given together, or None; ``alone`` if no labels are given besides."""
    if isinstance(value, LabelledData):
        return TrainingData(value.x_train, value.y_train, "x_train.y_train", value.n_classes)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.utils.data.TensorDataset):
        if len(value.tensors) != 2:
            raise ValueError(
                f"x_train must be a TensorDataset of two tensors, got one of {len(value.tensors)}; {_REMEDY}"
            )
        return TrainingData(value.tensors[0], _labels("x_train.tensors[1]", value.tensors[1]), "x_train.tensors[1]")
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        return None
    x_dims, y_dims = map(_dimensions, value)
    # Two samples may come as a list or tuple too. Then they are of one shape, and without y_train of no use.
    if x_dims < 2 or (y_dims == x_dims and not alone):
        return None
    return TrainingData(value[0], _labels("x_train[1]", value[1]), "x_train[1]")


def _dimensions(value: Any) -> int:
    if hasattr(value, "ndim"):
        return int(value.ndim)
    try:
        return np.ndim(value)
    except ValueError:  # rows of different lengths
        return 0


def _labels(name: str, value: Any) -> NDArray[Any]:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        # NumPy knows no bfloat16.
        value = value.double() if value.is_floating_point() else value
    return check_array(name, value, ndim=(1, 2), remedy="give a label for each training sample")


def _described(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"{type(value).__name__} of shape {tuple(shape)}"
