"""Workers that are killed, clocks that jump, and memory that does not grow."""

from __future__ import annotations

import itertools
import os
import sqlite3
import threading
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import tqdm.std

import wideangle as wa
from wideangle.studies._journal import Journal
from wideangle.studies._tree import Node, divided
from wideangle.studies.study import Study

Contents = Callable[[Path], dict[str, bytes]]
SUICIDE = """
import os
import pathlib
import signal
import numpy as np

def method(*, folder, seed, first_sample, n_samples):
    mark = pathlib.Path(folder, str(first_sample))
    if first_sample % 300 == 0 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"x": np.arange(first_sample, first_sample + n_samples, dtype=float)}
"""


def suicidal(own_module: Callable[[str, str], str], name: str, folder: Path) -> Study:
    own_module(name, SUICIDE)
    folder.mkdir()
    return Study(f"{name}:method", samples=1050, seed=1, block_size=100, parameters={"folder": str(folder)})


def in_peace(study: Study, folder: Path, store: Path, contents: Contents) -> dict[str, bytes]:
    for first in range(0, study.samples, 100):
        (folder / str(first)).touch()
    wa.studies.run(study, store, progress=False).close()
    return contents(store)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of the sockets of workers that are killed
def test_killed_dask_workers(
    own_module: Any, elsewhere: Any, contents: Contents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = os.pathsep.join([str(tmp_path / "modules"), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    study = suicidal(own_module, "suicidal_on_dask", tmp_path / "marks")
    with elsewhere["Dask processes"](2) as client:
        wa.studies.run(study, tmp_path / "store", executor=client, progress=False).close()
    assert len(list((tmp_path / "marks").iterdir())) == 4
    assert contents(tmp_path / "store") == in_peace(study, tmp_path / "marks", tmp_path / "other", contents)


def test_killed_processes_of_a_pool(own_module: Any, elsewhere: Any, contents: Contents, tmp_path: Path) -> None:
    study = suicidal(own_module, "suicidal_in_pool", tmp_path / "marks")
    n_broken = 0
    for _ in range(5):
        with elsewhere["processes"](1) as pool:
            try:
                wa.studies.run(study, tmp_path / "store", executor=pool, progress=False).close()
                break
            except RuntimeError as error:
                assert "everything that was finished is kept: run again with a new one" in str(error)  # noqa: PT017
                n_broken += 1
    assert n_broken == 4
    assert contents(tmp_path / "store") == in_peace(study, tmp_path / "marks", tmp_path / "other", contents)


def test_clocks_that_jump(
    tables: Any, undisturbed: Any, children: Any, contents: Contents, walk: Any, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    answer = children.run(tables["walk"], store, threads=2, clock=True, options={"progress": True, "max_time": 100.0})
    assert not answer["error"]
    assert contents(store) == undisturbed["walk"]

    table = walk(parameters={"pause": 0.1}, grid={"scale": [1.0]}, samples=10_000)
    answer = children.run(table, tmp_path / "other", threads=1, clock=True, options={"max_time": 0.5})
    assert not answer["error"]
    assert 0.5 <= answer["seconds"] < 8.0  # The whole would take 10 s, and by its clock it is an hour or a day.
    journal = Journal(tmp_path / "other" / "journal.sqlite")
    (record,) = journal.runs()
    journal.close()
    assert 0.5 <= record.seconds < 8.0
    assert record.samples >= 400


def test_rates_on_the_bar_come_from_a_clock_that_is_never_set(
    walk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = {"now": 1e9}

    def jumping() -> float:
        state["now"] -= 1000.0
        return state["now"]

    monkeypatch.setattr(tqdm.std, "time", jumping)
    monkeypatch.setattr(time, "time", jumping)
    study = Study.from_dict(walk(parameters={"pause": 0.02}))
    wa.studies.run(study, tmp_path / "store", progress=True).close()
    shown = capsys.readouterr().err
    assert "3.15k/3.15k" in shown
    assert "-" not in shown.split("|")[-1]


MEMORY = {
    "samples": 0,
    "block_size": 10,
    "grid": {"scale": [1.0]},
    "statistics": {"histograms": {"x": [0.0, 9.0, 2000]}},
}


def peak(children: Any, walk: Any, store: Path, n_blocks: int) -> int:
    answer = children.run(walk(**{**MEMORY, "samples": 10 * n_blocks}), store, threads=2)
    assert not answer["error"]
    return int(answer["peak"])


def test_memory_does_not_grow_with_blocks(children: Any, walk: Any, tmp_path: Path) -> None:
    # A block comes to 3 * 2000 counts, 48 kB, so that 360 of them kept would be 17 MB.
    few, many = (peak(children, walk, tmp_path / str(n), n) for n in (40, 400))
    assert many - few < 8e6


def test_memory_of_the_blocks_that_wait() -> None:
    tracemalloc.start()
    first = list(itertools.islice(divided(Node(50, 0), 3, 2**50 - 7), 3))
    assert tracemalloc.get_traced_memory()[1] < 1e5
    tracemalloc.stop()
    assert first == [Node(3, 0), Node(3, 1), Node(3, 2)]


def test_the_journal_holds_few_rows(walk: Any, tmp_path: Path) -> None:
    study = Study.from_dict(walk(**{**MEMORY, "samples": 10 * 300, "grid": {"scale": [1.0, 2.0]}}))
    rows: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            time.sleep(0.005)
            if (tmp_path / "store" / "journal.sqlite").exists():
                database = sqlite3.connect(tmp_path / "store" / "journal.sqlite", timeout=10.0)
                rows.extend(n for _, n in database.execute("SELECT cell, count(*) FROM nodes GROUP BY cell"))
                database.close()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(2) as pool:
            wa.studies.run(study, tmp_path / "store", executor=pool, progress=False, max_time=4.0).close()
    finally:
        over.set()
        watcher.join()
    assert len(rows) > 5
    # One for each bit of the number of blocks, and what is on its way.
    assert max(rows) <= 9 + 2 * 2
