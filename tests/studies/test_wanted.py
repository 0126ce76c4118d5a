"""What is wanted is all that the results hold: statistics of each kind alone, for every method and for functions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import wideangle as wa
from wideangle.studies import Study
from wideangle.studies.methods import METHODS

FUNCTION = """
import numpy as np

def two(*, seed, first_sample, n_samples):
    k = np.arange(first_sample, first_sample + n_samples)
    return {"x": k % 3, "y": np.outer(k % 5, [1.0, 2.0])}
"""
MODES = {"features": [[1, 0], [0, 1]], "probabilities": [0.5, 0.5], "margins0": [0.1, 0.01], "times": [0, 1, 10]}
DATA = {"x": [[1.0, 2.0], [3.0, 4.0], [0.5, 1.0]], "y": [1.0, -1.0, 1.0]}
CELLS: dict[str, dict[str, Any]] = {
    "simulate_angles": {"theta0": 0.1, "depth": 3, "width": 4},
    "simulate_gram": {"gram0": [[1.0, 0.1], [0.1, 1.0]], "depth": 3, "width": 8},
    "simulate_modes": {**MODES, "margins0_standard_deviation": [0.1, 0.1]},
    "phase_diagram": {"readout": -0.5, "projection": 0.5, "readout_standard_deviation": 1.0},
    "simulate_training": {"width": 4, "depth": 1, "data": DATA, "n_steps": 4, "learning_rate": 0.1},
    "chunk_statistics": {"n_inputs": 60, "latent_dim": 2, "n_clones": 2, "width": 4, "noise": 0.1},
}
COUNTS = set(CELLS) - {"chunk_statistics"}  # methods that have totals
CHOICES = ("histogram", "quantiles", "samples", "totals", "other")


def statistics_of(choice: str, names: list[str], totals: list[str]) -> tuple[dict[str, Any], set[str]]:
    """Return statistics, and the names of what the results then hold of variables that have samples."""
    one = names[-1]
    if choice == "totals":
        return {"variables": totals}, set()
    if choice == "other":  # A variable that is named and of which nothing is asked.
        asked = {"moments": False, "histograms": {one: [-30.0, 30.0, 6]}, "variables": [*names, *totals]}
    elif choice == "histogram":
        asked = {"moments": False, "histograms": {one: [-30.0, 30.0, 6]}}
    elif choice == "quantiles":
        return {"moments": False, "quantiles": [0.5]}, {f"{name}_quantile" for name in names}
    else:
        return {"moments": False, "samples": True}, set(names)
    return asked, {f"{one}_{part}" for part in ("histogram", "underflow", "overflow")}


@pytest.mark.parametrize(
    ("name", "choice"), [(name, choice) for name in CELLS for choice in CHOICES if choice != "totals" or name in COUNTS]
)
def test_of_every_method(name: str, choice: str, tmp_path: Path) -> None:
    assert set(CELLS) == set(METHODS)
    method: Any = METHODS[name]
    names, totals = sorted(method.variables(method.prepare(CELLS[name]))), sorted(method.totals)
    assert bool(totals) == (name in COUNTS)
    check(Study(name, parameters=CELLS[name], **options(*statistics_of(choice, names, totals))), totals, tmp_path)


@pytest.mark.parametrize("choice", [choice for choice in CHOICES if choice != "totals"])
def test_of_a_function(choice: str, own_module: Callable[[str, str], str], tmp_path: Path) -> None:
    module = own_module("two_variables", FUNCTION)
    check(Study(f"{module}:two", **options(*statistics_of(choice, ["x", "y"], []))), [], tmp_path)


def options(statistics: dict[str, Any], held: set[str]) -> dict[str, Any]:
    return {"samples": 12, "seed": 1, "block_size": 4, "statistics": statistics, "name": " ".join(sorted(held))}


def check(study: Study, totals: list[str], folder: Path) -> None:
    """Run a study, and compare with what it has if everything is wanted."""
    results = run(study, folder / "store.zarr")
    assert results.status.values.tolist() == [0]
    assert {*map(str, results.data_vars)} == {"n_samples", "status", *study.name.split(), *totals}
    everything = {
        "histograms": study.statistics.histograms,
        "quantiles": list(study.statistics.quantiles),
        "samples": study.statistics.samples,
    }
    whole = run(Study.from_dict({**study.to_dict(), "statistics": everything}), folder / "whole.zarr")
    for name, item in results.variables.items():
        np.testing.assert_array_equal(item, whole[name], err_msg=str(name))
    assert wa.studies.write_report(folder / "store.zarr").is_file()
    assert wa.studies.status(folder / "store.zarr").state == "complete"


def run(study: Study, store: Path) -> xr.Dataset:
    return wa.studies.run(study, store, progress=False)
