"""The reproduction of the propagation papers: verdicts, numbers, refusals."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.special import digamma

import wideangle as wa
from wideangle.network import MLP
from wideangle.papers._frame import Reproduction
from wideangle.papers.propagation import Job, Measurements, summed_variance
from wideangle.papers.propagation_claims import angle_text, judge
from wideangle.papers.propagation_inputs import small_angle_drift

pytest.importorskip("torch")


@pytest.fixture
def result(reduced_propagation: Any) -> Reproduction[Measurements]:
    found: Reproduction[Measurements] = reduced_propagation.result
    return found


def test_report_tells_the_length_of_training(result: Reproduction[Measurements]) -> None:
    assert "15 steps of batch 100, that is 7.5 epochs" in result.report.read_text(encoding="utf-8")


def test_netcdf_holds_the_densities(result: Reproduction[Measurements]) -> None:
    for (theta0, method), expected in result.measurements.densities.items():
        group = f"density-{method}-{theta0:g}"
        found = xr.load_dataset(result.report.with_name("propagation.nc"), group=group, engine="h5netcdf")
        np.testing.assert_array_equal(found["density"], expected["density"])
    assert group == "density-small-angle-1e-06"


def test_what_is_known_comes_out(result: Reproduction[Measurements]) -> None:
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


def test_verdicts_turn_with_the_measurement(result: Reproduction[Measurements]) -> None:
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
    job = Job.prepare(out=tmp_path)
    assert (job.steps, job.n_runs, len(job.architectures)) == (600, 1, 45)
    assert Job.prepare(out=tmp_path, full=True).n_runs == 10
    assert "600 steps of batch 100, that is 44.5 epochs" in job.description


def test_own_images_are_trained_on_for_one_epoch(tmp_path: Path) -> None:
    images, labels = np.arange(250 * 4, dtype=np.uint8).reshape(250, 2, 2), np.arange(250) % 2
    np.savez(tmp_path / "mine.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    job = Job.prepare(data=tmp_path / "mine.npz", out=tmp_path)
    assert job.steps == 3
    assert "mine" in job.description


def test_refuses_less_than_a_batch(tmp_path: Path) -> None:
    images, labels = np.arange(12, dtype=np.uint8).reshape(3, 2, 2), np.array([0, 1, 1])
    np.savez(tmp_path / "few.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    with pytest.raises(ValueError, match="at least one batch of 100 training samples, got 3"):
        Job.prepare(out=tmp_path, data=tmp_path / "few.npz")
