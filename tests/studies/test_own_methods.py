"""What functions of users are given, and what is made of what they return."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import wideangle as wa
from wideangle.studies.study import Study

Write = Callable[[str, str], str]

METHODS = """
import numpy as np
import xarray as xr
from wideangle.studies.protocol import Block, Variable

def changing(*, weights, table, seed, first_sample, n_samples):
    weights.append(1.0)
    table["inner"].append(1.0)
    table["new"] = 1.0
    return {"x": np.full(n_samples, len(weights) + 10.0 * len(table["inner"]) + 100.0 * len(table))}

def masked(*, kind, seed, first_sample, n_samples, as_block=False):
    k = np.arange(first_sample, first_sample + n_samples)
    data = np.ma.masked_array(np.where(k % 2, k, 99).astype(kind), mask=k % 2 == 0)
    return Block({"x": Variable((), samples=data)}) if as_block else {"x": data}

def unmasked(*, seed, first_sample, n_samples):
    return {"x": np.ma.masked_array(np.arange(first_sample, first_sample + n_samples))}

def arrays(*, last, seed, first_sample, n_samples):
    k = np.arange(first_sample, first_sample + n_samples)
    values = 10.0 * np.arange(3.0) + k[:, None]
    found = xr.DataArray(values, dims=("sample", "time"), coords={"time": [0.5, 1.5, 2.5]})
    return {"x": found.transpose() if last else found, "y": xr.DataArray(k, dims="sample"), "z": xr.DataArray(k)}

def nameless(*, seed, first_sample, n_samples):
    return xr.Dataset({"x": ("k", np.ones(n_samples))})

def disagreeing(*, seed, first_sample, n_samples):
    of = lambda times: xr.DataArray(np.ones((n_samples, 2)), dims=("sample", "time"), coords={"time": times})
    return {"x": of([0.0, 1.0]), "y": of([0.0, 2.0])}
"""


@pytest.fixture
def module(own_module: Write) -> str:
    """The name of the module with the methods."""
    return own_module("own_methods", METHODS)


def run(study: Study, store: Path, threads: int = 1) -> xr.Dataset:
    with ThreadPoolExecutor(threads) as pool:
        return wa.studies.run(study, store, progress=False, executor=pool)


def study_of(method: str, **changes: Any) -> Study:
    return Study(method, **{"samples": 20, "seed": 1, "block_size": 5, **changes})


@pytest.mark.parametrize("threads", [1, 3])
def test_parameters_that_a_function_changes_are_its_own(threads: int, module: str, tmp_path: Path) -> None:
    """Otherwise what a block returns depends on those before it in its process."""
    study = study_of(f"{module}:changing", parameters={"weights": [2.0], "table": {"inner": [2.0]}})
    results = run(study, tmp_path / "store.zarr", threads)
    assert results.x_mean.values.tolist() == [2 + 20 + 200]
    assert results.x_variance.values.tolist() == [0.0]


@pytest.mark.parametrize("as_block", [False, True])
def test_masked_samples_do_not_count(as_block: bool, module: str, tmp_path: Path) -> None:
    parameters = {"kind": "float64", "as_block": as_block}
    study = study_of(f"{module}:masked", parameters=parameters, statistics={"samples": True})
    results = run(study, tmp_path / "store.zarr")
    assert results.x_count.values.tolist() == [10]
    assert results.x_mean.values.tolist() == [10.0]  # of 1, 3, ..., 19
    np.testing.assert_array_equal(results.x.values[0], [k if k % 2 else np.nan for k in range(20)])


@pytest.mark.parametrize("kind", ["int32", "bool"])
def test_masked_integers_are_refused(kind: str, module: str, tmp_path: Path) -> None:
    study = study_of(f"{module}:masked", parameters={"kind": kind})
    match = f"must return {kind} without masked entries for 'x', got [23] of 5 masked; convert it to floats"
    with pytest.warns(wa.studies.StudyWarning, match=match):
        run(study, tmp_path / "store.zarr")


def test_masks_that_mask_nothing_will_do(module: str, tmp_path: Path) -> None:
    study = study_of(f"{module}:unmasked", statistics={"samples": True})
    results = run(study, tmp_path / "store.zarr")
    assert results.x.dtype == np.int64
    assert results.x.values.tolist() == [list(range(20))]


@pytest.mark.parametrize("last", [False, True])
def test_data_arrays_keep_their_dimensions(last: bool, module: str, tmp_path: Path) -> None:
    study = study_of(f"{module}:arrays", parameters={"last": last})
    results = run(study, tmp_path / "store.zarr")
    assert results.x_mean.dims == ("cell", "time")
    assert results.time.values.tolist() == [0.5, 1.5, 2.5]
    assert results.x_mean.values.tolist() == [[9.5, 19.5, 29.5]]
    assert results.y_mean.values.tolist() == results.z_mean.values.tolist() == [9.5]


def test_datasets_without_samples_are_refused(module: str, tmp_path: Path) -> None:
    with pytest.warns(wa.studies.StudyWarning, match="a dimension 'sample', got dimensions k; return"):
        run(study_of(f"{module}:nameless"), tmp_path / "store.zarr")


def test_data_arrays_that_disagree_are_refused(module: str, tmp_path: Path) -> None:
    with pytest.warns(wa.studies.StudyWarning, match="one coordinate 'time' for all variables"):
        run(study_of(f"{module}:disagreeing"), tmp_path / "store.zarr")
