"""Studies of several methods: statistics of variables that only some of the cells have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import wideangle as wa
from wideangle.studies import Study
from wideangle.studies._layout import Layout, never_returned

Write = Callable[[str, str], str]

METHODS = """
import numpy as np

def numbers(first_sample, n_samples):
    return np.arange(first_sample, first_sample + n_samples)

def one(*, seed, first_sample, n_samples):
    return {"x": 0.5 * numbers(first_sample, n_samples), "few": numbers(first_sample, n_samples) + 7}

def free(*, seed, first_sample, n_samples, **given):
    return {"y": numbers(first_sample, n_samples) % 4}

def also_free(*, seed, first_sample, n_samples, **given):
    return {"y": numbers(first_sample, n_samples) % 4}

def other(*, seed, first_sample, n_samples):
    return {"x": 2.0 * numbers(first_sample, n_samples), "y": numbers(first_sample, n_samples) % 4}

def said(*, seed, first_sample, n_samples):
    return {"x": 2.0 * numbers(first_sample, n_samples), "y": numbers(first_sample, n_samples) % 4}

said.variables = ("x",)

def liar(*, seed, first_sample, n_samples):
    return {"x": 2.0 * numbers(first_sample, n_samples)}

liar.variables = ("x", "y")
"""

ANGLES = {"width": 8, "depth": 2, "theta0": 0.3}
LAYER = {"n_inputs": 60, "latent_dim": 2, "n_clones": 2, "width": 4, "noise": 0.1}


@pytest.fixture
def own(own_module: Write) -> str:
    return own_module("several_methods", METHODS)


def study_of(own: str, *names: str, **changes: Any) -> Study:
    options: dict[str, Any] = {"samples": 100, "seed": 1, "block_size": 30}
    return Study([f"{own}:{name}" for name in names], **{**options, **changes})


def run(study: Study, store: Path, **options: Any) -> xr.Dataset:
    return wa.studies.run(study, store, progress=False, **options)


def test_what_a_function_does_not_return_is_empty(own: str, tmp_path: Path) -> None:
    study = study_of(own, "one", "other")
    results = run(study, tmp_path / "store")
    assert results.method.values.tolist() == list(study.methods)
    np.testing.assert_array_equal(results.y_mean, [np.nan, 1.5])
    np.testing.assert_array_equal(results.few_count, [100, 0])


@pytest.mark.parametrize("asked", [{}, {"variables": ["x", "y"]}])
def test_each_cell_has_what_its_function_returns(own: str, asked: dict[str, Any], tmp_path: Path) -> None:
    study = study_of(own, "one", "other", statistics={"histograms": {"y": [0, 4, 4]}, **asked})
    results = run(study, tmp_path / "store")
    assert results.status.values.tolist() == [0, 0]
    assert results.x_mean.values.tolist() == [0.5 * 49.5, 2.0 * 49.5]
    assert results.y_count.values.tolist() == [0, 100]
    assert results.y_histogram.values.tolist() == [[0] * 4, [25] * 4]
    assert ("few_count" in results) is not bool(asked)


@pytest.mark.parametrize("asked", [{}, {"variables": ["log_sin2", "dead", "y"]}])
def test_a_method_of_the_package_beside_a_function(own: str, asked: dict[str, Any], tmp_path: Path) -> None:
    histograms = {"log_sin2": [-9, 0, 9], "y": [0, 4, 4]}
    options: dict[str, Any] = {"samples": 100, "seed": 1, "block_size": 30, "parameters": ANGLES}
    study = Study(["simulate_angles", f"{own}:free"], statistics={"histograms": histograms, **asked}, **options)
    results = run(study, tmp_path / "store").load()
    assert results.status.values.tolist() == [0, 0]
    assert results.y_histogram.values.tolist() == [[0] * 4, [25] * 4]
    alone = Study("simulate_angles", statistics={"histograms": {"log_sin2": [-9, 0, 9]}}, **options)
    expected = run(alone, tmp_path / "alone").load()
    for name in ("log_sin2_histogram", "log_sin2_mean", "dead"):
        np.testing.assert_array_equal(results[name][0], expected[name][0])
    assert results.log_sin2_histogram[1].sum() == results.log_sin2_count[1].sum() == 0


def test_cells_of_one_method_with_other_variables(tmp_path: Path) -> None:
    study = Study(
        "chunk_statistics",
        samples=4,
        seed=1,
        parameters=LAYER,
        cells=[{"readout": False}, {"readout": True}],
        statistics={"variables": ["accuracy"]},
    )
    results = run(study, tmp_path / "store")
    assert results.status.values.tolist() == [0, 0]
    assert results.n_samples.values.tolist() == [4, 4]
    assert (results.accuracy_count.values == [[0], [4]]).all()


def test_a_name_that_a_function_says_has_to_be_returned(own: str, tmp_path: Path) -> None:
    study = study_of(own, "one", "liar", statistics={"histograms": {"y": [0, 4, 4]}})
    with pytest.warns(wa.studies.StudyWarning, match=r"1 of 2 .*:liar\): ValueError: statistics ask for 'y', which"):
        results = run(study, tmp_path / "store")
    assert results.status.values.tolist() == [0, 2]


def test_what_is_returned_beside_what_is_said_is_kept(own: str, tmp_path: Path) -> None:
    study = study_of(own, "other", "said", statistics={"variables": ["y"]})
    assert run(study, tmp_path / "store").y_count.values.tolist() == [100, 100]


def test_a_name_that_no_function_returns(own: str, tmp_path: Path) -> None:
    study = study_of(own, "one", "said", "other", statistics={"histograms": {"z": [0, 4, 4]}})
    message = r"2 of 3 cells failed, .*:one\): ValueError: statistics ask for 'z', which no method of the study returns"
    for _ in range(2):
        with pytest.warns(wa.studies.StudyWarning, match=message):
            results = run(study, tmp_path / "store")
        # The function that says what it returns is not to blame.
        assert results.status.values.tolist() == [2, 0, 2]
    assert wa.studies.status(tmp_path / "store").state == "failed"


@pytest.mark.parametrize(
    ("methods", "name", "done", "failed"),
    [
        (["{own}:free", "simulate_angles"], "log_sin2", [0], []),  # which the cells that come later have
        (["{own}:free", "simulate_angles"], "z", [0], [0]),
        (["{own}:free", "{own}:also_free"], "z", [0], []),
        (["{own}:free", "{own}:also_free"], "z", [0, 1], [0, 1]),
    ],
)
def test_a_method_that_comes_later_may_have_the_name(
    own: str, methods: list[str], name: str, done: list[int], failed: list[int]
) -> None:
    methods = [method.format(own=own) for method in methods]
    study = Study(methods, samples=4, seed=1, parameters=ANGLES, statistics={"histograms": {name: [-9, 0, 9]}})
    assert [one.cell for one in never_returned(study, Layout({"y": ()}), done)] == failed


def test_the_variable_of_stop_beside_a_function_that_does_not_say_what_it_returns(own: str) -> None:
    stop = {"variable": "y", "standard_error": 0.1}
    with pytest.raises(ValueError, match=r"of all cells, got 'y', which those of method 'simulate_angles' do not have"):
        Study([f"{own}:free", "simulate_angles"], samples=4, seed=1, parameters=ANGLES, stop=stop)


def test_the_clear_error_of_a_single_method(own: str, tmp_path: Path) -> None:
    study = study_of(own, "one", statistics={"variables": ["x"], "histograms": {"x": [0, 4, 4]}})
    assert run(study, tmp_path / "store").x_count.values.tolist() == [100]
    wrong = study_of(own, "one", statistics={"variables": ["x", "y"]})
    with pytest.warns(wa.studies.StudyWarning, match="statistics ask for 'y', which the method does not return; it re"):
        assert run(wrong, tmp_path / "wrong").n_samples.values.tolist() == [0]


def test_samples_of_a_variable_that_a_cell_does_not_have(own: str, tmp_path: Path) -> None:
    study = study_of(own, "one", "other", statistics={"samples": True})
    results = run(study, tmp_path / "store").load()
    np.testing.assert_array_equal(results.few, [np.arange(100) + 7, np.zeros(100)])
    np.testing.assert_array_equal(results.y, [np.zeros(100), np.arange(100) % 4])
    # As for every reader: chunks that are not there could be anything.
    chunks = {path.name for path in (tmp_path / "store" / "few").glob("[01].*")}
    assert chunks == {f"{cell}.{block}" for cell in range(2) for block in range(4)}
