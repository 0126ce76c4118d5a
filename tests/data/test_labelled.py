"""LabelledData, the digits, and the standardisation of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wideangle as wa

X = np.arange(12.0).reshape(4, 3)
Y = np.array([0, 1, 2, 1])


def test_fields_are_read_only_copies_of_the_promised_types() -> None:
    x, y = X.copy(), Y.copy()
    data = wa.data.LabelledData(x, y, x, y, name="test")
    x[:] = -1.0
    y[:] = 0
    np.testing.assert_array_equal(data.x_train, X)
    np.testing.assert_array_equal(data.y_test, Y)
    for array, dtype in ((data.x_train, np.float32), (data.x_test, np.float32), (data.y_train, np.int64)):
        assert array.dtype == dtype
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    with pytest.raises(AttributeError):
        data.name = "other"  # type: ignore[misc]
    assert data.n_features == 3
    assert data.n_classes == 3
    assert repr(data) == "LabelledData('test': 4 training and 4 test samples, 3 features, 3 classes)"


@pytest.mark.parametrize(
    ("replaced", "error", "message"),
    [
        ({"x_train": X[:3]}, ValueError, "y_train must hold one label for each of the 3 rows"),
        ({"x_test": X[:, :2]}, ValueError, "x_test must have the 3 features of x_train, got 2"),
        ({"x_test": X[0]}, ValueError, "x_test must have shape"),
        ({"x_train": X * np.nan}, ValueError, "x_train must be finite"),
        ({"x_train": X * 1e300}, ValueError, "x_train must be finite in float32"),
        ({"y_train": Y * 1.0}, TypeError, "y_train must hold integers, got dtype float64"),
        ({"y_train": -Y}, ValueError, "values from -2 to 0"),
        ({"y_train": Y + 2**16}, ValueError, "from 0 to 65535"),
        ({"y_train": Y[:, None]}, ValueError, "in one dimension"),
        ({"name": 3}, TypeError, "name must be a string"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(replaced: dict[str, Any], error: type[Exception], message: str) -> None:
    fields: dict[str, Any] = {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y, "name": "test"}
    with pytest.raises(error, match=message):
        wa.data.LabelledData(**{**fields, **replaced})


def test_digits_are_standardised_with_the_training_set_alone() -> None:
    from sklearn.datasets import load_digits

    data = wa.data.load_digits(seed=3)
    assert (data.n_features, data.n_classes, data.name) == (64, 10, "digits")
    pixels = load_digits().data
    assert len(data.x_train) + len(data.x_test) == len(pixels)
    constant = (data.x_train == 0.0).all(axis=0)
    # Pixel 0 is blank in every digit; the others differ between training sets.
    assert constant[0]
    assert constant.sum() < 10
    assert not data.x_test[:, constant].any()
    varying = data.x_train[:, ~constant].astype(float)
    # float32 rounds each value by 6e-8 of its size, at most 37 here.
    np.testing.assert_allclose(varying.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(varying.std(axis=0), 1.0, atol=1e-5)
    assert abs(data.x_test[:, ~constant].mean(axis=0)).max() > 0.05


def test_digits_are_split_into_parts_of_the_whole() -> None:
    from sklearn.datasets import load_digits

    data = wa.data.load_digits(seed=3)
    pixels, labels = load_digits(return_X_y=True)
    # Undoing the standardisation by a least-squares line per pixel would need the split; the labels and the ranks of
    # the pixels within each column do not.
    x, y = np.concatenate([data.x_train, data.x_test]), np.concatenate([data.y_train, data.y_test])
    kept = ~(data.x_train == 0.0).all(axis=0)

    def rows(values: np.ndarray[Any, Any], classes: np.ndarray[Any, Any]) -> list[tuple[int, ...]]:
        ranks = np.stack([np.unique(column, return_inverse=True)[1] for column in values.T], axis=1)
        return sorted(map(tuple, np.column_stack([ranks, classes]).tolist()))

    assert rows(x[:, kept], y) == rows(pixels[:, kept], labels)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**64 - 1), fraction=st.floats(0.01, 0.99))
def test_digits_are_split_by_class_and_seed(seed: int, fraction: float) -> None:
    data = wa.data.load_digits(seed=seed, test_fraction=fraction)
    again = wa.data.load_digits(seed=seed, test_fraction=fraction)
    np.testing.assert_array_equal(data.x_test, again.x_test)
    np.testing.assert_array_equal(data.y_train, again.y_train)
    in_test = np.bincount(data.y_test, minlength=10)
    in_all = in_test + np.bincount(data.y_train, minlength=10)
    assert (abs(in_test - fraction * in_all) <= 0.5).all()
    other = wa.data.load_digits(seed=seed ^ 1, test_fraction=fraction)
    assert not np.array_equal(data.x_test, other.x_test)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"seed": -1}, ValueError, "seed"),
        ({"seed": 1.5}, TypeError, "seed"),
        ({"seed": 1, "test_fraction": 0.0}, ValueError, "test_fraction must lie between 0.01 and 0.99"),
        ({"seed": 1, "test_fraction": 1.0}, ValueError, "test_fraction must lie between 0.01 and 0.99"),
        ({"seed": 1, "test_fraction": "half"}, TypeError, "test_fraction"),
    ],
)
def test_load_digits_refuses_bad_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        wa.data.load_digits(**arguments)


def test_images_are_standardised_with_all_pixels_of_the_training_set(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    train, test = rng.integers(0, 256, (50, 6, 5)), rng.integers(0, 100, (20, 6, 5))
    path = tmp_path / "some.npz"
    labels = rng.integers(0, 4, 50)
    np.savez(path, x_train=train.astype(np.uint8), y_train=labels, x_test=test.astype(np.uint8), y_test=labels[:20])
    data = wa.data.load_images(str(path))
    mean, spread = train.mean(), train.std()
    np.testing.assert_allclose(data.x_train, ((train - mean) / spread).reshape(50, 30), atol=1e-6)
    np.testing.assert_allclose(data.x_test, ((test - mean) / spread).reshape(20, 30), atol=1e-6)
    np.testing.assert_array_equal(data.y_train, labels)
    assert data.name == "some"
    assert wa.data.load_images(path, name="mine").name == "mine"


def test_images_without_any_difference_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.npz"
    blank, labels = np.full((3, 2, 2), 0.1), np.array([0, 1, 0])
    np.savez(path, x_train=blank, y_train=labels, x_test=blank, y_test=labels)
    with pytest.raises(ValueError, match=r"pixels are all 0\.1"):
        wa.data.load_images(path)


@pytest.mark.parametrize("path", [3, b"mnist", None])
def test_path_of_the_wrong_type_is_refused(path: Any) -> None:
    with pytest.raises(TypeError, match="path must be a string or a path"):
        wa.data.load_images(path)
