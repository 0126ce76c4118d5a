"""A disk that is full for a while: said so, nothing lost, and the same bytes once there is space."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import wideangle as wa
from wideangle.studies._journal import Journal
from wideangle.studies.study import Study

Contents = Callable[[Path], dict[str, bytes]]


def may_mount() -> bool:
    """Whether disks can be made here: not as an ordinary user, nor in most containers."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", folder]
        try:
            done = subprocess.run(command, check=False, capture_output=True).returncode == 0
        except OSError:
            return False
        if done:
            subprocess.run(["umount", folder], check=True)
        return done


def samples_done(store: Path) -> int:
    if not (store / "journal.sqlite").exists():
        return 0
    journal = Journal(store / "journal.sqlite", read_only=True)
    try:
        assert journal.check() == []
        return sum(journal.samples_done().values())
    finally:
        journal.close()


def go_on(name: str, tables: Any, undisturbed: Any, children: Any, contents: Contents, store: Path) -> int:
    """Run again, to the same bytes; return how many samples there were."""
    done = samples_done(store)
    resumed = children.run(tables[name], store, threads=1)
    assert not resumed["error"], resumed
    assert contents(store) == undisturbed[name]
    return done


@pytest.mark.parametrize("limit", [1000, 5000, 30000, 45000])
def test_files_that_cannot_grow(
    limit: int, tables: Any, undisturbed: Any, children: Any, contents: Contents, tmp_path: Path
) -> None:
    # The system lets no file grow beyond this: SQLite and Zarr meet it in the middle of what they write.
    store = tmp_path / "store"
    full = children.run(tables["walk"], store, threads=1, file_size=limit)
    assert "OSError" in full["error"]
    go_on("walk", tables, undisturbed, children, contents, store)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """The function that makes a disk of so many bytes, or gives it another size."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def size(n_bytes: int) -> Path:
        options = f"{'remount,' if folder.is_mount() else ''}size={n_bytes}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
        return folder

    yield size
    subprocess.run(["umount", folder], check=False)


@pytest.mark.skipif(not may_mount(), reason="mounting a disk needs the right to do so; the tests beside it do not")
@pytest.mark.parametrize("n_bytes", [100_000, 200_000, 300_000])
def test_a_small_disk(
    n_bytes: int, tables: Any, undisturbed: Any, children: Any, contents: Contents, small_disk: Callable[[int], Path]
) -> None:
    store = small_disk(n_bytes) / "store"
    full = children.run(tables["walk"], store, threads=1)
    assert "OSError" in full["error"] or "SamplesNotWritten" in full["error"], full
    small_disk(10**8)
    go_on("walk", tables, undisturbed, children, contents, store)


def no_space(points: list[int], tables: Any, undisturbed: Any, children: Any, contents: Contents, folder: Path) -> int:
    """Let each write from one on fail, for several of these; return how many runs failed."""
    n_failed, done = 0, 0
    for point in points:
        store = folder / str(point)
        full = children.run(tables["walk"], store, threads=1, action="full", at=point)
        if full["error"]:
            n_failed += 1
            assert "No space left" in full["error"], full
            assert "OSError" in full["error"] or "SamplesNotWritten" in full["error"], full
        done = max(done, go_on("walk", tables, undisturbed, children, contents, store))
    assert done > 0
    return n_failed


def test_no_space(tables: Any, undisturbed: Any, children: Any, contents: Contents, tmp_path: Path) -> None:
    points = [1, 10, 60, 300, 700, 1000]
    assert no_space(points, tables, undisturbed, children, contents, tmp_path) >= 4


@pytest.mark.slow
def test_no_space_anywhere(tables: Any, undisturbed: Any, children: Any, contents: Contents, tmp_path: Path) -> None:
    n_events = children.run(tables["walk"], tmp_path / "whole", threads=1)["events"]
    points = list(range(2, n_events, n_events // 50))
    assert no_space(points, tables, undisturbed, children, contents, tmp_path) > 40


def test_a_full_disk_is_no_failure_of_a_cell(walk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    study = Study.from_dict(walk())
    with monkeypatch.context() as patch:
        patch.setattr("wideangle.studies._samples.write_file", full)
        with pytest.raises(OSError, match=r"cannot write samples into .*No space.*kept: free some space"):
            wa.studies.run(study, tmp_path / "store", progress=False)
    journal = Journal(tmp_path / "store" / "journal.sqlite")
    assert journal.failures() == []
    assert journal.runs()[-1].state == "interrupted"
    journal.close()


def test_a_full_database_says_so(walk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # "database or disk is full", from SQLite itself, in the middle of a run.
    study = Study.from_dict(walk(samples=1000))
    commit, calls = Journal.commit, [0]

    def limited(self: Journal, *arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == 4:
            self._database.execute("PRAGMA max_page_count = 1")
        return commit(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "commit", limited)
        with pytest.raises(OSError, match=r"cannot write to .*full.*everything before is kept: free some space"):
            wa.studies.run(study, tmp_path / "store", progress=False)
    done = samples_done(tmp_path / "store")
    assert 0 < done < 3000
    with wa.studies.run(study, tmp_path / "store", progress=False) as results:
        assert results.n_samples.values.tolist() == [1000] * 3
