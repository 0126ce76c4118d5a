"""Samples as arrays: the files that workers wrote, gathered into the Zarr group of the results."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Container, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wideangle.studies._journal import Journal, StoreError
from wideangle.studies._samples import PREFIX, samples_file

if TYPE_CHECKING:
    from wideangle.studies._store import Store
    from wideangle.studies.planning import Plan
    from wideangle.studies.study import Study

_LEVEL = 3  # of Zstandard


@dataclass(frozen=True)
class SampleForm:
    """What the samples of a variable are like in all cells together."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def write_sample_arrays(
    folder: Path,
    store: Store,
    study: Study,
    plan: Plan,
    journal: Journal,
    forms: Mapping[str, SampleForm],
    cells: Container[int],
) -> None:
    """Gather the files of samples of some cells into arrays (cell, sample, ...) whose chunks are the blocks.

    They are as long as the cell with the most samples: where a rule ends cells, that may be far below what they might
    have had.
    """
    size = int(plan.block_size[0])
    length = study.samples
    if study.stop is not None:
        length = max((number for cell, number in journal.samples_done().items() if cell in cells), default=0)
    arrays = {name: _create(folder, name, form, (plan.n_cells, length), size) for name, form in forms.items()}
    for cell in range(plan.n_cells):
        there = dict.fromkeys(forms, 0)  # A cell may not have all of them.
        for block, digest in sorted(journal.files_of(cell).items() if cell in cells else ()):
            first = block * int(plan.block_size[cell])
            for name, values in _read(samples_file(store.samples_folder, cell, block), digest).items():
                samples = slice(first, first + len(values))
                place = (slice(cell, cell + 1), samples, *(slice(0, k) for k in values.shape[1:]))
                arrays[name][place] = values[None]
                there[name] = first + len(values)
        for name, form in forms.items():
            if form.dtype.kind != "f":
                _write_zeros(arrays[name], cell, there[name], length, size)


def _read(path: Path, digest: str) -> dict[str, Any]:
    data = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(data).hexdigest() != digest:
        raise StoreError(
            f"{path} is damaged: not the samples that were written; run with repair=True (--repair) to compute the "
            "cell anew"
        )
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return {name.removeprefix(PREFIX): file[name] for name in file.files}


def _create(folder: Path, name: str, form: SampleForm, lengths: tuple[int, int], block_size: int) -> Any:
    import zarr

    real = form.dtype.kind == "f"
    common: dict[str, Any] = {
        "shape": (*lengths, *form.shape),
        "chunks": (1, block_size, *(max(k, 1) for k in form.shape)),
        "dtype": form.dtype,
        # Readers take what equals it for missing: no integer may be that.
        "fill_value": np.nan if real else None,
    }
    if int(zarr.__version__.split(".")[0]) >= 3:
        array = zarr.create_array(store=str(folder / name), zarr_format=2, **compressed(), **common)
    else:
        array = zarr.open_array(str(folder / name), mode="w", **compressed(), **common)
    array.attrs["_ARRAY_DIMENSIONS"] = ["cell", "sample", *form.dims]
    missing = "NaN" if real else "False" if form.dtype.kind == "b" else "0"
    array.attrs["long_name"] = f"{name}: samples"
    array.attrs["comment"] = f"{missing} where a cell has none: beyond its n_samples, or all if it failed"
    return array


def _write_zeros(array: Any, cell: int, first: int, end: int, size: int) -> None:
    """Write the chunks of which there are no samples, as without a fill value some readers find anything there."""
    while first < end:
        next_chunk = min((first // size + 1) * size, end)
        array[cell : cell + 1, first:next_chunk] = np.zeros((1, next_chunk - first, *array.shape[2:]), array.dtype)
        first = next_chunk


def all_chunks_written() -> AbstractContextManager[Any]:
    """Have chunks of zeros written like others, for arrays without a fill value, of which they hold the zeros."""
    import zarr

    if int(zarr.__version__.split(".")[0]) >= 3:
        context: AbstractContextManager[Any] = zarr.config.set({"array.write_empty_chunks": True})
        return context
    return nullcontext()  # It is so.


def compressed() -> dict[str, Any]:
    """Return how arrays are compressed: with checksums, so that a wrong bit is an error for every reader."""
    import zarr
    from numcodecs import Zstd

    codec = Zstd(level=_LEVEL, checksum=True)
    return {"compressors": (codec,)} if int(zarr.__version__.split(".")[0]) >= 3 else {"compressor": codec}
