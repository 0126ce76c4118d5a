"""Labelled data, standardised for training."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wideangle._checks import check_real, check_seed
from wideangle.data.image_files import MAX_CLASSES, read_image_files


@dataclass(frozen=True, init=False, eq=False, repr=False)
class LabelledData:
    """Standardised features with class labels, split into a training and a test set.

    Parameters
    ----------
    x_train, x_test
        Features, shape (sample, feature); kept as read-only float32 copies. Finite.
    y_train, y_test
        Class labels, shape (sample,), integers from 0; kept as read-only int64 copies.
    name
        What to call the data in results and figures.

    Raises
    ------
    TypeError, ValueError
        If shapes do not fit together, a label is negative or not an integer, or a feature is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> import wideangle as wa
    >>> x, y = np.eye(4, dtype="float32"), np.array([0, 1, 2, 1])
    >>> data = wa.data.LabelledData(x, y, x, y, name="unit vectors")
    >>> data.n_features, data.n_classes
    (4, 3)
    """

    x_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int64]
    name: str

    def __init__(
        self, x_train: ArrayLike, y_train: ArrayLike, x_test: ArrayLike, y_test: ArrayLike, *, name: str
    ) -> None:
        set_field = object.__setattr__
        for part, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
            features, labels = _features(f"x_{part}", x), _labels(f"y_{part}", y)
            if len(features) != len(labels):
                raise ValueError(
                    f"y_{part} must hold one label for each of the {len(features)} rows of x_{part}, got "
                    f"{len(labels)}; give arrays of equal length"
                )
            set_field(self, f"x_{part}", features)
            set_field(self, f"y_{part}", labels)
        if self.x_train.shape[1] != self.x_test.shape[1]:
            raise ValueError(
                f"x_test must have the {self.x_train.shape[1]} features of x_train, got {self.x_test.shape[1]}; "
                f"prepare both in the same way"
            )
        if not isinstance(name, str):
            raise TypeError(f"name must be a string, got {name!r} ({type(name).__name__}); give a short name")
        set_field(self, "name", name)

    def __repr__(self) -> str:
        return (
            f"LabelledData({self.name!r}: {len(self.x_train)} training and {len(self.x_test)} test samples, "
            f"{self.n_features} features, {self.n_classes} classes)"
        )

    @property
    def n_features(self) -> int:
        """Number of features of a sample, the input dimension of a network."""
        return int(self.x_train.shape[1])

    @property
    def n_classes(self) -> int:
        """One more than the largest label, the output dimension of a network."""
        return int(max(self.y_train.max(), self.y_test.max())) + 1


def load_digits(*, seed: int, test_fraction: float = 0.25) -> LabelledData:
    """Load the 1,797 handwritten digits that scikit-learn ships, 8 x 8 pixels in 10 classes.

    Parameters
    ----------
    seed
        Seed of the split, 0 <= seed < 2**64. The split is the same for the same seed, but may change with NumPy's
        minor version.
    test_fraction
        Share of the test set, from 0.01 to 0.99, default 0.25; taken from each class separately and rounded there.

    Returns
    -------
    LabelledData
        Each pixel is standardised with the mean and standard deviation of the training set. A pixel that is
        constant over the training set is zero throughout.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or outside the ranges above.

    Examples
    --------
    >>> import wideangle as wa
    >>> wa.data.load_digits(seed=1)
    LabelledData('digits': 1347 training and 450 test samples, 64 features, 10 classes)

    Notes
    -----
    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
    https://doi.org/10.24432/C50P49; scikit-learn holds its test set.
    """
    rng = np.random.Generator(np.random.Philox(check_seed(seed)))
    remedy = "give the share of the test set, such as 0.25"
    fraction = check_real("test_fraction", test_fraction, remedy=remedy)
    if not 0.01 <= fraction <= 0.99:
        raise ValueError(f"test_fraction must lie between 0.01 and 0.99, got {test_fraction!r}; {remedy}")

    from sklearn import datasets

    pixels, labels = datasets.load_digits(return_X_y=True)
    is_test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        members = rng.permutation(np.flatnonzero(labels == label))
        is_test[members[: round(fraction * len(members))]] = True
    mean = pixels[~is_test].mean(axis=0)
    spread = pixels[~is_test].std(axis=0)
    scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0.0)
    x = (pixels - mean) * scale
    return LabelledData(x[~is_test], labels[~is_test], x[is_test], labels[is_test], name="digits")


def load_images(path: str | os.PathLike[str], *, name: str | None = None) -> LabelledData:
    """Load labelled images from files in the formats of MNIST.

    Parameters
    ----------
    path
        Either a directory with the four IDX files ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``,
        ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``, each plain or gzipped with ``.gz`` appended, a dot
        in place of the hyphen before ``idx`` also being understood; or an NPZ file with arrays ``x_train``,
        ``y_train``, ``x_test`` and ``y_test``, images of shape (sample, row, column) or (sample, row, column,
        channel) and integer labels of shape (sample,) or (sample, 1), as in Keras' ``mnist.npz``. Nothing is ever
        unpickled.
    name
        What to call the data; by default the name of the directory or file.

    Returns
    -------
    LabelledData
        Images flattened and standardised with the mean and standard deviation over all pixels of the training set.

    Raises
    ------
    FileNotFoundError
        If the path, or one of the four IDX files, does not exist.
    TypeError
        If ``path`` is neither a string nor a path.
    ValueError
        If a file is damaged, cut off, too long, of another type than described above, or does not fit the others;
        the message names the file, what was found, what was expected, and the remedy.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> import wideangle as wa
    >>> images, labels = np.arange(48, dtype="uint8").reshape(3, 4, 4), np.array([0, 1, 2])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "tiny.npz")
    ...     np.savez(file, x_train=images, y_train=labels, x_test=images, y_test=labels)
    ...     wa.data.load_images(file)
    LabelledData('tiny': 3 training and 3 test samples, 16 features, 3 classes)
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(
            f"path must be a string or a path, got {path!r} ({type(path).__name__}); give a directory of IDX files or "
            f"an .npz file"
        )
    location = Path(path)
    arrays = read_image_files(location)
    x_train, x_test = (images.reshape(len(images), -1).astype(np.float32) for images in (arrays.x_train, arrays.x_test))
    mean = np.float32(x_train.mean(dtype=np.float64))
    x_train -= mean
    x_test -= mean
    # Row by row: a sum over all pixels in float32 would lose digits, and in float64 would double the memory.
    squares = np.einsum("ij,ij->i", x_train, x_train)
    spread = math.sqrt(squares.sum(dtype=np.float64) / x_train.size)
    if spread == 0.0:
        raise ValueError(
            f"{location}: found training images whose pixels are all {mean:g}, expected images that differ; there is "
            f"no standard deviation to divide by"
        )
    x_train /= spread
    x_test /= spread
    return LabelledData(x_train, arrays.y_train, x_test, arrays.y_test, name=location.stem if name is None else name)


def _features(name: str, value: Any) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        features = np.array(value, dtype=np.float32, order="C")
    if features.ndim != 2 or features.size == 0:
        raise ValueError(f"{name} must have shape (sample, feature), got {features.shape}; flatten each sample")
    if not np.isfinite(features).all():
        raise ValueError(f"{name} must be finite in float32, got NaN or infinite features; remove or replace them")
    features.flags.writeable = False
    return features


def _labels(name: str, value: Any) -> NDArray[np.int64]:
    labels = np.asarray(value)
    if labels.dtype.kind not in "ui":
        raise TypeError(f"{name} must hold integers, got dtype {labels.dtype}; give class numbers from 0")
    if labels.ndim != 1 or labels.size == 0 or labels.min() < 0 or labels.max() >= MAX_CLASSES:
        raise ValueError(
            f"{name} must hold class numbers from 0 to {MAX_CLASSES - 1} in one dimension, got shape {labels.shape} "
            f"and values from {labels.min(initial=0)} to {labels.max(initial=0)}; give one label for each sample"
        )
    labels = np.array(labels, dtype=np.int64)
    labels.flags.writeable = False
    return labels
