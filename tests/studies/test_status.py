"""How far a study is, and its results so far, read from stores of all kinds and conditions."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import wideangle as wa
from wideangle.studies._journal import Journal
from wideangle.studies._store import Store

PARAMETERS = {"theta0": 0.1, "depth": 3}


def study(samples: int = 4000, **options: object) -> wa.studies.Study:
    options = {"block_size": 500, "name": "angles", "grid": {"width": [8, 16, 32]}} | options
    return wa.studies.Study("simulate_angles", samples=samples, seed=1, parameters=PARAMETERS, **options)  # type: ignore[arg-type]


def stopped(path: Path, monkeypatch: pytest.MonkeyPatch, described: wa.studies.Study, commits: int) -> None:
    """Run a study until so many commits are written, and interrupt it there."""
    commit = Journal.commit
    left = [commits]

    def count(self: Journal, results: object, n_blocks: object) -> object:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return commit(self, results, n_blocks)  # type: ignore[arg-type]

    monkeypatch.setattr("wideangle.studies._scheduling._SECONDS_OF_TASK", 1e-9)  # a block in each task
    monkeypatch.setattr(Journal, "commit", count)
    # One thread, so that blocks come in their order.
    with ThreadPoolExecutor(1) as executor, pytest.raises(KeyboardInterrupt):
        wa.studies.run(described, path, executor=executor, progress=False)
    monkeypatch.undo()


def test_a_finished_study(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    described = study()
    results = wa.studies.run(described, path, progress=False)
    found = wa.studies.status(path)
    assert (found.path, found.name, found.identity, found.state) == (path, "angles", described.identity, "complete")
    assert found.cells == {"complete": 3, "partial": 0, "failed": 0, "not begun": 0}
    assert (found.samples_done, found.samples_planned, found.seconds_left) == (12000, 12000, 0.0)
    assert found.is_complete
    assert not found.is_running
    assert "complete" in str(found)
    xr.testing.assert_identical(wa.studies.load(path).load(), results.load())


def test_an_interrupted_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.zarr"
    described = study()
    stopped(path, monkeypatch, described, 3)
    before = snapshot(path)
    found = wa.studies.status(path)
    assert (found.state, len(found.runs), found.runs[0].process) == ("interrupted", 1, os.getpid())
    assert 0 < found.samples_done < found.samples_planned == 12000
    assert found.samples_done % 500 == 0
    assert found.cells["complete"] + found.cells["partial"] + found.cells["not begun"] == 3
    assert found.rate == pytest.approx(found.runs[0].samples / found.runs[0].seconds)
    partly = wa.studies.load(path)
    assert int(partly["n_samples"].sum()) == found.samples_done
    assert snapshot(path) == before, "reading wrote into the store"
    wa.studies.run(described, path, progress=False)
    assert wa.studies.status(path).is_complete


def snapshot(path: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_results_so_far_are_those_of_the_samples_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.zarr"
    described = study(grid={"width": [8]})
    stopped(path, monkeypatch, described, 1)
    partly = wa.studies.load(path)
    n_samples = int(partly["n_samples"][0])
    cell = described.cells[0]
    direct = wa.propagation.simulate_angles(
        wa.MLP((8,) * 3), 0.1, n_samples=n_samples, seed=described.seed_of(cell), n_threads=1
    )
    assert 0 < n_samples < 4000
    assert partly["status"].item() == 1
    np.testing.assert_array_equal(partly["survivors"][0], direct["survivors"])
    np.testing.assert_allclose(partly["log_sin2_mean"][0], direct["mean"], rtol=1e-12)


def test_a_cell_that_ended_by_the_rule_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.zarr"
    described = study(stop={"variable": "log_sin2", "standard_error": 10.0, "min_samples": 500})
    stopped(path, monkeypatch, described, 1)
    found = wa.studies.status(path)
    assert found.cells["complete"] == found.samples_done // 500 > 0
    described = study(samples=4001, stop={"variable": "log_sin2", "standard_error": 1e-9})
    stopped(tmp_path / "t.zarr", monkeypatch, described, 1)
    found = wa.studies.status(tmp_path / "t.zarr")
    assert found.cells["complete"] == 0
    assert found.cells["partial"] == found.samples_done // 500 > 0


def test_failures_are_named(tmp_path: Path, own_module: Callable[[str, str], str]) -> None:
    own_module(
        "brittle",
        "import numpy as np\n\n\ndef f(*, x, first_sample, n_samples, seed):\n"
        "    if x == 2:\n        raise ArithmeticError('two is too much')\n"
        "    return {'y': np.full(n_samples, float(x))}\n",
    )
    described = wa.studies.Study("brittle:f", samples=10, seed=0, grid={"x": [1, 2, 3]})
    with pytest.warns(wa.studies.StudyWarning):
        wa.studies.run(described, tmp_path / "s.zarr", progress=False)
    found = wa.studies.status(tmp_path / "s.zarr")
    assert (found.state, found.cells["failed"], found.cells["complete"]) == ("failed", 1, 2)
    ((cell, parameters, message),) = found.failures
    assert (cell, parameters, message) == (1, "brittle:f, x = 2", "ArithmeticError: two is too much")
    assert "two is too much" in str(found)
    loaded = wa.studies.load(tmp_path / "s.zarr")
    assert loaded["status"].values.tolist() == [0, 2, 0]
    assert loaded["y_mean"].values.tolist()[::2] == [1.0, 3.0]


def test_the_order_of_the_axes_survives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = wa.studies.Study(
        "simulate_angles",
        samples=1000,
        seed=1,
        block_size=500,
        parameters={"theta0": 0.1},
        grid={"width": [8, 16], "depth": [3, 2]},
    )
    stopped(tmp_path / "s.zarr", monkeypatch, described, 1)
    loaded = wa.studies.load(tmp_path / "s.zarr")
    assert loaded["width"].values.tolist() == [8, 8, 16, 16]
    assert wa.studies.Study.from_dict(Store(tmp_path / "s.zarr").study_table()) == described


SLOW = (
    "import sys, wideangle as wa\n"
    "study = wa.studies.Study('simulate_angles', samples=10**12, seed=1, block_size=2**14,"
    " parameters={'theta0': 0.1, 'depth': 3}, grid={'width': [8, 16]})\n"
    "wa.studies.run(study, sys.argv[1], progress=False)\n"
)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_run_of_another_process_and_what_is_left_when_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    with subprocess.Popen([sys.executable, "-c", SLOW, str(path)]) as process:
        try:
            until(lambda: Store(path).exists and wa.studies.status(path).samples_done > 0)
            found = wa.studies.status(path)
            assert (found.state, found.is_running, found.runs[-1].process) == ("running", True, process.pid)
            assert f"running: process {process.pid} on {found.runs[-1].host}" in str(found)
            assert found.cells["partial"] > 0
            first = int(wa.studies.load(path)["n_samples"].sum())
            until(lambda: wa.studies.status(path).samples_done > first)  # reading did not stop it
            until(lambda: wa.studies.status(path).rate > 0.0)
            assert wa.studies.status(path).seconds_left > 60.0
        finally:
            process.send_signal(signal.SIGKILL)
    found = wa.studies.status(path)
    assert (found.state, found.runs[-1].state) == ("interrupted", "interrupted")
    assert found.samples_done >= first
    assert int(wa.studies.load(path)["n_samples"].sum()) == found.samples_done


def test_half_a_transaction_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.zarr"
    stopped(path, monkeypatch, study(), 2)
    before = wa.studies.status(path)
    code = (
        "import os, signal, sqlite3, sys\n"
        "database = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "database.execute('PRAGMA cache_size = 1')\n"
        "database.execute('BEGIN IMMEDIATE')\n"
        "database.execute('CREATE TABLE large (data BLOB)')\n"
        "database.executemany('INSERT INTO large VALUES (zeroblob(5000))', [()] * 500)\n"
        "database.execute('DELETE FROM nodes')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path / "journal.sqlite")], check=False)
    assert (path / "journal.sqlite-journal").stat().st_size > 0
    assert wa.studies.status(path) == before
    assert int(wa.studies.load(path)["n_samples"].sum()) == before.samples_done


@pytest.mark.parametrize("read", [wa.studies.status, wa.studies.load, wa.studies.write_report])
def test_what_is_no_store_is_refused(read: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read(tmp_path / "none.zarr")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="must be a folder, got the file"):
        read(tmp_path / "file")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no study"):
        read(tmp_path / "folder")
    xr.Dataset({"a": 1}).to_zarr(tmp_path / "other.zarr", zarr_format=2)
    with pytest.raises(FileNotFoundError, match="another Zarr group"):
        read(tmp_path / "other.zarr")
    assert not (tmp_path / "none.zarr").exists()


@pytest.mark.parametrize("read", [wa.studies.status, wa.studies.load, wa.studies.write_report])
def test_a_damaged_journal_is_named(
    read: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.zarr"
    stopped(path, monkeypatch, study(), 2)
    (path / "journal.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(wa.studies.StoreError, match=r"journal.sqlite is damaged.*--repair"):
        read(path)


def test_a_bit_that_flipped_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.zarr"
    stopped(path, monkeypatch, study(), 2)
    with sqlite3.connect(path / "journal.sqlite") as database:
        ((data,),) = database.execute("SELECT data FROM nodes LIMIT 1").fetchall()
        wrong = data[:900] + bytes([data[900] ^ 1]) + data[901:]
        database.execute("UPDATE nodes SET data = ? WHERE data = ?", (wrong, data))
    database.close()
    with pytest.raises(wa.studies.StoreError, match="damaged: the results of cell"):
        wa.studies.load(path)
    wa.studies.run(study(), tmp_path / "t.zarr", progress=False)
    file = next((tmp_path / "t.zarr" / "log_sin2_mean").glob("[0-9]*"))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(wa.studies.StoreError, match="log_sin2_mean"):
        wa.studies.load(tmp_path / "t.zarr")
    assert wa.studies.load(tmp_path / "t.zarr", verify=False).sizes["cell"] == 3


def test_arguments(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="verify"):
        wa.studies.load(tmp_path, verify="yes")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("column", "value"),
    [("seconds", None), ("samples", "many"), ("state", b"running"), ("started", None), ("process", 0.5)],
)
def test_runs_that_are_not_what_was_written(column: str, value: object, tmp_path: Path) -> None:
    """As in a journal that ends too soon, in which SQLite finds other rows."""
    store = tmp_path / "store.zarr"
    wa.studies.run(study(), store, progress=False, max_time=1e-9).close()
    journal = Journal(store / "journal.sqlite")
    for statement in ("ALTER TABLE runs RENAME TO old", "CREATE TABLE runs AS SELECT * FROM old"):
        journal._database.execute(statement)  # without constraints
    journal._database.execute(f"UPDATE runs SET {column} = ?", (value,))
    with pytest.raises(wa.studies.StoreError, match=r"damaged \(run 1 is not what was written\)"):
        journal.runs()
    journal.close()
    with pytest.raises(wa.studies.StoreError, match="damaged"):
        wa.studies.status(store)
