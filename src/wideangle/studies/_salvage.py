"""Damaged journals: whose results they hold, and a new one with those that are sound."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from wideangle.studies._journal import (
    COLUMNS,
    SALVAGED,
    Journal,
    StoreError,
    is_sound,
    overlap,
    remove,
    remove_sidecars,
)
from wideangle.studies._tree import Node


def salvage(path: Path, about: Mapping[str, str], n_cells: int) -> None:
    """Put a new journal in the place of a damaged one, with what can be read of it and has the right digest.

    The digests hold the identity of the study, so that nothing of another one comes in.
    """
    fresh = path.with_name(SALVAGED)
    remove(fresh)
    with closing(Journal.create(fresh, about)) as new, suppress(StoreError), closing(Journal(path)) as old:
        for cell in range(n_cells):
            try:
                rows = old._database.execute(f"SELECT {COLUMNS} FROM nodes WHERE cell = ?", (cell,)).fetchall()
                query = "SELECT cell, block, digest FROM files WHERE cell = ?"
                files = old._database.execute(query, (cell,)).fetchall()
            except sqlite3.DatabaseError:
                continue
            if all(is_sound(about["identity"], row) for row in rows) and not overlap(
                [Node(row[1], row[2]) for row in rows]
            ):
                _take_over(new, rows, files)
    # What SQLite wanted to undo in the old file would otherwise be undone in the new one.
    remove_sidecars(path)
    os.replace(fresh, path)


def _take_over(new: Journal, rows: list[tuple[Any, ...]], files: list[tuple[Any, ...]]) -> None:
    with new._errors(), new._transaction():
        new._database.executemany(f"INSERT INTO nodes ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", rows)
        kept = [row for row in files if isinstance(row[1], int) and isinstance(row[2], str)]
        new._database.executemany("INSERT OR IGNORE INTO files VALUES (?, ?, ?)", kept)


def holds_only_others(path: Path, identity: str) -> bool:
    """Whether a journal holds results that can be read, and none of them is of the study of that identity.

    It is for journals whose description is lost: the digests of the results hold the identity.
    """
    found = False
    with suppress(StoreError, sqlite3.DatabaseError, UnicodeDecodeError), closing(Journal(path, read_only=True)) as old:
        for row in old._database.execute(f"SELECT {COLUMNS} FROM nodes"):
            if is_sound(identity, row):
                return False
            found = True
    return found
