"""What all reproductions have in common: files, the page, numbers, refusals."""

from __future__ import annotations

import re
from dataclasses import replace
from html import escape
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import xarray as xr

from wideangle.data import load_digits
from wideangle.papers import _frame, dynamics, parametrization, propagation, representation, response
from wideangle.reports import Claim

pytest.importorskip("torch")

# Each paper with the figures of its panels, and its number of claims. The overview has the name of the paper.
EXPECTED = {
    propagation: (("angles", "densities", "training", "many-inputs"), 24),
    dynamics: (("parallel", "phases", "speed", "losses", "starvation", "patches", "particles"), 27),
    parametrization: (("depths", "curves", "hybrid", "layers", "checks"), 26),
    representation: (("chunks", "conditions", "errors", "ensembles", "synthetic"), 32),
    response: (("kernels", "aging", "factors", "features", "fragility", "images", "model"), 116),
}


def name(paper: ModuleType) -> str:
    return paper.__name__.rpartition(".")[2]


@pytest.fixture
def job(reduced: Any) -> Any:
    return reduced.job


@pytest.fixture
def claims(reduced: Any) -> tuple[Claim, ...]:
    found: tuple[Claim, ...] = reduced.result.claims
    return found


@pytest.fixture
def document(reduced: Any) -> str:
    text: str = reduced.result.report.read_text(encoding="utf-8")
    return text


def test_writes_valid_figures_and_nothing_else(reduced: Any) -> None:
    figures = (*EXPECTED[reduced.paper][0], name(reduced.paper))
    for figure in figures:
        assert (reduced.job.out / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
        root = ElementTree.parse(reduced.job.out / f"{figure}.svg").getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
    written = {f"{figure}.{kind}" for figure in figures for kind in ("png", "svg")}
    assert {path.name for path in reduced.job.out.iterdir()} == {*written, f"{figures[-1]}.nc", "report.html"}
    assert (reduced.job.out / f"{figures[-1]}.png").stat().st_size < 900_000


def test_every_claim_has_its_verdict_in_the_report(reduced: Any, document: str, claims: tuple[Claim, ...]) -> None:
    rows = re.findall(r'<tr><td class="verdict \w+"><span[^>]*>.</span>([^<]+)</td><td>([^<]+)</td>', document)
    assert rows == [(claim.verdict, escape(claim.statement)) for claim in claims]
    assert len(rows) == EXPECTED[reduced.paper][1]


def test_report_stands_alone_and_describes_its_figures(reduced: Any, job: Any, document: str) -> None:
    assert not re.search(r"https?:|<script|<link|url\(", document)
    assert all(link.startswith("data:") for link in re.findall(r'(?:src|srcset|href)="([^"]*)"', document))
    texts = re.findall(r'<img src="[^"]*" alt="([^"]*)"', document)
    assert len(texts) == len(EXPECTED[reduced.paper][0])
    assert all(len(text) > 100 and "nan" not in text for text in texts)
    assert escape(job.description) in document
    assert str(job.out) not in document
    assert str(Path.home()) not in document


def test_report_says_how_to_compute_the_same_again(reduced: Any, document: str) -> None:
    provenance = dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", document))
    assert provenance["Seed"] == "3"
    assert provenance["Sources"].startswith(reduced.paper.SOURCE)
    assert provenance["Numbers"].startswith(f"{name(reduced.paper)}.nc, groups ")
    assert "clouds" in provenance["Training data"]


def test_netcdf_holds_the_numbers(reduced: Any, claims: tuple[Claim, ...]) -> None:
    file = reduced.job.out / f"{name(reduced.paper)}.nc"
    for group, expected in vars(reduced.result.measurements).items():
        if isinstance(expected, dict):
            continue
        found = xr.load_dataset(file, group=group.replace("_", "-"), engine="h5netcdf")
        assert set(found) == set(expected), group
        for variable in expected:
            np.testing.assert_array_equal(found[variable].values, expected[variable].values)
    written = xr.load_dataset(file, group="claims", engine="h5netcdf")
    assert written["verdict"].values.tolist() == [claim.verdict for claim in claims]


def test_repeats_bit_for_bit(reduced: Any, job: Any, claims: tuple[Claim, ...], tmp_path: Path) -> None:
    again = reduced.paper.reproduce(replace(job, out=tmp_path))
    for path in job.out.iterdir():
        if path.suffix != ".nc":
            assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name
    assert again.claims == claims


def test_announces_its_stages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Job(_frame.Job):
        description = "Nothing to train."

    def measure(job: Job, *, announce: _frame.Announce, progress: bool) -> int:
        announce(f"Measuring, progress {progress} ...")
        return 4

    def write(page: str, job: Job, measurements: int, claims: tuple[Claim, ...]) -> Path:
        return job.out / f"{page}-{measurements}-{len(claims)}"

    monkeypatch.setattr("wideangle.papers._page.write", write)
    said: list[str] = []
    result = _frame.carry_out(
        Job(data=load_digits(seed=1), out=tmp_path, seed=1),
        measure,
        lambda number: (Claim("It is 4.", number, (number, number), (4, 4)),),
        lambda job, number: f"page{job.seed}",  # type: ignore[arg-type, return-value]
        announce=said.append,
        progress=True,
    )
    assert said == ["Measuring, progress True ...", "Drawing figures, writing report ..."]
    assert (result.measurements, result.report) == (4, tmp_path / "page1-4-1")
    assert [claim.verdict for claim in result.claims] == ["agrees"]


@pytest.mark.parametrize("paper", EXPECTED, ids=name)
def test_refuses_before_any_work(paper: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="seed must lie between 0"):
        paper.Job.prepare(out=tmp_path, seed=-1)
    with pytest.raises(FileNotFoundError, match="no such file or directory"):
        paper.Job.prepare(out=tmp_path, data=tmp_path / "missing.npz")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        paper.Job.prepare(out=tmp_path / "file")
    with pytest.raises(OSError, match="proc"):
        paper.Job.prepare(out=Path("/proc"))  # Exists, and nobody may write there, not even root.
    monkeypatch.setattr(_frame, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"wideangle\[reference\]"):
        paper.Job.prepare(out=tmp_path)


@pytest.mark.parametrize("paper", EXPECTED, ids=name)
def test_prepares_a_new_folder_and_the_digits(paper: ModuleType, tmp_path: Path) -> None:
    job = paper.Job.prepare(out=tmp_path / "new" / "folder", seed=5)
    assert job.out.is_dir()
    assert list(job.out.iterdir()) == []
    assert (job.data.name, job.seed) == ("digits", 5)
