"""The readers of IDX and NPZ files, against files written here byte by byte."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

import wideangle as wa
from wideangle.data.image_files import read_idx, read_image_files, read_npz

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
LABELS = np.array([1, 0], dtype=np.uint8)
FOUR: dict[str, Any] = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:1], "y_test": LABELS[:1]}
STEMS = {"x_train": "train-images", "y_train": "train-labels", "x_test": "t10k-images", "y_test": "t10k-labels"}
NPY_HEADER = 128

T = TypeVar("T")


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    sizes = b"".join(struct.pack(">I", size) for size in array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes()


def write_idx_directory(directory: Path, arrays: dict[str, Any], *, separator: str = "-", suffix: str = "") -> None:
    for name, array in arrays.items():
        content = idx_bytes(array)
        path = directory / f"{STEMS[name]}{separator}idx{array.ndim}-ubyte{suffix}"
        path.write_bytes(gzip.compress(content) if suffix else content)


def write_npz(path: Path, **replaced: Any) -> Path:
    np.savez_compressed(path, **{**FOUR, **replaced})
    return path


def npy_bytes(header: str, payload: bytes = b"") -> bytes:
    text = header.encode().ljust(NPY_HEADER - 11) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + payload


def attempt(read: Callable[[], T]) -> tuple[T | None, str]:
    """Return what was read, or the message of the ValueError."""
    try:
        return read(), ""
    except ValueError as error:
        return None, str(error)


@pytest.mark.parametrize("separator", ["-", "."])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_directory_of_idx_files_is_read(tmp_path: Path, separator: str, suffix: str) -> None:
    write_idx_directory(tmp_path, FOUR, separator=separator, suffix=suffix)
    arrays = read_image_files(tmp_path)._asdict()
    for name, expected in FOUR.items():
        np.testing.assert_array_equal(arrays[name], expected)


def test_unpacked_file_that_kept_its_gz_name_is_read(tmp_path: Path) -> None:
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    path.write_bytes(idx_bytes(LABELS))
    np.testing.assert_array_equal(read_idx(path, n_dimensions=1), LABELS)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(array=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, max_side=7)), packed=st.booleans())
def test_idx_round_trip(tmp_path: Path, array: NDArray[np.uint8], packed: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(idx_bytes(array)) if packed else idx_bytes(array))
    found = read_idx(path, n_dimensions=array.ndim)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, array)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=20)
@given(array=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=3, max_side=4)), packed=st.booleans())
def test_every_truncation_and_every_extension_of_an_idx_file_is_refused(
    tmp_path: Path, array: NDArray[np.uint8], packed: bool
) -> None:
    content = gzip.compress(idx_bytes(array)) if packed else idx_bytes(array)
    path = tmp_path / "file"
    for end in range(len(content)):
        path.write_bytes(content[:end])
        with pytest.raises(ValueError, match="copy or download") as caught:
            read_idx(path, n_dimensions=array.ndim)
        assert str(path) in str(caught.value)
    path.write_bytes(gzip.compress(idx_bytes(array) + b"\0") if packed else content + b"\0")
    with pytest.raises(ValueError, match="bytes after the end of the data"):
        read_idx(path, n_dimensions=array.ndim)


@pytest.mark.parametrize("packed", [False, True])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(position=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_flipped_bit_of_an_idx_file_never_raises_anything_but_a_value_error(
    tmp_path: Path, packed: bool, position: int, bit: int
) -> None:
    content = bytearray(gzip.compress(idx_bytes(IMAGES)) if packed else idx_bytes(IMAGES))
    content[position % len(content)] ^= 1 << bit
    path = tmp_path / "file"
    path.write_bytes(content)
    found, refusal = attempt(lambda: read_idx(path, n_dimensions=3))
    if found is None:
        assert str(path) in refusal
    else:
        # What the checksum of gzip does not cover is its own header; plain files carry no checksum at all.
        assert found.shape == IMAGES.shape
        assert not packed or np.array_equal(found, IMAGES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx_bytes(LABELS), "magic number 0x00000801, expected .* 3 dimensions, magic number 0x00000803"),
        (b"\x00\x00\x0d\x03" + bytes(12), "magic number 0x00000d03"),
        (b"<html>not found</html>", "magic number 0x3c68746d"),
        (b"", "only 0 bytes"),
    ],
)
def test_wrong_magic_number_names_found_and_expected(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_idx(path, n_dimensions=3)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", ["idx", "gzip", "npz", "npz with a false directory"])
def test_a_header_that_promises_more_than_the_file_holds_allocates_nothing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    promised = 200_000
    if kind in ("idx", "gzip"):
        content = b"\x00\x00\x08\x03" + struct.pack(">III", promised, promised, promised) + bytes(1000)
        path.write_bytes(gzip.compress(content) if kind == "gzip" else content)
    else:
        header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({promised}, {promised}, 3), }}"
        with zipfile.ZipFile(path, "w") as archive:
            for name in FOUR:
                archive.writestr(f"{name}.npy", npy_bytes(header, bytes(1000)))
        if kind == "npz with a false directory":
            real = struct.pack("<II", NPY_HEADER + 999, NPY_HEADER + 999)
            lie = struct.pack("<II", 2**32 - 2, 2**32 - 2)
            path.write_bytes(path.read_bytes().replace(real, lie))
    tracemalloc.start()
    with pytest.raises(ValueError, match=str(path)):
        read_npz(path) if kind.startswith("npz") else read_idx(path, n_dimensions=3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 2**20


@pytest.mark.parametrize("shape", [(5, 4, 3), (5, 4, 4, 3)])
@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("dtype", ["u1", ">u2", "f4", ">f8"])
def test_npz_in_the_layout_of_keras_is_read(tmp_path: Path, shape: tuple[int, ...], column: bool, dtype: str) -> None:
    images = np.asfortranarray(np.random.default_rng(0).integers(0, 256, shape).astype(dtype))
    labels = np.array([0, 2, 1, 1, 0])
    stored = labels[:, None] if column else labels
    path = write_npz(tmp_path / "some.npz", x_train=images, y_train=stored, x_test=images, y_test=stored)
    arrays = read_image_files(path)
    np.testing.assert_array_equal(arrays.x_train, images)
    np.testing.assert_array_equal(arrays.y_test, labels)


def test_every_truncation_of_an_npz_file_is_refused(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "some.npz")
    content = path.read_bytes()
    for end in range(len(content)):
        path.write_bytes(content[:end])
        with pytest.raises(ValueError, match="no readable zip archive"):
            read_image_files(path)


def test_a_member_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("\xe9", b"")
    path.write_bytes(path.read_bytes().replace("\xe9".encode(), b"\xff\xff"))
    with pytest.raises(ValueError, match="no readable zip archive") as caught:
        read_image_files(path)
    assert str(path) in str(caught.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(position=st.integers(0, 10**6), value=st.integers(0, 255), compressed=st.booleans())
def test_a_changed_byte_of_an_npz_file_never_raises_anything_but_a_value_error(
    tmp_path: Path, position: int, value: int, compressed: bool
) -> None:
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **FOUR)
    content = bytearray(buffer.getvalue())
    content[position % len(content)] = value
    path = tmp_path / "some.npz"
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arrays, refusal = attempt(lambda: read_image_files(path))
    if arrays is None:
        assert str(path) in refusal
    else:
        # Each array has a checksum, so what is read is what was written.
        for name, expected in FOUR.items():
            np.testing.assert_array_equal(getattr(arrays, name), expected)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '|u1', 'fortran_order': False, 'shape': (-2, 3, 4), }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (0, 3, 4), }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': 'many', }",
        "{'descr': '<U3', 'fortran_order': False, 'shape': (2, 3, 4), }",
        "{'descr': '<c8', 'fortran_order': False, 'shape': (2, 3, 4), }",
        "{'descr': '|b1', 'fortran_order': False, 'shape': (2, 3, 4), }",
        "{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (2, 3, 4), }",
        "{'descr': '|u1', 'shape': (2, 3, 4), }",
        "((((((((",
        "{",
        "",
    ],
)
def test_bad_npy_header_is_refused(tmp_path: Path, header: str) -> None:
    path = tmp_path / "some.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name in FOUR:
            archive.writestr(f"{name}.npy", npy_bytes(header, bytes(24)))
    with pytest.raises(ValueError, match=r"some\.npz, array x_train: found .*, expected"):
        read_npz(path)


class Bomb:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_object_arrays_are_refused_without_unpickling(tmp_path: Path) -> None:
    trace = tmp_path / "unpickled"
    ragged = np.empty(2, dtype=object)
    ragged[:] = [Bomb(trace), Bomb(trace)]
    path = write_npz(tmp_path / "some.npz", y_train=ragged)
    with pytest.raises(ValueError, match=r"array y_train: found Python objects .* numpy\.stack"):
        wa.data.load_images(path)
    assert not trace.exists()


def test_cifar_pickles_are_refused_with_the_conversion(tmp_path: Path) -> None:
    trace = tmp_path / "unpickled"
    directory = tmp_path / "cifar-10-batches-py"
    directory.mkdir()
    batch = directory / "data_batch_1"
    batch.write_bytes(pickle.dumps({"data": Bomb(trace)}))
    for path in (directory, batch):
        with pytest.raises(ValueError, match=r"CIFAR-10's Python pickles.*numpy\.savez"):
            wa.data.load_images(path)
    assert not trace.exists()


def test_the_conversion_that_the_message_gives_works(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3)).astype(np.uint8)
    batch = {"data": images.transpose(0, 3, 1, 2).reshape(6, 3072), "labels": [3, 1, 4, 1, 5, 9]}
    converted = batch["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    path = tmp_path / "cifar10.npz"
    np.savez(path, x_train=converted, y_train=batch["labels"], x_test=converted, y_test=batch["labels"])
    np.testing.assert_array_equal(read_image_files(path).x_train, images)
    assert wa.data.load_images(path).n_features == 3072


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"y_train": np.array([1, 0, 1])}, "array y_train: found 3 labels, expected 2"),
        ({"x_test": IMAGES[:1, :2]}, r"array x_test: found images of shape \(2, 4\), expected \(3, 4\)"),
        ({"x_train": IMAGES.reshape(2, 12)}, r"array x_train: found an array of shape \(2, 12\)"),
        ({"x_train": IMAGES.astype(float) * np.nan}, "array x_train: found pixels between nan and nan"),
        ({"x_train": IMAGES * 1e300}, "array x_train: found pixels between 0.0 and 2.3e.301"),
        ({"y_train": np.array([1.0, 0.0])}, "array y_train: found labels of dtype float64"),
        ({"y_train": np.array([1, -1])}, "array y_train: found labels from -1 to 1"),
        ({"y_train": np.array([1, 10**12])}, "array y_train: found labels from 1 to 1000000000000"),
        ({"y_train": np.eye(2, dtype=int)}, r"array y_train: found an array of shape \(2, 2\).*argmax"),
        ({"x_test": IMAGES[:0], "y_test": LABELS[:0]}, "array x_test: found dtype uint8 and shape"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, replaced: dict[str, Any], message: str) -> None:
    path = write_npz(tmp_path / "some.npz", **replaced)
    with pytest.raises(ValueError, match=message) as caught:
        wa.data.load_images(path)
    assert str(path) in str(caught.value)


def test_idx_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    write_idx_directory(tmp_path, {**FOUR, "y_train": np.array([1, 0, 1], dtype=np.uint8)})
    with pytest.raises(ValueError, match="train-labels-idx1-ubyte: found 3 labels, expected 2"):
        wa.data.load_images(tmp_path)


def test_other_compression_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, IMAGES)
    path = tmp_path / "some.npz"
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_BZIP2) as archive:
        for name in FOUR:
            archive.writestr(f"{name}.npy", buffer.getvalue())
    with pytest.raises(ValueError, match="compression method 12, expected none or deflate"):
        read_npz(path)


def test_missing_array_is_named(tmp_path: Path) -> None:
    path = tmp_path / "some.npz"
    np.savez(path, x_train=IMAGES, y_train=LABELS, x_test=IMAGES)
    with pytest.raises(ValueError, match="found x_test, x_train, y_train, expected the array y_test"):
        wa.data.load_images(path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file or directory"):
        wa.data.load_images(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match=r"an empty directory, expected train-images-idx3-ubyte\[.gz\]"):
        wa.data.load_images(tmp_path)
    write_idx_directory(tmp_path, {name: array for name, array in FOUR.items() if name != "y_test"})
    with pytest.raises(FileNotFoundError, match=r"expected t10k-labels-idx1-ubyte\[.gz\]"):
        wa.data.load_images(tmp_path)


def test_directory_that_holds_an_npz_file_says_so(tmp_path: Path) -> None:
    write_npz(tmp_path / "mnist.npz")
    with pytest.raises(FileNotFoundError, match=r"for mnist\.npz give the path of that file"):
        wa.data.load_images(tmp_path)
