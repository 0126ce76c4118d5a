"""Results as arrays: parameters, coordinates and variables that would have one name, files that change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wideangle.studies import StoreError, Study, StudyWarning, load, run, write_report

DATA = {"x": [[-1.0], [-0.3], [0.4], [1.0]], "y": [-1, -1, 1, 1]}


def training(**changes: Any) -> Study:
    parameters = {"width": 4, "depth": 1, "data": DATA, "n_steps": 8, "batch": 1}
    grid = {"learning_rate": [0.05, 0.1], "loss": ["squared", "hinge"]}
    arguments: dict[str, Any] = {"samples": 10, "seed": 1, "parameters": parameters, "grid": grid, "block_size": 4}
    return Study("simulate_training", **arguments | changes)


def test_parameters_called_like_variables(tmp_path: Path) -> None:
    for samples in (False, True):
        results = run(training(statistics={"samples": samples}), tmp_path / f"training-{samples}.zarr", progress=False)
        assert results.loss_parameter.values.tolist() == ["squared", "hinge"] * 2
        assert results.loss_mean.dims == ("cell", "time")
        assert ("loss" in results) == samples


def test_parameter_called_method(tmp_path: Path) -> None:
    parameters = {"readout": 0.5, "projection": 0.5, "readout_standard_deviation": 0.1}
    grid = {"method": ["integrate", "closed-form"]}
    study = Study("phase_diagram", samples=10, seed=1, parameters=parameters, grid=grid, random_numbers="common")
    results = run(study, tmp_path / "phases.zarr", progress=False)
    assert results.method.values.tolist() == ["phase_diagram"] * 2
    assert results.method_parameter.values.tolist() == grid["method"]
    np.testing.assert_allclose(results.convergence_time_mean[0], results.convergence_time_mean[1], rtol=1e-5)


def test_coordinates_that_differ_between_cells(tmp_path: Path) -> None:
    results = run(training(), tmp_path / "training.zarr", progress=False)
    steps = [0.0, 1.0, 2.0, 4.0, 8.0]
    np.testing.assert_allclose(results.time_of_cell, np.outer(results.learning_rate, steps))
    parameters = {"width": 4, "depth": 1, "data": DATA, "n_steps": 8, "learning_rate": 0.1}
    study = training(parameters=parameters, grid={"loss": ["squared", "hinge"]})
    same = run(study, tmp_path / "same.zarr", progress=False)
    np.testing.assert_allclose(same.time, 0.1 * np.array(steps))
    assert "time_of_cell" not in same


COORDINATES = """
import numpy as np
from wideangle.studies import Block, Variable

def with_coordinate(*, seed, first_sample, n_samples, values, kind="", size=None):
    kept = Variable(("t",), samples=np.ones((n_samples, len(values) if size is None else size)))
    return Block({"x": kept}, {"t": np.array(values, dtype=kind or None)})

def labelled(*, seed, first_sample, n_samples, values):
    import xarray as xr
    samples = np.ones((n_samples, len(values)))
    return xr.Dataset({"x": (("sample", "t"), samples)}, {"t": np.array(values, dtype=object)})
"""
LARGE = 2**53 + 1  # no float


@pytest.mark.parametrize(
    ("method", "first", "second", "expected"),
    [
        ("with_coordinate", ["a", "b"], ["longer", "b", "c"], [["a", "b", ""], ["longer", "b", "c"]]),
        ("with_coordinate", ["a", "b"], ["a", "b", "c"], None),
        ("with_coordinate", [1, 2], [0.5, 2.5, 3.5], [[1.0, 2.0, np.nan], [0.5, 2.5, 3.5]]),
        ("with_coordinate", [LARGE, 2], [1, 2, -LARGE], [[str(LARGE), "2", ""], ["1", "2", str(-LARGE)]]),
        ("with_coordinate", [LARGE, 2], [LARGE, 2, 3], None),
        ("labelled", ["a", "b"], ["longer", "b", "c"], [["a", "b", ""], ["longer", "b", "c"]]),
        ("labelled", ["a", "b"], ["a", "b", "c"], None),
    ],
)
def test_coordinates_of_all_kinds(
    method: str,
    first: list[Any],
    second: list[Any],
    expected: list[list[Any]] | None,
    own_module: Callable[[str, str], str],
    tmp_path: Path,
) -> None:
    """None is lost, be they text, numbers that no float holds, or other ones in other cells."""
    module = own_module(f"coordinates_{method}", COORDINATES)
    cells = [{"values": first}, {"values": second}]
    study = Study(f"{module}:{method}", samples=4, seed=1, cells=cells)
    for results in (run(study, tmp_path / "store.zarr", progress=False), load(tmp_path / "store.zarr")):
        assert results.status.values.tolist() == [0, 0]
        if expected is None:
            assert results["t"].values.tolist() == second
            assert "t_of_cell" not in results
        else:
            np.testing.assert_array_equal(results["t_of_cell"].values, np.array(expected))
    assert write_report(tmp_path / "store.zarr").is_file()


@pytest.mark.parametrize(
    ("cell", "match"),
    [
        (
            {"values": ["a", "b"]},
            "the coordinate 't' has dtype <U1 in cell 1 and int64 in others; return",
        ),
        ({"values": [0, 1], "kind": "datetime64[s]"}, "'t' must hold real numbers or text, got datetime64.s.; convert"),
        ({"values": [0, 1], "kind": "complex"}, "'t' must hold real numbers or text, got complex128; convert"),
        ({"values": [0, 1], "kind": "S1"}, "'t' must hold real numbers or text, got .S1; convert"),
        ({"values": [0, 1], "kind": "object"}, "'t' must hold real numbers or text, got object; convert"),
        ({"values": [0, 1, 2], "size": 2}, r"'t' must have shape \(2,\) like its dimension, got \(3,\)"),
    ],
)
def test_coordinates_that_no_store_can_hold(
    cell: dict[str, Any], match: str, own_module: Callable[[str, str], str], tmp_path: Path
) -> None:
    """They fail by themselves, and the other cells are there."""
    module = own_module("coordinates_refused", COORDINATES)
    study = Study(f"{module}:with_coordinate", samples=4, seed=1, cells=[{"values": [0, 1]}, cell])
    with pytest.warns(StudyWarning, match=f"1 of 2 cells failed, the first one cell 1.*{match}"):
        results = run(study, tmp_path / "store.zarr", progress=False)
    assert results.status.values.tolist() == [0, 2]
    assert results["t"].values.tolist() == [0, 1]


def test_integer_parameters_keep_their_digits(own_module: Callable[[str, str], str], tmp_path: Path) -> None:
    text = "import numpy as np\n\ndef f(*, seed, first_sample, n_samples, **_):\n    return {'x': np.ones(n_samples)}\n"
    module = own_module("with_parameters", text)
    grid: dict[str, list[Any]] = {
        "some": [1, 2, None],
        "large_some": [LARGE, 2, None],
        "large": [LARGE, 2, 2**63 - 1],
        "larger": [2**63 + 1, 2, 3],
        "mixed": [LARGE, 0.5, None],
        "exact": [2**60, 0.5, None],
        "huge": [10**400, 0.5, None],
    }
    cells = [{name: values[k] for name, values in grid.items() if values[k] is not None} for k in range(3)]
    results = run(Study(f"{module}:f", samples=4, seed=1, cells=cells), tmp_path / "store.zarr", progress=False)
    assert {name: results[name].dtype.kind for name in grid} == {
        **dict.fromkeys(("some", "exact"), "f"),
        **dict.fromkeys(("large_some", "larger", "mixed", "huge"), "U"),
        "large": "i",
    }
    np.testing.assert_array_equal(results["some"], [1.0, 2.0, np.nan])
    np.testing.assert_array_equal(results["exact"], [2.0**60, 0.5, np.nan])
    for name in ("large_some", "larger", "mixed", "huge"):
        assert results[name].values.tolist() == ["" if value is None else str(value) for value in grid[name]]
    assert results["large"].values.tolist() == grid["large"]


def test_a_file_that_has_changed_is_another_study(tmp_path: Path) -> None:
    file = tmp_path / "data.npz"
    np.savez(file, x=np.array(DATA["x"]), y=np.array(DATA["y"]))

    def study() -> Study:
        parameters = {"width": 4, "depth": 1, "data": str(file), "n_steps": 8}
        return training(parameters=parameters)

    first = study()
    run(first, tmp_path / "training.zarr", progress=False)
    assert study() == first
    np.savez(file, x=2.0 * np.array(DATA["x"]), y=np.array(DATA["y"]))
    assert study() != first
    with pytest.raises(StoreError, match="holds another study"):
        run(study(), tmp_path / "training.zarr", progress=False)


NAMES = """
import numpy as np

def names(*, seed, first_sample, n_samples, name="x", other="fine"):
    return {name: np.ones(n_samples), other: np.ones(n_samples)}

def shapes(*, seed, first_sample, n_samples, shape=()):
    return {"x": np.ones((n_samples, *shape))}
"""


@pytest.mark.parametrize(
    ("name", "samples"),
    [
        *(
            (name, samples)
            for name in ("", ".", "..", "a/b", ".zattrs", "a\nb", "a" * 101)
            for samples in (False, True)
        ),
        *((name, True) for name in ("cell", "status", "n_samples", "method", "sample", "probability", "fine_mean")),
    ],
)
def test_names_that_no_store_can_hold(
    name: str, samples: bool, own_module: Callable[[str, str], str], tmp_path: Path
) -> None:
    """They fail at once and by themselves: the other cells are there."""
    module = own_module("names_of_results", NAMES)
    cells = [{"name": "x"}, {"name": name}]
    study = Study(f"{module}:names", samples=4, seed=1, cells=cells, statistics={"samples": samples})
    with pytest.warns(StudyWarning, match="1 of 2 cells failed.*rename"):
        results = run(study, tmp_path / "store.zarr", progress=False)
    assert results.status.values.tolist() == [0, 2]
    assert results.x_mean.values[0] == 1.0
    assert results.n_samples.values.tolist() == [4, 0]


@pytest.mark.parametrize("name", ["file", "args", "kwds", "allow_pickle"])
def test_samples_of_variables_called_like_arguments(
    name: str, own_module: Callable[[str, str], str], tmp_path: Path
) -> None:
    module = own_module("names_of_arguments", NAMES)
    study = Study(f"{module}:names", samples=4, seed=1, parameters={"name": name}, statistics={"samples": True})
    assert run(study, tmp_path / "store.zarr", progress=False)[name].values.tolist() == [[1.0] * 4]


def test_names_that_look_odd_but_fit(own_module: Callable[[str, str], str], tmp_path: Path) -> None:
    module = own_module("names_that_fit", NAMES)
    study = Study(f"{module}:names", samples=4, seed=1, parameters={"name": "é d", "other": "status"})
    results = run(study, tmp_path / "store.zarr", progress=False)
    assert results["é d_mean"].values.tolist() == [1.0]
    assert results["status_mean"].values.tolist() == [1.0]
    assert results["status"].values.tolist() == [0]


@pytest.mark.parametrize("samples", [False, True])
def test_dimensions_that_differ_between_cells(
    samples: bool, own_module: Callable[[str, str], str], tmp_path: Path
) -> None:
    """The later cell fails, whatever was computed first, and the others are there."""
    module = own_module("shapes_of_results", NAMES)
    cells = [{"shape": [2]}, {"shape": [3, 2]}, {"shape": [3]}]
    study = Study(f"{module}:shapes", samples=4, seed=1, cells=cells, statistics={"samples": samples})
    for _ in range(2):  # It is tried again, and fails again.
        with pytest.warns(StudyWarning, match="1 of 3 cells failed, the first one cell 1.*has the dimensions"):
            results = run(study, tmp_path / "store.zarr", progress=False)
        for found in (results, load(tmp_path / "store.zarr")):
            assert found.status.values.tolist() == [0, 2, 0]
            np.testing.assert_array_equal(found.x_mean, [[1.0, 1.0, np.nan], [np.nan, np.nan, np.nan], [1.0, 1.0, 1.0]])


def test_names_that_clash_between_cells(own_module: Callable[[str, str], str], tmp_path: Path) -> None:
    module = own_module("clashes_of_results", NAMES)
    cells = [{"name": "x", "other": "z"}, {"name": "x_mean", "other": "y"}]
    study = Study(f"{module}:names", samples=4, seed=1, cells=cells, statistics={"samples": True})
    with pytest.warns(StudyWarning, match="1 of 2 cells failed, the first one cell 1.*'x_mean' twice"):
        results = run(study, tmp_path / "store.zarr", progress=False)
    assert results.status.values.tolist() == [0, 2]
    assert results.x_mean.values[0] == 1.0
