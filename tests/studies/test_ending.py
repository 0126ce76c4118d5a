"""When runs and cells end: time that is up, whatever the executor tells, and rules that some cells cannot follow."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wideangle as wa
from wideangle.studies import Study, StudyWarning, run, status

OWN = """
import time

import numpy as np

calls = []

def slow(*, first_sample, n_samples, seed, seconds):
    calls.append(first_sample)
    time.sleep(seconds)
    return {"x": np.arange(first_sample, first_sample + n_samples) % 7}

def some(*, first_sample, n_samples, seed, with_y):
    x = np.arange(first_sample, first_sample + n_samples) % 7
    return {"x": x, "y": x} if with_y else {"x": x}
"""


@pytest.fixture
def own(own_module: Callable[[str, str], str]) -> str:
    return own_module("own_endings", OWN)


class Silent(Executor):
    """Futures that never say that they run, like those of Dask, so that cancelling them always succeeds."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(2)
        self._max_workers = 2

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        result: Future[Any] = Future()

        def pass_on(done: Future[Any]) -> None:
            if not result.cancelled():
                result.set_result(done.result())

        self.pool.submit(fn, *args, **kwargs).add_done_callback(pass_on)
        return result

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.pool.shutdown(wait=wait, cancel_futures=cancel_futures)


class AtOnce(Executor):
    """Computes when it is asked to."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        result: Future[Any] = Future()
        result.set_result(fn(*args, **kwargs))
        return result


def test_work_of_executors_that_do_not_say_what_runs_is_kept(own: str, tmp_path: Path) -> None:
    """Runs that are shorter than their blocks would get nowhere otherwise."""
    study = Study(f"{own}:slow", samples=1000, seed=1, block_size=100, parameters={"seconds": 0.6})
    with Silent() as pool:
        done = [
            int(run(study, tmp_path / "own.zarr", executor=pool, progress=False, max_time=0.5).n_samples.sum())
            for _ in range(2)
        ]
    assert 0 < done[0] < done[1] < 1000


def test_time_is_looked_at_between_tasks_that_are_computed_at_once(own: str, tmp_path: Path) -> None:
    study = Study(f"{own}:slow", samples=100, seed=1, block_size=1, parameters={"seconds": 0.2})
    results = run(study, tmp_path / "own.zarr", executor=AtOnce(), progress=False, max_time=0.5)
    # No more than three blocks can begin before the time is up.
    assert 1 <= int(results.n_samples.sum()) <= 3
    whole = Study(f"{own}:slow", samples=100, seed=1, block_size=10, parameters={"seconds": 0.0})
    run(whole, tmp_path / "at_once.zarr", executor=AtOnce(), progress=False)
    run(whole, tmp_path / "threads.zarr", progress=False)
    expected, found = (wa.studies.load(tmp_path / name).load() for name in ("threads.zarr", "at_once.zarr"))
    assert found.identical(expected)


def test_a_cell_without_the_variable_of_the_rule_fails_alone(own: str, tmp_path: Path) -> None:
    stop = {"variable": "y", "standard_error": 1.0, "min_samples": 10}
    study = Study(f"{own}:some", samples=1000, seed=1, block_size=5, grid={"with_y": [False, True]}, stop=stop)
    for _ in range(2):  # as it is tried again
        with pytest.warns(
            StudyWarning, match=r"1 of 2 cells failed.*stop\.variable must be .* got 'y'; choose from 'x'"
        ):
            results = run(study, tmp_path / "own.zarr", progress=False)
        np.testing.assert_array_equal(results.status, [2, 0])
        assert int(results.n_samples[1]) == 10
    whole = Study(f"{own}:some", samples=20, seed=1, block_size=20, grid={"with_y": [False, True]}, stop=stop)
    with pytest.warns(StudyWarning, match="1 of 2 cells failed"):  # also if all its samples are there at once
        run(whole, tmp_path / "whole.zarr", progress=False)


def test_status_does_not_call_cells_complete_before_the_rule_is_looked_at(own: str, tmp_path: Path) -> None:
    stop = {"variable": "x", "standard_error": 10.0, "min_samples": 100}
    arguments: dict[str, Any] = {"samples": 200, "seed": 1, "block_size": 10, "stop": stop}
    study = Study(f"{own}:slow", parameters={"seconds": 0.2}, **arguments)
    results = run(study, tmp_path / "own.zarr", executor=AtOnce(), progress=False, max_time=0.5)
    assert 0 < int(results.n_samples[0]) < 100
    assert int(results.status[0]) == 1
    assert status(tmp_path / "own.zarr").cells["complete"] == 0
    assert int(wa.studies.load(tmp_path / "own.zarr").status[0]) == 1
