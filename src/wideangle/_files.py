"""Where results go: checked before the work, written after it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr


def make_writable(out: Path) -> None:
    """Make the directory for the results if it does not exist, and raise OSError if nothing can be written there."""
    out.mkdir(parents=True, exist_ok=True)
    # Permissions and read-only file systems show only when something is written.
    with tempfile.TemporaryFile(dir=out):
        pass


def writable_file(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file to write, and raise OSError if it cannot be written."""
    target = Path(path)
    if target.is_dir() or not os.access(target if target.exists() else target.parent, os.W_OK):
        raise OSError(f"path must be a file that can be written, in a directory that exists, got {str(path)!r}")
    return target


def write_groups(path: Path, groups: Mapping[str, xr.Dataset]) -> None:
    """Write one NetCDF file with a group for each Dataset, in place of one that is there."""
    for number, (group, dataset) in enumerate(groups.items()):
        dataset.to_netcdf(path, group=group, mode="a" if number else "w", engine="h5netcdf")
