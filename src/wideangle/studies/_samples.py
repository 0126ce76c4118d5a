"""Files of samples: written by workers block by block, and looked for when a study goes on."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wideangle.studies.protocol import Block, Wanted

if TYPE_CHECKING:
    from wideangle.studies._journal import Journal
    from wideangle.studies._store import Store
    from wideangle.studies.planning import Plan


PREFIX = "of "  # before names in the files, as NumPy has arguments that variables could be called like


class SamplesNotWrittenError(OSError):
    """Samples could not be written: no fault of the cell."""


def write_samples(folder: Path, cell: int, block: int, block_data: Block, wanted: Wanted) -> str:
    """Write the samples of a block into a file of their own, at once or not at all, and return its digest."""
    arrays = {}
    for name, variable in block_data.variables.items():
        if wanted.keeps(name) and variable.samples is not None:
            arrays[PREFIX + name] = np.asarray(variable.samples)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    data = buffer.getvalue()
    try:
        write_file(samples_file(folder, cell, block), data)
    except OSError as error:
        raise SamplesNotWrittenError(f"cannot write samples into {folder} ({error})") from error
    return hashlib.sha256(data).hexdigest()


def samples_file(folder: Path, cell: int, block: int) -> Path:
    """Return the path of the samples of a block."""
    return folder / f"{cell}-{block}.npz"


def write_file(path: Path, data: bytes) -> None:
    """Write a file that is there either as a whole or not at all."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".part-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def check_samples(place: Store, plan: Plan, journal: Journal, *, repair: bool) -> None:
    """Look whether the files of samples are there; what is in them is compared when they are gathered."""
    wrong = []
    for cell, nodes in journal.done().items():
        files = journal.files_of(cell)
        for block in (block for node in nodes for block in range(node.first, node.end(int(plan.n_blocks[cell])))):
            path = samples_file(place.samples_folder, cell, block)
            is_there = block in files and path.is_file()
            if not is_there or (repair and hashlib.sha256(path.read_bytes()).hexdigest() != files[block]):
                wrong.append((cell, block))
                break
    if wrong and not repair:
        raise place.damaged(f"the samples of cell {wrong[0][0]}, block {wrong[0][1]}, are missing")
    journal.forget_files(wrong)
