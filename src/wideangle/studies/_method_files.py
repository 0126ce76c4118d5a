"""Files that cells name, and what is kept of them between blocks."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import lru_cache
from pathlib import Path
from threading import RLock
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")


class File(NamedTuple):
    """A file as it was: its path, and a digest of its content."""

    path: str
    digest: str


def identify(name: str, value: Any, suffixes: tuple[str, ...]) -> File:
    """Return the file that a parameter names; its content is read once as long as it does not change."""
    expected = f"a file with the suffix {' or '.join(suffixes)}"
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name} must be the path of {expected}, got {value!r} ({type(value).__name__})")
    path = Path(value).absolute()
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{name} must be {expected}, got {str(value)!r}; save arrays with numpy.savez")
    try:
        stat = path.stat()
    except OSError as error:
        remedy = (
            "give the path of one that is there"
            if Path(value).is_absolute()
            else "go to the folder where the study was begun, or begin one with the whole path"
        )
        raise ValueError(
            f"{name} must be {expected} that can be read here and on every worker, got {str(value)!r} "
            f"({error.strerror}, looked for as {path}); {remedy}"
        ) from error
    if path.is_dir():
        raise ValueError(f"{name} must be {expected}, got the directory {str(value)!r}; give one of its files")
    return File(str(path), _digest(str(path), stat.st_mtime_ns, stat.st_size, stat.st_ino))


@lru_cache(maxsize=256)
def _digest(path: str, *_: int) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _slow(stream)


def _slow(stream: Any) -> str:  # before Python 3.11
    result = hashlib.sha256()
    while piece := stream.read(1 << 20):
        result.update(piece)
    return result.hexdigest()


class Kept(Generic[T]):
    """The last used of some large results, up to a number of bytes together; at least the last one."""

    def __init__(self, n_bytes: int) -> None:
        self._limit = n_bytes
        self._held: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self._lock = RLock()

    def get(self, key: Hashable, make: Callable[[], tuple[T, int]]) -> T:
        """Return the result of a key; ``make`` returns it with the bytes that it takes."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            else:
                self._held[key] = make()
                while len(self._held) > 1 and sum(size for _, size in self._held.values()) > self._limit:
                    self._held.popitem(last=False)
            return self._held[key][0]
