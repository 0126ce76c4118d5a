"""The description of a study: what it takes, what it refuses, and what its identity depends on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wideangle as wa
from wideangle.studies import Statistics, Stop, Study

TOML = """
name = "angles"
method = "simulate_angles"
samples = 1_000
seed = 7

[parameters]
theta0 = 0.1

[grid]
width = [16, 32]
depth = { range = [2, 5, 1] }

[[cells]]
widths = [20, 8, 40]

[statistics]
quantiles = [0.1, 0.5]
histograms = { log_sin2 = [-20, 0, 40] }

[stop]
variable = "log_sin2"
standard_error = 0.01
"""


def example(**changes: Any) -> Study:
    arguments: dict[str, Any] = {
        "samples": 100,
        "seed": 1,
        "parameters": {"theta0": 0.1, "depth": 3},
        "grid": {"width": [16, 32]},
    }
    return Study("simulate_angles", **arguments | changes)


def test_file_is_the_same_as_arguments(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text(TOML)
    study = Study.from_toml(file)
    assert study == Study(
        "simulate_angles",
        samples=1000,
        seed=7,
        parameters={"theta0": 0.1},
        grid={"width": np.array([16, 32]), "depth": (2, 3, 4)},
        cells=[{"widths": [20, 8, 40]}],
        statistics=Statistics(quantiles=(0.1, 0.5), histograms={"log_sin2": (-20.0, 0.0, 40)}),
        stop=Stop("log_sin2", 0.01),
    )
    assert [dict(cell.parameters) for cell in study.cells[:4]] == [
        {"theta0": 0.1, "width": 16, "depth": 2},
        {"theta0": 0.1, "width": 16, "depth": 3},
        {"theta0": 0.1, "width": 16, "depth": 4},
        {"theta0": 0.1, "width": 32, "depth": 2},
    ]
    assert dict(study.cells[-1].parameters) == {"theta0": 0.1, "widths": [20, 8, 40]}
    assert Study.from_dict(json.loads(json.dumps(study.to_dict()))).identity == study.identity


def test_study_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        example().seed = 3  # type: ignore[misc]


def test_networks_as_a_list() -> None:
    networks = [wa.MLP((8, 8), weight_variance=1.5), {"width": 16, "depth": 2}]
    study = example(parameters={"theta0": 0.1}, grid={"network": networks})
    assert [cell.parameters.get("widths") for cell in study.cells] == [[8, 8], None]
    assert study.cells[0].parameters["weight_variance"] == 1.5
    assert study.cells[1].parameters["width"] == 16


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 2},
        {"samples": 101},
        {"parameters": {"theta0": 0.1, "depth": 4}},
        {"parameters": {"theta0": np.nextafter(0.1, 1.0), "depth": 3}},
        {"grid": {"width": [32, 16]}},
        {"block_size": 10},
        {"random_numbers": "common"},
        {"statistics": {"quantiles": [0.5]}},
        {"statistics": {"quantiles": [0.5], "relative_error": 0.01}},
        {"statistics": {"samples": True}},
        {"statistics": {"variables": ["log_sin2"]}},
        {"stop": {"variable": "log_sin2", "standard_error": 0.1}},
    ],
    ids=repr,
)
def test_identity_depends_on_all_that_results_depend_on(changes: dict[str, Any]) -> None:
    assert example(**changes).identity != example().identity


def test_identity_depends_on_nothing_else() -> None:
    cells = [{"width": 16}, {"width": 32}]
    assert example(name="another").identity == example().identity
    assert example(grid={}, cells=cells).identity == example().identity
    assert example(statistics={"relative_error": 1e-3}).identity == example().identity


def test_cells_have_random_numbers_of_their_own() -> None:
    seeds = {example().seed_of(cell) for cell in example().cells}
    assert len(seeds) == 2
    # Neither the place in the grid nor other cells matter.
    other = example(grid={"width": [64, 32, 16]})
    assert {other.seed_of(cell) for cell in other.cells} > seeds
    common = example(random_numbers="common")
    assert {common.seed_of(cell) for cell in common.cells} == {1}


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"samples": 0}, ValueError, "samples must lie between 1 and"),
    ({"samples": 10**15 + 1}, ValueError, "samples must lie between 1 and 1000000000000000"),
    ({"seed": -1}, ValueError, "seed must lie between"),
    ({"grid": {"widht": [1]}}, ValueError, "has no 'widht'; did you mean 'width'"),
    ({"grid": {"width": []}}, ValueError, "grid.width must not be empty"),
    ({"grid": {"width": 16}}, TypeError, "grid.width must be a list, got 16"),
    ({"grid": {"width": [16, 16]}}, ValueError, "occurs twice"),
    ({"grid": {"width": {"linspace": [1, 2]}}}, ValueError, "must hold three numbers"),
    ({"grid": {"theta0": {"geomspace": [0.0, 2.0, 3]}}}, ValueError, "numbers of the same sign"),
    ({"grid": {"width": {"logspace": [1, 2, 3]}}}, ValueError, "one of { linspace"),
    ({"grid": {"theta0": [0.1, 0.2], "width": [4]}}, ValueError, "both in parameters and in grid"),
    ({"grid": {"width": [16, -3]}}, ValueError, r"cell 1 \(simulate_angles, .*width = -3\)"),
    ({"grid": {"width": [16.5]}}, TypeError, "width"),
    ({"grid": {"width": [object()]}}, TypeError, "a description that a file can hold"),
    (
        {"grid": {"width": list(range(1, 1002)), "theta0": [0.1] * 1000}},
        ValueError,
        "at most 1000000 cells, got 1001000",
    ),
    ({"parameters": {"theta0": float("nan"), "depth": 3}}, ValueError, "must not be NaN"),
    ({"parameters": [1]}, TypeError, "parameters must be a table"),
    ({"cells": {"width": 4}}, TypeError, "cells must be a list of tables"),
    ({"cells": [4]}, TypeError, r"cells\[0\] must be a table"),
    ({"block_size": 101}, ValueError, "block_size must lie between 1 and 100"),
    ({"block_size": 2.5}, TypeError, "block_size must be an integer"),
    ({"random_numbers": "shared"}, ValueError, "random_numbers must be one of"),
    ({"statistics": {"quantile": [0.5]}}, ValueError, "statistics has no 'quantile'; did you mean 'quantiles'"),
    ({"statistics": {"quantiles": [0.5, 0.1]}}, ValueError, "must increase from 0 to 1"),
    ({"statistics": {"quantiles": [1.5]}}, ValueError, "must increase from 0 to 1"),
    ({"statistics": {"relative_error": 0.0}}, ValueError, "relative_error must be positive"),
    ({"statistics": {"histograms": {"log_sin2": [0, 0, 4]}}}, ValueError, "must have low < high"),
    (
        {"statistics": {"histograms": {"log_sin2": [-1e308, 1e308, 10]}}},
        ValueError,
        "statistics.histograms.log_sin2: high - low must lie between 1e-300 and 1e308, got inf; scale",
    ),
    (
        {"statistics": {"histograms": {"log_sin2": [1.0, 1.0000000000000002, 10]}}},
        ValueError,
        "statistics.histograms.log_sin2: low=1.0 and high=1.0000000000000002 are too close for 10 bins; use fewer",
    ),
    ({"statistics": {"histograms": {"log_sin2": [0, 1]}}}, ValueError, "must hold three numbers"),
    ({"statistics": {"moments": False}}, ValueError, "must ask for something"),
    ({"statistics": {"moments": 1}}, TypeError, "must be True or False"),
    ({"statistics": {"variables": "log_sin2"}}, TypeError, "must be a list of names"),
    ({"stop": {"variable": "log_sin2"}}, ValueError, "stop needs 'standard_error'"),
    ({"stop": {"variable": "log_sin2", "standard_error": -1.0}}, ValueError, "must be positive"),
    ({"stop": {"variabel": "x", "standard_error": 1.0}}, ValueError, "did you mean 'variable'"),
    (
        {"stop": {"variable": "log_sin2", "standard_error": 1.0}, "statistics": {"variables": ["log_norm2"]}},
        ValueError,
        "stop needs the moments of 'log_sin2'",
    ),
    ({"name": 3}, TypeError, "name must be a string"),
]


@pytest.mark.parametrize(("changes", "error", "message"), WRONG, ids=lambda item: str(item)[:40])
def test_bad_arguments(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        example(**changes)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("simulate_angels", "did you mean 'simulate_angles'"),
        ("no_such_module:f", "cannot be imported"),
        ("math:no_such", "cannot be imported"),
        ("math:pi", "must be a function"),
        (lambda: 0, "a file of its own"),
        ([], "must name one method or several"),
        (["simulate_angles", "simulate_angles"], "each once"),
    ],
    ids=str,
)
def test_bad_methods(method: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        Study(method, samples=1, seed=1, parameters={"width": 4, "depth": 2, "theta0": 0.1})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda text: text.replace("samples =", "sample ="), ValueError, "has no 'sample'; did you mean 'samples'"),
        (lambda text: text.replace("seed = 7", ""), ValueError, "study needs 'seed'"),
        (lambda text: text.replace("[grid]", "[grids]"), ValueError, "did you mean 'grid'"),
        (lambda text: text.replace("= 7", "= "), ValueError, "not a TOML file"),
        (lambda text: text.replace("seed = 7", "seed = 7\nseed = 8"), ValueError, "not a TOML file"),
        (lambda text: text.replace("[16, 32]", "[16, 'x']"), TypeError, "cell 3"),
    ],
)
def test_bad_files(tmp_path: Path, change: Callable[[str], str], error: type[Exception], message: str) -> None:
    file = tmp_path / "study.toml"
    file.write_text(change(TOML))
    with pytest.raises(error, match=message) as caught:
        Study.from_toml(file)
    assert str(file) in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nothing"):
        Study.from_toml(tmp_path / "nothing.toml")
    (tmp_path / "latin.toml").write_bytes("name = 'Poincar\u00e9'".encode("latin-1"))
    with pytest.raises(ValueError, match="not a TOML file"):
        Study.from_toml(tmp_path / "latin.toml")
