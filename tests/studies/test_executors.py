"""Executors that take no tasks, are closed or have no workers: clear messages, if possible before the work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from wideangle.studies import Study, run, status
from wideangle.studies._executors import NoWorkersWarning


def angles(**changes: Any) -> Study:
    options: dict[str, Any] = {"samples": 1000, "seed": 1, "block_size": 100, "parameters": {"theta0": 0.3, "depth": 2}}
    return Study("simulate_angles", grid={"width": [6, 12]}, **{**options, **changes})


@pytest.mark.parametrize("kind", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_an_executor_that_was_shut_down(kind: Callable[[int], Executor], tmp_path: Path) -> None:
    with kind(1) as pool:
        pass
    with pytest.raises(ValueError, match=r"executor must take tasks, got one that was shut down, <.*>; give a new one"):
        run(angles(), tmp_path / "store", executor=pool, progress=False)
    assert not (tmp_path / "store").exists()


class Closing(ThreadPoolExecutor):
    """Is shut down during the run."""

    n_tasks = 0

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See Executor.submit."""
        self.n_tasks += 1
        if self.n_tasks == 3:
            self.shutdown()
        return super().submit(function, *args, **kwargs)


def test_an_executor_that_is_shut_down_during_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wideangle.studies._scheduling._SECONDS_OF_TASK", 1e-9)
    message = r"executor takes no tasks \(RuntimeError: cannot schedule new futures after shutdown\); .*kept: run again"
    with Closing(2) as pool, pytest.raises(RuntimeError, match=message):
        run(angles(), tmp_path / "store", executor=pool, progress=False)
    # What it had taken was finished, and is kept.
    assert status(tmp_path / "store").samples_done == 200


class Immediate:
    """Returns results in place of futures."""

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Any:
        """Do it at once."""
        return function(*args)


def test_an_executor_without_futures(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"executor must return a concurrent.futures.Future from submit, got \[Unit"):
        run(angles(), tmp_path / "store", executor=Immediate(), progress=False)


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A Dask cluster in this process, without workers yet."""
    distributed = pytest.importorskip("distributed")
    options = {"processes": False, "n_workers": 0, "threads_per_worker": 1, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options, silence_logs=50) as result:
        yield result


def test_a_client_that_was_closed(cluster: Any, tmp_path: Path) -> None:
    with cluster.get_client() as client:
        pass
    with pytest.raises(ValueError, match=r"executor must be an open Dask client, got a closed one, <Client.*; open a"):
        run(angles(), tmp_path / "store", executor=client, progress=False)
    assert not (tmp_path / "store").exists()


def test_a_client_that_is_asynchronous(cluster: Any, tmp_path: Path) -> None:
    async def try_it() -> None:
        client = await open_client(cluster.scheduler_address, asynchronous=True)
        with pytest.raises(ValueError, match=r"must be a synchronous Dask client, got .*; leave out asynchronous=True"):
            run(angles(), tmp_path / "store", executor=client, progress=False)
        await client.close()

    import asyncio

    import distributed

    open_client: Any = distributed.Client
    asyncio.run(try_it())
    assert not (tmp_path / "store").exists()


def test_a_client_that_is_closed_during_the_run(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with cluster.get_client() as client:
        threading.Timer(0.5, client.close).start()
        with pytest.raises(RuntimeError, match=r"the executor lost its workers .*kept: run again with a new one"):
            run(angles(), tmp_path / "store", executor=client, progress=False)


def test_a_cluster_whose_workers_come_late(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wideangle.studies._executors._SECONDS_WITHOUT_WORKERS", 0.3)
    monkeypatch.setattr("wideangle.studies._scheduling._RECORD", 0.05)
    with cluster.get_client() as client:
        threading.Timer(1.5, cluster.scale, [1]).start()
        with pytest.warns(NoWorkersWarning, match=r"inproc:.* has had no workers for 0.3 s; .*`dask worker ") as caught:
            results = run(angles(), tmp_path / "store", executor=client, progress=False)
    assert results.status.values.tolist() == [0, 0]
    assert len(caught) == 1  # It is said once.
    assert caught[0].filename == __file__


def test_a_cluster_that_stays_without_workers(cluster: Any, tmp_path: Path) -> None:
    """Nothing that was sent will come back, so that the run ends when its time is up."""
    with cluster.get_client() as client:
        results = run(angles(), tmp_path / "store", executor=client, progress=False, max_time=0.3)
    assert results.status.values.tolist() == [3, 3]
