"""The command line: what it prints, what it refuses, and how it stops."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import wideangle as wa
from wideangle.cli import main
from wideangle.propagation.prediction import METHODS

COMMANDS: tuple[list[str], ...] = (
    [],
    ["predict"],
    ["simulate"],
    ["analyze-representation"],
    ["reproduce"],
    ["reproduce", "propagation"],
    ["reproduce", "dynamics"],
    ["reproduce", "parametrization"],
    ["reproduce", "representation"],
    ["reproduce", "response"],
    ["study"],
    ["study", "plan"],
    ["study", "run"],
    ["study", "resume"],
    ["study", "status"],
    ["study", "report"],
    ["info"],
)


class Ran:
    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        self.code = stopped.value.code or 0
        self.out, self.err = capsys.readouterr()

    @property
    def table(self) -> tuple[list[str], list[list[str]]]:
        header, *rows = self.out.splitlines()
        return re.split(r"\s{2,}", header.strip()), [re.split(r"\s+", row.strip()) for row in rows]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_shows_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    ran = Ran(capsys, *command, "--help")
    assert ran.code == 0
    assert re.search(r"Example:\n\s+wideangle ", ran.out)


@pytest.mark.parametrize("command", [[], ["reproduce"], ["study"]], ids=" ".join)
def test_a_group_alone_shows_its_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    ran = Ran(capsys, *command)
    assert ran.code == 0
    assert "Commands:" in ran.out


def test_help_names_every_method(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(Ran(capsys, "predict", "--help").out.split()).replace("- ", "-")
    assert all(method in text for method in METHODS)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_loads_nothing_it_does_not_need(command: list[str]) -> None:
    code = (
        "import sys\nfrom wideangle.cli import main\n"
        f"try:\n    main([*{command!r}, '--help'])\nexcept SystemExit:\n    pass\n"
        "print(*(m for m in ('xarray', 'scipy', 'torch', 'matplotlib') if m in sys.modules), file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stderr.strip() == ""


def test_predict_prints_the_prediction(capsys: pytest.CaptureFixture[str]) -> None:
    header, rows = Ran(capsys, "predict", "--widths", "20,8,40,12", "--theta0", "1.5", "--method", "small-angle").table
    expected = wa.propagation.predict_angles(wa.MLP((20, 8, 40, 12)), 1.5, method="small-angle")
    assert header == ["layer", "width", "mean ln sin2", "sd", "theta"]
    assert [row[:2] for row in rows] == [["0", "-"], ["1", "20"], ["2", "8"], ["3", "40"], ["4", "12"]]
    columns = np.array([[float(cell) for cell in row[2:]] for row in rows]).T
    sd = np.sqrt(expected["variance"].values)
    np.testing.assert_allclose(columns, [expected["log_sin2"].values, sd, expected["theta"].values], rtol=1e-5)


def test_predict_passes_the_order_on(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("predict", "--widths", "20,9", "--theta0", "0.7", "--method")
    for method, order in (("exact", None), ("expansion", None), ("expansion", 1)):
        option = () if order is None else ("--order", str(order))
        _, rows = Ran(capsys, *arguments, method, *option).table
        expected = wa.propagation.predict_angles(wa.MLP((20, 9)), 0.7, method=method, order=order)
        np.testing.assert_allclose([float(row[2]) for row in rows], expected["log_sin2"].values, rtol=1e-5)


def test_predict_defaults_to_the_network_of_the_figure(capsys: pytest.CaptureFixture[str]) -> None:
    _, rows = Ran(capsys, "predict").table
    assert len(rows) == 33
    assert rows[-1][:2] == ["32", "256"]
    _, rows = Ran(capsys, "predict", "--width", "9", "--depth", "3").table
    assert [row[1] for row in rows] == ["-", "9", "9", "9"]


def test_simulate_prints_and_writes_the_ensemble(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "angles.nc"
    options = ["--width", "5", "--depth", "6", "--theta0", "1", "--samples", "3000", "--seed", "4"]
    ran = Ran(capsys, "simulate", *options, "--threads", "1", "--out", str(file))
    assert ran.code == 0
    expected = wa.propagation.simulate_angles(wa.MLP((5,) * 6), 1.0, n_samples=3000, seed=4)
    with xr.open_dataset(file, engine="h5netcdf") as written:
        xr.testing.assert_equal(written.load(), expected)
        assert written.attrs["seed"] == 4
    header, rows = ran.table
    assert header[2:] == ["mean ln sin2", "+-", "variance", "+-", "survivors", "collapsed", "dead"]
    last = rows[-1]
    np.testing.assert_allclose(float(last[2]), expected["mean"][-1], rtol=1e-5)
    counts = [int(expected[name][-1]) for name in ("survivors", "collapsed", "dead")]
    assert [int(cell) for cell in last[6:]] == counts
    assert sum(counts) == 3000


def test_simulate_does_not_depend_on_threads(capsys: pytest.CaptureFixture[str]) -> None:
    one, two = (Ran(capsys, "simulate", "--depth", "3", "--threads", n).out for n in ("1", "2"))
    assert one == two


@pytest.mark.parametrize(
    ("paper", "option"),
    [
        ("propagation", "--full"),
        ("dynamics", "--seed=5"),
        ("parametrization", "--full"),
        ("representation", "--full"),
        ("response", "--full"),
    ],
)
def test_reproduce_prints_claims_and_where_the_report_is(
    paper: str, option: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from wideangle.papers._frame import Job, Reproduction
    from wideangle.reports import Claim

    jobs: list[Any] = []

    def reproduce(job: Job, *, announce: object, progress: bool) -> Reproduction[None]:
        jobs.append(job)
        claim = Claim("The number is positive.", 0.3, (0.1, 0.5), (0.0, np.inf))
        return Reproduction(claims=(claim,), measurements=None, report=job.out / "report.html")

    monkeypatch.setattr(f"wideangle.papers.{paper}.reproduce", reproduce)
    ran = Ran(capsys, "reproduce", paper, option, "--out", str(tmp_path))
    (job,) = jobs
    assert (ran.code, job.out) == (0, tmp_path)
    n_runs = {"propagation": 10, "dynamics": 24, "parametrization": 5, "representation": 10, "response": 20}
    assert (job.n_runs, job.seed) == (n_runs[paper], 5 if paper == "dynamics" else 0)
    assert re.search(r"^agrees +The number is", ran.out, re.MULTILINE)
    assert job.description in ran.out
    assert f"Report, figures and numbers: {tmp_path / 'report.html'}" in ran.out


def test_analyze_representation_prints_the_table_the_finding_and_where_the_report_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    layer = wa.representation.synthetic_clones(1000, 4, 4, 8, 0.3, seed=1)
    np.savez(tmp_path / "layer.npz", acts=layer.features, readout=layer.readout, targets=layer.targets)
    out = tmp_path / "new" / "out"
    options = ["--features", "acts", "--seed", "5", "--chunks", "10", "--chunk-sizes", "2,8,16", "--threads", "1"]
    ran = Ran(capsys, "analyze-representation", str(tmp_path / "layer.npz"), *options, "--out", str(out))
    assert (ran.code, ran.err) == (0, "")
    chunks = wa.representation.chunk_statistics(
        layer.features, seed=5, n_chunks=10, chunk_sizes=(2, 8, 16), readout=layer.readout, targets=layer.targets
    )
    with pytest.warns(UserWarning, match="exponent cannot be fitted"):
        fit = wa.representation.fit_clones(chunks)
    assert wa.representation.chunk_table(chunks, fit=fit) in ran.out
    text = " ".join(ran.out.split())
    assert "The layer consists of 4 clones" in text
    assert "The data cannot decide on the power of the error: the exponent cannot be fitted: there are 2" in text
    assert re.search(r"^agrees +Random chunks know of", ran.out, re.MULTILINE)
    assert f"Report, figures and numbers: {out / 'report.html'}" in ran.out
    assert sorted(path.name for path in out.iterdir()) == ["chunks.nc", "chunks.png", "chunks.svg", "report.html"]
    with xr.open_dataset(out / "chunks.nc", group="statistics", engine="h5netcdf") as written:
        xr.testing.assert_equal(written.load(), chunks)
        # What was written can be fitted again.
        again = wa.representation.fit_clones(written, asymptotic_error=0.0)
        assert float(again.n_clones) == 4.0


def test_info(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIDEANGLE_CPU_PATH", "")
    ran = Ran(capsys, "info")
    assert ran.code == 0
    assert re.search(rf"^wideangle +{re.escape(wa.__version__)}$", ran.out, re.MULTILINE)
    assert re.search(r"^CPU paths +\w+ \(in use\)", ran.out, re.MULTILINE)
    assert re.search(r"^threads +[1-9]", ran.out, re.MULTILINE)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert 'torch        not found: pip install "wideangle[reference]"' in Ran(capsys, "info").out
    monkeypatch.setenv("WIDEANGLE_CPU_PATH", "abacus")
    ran = Ran(capsys, "info")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "abacus" in ran.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nonsense", "No such command 'nonsense'"),
        ("predict --nonsense", "No such option"),
        ("predict --theta0 0", "theta0 must lie in (0, pi], got 0.0"),
        ("predict --theta0 nan", "theta0 must be finite"),
        ("predict --theta0 4", "theta0 must lie in (0, pi]"),
        ("predict --theta0 wide", "'wide' is not a valid float"),
        ("predict --width 0", "widths[0] must lie between 1"),
        ("predict --width 1.5", "'1.5' is not a valid integer"),
        ("predict --depth 0", "--depth must be at least 1, got 0"),
        ("predict --widths 3,x", "--widths must be integers with commas between"),
        ("predict --widths 3,-2", "widths[1] must lie between 1"),
        ("predict --widths 3 --depth 2", "--widths takes the place of --width and --depth"),
        ("predict --method guess", "method must be one of"),
        ("predict --method exact --order 2", "order must be None for method 'exact', got 2"),
        ("predict --method expansion --order 4", "order must lie between 1 and 3, got 4"),
        ("simulate --samples 0", "n_samples must lie between 1"),
        ("simulate --samples 10000000000000000000", "n_samples must lie between 1"),
        ("simulate --seed -1", "seed must lie between 0"),
        ("simulate --threads 0", "n_threads must lie between 1"),
        ("simulate --out /no/such/folder/x.nc", "--out must lie in an existing directory"),
        ("simulate --out .", "--out must be a file"),
        ("reproduce propagation --data no-such-data --out {tmp}/out", "no-such-data"),
        ("reproduce propagation --seed -1 --out {tmp}/out", "seed must lie between 0"),
        ("reproduce propagation --out {tmp}/file/below", "file"),
        ("reproduce dynamics --data no-such-data --out {tmp}/out", "no-such-data"),
        ("reproduce dynamics --seed -1 --out {tmp}/out", "seed must lie between 0"),
        ("reproduce dynamics --out {tmp}/file/below", "file"),
        ("reproduce parametrization --data no-such-data --out {tmp}/out", "no-such-data"),
        ("reproduce parametrization --seed -1 --out {tmp}/out", "seed must lie between 0"),
        ("reproduce parametrization --out {tmp}/file/below", "file"),
        ("reproduce representation --data no-such-data --out {tmp}/out", "no-such-data"),
        ("reproduce representation --seed -1 --out {tmp}/out", "seed must lie between 0"),
        ("reproduce representation --out {tmp}/file/below", "file"),
        ("reproduce response --data no-such-data --out {tmp}/out", "no-such-data"),
        ("reproduce response --seed -1 --out {tmp}/out", "seed must lie between 0"),
        ("reproduce response --out {tmp}/file/below", "file"),
        ("analyze-representation", "Missing argument 'FILE'"),
        ("analyze-representation {tmp}/none.npy", "none.npy does not exist"),
        ("analyze-representation {tmp}/file", "has the suffix ''"),
        ("analyze-representation {tmp}", "is a directory"),
        ("analyze-representation {tmp}/layer.npz --features hidden", "expected 'hidden'"),
        ("analyze-representation {tmp}/layer.npz --readout weights", "expected 'weights'"),
        ("analyze-representation {tmp}/layer.npz --readout-file {tmp}/none.npy", "readout_path: "),
        ("analyze-representation {tmp}/nan.npy --out {tmp}/out", "got 1 other value(s) in 1 of 30 samples"),
        ("analyze-representation {tmp}/nan.npy --missing ignore", "'ignore' is not one of 'raise', 'drop'"),
        ("analyze-representation {tmp}/layer.npz --chunk-sizes 1,x", "--chunk-sizes must be integers"),
        ("analyze-representation {tmp}/layer.npz --chunk-sizes 1,5 --out {tmp}/out", "chunk_sizes[1] must lie between"),
        ("analyze-representation {tmp}/layer.npz --chunks 1 --out {tmp}/out", "n_chunks must lie between 2"),
        ("analyze-representation {tmp}/layer.npz --seed -1 --out {tmp}/out", "seed must lie between 0"),
        ("analyze-representation {tmp}/layer.npz --ridge -1 --out {tmp}/out", "ridge must lie in [0, 1e100]"),
        ("analyze-representation {tmp}/layer.npz --threads 0 --out {tmp}/out", "n_threads must lie between 1"),
        ("analyze-representation {tmp}/layer.npz --asymptotic-error 0.1", "asymptotic_error needs errors of chunks"),
        ("analyze-representation {tmp}/layer.npz --critical-width 9", "critical_width must lie between 1 and the 4"),
        ("analyze-representation {tmp}/layer.npz --training-file {tmp}/layer.npz", "need readout and targets"),
        ("analyze-representation {tmp}/layer.npz --out {tmp}/file/below", "file"),
    ],
)
def test_bad_arguments_get_one_line(
    arguments: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def work(*args: object, **keywords: object) -> None:
        raise AssertionError("work began before the arguments were checked")

    monkeypatch.setattr("wideangle._core.simulate_angles", work)
    monkeypatch.setattr("wideangle.papers.propagation.reproduce", work)
    monkeypatch.setattr("wideangle.papers.dynamics.reproduce", work)
    monkeypatch.setattr("wideangle.papers.parametrization.reproduce", work)
    monkeypatch.setattr("wideangle.papers.representation.reproduce", work)
    monkeypatch.setattr("wideangle._core.scatter_matrix", work)
    (tmp_path / "file").write_text("")
    features = np.random.default_rng(1).standard_normal((30, 4))
    np.savez(tmp_path / "layer.npz", features=features)
    features[3, 1] = np.nan
    np.save(tmp_path / "nan.npy", features)
    ran = Ran(capsys, *arguments.format(tmp=tmp_path).split())
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("wideangle: ")
    assert ran.err.count("\n") == 1
    assert message in ran.err


def test_module_runs() -> None:
    run = subprocess.run([sys.executable, "-m", "wideangle", "--version"], capture_output=True, text=True, check=True)
    assert wa.__version__ in run.stdout


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_stops_a_long_run(tmp_path: Path) -> None:
    # 10^9 networks take hours. The progress bar shows that the run has begun.
    command = [sys.executable, "-m", "wideangle", "simulate", "--samples", "1000000000", "--progress"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        try:
            assert process.stderr.read(1)
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert out == b""
    assert err.rstrip().endswith(b"wideangle: interrupted")
    assert b"Traceback" not in err
