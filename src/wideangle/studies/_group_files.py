"""The files of the results in a store: whether they are what was written, and how new ones take their place.

What a user put beside them is never touched.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

GROUP = ".zgroup"
METADATA = (GROUP, ".zattrs", ".zmetadata")
CHECKSUMS = "checksums.json"
_OLD = ".old"  # for what goes; no variable has a dot in its name


def damaged_files(folder: Path) -> list[str]:
    """Return the names of files of the results that are not what was written, are missing, or are too many."""
    known = _checksums(folder)
    if known is None:
        return [CHECKSUMS]
    damage = [name for name, digest in known.items() if _file_digest(folder / name) != digest]
    # A chunk that nobody wrote would be read as data. What stands beside the arrays is not read.
    arrays = (file for name in _arrays_among(known) for file in (folder / name).rglob("*"))
    files = (file for file in (*arrays, *(folder / name for name in METADATA)) if file.is_file())
    present = {file.relative_to(folder).as_posix() for file in files}
    return damage + sorted(present - set(known))


def lists_group(folder: Path) -> bool:
    """Whether there are checksums, and of a group."""
    return GROUP in (_checksums(folder) or {})


def put_in_place(part: Path, folder: Path) -> None:
    """Put a new Zarr group, in a folder within its place, in the place of earlier results.

    The group's own file goes first and comes last, so that a reader finds all or nothing. At each instant the checksums
    list all arrays that are there, so that those are known after a kill.

    Raises
    ------
    FileExistsError
        If something else has the name of a new array. Nothing is changed then.
    """
    known = _checksums(folder)
    names = {entry.name for entry in part.iterdir()}
    if known is not None:
        old = _arrays_among(known)
    elif any((folder / name).exists() for name in (GROUP, CHECKSUMS)):
        old = {name for name in names if (folder / name / ".zarray").is_file()}  # The checksums are lost.
    else:
        old = set()
    old = {name for name in old if (folder / name).is_dir() and not (folder / name).is_symlink()}
    _check_free(folder, names - old)
    _write_checksums(part)
    _sync(part)
    (part / _OLD).mkdir()
    if known is None:
        os.replace(part / CHECKSUMS, folder / CHECKSUMS)
    for name in METADATA:
        (folder / name).unlink(missing_ok=True)
    for name in sorted(old):
        os.replace(folder / name, part / _OLD / name)  # at once, where deleting has many steps
    new = [entry for entry in part.iterdir() if entry.name != _OLD]
    for entry in sorted(new, key=lambda entry: (entry.name == GROUP, entry.name != CHECKSUMS)):
        os.replace(entry, folder / entry.name)
    sync_folder(folder)
    shutil.rmtree(part, ignore_errors=True)  # What is left the next run takes away.


def _check_free(folder: Path, names: Iterable[str]) -> None:
    files = (*METADATA, CHECKSUMS)
    taken = [name for name in sorted(names) if name not in files and os.path.lexists(folder / name)]
    taken += [name for name in files if (folder / name).is_dir()]
    if taken:
        raise FileExistsError(
            f"{folder} holds {taken[0]!r}, which this study did not write and whose place its results need; move it "
            "elsewhere, and run again: what is finished is kept"
        )


def _write_checksums(part: Path) -> None:
    sums = {file.relative_to(part).as_posix(): _file_digest(file) for file in sorted(part.rglob("*")) if file.is_file()}
    (part / CHECKSUMS).write_text(json.dumps(sums, indent=0, sort_keys=True), encoding="utf-8")


def _checksums(folder: Path) -> dict[str, str] | None:
    """Return the checksums of all files by name, None if they cannot be read."""
    try:
        listed: dict[str, str] = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
        return dict(listed.items())
    except (OSError, ValueError, AttributeError):
        return None


def _arrays_among(files: Iterable[str]) -> set[str]:
    """Return the folders that files lie in."""
    return {first for first, slash, _ in (name.partition("/") for name in files) if slash and first.strip(".")}


def _file_digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while part := file.read(2**20):
                digest.update(part)
    except OSError:
        return "missing"
    return digest.hexdigest()


def _sync(folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        else:
            sync_folder(file)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
