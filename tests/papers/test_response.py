"""The reproduction of arXiv 2405.04074 and 2204.07291: verdicts that turn with the numbers, what is trained, extent."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from wideangle.papers import response_predictions
from wideangle.papers._frame import Reproduction
from wideangle.papers.response import Job, Measurements
from wideangle.papers.response_aging_claims import step_orders
from wideangle.papers.response_claims import judge
from wideangle.papers.response_judging import dependence_claim
from wideangle.papers.response_model_claims import relearning_claims
from wideangle.papers.response_panels import (
    DESCENT,
    NOISY,
    SINGLE,
    Case,
    distance_correlation,
    geometric,
    late_exponent,
    samples,
)

pytest.importorskip("torch")

RELU = Case("cross-entropy", DESCENT, "relu").name


@pytest.fixture
def measured(reduced_response: Any) -> Measurements:
    result: Reproduction[Measurements] = reduced_response.result
    return result.measurements


def verdicts(measurements: Measurements, part: str) -> set[str]:
    """Return the verdicts on the claims whose statements have these words."""
    found = {claim.verdict for claim in judge(measurements) if part in claim.statement}
    assert found, part
    return found


def planted(measurements: Measurements, group: str, name: str, value: Any, **where: Any) -> Measurements:
    """Return measurements with a number in place of others, and a scatter over networks that is small."""
    dataset: xr.Dataset = getattr(measurements, group).copy(deep=True)
    values = dataset[name].astype(float)
    dim = next((dim for dim in ("network", "run") if dim in values.dims), None)
    scatter = 1.0 if dim is None else 1.0 + 1e-6 * (np.arange(values.sizes[dim]) % 2)
    filled = value * (scatter if dim is None else xr.DataArray(scatter, dims=dim))
    chosen = values.loc[where]
    values.loc[where] = (xr.zeros_like(chosen) + filled).transpose(*chosen.dims)
    dataset[name] = values
    return replace(measurements, **{group: dataset})


@pytest.mark.parametrize(
    ("part", "group", "name", "where", "good", "bad"),
    [
        ("A simple response kernel (relu)", "kernels", "fall", {"activation": "relu", "stage": "late"}, -0.5, 0.5),
        ("the kernel keeps its form", "kernels", "similarity", {"stage": "late"}, 0.97, 0.9),
        ("Factors depend on the stage", "kernels", "growth", {"activation": "relu", "stage": "late"}, -0.3, 0.01),
        (f"ages like a power ({RELU}): the best law", "fits", "misfit", {"case": RELU}, 0.1, 0.3),
        ("networks of the compiled loop and of PyTorch", "checks", "training_difference", {}, 1e-14, 1e-8),
        ("Steps of PyTorch differ", "checks", "order", {}, 1.0, 1.2),
        ("that ages (relu", "aging", "kernel_exponent", {"case": RELU}, -0.1, 0.1),
        ("with learning rate 0.05; the relative", "images", "step_difference", {"learning_rate": 0.05}, 0.1, 0.3),
        ("with learning rate 5e-05; the", "images", "step_difference", {"learning_rate": 5e-5}, 1e-3, 1e-2),
        ("Images: a decay times one kernel", "images", "similarity", {"training": DESCENT}, 0.99, 0.5),
        ("The mean-field model explains", "model", "error", {}, 0.1, 0.3),
        ("the number of active units and", "relations", "high", {}, -0.1, None),
    ],
)
def test_verdicts_turn_with_the_measurement(
    measured: Measurements, part: str, group: str, name: str, where: Any, good: float, bad: float | None
) -> None:
    if group == "relations":
        low = planted(planted(measured, group, "low", -0.3), group, name, good)
        assert verdicts(low, part) == {"agrees"}
        high = planted(planted(measured, group, "low", 0.1), group, name, 0.3)
        assert verdicts(high, part) == {"disagrees"}
        return
    assert verdicts(planted(measured, group, name, good, **where), part) == {"agrees"}
    assert bad is not None
    assert verdicts(planted(measured, group, name, bad, **where), part) == {"disagrees"}


@pytest.mark.parametrize("loss", ["squared", "cross-entropy"])
@pytest.mark.parametrize("method", [SINGLE, NOISY])
@pytest.mark.parametrize(
    ("name", "words"),
    [("kinks", "number of kinks"), ("effective_rank", "effective rank"), ("active_units", "number of active units")],
)
def test_reduction_is_relative_to_gradient_descent(
    measured: Measurements, loss: str, method: str, name: str, words: str
) -> None:
    part = f"reduces the space of features ({loss}, {method}, learning rate 0.05): the {words}"
    base = planted(measured, "features", name, 10.0, loss_name=loss)
    assert verdicts(base, part) == {"disagrees"}  # Equal is not reduced.
    assert verdicts(planted(base, "features", name, 9.0, loss_name=loss, training=method), part) == {"agrees"}
    assert verdicts(planted(base, "features", name, 11.0, loss_name=loss, training=method), part) == {"disagrees"}


@pytest.mark.parametrize("name", ["relative_worst_change", "contradiction_mean"])
def test_fragility_is_relative_to_gradient_descent(measured: Measurements, name: str) -> None:
    words = {"relative_worst_change": "the worst change", "contradiction_mean": "the change elsewhere"}[name]
    part = f"makes fragile (squared, {SINGLE}, learning rate 0.05): {words}"
    base = planted(measured, "features", name, 0.5, loss_name="squared")
    for value, verdict in ((0.6, "agrees"), (0.4, "disagrees")):
        changed = planted(base, "features", name, value, loss_name="squared", training=SINGLE)
        assert verdicts(changed, part) == {verdict}


def test_plasticity_is_the_response_to_the_other_label(measured: Measurements) -> None:
    part = f"Plasticity is lost finally ({RELU})"
    last = measured.aging["time"].values[-1]
    base = planted(measured, "aging", "contradiction", 2.0, case=RELU)
    assert verdicts(planted(base, "aging", "contradiction", 1.0, case=RELU, time=last), part) == {"agrees"}
    assert verdicts(planted(base, "aging", "contradiction", 4.0, case=RELU, time=last), part) == {"disagrees"}


def test_what_is_not_measured_is_not_resolved(measured: Measurements) -> None:
    nothing = planted(measured, "aging", "response_exponent", np.nan, case=RELU)
    (claim,) = (claim for claim in judge(nothing) if f"constant kernel has it ({RELU})" in claim.statement)
    assert (claim.verdict, claim.measured_text.split(" (")[0]) == ("not resolved", "not measured")


@pytest.mark.parametrize(
    ("gamma", "low", "high", "verdict"),
    [
        (1.2, 0.9, 1.5, "agrees"),
        (math.inf, 15.0, math.inf, "disagrees"),  # An exponential.
        (-0.5, -1.0, -0.1, "disagrees"),  # It grows.
        (1.0, 0.4, math.inf, "not resolved"),
        (0.1, -1.0, 2.0, "not resolved"),
    ],
)
def test_exponents_of_power_laws(measured: Measurements, gamma: float, low: float, high: float, verdict: str) -> None:
    changed = measured
    for name, value in (("gamma", gamma), ("gamma_low", low), ("gamma_high", high)):
        changed = planted(changed, "fits", name, value, case=RELU, factor="response")
    assert verdicts(changed, f"ages like a power ({RELU}): its exponent") == {verdict}


@pytest.mark.parametrize(
    ("part", "group", "name", "where"),
    [
        ("Factors depend on the stage", "kernels", "growth", {"activation": "relu", "stage": "late"}),
        ("with relu differs from that with tanh", "kernels", "growth", {"activation": "relu", "stage": "late"}),
        (f"of the response with {SINGLE} differs", "aging", "response_exponent", {"case": RELU}),
    ],
)
def test_dependence_has_two_sides(measured: Measurements, part: str, group: str, name: str, where: Any) -> None:
    equal = planted(measured, group, name, 0.0)
    assert verdicts(equal, part) == {"disagrees"}
    for value in (-0.3, 0.3):
        assert verdicts(planted(equal, group, name, value, **where), part) == {"agrees"}


def test_interval_of_a_dependence() -> None:
    values = np.array([-1.0, -3.0, np.nan])  # Mean -2, standard error 1.
    claim = dependence_claim("It depends.", values, 0.1, "why")
    assert (claim.measured, claim.interval, claim.allowed) == (2.0, (0.0, 7.0), (0.1, math.inf))
    assert claim.note == "why; difference -2; 2 networks"
    assert dependence_claim("It depends.", values[1:], 0.1).verdict == "not resolved"


def test_late_exponents_are_held_against_those_derived(measured: Measurements) -> None:
    ideal = planted(measured, "ideal", "derived_exponent", 1.0)
    for value, verdict in ((1.001, "agrees"), (0.9, "disagrees"), (1.1, "disagrees")):
        assert verdicts(planted(ideal, "ideal", "exponent", value), "the late exponent differs") == {verdict}
    derived = planted(measured, "predictions", "exponent", 1.0, case=RELU)
    for value, verdict in ((1.1, "agrees"), (0.5, "disagrees"), (1.5, "disagrees")):
        changed = planted(derived, "aging", "response_exponent", value, case=RELU)
        assert verdicts(changed, f"as a constant kernel has it ({RELU})") == {verdict}


def test_two_ways_to_the_aging_of_a_constant_kernel(measured: Measurements) -> None:
    part = "Two ways to the aging of a constant kernel"
    assert verdicts(measured, part) == {"agrees"}
    other = measured.predictions.assign(response=1.05 * measured.predictions["response"])
    assert verdicts(replace(measured, predictions=other), part) == {"disagrees"}


def test_imbalances_are_those_derived(measured: Measurements) -> None:
    # Here all steps are recorded: without noise the derived changes are those of the steps.
    balance = measured.balance
    exact = balance.sel(training=DESCENT)
    np.testing.assert_allclose(exact["derived"], exact["imbalance"], rtol=1e-9)
    change = balance.isel(time=-1) - balance.isel(time=0)
    assert (abs(in_errors(change["imbalance"] - change["derived"]).sel(training=SINGLE)) < 5.0).all()
    assert (abs(in_errors(change["derived"]).sel(training=SINGLE)) > 5.0).all()


def in_errors(values: xr.DataArray) -> xr.DataArray:
    """Return means over networks in units of their standard errors."""
    result: xr.DataArray = values.mean("network") / values.std("network", ddof=1) * math.sqrt(values.sizes["network"])
    return result


def test_label_noise_moves_imbalances_as_derived(reduced_response: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response_predictions, "BALANCED", (NOISY,))
    monkeypatch.setattr(response_predictions, "BALANCED_LOSSES", ("squared",))
    balance = response_predictions.balance(replace(reduced_response.job, n_networks=40))
    change = (balance.isel(time=-1) - balance.isel(time=0)).squeeze(["loss_name", "training"])
    apart = change["imbalance"] - change["derived"]
    assert abs(in_errors(apart).item()) < 5.0


def test_imbalances_are_judged_by_the_size_of_their_parts(measured: Measurements) -> None:
    part = "moves the imbalance of units as derived (squared, label noise)"
    balance = measured.balance.copy(deep=True)
    for share, verdict in ((0.02, "agrees"), (0.1, "disagrees"), (-0.1, "disagrees")):
        derived = balance["imbalance"].copy(deep=True)
        derived[{"time": -1}] += share * balance["parts"].mean("network")
        changed = balance.assign(derived=derived)
        assert verdicts(replace(measured, balance=changed), part) == {verdict}


def test_relearning_is_relative_to_untrained_networks(measured: Measurements) -> None:
    part = f"in real training ({RELU}"
    base = planted(planted(measured, "relearning", "relearning_time", 100.0), "relearning", "reached", 1.0)
    for value, verdict in ((200.0, "agrees"), (50.0, "disagrees"), (100.0, "disagrees")):
        times = base.relearning["relearning_time"].copy(deep=True)
        times.loc[{"case": RELU}][{"stage": -1}] = value
        changed = base.relearning.assign(relearning_time=times, reached=base.relearning["reached"] > 0.5)
        assert verdicts(replace(base, relearning=changed), part) == {verdict}


def test_networks_that_are_not_done_count_as_slow_only_after_training(measured: Measurements) -> None:
    relearning = measured.relearning.copy(deep=True)
    reached = xr.zeros_like(relearning["reached"])
    (claim,) = relearning_claims(relearning.assign(reached=reached).sel(case=[RELU], labels=["new"]))
    assert (claim.verdict, claim.measured_text.split(" (")[0]) == ("not resolved", "not measured")
    reached[{"stage": 0}] = True
    (claim,) = relearning_claims(relearning.assign(reached=reached).sel(case=[RELU], labels=["new"]))
    assert "0% done" in claim.note
    assert math.isfinite(claim.measured)


def test_labels_turn_after_training(measured: Measurements) -> None:
    relearning = measured.relearning
    assert relearning["stage_time"].values.tolist() == [0.0, 0.2, 1.6, 12.8, 102.4]
    # All cases of one activation begin with the same networks, and are trained in the same way on the other labels.
    relu = relearning.sel(case=[RELU, Case("cross-entropy", NOISY, "relu").name]).isel(stage=0)
    np.testing.assert_array_equal(*relu["relearning_time"].values)
    # Half of the samples are right before the loss is small.
    assert (relearning["half_time"] <= relearning["relearning_time"]).all()


def test_factors_make_up_the_response(measured: Measurements) -> None:
    aging = measured.aging
    np.testing.assert_allclose(aging["readout_part"] + aging["hidden_part"], aging["kernel"], rtol=1e-12)
    # All networks of one activation start alike, and a constant kernel is that of the start.
    np.testing.assert_allclose(aging["response"].isel(time=0), aging["constant_kernel"].isel(time=0), rtol=1e-9)
    relu = aging.isel(case=aging["activation"].values == "relu").isel(time=0)
    np.testing.assert_array_equal(relu["kernel"], relu["kernel"].isel(case=[0] * relu.sizes["case"]))


def test_methods_are_compared_from_the_same_start_at_the_same_time(measured: Measurements) -> None:
    first = measured.features.isel(time=0)
    for name in ("kinks", "active_units", "effective_rank"):
        reference = first[name].isel(loss_name=0, training=0, learning_rate=0)
        assert (first[name] == reference).all()
    assert measured.features["time"].values[[0, -1]].tolist() == [0.0, 50.0]


def test_ideal_networks_follow_their_kernel(measured: Measurements) -> None:
    ideal = measured.ideal
    np.testing.assert_allclose(ideal["fitted_rate"], ideal["rate"], rtol=1e-3)
    np.testing.assert_allclose(ideal["derived_exponent"], ideal["exponent"], atol=1e-3)
    hinge = ideal["response"].sel(loss="hinge").transpose("network", "time").values
    assert all(len(np.unique(curve[curve > 0.0].round(12))) <= 1 for curve in hinge)


def test_steps_approach_the_kernel(measured: Measurements) -> None:
    orders = step_orders(measured.steps, "sigmoid")
    assert np.abs(orders - 1.0).max() < 0.05
    assert (measured.steps["error"].sel(activation="tanh").isel(learning_rate=-1) < 1e-2).all()


def test_late_exponent_of_a_power() -> None:
    time = np.array([0.0, 1.0, 25.0, 50.0, 100.0])
    values = xr.DataArray(3.0 * np.maximum(time, 1.0) ** -1.5, {"time": time}, ("time",))
    assert late_exponent(values).item() == pytest.approx(1.5)
    assert np.isnan(late_exponent(0.0 * values).item())


def test_distance_correlation_of_shapes_that_fall_or_rise() -> None:
    distances = np.array([[0.0, 1.0, 2.0, 3.0], [1.0, 0.0, 1.5, 2.0]])
    shape = np.exp(-distances)
    np.testing.assert_allclose(distance_correlation(np.stack([shape, -shape]), distances), [-1.0, 1.0])


def test_geometric_steps() -> None:
    assert geometric(16, 6) == (0, 1, 2, 4, 8, 16)


def test_samples_split_the_interval() -> None:
    x, y = samples()
    assert x.shape == (8, 1)
    assert np.count_nonzero(np.diff(y)) == 4


def test_full_extent(tmp_path: Path) -> None:
    job = Job.prepare(out=tmp_path, full=True)
    assert (job.n_networks, job.n_steps, job.n_runs, job.image_samples) == (400, 2**19, 20, 128)
    assert "400 networks of each kind" in job.description


def test_data_must_have_classes_and_samples(tmp_path: Path) -> None:
    images = np.arange(2 * 3 * 10, dtype="uint8").reshape(10, 2, 3)
    labels = np.arange(10) % 2
    for y, message in ((0 * labels, "at least two classes, got 1"), (labels, "batch of 64 training samples, got 10")):
        np.savez(tmp_path / "few.npz", x_train=images, y_train=y, x_test=images, y_test=y)
        with pytest.raises(ValueError, match=message):
            Job.prepare(data=tmp_path / "few.npz", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
