"""Stores that are in use, of others, or no stores: refused by name, and left as they are."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
import xarray as xr
from filelock import FileLock

import wideangle as wa
from wideangle.studies import _store
from wideangle.studies._journal import Journal
from wideangle.studies.study import Study

Contents = Callable[[Path], dict[str, bytes]]
Walk = Callable[..., dict[str, Any]]


def run(table: dict[str, Any], store: Path, **options: Any) -> None:
    wa.studies.run(Study.from_dict(table), store, progress=False, **options).close()


def assert_refused(
    table: dict[str, Any], store: Path, contents: Contents, error: type[Exception], match: str, **options: Any
) -> None:
    """Run and see that nothing is changed."""
    before = contents(store) if store.is_dir() else {}
    with pytest.raises(error, match=match):
        run(table, store, **options)
    after = contents(store) if store.is_dir() else {}
    assert {k: v for k, v in after.items() if k != ".lock"} == {k: v for k, v in before.items() if k != ".lock"}


def test_the_second_process_is_refused_until_the_first_is_gone(
    walk: Walk, children: Any, contents: Contents, tmp_path: Path
) -> None:
    table, store = walk(parameters={"pause": 0.1}, grid={"scale": [1.0]}, samples=3000), tmp_path / "store"
    first = children.start(table, store, threads=1)
    try:
        begun = time.monotonic()
        while not (store / "journal.sqlite").exists() or not Journal(store / "journal.sqlite", read_only=True).runs():
            assert time.monotonic() < begun + 30.0
            time.sleep(0.02)
        match = f"in use by process {first.pid} on {re.escape(socket.gethostname())}, since .*wait until that run ends"
        with pytest.raises(wa.studies.StoreError, match=match):
            run(table, store)
        with pytest.raises(wa.studies.StoreError, match="in use"):
            run(table, store, repair=True)
        second = children.run(table, store)
        assert f"process {first.pid}" in second["error"]
    finally:
        first.kill()
        assert first.wait()["status"] == -9
    run(table, store)
    run(table, tmp_path / "other")
    assert contents(store) == contents(tmp_path / "other")


def test_a_status_that_looks_at_the_lock_refuses_nobody(walk: Walk, tmp_path: Path) -> None:
    store = tmp_path / "store"
    run(walk(), store, max_time=1e-9)
    lock = FileLock(store / ".lock", thread_local=False)
    lock.acquire()
    timer = Timer(0.1, lock.release, kwargs={"force": True})
    timer.start()
    run(walk(), store)
    timer.join()


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "seed": ({"seed": 6}, "another study .seed is 5 there, 6 here"),
    "samples": ({"samples": 1051}, "another study .samples is 1050 there, 1051 here"),
    "grid": ({"grid": {"scale": [0.5, 1.0]}}, "another study .grid is"),
    "block_size": ({"block_size": 101}, "another study .block_size is 100 there, 101 here"),
    "statistics": ({"statistics": {}}, "another study .statistics is"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("is_finished", [False, True])
def test_another_study(change: str, is_finished: bool, walk: Walk, contents: Contents, tmp_path: Path) -> None:
    store = tmp_path / "store"
    run(walk(), store, max_time=None if is_finished else 1e-9)
    changes, match = CHANGES[change]
    for repair in (False, True):
        assert_refused(walk(**changes), store, contents, wa.studies.StoreError, match, repair=repair)
    run(walk(name="another name is the same study"), store)


@pytest.mark.parametrize("is_finished", [False, True])
@pytest.mark.parametrize(
    ("key", "text"), [("version", "version of wideangle 0.0"), ("format", "format of the store 0")]
)
def test_another_version(
    key: str,
    text: str,
    is_finished: bool,
    walk: Walk,
    contents: Contents,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    about = _store.about
    value = text.rpartition(" ")[2]
    store = tmp_path / "store"
    with monkeypatch.context() as patch:
        for module in ("_store", "_results"):
            patch.setattr(f"wideangle.studies.{module}.about", lambda study: {**about(study), key: value})
        run(walk(), store, max_time=None if is_finished else 1e-9)
    for repair in (False, True):
        assert_refused(walk(), store, contents, wa.studies.StoreError, f"begun with {text}", repair=repair)


def test_blocks_of_other_sizes(walk: Walk, contents: Contents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As after an update in which a method says that it is faster.
    table, store = {**walk(), "block_size": None}, tmp_path / "store"
    run(table, store, max_time=1e-9)
    monkeypatch.setattr("wideangle.studies.planning._UNKNOWN_BLOCKS", 7)
    for repair in (False, True):
        assert_refused(table, store, contents, wa.studies.StoreError, "blocks of other sizes", repair=repair)


def test_paths_that_are_no_stores(walk: Walk, contents: Contents, tmp_path: Path) -> None:
    file = tmp_path / "results.zarr"
    file.write_text("mine")
    assert_refused(walk(), file, contents, NotADirectoryError, "store must be a folder, got the file .*results.zarr")
    assert file.read_text() == "mine"
    assert_refused(walk(), tmp_path, contents, FileExistsError, "which holds 'results.zarr'")
    assert_refused(walk(), tmp_path / "no" / "store", contents, FileNotFoundError, "create .*no")
    assert not (tmp_path / "no").exists()
    assert_refused(walk(), file / "store", contents, (FileNotFoundError, NotADirectoryError), "folder")  # type: ignore[arg-type]


@pytest.mark.parametrize("checksums", ["", "no JSON", '{"x/0": "0"}'])
@pytest.mark.parametrize("zarr_format", [2, 3] if int(version("zarr").split(".")[0]) >= 3 else [2])
def test_groups_of_others(zarr_format: Any, checksums: str, walk: Walk, contents: Contents, tmp_path: Path) -> None:
    """Also where there is a file that is called like one of ours."""
    store = tmp_path / "other.zarr"
    xr.Dataset({"x": ("y", [1.0, 2.0])}).to_zarr(store, zarr_format=zarr_format, consolidated=False)
    if checksums:
        (store / "checksums.json").write_text(checksums)
    for repair in (False, True):
        assert_refused(walk(), store, contents, FileExistsError, "store must", repair=repair)


def test_a_folder_with_checksums_of_others(walk: Walk, contents: Contents, tmp_path: Path) -> None:
    (tmp_path / "checksums.json").write_text("mine")
    for repair in (False, True):
        assert_refused(walk(), tmp_path, contents, FileExistsError, "store must hold a study", repair=repair)


@pytest.mark.parametrize("name", ["checksums.json", ".zattrs"])
def test_a_damaged_store_of_another_study(name: str, walk: Walk, contents: Contents, tmp_path: Path) -> None:
    """It is not computed anew as this one; a wrong bit in one identity does not make it another study."""
    store = tmp_path / "store"
    run(walk(), store)
    expected = contents(store)
    data = (store / name).read_bytes()
    identity = Study.from_dict(walk()).identity.encode()
    assert name != ".zattrs" or data.count(identity) == 2
    damaged = data.replace(identity, bytes([identity[0] ^ 1]) + identity[1:], 1) if name == ".zattrs" else data[:-3]
    (store / name).write_bytes(damaged)
    other = walk(seed=6)
    assert_refused(other, store, contents, wa.studies.StoreError, "damaged: |holds another study")
    assert_refused(other, store, contents, wa.studies.StoreError, "holds another study", repair=True)
    run(walk(), store, repair=True)
    assert contents(store) == expected


@pytest.mark.parametrize("is_begun", [False, True])
def test_no_permission(is_begun: bool, walk: Walk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "store"
    if is_begun:
        run(walk(), store, max_time=1e-9)
    place = store if is_begun else tmp_path
    access = os.access
    # The superuser may do everything, so it is the answer of the system that is changed.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != place and access(path, mode))
    with pytest.raises(PermissionError, match=f"store must be writable, got .*permissions of '{place}'"):
        run(walk(), store)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a folder where nobody may write")
def test_folders_that_the_system_keeps_to_itself(walk: Walk) -> None:
    with pytest.raises(OSError, match=r"store must be writable, got '/proc/store\.zarr'"):
        run(walk(), Path("/proc/store.zarr"))


def test_leftovers_of_killed_runs_are_taken_away(walk: Walk, contents: Contents, tmp_path: Path) -> None:
    store = tmp_path / "store"
    run(walk(), store)
    before = contents(store)
    (store / ".samples").mkdir()
    (store / ".samples" / "0-0.npz").write_bytes(b"1")
    (store / ".writing").mkdir()
    (store / ".part-journal.sqlite").write_bytes(b"1")
    run(walk(), store)
    assert contents(store) == before


def test_what_a_killed_commit_left_half_done_is_no_obstacle(walk: Walk, children: Any, tmp_path: Path) -> None:
    # A journal of SQLite's own lies there, and a description is wanted before anything runs: as `resume` does.
    store = tmp_path / "store"
    run(walk(), store, max_time=1e-9)
    code = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 1")
database.execute("BEGIN IMMEDIATE")
for k in range(300):
    database.execute("INSERT INTO about VALUES (?, ?)", (str(k), "x" * 1000))
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, str(store / "journal.sqlite")], check=False)
    assert (store / "journal.sqlite-journal").stat().st_size > 0
    assert _store.Store(store).study_table()["seed"] == 5
    assert not (store / "journal.sqlite-journal").exists()
    run(walk(), store)
    assert json.loads((store / ".zattrs").read_text())["state"] == "complete"
