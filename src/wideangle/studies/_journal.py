"""The journal of a run: what is finished, committed piece by piece in one SQLite file."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from wideangle.studies._blocks import Reduced, UnitResult
from wideangle.studies._failures import Failure
from wideangle.studies._tree import Node

NAME = "journal.sqlite"
_SIDECARS = ("-journal", "-wal", "-shm")  # of SQLite, beside its files
SALVAGED = f".part-salvaged-{NAME}"
_FILES = (NAME, f".part-{NAME}", SALVAGED, f".part-{SALVAGED}")
# What a process that is killed may leave beside the journal, or in place of it.
LEFTOVERS = {f"{name}{suffix}" for name in _FILES for suffix in ("", *_SIDECARS)} - {NAME}

_SCHEMA = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE nodes (
    cell INTEGER NOT NULL, level INTEGER NOT NULL, place INTEGER NOT NULL,
    n_samples INTEGER NOT NULL, data BLOB NOT NULL, digest BLOB NOT NULL,
    PRIMARY KEY (cell, level, place)
) WITHOUT ROWID;
CREATE TABLE files (cell INTEGER NOT NULL, block INTEGER NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (cell, block));
CREATE TABLE failures (cell INTEGER PRIMARY KEY, message TEXT NOT NULL, details TEXT NOT NULL);
CREATE TABLE runs (
    run INTEGER PRIMARY KEY, host TEXT NOT NULL, process INTEGER NOT NULL, workers INTEGER NOT NULL,
    started TEXT NOT NULL, seconds REAL NOT NULL, samples INTEGER NOT NULL, state TEXT NOT NULL
);
"""
COLUMNS = "cell, level, place, n_samples, data, digest"
_SEAL = "seal"  # of the description of the study
_PATIENCE = 60.0  # seconds that a writer waits for readers of the status


class StoreError(RuntimeError):
    """A store cannot be used as it is: of another study or version, in use, or damaged. The message says the remedy."""


class RunRecord(NamedTuple):
    """One run on a store."""

    host: str
    process: int
    workers: int
    started: str
    seconds: float
    samples: int
    state: str


_TYPES_OF_RUN: tuple[Any, ...] = (str, int, int, str, (int, float), int, str)


class Journal:
    """What is finished of a study."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._identity: str | None = None
        with self._errors():
            if read_only:
                # Not mode=ro, with which SQLite cannot undo what a killed process has left half done.
                self._database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=_PATIENCE)
            else:
                self._database = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
            try:
                for pragma in ("synchronous = EXTRA", "cell_size_check = ON", f"query_only = {int(read_only)}"):
                    self._database.execute(f"PRAGMA {pragma}")
            except (sqlite3.Error, UnicodeDecodeError):
                self._database.close()
                raise

    @classmethod
    def create(cls, path: Path, about: Mapping[str, str]) -> Journal:
        """Begin a journal; it is there as a whole or not at all."""
        part = path.with_name(f".part-{path.name}")
        remove(part)
        with closing(cls(part)) as journal, journal._errors(), journal._transaction():
            for statement in _SCHEMA.split(";"):
                journal._database.execute(statement)
            rows = {**about, _SEAL: _seal(about)}
            journal._database.executemany("INSERT INTO about VALUES (?, ?)", rows.items())
        remove_sidecars(path)
        os.replace(part, path)
        return cls(path)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def about(self) -> dict[str, str]:
        """Return what was written down at the beginning, and refuse what is not."""
        with self._errors():
            found = dict(self._database.execute("SELECT key, value FROM about"))
        if found.pop(_SEAL, None) != _seal(found):
            raise self._damaged("the description of the study is not what was written")
        return found

    @property
    def identity(self) -> str:
        """The identity of the study, which is part of all digests."""
        if self._identity is None:
            self._identity = self.about().get("identity", "")
        return self._identity

    def check(self) -> list[str]:
        """Return what is damaged: nothing if the journal is sound."""
        try:
            found = [str(row[0]) for row in self._database.execute("PRAGMA integrity_check") if row[0] != "ok"]
            cells: dict[int, list[Node]] = {}
            for row in self._database.execute(f"SELECT {COLUMNS} FROM nodes"):
                if not is_sound(self.identity, row):
                    found.append(
                        f"the results of cell {row[0]}, level {row[1]}, place {row[2]} are not what was written"
                    )
                else:
                    cells.setdefault(row[0], []).append(Node(row[1], row[2]))
            found += [f"results of cell {cell} are there twice" for cell in cells if overlap(cells[cell])]
        except (sqlite3.DatabaseError, UnicodeDecodeError, StoreError) as error:
            return [f"{self.path.name} ({error})"]
        return found

    def done(self) -> dict[int, list[Node]]:
        """Return the nodes that are finished, by cell."""
        result: dict[int, list[Node]] = {}
        with self._errors():
            for cell, level, place in self._database.execute("SELECT cell, level, place FROM nodes"):
                result.setdefault(cell, []).append(Node(level, place))
        return result

    def done_of(self, cell: int) -> list[Node]:
        """Return the nodes of a cell that are finished."""
        with self._errors():
            query = "SELECT level, place FROM nodes WHERE cell = ?"
            return [Node(*row) for row in self._database.execute(query, (cell,))]

    def samples_done(self) -> dict[int, int]:
        """Return the number of samples that are finished, by cell."""
        with self._errors():
            return dict(self._database.execute("SELECT cell, sum(n_samples) FROM nodes GROUP BY cell"))

    def read(self, cell: int, node: Node) -> Reduced:
        """Return the results of a node."""
        return Reduced.from_bytes(self._data(cell, node))

    def files(self) -> Iterator[tuple[int, int, str]]:
        """Yield cell, block and digest of the files of samples."""
        with self._errors():
            yield from self._database.execute("SELECT cell, block, digest FROM files ORDER BY cell, block")

    def files_of(self, cell: int) -> dict[int, str]:
        """Return the digests of the files of samples of a cell, by block."""
        with self._errors():
            return dict(self._database.execute("SELECT block, digest FROM files WHERE cell = ?", (cell,)))

    def forget_files(self, wrong: Iterable[tuple[int, int]]) -> None:
        """Forget files of samples, and all that is done of their cells."""
        with self._errors(), self._transaction():
            for cell, _ in wrong:
                self._database.execute("DELETE FROM nodes WHERE cell = ?", (cell,))
                self._database.execute("DELETE FROM files WHERE cell = ?", (cell,))

    def failures(self) -> list[Failure]:
        """Return what went wrong, by cell."""
        with self._errors():
            return [Failure(*row) for row in self._database.execute("SELECT * FROM failures ORDER BY cell")]

    def clear_failures(self) -> None:
        """Forget what went wrong, as it is tried again."""
        with self._errors(), self._transaction():
            self._database.execute("DELETE FROM failures")

    def commit(self, results: Iterable[UnitResult | Failure], n_blocks: Mapping[int, int]) -> list[Failure]:
        """Write results down at once, merged with their neighbours as far as these are there.

        What is there already is left as it is, so that work may be done twice. A cell whose blocks do not fit together
        has failed; those that have are returned.
        """
        failures: dict[int, Failure] = {}
        with self._errors(), self._transaction():
            for result in results:
                if isinstance(result, Failure):
                    failures[result.cell] = result
                    continue
                try:
                    self._insert(result, n_blocks[result.unit.cell])
                except (ValueError, TypeError, ArithmeticError) as error:
                    failures[result.unit.cell] = Failure.of(result.unit.cell, error)
            self._insert_failures(failures.values())
        return list(failures.values())

    def note_failures(self, failures: Iterable[Failure]) -> None:
        """Write down what went wrong after cells were computed."""
        with self._errors(), self._transaction():
            self._insert_failures(failures)

    def _insert_failures(self, failures: Iterable[Failure]) -> None:
        rows = ((failure.cell, failure.message, failure.details) for failure in failures)
        self._database.executemany("INSERT OR REPLACE INTO failures VALUES (?, ?, ?)", rows)

    def begin_run(self, workers: int) -> int:
        """Write down that a run begins, and return its number."""
        with self._errors(), self._transaction():
            started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            row = (socket.gethostname(), os.getpid(), workers, started)
            cursor = self._database.execute(
                "INSERT INTO runs (host, process, workers, started, seconds, samples, state) "
                "VALUES (?, ?, ?, ?, 0, 0, 'running')",
                row,
            )
            return int(cursor.lastrowid or 0)

    def update_run(self, run: int, seconds: float, samples: int, state: str) -> None:
        """Write down how far a run is; ``seconds`` come from a clock that is never set."""
        with self._errors(), self._transaction():
            values = (seconds, samples, state, run)
            self._database.execute("UPDATE runs SET seconds = ?, samples = ?, state = ? WHERE run = ?", values)

    def runs(self) -> list[RunRecord]:
        """Return all runs, the first one first."""
        query = "SELECT host, process, workers, started, seconds, samples, state FROM runs ORDER BY run"
        with self._errors():
            rows = self._database.execute(query).fetchall()
        for number, row in enumerate(rows, start=1):
            # A journal that ends too soon may hold other rows here.
            if not all(isinstance(value, kind) for value, kind in zip(row, _TYPES_OF_RUN, strict=True)):
                raise self._damaged(f"run {number} is not what was written")
        return [RunRecord(*row) for row in rows]

    def _insert(self, result: UnitResult, n_blocks: int) -> None:
        cell, node = result.unit.cell, result.unit.node
        if self._holds(cell, node, n_blocks):
            return
        reduced: Reduced | None = None
        data = result.data
        merged = []
        while node.end(n_blocks) - node.first < n_blocks:
            sibling = node.sibling
            if sibling.first < n_blocks:
                if not self._exists(cell, sibling):
                    break
                other = self.read(cell, sibling)
                reduced = Reduced.from_bytes(data) if reduced is None else reduced
                reduced = other.merge(reduced) if sibling.place < node.place else reduced.merge(other)
                merged.append((cell, *sibling))
            node = node.parent
        if reduced is not None:
            data = reduced.to_bytes()
        n_samples = (reduced or Reduced.from_bytes(data)).n_samples
        files = [(cell, block, digest) for block, digest in result.files.items()]
        self._database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", files)
        self._database.executemany("DELETE FROM nodes WHERE cell = ? AND level = ? AND place = ?", merged)
        row = (cell, *node, n_samples, data, _digest(self.identity, (cell, *node, n_samples), data))
        self._database.execute(f"INSERT INTO nodes ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", row)

    def _holds(self, cell: int, node: Node, n_blocks: int) -> bool:
        """Whether the blocks of a node are done, or some of them."""
        query = "SELECT 1 FROM nodes WHERE cell = ? AND level < ? AND (place >> (? - level)) = ?"
        if self._database.execute(query, (cell, node.level, node.level, node.place)).fetchone() is not None:
            return True
        while not self._exists(cell, node):
            if node.end(n_blocks) - node.first >= n_blocks:
                return False
            node = node.parent
        return True

    def _exists(self, cell: int, node: Node) -> bool:
        query = "SELECT 1 FROM nodes WHERE cell = ? AND level = ? AND place = ?"
        return self._database.execute(query, (cell, *node)).fetchone() is not None

    def _data(self, cell: int, node: Node) -> bytes:
        query = f"SELECT {COLUMNS} FROM nodes WHERE cell = ? AND level = ? AND place = ?"
        with self._errors():
            row = self._database.execute(query, (cell, *node)).fetchone()
        if row is None or not is_sound(self.identity, row):
            raise self._damaged(
                f"the results of cell {cell}, block {node.first} and following, are not what was written"
            )
        return bytes(row[4])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            # After a full disk SQLite has rolled back already.
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            # Messages about a damaged schema quote it, and may be no text.
            text = str(error)
            if "full" in text or "I/O" in text:
                raise OSError(
                    f"cannot write to {self.path} ({text}); everything before is kept: free some space, and run again"
                ) from error
            if "locked" in text or "readonly" in text or "unable to open" in text:
                raise OSError(f"cannot use {self.path} ({text}); check its permissions, and run again") from error
            raise self._damaged(error) from error

    def _damaged(self, reason: object) -> StoreError:
        return StoreError(
            f"{self.path} is damaged ({reason}); run with repair=True (--repair) to compute anew what is lost, or "
            "restore it from a copy"
        )


def _digest(identity: str, place: tuple[int, ...], data: bytes) -> bytes:
    return hashlib.sha256(json.dumps([identity, *place]).encode() + data).digest()


def is_sound(identity: str, row: tuple[Any, ...]) -> bool:
    """Whether a row is what was written; a wrong bit may have changed the type of a value too."""
    *place, data, digest = row
    return (
        all(isinstance(number, int) for number in place)
        and isinstance(data, bytes)
        and _digest(identity, tuple(place), data) == digest
    )


def overlap(nodes: list[Node]) -> bool:
    """Whether a node contains another one."""
    present = set(nodes)
    highest = max((node.level for node in nodes), default=0)
    for node in nodes:
        while node.level < highest:
            node = node.parent
            if node in present:
                return True
    return len(present) < len(nodes)


def _seal(about: Mapping[str, Any]) -> str:
    text = json.dumps({str(key): str(value) for key, value in about.items()}, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    remove_sidecars(path)


def remove_sidecars(path: Path) -> None:
    for suffix in _SIDECARS:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


@contextmanager
def reading(path: Path) -> Iterator[Journal]:
    """Open a journal for reading, while another process may write."""
    with closing(Journal(path, read_only=True)) as journal:
        yield journal
