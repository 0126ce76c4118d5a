"""What a study adds to its kernel: one cell of simulate_angles as a study and as bare blocks, turn by turn.

Run as ``python -m bench.study_overhead``. Blocks take half a second or more. The bare blocks are the same calls of the
kernel on as many threads as the study has workers, without a store, a journal or a merge. What is imported once, some
0.4 s at the end of the first run of a process, is imported before.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import wideangle as wa
from bench.capacity_runs import cluster
from bench.tables import table
from bench.timing import Spread, in_pairs, seconds
from wideangle._cpu import available_threads
from wideangle.studies.protocol import resolve
from wideangle.studies.study import Study

WIDTH, DEPTH = 64, 16


def measure(pairs: int, n_blocks: int, block_seconds: float) -> str:
    """Return a table of both ratios."""
    study = study_of(n_blocks, block_size_of(block_seconds))
    workers = available_threads()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        rows.append(("threads", *_pair(study, path / "threads", None, workers, pairs)))
        with cluster(workers) as client:
            rows.append(("`LocalCluster`", *_pair(study, path / "dask", client, workers, pairs)))
    return (
        f"One cell of width {WIDTH} and depth {DEPTH}, {n_blocks} blocks of {block_seconds:g} s, on {workers} workers "
        f"and as bare calls of the kernel on as many threads: {pairs} pairs, the median and the range.\n\n"
        + table(("workers", "study, s", "bare kernel, s", "ratio"), rows)
    )


def block_size_of(block_seconds: float) -> int:
    """Return the samples that the kernel takes so long for."""
    probe = study_of(1, 20_000)
    bare_block(probe, 0)
    return round(20_000 * block_seconds / min(seconds(lambda: bare_block(probe, 0)) for _ in range(5)))


def study_of(n_blocks: int, block_size: int) -> Study:
    """Return a study of one cell."""
    return Study(
        "simulate_angles",
        samples=n_blocks * block_size,
        seed=1,
        block_size=block_size,
        parameters={"theta0": 0.1, "width": WIDTH, "depth": DEPTH},
    )


def _pair(study: Study, path: Path, executor: Any, workers: int, pairs: int) -> tuple[Spread, Spread, Spread]:
    path.mkdir()
    return in_pairs(as_study(study, path, executor), lambda: bare(study, workers), pairs=pairs)


def bare_block(study: Study, first: int) -> None:
    """Run the kernel for one block."""
    assert study.block_size is not None
    method = resolve("simulate_angles")
    method.run(study.prepared[0], first, study.block_size, 1, study.statistics)


def bare(study: Study, workers: int) -> None:
    """Run the kernel for all blocks."""
    assert study.block_size is not None
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda first: bare_block(study, first), range(0, study.samples, study.block_size)))


def as_study(study: Study, folder: Path, executor: Any) -> Callable[[], None]:
    """Return the run of the study, each time into a store of its own."""
    stores = (folder / f"{number}.zarr" for number in itertools.count())
    return lambda: wa.studies.run(study, next(stores), executor=executor, progress=False).close()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--blocks", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=0.6, help="of a block")
    options = parser.parse_args()
    print(measure(options.pairs, options.blocks, options.seconds))


if __name__ == "__main__":
    main()
