"""How far a study is, from its store alone: while another process runs it, or afterwards."""

from __future__ import annotations

import json
import math
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle.studies._journal import Journal, RunRecord, StoreError
from wideangle.studies._results import STATES
from wideangle.studies._store import _FORMAT, Store
from wideangle.studies._tree import Node
from wideangle.studies.planning import duration
from wideangle.studies.protocol import resolve
from wideangle.studies.study import Study

_SHOWN = 5  # failures, and runs, in the text
_RUNNING = "running"
_INTERRUPTED = "interrupted"


class CellFailure(NamedTuple):
    """A cell that failed: its number, its method and parameters as text, and the error."""

    cell: int
    parameters: str
    message: str


@dataclass(frozen=True)
class Status:
    """How far a study is. Its text is what ``wideangle study status`` prints.

    Attributes
    ----------
    path
        The store.
    name, identity
        Of the study.
    state
        ``"complete"``; ``"running"``, if a process holds the store; ``"failed"``, if all is done but for cells that
        failed; ``"stopped"``, if the time of the last run was up; ``"interrupted"``, if the last run was interrupted or
        killed; ``"not begun"``.
    cells
        Number of cells that are ``"complete"``, ``"partial"``, ``"failed"`` and ``"not begun"``.
    samples_done, samples_planned
        Of all cells. With a stopping rule the planned ones are the most there can be.
    rate
        Samples per second of the current or last run, NaN if it is unknown.
    seconds_left
        Expected seconds until the end with the workers of the current or last run, NaN if they are unknown, and 0 for a
        finished study. It weighs cells with the estimates of their methods, where these have any.
    failures
        Cells that failed.
    runs
        Runs on the store, the first one first: ``host``, ``process``, ``workers``, ``started`` (UTC), ``seconds``,
        ``samples`` and ``state`` of each. A finished store has none, as equal studies have equal stores.

    Examples
    --------
    See :func:`status`.
    """

    path: Path
    name: str
    identity: str
    state: str
    cells: Mapping[str, int]
    samples_done: int
    samples_planned: int
    rate: float
    seconds_left: float
    failures: tuple[CellFailure, ...]
    runs: tuple[RunRecord, ...]

    @property
    def is_running(self) -> bool:
        """Whether a process works on the study now."""
        return self.state == _RUNNING

    @property
    def is_complete(self) -> bool:
        """Whether all is done."""
        return self.state == "complete"

    def __str__(self) -> str:
        title = f"{self.name!r}, study" if self.name else "study"
        lines = [f"{self.path}: {title} {self.identity[:12]}", self._state_text(), self._progress_text()]
        lines.append("cells: " + ", ".join(f"{number} {state}" for state, number in self.cells.items()))
        shown = self.failures[:_SHOWN]
        lines += [f"failed: cell {one.cell} ({one.parameters}): {' '.join(one.message.split())}" for one in shown]
        if len(self.failures) > _SHOWN:
            lines.append(f"and {len(self.failures) - _SHOWN} more that failed")
        return "\n".join(lines)

    def _state_text(self) -> str:
        if not self.is_running:
            return self.state + (f", after {len(self.runs)} run{'s'[: len(self.runs) > 1]}" if self.runs else "")
        last = self.runs[-1] if self.runs else None
        if last is None or last.state != _RUNNING:
            return "running: a process reads or writes the store"
        plural = "s" if last.workers > 1 else ""
        return f"running: process {last.process} on {last.host}, {last.workers} worker{plural}, since {last.started}"

    def _progress_text(self) -> str:
        if self.is_complete:
            return f"{self.samples_done:.6g} samples"
        share = self.samples_done / self.samples_planned
        text = f"{self.samples_done:.6g} of {self.samples_planned:.6g} samples ({share:.1%})"
        if not math.isnan(self.rate):
            text += f", {self.rate:.3g} samples/s"
        if not math.isnan(self.seconds_left):
            text += f", about {duration(self.seconds_left)} left"
        return text


def status(store: str | os.PathLike[str]) -> Status:
    """Return how far the study of a store is, also while a process runs it, without disturbing that.

    Parameters
    ----------
    store
        Folder that :func:`run` was given.

    Returns
    -------
    Status
        Cells, samples, rate, time left, failures and runs.

    Raises
    ------
    OSError
        If there is no study in that place, or it cannot be read.
    StoreError
        If the store is damaged.

    Examples
    --------
    >>> import tempfile, wideangle as wa
    >>> study = wa.studies.Study(
    ...     "simulate_angles", samples=4000, seed=1, parameters={"theta0": 0.1, "depth": 8}, grid={"width": [16, 64]}
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     results = wa.studies.run(study, f"{folder}/angles.zarr", progress=False)
    ...     found = wa.studies.status(f"{folder}/angles.zarr")
    >>> found.state, found.cells["complete"], found.samples_done
    ('complete', 2, 8000)
    """
    place = Store(store)
    while True:
        check_readable(place)
        if place.is_complete:
            return _status_of_results(place)
        try:
            return _status_of_journal(place)
        except (OSError, StoreError):
            if not place.is_complete:  # Else the run has ended and deleted its journal meanwhile.
                raise


def check_readable(place: Store) -> None:
    """Refuse a path where no study can be read."""
    remedy = "give the folder that a study was run into, such as results.zarr"
    if place.path.exists() and not place.path.is_dir():
        raise NotADirectoryError(f"store must be a folder, got the file {str(place.path)!r}; {remedy}")
    if not place.exists:
        what = "holds no study" if place.path.is_dir() else "does not exist"
        raise FileNotFoundError(f"store {str(place.path)!r} {what}; {remedy}, or begin with `wideangle study run`")
    if place.is_complete and "study_about" not in place.attributes():
        raise FileNotFoundError(f"store {str(place.path)!r} holds no study, but another Zarr group; {remedy}")


@contextmanager
def reading(place: Store) -> Iterator[Journal]:
    """Open the journal for reading, also one that a process left behind in the middle of a transaction."""
    try:
        journal = _open(place, read_only=True)
    except OSError:
        if place.is_locked() or not os.access(place.journal_path, os.W_OK):
            raise
        # A killed process left half a transaction, which SQLite takes back only for those who may write.
        journal = _open(place, read_only=False)
    with closing(journal):
        yield journal


def _open(place: Store, *, read_only: bool) -> Journal:
    journal = Journal(place.journal_path, read_only=read_only)
    try:
        journal.about()
    except BaseException:
        journal.close()
        raise
    return journal


@contextmanager
def snapshot(place: Store) -> Iterator[Journal]:
    """Give a copy of the journal in memory: one moment of a run that goes on meanwhile."""
    with reading(place) as journal:
        copy = sqlite3.connect(":memory:")
        with journal._errors():
            journal._database.backup(copy)
        journal._database.close()
        journal._database = copy
        yield journal


def study_of(place: Store, journal: Journal) -> tuple[Study, dict[str, str]]:
    """Return the study of a journal, and what else the journal says of it."""
    about = journal.about()
    try:
        table = json.loads(about["study"])
        form, _ = about["format"], about["identity"]
    except (KeyError, ValueError) as error:
        raise place.damaged(f"its description of the study ({error!r})") from error
    if form != _FORMAT:
        raise StoreError(
            f"{place.path} has format {form}, and this version of wideangle reads {_FORMAT}; use that version"
        )
    return Study._as_stored(table), about


def cell_states(study: Study, journal: Journal) -> list[str]:
    """Return the state of each cell, one of ``STATES``."""
    result = ["not begun"] * len(study.cells)
    for cell, number in journal.samples_done().items():
        may_end = study.stop is not None and number >= study.stop.min_samples
        is_complete = number >= study.samples or (may_end and _is_precise(study, journal, cell))
        result[cell] = "complete" if is_complete else "partial"
    for failure in journal.failures():
        result[failure.cell] = "failed"
    return result


def _is_precise(study: Study, journal: Journal, cell: int) -> bool:
    """Whether a cell ended early by the rule of the study."""
    assert study.stop is not None
    nodes = journal.done_of(cell)
    if len(nodes) != 1 or nodes[0].place != 0:
        return False
    try:
        moments: Any = journal.read(cell, Node(*nodes[0])).accumulators[study.stop.variable]["moments"]
    except (KeyError, StoreError):
        return False  # The run has merged it with others meanwhile, so that it goes on.
    return study.stop.reached(moments)


def _status_of_results(place: Store) -> Status:
    attributes = place.attributes()
    with place.reading_results():
        about = json.loads(attributes["study_about"])
        planned = json.loads(about["study"])["samples"]
        samples = place.open()["n_samples"].values
        identity, name = about["identity"], str(attributes["title"])
    cells = {state: len(samples) if state == "complete" else 0 for state in STATES}
    done = int(samples.sum())
    return Status(place.path, name, identity, "complete", cells, done, planned * len(samples), math.nan, 0.0, (), ())


def _status_of_journal(place: Store) -> Status:
    is_locked = place.is_locked()
    with reading(place) as journal:
        study, about = study_of(place, journal)
        samples, failures, records = journal.samples_done(), journal.failures(), journal.runs()
        states = cell_states(study, journal)
    runs = tuple(
        # Whoever was killed could not write that down.
        record._replace(state=_INTERRUPTED) if record.state == _RUNNING and not is_current else record
        for number, record in enumerate(records, start=1)
        for is_current in [is_locked and number == len(records)]
    )
    return Status(
        path=place.path,
        name=study.name,
        identity=about["identity"],
        state=_state(is_locked, runs, bool(failures)),
        cells=dict.fromkeys(STATES, 0) | Counter(states),
        samples_done=sum(samples.values()),
        samples_planned=study.samples * len(study.cells),
        rate=runs[-1].samples / runs[-1].seconds if runs and runs[-1].seconds > 0.0 else math.nan,
        seconds_left=_seconds_left(study, samples, states, runs),
        failures=tuple(CellFailure(one.cell, str(study.cells[one.cell]), one.message) for one in failures),
        runs=runs,
    )


def _state(is_locked: bool, runs: tuple[RunRecord, ...], has_failures: bool) -> str:
    if is_locked:
        return _RUNNING
    if not runs:
        return "not begun"
    if runs[-1].state == "finished":
        # Without failures, it was killed between its last sample and the end of writing the results.
        return "failed" if has_failures else _INTERRUPTED
    return runs[-1].state


def _seconds_left(study: Study, samples: Mapping[int, int], states: list[str], runs: tuple[RunRecord, ...]) -> float:
    """Return the work that is left, in the time that runs took for the work that is done."""
    costs = _costs(study)
    done = np.zeros(len(costs))
    done[list(samples)] = list(samples.values())
    left = np.where(np.array(states) == "complete", 0.0, study.samples - done)
    spent = sum(record.seconds * record.workers for record in runs)
    work = float(costs @ done)
    if not runs or spent == 0.0 or work == 0.0:
        return math.nan
    return float(costs @ left) * spent / work / max(runs[-1].workers, 1)


def _costs(study: Study) -> NDArray[np.float64]:
    """Return the estimated seconds of a sample by cell; all the same if any is unknown, or a method is not here."""
    try:
        methods = {name: resolve(name) for name in study.methods}
        costs = [methods[cell.method].cost(each) for cell, each in zip(study.cells, study.prepared, strict=True)]
        found = np.array([math.nan if cost is None else cost for cost in costs], dtype=np.float64)
    except Exception:  # whatever a user's module does where it was not meant to be
        found = np.full(len(study.cells), math.nan)
    return np.ones(len(found)) if np.isnan(found).any() else found
