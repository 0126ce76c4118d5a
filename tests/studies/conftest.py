"""What tests of studies share: blocks of the methods, a user's own method, and processes that run and are lost."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wideangle as wa
from wideangle.statistics import Moments, Total
from wideangle.studies.methods import METHODS
from wideangle.studies.protocol import Block, Wanted

MODULE = '''
"""Samples from a counter, as a user would write them."""

import time

import numpy as np


def uniform(seed, first, n, columns):
    k = np.arange(first * columns, (first + n) * columns, dtype=np.uint64).reshape(n, columns)
    with np.errstate(over="ignore"):
        z = (k + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)).astype(float) * 2.0**-53


def walk(*, scale, seed, first_sample, n_samples, columns=3, pause=0.0):
    if pause:
        time.sleep(pause)
    u = uniform(seed, first_sample, n_samples, columns)
    with np.errstate(divide="ignore"):
        x = -scale * np.log(u)
    x[u < 0.01] = np.nan
    x[u > 0.99] = np.inf
    return {"x": x, "few": u[:, 0] < 0.25}
'''


def walk_table(module: str, **changes: Any) -> dict[str, Any]:
    """Return a study with everything: three cells of 11 blocks, the last one shorter."""
    return {
        "method": f"{module}:walk",
        "samples": 1050,
        "seed": 5,
        "block_size": 100,
        "grid": {"scale": [0.5, 1.0, 3.0]},
        "statistics": {
            "histograms": {"x": [0.0, 10.0, 7]},
            "quantiles": [0.1, 0.5],
            "relative_error": 0.01,
            "samples": True,
        },
        **changes,
    }


@pytest.fixture
def walk(module: str) -> Callable[..., dict[str, Any]]:
    """The function that returns the table of a study of ``walk``, with changes."""
    return lambda **changes: walk_table(module, **changes)


@pytest.fixture(scope="session")
def tables(module: str) -> dict[str, dict[str, Any]]:
    """Studies that differ in what they keep and when they end, by name."""
    return {
        "walk": walk_table(module),
        "angles": {
            "method": "simulate_angles",
            "samples": 2500,
            "seed": 3,
            "block_size": 400,
            "parameters": {"theta0": 0.1},
            "grid": {"width": [8, 16], "depth": [2, 5]},
            "statistics": {"histograms": {"log_sin2": [-12.0, 0.0, 20]}},
        },
        "stop": walk_table(
            module,
            statistics={},
            samples=2950,
            stop={"variable": "few", "standard_error": 0.015, "min_samples": 1},
        ),
    }


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """The function that returns everything in a folder: files by name, folders with empty bytes."""
    return _contents


@pytest.fixture(scope="session")
def undisturbed(
    tables: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, bytes]]:
    """What the stores of the studies hold after one thread ran them, by name."""
    result = {}
    for name, table in tables.items():
        store = tmp_path_factory.mktemp("undisturbed") / "store.zarr"
        with ThreadPoolExecutor(1) as pool:
            wa.studies.run(wa.studies.Study.from_dict(table), store, executor=pool, progress=False)
        result[name] = _contents(store)
    return result


@pytest.fixture(scope="session")
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a module with the method ``walk``, which this process and those that it starts can import."""
    folder = tmp_path_factory.mktemp("methods")
    (folder / "walks_of_tests.py").write_text(MODULE, encoding="utf-8")
    before = os.environ.get("PYTHONPATH")
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = f"{folder}{os.pathsep}{before}" if before else str(folder)
    yield "walks_of_tests"
    sys.path.remove(str(folder))
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """The function that writes a module for one test and returns its name."""
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)

    def write(name: str, text: str) -> str:
        (folder / f"{name}.py").write_text(textwrap.dedent(text), encoding="utf-8")
        sys.modules.pop(name, None)
        return name

    return write


@pytest.fixture
def end_before_results() -> Callable[..., None]:
    """The function that runs a study, as far as the options say, and interrupts it before any results are written."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def end(study: wa.studies.Study, store: Path, **options: Any) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("wideangle.studies.running.write_results", interrupt)
            with pytest.raises(KeyboardInterrupt):
                wa.studies.run(study, store, progress=False, **options)

    return end


@dataclass
class Child:
    """A process that runs a study."""

    pid: int
    answer: Path
    ask: Callable[[Mapping[str, Any]], dict[str, Any]]

    def pause(self, seconds: float) -> None:
        """Let it work."""
        time.sleep(seconds)

    def kill(self) -> None:
        """Kill it, if it is still there."""
        os.kill(self.pid, signal.SIGKILL)  # It stays a zombie until it is waited for.

    def wait(self) -> dict[str, Any]:
        """Return what came of it: ``status``, and ``error``, or ``events``, ``peak`` and ``seconds`` if it was done."""
        result = self.ask({"wait": self.pid})
        if self.answer.exists():
            result |= json.loads(self.answer.read_text(encoding="utf-8"))
        return result


@dataclass
class Children:
    """Starts processes that run studies."""

    ask: Callable[[Mapping[str, Any]], dict[str, Any]]
    folder: Path
    number: int = 0

    def start(self, study: Mapping[str, Any], store: Path, **request: Any) -> Child:
        """Begin to run a study in a process of its own."""
        self.number += 1
        answer = self.folder / f"{self.number}.json"
        found = self.ask({"study": study, "store": str(store), "answer": str(answer), **request})
        return Child(found["pid"], answer, self.ask)

    def run(self, study: Mapping[str, Any], store: Path, **request: Any) -> dict[str, Any]:
        """Run a study in a process of its own to the end."""
        return self.start(study, store, **request).wait()


@pytest.fixture(scope="session")
def children(module: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Children]:
    """Processes that run studies and may be killed, see ``_child.py`` for what can happen to them."""
    del module  # has to be importable
    command = [sys.executable, str(Path(__file__).with_name("_child.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout
        assert "ready" in stdout.readline()

        def ask(request: Mapping[str, Any]) -> dict[str, Any]:
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
            answer: dict[str, Any] = json.loads(stdout.readline())
            return answer

        yield Children(ask, tmp_path_factory.mktemp("answers"))
        stdin.close()


@contextmanager
def _spawned(number: int) -> Iterator[Executor]:
    with ProcessPoolExecutor(number, mp_context=get_context("spawn")) as pool:
        yield pool


@contextmanager
def _dask(number: int, *, processes: bool) -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    options = {
        "processes": processes,
        "n_workers": number,
        "threads_per_worker": 1,
        "dashboard_address": ":0",
        "silence_logs": 50,
    }
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture(scope="session")
def elsewhere() -> dict[str, Callable[[int], AbstractContextManager[Any]]]:
    """Functions that give so many workers that are not threads of this process alone, by name."""
    return {
        "processes": _spawned,
        "Dask threads": partial(_dask, processes=False),
        "Dask processes": partial(_dask, processes=True),
    }


SAMPLES = Wanted(samples=True)


def _run(name: str, parameters: dict[str, Any], first: int, number: int, wanted: Wanted = SAMPLES) -> Block:
    """Return a block of a cell, from parameters that have been pickled, as on a worker."""
    method = METHODS[name]
    prepared = pickle.loads(pickle.dumps(method.prepare(parameters)))
    return method.run(prepared, first, number, 7, wanted)


def _joined(name: str, parameters: dict[str, Any], first: int, sizes: Iterable[int]) -> tuple[dict[str, Any], Any]:
    """Return the samples of blocks one after the other, and the sums of the totals."""
    samples: dict[str, list[Any]] = {}
    totals: dict[str, Total] = {}
    for size in sizes:
        for key, variable in _run(name, parameters, first, size).variables.items():
            if variable.samples is None:
                total = variable.reduced["total"]
                assert isinstance(total, Total)
                totals[key] = totals[key].merge(total) if key in totals else total
            else:
                assert len(variable.samples) == size
                samples.setdefault(key, []).append(variable.samples)
        first += size
    return {key: np.concatenate(parts) for key, parts in samples.items()}, totals


def _assert_pure(name: str, parameters: dict[str, Any], number: int, sizes: tuple[int, ...], first: int = 3) -> None:
    """Compare one block with many, bit by bit."""
    assert sum(sizes) == number
    whole, total = _joined(name, parameters, first, [number])
    parts, totals = _joined(name, parameters, first, sizes)
    assert whole.keys() == parts.keys()
    assert total.keys() == totals.keys()
    assert whole or total
    for key, values in whole.items():
        assert values.tobytes() == parts[key].tobytes(), key
    for key, each in total.items():
        np.testing.assert_array_equal(each.values, totals[key].values, err_msg=key)


def _assert_same_moments(found: Moments, samples: Any) -> None:
    """Compare with the moments of samples, to rounding: of the values, and of sums of powers of the deviations."""
    expected = Moments.from_samples(samples, where=np.isfinite(samples))
    np.testing.assert_array_equal(found.count, expected.count)
    # Deviations are known to a rounding of the values: that is what a sum of their powers can be off by.
    spread = np.sqrt(expected.m2 / np.maximum(expected.count, 1))
    rounding = 1e-13 * (np.abs(expected.mean) + spread)
    for power, field in enumerate(("mean", "m2", "m3", "m4"), start=1):
        counted = expected.count if power > 1 else 1
        # A fourth moment may be far above the square of the second.
        largest = (expected.m4 / np.maximum(expected.count, 1)) ** 0.25
        bound = power * rounding * (largest + rounding) ** (power - 1) * counted
        error = np.abs(getattr(found, field) - getattr(expected, field))
        assert np.all(error[expected.count > 0] <= bound[expected.count > 0]), field


@pytest.fixture
def run() -> Callable[..., Block]:
    """The function that returns a block of a cell."""
    return _run


@pytest.fixture
def assert_pure() -> Callable[..., None]:
    """The function that compares one block with many, bit by bit."""
    return _assert_pure


@pytest.fixture
def assert_same_moments() -> Callable[..., None]:
    """The function that compares moments with those of samples, to rounding."""
    return _assert_same_moments
