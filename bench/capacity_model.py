"""The model of run time, traffic and size of studies, its check, and what it says of studies that nobody has run."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import wideangle as wa
from bench.capacity_costs import Fit
from bench.capacity_runs import Sizes, Tasks, angles_study, cluster, run_seconds
from bench.tables import table
from wideangle.studies._scheduling import MOST_UNITS_OF_TASK, costs_of_blocks, level_of_units, seconds_of_task
from wideangle.studies.planning import duration

WORKERS = (2, 16, 128, 1024)
NEURON_SAMPLES = (1e9, 1e11, 1e13, 1e15)
ARCHITECTURES = ((16,) * 4, (64,) * 8, (256,) * 32, (1024,) * 64)
CELLS = 1000


@dataclass(frozen=True)
class Load:
    """What a study consists of, by the block sizes that it has chosen."""

    work: float  # seconds on one core
    blocks: int
    units: int  # what is committed: blocks of a cell, merged
    units_of_task: int
    tasks: int
    cells: int
    depth: int


@dataclass(frozen=True)
class Model:
    """Constants of the measured part."""

    fit: Fit
    tasks: Tasks
    sizes: Sizes
    gain: float  # of two threads on this machine

    def load(self, study: wa.studies.Study, widths: tuple[int, ...], workers: int, *, remote: bool) -> Load:
        """Return what a study of one network consists of on so many workers."""
        plan = study.plan()
        target = seconds_of_task(plan, workers, is_remote=remote)
        block = float(costs_of_blocks(plan)[0])
        blocks_of_unit = 2 ** level_of_units(block, target)
        units = plan.n_cells * -(-int(plan.n_blocks[0]) // blocks_of_unit)
        unit = block * min(blocks_of_unit, int(plan.n_blocks[0]))
        units_of_task = min(max(math.ceil(target / unit), 1), MOST_UNITS_OF_TASK)
        work = plan.n_samples * self.fit.seconds(widths)
        blocks = int(plan.n_blocks.sum())
        return Load(work, blocks, units, units_of_task, math.ceil(units / units_of_task), plan.n_cells, len(widths))

    def seconds(self, load: Load, workers: int, *, dask: bool, speed: float = 1.0) -> float:
        """Return the time of a run; ``speed`` is that of a worker beside others on its machine."""
        commit, start = (
            (self.tasks.commit_dask, self.tasks.start_dask) if dask else (self.tasks.commit, self.tasks.start)
        )
        longest = min(math.ceil(load.tasks / workers) * load.units_of_task, load.units)
        computing = longest * (load.work / load.units) / speed
        return start + max(computing, load.units * commit) + load.cells * self.sizes.finish_cell

    def store(self, load: Load) -> float:
        """Return the bytes of the finished store."""
        return load.cells * (self.sizes.store_cell + self.sizes.store_layer * load.depth)

    def journal(self, load: Load) -> float:
        """Return the bytes of the journal at most: a finished node for each cell, and one for each level of a cell."""
        levels = math.log2(max(load.units / load.cells, 1)) + 1
        return (load.cells + levels) * (self.sizes.journal_cell + self.sizes.journal_layer * load.depth)

    def traffic(self, load: Load) -> float:
        """Return the bytes that pass through the scheduler for a unit."""
        return self.sizes.traffic.base + self.sizes.traffic.layer * load.depth


def constants(model: Model) -> str:
    """The constants that the model has from the measurements."""
    tasks, sizes = model.tasks, model.sizes
    rows = [
        ("$a$, seconds a layer", f"{model.fit.layer:.3g}", ""),
        ("$b$, seconds a neuron", f"{model.fit.neuron:.3g}", ""),
        ("$c$, seconds a unit", f"{tasks.commit:.3g}", f"{tasks.commit_dask:.3g}"),
        ("$s$, seconds of start and end", f"{tasks.start:.3g}", f"{tasks.start_dask:.3g}"),
        ("$f$, seconds a cell at the end", f"{sizes.finish_cell:.3g}", ""),
        ("$g/2$, speed of each of two threads", f"{model.gain / 2:.3g}", ""),
    ]
    return table(("constant", "threads", "if different, Dask"), rows)


def saturation(model: Model) -> str:
    """The number of workers beyond which more of them do not help."""
    rows = []
    for name, commit in (("threads of one process", model.tasks.commit), ("Dask", model.tasks.commit_dask)):
        rows.append((name, f"{1e3 * commit:.3g}", *(f"{seconds / commit:,.0f}" for seconds in (1.0, 2.0, 4.0))))
    heads = ("", "ms a unit", "workers, units of 1 s", "workers, units of 2 s", "workers, units of 4 s")
    return (
        "Workers at which the process that commits is busy all the time: beyond them the run gets no faster.\n\n"
        + table(heads, rows)
    )


def check(model: Model, scale: float, turns: int) -> str:
    """Predict runs that no constant comes from, and run them."""
    rows: list[tuple[object, ...]] = []
    for widths in ((48,) * 12, (300,) * 20):
        cost = sum(widths) * 3.5e-10 + len(widths) * 5e-8
        study = angles_study(6, int(scale / 6 / cost), widths)
        for workers in (1, 2):
            speed = model.gain / 2 if workers == 2 else 1.0
            expected = model.seconds(model.load(study, widths, workers, remote=False), workers, dask=False, speed=speed)
            rows.append(_compared(study, widths, f"{workers} threads", expected, turns, _threads(workers)))
        with cluster(2) as client:
            expected = model.seconds(model.load(study, widths, 2, remote=True), 2, dask=True, speed=model.gain / 2)
            rows.append(_compared(study, widths, "Dask, 2 workers", expected, turns, partial(_call, client)))
    heads = ("width x depth", "samples", "workers", "predicted, s", "measured, s", "predicted / measured")
    return (
        "Studies of 6 cells with other networks than those that the constants come from; the least of the turns.\n\n"
        + table(heads, rows)
    )


def _compared(
    study: wa.studies.Study,
    widths: tuple[int, ...],
    name: str,
    expected: float,
    turns: int,
    on: Callable[[Callable[[Any], float]], float],
) -> tuple[object, ...]:
    found = min(on(partial(run_seconds, study)) for _ in range(turns))
    samples = f"{study.plan().n_samples:,}"
    of = f"{widths[0]} x {len(widths)}"
    return of, samples, name, f"{expected:.3g}", f"{found:.3g}", f"{expected / found:.2f}"


def _call(client: Any, run: Callable[[Any], float]) -> float:
    return run(client)


def _threads(number: int) -> Callable[[Callable[[Any], float]], float]:
    def on(run: Callable[[Any], float]) -> float:
        with ThreadPoolExecutor(number) as pool:
            return run(pool)

    return on


def extrapolated(model: Model) -> str:
    """Tables for studies of 10^9 to 10^15 neuron-samples."""
    times, loads = [], []
    for widths in ARCHITECTURES:
        for total in NEURON_SAMPLES:
            samples = max(1, round(total / sum(widths) / CELLS))
            study = angles_study(CELLS, samples, widths)
            of = {workers: model.load(study, widths, workers, remote=True) for workers in WORKERS}
            run = [model.seconds(load, workers, dask=True) for workers, load in of.items()]
            load = of[WORKERS[-1]]
            name = (f"{widths[0]:,} x {len(widths)}", f"$10^{{{round(math.log10(total))}}}$")
            times.append((*name, f"{samples * CELLS:.2g}", duration(load.work), *map(duration, run)))
            busy = max(run[-1] - model.tasks.start_dask - CELLS * model.sizes.finish_cell, 1e-9)
            rate, each = load.units / busy, model.traffic(load)
            loads.append(
                (
                    *name,
                    f"{load.blocks:,}",
                    f"{load.units:,}",
                    f"{load.tasks:,}",
                    f"{rate:.3g}",
                    _bytes(rate * each) + "/s",
                    _bytes(load.units * each),
                    _bytes(model.journal(load)),
                    _bytes(model.store(load)),
                )
            )
    heads = ("width x depth", "neuron-samples", "samples", "on one core", *(f"{n:,} workers" for n in WORKERS))
    more = ("blocks", "units", "tasks", "units/s", "to and from the scheduler", "in all", "journal", "store")
    return (
        f"Run time of a study of {CELLS:,} cells of `simulate_angles` with moments, on Dask with workers as fast as a "
        "core here.\n\n"
        + table(heads, times)
        + f"\n\nThe same studies on {WORKERS[-1]:,} workers: what the committing process, "
        "the scheduler and the disk bear.\n\n" + table((*heads[:2], *more), loads)
    )


def _bytes(number: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.3g} B"
