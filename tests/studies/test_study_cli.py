"""The commands of ``wideangle study``."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import xarray as xr

import wideangle as wa
from wideangle.cli import main
from wideangle.cli.studies import seconds

STUDY = """
name = "a few angles"
method = "simulate_angles"
samples = {samples}
seed = 1
block_size = {block_size}

[parameters]
theta0 = 0.1
depth = 3

[grid]
width = [8, 16]
"""


class Ran:
    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        self.code = stopped.value.code or 0
        self.out, self.err = capsys.readouterr()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "angles.toml"
    path.write_text(STUDY.format(samples=2000, block_size=1000))
    return path


def test_plan(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran = Ran(capsys, "study", "plan", file)
    assert (ran.code, ran.err) == (0, "")
    assert "a few angles" in ran.out
    assert "2 cells, 4000 samples in 4 blocks" in ran.out
    assert "time on one core" in ran.out
    assert "cores of this machine" in ran.out
    assert re.search(r"^ +1 +2 +1000 .*theta0 = 0.1, depth = 3, width = 16$", ran.out, re.MULTILINE)
    header, *rows = Ran(capsys, "study", "plan", file, "--blocks").out.splitlines()
    assert header.split() == ["cell", "block", "first", "sample", "samples"]
    assert [tuple(map(int, row.split())) for row in rows] == [
        (0, 0, 0, 1000),
        (0, 1, 1000, 1000),
        (1, 0, 0, 1000),
        (1, 1, 1000, 1000),
    ]
    assert not file.with_suffix(".zarr").exists()


def test_run_status_report(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = file.with_suffix(".zarr")
    ran = Ran(capsys, "study", "run", file, "--threads", 1)
    assert (ran.code, ran.err) == (0, "")
    assert "2 complete, 0 partial" in ran.out
    expected = wa.studies.run(wa.studies.Study.from_toml(file), tmp_path / "again.zarr", progress=False)
    with xr.open_zarr(store, chunks=None) as written:
        xr.testing.assert_identical(written.load(), expected.load())
    for given in (file, store):
        ran = Ran(capsys, "study", "status", given, "--watch", 1)
        assert (ran.code, ran.out.count("4000 samples"), ran.err) == (0, 1, "")
    ran = Ran(capsys, "study", "report", file)
    assert (ran.code, ran.out.strip()) == (0, f"wrote {tmp_path / 'angles-report.html'}")
    ran = Ran(capsys, "study", "report", store, "--out", tmp_path / "page.html")
    assert (tmp_path / "page.html").read_bytes() == (tmp_path / "angles-report.html").read_bytes()
    assert "is there" not in Ran(capsys, "study", "run", file).err
    assert "complete" in Ran(capsys, "study", "resume", store).out
    file.write_text(file.read_text().replace("seed = 1", "seed = 2"))
    assert "describes another study now" in Ran(capsys, "study", "status", file).err
    ran = Ran(capsys, "study", "run", file)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "holds another study (seed is 1 there, 2 here)" in ran.err


def test_time_that_is_up_and_going_on(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wideangle.studies._scheduling._SECONDS_OF_TASK", 0.05)
    file.write_text(STUDY.format(samples=10**12, block_size=2**15))
    ran = Ran(capsys, "study", "run", file, "--max-time", "0.3s", "--progress")
    assert ran.code == 0
    assert "stopped, after 1 run" in ran.out
    assert f"go on with: wideangle study resume {file}" in ran.out
    assert "sample/s" in ran.err
    ran = Ran(capsys, "study", "resume", file.with_suffix(".zarr"), "--max-time", "0.3s", "--no-progress")
    assert (ran.code, ran.err) == (0, "")
    assert "stopped, after 2 runs" in ran.out
    ran = Ran(capsys, "study", "run", file, "--max-time", "0.1s")
    assert "is there: going on with it" in ran.err


def test_commands_to_go_on_are_those_of_a_shell(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my studies").mkdir()
    named = file.rename(tmp_path / "my studies" / "angles; of $HOME.toml")
    store = tmp_path / "my studies" / "its store.zarr"
    ran = Ran(capsys, "study", "run", named, "--store", store, "--max-time", "0.000001")
    (command,) = re.findall("go on with: (.*)", ran.out)
    assert shlex.split(command) == ["wideangle", "study", "resume", str(named), "--store", str(store)]
    ran = Ran(capsys, *shlex.split(command)[1:])
    (command,) = re.findall("read it with .*, or: (.*)", ran.out)
    assert Ran(capsys, *shlex.split(command)[1:]).code == 0


def test_cells_that_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "fragile.py").write_text(
        "import numpy as np\n\n\ndef f(*, x, first_sample, n_samples, seed):\n"
        "    if x > 1:\n        raise ArithmeticError('too\\n\\n    large')\n    return {'y': np.full(n_samples, x)}\n"
    )
    (tmp_path / "s.toml").write_text('method = "fragile:f"\nsamples = 2\nseed = 0\ngrid = { x = [1, 2] }\n')
    ran = Ran(capsys, "study", "run", tmp_path / "s.toml")
    assert (ran.code, ran.err) == (1, "")
    assert "failed: cell 1 (fragile:f, x = 2): ArithmeticError: too large" in ran.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run {tmp}/none.toml", "none.toml"),
        ("run {tmp}", "FILE must be the description of a study"),
        ("run {tmp}/wrong.toml", "did you mean 'samples'?"),
        ("run {tmp}/angles.toml --store {tmp}/wrong.toml", "store must be a folder"),
        ("run {tmp}/angles.toml --store {tmp}/none/s.zarr", "must lie in a folder that exists"),
        ("run {tmp}/angles.toml --max-time soon", "--max-time must be a time such as"),
        ("run {tmp}/angles.toml --max-time 0", "--max-time must be a time such as"),
        ("run {tmp}/angles.toml --threads 0", "n_threads must lie between 1"),
        ("run {tmp}/angles.toml --threads 2 --dask tcp://127.0.0.1:1", "give one or the other"),
        ("resume {tmp}/angles.toml", "does not exist"),
        ("resume {tmp}/none.zarr", "does not exist"),
        ("status {tmp}/angles.toml", "begin with `wideangle study run`"),
        ("status {tmp}", "holds no study"),
        ("status {tmp}/angles.toml --watch -1", "--watch must be a positive number"),
        ("report {tmp}/angles.toml", "does not exist"),
        ("plan {tmp}/large.toml", "needs"),
        ("plan", "Missing argument 'FILE'"),
    ],
)
def test_bad_arguments_get_one_line(
    arguments: str, message: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wrong.toml").write_text(file.read_text().replace("samples", "sample"))
    large = STUDY.format(samples=10**12, block_size=10**12) + "[statistics]\nsamples = true\n"
    (tmp_path / "large.toml").write_text(large)
    ran = Ran(capsys, "study", *arguments.format(tmp=tmp_path).split())
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith("wideangle: ")
    assert message in ran.err
    assert not file.with_suffix(".zarr").exists()


@pytest.mark.parametrize(
    ("text", "expected"), [("90", 90.0), ("1.5s", 1.5), ("10min", 600.0), ("2h", 7200.0), ("1 d", 86400.0)]
)
def test_times(text: str, expected: float) -> None:
    assert seconds(text) == expected


def test_no_scheduler(file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("wideangle.cli._executors._DASK_TIMEOUT", 0.5)
    ran = Ran(capsys, "study", "run", file, "--dask", "tcp://127.0.0.1:1")
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert "no scheduler answers at 'tcp://127.0.0.1:1'" in ran.err
    assert "--dask" in Ran(capsys, "study", "run", file, "--dask", "nonsense").err
    monkeypatch.setitem(sys.modules, "distributed", None)
    ran = Ran(capsys, "study", "run", file, "--dask", "tcp://127.0.0.1:1")
    assert 'pip install "wideangle[distributed]"' in ran.err


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:8787/status", "https://[::1]:8787", "htpp://127.0.0.1:9", "://x"]
)
def test_addresses_that_dask_does_not_speak(file: Path, capsys: pytest.CaptureFixture[str], address: str) -> None:
    pytest.importorskip("distributed")
    ran = Ran(capsys, "study", "run", file, "--dask", address)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "--dask must be the address of a scheduler, which begins with" in ran.err
    assert f"got '{address}'" in ran.err
    assert ("such as the dashboard" in ran.err) == address.startswith("http")


MODULES = {
    "bad_syntax": "def f(:\n",
    "bad_import": "1 / 0\n",
    "bad_value": "raise ValueError('no licence')\n",
    "bad_check": """
        def f(*, d, seed, first_sample, n_samples): return {}
        def check(*, d): assert d == 2
        f.check = check
    """,
    "bad_decoding": """
        def f(*, d, seed, first_sample, n_samples): return {}
        f.check = lambda *, d: b"\\xff".decode()
    """,
    "bad_cost": """
        def f(*, d, seed, first_sample, n_samples): return {}
        f.cost = lambda *, d: "x"
    """,
    "bad_size": """
        def f(*, d, seed, first_sample, n_samples): return {}
        f.bytes_per_sample = lambda *, d: 1 / 0
    """,
    "bad_sign": """
        def f(*, d, seed, first_sample, n_samples): return {}
        f.cost = lambda *, d: -1.0
    """,
    "fine": "def f(*, d, seed, first_sample, n_samples): return {}\n",
}


@pytest.mark.parametrize(
    ("method", "value", "message"),
    [
        ("bad_syntax:f", "1", r"method 'bad_syntax:f' cannot be imported \(SyntaxError: .*; mend the module, or give"),
        (
            "bad_import:f",
            "1",
            r"method 'bad_import:f' cannot be imported \(ZeroDivisionError: division by zero\); mend",
        ),
        ("bad_value:f", "1", r"method 'bad_value:f' cannot be imported \(ValueError: no licence\); mend"),
        ("..fine:f", "1", r"method '..fine:f' cannot be imported \(TypeError: .*; .*give 'module:function'"),
        ("bad_check:f", "1", r"cell 0 \(bad_check:f, d = 1\): AssertionError$"),
        ("bad_decoding:f", "1", r"cell 0 \(bad_decoding:f, d = 1\): 'utf-8' codec can't decode"),
        (
            "bad_cost:f",
            "1",
            r"cell 0 \(bad_cost:f, d = 1\): its time .* could not convert .*; mend the attributes cost",
        ),
        ("bad_size:f", "1", r"cell 0 .*: its time and memory .*ZeroDivisionError: .*bytes_per_sample of 'bad_size:f'"),
        ("bad_sign:f", "1", r"cost must be a number that is 0 or more, or None, got -1.0\); mend the attributes"),
        ("fine:f", "[" * 3000 + "]" * 3000, "lists or tables are too deep in each other; make them flatter"),
        ("fine:f", "1" + "0" * 5000, "an integer has too many digits .*; give a float or a string"),
    ],
    ids=lambda item: item[:30],
)
def test_descriptions_that_cannot_work_are_one_line(
    method: str,
    value: str,
    message: str,
    own_module: Callable[[str, str], str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own_module(method.strip(".").partition(":")[0], MODULES[method.strip(".").partition(":")[0]])
    (tmp_path / "own.toml").write_text(f'method = "{method}"\nsamples = 10\nseed = 1\n[parameters]\nd = {value}\n')
    ran = Ran(capsys, "study", "plan", tmp_path / "own.toml")
    assert (ran.code, ran.err.count("\n"), ran.out) == (2, 1, "")
    assert re.search(message, ran.err.strip())
    if "its time" not in ran.err:
        assert str(tmp_path / "own.toml") in ran.err


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "1e20"])
def test_how_often_a_status_can_be_repeated(file: Path, capsys: pytest.CaptureFixture[str], seconds: str) -> None:
    ran = Ran(capsys, "study", "status", file, "--watch", seconds)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "--watch must be a positive number of seconds, at most 86400, a day, got" in ran.err


def test_a_dask_cluster(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0"
    ) as cluster:
        ran = Ran(capsys, "study", "run", file, "--dask", cluster.scheduler_address)
    assert ran.code == 0
    assert "the cluster at" in ran.err
    expected = wa.studies.run(wa.studies.Study.from_toml(file), tmp_path / "again.zarr", progress=False)
    xr.testing.assert_identical(wa.studies.load(file.with_suffix(".zarr")).load(), expected.load())


def test_a_cluster_without_workers(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr("wideangle.studies._executors._SECONDS_WITHOUT_WORKERS", 0.3)
    monkeypatch.setattr("wideangle.studies._scheduling._RECORD", 0.05)
    with distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster:
        threading.Timer(1.5, cluster.scale, [1]).start()
        ran = Ran(capsys, "study", "run", file, "--dask", cluster.scheduler_address)
    assert ran.code == 0
    first, second = ran.err.splitlines()
    assert first.endswith("has no workers yet, and waits for them")
    assert second.startswith(f"note: executor: the Dask cluster {cluster.scheduler_address} has had no workers for")


def wait_for_samples(store: Path) -> None:
    end = time.monotonic() + 30.0
    while not (store / "journal.sqlite").exists() or wa.studies.status(store).samples_done == 0:
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_status_from_another_terminal_ctrl_c_and_going_on(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(STUDY.format(samples=10**12, block_size=2**17))
    command = [sys.executable, "-m", "wideangle", "study", "run", str(file), "--no-progress"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for_samples(file.with_suffix(".zarr"))
            threading.Timer(0.6, process.send_signal, [signal.SIGINT]).start()
            ran = Ran(capsys, "study", "status", file, "--watch", 0.2)
            assert ran.code == 0
            assert ran.out.count(f"running: process {process.pid}") > 1
            assert "interrupted, after 1 run" in ran.out  # the last one that --watch shows
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out) == (130, "")
    assert err.splitlines() == [
        "",
        f"what is finished is kept; go on with: wideangle study resume {file}",
        "wideangle: interrupted",
    ]
    before = wa.studies.status(file.with_suffix(".zarr")).samples_done
    ran = Ran(capsys, "study", "resume", file, "--max-time", "0.3")
    assert ran.code == 0
    assert wa.studies.status(file.with_suffix(".zarr")).samples_done > before
