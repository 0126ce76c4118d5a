"""Studies run: blocks sent to workers, results committed as they come, until every cell has enough."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future, wait
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wideangle._checks import check_flag, check_positive_real
from wideangle.studies._blocks import (
    CellWork,
    Failure,
    Node,
    Task,
    Unit,
    UnitResult,
    cell_parameters,
    divided,
    missing_nodes,
    run_task,
)
from wideangle.studies._executors import Workers, check_executor, explained, workers_of
from wideangle.studies._journal import Journal
from wideangle.studies._results import write_results
from wideangle.studies._samples import check_samples
from wideangle.studies._store import Store
from wideangle.studies.planning import Plan
from wideangle.studies.protocol import resolve
from wideangle.studies.study import Study

if TYPE_CHECKING:
    import xarray as xr

_SECONDS_OF_TASK = 1.0
_SECONDS_OF_REMOTE_TASK = 4.0
_MOST_UNITS = 1000  # of a task
_IN_FLIGHT = 2  # tasks for each worker: one that runs and one that waits
_TICK = 0.1
_RECORD = 2.0  # seconds between notes of how far a run is
_MOST_ATTEMPTS = 5  # of a task whose workers die


class StudyWarning(UserWarning):
    """Cells of a study failed; the others are there."""


def run(
    study: Study,
    store: str | os.PathLike[str],
    *,
    executor: Any = None,
    progress: bool = True,
    max_time: float | None = None,
    repair: bool = False,
) -> xr.Dataset:
    """Run a study, or go on with it, until it is finished, and return its results.

    Parameters
    ----------
    study
        What to compute.
    store
        Folder for the results, such as ``"angles.zarr"``: one that does not exist or is empty, or the store of the same
        study, which then goes on where it stood.
    executor
        Where to run: None (default) for threads on all cores of this machine; any executor of ``concurrent.futures``;
        or a ``dask.distributed.Client``. Its workers need the same version of wideangle, the module of a method of
        one's own, and, where samples are kept, the same file system. It is not shut down.
    progress
        Whether to show a bar with samples, rate and time left; default True.
    max_time
        Seconds after which no more work is begun. What is finished is kept, and the next call goes on. Default None.
    repair
        Whether to compute anew what is damaged in the store, in place of refusing it; default False.

    Returns
    -------
    xarray.Dataset
        Over ``cell``, with the parameters of cells and ``method`` as coordinates: ``n_samples``, ``status`` (0
        complete, 1 partial, 2 failed, 3 not begun), and of each variable of the methods, with its own dimensions,
        ``_count``, ``_mean``, ``_variance``, their standard errors, ``_skewness`` and ``_excess_kurtosis``;
        ``_histogram`` with ``_underflow`` and ``_overflow``; ``_quantile`` over ``probability``; the samples
        themselves, if asked for; counts of events by their own names. What a cell does not have, such as layers beyond
        its depth, is NaN or 0. It is read from the store as it is used.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or range, or a block would exceed the memory of the machine.
    OSError
        If the store cannot be written. What was committed before is kept.
    StoreError
        If the store is of another study or version, in use, or damaged.
    KeyboardInterrupt
        On Ctrl-C. What was committed before is kept.
    RuntimeError
        If the executor broke. What was committed before is kept.

    Warns
    -----
    StudyWarning
        If cells failed. The others are finished, and the next call tries again.

    Notes
    -----
    A block is a pure function of the study and its number. Blocks of a cell merge in a binary tree over their numbers,
    whose shape no order of the work changes; so the results have the same bits for any executor, any number of workers,
    and any interruption. Each result is committed in one transaction before it counts. Samples are written by the
    workers and never pass through the scheduler.

    Examples
    --------
    >>> import tempfile, wideangle as wa
    >>> study = wa.studies.Study(
    ...     "simulate_angles", samples=4000, seed=1, parameters={"theta0": 0.1, "depth": 8}, grid={"width": [16, 64]}
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     results = wa.studies.run(study, f"{folder}/angles.zarr", progress=False).load()
    >>> results.log_sin2_mean.sel(layer=8).set_index(cell="width").sel(cell=64).round(1).item()
    -5.0
    """
    if not isinstance(study, Study):
        raise TypeError(f"study must be a wideangle.studies.Study, got {study!r}; see Study.from_toml for files")
    progress = check_flag("progress", progress)
    repair = check_flag("repair", repair)
    limit = math.inf
    if max_time is not None:
        limit = check_positive_real("max_time", max_time, remedy="give seconds, or None for no limit")
    check_executor(executor)
    place = Store(store)
    place.check_usable()
    plan = study.plan()
    with place.locked():
        if place.is_complete and place.check_complete(study, repair=repair):
            place.clear()
            return place.open()
        with closing(place.open_journal(study, repair=repair)) as journal:
            if study.statistics.samples:
                place.samples_folder.mkdir(exist_ok=True)
                check_samples(place, plan, journal, repair=repair)
            journal.clear_failures()
            _Run(study, plan, place, journal).go(executor, limit, progress)
            failures = journal.failures()
            unfinished = _Run(study, plan, place, journal).unfinished() | {failure.cell for failure in failures}
            write_results(place, study, plan, journal, unfinished=unfinished)
        if not unfinished:
            place.finish()
    if failures:
        first = failures[0]
        warnings.warn(
            f"{len(failures)} of {plan.n_cells} cells failed, the first one cell {first.cell} "
            f"({study.cells[first.cell]}): {first.message}. The others are kept; run again to try these anew",
            StudyWarning,
            stacklevel=2,
        )
    return place.open()


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
class _Run:
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
        self._block_seconds = self.plan.block_seconds

    def n_blocks(self, cell: int) -> int:
        """Return the number of blocks of a cell."""
        return int(self.plan.n_blocks[cell])

    def unfinished(self) -> set[int]:
        """Return the cells that need more work."""
        return {cell for cell in range(self.plan.n_cells) if self._missing(cell)}

    def go(self, executor: Any, limit: float, progress: bool) -> None:
        """Run until nothing is left, or the time is up."""
        begun = time.monotonic()
        with workers_of(executor) as workers, self._bar(progress) as bar:
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
        tasks = self._tasks(_SECONDS_OF_REMOTE_TASK if workers.is_remote else _SECONDS_OF_TASK)
        flying: dict[Future[Any], _InFlight] = {}
        noted = begun
        capacity = _IN_FLIGHT * workers.number()
        is_over = False
        try:
            while True:
                if not is_over and time.monotonic() >= deadline:
                    is_over = True
                    # What waits for a worker can wait for the next run.
                    flying = {future: sent for future, sent in flying.items() if not future.cancel()}
                while not is_over and len(flying) < capacity:
                    task = next(tasks, None)
                    if task is None:
                        tasks = self._tasks(
                            _SECONDS_OF_REMOTE_TASK if workers.is_remote else _SECONDS_OF_TASK, again=True
                        )
                        if (task := next(tasks, None)) is None:
                            break
                    flying[workers.submit(run_task, task)] = _InFlight(task)
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
            if total >= seconds or len(units) >= _MOST_UNITS:
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
                continue
            state = self._rounds[cell] = _Round()
            cost = float(self._block_seconds[cell])
            level = 0 if math.isnan(cost) or cost <= 0.0 else max(0, math.floor(math.log2(seconds / cost)))
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
        end = self._ends.get(cell, 1)
        while True:
            end = min(end, n_blocks)
            self._ends[cell] = end
            missing = missing_nodes(done, n_blocks, end)
            if missing or end == n_blocks or self._is_precise(cell, done, end):
                return missing
            end *= 2

    def _is_precise(self, cell: int, done: list[Node], end: int) -> bool:
        """Whether the standard errors of the first blocks are below the target."""
        assert self.study.stop is not None
        node = Node((end - 1).bit_length(), 0)
        larger = [other for other in done if other.first == 0 and other.level > node.level]
        if larger:
            return False  # It went on from here before.
        return self.study.stop.reached(self._moments(cell, node))

    def _moments(self, cell: int, node: Node) -> Any:
        assert self.study.stop is not None
        kinds = self.journal.read(cell, node).accumulators.get(self.study.stop.variable, {})
        if "moments" not in kinds:
            raise ValueError(
                f"stop.variable must be a variable of the method, got {self.study.stop.variable!r}; "
                f"choose from {', '.join(map(repr, self.journal.read(cell, node).dims))}"
            )
        return kinds["moments"]

    @contextmanager
    def _bar(self, shown: bool) -> Iterator[Any]:
        from tqdm import tqdm

        before = sum(self.journal.samples_done().values())
        with tqdm(total=self.plan.n_samples, initial=before, unit="sample", unit_scale=True, disable=not shown) as bar:
            if shown:
                # For rates a clock that is never set.
                bar._time = time.monotonic
                bar.start_t = bar.last_print_t = time.monotonic()
            yield bar
