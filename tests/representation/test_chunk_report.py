"""From files of features to the table, the figure, the report and the numbers."""

from __future__ import annotations

import html
import re
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from wideangle.cli import main
from wideangle.reports import DARK, LIGHT, render
from wideangle.representation import (
    chunk_statistics,
    chunk_table,
    fit_clones,
    synthetic_clones,
    write_chunk_report,
)
from wideangle.representation.chunk_figures import correlation_floor, draw_chunks, figure_size
from wideangle.representation.chunk_report import findings, signature_claims

CLONES = synthetic_clones(3000, 8, 4, 16, 0.2, seed=1)
ARRAYS: dict[str, Any] = {name: CLONES[name].values for name in ("features", "readout", "bias", "targets")}
HEAD = {name: ARRAYS[name] for name in ("readout", "bias", "targets")}
COLUMNS = {
    "R2": "r2",
    "R2 outside": "r2_outside",
    "correlation": "residual_correlation",
    "corr. outside": "residual_correlation_outside",
    "error": "error",
}


def smooth(n_samples: int = 600) -> Any:
    """Return features whose spectrum decays like a power: there is no number of signals."""
    rng = np.random.default_rng(1)
    scales = np.arange(1, 65) ** -0.7
    return (rng.standard_normal((n_samples, 64)) * scales) @ rng.standard_normal((64, 64))


def measure(features: Any = ARRAYS["features"], head: Any = HEAD, **options: Any) -> xr.Dataset:
    return chunk_statistics(features, seed=1, **{"n_chunks": 10, **(head or {}), **options})


def fitted(statistics: xr.Dataset, **options: Any) -> xr.Dataset:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "cannot decide", UserWarning)
        return fit_clones(statistics, **options)


class Ran:
    """What the command does with a file."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: Any) -> None:
        with pytest.raises(SystemExit) as stopped:
            main(["analyze-representation", *map(str, arguments), "--chunks", "10", "--out", "out"])
        self.code = stopped.value.code or 0
        self.out, self.err = capsys.readouterr()
        self.text = " ".join(self.out.split())

    @property
    def page(self) -> str:
        return Path("out/report.html").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _in_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(path: str, arrays: dict[str, Any]) -> str:
    if path.endswith(".npy"):
        np.save(path, arrays["features"])
    elif path.endswith(".npz"):
        np.savez(path, **arrays)
    else:
        torch = pytest.importorskip("torch")
        torch.save({name: torch.tensor(array) for name, array in arrays.items()}, path)
    return path


def test_table_holds_the_numbers_of_the_dataset() -> None:
    statistics, training = measure(), measure(ARRAYS["features"][:1500], {**HEAD, "targets": HEAD["targets"][:1500]})
    fit = fitted(statistics)
    header, *rows = chunk_table(statistics, fit=fit, training=training).splitlines()
    names = re.split(r"\s{2,}", header.strip())
    assert names == ["chunk size", "R2", "generic", *list(COLUMNS)[1:], "training error"]
    cells = [re.split(r"\s{2,}", row.strip()) for row in rows]
    assert [int(row[0]) for row in cells] == list(statistics.chunk_size.values)
    for column, name in enumerate(names[1:], start=1):
        if name == "generic":
            expected = fit.r2_generic.values
            np.testing.assert_allclose([float(row[column]) for row in cells], expected, atol=5.1e-5)
            continue
        source, key = (training, "error") if name == "training error" else (statistics, COLUMNS[name])
        for row, size in zip(cells, source.chunk_size.values, strict=True):
            here = source.sel(chunk_size=size)
            if np.isnan(here[f"{key}_mean"]):
                assert row[column] == "-"
            else:
                wanted = [float(here[f"{key}_{end}"]) for end in ("mean", "standard_error")]
                np.testing.assert_allclose([float(part) for part in row[column].split(" ± ")], wanted, atol=5.1e-5)


def test_table_of_one_chunk_has_no_standard_errors() -> None:
    assert "±" not in chunk_table(measure(head=None, n_chunks=1))


def test_report_holds_everything_and_refers_to_nothing() -> None:
    statistics = measure()
    fit = fitted(statistics, asymptotic_error=0.0)
    write_chunk_report(statistics, "one.html", fit=fit, title="A <layer>", settings={"file": "a&b.npz"})
    page = Path("one.html").read_text(encoding="utf-8")
    assert "<h1>A &lt;layer&gt;</h1>" in page
    assert "<dd>a&amp;b.npz</dd>" in page
    assert re.search(r"<dt>n_samples</dt><dd>3000</dd>", page)
    references = re.findall(r"(?:src|href|srcset|url)\s*[=(]\s*[\"']?([^\"'\s>)]+)", page)
    assert len(references) == 2
    assert all(reference.startswith("data:image/svg+xml;base64,") for reference in references)
    assert not re.search(r"<(script|link|iframe|object)|@import", page)
    for line in chunk_table(statistics, fit=fit).splitlines()[1:]:
        row = "</td><td>".join(re.split(r"\s{2,}", line.strip())).replace("</td><td>", "</th><td>", 1)
        assert row in page
    claims, _ = signature_claims(fit)
    assert [claim.verdict for claim in claims] == list(fit.verdict.values[1:])
    for claim in claims:
        assert html.escape(claim.statement) in page
        assert f">{claim.measured_text}</td>" in page
    assert "Not measured: training error (it takes the training samples" in page


def test_leads_say_how_many_clones_or_why_not() -> None:
    statistics = measure()
    fit = fitted(statistics, asymptotic_error=0.0)
    lead, errors, variance = findings(statistics, fit)
    assert lead.startswith("The layer consists of 4 clones")
    assert "its 64 neurons share 16 signals" in lead
    assert f"a power {float(fit.exponent):.3g} ({float(fit.exponent_low):.3g} to" in errors
    size = int(re.findall(r"chunks of (\d+) of the 64", variance)[0])
    outside = statistics.r2_outside_mean
    assert float(outside.sel(chunk_size=size)) >= 0.9 > float(outside.sel(chunk_size=size // 2))
    given = findings(statistics, fitted(statistics, critical_width=32))[0]
    assert given == "With the given critical width of 32 neurons, the layer of 64 neurons makes 2 clones."
    undecided = measure(smooth(), None)
    fit = fitted(undecided)
    assert findings(undecided, fit)[0] == (
        f"The data cannot decide how many clones the layer consists of: {fit.attrs['reason']}."
    )
    assert signature_claims(fit) == ([], "None of the signatures can be judged, as the critical width is not decided.")


def test_findings_name_few_samples_constants_and_weak_chunks() -> None:
    features = np.random.default_rng(1).standard_normal((30, 40))
    features[:, 3] = 2.0
    with pytest.warns(UserWarning, match="features have 30 samples"):
        statistics = measure(features, None, chunk_sizes=(2, 4))
    text = " ".join(findings(statistics, None))
    share = float(statistics.r2_outside_mean[-1])
    assert (
        f"Random chunks of 4 of the 40 neurons explain {share:.1%} of the others' variance; no size explains 90%."
        in text
    )
    assert "There are 30 samples of 40 neurons: chunks of 29 neurons explain all samples" in text
    assert "1 of 40 neurons are constant." in text
    whole = findings(measure(head=None, chunk_sizes=(64,)), None)
    assert whole == ["There is no chunk size that leaves neurons outside."]


def test_the_floor_is_the_correlation_of_independent_noise() -> None:
    # What chunks of unrelated neurons leave is correlated by chance alone, the more so the fewer degrees of freedom.
    n_samples, sizes = 100, np.array([4, 32, 64])
    statistics = measure(np.random.default_rng(1).standard_normal((n_samples, 96)), None, chunk_sizes=sizes)
    measured = statistics.residual_correlation_outside
    floor = correlation_floor(n_samples, sizes)
    # Correlations of more than 400 pairs, nearly independent; 10 chunks of the same layer are not.
    np.testing.assert_allclose(measured.mean("chunk"), floor, rtol=5.0 * 0.76 / np.sqrt(32 * 31 / 2))
    assert floor[2] > 1.5 * floor[0]


@pytest.mark.parametrize(
    "case", ["clones", "training", "no readout", "undecided", "given width", "one size", "no errors", "few samples"]
)
@pytest.mark.filterwarnings("ignore:features have 40 samples")
def test_figures_are_drawn_light_and_dark(case: str) -> None:
    options: dict[str, Any] = {}
    statistics = measure()
    if case == "training":
        options["training"] = measure(ARRAYS["features"][:1500], {**HEAD, "targets": HEAD["targets"][:1500]})
    elif case == "no readout":
        statistics = measure(head=None)
    elif case == "undecided":
        statistics = measure(smooth(), None)
    elif case == "one size":
        statistics = measure(chunk_sizes=(64,))
    elif case == "no errors":
        statistics = measure(head={"readout": np.zeros((2, 64)), "targets": np.zeros(3000, int)})
    elif case == "few samples":
        statistics = measure(smooth(40), None)
    fit = fitted(statistics, critical_width=10.0 if case == "given width" else None)
    drawn = []

    def draw(figure: Any, theme: Any) -> None:
        draw_chunks(statistics, figure, theme, fit=fit, **options)
        drawn.append([panel.get_title(loc="left") for panel in figure.axes])
        for panel in figure.axes:
            assert panel.lines
            assert panel.get_xlabel()
            assert panel.get_ylabel()

    pictures = [render(draw, size=figure_size(statistics), theme=theme) for theme in (LIGHT, DARK)]
    assert pictures[0] != pictures[1]
    assert all(picture.startswith(b"<?xml") for picture in pictures)
    titles = ["Share of variance that chunks explain", "Correlation of what they leave"]
    titles += ["Error of chunks"] if "error" in statistics else []
    assert drawn == [[*titles, "Spectrum of the covariance"]] * 2


def test_critical_width_and_signals_are_marked_only_if_decided() -> None:
    def marks(fit: xr.Dataset, statistics: xr.Dataset) -> list[list[float]]:
        found: list[list[float]] = []

        def draw(figure: Any, theme: Any) -> None:
            draw_chunks(statistics, figure, theme, fit=fit)
            for panel in figure.axes:
                lines = [line.get_xdata() for line in panel.lines]
                found.append([float(x[0]) for x in lines if len(x) == 2 and x[0] == x[1]])

        render(draw, size=(8, 8), file_format="png", dpi=30)
        return found

    statistics = measure()
    assert marks(fitted(statistics), statistics) == [[16.0], [16.0], [16.0], [16.5]]
    assert marks(fitted(statistics, critical_width=20), statistics) == [[20.0], [20.0], [20.0], [16.5]]
    statistics = measure(smooth(), None)
    assert marks(fitted(statistics), statistics) == [[], [], []]


@pytest.mark.parametrize("suffix", [".npz", ".pt"])
def test_the_command_reads_a_layer_with_its_readout(suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(f"layer{suffix}", ARRAYS)
    training = write(f"training{suffix}", {"features": ARRAYS["features"][:1500], "targets": ARRAYS["targets"][:1500]})
    ran = Ran(capsys, file, "--training-file", training, "--asymptotic-error", "0", "--seed", "1")
    assert (ran.code, ran.err) == (0, "")
    statistics = measure()
    of_training = measure(ARRAYS["features"][:1500], {**HEAD, "targets": HEAD["targets"][:1500]})
    fit = fitted(statistics, asymptotic_error=0.0, training=of_training)
    assert chunk_table(statistics, fit=fit, training=of_training) in ran.out
    assert ran.text.count("disagrees") == 1
    assert "disagrees Chunks of the critical width" in ran.text
    assert "Not measured" not in ran.text
    for group, expected in {"statistics": statistics, "training": of_training, "clones": fit}.items():
        with xr.open_dataset("out/chunks.nc", group=group, engine="h5netcdf") as written:
            xr.testing.assert_equal(written.load(), expected)
    assert f"<h1>Chunks of {file}</h1>" in ran.page
    assert Path("out/chunks.png").read_bytes().startswith(b"\x89PNG")
    assert Path("out/chunks.svg").read_bytes() == render(
        partial(draw_chunks, statistics, fit=fit, training=of_training), size=figure_size(statistics)
    )


def test_the_command_measures_the_whole_layer_unless_sizes_are_given(capsys: pytest.CaptureFixture[str]) -> None:
    layer = synthetic_clones(3000, 8, 3, 16, 0.2, seed=1)
    arrays = {name: layer[name].values for name in ("features", "readout", "bias", "targets")}
    options = [write("layer.npz", arrays), "--training-file", write("training.npz", arrays)]
    given = ["--chunk-sizes", "1,2,4,8,16,32"]
    for extra, sizes in (([], [1, 2, 4, 8, 16, 32, 48]), (given, [1, 2, 4, 8, 16, 32])):
        ran = Ran(capsys, *options, *extra)
        assert (ran.code, ran.err) == (0, "")
        with xr.open_dataset("out/chunks.nc", group="statistics", engine="h5netcdf") as written:
            assert written.chunk_size.values.tolist() == sizes
        assert ("disagrees Chunks of the critical width" in ran.text) == (extra == [])
        assert ("Not measured: training error" in ran.text) == (extra == given)


def test_the_command_reads_separate_files_and_other_names(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("hidden.npy", ARRAYS["features"])
    np.savez("head.npz", **{"fc.weight": ARRAYS["readout"], "fc.bias": ARRAYS["bias"]})
    np.save("labels.npy", ARRAYS["targets"])
    options = ["--readout-file", "head.npz", "--readout", "fc.weight", "--bias-file", "head.npz", "--bias", "fc.bias"]
    ran = Ran(capsys, "hidden.npy", *options, "--targets-file", "labels.npy", "--seed", "1", "--asymptotic-error", "0")
    assert (ran.code, ran.err) == (0, "")
    assert chunk_table(measure(), fit=fitted(measure(), asymptotic_error=0.0)) in ran.out


@pytest.mark.parametrize("extra", [(), ("targets",), ("readout", "bias")])
def test_the_command_does_without_readout_or_targets(extra: tuple[str, ...], capsys: Any) -> None:
    ran = Ran(capsys, write("layer.npz", {name: ARRAYS[name] for name in ("features", *extra)}), "--seed", "1")
    assert (ran.code, ran.err) == (0, "")
    assert chunk_table(measure(head=None), fit=fitted(measure(head=None))) in ran.out
    assert "The layer consists of 4 clones" in ran.text
    assert "so chunks were not read out" in ran.text
    assert "Error of chunks" not in ran.page


def test_what_cannot_be_decided_is_a_sentence_of_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("smooth.npy", smooth())
    # In a process of its own, warnings would be seen on standard error.
    command = [sys.executable, "-W", "always", "-m", "wideangle", "analyze-representation", "smooth.npy"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stderr == ""
    assert "The data cannot decide how many clones the layer consists of: " in run.stdout
    page = Path("wideangle-representation/report.html").read_text(encoding="utf-8")
    assert '<p class="lead">The data cannot decide how many clones' in page


def test_samples_that_are_not_finite_are_refused_or_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    broken = ARRAYS["features"].copy()
    broken[[5, 70], [2, 3]] = np.nan, np.inf
    write("layer.npz", {**ARRAYS, "features": broken})
    refused = Ran(capsys, "layer.npz")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("wideangle: layer.npz: features must be finite")
    assert "2 other value(s) in 2 of 3000 samples, the first in row 5" in refused.err
    assert not Path("out").exists()
    dropped = Ran(capsys, "layer.npz", "--missing", "drop")
    assert (dropped.code, dropped.err) == (0, "")
    assert "2 of 3002 samples" not in dropped.text
    assert "2 of 3000 samples were left out" in dropped.text
    with xr.open_dataset("out/chunks.nc", group="statistics", engine="h5netcdf") as written:
        assert written.attrs["n_samples"] == 2998


def test_training_files_are_checked_before_any_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*args: object, **keywords: object) -> None:
        raise AssertionError("work began before the files were checked")

    monkeypatch.setattr("wideangle._core.scatter_matrix", work)
    write("layer.npz", ARRAYS)
    train = {"features": ARRAYS["features"], "targets": ARRAYS["targets"]}
    wrong = {
        "found no targets": {"features": train["features"]},
        "must have at least 2 classes and the 63 neurons": {**train, "features": train["features"][:, 1:]},
        "targets must lie between 0 and 1": {**train, "targets": train["targets"] + 1},
        "1 other value(s)": {**train, "features": np.where(np.eye(3000, 64) * np.eye(3000, 1), np.nan, 1.0)},
    }
    for message, arrays in wrong.items():
        write("training.npz", arrays)
        ran = Ran(capsys, "layer.npz", "--training-file", "training.npz")
        assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
        assert "training.npz: " in ran.err
        assert message in ran.err
        assert not Path("out").exists()


def test_pickles_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("layer.npz", features=np.array([{"a": 1}], dtype=object))
    Path("layer.npy").write_bytes(b"\x93NUMPY broken")
    for file in ("layer.npz", "layer.npy"):
        ran = Ran(capsys, file)
        assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
        assert "files are never unpickled" in ran.err


def test_other_things_are_refused() -> None:
    statistics = measure()
    with pytest.raises(TypeError, match="statistics must be the result of chunk_statistics, got Dataset"):
        chunk_table(fitted(statistics))
    with pytest.raises(TypeError, match="fit must be the result of fit_clones, got dict"):
        write_chunk_report(statistics, "a.html", fit={})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="training must be the result of chunk_statistics"):
        write_chunk_report(statistics, "a.html", training=fitted(statistics))
    for path in (Path("."), Path("missing") / "report.html"):
        with pytest.raises(OSError, match="path must be a file"):
            write_chunk_report(statistics, path)
