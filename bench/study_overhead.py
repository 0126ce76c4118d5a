"""What a study adds to its kernel: one cell of simulate_angles as a study and as bare blocks, turn by turn.

Run as ``python -m bench.study_overhead``. Blocks take half a second or more. The bare blocks are the same calls of the
kernel on as many threads as the study has workers, without a store, a journal or a merge.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import wideangle as wa
from bench.timing import Spread, in_pairs, seconds
from wideangle.studies.protocol import resolve
from wideangle.studies.study import Study

WORKERS = 2
WIDTH, DEPTH = 64, 16


def study_of(n_blocks: int, block_size: int) -> Study:
    """Return a study of one cell."""
    return Study(
        "simulate_angles",
        samples=n_blocks * block_size,
        seed=1,
        block_size=block_size,
        parameters={"theta0": 0.1, "width": WIDTH, "depth": DEPTH},
    )


def bare_block(study: Study, first: int) -> None:
    """Run the kernel for one block."""
    assert study.block_size is not None
    method = resolve("simulate_angles")
    method.run(study.prepared[0], first, study.block_size, 1, study.statistics)


def bare(study: Study) -> None:
    """Run the kernel for all blocks on as many threads as the study has workers."""
    assert study.block_size is not None
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(lambda first: bare_block(study, first), range(0, study.samples, study.block_size)))


def as_study(study: Study, executor: Any) -> Callable[[], None]:
    """Return the run of the study into a store that is then thrown away."""

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            wa.studies.run(study, Path(folder) / "store.zarr", executor=executor, progress=False).close()

    return run


def main() -> None:
    """Print both ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--blocks", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=0.6, help="of a block")
    options = parser.parse_args()
    probe = study_of(1, 20_000)
    bare_block(probe, 0)
    block_size = round(20_000 * options.seconds / min(seconds(lambda: bare_block(probe, 0)) for _ in range(3)))
    study = study_of(options.blocks, block_size)
    print(f"{options.blocks} blocks of {block_size} samples, width {WIDTH}, depth {DEPTH}, {WORKERS} workers")
    with ThreadPoolExecutor(WORKERS) as pool:
        report("threads", *in_pairs(as_study(study, pool), lambda: bare(study), pairs=options.pairs))
    from distributed import Client, LocalCluster

    setup: dict[str, Any] = {"n_workers": WORKERS, "threads_per_worker": 1, "dashboard_address": ":0"}
    connect: Any = Client
    cluster_of: Any = LocalCluster
    with cluster_of(**setup) as cluster, connect(cluster) as client:
        report("Dask", *in_pairs(as_study(study, client), lambda: bare(study), pairs=options.pairs))
    grid = {"width": list(range(1, 101)), "depth": list(range(1, 101))}
    large = Study("simulate_angles", samples=10**6, seed=1, parameters={"theta0": 0.1}, grid=grid)
    print(f"plan of 10,000 cells: {min(seconds(large.plan) for _ in range(3)):.3f} s")


def report(name: str, study: Spread, kernel: Spread, ratio: Spread) -> None:
    """Print a line."""
    print(f"{name}: study {study} s, kernel {kernel} s, ratio {ratio}", flush=True)


if __name__ == "__main__":
    main()
