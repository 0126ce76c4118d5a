"""Plans: every sample is in one block, and what cannot be run is refused before it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from wideangle.studies import Study

NETWORK = {"theta0": 0.1, "depth": 4}


@pytest.mark.parametrize("block_size", [None, 1, 7, 64, 100])
def test_blocks_hold_each_sample_once(block_size: int | None) -> None:
    study = Study(
        "simulate_angles", samples=100, seed=1, parameters=NETWORK, grid={"width": [4, 8]}, block_size=block_size
    )
    plan = study.plan()
    for cell in range(2):
        samples = [
            k for b in plan.blocks() if b.cell == cell for k in range(b.first_sample, b.first_sample + b.n_samples)
        ]
        assert samples == list(range(100))
    assert plan.n_samples == 200
    assert sum(1 for _ in plan.blocks()) == plan.n_blocks.sum()


def test_blocks_take_about_a_second() -> None:
    study = Study("simulate_angles", samples=10**12, seed=1, parameters=NETWORK, grid={"width": [4, 64, 1024, 65536]})
    plan = study.plan()
    assert np.all(plan.block_seconds <= 1.0)
    assert np.all(plan.block_seconds > 0.5)
    # Powers of two do not change with the last digit of an estimate.
    assert np.all(np.log2(plan.block_size) % 1 == 0)
    np.testing.assert_allclose(plan.total_seconds, plan.seconds.sum())


def test_short_cells_have_blocks_for_several_workers() -> None:
    grid = {"width": [4, 64, 1024]}
    some_seconds = Study("simulate_angles", samples=2 * 10**7, seed=1, parameters=NETWORK, grid=grid).plan()
    assert np.all((some_seconds.seconds > 3.0) & (some_seconds.seconds < 200.0))
    assert np.all(some_seconds.n_blocks >= 64)
    assert np.all(some_seconds.block_seconds > 0.05)
    # But not so short that what is beside the samples counts.
    assert np.all(Study("simulate_angles", samples=10**4, seed=1, parameters=NETWORK, grid=grid).plan().n_blocks == 1)


def test_blocks_of_a_cell_do_not_depend_on_other_cells() -> None:
    cells = [{"width": width} for width in (4, 64, 1024)]
    together = Study("simulate_angles", samples=10**7, seed=1, parameters=NETWORK, cells=cells).plan()
    alone = [Study("simulate_angles", samples=10**7, seed=1, parameters=NETWORK, cells=[cell]).plan() for cell in cells]
    np.testing.assert_array_equal(together.block_size, [plan.block_size[0] for plan in alone])


def test_kept_samples_set_the_size_of_blocks() -> None:
    study = Study(
        "simulate_angles",
        samples=10**9,
        seed=1,
        parameters=NETWORK,
        grid={"width": [4, 8]},
        statistics={"samples": True},
    )
    plan = study.plan()
    assert 2**24 < plan.largest_block_bytes <= 2**26
    assert len(set(plan.block_size.tolist())) == 1


def test_memory_of_a_block_is_refused_with_the_number() -> None:
    study = Study(
        "simulate_angles",
        samples=10**12,
        seed=1,
        parameters=NETWORK,
        grid={"width": [4]},
        block_size=10**12,
        statistics={"quantiles": [0.5]},
    )
    with pytest.raises(
        ValueError, match=r"block_size = 1000000000000 of cell 0 .* needs 1\.\d+e\+05 GiB and this machine"
    ):
        study.plan()


def test_a_plan_says_what_it_is() -> None:
    study = Study("simulate_angles", samples=10**6, seed=1, parameters=NETWORK, grid={"width": [4, 8]})
    text = str(study.plan())
    assert "2 cells, 2e+06 samples in" in text
    assert "time on one core, roughly:" in text


def test_what_a_function_does_not_say_is_unknown(walk: Callable[..., dict[str, Any]]) -> None:
    table = walk(samples=6400, statistics={"histograms": {"x": [0, 1, 4]}})
    del table["block_size"]
    plan = Study.from_dict(table).plan()
    assert plan.n_blocks.tolist() == [100] * 3  # of 64 samples, the power of two below 6400 / 64
    assert str(plan).splitlines()[1:] == [
        "time on one core, roughly: unknown",
        "memory of a block, roughly: unknown",
    ]


def test_many_cells() -> None:
    grid = {"width": {"range": [1, 101, 1]}, "theta0": {"linspace": [0.01, 3.0, 100]}}
    study = Study("simulate_angles", samples=10**8, seed=1, parameters={"depth": 4}, grid=grid)
    plan = study.plan()
    assert plan.n_cells == 10_000
    assert plan.n_samples == 10**12
    assert plan.seconds.argmax() // 100 == 99


def test_memory_of_results_is_refused_with_the_number() -> None:
    parameters = {"theta0": 0.1, "depth": 1000, "width": 4}
    study = Study(
        "simulate_angles",
        samples=10**6,
        seed=1,
        parameters=parameters,
        statistics={"histograms": {"log_sin2": [-20, 0, 10**7]}},
    )
    # 1001 tables of 10**7 numbers of 8 bytes, which are there three times when they are made into bytes.
    with pytest.raises(ValueError, match=rf"needs {1001 * 24e7 / 2**30:.3g} GiB and .* give histograms fewer bins"):
        study.plan()


def test_results_count_in_the_memory_of_a_block() -> None:
    def planned(**statistics: object) -> int:
        study = Study(
            "simulate_angles", samples=1000, seed=1, parameters=NETWORK | {"width": 4}, statistics=statistics,
            block_size=500,
        )  # fmt: skip
        return study.plan().largest_block_bytes

    assert planned() == 0
    assert planned(histograms={"log_sin2": [-20, 0, 400]}) == 5 * 402 * 24
    # Both variables at 5 layers; buckets are as many as samples at first, and 8 octaves of 512, or of 8, at most.
    few, many = (planned(quantiles=[0.5], relative_error=error) for error in (0.1, 1e-3))
    assert few == (9 * 10 + 64 * 5) * 500 + (24 * 10 + 56 * 5) * 64
    assert many == (9 * 10 + 64 * 5) * 500 + (24 * 10 + 56 * 5) * 500
    assert planned(samples=True) == (9 * 10 + max(64 * 5, 10 * 10 + 8 * 5)) * 500


def test_the_largest_blocks_exceed_no_integer() -> None:
    study = Study(
        "simulate_angles",
        samples=10**15,
        seed=1,
        parameters=NETWORK | {"width": 4, "depth": 10_000},
        block_size=10**15,
        statistics={"quantiles": [0.5]},
    )
    with pytest.raises(ValueError, match=r"needs 2\.\d+e\+11 GiB and .* give a smaller block_size"):
        study.plan()
