"""The memory of a block is what the plan says, or somewhat less."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wideangle.statistics import Moments
from wideangle.studies._blocks import CellWork, Task, Unit, cell_parameters, reduce_block, run_task
from wideangle.studies._failures import Failure
from wideangle.studies._tree import Node
from wideangle.studies.protocol import Block, Variable, Wanted, resolve
from wideangle.studies.study import Study

# By method: samples of about 20 MB, parameters, and a variable.
CELLS: dict[str, tuple[int, dict[str, Any], str]] = {
    "simulate_angles": (40_000, {"width": 16, "depth": 16, "theta0": 0.3}, "log_norm2"),
    "simulate_gram": (8_000, {"width": 16, "depth": 8, "gram0": np.eye(4).tolist()}, "gram"),
    "simulate_modes": (
        20_000,
        {
            "features": [[1.0, 0.0], [1.0, 1.0]],
            "probabilities": [0.5, 0.5],
            "times": list(range(8)),
            "margins0": [0.1, -0.1],
            "margins0_standard_deviation": 0.5,
        },
        "margins",
    ),
    "phase_diagram": (60_000, {"readout": -0.3, "projection": 0.4, "readout_standard_deviation": 0.5}, "turning_time"),
    "simulate_training": (
        1_000,
        {
            "widths": [16, 16],
            "data": {"x": [[1.0, 2.0], [2.0, 1.0]], "y": [1, -1]},
            "n_steps": 50,
            "learning_rate": 0.1,
        },
        "outputs",
    ),
    "chunk_statistics": (
        10_000,
        {"n_inputs": 500, "latent_dim": 3, "n_clones": 4, "width": 32, "noise": 0.1},
        "r2",
    ),
}
FACTOR = {"samples": 1.75, "sketches": 3.0, "fine sketches": 3.0, "all": 3.0}


def statistics_of(kind: str, variable: str) -> dict[str, Any]:
    fine: dict[str, Any] = {"quantiles": [0.5], "relative_error": 1e-5}
    everything = {"quantiles": [0.5], "samples": True, "histograms": {variable: [-20.0, 20.0, 100]}}
    kinds: dict[str, dict[str, Any]] = {
        "samples": {"samples": True},
        "sketches": {"quantiles": [0.5]},
        "fine sketches": fine,
        "all": everything,
    }
    return kinds[kind]


@pytest.mark.parametrize("kind", FACTOR)
@pytest.mark.parametrize("name", CELLS)
def test_a_block_takes_what_is_planned(name: str, kind: str, tmp_path: Path) -> None:
    """All arrays are NumPy's, whose memory Python traces."""
    n_samples, parameters, variable = CELLS[name]
    statistics = statistics_of(kind, variable)
    study = Study(name, samples=n_samples, seed=1, block_size=n_samples, parameters=parameters, statistics=statistics)

    def run(samples: int) -> None:
        work = CellWork(name, cell_parameters(study.cells[0].parameters), 1, samples, samples, study.fingerprint(0))
        folder = str(tmp_path) if study.statistics.samples else None
        versions = {name: resolve(name).version}
        (result,) = run_task(Task((Unit(0, Node(0, 0)),), {0: work}, study.statistics, versions, folder))
        assert not isinstance(result, Failure), result

    run(2)  # what is imported and kept
    tracemalloc.start()
    try:
        run(n_samples)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    planned = study.plan().largest_block_bytes
    assert peak <= planned <= FACTOR[kind] * peak


def test_moments_do_not_depend_on_how_many_are_found_at_a_time() -> None:

    x = np.random.default_rng(1).normal(5.0, 1.0, (200_000, 3))
    x[::7] = np.nan
    found = reduce_block(Block({"x": Variable(("k",), samples=x)}), len(x), Wanted()).accumulators["x"]["moments"]
    whole = Moments.from_samples(x, where=np.isfinite(x))
    assert isinstance(found, Moments)
    np.testing.assert_array_equal(found.count, whole.count)
    for field in ("mean", "m2", "m4"):
        np.testing.assert_allclose(getattr(found, field), getattr(whole, field), rtol=1e-12)
