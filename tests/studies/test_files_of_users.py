"""What users put into a store: left alone, whatever becomes of the run, or refused before anything is changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import wideangle as wa
from wideangle.studies._group_files import put_in_place
from wideangle.studies.study import Study

Contents = Callable[[Path], dict[str, bytes]]
FILES = {
    "notes.txt": b"mine",
    "data.part-1.zip": b"mine too",
    "journal.sqlite-backup": b"a copy",
    "figures/one.png": b"a figure",
}


def run(table: dict[str, Any], store: Path, **options: Any) -> None:
    wa.studies.run(Study.from_dict(table), store, progress=False, **options).close()


@pytest.fixture(params=[False, True], ids=["without results", "with results"])
def begin(request: pytest.FixtureRequest, end_before_results: Any) -> Callable[[dict[str, Any], Path], None]:
    """The function that begins a study whose store has results so far, or none yet."""

    def begin(table: dict[str, Any], store: Path) -> None:
        if request.param:
            run(table, store, max_time=1e-9)
        else:
            end_before_results(Study.from_dict(table), store, max_time=1e-9)

    return begin


def put_files(store: Path) -> dict[str, bytes]:
    """Put files of all kinds into a store, and return what they hold."""
    for name, data in FILES.items():
        (store / name).parent.mkdir(exist_ok=True)
        (store / name).write_bytes(data)
    mine = xr.Dataset({"mine": ("y", np.arange(3.0))})
    mine.to_zarr(store / "mine.zarr", zarr_format=2, consolidated=False)
    shutil.move(store / "mine.zarr" / "mine", store / "mine")
    shutil.rmtree(store / "mine.zarr")
    (store / "elsewhere").symlink_to(store.parent)
    return files_of_user(store)


def files_of_user(store: Path) -> dict[str, bytes]:
    found = {path.relative_to(store).as_posix(): path for path in [*store.rglob("*"), store / "elsewhere"]}
    assert found["elsewhere"].is_symlink()
    ours = ("elsewhere", "mine", *FILES)
    return {name: path.read_bytes() for name, path in found.items() if name.startswith(ours) and path.is_file()}


def without_those(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if not name.startswith(("elsewhere", "figures", "mine", *FILES))}


def test_they_are_left_alone(begin: Any, tables: Any, undisturbed: Any, contents: Contents, tmp_path: Path) -> None:
    store = tmp_path / "store.zarr"
    begin(tables["walk"], store)
    before = put_files(store)
    assert len(before) > len(FILES) + 2
    for _ in range(2):  # Once to the end, and once when all is done.
        run(tables["walk"], store)
        assert files_of_user(store) == before
        assert without_those(contents(store)) == undisturbed["walk"]
    assert wa.studies.load(store)["x_mean"].shape == (3, 3)
    (store / "x_mean" / "0.0").unlink()
    with pytest.raises(wa.studies.StoreError, match=r"damaged: x_mean/0\.0;"):
        wa.studies.load(store)


def group(folder: Path, arrays: str, content: bytes) -> Path:
    """Write what is like a Zarr group, with these arrays."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in arrays:
        (folder / name).mkdir(parents=True)
        (folder / name / ".zarray").write_bytes(content)
        (folder / name / "0").write_bytes(content)
    for name in (".zattrs", ".zgroup", ".zmetadata"):
        (folder / name).write_bytes(content)
    return folder


def begun_store(folder: Path, checksums: str) -> dict[str, bytes]:
    """Write a store with the arrays a and b, and return what a user has put beside them."""
    folder.mkdir()
    put_in_place(group(folder / ".writing", "ab", b"old"), folder)
    if checksums == "lost":
        (folder / "checksums.json").unlink()
    elif checksums == "damaged":
        (folder / "checksums.json").write_text("{")
    return put_files(folder)


@pytest.mark.parametrize("checksums", ["sound", "lost", "damaged"])
def test_they_are_left_alone_at_every_step(checksums: str, contents: Contents, tmp_path: Path) -> None:
    """Wherever the change of old results for new ones is stopped, it can be done again."""
    (tmp_path / "new").mkdir()
    put_in_place(group(tmp_path / "new" / ".writing", "bcd", b"new"), tmp_path / "new")
    expected = contents(tmp_path / "new")
    if checksums != "sound":
        # Then nobody knows whose array this is.
        expected |= {"a": b"", "a/.zarray": b"old", "a/0": b"old"}
    step, is_stopped = 0, True
    while is_stopped:
        step += 1
        store = tmp_path / f"{step}.zarr"
        before = begun_store(store, checksums)
        is_stopped = put_and_stop_at(step, store)
        assert files_of_user(store) == before
        assert not is_stopped or not ((store / ".zgroup").exists() and (store / "c").exists())
        put_in_place(group(store / ".writing", "bcd", b"new"), store)
        assert files_of_user(store) == before
        assert without_those(contents(store)) == expected, step
    assert step > 3 + 1 + 3 + 4


def put_and_stop_at(step: int, store: Path) -> bool:
    """Put new results in place, and stop before a change of names; whether there were so many."""
    calls = [0]

    def counted(change: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any, **options: Any) -> None:
            calls[0] += 1
            if calls[0] == step:
                raise KeyboardInterrupt
            change(*arguments, **options)

        return call

    part = group(store / ".writing", "bcd", b"new")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", counted(os.replace))
        patch.setattr(Path, "unlink", counted(Path.unlink))
        try:
            put_in_place(part, store)
        except KeyboardInterrupt:
            return True
    return False


@pytest.mark.parametrize("kind", ["file", "folder", "link", "array"])
def test_names_that_the_results_need_are_refused(
    kind: str, begin: Any, tables: Any, undisturbed: Any, contents: Contents, tmp_path: Path
) -> None:
    store = tmp_path / "store.zarr"
    begin(tables["stop"], store)
    # A run that has not got far may have no results of these yet.
    mine = store / "x_mean"
    assert not mine.exists()
    if kind == "file":
        mine.write_bytes(b"mine")
    elif kind == "link":
        (tmp_path / "mine").mkdir()
        mine.symlink_to(tmp_path / "mine")
    else:
        mine.mkdir()
        (mine / (".zarray" if kind == "array" else "one")).write_bytes(b"mine")
    before = contents(store)
    for _ in range(2):
        with pytest.raises(FileExistsError, match=r"store\.zarr holds 'x_mean', which this study did not write.*move"):
            run(tables["stop"], store)
        after = contents(store)
        unchanged = {name for name in before if name not in ("journal.sqlite", ".lock")}
        assert {name: after[name] for name in unchanged} == {name: before[name] for name in unchanged}
        assert mine.is_symlink() == (kind == "link")
    mine.rename(tmp_path / "moved")
    run(tables["stop"], store)
    assert contents(store) == undisturbed["stop"]


def test_a_folder_with_files_of_others_is_no_store(tables: Any, tmp_path: Path) -> None:
    for name in ("data.part-1.zip", "journal.sqlite-backup"):
        folder = tmp_path / f"of {name}"
        folder.mkdir()
        (folder / name).write_bytes(b"mine")
        with pytest.raises(FileExistsError, match=f"which holds '{name}'"):
            run(tables["stop"], folder)
        assert [path.name for path in folder.iterdir()] == [name]
