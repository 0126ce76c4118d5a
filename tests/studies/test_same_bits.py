"""One study run in many ways: all files of the finished store are the same, byte by byte, and none is left over."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest

import wideangle as wa
from wideangle.studies.study import Study

Contents = Callable[[Path], dict[str, bytes]]


class Shuffled(Executor):
    """Runs nothing until somebody waits, and then a task at random of those that it has."""

    _max_workers = 6

    def __init__(self) -> None:
        self.random = random.Random(1)
        self.pool = ThreadPoolExecutor(1)
        self.waiting: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See Executor.submit."""
        future: Future[Any] = Future()
        self.waiting.append((future, lambda: function(*args, **kwargs)))
        self.pool.submit(self.run_one)
        return future

    def run_one(self) -> None:
        """Run one of the tasks that wait, after others have joined them."""
        time.sleep(0.01)
        future, call = self.waiting.pop(self.random.randrange(len(self.waiting)))
        if future.set_running_or_notify_cancel():
            future.set_result(call())

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See Executor.shutdown."""
        self.pool.shutdown(wait=wait, cancel_futures=cancel_futures)


class Twice(ThreadPoolExecutor):
    """Runs every third task twice, at the same time if it can."""

    number = 0

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See Executor.submit."""
        self.number += 1
        if self.number % 3 == 0:
            super().submit(function, *args, **kwargs)
        return super().submit(function, *args, **kwargs)


WAYS: dict[str, Callable[[], Any]] = {
    "one thread": lambda: ThreadPoolExecutor(1),
    "two threads": lambda: ThreadPoolExecutor(2),
    "five threads": lambda: ThreadPoolExecutor(5),
    "shuffled": Shuffled,
    "twice": lambda: Twice(3),
}


@pytest.mark.parametrize("way", [*WAYS, "processes", "Dask threads", "Dask processes"])
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of Dask's own sockets
def test_any_executor_gives_the_same_bytes(
    way: str,
    elsewhere: dict[str, Any],
    tables: dict[str, dict[str, Any]],
    undisturbed: dict[str, dict[str, bytes]],
    contents: Contents,
    tmp_path: Path,
) -> None:
    with WAYS[way]() if way in WAYS else elsewhere[way](3) as executor:
        for name, table in tables.items():
            wa.studies.run(Study.from_dict(table), tmp_path / name, executor=executor, progress=False)
            assert contents(tmp_path / name) == undisturbed[name], name


def test_default_gives_the_same_bytes(
    tables: dict[str, dict[str, Any]], undisturbed: dict[str, dict[str, bytes]], contents: Contents, tmp_path: Path
) -> None:
    for name, table in tables.items():
        wa.studies.run(Study.from_dict(table), tmp_path / name, progress=False)
        assert contents(tmp_path / name) == undisturbed[name], name


def test_studies_have_several_blocks_and_the_rule_ends_some(
    undisturbed: dict[str, dict[str, bytes]], tables: Any
) -> None:
    blocks = {name: Study.from_dict(table).plan().n_blocks.tolist() for name, table in tables.items()}
    assert blocks == {"walk": [11] * 3, "angles": [7] * 4, "stop": [30] * 3}
    for name, files in undisturbed.items():
        assert {key for key in files if key.startswith(".")} == {".zattrs", ".zgroup", ".zmetadata"}, name
    n_samples = np.frombuffer(numcodecs.Zstd().decode(undisturbed["stop"]["n_samples/0"]), dtype=np.int64)
    assert np.all((n_samples > 100) & (n_samples < tables["stop"]["samples"]))


class Slow(ThreadPoolExecutor):
    """Takes its time."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See Executor.submit."""
        super().submit(time.sleep, 0.02)
        return super().submit(function, *args, **kwargs)


def test_stopped_and_resumed_gives_the_same_bytes(
    tables: dict[str, dict[str, Any]], undisturbed: dict[str, dict[str, bytes]], contents: Contents, tmp_path: Path
) -> None:
    study, done = Study.from_dict(tables["walk"]), [0]
    while done[-1] < 3 * 1050:
        with Slow(1) as pool:
            wa.studies.run(study, tmp_path / "store", executor=pool, progress=False, max_time=0.5)
            with wa.studies.run(study, tmp_path / "store", executor=pool, progress=False, max_time=1e-9) as results:
                done.append(int(results.n_samples.sum()))
                assert len(results.status) == 3
        assert len(done) < 40
    assert len(done) > 2
    assert done == sorted(done)
    assert contents(tmp_path / "store") == undisturbed["walk"]


def test_small_tasks_give_the_same_bytes(
    tables: dict[str, dict[str, Any]],
    undisturbed: dict[str, dict[str, bytes]],
    contents: Contents,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Usually a cell of these is one task, merged on the worker.
    monkeypatch.setattr("wideangle.studies._scheduling._SECONDS_OF_TASK", 1e-9)
    wa.studies.run(Study.from_dict(tables["angles"]), tmp_path / "store", progress=False)
    assert contents(tmp_path / "store") == undisturbed["angles"]


# Longer than the others, so that a run is killed many times on its way.
KILLED: dict[str, dict[str, Any]] = {
    "walk": {"parameters": {"pause": 0.04}},
    "stop": {"parameters": {"pause": 0.02}},
    "angles": {"samples": 2_000_000, "block_size": 4096},
}


def samples_done(store: Path) -> int:
    try:
        return wa.studies.status(store).samples_done
    except FileNotFoundError:  # It was killed before there was one.
        return 0


@pytest.mark.parametrize("name", KILLED)
def test_killed_twenty_times_gives_the_same_bytes(
    name: str, tables: dict[str, dict[str, Any]], contents: Contents, children: Any, tmp_path: Path
) -> None:
    table, store, instants = tables[name] | KILLED[name], tmp_path / "store", random.Random(name)
    with wa.studies.run(Study.from_dict(table), tmp_path / "undisturbed", progress=False) as results:
        total = int(results.n_samples.sum())
    done = [0]
    for life in range(20):
        child = children.start(table, store, threads=2)
        end = time.monotonic() + 60.0
        # Half of them may be killed before they get on, as they start, read and write.
        while life % 2 and samples_done(store) == done[-1] < total and time.monotonic() < end:
            child.pause(0.002)
        child.pause(instants.uniform(0.0, 0.05 if life % 2 else 0.25))
        child.kill()
        assert child.wait()["status"] in (-9, 0)
        done.append(samples_done(store))
    assert done == sorted(done)
    assert len({number for number in done if 0 < number < total}) > 3, done
    assert not children.run(table, store, threads=2)["error"]
    assert contents(store) == contents(tmp_path / "undisturbed")
