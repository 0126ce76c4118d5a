"""The schedule of a run: blocks sent to workers, results committed as they come, until every cell has enough."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wideangle._progress import steady_bar
from wideangle.studies._blocks import CellWork, Task, Unit, UnitResult, cell_parameters, run_task
from wideangle.studies._executors import Workers, explained, workers_of
from wideangle.studies._failures import Failure
from wideangle.studies._journal import Journal
from wideangle.studies._store import Store
from wideangle.studies._tree import Node, divided, missing_nodes
from wideangle.studies.planning import Plan
from wideangle.studies.protocol import resolve
from wideangle.studies.study import Study

_SECONDS_OF_TASK = 1.0
_SECONDS_OF_REMOTE_TASK = 4.0
_TASKS_OF_WORKER = 16  # at least, in a long study
_SECONDS_OF_COMMIT = 4e-3
_SECONDS_BESIDE = 5e-4  # what a block takes beside its samples
MOST_UNITS_OF_TASK = 1000  # of a task
_IN_FLIGHT = 2  # tasks for each worker: one that runs and one that waits
_TICK = 0.1
_RECORD = 2.0  # seconds between notes of how far a run is
_MOST_ATTEMPTS = 5  # of a task whose workers die


def costs_of_blocks(plan: Plan) -> NDArray[np.float64]:
    """Return the expected seconds of a block, by cell; NaN where they are unknown."""
    return np.maximum(plan.block_seconds, _SECONDS_BESIDE)


def seconds_of_task(plan: Plan, n_workers: int, *, is_remote: bool) -> float:
    """Return how long a task may take: long enough for its way, short enough that all workers end together."""
    longest = _SECONDS_OF_REMOTE_TASK if is_remote else _SECONDS_OF_TASK
    share = float(np.nansum(costs_of_blocks(plan) * plan.n_blocks)) / (_TASKS_OF_WORKER * n_workers)
    # Nor so short that the process which commits them one by one is what all wait for.
    return min(longest, max(share, _SECONDS_OF_COMMIT * n_workers)) if share > 0.0 else longest


def level_of_units(cost: float, seconds: float) -> int:
    """Return the level of the nodes that tasks of so many seconds consist of, for blocks of a cost."""
    return 0 if math.isnan(cost) else max(0, math.floor(math.log2(seconds / cost)))


@dataclass
class _Round:
    """Units of a cell that are on their way."""

    outstanding: int = 0
    all_sent: bool = False


@dataclass
class _InFlight:
    task: Task
    attempts: int = 1


@dataclass
class Schedule:
    """One run: which units are missing, which are on their way, and what is committed."""

    study: Study
    plan: Plan
    place: Store
    journal: Journal
    samples: int = 0
    _done: dict[int, list[Node]] = field(init=False)
    _ends: dict[int, int] = field(default_factory=dict)
    _rounds: dict[int, _Round] = field(default_factory=dict)
    _again: deque[int] = field(default_factory=deque)
    _failed: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._done = self.journal.done()
        self._versions = {name: resolve(name).version for name in self.study.methods}
        self._costs = costs_of_blocks(self.plan)

    def n_blocks(self, cell: int) -> int:
        """Return the number of blocks of a cell."""
        return int(self.plan.n_blocks[cell])

    def unfinished(self) -> set[int]:
        """Return the cells that need more work."""
        return {cell for cell in range(self.plan.n_cells) if self._missing(cell)}

    def go(self, executor: Any, limit: float, progress: bool) -> None:
        """Run until nothing is left, or the time is up."""
        begun = time.monotonic()
        before = sum(self.journal.samples_done().values())
        with workers_of(executor) as workers, steady_bar(self.plan.n_samples, before, progress) as bar:
            number = self.journal.begin_run(workers.number())
            state = "interrupted"
            try:
                finished = self._loop(workers, begun + limit, bar, number, begun)
                state = "finished" if finished else "stopped"
                if finished:
                    bar.total = bar.n  # Cells may have ended before their last block.
                    bar.refresh()
            finally:
                # A full disk is reported by what it stopped.
                with suppress(OSError):
                    self.journal.update_run(number, time.monotonic() - begun, self.samples, state)

    def _loop(self, workers: Workers, deadline: float, bar: Any, number: int, begun: float) -> bool:
        seconds = seconds_of_task(self.plan, workers.number(), is_remote=workers.is_remote)
        tasks = self._tasks(seconds)
        flying: dict[Future[Any], _InFlight] = {}
        noted = begun
        capacity = _IN_FLIGHT * workers.number()
        is_over = False
        try:
            while True:
                if not is_over and time.monotonic() >= deadline:
                    is_over = True
                    if workers.tells_running:
                        # What waits for a worker can wait for the next run.
                        flying = {future: sent for future, sent in flying.items() if not future.cancel()}
                if is_over and flying and workers.are_gone():
                    for future in flying:
                        future.cancel()
                    flying = {}
                while not is_over and len(flying) < capacity:
                    task = next(tasks, None)
                    if task is None:
                        tasks = self._tasks(seconds, again=True)
                        if (task := next(tasks, None)) is None:
                            break
                    future = workers.submit(run_task, task)
                    flying[future] = _InFlight(task)
                    if future.done():
                        break  # An executor that computes at once leaves no time between tasks otherwise.
                if not flying:
                    return not is_over
                finished, _ = wait(flying, timeout=_TICK, return_when=FIRST_COMPLETED)
                self._take(finished, flying, workers, bar)
                if time.monotonic() - noted > _RECORD:
                    noted = time.monotonic()
                    capacity = _IN_FLIGHT * workers.number()  # Workers come and go.
                    self.journal.update_run(number, noted - begun, self.samples, "running")
        except BrokenExecutor as error:  # It takes no more tasks.
            self._take({future for future in flying if future.done()}, flying, workers, bar)
            raise explained(error) from error
        except BaseException:
            for future in flying:
                future.cancel()
            raise

    def _take(
        self, finished: set[Future[Any]], flying: dict[Future[Any], _InFlight], workers: Workers, bar: Any
    ) -> None:
        """Commit what has come, and send again what was lost with its worker."""
        results: list[UnitResult | Failure] = []
        problem: Exception | None = None
        for future in finished:
            sent = flying.pop(future)
            try:
                results += future.result()
            except CancelledError as error:
                problem = problem or BrokenExecutor(str(error) or "tasks were cancelled")
            except Exception as error:
                if type(error).__name__ == "KilledWorker" and sent.attempts < _MOST_ATTEMPTS:
                    flying[workers.submit(run_task, sent.task)] = _InFlight(sent.task, sent.attempts + 1)
                else:
                    problem = problem or error
        self._commit(results, bar)
        if problem is not None:
            raise explained(problem) from problem

    def _commit(self, results: list[UnitResult | Failure], bar: Any) -> None:
        if not results:
            return
        cells = {r.cell if isinstance(r, Failure) else r.unit.cell for r in results}
        failures = self.journal.commit(results, {cell: self.n_blocks(cell) for cell in cells})
        self._failed |= {failure.cell for failure in failures}
        for result in results:
            if isinstance(result, Failure):
                continue
            unit = result.unit
            size = int(self.plan.block_size[unit.cell])
            last = min(unit.node.end(self.n_blocks(unit.cell)) * size, self.study.samples)
            self.samples += last - unit.node.first * size
            bar.update(last - unit.node.first * size)
            state = self._rounds[unit.cell]
            state.outstanding -= 1
            self._end_round(unit.cell, state)

    def _end_round(self, cell: int, state: _Round) -> None:
        if state.all_sent and not state.outstanding and cell not in self._failed:
            self._done[cell] = self.journal.done_of(cell)
            del self._rounds[cell]
            self._again.append(cell)

    def _tasks(self, seconds: float, *, again: bool = False) -> Iterator[Task]:
        """Yield tasks of about so many seconds, of all cells, or of those that may need more."""
        units: list[Unit] = []
        total = 0.0
        for unit, cost in self._units(seconds, again):
            units.append(unit)
            total += seconds if math.isnan(cost) else cost
            if total >= seconds or len(units) >= MOST_UNITS_OF_TASK:
                yield self._task(units)
                units, total = [], 0.0
        if units:
            yield self._task(units)

    def _units(self, seconds: float, again: bool) -> Iterator[tuple[Unit, float]]:
        if again:
            cells: Any = [self._again.popleft() for _ in range(len(self._again))]
        else:
            cells = range(self.plan.n_cells)
        for cell in cells:
            nodes = self._missing(cell)
            if not nodes:
                self._check_rule(cell)
                continue
            state = self._rounds[cell] = _Round()
            cost = float(self._costs[cell])
            level = level_of_units(cost, seconds)
            for node in nodes:
                for part in divided(node, level, self.n_blocks(cell)):
                    if cell in self._failed:
                        break
                    state.outstanding += 1
                    yield Unit(cell, part), cost * (part.end(self.n_blocks(cell)) - part.first)
            state.all_sent = True
            self._end_round(cell, state)

    def _task(self, units: list[Unit]) -> Task:
        cells = {}
        for number in {unit.cell for unit in units}:
            cell = self.study.cells[number]
            cells[number] = CellWork(
                cell.method,
                cell_parameters(cell.parameters),
                self.study.seed_of(cell),
                self.study.samples,
                int(self.plan.block_size[number]),
                self.study.fingerprint(number),
            )
        folder = str(self.place.samples_folder.resolve()) if self.study.statistics.samples else None
        return Task(tuple(units), cells, self.study.statistics, self._versions, folder)

    def _missing(self, cell: int) -> list[Node]:
        """Return what is to be computed next of a cell: all that is missing, or up to where it may stop."""
        n_blocks = self.n_blocks(cell)
        done = self._done.get(cell, [])
        if self.study.stop is None:
            return missing_nodes(done, n_blocks, n_blocks)
        end = self._ends.get(cell) or self._first_end(cell)
        while True:
            end = min(end, n_blocks)
            self._ends[cell] = end
            missing = missing_nodes(done, n_blocks, end)
            if missing or end == n_blocks or self._is_precise(cell, done, end):
                return missing
            end *= 2

    def _first_end(self, cell: int) -> int:
        """Return after how many blocks, a power of two, the rule may first end a cell."""
        assert self.study.stop is not None
        n_blocks = -(-self.study.stop.min_samples // int(self.plan.block_size[cell]))
        return 1 << (n_blocks - 1).bit_length()

    def _is_precise(self, cell: int, done: list[Node], end: int) -> bool:
        """Whether the standard errors of the first blocks are below the target."""
        assert self.study.stop is not None
        node = Node((end - 1).bit_length(), 0)
        larger = [other for other in done if other.first == 0 and other.level > node.level]
        if larger:
            return False  # It went on from here before.
        moments = self._moments(cell, node)
        return moments is None or self.study.stop.reached(moments)

    def _moments(self, cell: int, node: Node) -> Any:
        """Return what the rule looks at, None if the cell does not have it."""
        assert self.study.stop is not None
        return self.journal.read(cell, node).accumulators.get(self.study.stop.variable, {}).get("moments")

    def _check_rule(self, cell: int) -> None:
        """Let a cell fail whose function did not return what the rule looks at, which ends it for others."""
        done = self._done.get(cell)
        if self.study.stop is None or not done or self._moments(cell, done[0]) is not None:
            return
        known = ", ".join(map(repr, self.journal.read(cell, done[0]).dims))
        name = self.study.stop.variable
        text = f"ValueError: stop.variable must be a variable of the method, got {name!r}; choose from {known}"
        self.journal.note_failures([Failure(cell, text, text)])
        self._failed.add(cell)
