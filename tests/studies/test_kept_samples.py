"""Samples that are kept: every type and value comes back, whatever becomes of cells."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from filelock import FileLock

import wideangle as wa
from wideangle.studies import Study

Write = Callable[[str, str], str]

TYPES = ("bool", "int8", "int32", "int64", "uint8", "uint64", "float32", "float64")

METHOD = """
import numpy as np

is_broken = True

def numbers(*, seed, first_sample, n_samples, kind="float64", scale=1.0):
    k = np.arange(first_sample, first_sample + n_samples)
    return {"x": (scale * (k % 3)).astype(kind)}

def constant(*, seed, first_sample, n_samples, kind, value):
    # The last sample alone, so that one block has it.
    return {"x": np.array([value if first_sample + k == 21 else 0 for k in range(n_samples)], dtype=kind)}

def some(*, seed, first_sample, n_samples, cell):
    if cell == 1 and first_sample >= 6 and is_broken:
        raise ValueError("cell one")
    k = np.arange(first_sample, first_sample + n_samples)
    return {"x": k, "y": 0.5 * k}

def none(*, seed, first_sample, n_samples):
    return {"x": np.ones((n_samples, 0))}

def stopping(*, seed, first_sample, n_samples, kind, noise):
    k = np.arange(first_sample, first_sample + n_samples)
    return {"x": (k < 4) * noise * (k % 2), "y": (k % 3).astype(kind)}

def breaking(*, seed, first_sample, n_samples):
    if first_sample >= 8:
        raise ValueError("no more")
    return {"y": np.arange(first_sample, first_sample + n_samples)}

def everything(*, seed, first_sample, n_samples, tenth=0):
    k = np.arange(first_sample, first_sample + n_samples)
    types = ("bool", "int8", "int32", "int64", "uint8", "uint64", "float32", "float64")
    return {name: (k % 3 if first_sample else np.zeros(n_samples)).astype(name) for name in types}
"""


def run(study: Study, store: Path, **options: Any) -> xr.Dataset:
    return wa.studies.run(study, store, progress=False, **options)


def study_of(method: str, **changes: Any) -> Study:
    options: dict[str, Any] = {"samples": 22, "seed": 1, "block_size": 6, "statistics": {"samples": True}}
    return Study(method, **{**options, **changes})


@pytest.fixture
def module(own_module: Write) -> str:
    """The name of the module with the methods."""
    return own_module("kept_samples", METHOD)


def test_samples_come_back_as_they_were(module: str, tmp_path: Path) -> None:
    store = tmp_path / "store.zarr"
    # The first block has zeros alone.
    expected = np.where(np.arange(22) < 6, 0, np.arange(22) % 3)
    for results in (
        run(study_of(f"{module}:everything"), store),
        wa.studies.load(store),
        xr.open_zarr(store),
        xr.open_zarr(store, chunks=None),
    ):
        for name in TYPES:
            assert results[name].dtype == np.dtype(name)
            np.testing.assert_array_equal(results[name].values, expected[None].astype(name), err_msg=name)


def test_zeros_of_integers_are_in_chunks(module: str, tmp_path: Path) -> None:
    """No integer is taken for missing, and none is left to a reader's idea of a chunk that is not there."""
    store = tmp_path / "store.zarr"
    statistics = {"samples": True, "histograms": {"bool": [5.0, 6.0, 2]}}
    results = run(study_of(f"{module}:everything", statistics=statistics), store)
    assert results.bool_histogram.values.tolist() == [[0, 0]]
    assert results.status.dtype == np.int8
    assert results.status.values.tolist() == [0]
    for name in results.variables:
        described = json.loads((store / str(name) / ".zarray").read_text(encoding="utf-8"))
        if np.dtype(described["dtype"]).kind in "biu":
            assert described["fill_value"] is None, name
            n_chunks = np.prod([-(-n // k) for n, k in zip(described["shape"], described["chunks"], strict=True)])
            assert len([path for path in (store / str(name)).iterdir() if path.name[0] != "."]) == n_chunks, name


@pytest.mark.parametrize("kind", TYPES)
def test_samples_of_cells_that_stop_early(kind: str, module: str, tmp_path: Path) -> None:
    """One cell has more than the other, and none as many as it might: nobody pays for these."""
    stop = {"variable": "x", "standard_error": 0.5, "min_samples": 1}
    cells = [{"kind": kind, "noise": 0.0}, {"kind": kind, "noise": 2.5}]
    files = []
    for samples in (22, 2200):
        study = study_of(f"{module}:stopping", cells=cells, stop=stop, block_size=4, samples=samples)
        store = tmp_path / f"{samples}.zarr"
        run(study, store)
        for results in (wa.studies.load(store), xr.open_zarr(store), xr.open_zarr(store, chunks=None)):
            assert results.n_samples.values.tolist() == [4, 8]
            assert results.sizes["sample"] == 8
            assert results.y.dtype == np.dtype(kind)
            expected = (np.arange(8) % 3).astype(kind)
            np.testing.assert_array_equal(results.y.values[0, :4], expected[:4])
            np.testing.assert_array_equal(results.y.values[0, 4:], np.nan if kind.startswith("float") else 0)
            np.testing.assert_array_equal(results.y.values[1], expected)
            assert "beyond its n_samples" in results.y.attrs["comment"]
        files.append(sum(path.is_file() for path in store.rglob("*")))
    assert files[0] == files[1]


def test_samples_of_no_cell(module: str, tmp_path: Path) -> None:
    stop = {"variable": "y", "standard_error": 1e-9, "min_samples": 1}
    study = study_of(f"{module}:breaking", stop=stop, block_size=4)
    with pytest.warns(wa.studies.StudyWarning, match="1 of 1 cells failed"):
        results = run(study, tmp_path / "store.zarr")
    assert results.status.values.tolist() == [2]
    assert wa.studies.load(tmp_path / "store.zarr").sizes.get("sample", 0) == 0


@pytest.mark.parametrize("kinds", [["int32", "float64"], ["float64", "int32"], ["bool", "int8"], ["float32", "int64"]])
def test_types_that_differ_between_cells(kinds: list[str], module: str, tmp_path: Path) -> None:
    cells: list[dict[str, Any]] = [{"kind": kind, "scale": 1.5 if kind == "float64" else 1.0} for kind in kinds]
    results = run(study_of(f"{module}:numbers", cells=cells), tmp_path / "store.zarr")
    assert results.x.dtype == np.result_type(*kinds)
    for row, cell in enumerate(cells):
        expected = (cell["scale"] * (np.arange(22) % 3)).astype(cell["kind"])
        np.testing.assert_array_equal(results.x.values[row], expected)


LARGE = 2**53 + 1  # no float


@pytest.mark.parametrize(
    ("cells", "dtype", "refused"),
    [
        ([("int64", 5), ("uint64", 7)], "float64", None),
        ([("int64", LARGE), ("uint64", 7)], "int64", 1),
        ([("int64", 5), ("uint64", 2**63 + 1)], "int64", 1),
        ([("int64", -LARGE), ("float64", 0.5)], "int64", 1),
        ([("float64", 0.5), ("int64", LARGE)], "float64", 1),
        ([("int64", LARGE), ("int32", 5)], "int64", None),
        ([("uint64", 2**63 + 1), ("uint8", 5)], "uint64", None),
    ],
)
def test_integers_keep_their_digits(
    cells: list[tuple[str, float]], dtype: str, refused: int | None, module: str, tmp_path: Path
) -> None:
    """A cell of a type that does not go with that of the cells before it fails, where digits would be lost."""
    study = study_of(f"{module}:constant", cells=[{"kind": kind, "value": value} for kind, value in cells])
    message = (
        rf"1 of 2 cells failed, the first one cell {refused}.*samples of 'x' are .* beyond 2\*\*53.*return one type"
    )
    for _ in range(2):  # It is tried again, and fails again.
        with nullcontext() if refused is None else pytest.warns(wa.studies.StudyWarning, match=message):
            results = run(study, tmp_path / "store.zarr")
        assert results.x.dtype == np.dtype(dtype)
        for cell, (_, value) in enumerate(cells):
            if cell != refused:
                assert results.x.values[cell].tolist() == [0] * 21 + [value]


@pytest.mark.skipif(np.dtype("longdouble").itemsize == 8, reason="a type beyond 64 bits")
def test_types_that_no_store_can_hold(module: str, tmp_path: Path) -> None:
    """They fail at their first block, and the samples of others are there."""
    study = study_of(f"{module}:numbers", cells=[{"kind": "int8"}, {"kind": "longdouble"}])
    with pytest.warns(wa.studies.StudyWarning, match="cell 1.*samples of 'x' must be real numbers of at most 64 bits"):
        results = run(study, tmp_path / "store.zarr")
    assert results.status.values.tolist() == [0, 2]
    np.testing.assert_array_equal(results.x.values, [np.arange(22) % 3, np.zeros(22)])
    unkept = study_of(f"{module}:numbers", parameters={"kind": "longdouble"}, statistics={})
    assert run(unkept, tmp_path / "unkept.zarr").status.values.tolist() == [0]


def test_chunks_fit_together(module: str, tmp_path: Path) -> None:
    statistics = {"samples": True, "quantiles": [0.5]}
    study = study_of(f"{module}:numbers", grid={"scale": [1.0, 2.0, 3.0]}, statistics=statistics)
    run(study, tmp_path / "store.zarr")
    results = xr.open_zarr(tmp_path / "store.zarr")
    assert results.chunks["cell"] == (1, 1, 1)
    assert results.chunks["sample"] == (6, 6, 6, 4)


@pytest.mark.parametrize("samples", [False, True])
def test_variables_without_entries(samples: bool, module: str, tmp_path: Path) -> None:
    results = run(study_of(f"{module}:none", statistics={"samples": samples}), tmp_path / "store.zarr")
    assert results.status.values.tolist() == [0]
    assert results.x_mean.shape == (1, 0)
    if samples:
        assert results.x.shape == (1, 22, 0)


def assert_some(results: xr.Dataset, cells: list[int]) -> None:
    """Compare with what ``some`` gives, of these cells."""
    k = np.arange(22)
    assert results.x.dtype == np.dtype("int64")
    np.testing.assert_array_equal(results.x, [k * (cell in cells) for cell in range(3)])
    np.testing.assert_array_equal(results.y, [0.5 * k if cell in cells else np.nan * k for cell in range(3)])
    assert "samples" not in results.attrs


def assert_to_come(results: xr.Dataset) -> None:
    assert not {"x", "y", "sample"} & {*results.variables, *results.sizes}
    assert "gathered by the run after which nothing but cells that failed is left" in results.attrs["samples"]


def test_one_failed_cell_leaves_the_samples_of_others(module: str, tmp_path: Path) -> None:
    study, store = study_of(f"{module}:some", grid={"cell": [0, 1, 2]}), tmp_path / "store.zarr"
    for _ in range(2):
        with pytest.warns(wa.studies.StudyWarning, match="1 of 3 cells failed"):
            results = run(study, store)
        for found in (
            results,
            xr.open_zarr(store, chunks=None),
            *(wa.studies.load(store, verify=v) for v in (False, True)),
        ):
            assert found.status.values.tolist() == [0, 2, 0]
            assert_some(found, [0, 2])
        results.close()
    with FileLock(store / ".lock"):  # A run may be about to write others.
        assert_to_come(wa.studies.load(store))
    chunk = store / "x" / "2.0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(wa.studies.StoreError, match=r"damaged: x/2\.0;"):
        wa.studies.load(store)
    (store / ".zmetadata").write_bytes(b"{")
    with pytest.raises(wa.studies.StoreError, match=r"store\.zarr is damaged"):
        wa.studies.load(store, verify=False)


def test_samples_of_a_run_before_are_not_taken_for_those_of_now(
    module: str, end_before_results: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cell that had failed is complete after a run that ended before it wrote results."""
    study, store = study_of(f"{module}:some", grid={"cell": [0, 1, 2]}), tmp_path / "store.zarr"
    with pytest.warns(wa.studies.StudyWarning):
        run(study, store)
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[module], "is_broken", False)
        end_before_results(study, store)
    results = wa.studies.load(store)
    assert results.status.values.tolist() == [0, 0, 0]
    assert_to_come(results)
    run(study, store)
    assert_some(wa.studies.load(store), [0, 1, 2])


def test_a_run_that_is_stopped_says_that_samples_are_to_come(module: str, tmp_path: Path) -> None:
    study, store = study_of(f"{module}:everything"), tmp_path / "store.zarr"
    for results in (run(study, store, max_time=1e-9), xr.open_zarr(store, chunks=None), wa.studies.load(store)):
        assert_to_come(results)
    run(study, store)
    results = wa.studies.load(store)
    assert results.float64.shape == (1, 22)
    assert "samples" not in results.attrs
    without = study_of(f"{module}:everything", statistics={})
    assert "samples" not in run(without, tmp_path / "without.zarr", max_time=1e-9).attrs
