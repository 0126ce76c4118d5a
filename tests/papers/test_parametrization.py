"""The reproduction of arXiv 2110.15596: verdicts, numbers, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from wideangle.papers._frame import Reproduction
from wideangle.papers._verdicts import width_exponent
from wideangle.papers.parametrization import ACTIVATIONS, SHOWN, Job, Measurements
from wideangle.papers.parametrization_claims import first_step_gaps, gap_by_width, judge, output_exponents
from wideangle.papers.parametrization_panels import FIRST_RATES, LEARNING_RATES

pytest.importorskip("torch")


@pytest.fixture
def result(reduced_parametrization: Any) -> Reproduction[Measurements]:
    found: Reproduction[Measurements] = reduced_parametrization.result
    return found


def verdict(measurements: Measurements, part: str) -> str:
    (found,) = (claim.verdict for claim in judge(measurements) if part in claim.statement)
    return found


def test_depth_decides_at_any_extent(result: Reproduction[Measurements]) -> None:
    measured = result.measurements
    assert verdict(measured, "more than four layers do not learn") == "agrees"
    assert verdict(measured, "Networks of four layers") == "disagrees"
    assert verdict(measured, "seven layers stay where they start") == "agrees"
    assert verdict(measured, "A wrong scaling (standard for mup) is found out") == "agrees"
    exponents = output_exponents(measured.depths, "change_predicted")
    np.testing.assert_array_equal(exponents, [0.0, 0.0, -1.0, -2.0, -3.0, -4.0])


def test_what_is_trained(result: Reproduction[Measurements]) -> None:
    curves = result.measurements.curves
    assert curves["scaling"].values.tolist() == list(SHOWN)
    assert curves["activation"].values.tolist() == list(ACTIVATIONS) == list(LEARNING_RATES) == list(FIRST_RATES)
    for activation in ACTIVATIONS:
        assert list(LEARNING_RATES[activation]) == list(SHOWN)
        rates = curves["learning_rate"].sel(activation=activation)
        assert rates.values.tolist() == list(LEARNING_RATES[activation].values())
    hybrid = result.measurements.hybrid
    # The last width is left to the coordinate checks; both scalings begin alike and take the same first step.
    assert hybrid["width"].values.tolist() == [16, 32, 64]
    np.testing.assert_array_equal(hybrid["first_learning_rate"][0], hybrid["first_learning_rate"][1])
    assert result.measurements.checks["check"].values[-1] == "standard for mup"


def test_verdicts_turn_with_the_measurement(result: Reproduction[Measurements]) -> None:
    measured = result.measurements
    depths = measured.depths.copy(deep=True)
    for name in ("change_exponent", "change_low", "change_high"):
        depths[name] = depths[name] * 0.0 + 0.01
    flat = replace(measured, depths=depths)
    for part, expected in (
        ("more than four layers", "disagrees"),
        ("two and three layers", "agrees"),
        ("Networks of four layers", "agrees"),
        ("2 - L for L > 1", "disagrees"),
    ):
        assert verdict(flat, part) == expected, part

    def with_curves(name: str, value: float, **where: str) -> Measurements:
        curves = measured.curves.copy(deep=True)
        curves[name].loc[{"record": curves["record"][-1], **where}] = value
        return replace(measured, curves=curves)

    assert verdict(with_curves("train_loss", 2.0, scaling="ip"), "seven layers stay") == "disagrees"
    for name, part in (
        ("ip-llr", "A large first step leads"),
        ("ip-bias", "not scaled lead"),
        ("ip-non-centered", "nonzero mean lead"),
    ):
        assert verdict(with_curves("train_loss", 0.5, scaling=name), part) == "agrees"
        assert verdict(with_curves("train_loss", 1.0, scaling=name), part) == "disagrees"
        assert verdict(with_curves("train_loss", np.nan, scaling=name, activation="elu"), part) == "disagrees"
    for name, part in (("mup", "Maximal-update networks"), ("ntk", "kernel scaling"), ("ip-llr", "smooth activations")):
        assert verdict(with_curves("train_accuracy", 1.0, scaling=name), part) == "agrees"
        assert verdict(with_curves("train_accuracy", 0.5, scaling=name, activation="tanh"), part) == "disagrees"
    assert verdict(with_curves("train_accuracy", 1.0, scaling="ip-llr"), "They do with ReLU") == "agrees"
    assert verdict(with_curves("diversity", 0.9, scaling="ip-non-centered"), "of nonzero mean make") == "disagrees"
    assert verdict(with_curves("diversity", 0.1, scaling="ip-bias"), "Biases make the neurons") == "agrees"
    assert verdict(with_curves("dimension", 3.0, scaling="ip-bias"), "multiples of one function") == "disagrees"
    assert verdict(with_curves("participation_rank", 3.0, scaling="ip-non-centered"), "rank one") == "disagrees"
    assert verdict(with_curves("participation_rank", 1.0, scaling="mup"), "they are not") == "disagrees"

    checks = measured.checks.copy(deep=True)
    for name in ("verdict", "regime", "regime_expected"):
        checks[name] = checks[name].astype("U24")
    checks["verdict"][:-1] = "agrees"
    checks["regime"][:] = checks["regime_expected"].values
    for part in ("find the regime", "No layer of theirs"):
        assert verdict(replace(measured, checks=checks), part) == "agrees"
    checks["verdict"][2, 1], checks["regime"][2] = "not resolved", "not resolved"
    for part in ("find the regime", "No layer of theirs"):
        assert verdict(replace(measured, checks=checks), part) == "not resolved"
    checks["verdict"][2, 1], checks["regime"][2] = "disagrees", "kernel"
    for part in ("find the regime", "No layer of theirs"):
        assert verdict(replace(measured, checks=checks), part) == "disagrees"
    checks["verdict"][-1] = "agrees"
    assert verdict(replace(measured, checks=checks), "A wrong scaling") == "disagrees"


def test_gaps_are_root_mean_squares_with_their_exponents() -> None:
    widths, rng = np.array([100, 400, 1600]), np.random.default_rng(0)
    noise = rng.standard_normal((3, 400, 4))
    outputs = 0.3 + np.stack([noise, 0.5 * noise]) * widths[:, None, None] ** -0.5
    first = xr.Dataset(
        {
            "output": (("scaling", "width", "network", "input"), outputs),
            "predicted": ("input", np.full(4, 0.3)),
        },
        {"scaling": ["ip-llr", "hp"], "width": widths},
    )
    for gap, size in zip(first_step_gaps(first), (1.0, 0.5), strict=True):
        slope, error = width_exponent(gap)
        assert abs(slope + 0.5) < 5.0 * error
        np.testing.assert_allclose(np.sqrt((gap**2).mean("network")), size * widths**-0.5, rtol=0.1)
    shape = (2, 3, 5, 2, 6, 10)
    hybrid = xr.Dataset(
        {"output": (("scaling", "width", "run", "record", "probe", "class"), rng.standard_normal(shape))},
        {"scaling": ["ip-llr", "hp"], "width": widths, "record": [1, 5]},
    )
    difference = hybrid["output"].values[0] - hybrid["output"].values[1]
    found = gap_by_width(hybrid).transpose("width", "network", "record")
    np.testing.assert_allclose(found, np.sqrt(np.mean(difference**2, axis=(-1, -2))), rtol=1e-12)


def test_full_extent_is_that_of_the_paper(tmp_path: Path) -> None:
    job = Job.prepare(out=tmp_path, full=True)
    assert (job.width, job.batch_size, job.n_steps, job.n_runs) == (1024, 512, 600, 5)
    assert "5 networks of 6 hidden layers of width 1024" in job.description


def test_data_must_hold_a_batch(tmp_path: Path) -> None:
    images = np.arange(2 * 3 * 100, dtype="uint8").reshape(100, 2, 3)
    labels = np.arange(100) % 3
    np.savez(tmp_path / "few.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    with pytest.raises(ValueError, match="data must hold at least one batch of 128 training samples, got 100"):
        Job.prepare(data=tmp_path / "few.npz", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
