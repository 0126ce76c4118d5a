"""Studies that cannot work are refused when they are described, with argument, value and remedy."""

from __future__ import annotations

import copy
import importlib
import itertools
import json
import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from wideangle.cli import cli
from wideangle.studies import METHODS, Statistics, Study, run
from wideangle.studies._blocks import reduce_block


def angles(**changes: Any) -> Study:
    arguments: dict[str, Any] = {"samples": 100, "seed": 1, "parameters": {"theta0": 0.1, "depth": 3, "width": 4}}
    return Study("simulate_angles", **arguments | changes)


@pytest.mark.parametrize(
    ("values", "number"),
    [
        ({"range": [1, 10**11, 1]}, "99999999999"),
        ({"range": [10**30, 1, -1]}, "9" * 30),
        ({"linspace": [0.1, 1, 10**12]}, "1000000000000"),
        ({"geomspace": [0.1, 1, 10**12]}, "1000000000000"),
        (itertools.count(1), "more"),
    ],
    ids=str,
)
def test_axes_longer_than_memory_are_refused_before_they_are_made(values: Any, number: str) -> None:
    with pytest.raises(ValueError, match=f"grid.width.* at most 1000000 values.* got {number}; give fewer"):
        angles(parameters={"theta0": 0.1, "depth": 3}, grid={"width": values})


@pytest.mark.parametrize(
    ("sequence", "expected"),
    [
        ({"geomspace": [16, 64, 3]}, [16, 32, 64]),
        ({"geomspace": [1, 3**20, 21]}, [3**k for k in range(21)]),
        ({"geomspace": [-8, -1, 4]}, [-8, -4, -2, -1]),
        ({"linspace": [16, 64, 4]}, [16, 32, 48, 64]),
        ({"linspace": [64, 64, 1]}, [64]),
        ({"linspace": [16.0, 64, 4]}, [16.0, 32.0, 48.0, 64.0]),
        ({"linspace": [1, 2, 3]}, [1.0, 1.5, 2.0]),
        ({"range": [5, 0, -2]}, [5, 3, 1]),
    ],
    ids=str,
)
def test_sequences_of_whole_numbers_are_integers(sequence: dict[str, Any], expected: list[float]) -> None:
    from wideangle.studies._axes import axis

    found = axis("x", sequence)
    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]


def test_misspelt_sequences_are_named() -> None:
    with pytest.raises(ValueError, match="did you mean 'linspace'"):
        angles(grid={"width": {"linsapce": [16, 64, 4]}})


@pytest.mark.parametrize("name", ["", ".", "..", ".zarray", "a/b", "a\\b", "a\0b", "first_sample", "n_samples", "seed"])
@pytest.mark.parametrize("place", ["parameters", "grid", "cells", "network"])
def test_names_of_parameters_that_cannot_be(module: str, place: str, name: str) -> None:
    tables: dict[str, dict[str, Any]] = {
        "parameters": {"parameters": {"scale": 1.0, name: 1}},
        "grid": {"grid": {"scale": [1.0], name: [1, 2]}},
        "cells": {"cells": [{"scale": 1.0, name: 1}]},
        "network": {"parameters": {"network": {"scale": 1.0, name: 1}}},
    }
    with pytest.raises(ValueError, match=rf"{place}(\[0\])? must (not )?have .*{re.escape(repr(name))}.*names?"):
        Study(f"{module}:walk", samples=10, seed=0, **tables[place])


def test_parameters_of_cells_cannot_be_changed() -> None:
    data: dict[str, Any] = {"x": [[1.0], [2.0]], "y": [1.0, -1.0]}
    parameters = {"data": data, "width": 2, "depth": 1, "n_steps": 1, "learning_rate": 0.1}
    study = Study("simulate_training", samples=1, seed=1, parameters=parameters)
    table: Any = study.cells[0].parameters
    histograms: Any = study.statistics.histograms
    changes: list[Callable[[], Any]] = [
        lambda: table.__setitem__("width", 3),
        lambda: table.__delitem__("width"),
        lambda: table.update(width=3),
        lambda: table.pop("width"),
        lambda: table.clear(),
        lambda: table["data"].__setitem__("x", [[3.0]]),
        lambda: table["data"]["y"].__setitem__(0, 3.0),
        lambda: table["data"]["x"][0].append(3.0),
        lambda: table["data"]["x"].extend([[3.0]]),
        lambda: table["data"]["x"].__iadd__([[3.0]]),
        lambda: table["data"]["y"].sort(),
        lambda: histograms.__setitem__("loss", (0.0, 1.0, 2)),
    ]
    for change in changes:
        with pytest.raises(TypeError, match="a study cannot be changed; make another one"):
            change()
    assert table == parameters
    # What was given, and what is taken out, is the caller's own.
    data["y"][0] = 5.0
    taken = study.to_dict()
    taken["parameters"]["data"]["x"][0][0] = 7.0
    again = Study.from_dict(study.to_dict())
    assert again.identity == study.identity
    assert again.cells[0].parameters["data"] == {"x": [[1.0], [2.0]], "y": [1.0, -1.0]}
    for copied in (pickle.loads(pickle.dumps(study)), copy.deepcopy(study)):
        assert copied == study
        with pytest.raises(TypeError, match="cannot be changed"):
            copied.cells[0].parameters["width"] = 3  # type: ignore[index]
        with pytest.raises(TypeError, match="cannot be changed"):
            copied.cells[0].parameters["data"]["x"][0][0] = 3.0
    assert json.loads(json.dumps(table)) == table


def test_lists_of_a_grid_and_of_cells_cannot_be_changed() -> None:
    widths, layers = [[4, 8], [8, 4]], [4, 4]
    study = angles(parameters={"theta0": 0.1}, grid={"widths": widths}, cells=[{"widths": layers}])
    before = study.identity
    widths[0].append(16)
    layers.append(16)
    for cell in study.cells:
        with pytest.raises(TypeError, match="a study cannot be changed"):
            cell.parameters["widths"].append(16)
    assert [cell.parameters["widths"] for cell in study.cells] == [[4, 8], [8, 4], [4, 4]]
    assert Study.from_dict(study.to_dict()).identity == before


def test_stores_that_are_no_paths() -> None:
    for store in (3, None, ["a.zarr"]):
        with pytest.raises(TypeError, match="store must be a path, got"):
            run(angles(), store, progress=False)  # type: ignore[arg-type]


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for command in ("plan", "run", "resume"):
        result = CliRunner().invoke(cli, ["study", command, str(tmp_path / "nope.toml")])
        assert result.exit_code != 0
        assert "Errno" not in result.output
        assert "nope" in result.output
    result = CliRunner().invoke(cli, ["study", "plan", str(tmp_path / "nope.toml")])
    assert f"FILE '{tmp_path}/nope.toml' does not exist; give" in result.output.replace("\n", " ")


FUNCTIONS = """
import functools

import numpy as np


def good(*, first_sample, n_samples, seed):
    return {"x": np.ones(n_samples)}


def no_seed(first_sample, n_samples):
    return {"x": np.ones(n_samples)}


def by_place(first_sample, n_samples, seed, /):
    return {"x": np.ones(n_samples)}


def any_names(**given):
    return {"x": np.ones(given["n_samples"])}


class Group:
    @staticmethod
    def static(first_sample, n_samples, seed):
        return {"x": np.ones(n_samples)}

    @classmethod
    def of_class(cls, first_sample, n_samples, seed):
        return {"x": np.ones(n_samples)}

    def bound(self, first_sample, n_samples, seed):
        return {"x": np.ones(n_samples)}

    def __call__(self, first_sample, n_samples, seed):
        return {"x": np.ones(n_samples)}


instance = Group()
bound = instance.bound
part = functools.partial(good, seed=3)
sine = np.sin
"""


@pytest.fixture
def functions(own_module: Callable[[str, str], str]) -> Any:
    """The module with the functions."""
    return importlib.import_module(own_module("functions_of_checks", FUNCTIONS))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_seed", "must take first_sample, n_samples, seed by name, got a function without seed; write"),
        ("by_place", "must take all parameters by name, got 'first_sample' by place; write"),
        ("Group", "got a class; write a function such as def f"),
        ("instance", r"got <.*> \(Group\); write a function such as def f"),
        ("part", r"got functools.partial.* \(partial\); write a function such as def f"),
        ("sine", r"got <ufunc 'sin'> \(ufunc\); write a function such as def f"),
    ],
)
def test_functions_that_cannot_be_methods(functions: Any, name: str, message: str) -> None:
    with pytest.raises(TypeError, match=f"method 'functions_of_checks:{name}' {message}|method .* must be.*{message}"):
        Study(f"functions_of_checks:{name}", samples=10, seed=0)


@pytest.mark.parametrize("name", ["instance", "part", "sine", "Group", "no_seed"])
def test_objects_that_cannot_be_methods(functions: Any, name: str) -> None:
    with pytest.raises(TypeError, match=r"method .*must"):
        Study(getattr(functions, name), samples=10, seed=0)
    with pytest.raises(TypeError, match="method 'builtins:len' must be a function that is written in a Python module"):
        Study(len, samples=10, seed=0)
    # A method of an object is lost in the name of the function.
    with pytest.raises(TypeError, match=r"method 'functions_of_checks:Group.bound' needs|got <bound method"):
        Study(functions.bound, samples=10, seed=0)


@pytest.mark.parametrize("name", [":f", "__main__:f", "functions_of_checks:"])
def test_names_without_a_module(functions: Any, name: str) -> None:
    with pytest.raises(ValueError, match=r"must name a function and the file that .*; give 'module:function'"):
        Study(name, samples=10, seed=0)


def test_functions_that_can_be_methods(functions: Any) -> None:
    for function in (functions.good, functions.any_names, functions.Group.static, functions.Group.of_class):
        study = Study(function, samples=10, seed=0)
        assert study == Study(study.methods[0], samples=10, seed=0)
        assert study.plan().n_cells == 1


ANGLES: list[tuple[dict[str, Any], str]] = [
    (
        {"statistics": {"histograms": {"log_sin": [-9, 0, 9]}}},
        "statistics.histograms has no 'log_sin'; did you mean 'log_sin2'",
    ),
    (
        {"statistics": {"histograms": {"dead": [0, 9, 9]}}},
        "statistics.histograms must name a variable that has samples, got 'dead', a count .*'log_norm2', 'log_sin2'",
    ),
    ({"statistics": {"variables": ["survivor"]}}, "statistics.variables has no 'survivor'; did you mean 'survivors'"),
    (
        {"statistics": {"variables": ["dead"], "histograms": {"log_sin2": [-9, 0, 9]}}},
        "statistics.histograms.log_sin2 is of a variable that statistics.variables leaves out; add it",
    ),
    ({"stop": {"variable": "log_norm", "standard_error": 0.1}}, "stop.variable has no 'log_norm'; did you mean 'log_n"),
    ({"stop": {"variable": "collapsed", "standard_error": 0.1}}, "stop.variable must name .* got 'collapsed', a count"),
]


@pytest.mark.parametrize(("changes", "message"), ANGLES, ids=str)
def test_variables_that_no_method_has(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        angles(**changes)


def test_counts_may_be_kept_alone() -> None:
    assert angles(statistics={"variables": ["dead", "log_sin2"]}).statistics.variables == ("dead", "log_sin2")


def test_stop_needs_its_variable_in_all_cells() -> None:
    layer = {"n_inputs": 60, "latent_dim": 2, "n_clones": 2, "width": 4, "noise": 0.1}
    stop = {"variable": "accuracy", "standard_error": 0.1}
    arguments: dict[str, Any] = {"samples": 4, "seed": 1, "parameters": layer, "stop": stop}
    with pytest.raises(ValueError, match=r"stop.variable must be a variable of all cells, got 'accuracy', which"):
        Study("chunk_statistics", cells=[{"readout": True}, {"readout": False}], **arguments)
    assert len(Study("chunk_statistics", cells=[{"readout": True}], **arguments).cells) == 1


def test_variables_of_functions(functions: Any) -> None:
    asked: dict[str, Any] = {"samples": 10, "seed": 0, "statistics": {"histograms": {"y": [0, 2, 4]}}}
    Study(functions.good, **asked)  # unknown before the first block
    functions.good.variables = ("x", "yy")
    with pytest.raises(ValueError, match=r"statistics.histograms has no 'y'; did you mean 'yy'"):
        Study(functions.good, **asked)
    functions.good.variables = "y"
    with pytest.raises(TypeError, match="must have names in its attribute variables, got 'y'"):
        Study(functions.good, **asked)


DATA = {"x": [[1.0, 2.0], [3.0, 4.0], [0.5, 1.0]], "y": [1.0, -1.0, 1.0]}
CELLS: dict[str, list[dict[str, Any]]] = {
    "simulate_angles": [{"theta0": 0.1, "depth": 3, "width": 4}],
    "simulate_gram": [{"gram0": [[1.0, 0.1, 0.2], [0.1, 1.0, 0.3], [0.2, 0.3, 1.0]], "depth": 3, "width": 8}],
    "simulate_modes": [
        {"features": [[1, 0], [0, 1]], "probabilities": [0.5, 0.5], "margins0": [0.1, 0.01], "times": [0, 1, 10]}
    ],
    "phase_diagram": [{"readout": -0.5, "projection": 0.5, "readout_standard_deviation": 1.0}],
    "simulate_training": [
        {"width": 4, "depth": 1, "data": DATA, "n_steps": 4, "learning_rate": 0.1, "keep": keep}
        for keep in ([], ["tangent_kernel"])
    ],
    "chunk_statistics": [
        {"n_inputs": 60, "latent_dim": 2, "n_clones": 2, "width": 4, "noise": 0.1, "readout": readout}
        for readout in (False, True)
    ],
}


@pytest.mark.parametrize(("name", "parameters"), [(name, one) for name, cells in CELLS.items() for one in cells])
@pytest.mark.parametrize("quantiles", [(), (0.5,)])
def test_methods_return_the_variables_that_they_say(
    name: str, parameters: dict[str, Any], quantiles: tuple[float, ...]
) -> None:
    method: Any = METHODS[name]
    assert set(CELLS) == set(METHODS)
    prepared = method.prepare(parameters)
    wanted = Statistics(quantiles=quantiles)
    block = reduce_block(method.run(prepared, 0, 6, 1, wanted), 6, wanted)
    assert {name: method.dims[name] for name in block.dims} == block.dims
    found = block.accumulators
    shapes = {name: one["moments"].shape for name, one in found.items() if "total" not in one}
    assert method.variables(prepared) == {name: math.prod(shape) for name, shape in shapes.items()}
    assert sorted(method.totals) == sorted(name for name, one in found.items() if "total" in one)
