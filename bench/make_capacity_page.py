"""Measure what studies cost and write the tables of docs/capacity.md.

    python -m bench.make_capacity_page [--quick]

Needs the package with its extra ``distributed`` and a machine with nothing else to do for about nine minutes. What is
between the markers of the page is replaced: measured, checked, and extrapolated. ``--quick`` takes less of everything,
to see that it runs; its numbers are not for the page, which it leaves as it is.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import wideangle as wa
from bench import capacity_costs, capacity_model, capacity_runs, study_overhead
from bench.tables import cpu_model, replaced
from wideangle._cpu import active_cpu_path, available_threads

PAGE = Path(__file__).resolve().parents[1] / "docs" / "capacity.md"


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    turns: int
    budget: float  # seconds of a figure
    cells: tuple[int, ...]
    samples: tuple[int, ...]
    tasks: int
    workers: tuple[tuple[int, int], ...]  # processes and threads of each
    scale: float  # seconds of a run
    overhead: tuple[int, int, float]  # pairs, blocks, seconds of a block


FULL = Effort(
    2, 0.05, (100, 1000, 10_000), (10**5, 10**6, 4 * 10**6), 300, ((1, 1), (2, 1), (3, 1), (2, 8)), 3.0, (7, 40, 0.6)
)
QUICK = Effort(1, 0.01, (50, 200), (10**4, 10**5), 80, ((2, 8),), 0.5, (1, 2, 0.1))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="see that it runs, and leave the page as it is")
    quick = parser.parse_args().quick
    begun = time.perf_counter()
    parts = measure(QUICK if quick else FULL)
    page = PAGE.read_text(encoding="utf-8")
    for name, text in parts.items():
        print(text, end="\n\n")
        page = replaced(page, name, text)
    if not quick:
        PAGE.write_text(page, encoding="utf-8")
    print(f"{time.perf_counter() - begun:.0f} s", file=sys.stderr)
    return 0


def measure(effort: Effort) -> dict[str, str]:
    """Return the parts of the page by their names."""
    costs = capacity_costs.measure(effort.turns, effort.budget)
    gain, threads = capacity_runs.measure_threads(effort.turns, effort.scale)
    sizes, cells = capacity_runs.measure_cells(effort.cells, effort.samples)
    tasks = capacity_runs.measure_tasks(effort.turns, effort.workers, effort.tasks)
    model = capacity_model.Model(costs.fit, tasks, sizes, gain)
    return {
        "machine": machine(),
        "samples": costs.text,
        "threads": threads,
        "tasks": tasks.text,
        "cells": cells,
        "check": "\n\n".join(
            (capacity_model.constants(model), capacity_model.check(model, effort.scale, effort.turns))
        ),
        "saturation": capacity_model.saturation(model),
        "extrapolated": capacity_model.extrapolated(model),
        # Ratios of pairs stand a machine whose speed drifts; constants and their check have to be close in time.
        "overhead": study_overhead.measure(*effort.overhead),
    }


def machine() -> str:
    """CPU, cores and versions."""
    names = ("numpy", "xarray", "zarr", "distributed")
    others = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    return (
        f"Measured on {cpu_model()}, {available_threads()} cores, instruction set `{active_cpu_path()}`, store on the "
        f"local disk; wideangle {wa.__version__}, Python {platform.python_version()}, {others}."
    )


if __name__ == "__main__":
    sys.exit(main())
