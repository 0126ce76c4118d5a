"""The reproduction of the propagation papers, much reduced: files, verdicts, numbers, refusals."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html import escape
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import xarray as xr
from scipy.special import digamma

import wideangle as wa
from wideangle.data import LabelledData
from wideangle.network import MLP
from wideangle.papers import _preparation
from wideangle.papers.propagation import Job, Measurements, Reproduction, prepare, reproduce, summed_variance
from wideangle.papers.propagation_claims import angle_text, judge
from wideangle.papers.propagation_inputs import small_angle_drift

pytest.importorskip("torch")

VERDICTS = {"agrees", "disagrees", "not resolved"}


def small_data() -> LabelledData:
    """Three well separated clouds."""
    generator = np.random.default_rng(8)
    labels = np.arange(300) % 3
    x = (generator.normal(size=(300, 6)) + 3.0 * np.eye(6)[labels]).astype(np.float32)
    return LabelledData(x[:200], labels[:200], x[200:], labels[200:], name="clouds")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    return Job(
        data=small_data(),
        out=tmp_path_factory.mktemp("report"),
        seed=3,
        n_samples=20_000,
        n_tested=20_000,
        n_gram_samples=2_000,
        architectures=[(20,) * 2, (10,) * 4, (6, 9, 6), (8,) * 12],
        n_runs=2,
        steps=15,
        n_workers=1,
    )


@pytest.fixture(scope="module")
def result(job: Job) -> Reproduction:
    return reproduce(job)


def test_writes_valid_figures(job: Job, result: Reproduction) -> None:
    for name in ("angles", "densities", "training", "many-inputs", "propagation"):
        assert (job.out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        root = ElementTree.parse(job.out / f"{name}.svg").getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert (job.out / "propagation.png").stat().st_size < 400_000


def test_every_claim_has_its_verdict_in_the_report(job: Job, result: Reproduction) -> None:
    document = result.report.read_text(encoding="utf-8")
    rows = re.findall(r'<tr><td class="verdict \w+"><span[^>]*>.</span>([^<]+)</td><td>([^<]+)</td>', document)
    assert rows == [(claim.verdict, escape(claim.statement)) for claim in result.claims]
    assert {verdict for verdict, _ in rows} <= VERDICTS
    assert len(rows) == 24


def test_report_stands_alone_and_describes_its_figures(job: Job, result: Reproduction) -> None:
    document = result.report.read_text(encoding="utf-8")
    assert not re.search(r"https?:|<script|<link|url\(", document)
    assert all(link.startswith("data:") for link in re.findall(r'(?:src|srcset|href)="([^"]*)"', document))
    texts = re.findall(r'<img src="[^"]*" alt="([^"]*)"', document)
    assert len(texts) == 4
    assert all(len(text) > 100 for text in texts)
    assert "15 steps of batch 100, that is 7.5 epochs" in document
    assert str(job.out) not in document
    assert str(Path.home()) not in document


def test_netcdf_holds_the_numbers(job: Job, result: Reproduction) -> None:
    def group(name: str) -> xr.Dataset:
        return xr.load_dataset(job.out / "propagation.nc", group=name, engine="h5netcdf")

    measured = result.measurements
    np.testing.assert_array_equal(group("angles")["ensemble_mean"], measured.angles["ensemble_mean"])
    np.testing.assert_array_equal(group("small-angles")["log_sin2"], measured.small_angles["log_sin2"])
    np.testing.assert_array_equal(group("training")["accuracy"], measured.training["accuracy"])
    np.testing.assert_array_equal(group("histograms")["count"].sum("bin"), measured.histograms["n_samples"])
    assert group("claims")["verdict"].values.tolist() == [claim.verdict for claim in result.claims]
    assert group("density-small-angle-1e-06").sizes["layer"] == 32


def test_repeats_bit_for_bit(job: Job, result: Reproduction, tmp_path: Path) -> None:
    again = reproduce(replace(job, out=tmp_path))
    for name in ("report.html", "angles.svg", "propagation.png"):
        assert (tmp_path / name).read_bytes() == (job.out / name).read_bytes()
    assert again.claims == result.claims


def test_what_is_known_comes_out(result: Reproduction) -> None:
    # 20,000 networks have a standard error of 0.006 at the last layer: 40 times below what infinite width misses, so
    # that this must come out; the exact law must not be refuted where it is exact.
    claims = {claim.statement: claim for claim in result.claims}
    for angle in ("0.1", "10⁻⁶"):
        miss = f"The infinite-width limit misses the mean of X at layer 32 by more than 0.1 for θ₀ = {angle}."
        assert claims[miss].verdict == "agrees"
    exact = "The exact small-angle law gives the mean of X at layer 32 within 0.01 for θ₀ = 10⁻⁶."
    assert claims[exact].verdict != "disagrees"
    exact = "The exact small-angle law gives the mean of X at layer 32 within 0.01 for θ₀ = 0.1."
    assert claims[exact].verdict == "disagrees"
    for angle in ("0.1", "10⁻⁶"):
        exact = f"The exact law at any angle gives the mean of X at layer 32 within 0.01 for θ₀ = {angle}."
        assert claims[exact].verdict != "disagrees"


def test_verdicts_turn_with_the_measurement(result: Reproduction) -> None:
    measured = result.measurements

    def verdicts(measurements: Measurements, part: str) -> set[str]:
        return {claim.verdict for claim in judge(measurements) if part in claim.statement}

    approximation = "Approximation 1 gives the mean of X at layer 32 within 0.01 for θ₀ = 0.1"
    predicted = measured.angles["log_sin2"].sel(predictor="finite-width-linear", drop=True)
    exact = measured.angles.assign(ensemble_mean=predicted, ensemble_mean_standard_error=xr.full_like(predicted, 1e-4))
    assert verdicts(replace(measured, angles=exact), approximation) == {"agrees"}
    blurred = exact.assign(ensemble_mean_standard_error=xr.full_like(predicted, 0.1))
    assert verdicts(replace(measured, angles=blurred), approximation) == {"not resolved"}
    wrong = exact.assign(ensemble_mean=predicted + 0.03)
    assert verdicts(replace(measured, angles=wrong), approximation) == {"disagrees"}

    worse = measured.training.assign(
        spearman_difference=-0.2, spearman_difference_low=-0.3, spearman_difference_high=-0.1
    )
    assert verdicts(replace(measured, training=worse), "ranks them better") == {"disagrees"}
    near = measured.many_inputs.assign(near_log_determinant_mean=measured.many_inputs["near_law"])
    near["near_log_determinant_standard_error"] = xr.full_like(near["near_law"], 0.01)
    assert verdicts(replace(measured, many_inputs=near), "law for many inputs") == {"agrees"}
    near["near_log_determinant_mean"] = near["near_law"] + 1.0
    assert verdicts(replace(measured, many_inputs=near), "law for many inputs") == {"disagrees"}
    rejected = measured.histograms.assign(ks_p_value=measured.histograms["ks_p_value"] * 0.0)
    assert verdicts(replace(measured, histograms=rejected), "Kolmogorov") == {"disagrees"}


def test_summed_variance_is_the_sum_of_the_rule() -> None:
    # Approximation 2 adds 8 n / (n + 5)^2 a layer whatever the angle.
    total = summed_variance(MLP((20, 50, 100)), "finite-width-linear")
    assert total == pytest.approx(np.cumsum([0.0, *(8 * n / (n + 5) ** 2 for n in (20, 50, 100))]), rel=1e-12)


def test_volume_of_two_nearly_parallel_inputs_is_their_norms_and_angle() -> None:
    # The drift of ln det is that of ln sin^2 and of both ln norms, all given two active neurons at least.
    angle = wa.propagation.predict_angles(MLP((12,)), 1e-9, method="small-angle")["log_sin2"].diff("layer").item()
    counts = np.array([math.comb(12, k) for k in range(2, 13)], dtype=np.float64)
    norm = float(counts @ digamma(np.arange(2, 13) / 2.0) / counts.sum()) + math.log(4.0 / 12.0)
    assert small_angle_drift(12, 2) == pytest.approx(angle + 2.0 * norm, rel=1e-9)


@pytest.mark.parametrize(("angle", "text"), [(0.1, "0.1"), (1e-6, "10⁻⁶"), (2e-6, "2e-06"), (1.5, "1.5")])
def test_angle_text(angle: float, text: str) -> None:
    assert angle_text(angle) == text


def test_default_job_is_that_of_the_papers(tmp_path: Path) -> None:
    job = prepare(out=tmp_path / "new" / "folder")
    assert job.out.is_dir()
    assert list(job.out.iterdir()) == []
    assert (job.data.name, job.steps, job.n_runs, len(job.architectures)) == ("digits", 600, 1, 45)
    assert prepare(out=tmp_path, full=True).n_runs == 10
    assert "600 steps of batch 100, that is 44.5 epochs" in job.description


def test_own_images_are_trained_on_for_one_epoch(tmp_path: Path) -> None:
    images, labels = np.arange(250 * 4, dtype=np.uint8).reshape(250, 2, 2), np.arange(250) % 2
    np.savez(tmp_path / "mine.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    job = prepare(data=tmp_path / "mine.npz", out=tmp_path)
    assert job.steps == 3
    assert "mine" in job.description


def test_refuses_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="seed must lie between 0"):
        prepare(out=tmp_path, seed=-1)
    with pytest.raises(FileNotFoundError, match="no such file or directory"):
        prepare(out=tmp_path, data=tmp_path / "missing.npz")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        prepare(out=tmp_path / "file")
    with pytest.raises(OSError, match="proc"):
        prepare(out=Path("/proc"))  # Exists, and nobody may write there, not even root.
    images, labels = np.arange(12, dtype=np.uint8).reshape(3, 2, 2), np.array([0, 1, 1])
    np.savez(tmp_path / "few.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    with pytest.raises(ValueError, match="at least one batch of 100 training samples, got 3"):
        prepare(out=tmp_path, data=tmp_path / "few.npz")
    monkeypatch.setattr(_preparation, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"wideangle\[reference\]"):
        prepare(out=tmp_path)
