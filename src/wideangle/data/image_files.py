"""Readers of labelled images: directories of IDX files, optionally gzipped, and NPZ archives.

A file is never trusted about its size: memory grows with the bytes that arrive, not with the number that a header
announces. Nothing is unpickled.
"""

from __future__ import annotations

import gzip
import math
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_CLASSES = 2**16
MAX_PIXEL = 1e9  # squares of it, summed over an image, stay far inside float32

_UNSIGNED_BYTE = 0x08
_BLOCK = 2**20
_IDX_FILES = {
    "x_train": ("train-images", 3),
    "y_train": ("train-labels", 1),
    "x_test": ("t10k-images", 3),
    "y_test": ("t10k-labels", 1),
}
_DAMAGED_GZIP = (gzip.BadGzipFile, EOFError, zlib.error)
_DAMAGED_ZIP = (
    zipfile.BadZipFile,
    EOFError,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    OSError,
    UnicodeDecodeError,
    struct.error,
)
_NPZ_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DAMAGED_NPY = (ValueError, SyntaxError, TypeError, KeyError, tokenize.TokenError, RecursionError, MemoryError)
_DOWNLOAD_AGAIN = "copy or download the file again"
_NPZ_REMEDY = "write it with numpy.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)"
_PICKLE_REMEDY = (
    "unpickling runs whatever code the file holds, so it is not done here; if you trust the source, read the batches "
    "once with pickle.load(file, encoding='latin1'), turn each 'data' into images with "
    ".reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), join the training batches, and write "
    "numpy.savez('cifar10.npz', x_train=..., y_train=..., x_test=..., y_test=...)"
)


class ImageArrays(NamedTuple):
    """Images (sample, row, column[, channel]) and integer labels (sample), as they stand in the files."""

    x_train: NDArray[Any]
    y_train: NDArray[Any]
    x_test: NDArray[Any]
    y_test: NDArray[Any]


def read_image_files(path: Path) -> ImageArrays:
    """Return the four arrays of a directory of IDX files or of an NPZ archive, mutually consistent."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or directory; give a directory of IDX files or an .npz file")
    files = {entry.name for entry in path.iterdir()} if path.is_dir() else {path.name}
    if any(name.startswith(("data_batch", "test_batch", "cifar-10-")) and not name.endswith(".npz") for name in files):
        raise ValueError(
            f"{path}: found CIFAR-10's Python pickles, expected IDX files or an .npz file; {_PICKLE_REMEDY}"
        )
    if path.is_dir():
        located = {name: _find_idx_file(path, files, *parts) for name, parts in _IDX_FILES.items()}
        arrays: dict[str, NDArray[Any]] = {
            name: read_idx(located[name], n_dimensions=parts[1]) for name, parts in _IDX_FILES.items()
        }
        sources = {name: str(file) for name, file in located.items()}
    else:
        arrays = read_npz(path)
        sources = {name: f"{path}, array {name}" for name in arrays}
    for name, array in arrays.items():
        check = _check_images if name.startswith("x") else _check_labels
        arrays[name] = check(sources[name], array)
    for part in ("train", "test"):
        n_images, n_labels = len(arrays[f"x_{part}"]), len(arrays[f"y_{part}"])
        if n_images != n_labels:
            raise ValueError(
                f"{sources[f'y_{part}']}: found {n_labels} labels, expected {n_images}, one for each image in "
                f"{sources[f'x_{part}']}; the two do not belong together, {_DOWNLOAD_AGAIN}"
            )
    if arrays["x_train"].shape[1:] != arrays["x_test"].shape[1:]:
        raise ValueError(
            f"{sources['x_test']}: found images of shape {arrays['x_test'].shape[1:]}, expected "
            f"{arrays['x_train'].shape[1:]} as in {sources['x_train']}; the two do not belong together"
        )
    return ImageArrays(**arrays)


def read_idx(path: Path, *, n_dimensions: int) -> NDArray[np.uint8]:
    """Return the array of unsigned bytes in an IDX file, plain or gzipped; the content tells which.

    The format (Y. LeCun, http://yann.lecun.com/exdb/mnist): two zero bytes, a byte for the type, a byte for the number
    of dimensions, each size as a big-endian 32-bit integer, then the values in row-major order.
    """
    with path.open("rb") as raw:
        is_gzip = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not is_gzip:
            return _parse_idx(path, raw, n_dimensions)
        try:
            with gzip.open(raw) as stream:
                return _parse_idx(path, stream, n_dimensions)
        except _DAMAGED_GZIP as error:
            raise ValueError(
                f"{path}: found a damaged or cut-off gzip stream ({error}), expected a gzipped IDX file; "
                f"{_DOWNLOAD_AGAIN}"
            ) from error


def _parse_idx(path: Path, stream: IO[bytes] | gzip.GzipFile, n_dimensions: int) -> NDArray[np.uint8]:
    expected = f"an IDX file of unsigned bytes in {n_dimensions} dimensions, magic number 0x{0x0800 + n_dimensions:08x}"
    magic = stream.read(4)
    if magic != bytes((0, 0, _UNSIGNED_BYTE, n_dimensions)):
        raise ValueError(
            f"{path}: found {f'magic number 0x{magic.hex()}' if len(magic) == 4 else f'only {len(magic)} bytes'}, "
            f"expected {expected}; check that images and labels are not exchanged, or {_DOWNLOAD_AGAIN}"
        )
    header = stream.read(4 * n_dimensions)
    if len(header) < 4 * n_dimensions:
        raise ValueError(
            f"{path}: found a header of {4 + len(header)} bytes, expected {4 + 4 * n_dimensions}; "
            f"the file is cut off, {_DOWNLOAD_AGAIN}"
        )
    shape = tuple(int(size) for size in np.frombuffer(header, dtype=">u4"))
    values = _read_payload(str(path), stream, math.prod(shape))
    return np.frombuffer(values, dtype=np.uint8).reshape(shape)


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Return x_train, y_train, x_test and y_test of an NPZ archive, the layout of Keras' mnist.npz."""
    # A file that may not be opened is not a damaged one, so that error passes.
    with path.open("rb") as raw:
        try:
            return _parse_npz(path, zipfile.ZipFile(raw))
        except _DAMAGED_ZIP as error:
            raise ValueError(
                f"{path}: found no readable zip archive ({error}), expected an .npz file or a directory of IDX files; "
                f"{_DOWNLOAD_AGAIN}, or {_NPZ_REMEDY}"
            ) from error


def _parse_npz(path: Path, archive: zipfile.ZipFile) -> dict[str, NDArray[Any]]:
    members = {info.filename: info for info in archive.infolist()}
    missing = [name for name in _IDX_FILES if f"{name}.npy" not in members]
    if missing:
        found = ", ".join(sorted(member.removesuffix(".npy") for member in members)[:20]) or "nothing"
        raise ValueError(f"{path}: found {found}, expected the array {missing[0]} as well; {_NPZ_REMEDY}")
    arrays = {}
    for name in _IDX_FILES:
        info = members[f"{name}.npy"]
        if info.compress_type not in _NPZ_COMPRESSIONS:
            raise ValueError(
                f"{path}, array {name}: found compression method {info.compress_type}, expected none or deflate; "
                f"{_NPZ_REMEDY}"
            )
        with archive.open(info) as stream:
            arrays[name] = _parse_npy(f"{path}, array {name}", stream)
    return arrays


def _parse_npy(source: str, stream: IO[bytes]) -> NDArray[Any]:
    # numpy.load would allocate what the header announces and only then look for it in the file.
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        version = np.lib.format.read_magic(stream)
        shape, fortran_order, dtype = readers[version](stream)
    except _DAMAGED_NPY as error:
        raise ValueError(
            f"{source}: found no header that NumPy understands, expected an array in NumPy's format 1.0 or 2.0; "
            f"{_NPZ_REMEDY}"
        ) from error
    if dtype.hasobject:
        raise ValueError(
            f"{source}: found Python objects (dtype {dtype}), expected numbers; they would have to be unpickled, which "
            f"runs code from the file: convert with numpy.stack(list(array)) and write the archive again"
        )
    if dtype.kind not in "uif" or min(shape, default=0) < 1:
        raise ValueError(
            f"{source}: found dtype {dtype} and shape {shape}, expected numbers, at least one; {_NPZ_REMEDY}"
        )
    values = _read_payload(source, stream, math.prod(shape) * dtype.itemsize)
    return np.frombuffer(values, dtype=dtype).reshape(shape, order="F" if fortran_order else "C")


def _read_payload(source: str, stream: IO[bytes] | gzip.GzipFile, n_bytes: int) -> bytes:
    blocks = []
    missing = n_bytes
    while missing and (block := stream.read(min(missing, _BLOCK))):
        blocks.append(block)
        missing -= len(block)
    if missing:
        raise ValueError(
            f"{source}: found {n_bytes - missing} bytes of data, expected {n_bytes} by the header; the file is cut "
            f"off, {_DOWNLOAD_AGAIN}"
        )
    if stream.read(1):
        raise ValueError(
            f"{source}: found bytes after the end of the data, expected {n_bytes} bytes by the header; header and data "
            f"do not belong together, {_DOWNLOAD_AGAIN}"
        )
    return b"".join(blocks)


def _find_idx_file(directory: Path, files: set[str], stem: str, n_dimensions: int) -> Path:
    for separator in "-.":
        for suffix in ("", ".gz"):
            name = f"{stem}{separator}idx{n_dimensions}-ubyte{suffix}"
            if name in files:
                return directory / name
    found = ", ".join(sorted(files)[:10]) or "an empty directory"
    archives = sorted(name for name in files if name.endswith(".npz"))
    remedy = f"for {archives[0]} give the path of that file" if archives else "add it, or give the path of an .npz file"
    raise FileNotFoundError(f"{directory}: found {found}, expected {stem}-idx{n_dimensions}-ubyte[.gz]; {remedy}")


def _check_images(source: str, images: NDArray[Any]) -> NDArray[Any]:
    if images.ndim not in (3, 4) or images.size == 0:
        raise ValueError(
            f"{source}: found an array of shape {images.shape}, expected images (sample, row, column) or "
            f"(sample, row, column, channel), at least one; reshape them and write the file again"
        )
    # The comparison also turns NaN away.
    if not (images.min() >= -MAX_PIXEL and images.max() <= MAX_PIXEL):
        raise ValueError(
            f"{source}: found pixels between {images.min()} and {images.max()}, expected finite values of at most "
            f"{MAX_PIXEL:g} in size; scale them to 0...255 or 0...1"
        )
    return images


def _check_labels(source: str, labels: NDArray[Any]) -> NDArray[Any]:
    if labels.ndim not in (1, 2) or labels.size == 0 or labels.shape[1:] not in ((), (1,)):
        raise ValueError(
            f"{source}: found an array of shape {labels.shape}, expected labels (sample,) or (sample, 1), at least "
            f"one; for one-hot labels write labels.argmax(axis=1) instead"
        )
    if labels.dtype.kind not in "ui":
        raise ValueError(
            f"{source}: found labels of dtype {labels.dtype}, expected integers; write labels.astype('int64') instead"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= MAX_CLASSES:
        raise ValueError(
            f"{source}: found labels from {low} to {high}, expected class numbers from 0 to {MAX_CLASSES - 1}; number "
            f"the classes from 0"
        )
    return labels.reshape(-1)
