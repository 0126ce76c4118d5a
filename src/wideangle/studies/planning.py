"""What a study will take: its blocks, and estimates of time, memory and size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import check_memory
from wideangle.studies._variables import ResultBytes, block_bytes, sample_bytes, variables_of
from wideangle.studies.protocol import resolve

if TYPE_CHECKING:
    from wideangle.studies.study import Study

_SECONDS_OF_BLOCK = 1.0
_BLOCKS_OF_CELL = 64  # of one that takes some seconds, so that workers which share it end together
_SECONDS_OF_SHORT_BLOCK = 0.1  # far more than a block costs beside its samples
_BYTES_OF_BLOCK = 64 * 2**20  # of a block whose size is chosen here
_UNKNOWN_BLOCKS = 64  # of a cell whose method says nothing of its cost
_MOST = 2.0**62  # bytes or seconds of a sample, far beyond any machine
_BYTES_OF_CELL = 2000  # of results, very roughly

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class PlannedBlock(NamedTuple):
    """Samples ``first_sample`` ... ``first_sample + n_samples - 1`` of a cell."""

    cell: int
    block: int
    first_sample: int
    n_samples: int


@dataclass(frozen=True, eq=False)
class Plan:
    """The blocks of a study, and what they are expected to take.

    Attributes
    ----------
    samples
        Samples of each cell; with a stopping rule the largest number.
    block_size, n_blocks
        Samples of a block, and number of blocks, by cell.
    seconds
        Expected time by cell on one core, NaN where the method says nothing of it. Estimates are good to a factor of
        about three.
    block_bytes
        Expected memory of one block while it is computed, with its histograms and quantiles, by cell; -1 where the
        method says nothing of it.

    Examples
    --------
    >>> import wideangle as wa
    >>> study = wa.studies.Study(
    ...     "simulate_angles", samples=10**7, seed=1, parameters={"theta0": 0.1, "depth": 8}, grid={"width": [16, 64]}
    ... )
    >>> plan = study.plan()
    >>> plan.n_cells, plan.n_samples
    (2, 20000000)
    >>> next(plan.blocks()).first_sample
    0
    """

    samples: int
    block_size: Integers
    n_blocks: Integers
    seconds: Floats
    block_bytes: Integers

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.block_size)

    @property
    def n_samples(self) -> int:
        """Number of samples of all cells; with a stopping rule the largest one."""
        return self.samples * self.n_cells

    @property
    def total_seconds(self) -> float:
        """Expected time of all cells on one core, NaN if it is unknown for any."""
        return float(self.seconds.sum())

    @property
    def largest_block_bytes(self) -> int:
        """Expected memory of the largest block, as far as it is known."""
        return int(self.block_bytes.max(initial=0))

    @property
    def block_seconds(self) -> Floats:
        """Expected time of one block by cell."""
        return self.seconds * np.minimum(self.block_size / self.samples, 1.0)

    def blocks(self) -> Iterator[PlannedBlock]:
        """Yield all blocks, cell by cell."""
        for cell in range(self.n_cells):
            size = int(self.block_size[cell])
            for block in range(int(self.n_blocks[cell])):
                first = block * size
                yield PlannedBlock(cell, block, first, min(size, self.samples - first))

    def __str__(self) -> str:
        seconds = "unknown" if np.isnan(self.total_seconds) else duration(self.total_seconds)
        largest = self.largest_block_bytes / 2**20
        memory = (
            "unknown" if np.any(self.block_bytes < 0) else f"{largest:.3g} MiB" if largest >= 1.0 else "below 1 MiB"
        )
        return (
            f"{self.n_cells} cells, {self.n_samples:.6g} samples in {int(self.n_blocks.sum())} blocks\n"
            f"time on one core, roughly: {seconds}\n"
            f"memory of a block, roughly: {memory}"
        )


def make_plan(study: Study) -> Plan:
    """See :meth:`wideangle.studies.Study.plan`."""
    methods = {name: resolve(name) for name in study.methods}
    n_cells = len(study.cells)
    costs, sizes = np.full(n_cells, np.nan), np.full(n_cells, -1.0)
    results = np.zeros((n_cells, len(ResultBytes._fields)))  # in floats, as products of large numbers exceed integers
    for number, (cell, prepared) in enumerate(zip(study.cells, study.prepared, strict=True)):
        method = methods[cell.method]
        try:
            costs[number] = _estimate("cost", method.cost(prepared), np.nan)
            sizes[number] = _estimate("bytes_per_sample", method.bytes_per_sample(prepared, study.statistics), -1)
        except (OSError, ImportError):
            raise
        except Exception as error:  # what a user's function raises
            what = str(error) if isinstance(error, _EstimateError) else f"{type(error).__name__}: {error}"
            raise ValueError(
                f"cell {number} ({cell}): its time and memory cannot be estimated ({what}); mend the "
                f"attributes cost and bytes_per_sample of {cell.method!r}, or leave them out"
            ) from error
        results[number] = ResultBytes.of(variables_of(method, prepared), study.statistics)
    of_sample = sample_bytes(sizes, results)
    block_size = _block_sizes(study, costs, of_sample)
    n_blocks = -(-study.samples // block_size)
    of_samples = np.maximum(of_sample, 0.0) * block_size
    needed = block_bytes(sizes, results, block_size)
    if n_cells:
        largest = int(np.argmax(needed))
        by_results = needed[largest] > 2.0 * of_samples[largest]
        check_memory(
            int(needed[largest]),
            f"block_size = {block_size[largest]} of cell {largest} ({study.cells[largest]}) needs",
            remedy="give histograms fewer bins, or quantiles a larger relative_error"
            if by_results
            else "give a smaller block_size, or leave it out",
        )
    memory = np.where(sizes < 0, -1, np.minimum(needed, 2.0**62).astype(np.int64))
    return Plan(study.samples, block_size, n_blocks, costs * study.samples, memory)


class _EstimateError(ValueError):
    """What a method estimates is no size."""


def _estimate(what: str, value: Any, unknown: float) -> float:
    if value is None or value != value:
        return unknown
    if not isinstance(value, (int, float, np.integer, np.floating)) or not 0 <= value < np.inf:
        raise _EstimateError(f"{what} must be a number that is 0 or more, or None, got {value!r}")
    return min(float(value), _MOST)


def _block_sizes(study: Study, costs: Floats, sizes: Floats) -> Integers:
    if study.block_size is not None:
        return np.full(len(costs), study.block_size, dtype=np.int64)
    # By the cell's own cost alone, as results depend on its blocks in their last digits.
    seconds = np.clip(costs * study.samples / _BLOCKS_OF_CELL, _SECONDS_OF_SHORT_BLOCK, _SECONDS_OF_BLOCK)
    with np.errstate(divide="ignore", invalid="ignore"):
        by_time = np.where(np.isnan(costs), -(-study.samples // _UNKNOWN_BLOCKS), seconds / costs)
        by_memory = np.where(sizes > 0, _BYTES_OF_BLOCK / sizes, np.inf)
    wanted = np.clip(np.minimum(by_time, by_memory), 1.0, study.samples)
    # Powers of two, so that estimates that change a little change nothing.
    powers = 2 ** np.floor(np.log2(wanted)).astype(np.int64)
    result = np.where(wanted < study.samples, powers, study.samples)
    return np.full(len(costs), result.min(), dtype=np.int64) if study.statistics.samples else result


def duration(seconds: float) -> str:
    """Return a time as people say it."""
    if seconds < 1.0:
        return f"{seconds * 1e3:.3g} ms"
    for unit, length in (("years", 365.25 * 86400.0), ("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"
