"""What a study costs beside its samples: tasks, cells, bytes, memory and workers."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import wideangle as wa
from bench.capacity_methods import nothing
from bench.tables import table
from wideangle.studies import running
from wideangle.studies._results import write_results

THETAS = (0.1, 1.0)
VALUES = 100  # of a task, in the model
WAITING = 32  # tasks on their way, as many workers have them


@dataclass(frozen=True)
class Traffic:
    """Bytes of a task, there and back, for ``layers`` layers of ``simulate_angles``: ``base + layer * layers``."""

    base: float
    layer: float


@dataclass(frozen=True)
class Tasks:
    """Seconds of a task in the process that commits, and of a run without work."""

    commit: float
    commit_dask: float
    start: float
    start_dask: float
    text: str


@dataclass(frozen=True)
class Sizes:
    """Bytes by cell: ``cell + layer * layers`` in the store and in the journal, and seconds a cell takes at the end."""

    store_cell: float
    store_layer: float
    journal_cell: float
    journal_layer: float
    finish_cell: float
    traffic: Traffic
    text: str


def angles_study(
    n_cells: int, samples: int, widths: tuple[int, ...], statistics: Mapping[str, Any] | None = None
) -> wa.studies.Study:
    """Return a study of ``simulate_angles`` whose cells differ in the angle."""
    return wa.studies.Study(
        "simulate_angles",
        samples=samples,
        seed=1,
        parameters={"widths": list(widths)},
        grid={"theta0": {"linspace": [*THETAS, n_cells]}},
        statistics=statistics,
    )


def run_seconds(study: wa.studies.Study, executor: Any = None) -> float:
    """Wall time of a run into a new store."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        wa.studies.run(study, Path(folder) / "store.zarr", executor=executor, progress=False).close()
        return time.perf_counter() - start


def task_seconds(values: int, few: int, many: int, turns: int, executor: Any = None) -> tuple[float, float]:
    """Return the seconds of a task without work, and those of a run without tasks: the least of the turns."""
    studies = [_empty_study(values, number) for number in (few, many)]
    run_seconds(studies[0], executor)
    short, long = (min(run_seconds(study, executor) for _ in range(turns)) for study in studies)
    # Where noise is larger than the difference, all of the longer run counts.
    each = (long - short) / (many - few) if long > short else long / many
    return each, max(short - few * each, 0.0)


def _empty_study(values: int, tasks: int) -> wa.studies.Study:
    return wa.studies.Study(nothing, samples=tasks, seed=1, parameters={"values": values}, block_size=1)


def measure_tasks(turns: int, n_workers: tuple[tuple[int, int], ...], tasks: int) -> Tasks:
    """Measure tasks on threads and on workers of Dask."""
    rows = []
    with ThreadPoolExecutor(WAITING // 2) as pool:
        for values in (1, 10, 100, 1000):
            each, start = task_seconds(values, tasks // 8, tasks, turns, pool)
            rows.append((f"{values:,}", f"{1e3 * each:.3g}", f"{1.0 / each:,.0f}"))
            if values == VALUES:
                local = each, start
    text = (
        f"A task without work on threads of this process, {WAITING} on their way: sent, its result merged with its "
        "neighbours' and committed with `fsync`, by the number of values whose moments it brings.\n\n"
        + table(("values", "ms a task", "tasks/s"), rows)
    )
    dask, dask_text = _with_dask(turns, n_workers, tasks)
    return Tasks(local[0], dask[0], local[1], dask[1], f"{text}\n\n{dask_text}")


def _with_dask(turns: int, n_workers: tuple[tuple[int, int], ...], tasks: int) -> tuple[tuple[float, float], str]:
    rows = []
    found = (float("nan"), float("nan"))
    for processes, threads in n_workers:
        with cluster(processes, threads) as client:
            trips = sorted(_timed(lambda: client.submit(abs, -1, pure=False).result()) for _ in range(50))
            start = time.perf_counter()
            client.gather(client.map(abs, range(tasks), pure=False))
            bare = (time.perf_counter() - start) / tasks
            found = task_seconds(VALUES, tasks // 8, tasks, turns, client)
        each = (f"{1.0 / bare:,.0f}", f"{1e3 * found[0]:.3g}", f"{1 / found[0]:,.0f}")
        rows.append((f"{processes} of {threads}", f"{1e3 * trips[25]:.3g}", *each))
    heads = ("workers", "round trip, ms (median)", "Dask's own tasks/s", "ms a task of a study", "tasks/s of a study")
    return found, (
        "The same with `dask.distributed` (`LocalCluster`: processes of so many threads; scheduler and committing "
        f"process share an interpreter, which they do not on a cluster), {VALUES} values a task. Workers share the "
        "cores of this machine with both. The model takes the last row.\n\n" + table(heads, rows)
    )


class cluster:  # noqa: N801 - used as a function
    """Workers of Dask on this machine that have imported what they need."""

    def __init__(self, n_workers: int, threads: int = 1) -> None:
        self.form = {"n_workers": n_workers, "threads_per_worker": threads}

    def __enter__(self) -> Any:
        from distributed import Client, LocalCluster

        self._cluster = LocalCluster(**self.form, dashboard_address=":0")  # type: ignore[no-untyped-call]
        self._client = Client(self._cluster)  # type: ignore[no-untyped-call]
        self._client.run(_warm)
        return self._client

    def __exit__(self, *_: object) -> None:
        self._client.close()  # type: ignore[no-untyped-call]
        self._cluster.close()


def _warm() -> None:
    run_seconds(angles_study(1, 64, (8,)))


def _timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def measure_threads(pairs: int, scale: float) -> tuple[float, str]:
    """Return what two threads gain over one, and its table."""
    rows, gains = [], []
    for widths in ((64,) * 8, (256,) * 32):
        cost = wa.studies.METHODS["simulate_angles"].cost(
            wa.studies.METHODS["simulate_angles"].prepare({"widths": list(widths), "theta0": 0.3})
        )
        study = angles_study(8, int(scale / 8 / (cost or 1.0)), widths)
        ratios, times = [], []
        for _ in range(pairs + 1):
            one, two = (_on_threads(study, number) for number in (1, 2))
            ratios.append(one / two)
            times.append((one, two))
        ratios, times = sorted(ratios[1:]), times[1:]
        gains.append(ratios[len(ratios) // 2])
        one, two = (min(column) for column in zip(*times, strict=True))
        spread = f"{gains[-1]:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        rows.append((f"{widths[0]} x {len(widths)}", f"{one:.3g}", f"{two:.3g}", spread))
    text = "Whole runs on one thread and on two, in pairs: the least times, and the median of the ratios.\n\n" + table(
        ("width x depth", "one thread, s", "two threads, s", "speed-up"), rows
    )
    return sum(gains) / len(gains), text


def _on_threads(study: wa.studies.Study, number: int) -> float:
    with ThreadPoolExecutor(number) as pool:
        return run_seconds(study, pool)


class Recording(ThreadPoolExecutor):
    """Threads that note how many bytes tasks and their results would be on a network."""

    def __init__(self) -> None:
        super().__init__(1)
        self.sizes: list[int] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        def noted() -> Any:
            result = fn(*args, **kwargs)
            self.sizes.append(len(pickle.dumps(args)) + len(pickle.dumps(result)))
            return result

        return super().submit(noted)


def case(n_cells: int, samples: int, widths: list[int], statistics: dict[str, Any]) -> dict[str, float]:
    """Run a study in this process and return all that can be seen of it."""
    found: dict[str, float] = {}
    write = write_results

    def watched(place: Any, *rest: Any, **named: Any) -> None:
        found["journal"] = sum(file.stat().st_size for file in place.path.glob("journal*"))
        found["before"] = time.perf_counter()
        write(place, *rest, **named)
        found["finish"] = time.perf_counter() - found.pop("before")

    found["study"] = _timed(lambda: angles_study(n_cells, samples, tuple(widths), statistics).plan())
    study = angles_study(n_cells, samples, tuple(widths), statistics)
    _warm()
    with patch.object(running, "write_results", watched), tempfile.TemporaryDirectory() as folder, Recording() as pool:
        place = Path(folder) / "store.zarr"
        start = time.perf_counter()
        wa.studies.run(study, place, executor=pool, progress=False).close()
        found["run"] = time.perf_counter() - start
        found["store"] = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
        found["traffic"] = sum(pool.sizes) / len(pool.sizes)
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM"):
            found["peak"] = 1024 * float(line.split()[1])
    return found


def fresh_case(n_cells: int, samples: int, widths: tuple[int, ...]) -> dict[str, float]:
    """Return :func:`case` from a process of its own, so that memory is that of this study alone."""
    call = f"case({n_cells}, {samples}, {list(widths)}, {{}})"
    code = f"import json; from bench.capacity_runs import case; print(json.dumps({call}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure_cells(numbers: tuple[int, ...], samples: tuple[int, ...]) -> tuple[Sizes, str]:
    """Measure what cells, layers and samples cost in time, bytes and memory."""
    rows, cells = [], []
    for number in numbers:
        found = fresh_case(number, 16, (16,) * 8)
        cells.append(found)
        rows.append(
            (
                f"{number:,}",
                f"{found['study']:.3g}",
                f"{found['run'] - found['finish']:.3g}",
                f"{found['finish']:.3g}",
                f"{found['journal'] / 1e6:.3g}",
                f"{found['store'] / 1e6:.3g}",
                f"{found['peak'] / 1e6:.0f}",
            )
        )
    heads = (
        "cells",
        "description and plan, s",
        "tasks and commits, s",
        "writing the Zarr, s",
        "journal, MB",
        "store, MB",
        "peak memory, MB",
    )
    text = (
        "Studies of 16 samples a cell, so that cells are all that costs (8 layers, two variables, moments), in fresh "
        "processes.\n\n" + table(heads, rows)
    )
    finish = (cells[-1]["finish"] - cells[0]["finish"]) / (numbers[-1] - numbers[0])
    sizes, size_text = _sizes(numbers[0], 4 * numbers[0], finish)
    memory = []
    for number in samples:
        found = fresh_case(4, number, (16,) * 4)
        memory.append((f"{4 * number:,}", f"{found['run']:.3g}", f"{found['peak'] / 1e6:.0f}"))
    memory_text = "Memory by the number of samples (4 cells of width 16 and depth 4, one thread).\n\n" + table(
        ("samples", "run, s", "peak memory, MB"), memory
    )
    return sizes, "\n\n".join((text, size_text, memory_text))


def _sizes(few: int, many: int, finish: float) -> tuple[Sizes, str]:
    """Measure bytes of a cell by differences of two studies."""
    variants: tuple[tuple[str, int, dict[str, Any]], ...] = (
        ("8 layers, moments", 8, {}),
        ("64 layers, moments", 64, {}),
        ("8 layers, and a histogram of 100 bins", 8, {"histograms": {"log_sin2": [-12.0, 0.0, 100]}}),
        ("8 layers, and 3 quantiles", 8, {"quantiles": [0.05, 0.5, 0.95]}),
        ("8 layers, and the 256 samples", 8, {"samples": True}),
    )
    rows, found = [], {}
    for text, depth, statistics in variants:
        small, large = (case(number, 256, [16] * depth, statistics) for number in (few, many))
        each = {key: (large[key] - small[key]) / (many - few) for key in ("journal", "store")}
        found[text] = each | {"traffic": case(1, 256, [16] * depth, statistics)["traffic"]}
        rows.append((text, *(f"{found[text][key]:,.0f}" for key in ("store", "journal", "traffic"))))
    short, long = (found[variants[k][0]] for k in (0, 1))
    slope = {key: (long[key] - short[key]) / 56 for key in short}
    base = {key: short[key] - 8 * slope[key] for key in short}
    text = (
        "Bytes by the statistics wanted: of a cell, and of a unit on the network, a task with its result.\n\n"
        + table(("", "store, bytes a cell", "journal, bytes a cell", "network, bytes a unit"), rows)
    )
    traffic = Traffic(base["traffic"], slope["traffic"])
    return Sizes(base["store"], slope["store"], base["journal"], slope["journal"], finish, traffic, text), text
