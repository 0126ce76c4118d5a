"""The place of a study's results: one folder that is a Zarr group, and while the study runs holds its journal."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wideangle._version import __version__
from wideangle.studies import _journal
from wideangle.studies._group_files import (
    CHECKSUMS,
    GROUP,
    METADATA,
    damaged_files,
    lists_group,
    put_in_place,
    sync_folder,
)
from wideangle.studies._journal import Journal, StoreError
from wideangle.studies._salvage import holds_only_others, salvage

if TYPE_CHECKING:
    import xarray as xr

    from wideangle.studies.study import Study

COMPLETE = "complete"
SAMPLES = ".samples"  # files of samples, until they are gathered
_LOCK = ".lock"
_WRITING = ".writing"
_OWN = {_journal.NAME, *_journal.LEFTOVERS, CHECKSUMS, SAMPLES, _LOCK, _WRITING}
_FORMAT = "1"


class Store:
    """A folder with a study in it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"store must be a path, got {path!r} ({type(path).__name__}); give such as 'results.zarr'")
        self.path = Path(path)

    @property
    def journal_path(self) -> Path:
        """Where the journal is, while there is one."""
        return self.path / _journal.NAME

    @property
    def samples_folder(self) -> Path:
        """Where workers put samples."""
        return self.path / SAMPLES

    @property
    def exists(self) -> bool:
        """Whether a study was begun here."""
        return self.journal_path.is_file() or self.is_complete

    @property
    def is_complete(self) -> bool:
        """Whether the study is finished and its results are written."""
        results = ((self.path / name).is_file() for name in (GROUP, CHECKSUMS))
        return not self.journal_path.exists() and any(results)

    @property
    def has_results(self) -> bool:
        """Whether results are written, be they all or those of an unfinished study."""
        return (self.path / GROUP).is_file()

    def check_usable(self) -> None:
        """Refuse a path that cannot be or become a store, before any work."""
        remedy = "give a folder that does not exist, or a store, such as results.zarr"
        if self.path.exists() and not self.path.is_dir():
            raise NotADirectoryError(f"store must be a folder, got the file {str(self.path)!r}; {remedy}")
        if self.path.is_dir() and not self.exists:
            present = [entry.name for entry in self.path.iterdir() if entry.name not in _OWN]
            if present:
                raise FileExistsError(
                    f"store must be a store or an empty folder, got {str(self.path)!r}, which holds {present[0]!r}; "
                    f"{remedy}"
                )
        # One of the two is enough, as the other may be damaged; either may be a file of others that is called so.
        if self.is_complete and not lists_group(self.path) and b"study_about" not in self._attributes_as_written():
            raise FileExistsError(
                f"store must hold a study, got {str(self.path)!r}, another Zarr group or folder; {remedy}"
            )
        place = self.path if self.path.exists() else self._existing_parent()
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(
                f"store must be writable, got {str(self.path)!r}; change the permissions of {str(place)!r}"
            )

    def _existing_parent(self) -> Path:
        parent = self.path.absolute().parent
        if not parent.is_dir():
            raise FileNotFoundError(
                f"store must lie in a folder that exists, got {str(self.path)!r}; create {str(parent)!r}"
            )
        return parent

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the store, so that no other process writes to it; the system lets go if this one dies."""
        from filelock import FileLock, Timeout

        # Status looks at the lock too, for an instant.
        lock = FileLock(self.path / _LOCK, timeout=0.5)
        try:
            self.path.mkdir(exist_ok=True)
            lock.acquire()
        except OSError as error:
            # Timeout is one of these. A system may refuse for reasons that no permission shows.
            if not isinstance(error, Timeout):
                reason = error.strerror or str(error)
                raise type(error)(
                    error.errno, f"store must be writable, got {str(self.path)!r} ({reason}); give another folder"
                ) from error
            raise StoreError(
                f"{self.path} is in use{self._holder()}; wait until that run ends, or stop it: what it has finished is "
                "kept. See `wideangle study status`"
            ) from None
        try:
            yield
        finally:
            # While it is held, as afterwards it may be another process's.
            if not self.journal_path.exists():
                (self.path / _LOCK).unlink(missing_ok=True)
            lock.release()

    def is_locked(self) -> bool:
        """Whether a process works on the store."""
        from filelock import FileLock, Timeout

        if not (self.path / _LOCK).exists():
            return False
        try:
            with FileLock(self.path / _LOCK, timeout=0):
                return False
        except Timeout:
            return True
        except OSError:
            return False  # Of another user: nobody can tell.

    def _holder(self) -> str:
        try:
            with _journal.reading(self.journal_path) as journal:
                last = journal.runs()[-1]
            if last.state == "running":
                return f" by process {last.process} on {last.host}, since {last.started}"
            return ""
        except (StoreError, OSError, IndexError):
            return ""

    def open_journal(self, study: Study, *, repair: bool) -> Journal:
        """Return the journal of the study, begun anew if there is none, and refuse that of another study."""
        mine = {**about(study), "blocks": _blocks_digest(study)}
        if not self.journal_path.exists():
            return Journal.create(self.journal_path, mine)
        if repair:
            self._check_before_repair(study, mine)
            salvage(self.journal_path, mine, len(study.cells))
        journal = Journal(self.journal_path)
        try:
            self._check_journal(journal.about(), study, mine)
            damage = journal.check()
            if damage:
                raise self.damaged("; ".join(damage[:3]))
        except BaseException:
            journal.close()
            raise
        return journal

    def _check_before_repair(self, study: Study, mine: dict[str, str]) -> None:
        """Refuse the journal of another study, damaged though it may be."""
        found = self._readable_about()
        if found is not None:
            self._check_journal(found, study, mine)
            return
        for each in self._named(()):
            self._check_about(each, study)
        if holds_only_others(self.journal_path, mine["identity"]):
            raise StoreError(
                f"{self.path} holds results of another study in a damaged journal; give another store, or the file of "
                "that study"
            )

    def _readable_about(self) -> dict[str, str] | None:
        try:
            with _journal.reading(self.journal_path) as journal:
                return journal.about()
        except StoreError:
            return None

    def _check_journal(self, found: dict[str, str], study: Study, mine: dict[str, str]) -> None:
        self._check_about(found, study)
        if found.get("blocks") != mine["blocks"]:
            raise StoreError(
                f"{self.path} was begun with blocks of other sizes, as the method estimates its cost otherwise now; go "
                "on where and how it was begun, or give another store and a block_size"
            )

    def damaged(self, what: str) -> StoreError:
        """Return the error for a store in which something is not as it was written."""
        return StoreError(
            f"{self.path} is damaged: {what}; nothing is overwritten. Run with repair=True (--repair) to compute anew "
            "what is lost, or restore the store from a copy"
        )

    def check_complete(self, study: Study, *, repair: bool = False) -> bool:
        """Refuse finished results of another study, or damaged ones; False if these are to be computed anew."""
        damage = damaged_files(self.path)
        named = [] if CHECKSUMS in damage else self._named(damage)
        if not named and (repair or not damage):
            named = self._named(())  # No checksum tells which is right: all have to name this study.
            if not named:
                raise StoreError(
                    f"{self.path} is damaged, and nothing in it says of which study it is: it is not overwritten. "
                    "Restore it from a copy, or give another store"
                )
        for each in named:
            self._check_about(each, study)
        if not damage and self.attributes().get("state") != COMPLETE:
            damage = ["the journal of an unfinished run is missing"]
        if damage and not repair:
            raise self.damaged(f"{', '.join(damage[:3])}{', ...' if len(damage) > 3 else ''}")
        return not damage

    def _named(self, damage: Container[str]) -> list[dict[str, str]]:
        """Return what those files of the results that are not damaged, and can be read, say of their study."""
        found = []
        for name in METADATA:
            with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                if name not in damage:
                    table = json.loads((self.path / name).read_text(encoding="utf-8"))
                    attributes = table["metadata"][".zattrs"] if "metadata" in table else table
                    found.append(dict(json.loads(attributes["study_about"]).items()))
        return found

    def _check_about(self, found: dict[str, str], study: Study) -> None:
        mine = about(study)
        if found.get("identity") != mine["identity"]:
            raise StoreError(
                f"{self.path} holds another study ({_difference(found, mine, study)}); give another store, or the file "
                "of that study"
            )
        for key, what in (("format", "format of the store"), ("version", "version of wideangle")):
            if found.get(key) != mine[key]:
                raise StoreError(
                    f"{self.path} was begun with {what} {found.get(key)}, and this is {mine[key]}: results of the two "
                    "may differ. Go on with that version, or give another store"
                )

    def _attributes_as_written(self) -> bytes:
        file = self.path / ".zattrs"
        return file.read_bytes() if file.is_file() else b""

    def study_table(self) -> dict[str, Any]:
        """Return the description of the study whose store this is."""
        if self.journal_path.exists():
            with _journal.reading(self.journal_path) as journal:
                found = journal.about()
        elif self.has_results:
            found = json.loads(self.attributes()["study_about"])
        else:
            raise FileNotFoundError(f"{self.path} holds no study; run one with this store first")
        table: dict[str, Any] = json.loads(found["study"])
        return table

    def attributes(self) -> dict[str, Any]:
        """Return the attributes of the results as they are written."""
        try:
            result: dict[str, Any] = json.loads((self.path / ".zattrs").read_text(encoding="utf-8"))
            return result
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{self.path} is damaged (.zattrs: {error}); restore it from a copy, or run anew"
            ) from error

    def verified_attributes(self) -> dict[str, Any]:
        """Return the attributes, after all files have been compared with their checksums."""
        damage = damaged_files(self.path)
        if damage:
            raise self.damaged(f"{', '.join(damage[:3])}{', ...' if len(damage) > 3 else ''}")
        return self.attributes()

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """Give a folder for a new Zarr group, and put it in the place of the results once it is written."""
        part = self.path / _WRITING
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        yield part
        put_in_place(part, self.path)

    def finish(self) -> None:
        """Delete the journal, as all results are written."""
        self.journal_path.unlink()
        sync_folder(self.path)
        self.clear()

    def clear(self) -> None:
        """Delete what a run that was killed while it finished has left."""
        for entry in self.path.iterdir():
            if entry.name in (SAMPLES, _WRITING):
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name in _journal.LEFTOVERS:
                entry.unlink(missing_ok=True)

    @contextmanager
    def reading_results(self) -> Iterator[None]:
        """Name the store where its results cannot be read."""
        try:
            yield
        except Exception as error:  # zarr and its codecs raise what they like
            raise StoreError(
                f"{self.path} is damaged ({type(error).__name__}: {error}); restore it from a copy, or run anew"
            ) from error

    def open(self) -> xr.Dataset:
        """Open the results."""
        import xarray as xr

        dataset: xr.Dataset = xr.open_zarr(self.path, consolidated=True, chunks=None)
        return dataset


def about(study: Study) -> dict[str, str]:
    """Return what a store says of its study."""
    return {
        "format": _FORMAT,
        "identity": study.identity,
        "version": compatible_version(),
        # In the order in which it was written: that of the axes of a grid is that of the cells.
        "study": json.dumps(study.to_dict()),
    }


def _blocks_digest(study: Study) -> str:
    """Return a digest of the sizes of blocks, which are chosen from estimates if the study does not say them."""
    return hashlib.sha256(study.plan().block_size.astype("<i8").tobytes()).hexdigest()


def compatible_version() -> str:
    """Return the part of the version with which results stay the same, to the bit."""
    return ".".join(__version__.split(".")[:2])


def _difference(found: dict[str, str], mine: dict[str, str], study: Study) -> str:
    """Return what is different in two descriptions of studies."""
    try:
        theirs, own = json.loads(found["study"]), json.loads(mine["study"])
    except (KeyError, ValueError, TypeError):
        return f"identity {found.get('identity', 'unknown')[:12]}, not {mine['identity'][:12]}"
    names = [key for key in sorted({*theirs, *own}) if theirs.get(key) != own.get(key) and key != "name"]
    if not names:
        what = ["the code of its method"] * any(":" in name for name in study.methods)
        what += ["a file that it reads"] * any(map(study.fingerprint, range(len(study.cells))))
        return f"{' or '.join(what) or 'the code of its method'} has changed since"
    return ", ".join(f"{key} is {_short(theirs.get(key))} there, {_short(own.get(key))} here" for key in names[:3])


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
