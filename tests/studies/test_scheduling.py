"""The schedule of a run: how long tasks are, that each block is in one, and what becomes of tasks that are lost."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wideangle as wa
from wideangle.studies import Study
from wideangle.studies._blocks import Task
from wideangle.studies._scheduling import MOST_UNITS_OF_TASK, costs_of_blocks, level_of_units, seconds_of_task
from wideangle.studies._tree import Node

Contents = Callable[[Path], dict[str, bytes]]


def angles(**changes: Any) -> Study:
    options: dict[str, Any] = {"samples": 1000, "seed": 1, "block_size": 100, "parameters": {"theta0": 0.3, "depth": 2}}
    return Study("simulate_angles", **{"grid": {"width": [6, 12]}, **options, **changes})


class KilledWorker(Exception):  # noqa: N818  # as Dask calls it
    """What Dask says of a task whose workers die."""


class Recording(Executor):
    """Runs tasks in order, but for those that are to fail, and keeps them: at once, or as soon as so many wait."""

    def __init__(self, n_workers: int = 1, errors: dict[int, Exception] | None = None, together: int = 1) -> None:
        self._max_workers = n_workers
        self.errors = errors or {}
        self.tasks: list[Task] = []
        self.together = together
        self.waiting: list[Callable[[], None]] = []

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See Executor.submit."""
        future: Future[Any] = Future()
        error = self.errors.get(len(self.tasks))
        self.tasks.append(args[0])
        if error is None:
            self.waiting.append(lambda: future.set_result(function(*args, **kwargs)))
        else:
            self.waiting.append(lambda: future.set_exception(error))
        if len(self.waiting) == self.together:
            for finish in self.waiting:
                finish()
            self.waiting = []
        return future


def blocks(task: Task, study: Study) -> list[tuple[int, int]]:
    n_blocks = study.plan().n_blocks
    return [
        (unit.cell, block)
        for unit in task.units
        for block in range(unit.node.first, unit.node.end(int(n_blocks[unit.cell])))
    ]


@pytest.mark.parametrize(("samples", "block_size"), [(1000, 100), (20_000, 10), (4000, 1), (3_000_000, 2**14)])
def test_each_block_is_in_one_task_of_the_length_that_is_wanted(samples: int, block_size: int, tmp_path: Path) -> None:
    study = angles(samples=samples, block_size=block_size)
    plan = study.plan()
    executor = Recording(2)
    wa.studies.run(study, tmp_path / "store", executor=executor, progress=False).close()
    found = [blocks(task, study) for task in executor.tasks]
    assert sorted(block for task in found for block in task) == [(b.cell, b.block) for b in plan.blocks()]
    # An executor that is not one of threads may be on other machines.
    wanted = seconds_of_task(plan, 2, is_remote=True)
    costs = costs_of_blocks(plan)
    times = [sum(costs[cell] for cell, _ in task) for task in found]
    assert max(times) < 2.0 * wanted
    for task, time in zip(executor.tasks[:-1], times, strict=False):
        assert time >= wanted or len(task.units) == MOST_UNITS_OF_TASK


@pytest.mark.parametrize("is_remote", [False, True])
@pytest.mark.parametrize("n_workers", [1, 4, 16, 64])
def test_tasks_are_long_enough_and_end_together(n_workers: int, is_remote: bool) -> None:
    longest = 4.0 if is_remote else 1.0
    large = angles(samples=10**13, block_size=None).plan()
    assert seconds_of_task(large, n_workers, is_remote=is_remote) == longest
    for samples, block_size in ((4_000_000, 2**14), (400_000, 10), (1000, 100)):
        plan = angles(samples=samples, block_size=block_size).plan()
        seconds = seconds_of_task(plan, n_workers, is_remote=is_remote)
        # What a block takes beside its samples is work too.
        tasks_of_worker = float(np.sum(costs_of_blocks(plan) * plan.n_blocks)) / seconds / n_workers
        commits = 0.004 * n_workers  # in which as many tasks are committed as come
        assert commits <= seconds <= longest
        assert (
            tasks_of_worker == pytest.approx(16.0)
            or (tasks_of_worker > 16.0 and seconds == longest)
            or (tasks_of_worker < 16.0 and seconds == commits)
        )


def test_blocks_of_unknown_length_are_tasks_of_their_own(walk: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    study = Study.from_dict(walk())
    assert math.isnan(study.plan().total_seconds)
    executor = Recording()
    wa.studies.run(study, tmp_path / "store", executor=executor, progress=False).close()
    assert [len(blocks(task, study)) for task in executor.tasks] == [1] * 33


@given(st.floats(1e-6, 10.0), st.floats(1e-3, 10.0))
def test_units_are_the_largest_nodes_that_are_not_longer_than_a_task(cost: float, seconds: float) -> None:
    level = level_of_units(cost, seconds)
    assert level == 0 or cost * 2**level <= seconds * (1.0 + 1e-12)
    assert cost * 2 ** (level + 1) > seconds * (1.0 - 1e-12)
    assert level_of_units(math.nan, seconds) == 0


def test_tasks_whose_workers_die_are_sent_again(
    tables: dict[str, Any], undisturbed: dict[str, Any], contents: Contents, tmp_path: Path
) -> None:
    study = Study.from_dict(tables["walk"])
    executor = Recording(errors=dict.fromkeys((1, 2, 3, 5), KilledWorker("gone")))
    wa.studies.run(study, tmp_path / "store", executor=executor, progress=False).close()
    assert len(executor.tasks) == 33 + 4
    assert contents(tmp_path / "store") == undisturbed["walk"]


def test_a_task_that_kills_its_workers_is_not_sent_for_ever(
    tables: dict[str, Any], undisturbed: dict[str, Any], contents: Contents, tmp_path: Path
) -> None:
    study = Study.from_dict(tables["walk"])

    class Fatal(Recording):
        def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            """See Executor.submit."""
            if args[0].units[0].node == Node(0, 4):
                self.errors = {len(self.tasks): KilledWorker("out of memory")}
            return super().submit(function, *args, **kwargs)

    executor = Fatal()
    with pytest.raises(RuntimeError, match=r"could not be run on its worker \(KilledWorker: out of memory\); .*kept"):
        wa.studies.run(study, tmp_path / "store", executor=executor, progress=False)
    assert sum(task.units[0].node == Node(0, 4) for task in executor.tasks) == 5
    # What came before, and together with it, is there.
    assert wa.studies.status(tmp_path / "store").samples_done >= 400
    wa.studies.run(study, tmp_path / "store", progress=False).close()
    assert contents(tmp_path / "store") == undisturbed["walk"]


def test_results_that_come_with_an_error_are_kept(tables: dict[str, Any], tmp_path: Path) -> None:
    study = Study.from_dict(tables["walk"])
    # As many as are on their way at a time.
    executor = Recording(3, errors={1: OSError("no such node")}, together=6)
    with pytest.raises(RuntimeError, match=r"could not be run on its worker \(OSError: no such node\); everything"):
        wa.studies.run(study, tmp_path / "store", executor=executor, progress=False)
    # Five of six had come.
    assert wa.studies.status(tmp_path / "store").samples_done == 500
