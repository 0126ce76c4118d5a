"""Studies of several methods: tables under the name of a method have what that method alone gets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wideangle as wa
from wideangle.studies import Study
from wideangle.studies._toml_text import toml_text

NETWORK = {"width": 64, "depth": 8}
ANGLES: dict[str, Any] = {"theta0": 0.1}
GRAM: dict[str, Any] = {"angle": [0.1, 0.2]}
TOML = """
method = ["simulate_angles", "simulate_gram"]
samples = 100
seed = 1

[parameters]
depth = 8

[parameters.simulate_angles]
theta0 = 0.1

[grid]
width = [16, 64]

[grid.simulate_gram]
angle = [0.1, 0.2]

[statistics]
variables = ["log_sin2", "gram"]
"""


VARIABLES = {
    "simulate_angles": ["log_sin2"],
    "simulate_gram": ["gram"],
    "simulate_modes": ["margins"],
    "phase_diagram": ["learns"],
    "chunk_statistics": ["r2"],
    "of_tables:f": ["height"],
}


def both(**changes: Any) -> Study:
    options: dict[str, Any] = {
        "parameters": {**NETWORK, "simulate_angles": ANGLES},
        "grid": {"simulate_gram": GRAM},
        "statistics": {"variables": ["log_sin2", "gram"]},
    }
    return Study(["simulate_angles", "simulate_gram"], samples=100, seed=1, **options | changes)


def test_cells_are_those_of_each_method_alone() -> None:
    study = both(
        grid={"activation": ["relu"], "simulate_gram": GRAM}, cells=[{"width": 32, "simulate_gram": {"angle": 1.5}}]
    )
    angles = Study(
        "simulate_angles",
        samples=100,
        seed=1,
        parameters={**NETWORK, **ANGLES},
        grid={"activation": ["relu"]},
        cells=[{"width": 32}],
    )
    gram = Study(
        "simulate_gram",
        samples=100,
        seed=1,
        parameters=NETWORK,
        grid={"activation": ["relu"], **GRAM},
        cells=[{"width": 32, "angle": 1.5}],
    )
    assert [cell.text for cell in study.cells] == [cell.text for cell in (*angles.cells, *gram.cells)]
    assert len({study.seed_of(cell) for cell in study.cells}) == 5


def test_cells_of_one_method_alone() -> None:
    study = both(grid={}, cells=[{"simulate_gram": {"angle": angle}} for angle in (0.1, 0.2)])
    assert [(cell.method, cell.parameters.get("angle")) for cell in study.cells] == [
        ("simulate_angles", None),
        ("simulate_gram", 0.1),
        ("simulate_gram", 0.2),
    ]


def test_every_pair_of_methods_has_a_study(own_module: Callable[[str, str], str]) -> None:
    own = own_module("of_tables", "def f(*, seed, first_sample, n_samples, height): return {}\n")
    tables: dict[str, dict[str, Any]] = {
        "simulate_angles": {**ANGLES, **NETWORK},
        "simulate_gram": {"angle": 0.1, **NETWORK},
        "simulate_modes": {
            "features": [[1, 0], [0, 1]],
            "probabilities": [0.5, 0.5],
            "margins0": [0.1, 0.01],
            "times": [1],
        },
        "phase_diagram": {"readout": -0.5, "projection": 0.5},
        "chunk_statistics": {"n_inputs": 60, "latent_dim": 2, "n_clones": 2, "width": 4, "noise": 0.1},
        f"{own}:f": {"height": 3},
    }
    for one in VARIABLES:
        for other in VARIABLES:
            if one != other:
                parameters = {one: tables[one], other: tables[other]}
                kept = {"moments": True, "variables": VARIABLES[one] + VARIABLES[other]}
                study = Study([one, other], samples=100, seed=1, parameters=parameters, statistics=kept)
                assert [dict(cell.parameters) for cell in study.cells] == [tables[one], tables[other]]


def test_files_say_the_same_and_round_trip(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(TOML, encoding="utf-8")
    study = Study.from_toml(tmp_path / "study.toml")
    assert study == both(
        parameters={"depth": 8, "simulate_angles": ANGLES}, grid={"width": [16, 64], "simulate_gram": GRAM}
    )
    assert len(study.cells) == 2 + 4
    assert Study.from_dict(study.to_dict()) == study
    (tmp_path / "again.toml").write_text(toml_text(study.to_dict()), encoding="utf-8")
    assert Study.from_toml(tmp_path / "again.toml") == study
    with pytest.raises(TypeError, match="cannot be changed"):
        study._given["grid"]["simulate_gram"]["angle"].append(0.3)


def test_results_and_the_page(tmp_path: Path) -> None:
    study = both(cells=[{"simulate_gram": {"angle": 0.3}}])
    results = wa.studies.run(study, tmp_path / "s.zarr", progress=False)
    assert results.method.values.tolist() == ["simulate_angles"] + ["simulate_gram"] * 3
    np.testing.assert_array_equal(results.theta0, [0.1, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(results.angle, [np.nan, 0.1, 0.2, 0.3])
    assert (results.log_sin2_count.values > 0).any(axis=1).tolist() == [True, False, False, False]
    assert np.isnan(results.log_sin2_mean.values[1:]).all()
    page = wa.studies.write_report(tmp_path / "s.zarr").read_text(encoding="utf-8")
    assert "parameters of simulate_angles" in page
    assert "grid of simulate_gram" in page
    assert wa.studies.status(tmp_path / "s.zarr").is_complete


WRONG: list[tuple[dict[str, Any], str]] = [
    (
        {"parameters": {"simulate_gran": {"angle": 0.1}}},
        "parameters has a table for the method 'simulate_gran', which .*; did you mean 'simulate_gram'",
    ),
    (
        {"grid": {"phase_diagram": {"readout": [0.1]}}},
        "grid has a table for the method 'phase_diagram', which the study does not have; it has 'simulate_angles'",
    ),
    ({"cells": [{"simulate_angels": {"theta0": 0.2}}]}, r"cells\[0\] has a table .* did you mean 'simulate_angles'"),
    ({"parameters": {"simulate_gram": 3}}, r"parameters.simulate_gram must be a table of what .* under \[param"),
    (
        {"parameters": {**NETWORK, "simulate_gram": {"depth": 3}}},
        "'depth' is both in parameters, for all methods, and in parameters.simulate_gram; leave it",
    ),
    (
        {"parameters": {**NETWORK, "simulate_gram": {"angle": 3.0}}},
        "'angle' is both in parameters and in grid; leave it in one",
    ),
    ({"grid": {"simulate_gram": {"angle": 0.1}}}, "grid.simulate_gram.angle must be a list, got 0.1"),
    (
        {"grid": {"simulate_gram": {"angle": {"linspac": [1, 2, 3]}}}},
        "grid.simulate_gram.angle .* did you mean 'linspace'",
    ),
    ({"parameters": {"simulate_gram": {"seed": 3}}}, "parameters.simulate_gram must not have 'seed'"),
    (
        {"statistics": {"variables": ["log_sin2", "log_norm2"]}},
        "'log_norm2' has the dimensions layer in cells of 'simulate_angles', and layer, input in .*variables",
    ),
    (
        {"parameters": {**NETWORK, **ANGLES}},
        r"cell 1 .*has no 'theta0'; .*; what one method alone gets .* such as \[parameters.simulate_gram\]",
    ),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=str)
def test_tables_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        both(**changes)


def test_tables_of_functions_that_the_study_does_not_have(own_module: Callable[[str, str], str]) -> None:
    own = own_module("takes_all", "def f(*, seed, first_sample, n_samples, **given): return {}\n")
    with pytest.raises(
        ValueError, match=r"parameters has a table for the method 'elsewhere:g', .* it has 'takes_all:f'"
    ):
        Study(f"{own}:f", samples=1, seed=1, parameters={"elsewhere:g": {"height": 3}})
    assert Study(f"{own}:f", samples=1, seed=1, parameters={"shape": {"height": 3}}).identity


def test_a_study_of_one_method_refuses_tables_of_others() -> None:
    with pytest.raises(
        ValueError, match=r"parameters has a table for the method 'simulate_gram'.* or add it to method"
    ):
        Study("simulate_angles", samples=1, seed=1, parameters={**NETWORK, **ANGLES, "simulate_gram": {"angle": 0.1}})
