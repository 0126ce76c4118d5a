"""Parameters in the results: under a name of their own, with values that can be told from each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import wideangle as wa
from wideangle.studies import Study

FUNCTION = """
import numpy as np

def given(*, seed, first_sample, n_samples, **parameters):
    return {"v": np.arange(n_samples) * 1.0, "w": np.ones((n_samples, 2))}
"""


@pytest.fixture
def method(own_module: Callable[[str, str], str]) -> str:
    """The name of a method that takes all parameters."""
    return own_module("takes_all_parameters", FUNCTION) + ":given"


def results_of(study: Study, folder: Path) -> list[xr.Dataset]:
    """Return the results of a run, and those of the same study while it is not finished."""
    store, unfinished = folder / "store.zarr", folder / "unfinished.zarr"
    wa.studies.run(study, store, progress=False)
    assert wa.studies.write_report(store).is_file()
    wa.studies.run(study, unfinished, progress=False, max_time=1e-9)
    return [xr.open_zarr(store, chunks=None), xr.open_zarr(store), wa.studies.load(unfinished)]


@pytest.mark.parametrize(
    ("grid", "expected"),
    [
        ({"v": [1, 2], "v_parameter": [5, 6]}, {"v_parameter": [5, 6, 5, 6]}),
        ({"v_mean": [1, 2]}, {"v_mean_parameter": [1, 2]}),
        ({"v_bin": [1, 2]}, {"v_bin_parameter": [1, 2]}),
        ({"v_bin_left": [1, 2]}, {"v_bin_left_parameter": [1, 2]}),
        ({"v_bin_right": [1, 2]}, {"v_bin_right_parameter": [1, 2]}),
        ({"w_1": [1, 2]}, {"w_1_parameter": [1, 2]}),
        ({"w_1_of_cell": [1, 2]}, {"w_1_of_cell_parameter": [1, 2]}),
        ({"probability": [1, 2], "cell": [3]}, {"probability_parameter": [1, 2], "cell_parameter": [3, 3]}),
    ],
)
def test_names_that_results_have_too(
    grid: dict[str, list[int]], expected: dict[str, list[int]], method: str, tmp_path: Path
) -> None:
    statistics = {"histograms": {"v": [0.0, 4.0, 4]}, "quantiles": [0.5], "samples": True}
    study = Study(method, samples=4, seed=1, grid=grid, statistics=statistics)
    found = wa.studies.run(study, tmp_path / "store.zarr", progress=False)
    for name, values in expected.items():
        assert found.coords[name].dims == ("cell",)
        assert found.coords[name].values.tolist() == values
    of_cells = {str(name) for name, item in found.coords.items() if item.dims == ("cell",)}
    assert len(of_cells) == len(grid) + 2
    assert found.v_bin_left.values.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert found.v_bin_right.values.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert wa.studies.write_report(tmp_path / "store.zarr").is_file()


def test_a_name_behind_which_parameter_stands_twice(method: str, tmp_path: Path) -> None:
    grid = {"v": [1, 2], "v_parameter": [5, 6]}
    study = Study(method, samples=4, seed=1, grid=grid, statistics={"samples": True})
    found = wa.studies.run(study, tmp_path / "store.zarr", progress=False)
    assert found.v_parameter.values.tolist() == [5, 6, 5, 6]
    assert found.v_parameter_parameter.values.tolist() == [1, 1, 2, 2]


ABSENT = object()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([True, False], [True, False]),
        ([False, ABSENT], ["false", ""]),
        ([1, True], ["1", "true"]),
        ([1, "1"], ["1", '"1"']),
        ([True, "true", "x"], ["true", '"true"', '"x"']),
        ([[1, 2], "[1, 2]"], ["[1, 2]", '"[1, 2]"']),
        (["", ABSENT, "x"], ['""', "", '"x"']),
        (["", None], ['""', "null"]),
        ([None, ABSENT, "x"], ["null", "", '"x"']),
        (["", "x"], ["", "x"]),
        ([None, "x"], ["", "x"]),
        (["1", "2"], ["1", "2"]),
        (["a\0", "a"], ['"a\\u0000"', '"a"']),
        (["\udcff", "a"], ['"\\udcff"', '"a"']),
        ([1, 0.5, ABSENT], [1.0, 0.5, np.nan]),
    ],
)
def test_values_can_be_told_from_each_other(given: list[Any], expected: list[Any], method: str, tmp_path: Path) -> None:
    cells = [{"k": k} if value is ABSENT else {"k": k, "b": value} for k, value in enumerate(given)]
    for found in results_of(Study(method, samples=4, seed=1, cells=cells), tmp_path):
        assert found.b.dtype.kind == np.array(expected).dtype.kind
        np.testing.assert_array_equal(found.b.values, np.array(expected))
        assert found.b.dims == ("cell",)


def test_large_results_are_written_in_pieces(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few cells at a time, and nothing of what the results say of themselves is lost on the way."""
    study = Study(method, samples=4, seed=1, grid={"b": [True, False], "k": [0, 1, 2]})
    whole = wa.studies.run(study, tmp_path / "whole.zarr", progress=False)
    monkeypatch.setattr("wideangle.studies._results._CHUNK", 8)
    monkeypatch.setattr("wideangle.studies._results._BATCH", 16)
    for found in results_of(study, tmp_path):
        assert found.b.dtype == np.dtype(bool)
        assert found.b.values.tolist() == [True] * 3 + [False] * 3
        assert found.attrs.keys() == whole.attrs.keys()
    again = wa.studies.run(study, tmp_path / "store.zarr", progress=False)  # of the same study
    assert again.identical(whole)
    assert again.set_index(cell=["b", "k"]).unstack("cell").v_count.sel(b=True, k=1).item() == 4


@pytest.mark.parametrize(
    "name", ["checksums.json", "journal.sqlite", ".lock", "", "a/b", "a\\b", "a b", "a\nb", "a\0b", "\udcff", "n" * 101]
)
@pytest.mark.parametrize("table", ["grid", "parameters", "cells"])
def test_names_that_no_store_can_hold(table: str, name: str, method: str) -> None:
    tables: dict[str, Any] = {"grid": {name: [1, 2]}, "parameters": {name: 1}, "cells": [{name: 1}]}
    with pytest.raises(
        ValueError, match=rf"{table}.* must have names for keys .* got '.*'; choose another name"
    ) as found:
        Study(method, samples=4, seed=1, **{table: tables[table]})
    str(found.value).encode()
