"""The reproduction of arXiv 1809.06848: verdicts, numbers, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.integrate import solve_ivp

from wideangle.papers._frame import Reproduction
from wideangle.papers.dynamics import WITHOUT_PATCH, Measurements, prepare, reproduce
from wideangle.papers.dynamics_claims import exponent, inflections, judge
from wideangle.papers.dynamics_panels import collective_modes
from wideangle.papers.dynamics_patches import add_patch, at_equal_loss, patch_pixels

pytest.importorskip("torch")

# What follows from the theory and contradicts what is said of it: the reproduction has to find both.
CONTRADICTED = ("From given initial weights, too", "It freezes when m₁ gets to 1")


@pytest.fixture
def result(reduced_dynamics: Any) -> Reproduction[Measurements]:
    found: Reproduction[Measurements] = reduced_dynamics.result
    return found


def test_what_is_known_comes_out(result: Reproduction[Measurements]) -> None:
    # Everything without statistical error holds at any size of the ensembles.
    for claim in result.claims[:-4]:
        contradicted = claim.statement.startswith(CONTRADICTED)
        assert claim.verdict == ("disagrees" if contradicted else "agrees"), claim


def test_patched_networks_start_from_the_same_weights_and_control_knows_no_patch(
    result: Reproduction[Measurements],
) -> None:
    patched = result.measurements.patched
    # The patch is only in the training images: what clean test images give at time 0 does not depend on it.
    start = patched["margin"].sel(image="clean").isel(time=0).transpose("without", "run").values
    np.testing.assert_array_equal(start, np.broadcast_to(start[-1], start.shape))
    assert len(np.unique(start[0])) == start.shape[1]
    losses = patched["train_loss"].isel(time=0)
    assert losses.sel(without=0.0).values[0] != losses.sel(without=1.0).values[0]
    # With a patch that gives the class away, the wrong patch misleads more networks than the right one.
    equal = patched["equal_accuracy"].mean("run").sel(without=0.0)
    assert equal.sel(image="reversed") < equal.sel(image="clean") < equal.sel(image="patched")


def test_verdicts_turn_with_the_measurement(result: Reproduction[Measurements]) -> None:
    measured = result.measurements

    def verdict(measurements: Measurements, part: str) -> str:
        (found,) = (claim.verdict for claim in judge(measurements) if part in claim.statement)
        return found

    parallel = measured.parallel.assign(simulated=measured.parallel["simulated"] * 1.01)
    assert verdict(replace(measured, parallel=parallel), "as if alone") == "disagrees"
    wiggling = measured.parallel.copy(deep=True)
    wiggling["simulated"][0, 0] += 0.2 * np.sin(np.arange(wiggling.sizes["time"]))
    assert verdict(replace(measured, parallel=wiggling), "sigmoids") == "disagrees"
    apart = measured.training.assign(flow_error=2e-6)
    assert verdict(replace(measured, training=apart), "that of the modes") == "disagrees"
    training = measured.training.assign(order=1.1, order_standard_error=0.001)
    assert verdict(replace(measured, training=training), "in proportion to its step") == "disagrees"
    blurred = training.assign(order_standard_error=0.02)
    assert verdict(replace(measured, training=blurred), "in proportion to its step") == "not resolved"
    phases = measured.phases.copy(deep=True)
    phases["phase"][0, 15, 15] = 2
    assert verdict(replace(measured, phases=phases), "z = -u, z = 0 and u = 0 say (cross-entropy)") == "disagrees"
    phases = measured.phases.copy(deep=True)
    phases["convergence_time"][1, 12, 12] *= 1.0 + 1e-5
    assert verdict(replace(measured, phases=phases), "closed form (hinge)") == "disagrees"
    phases["convergence_time"][1, 12, 12] = np.nan
    assert verdict(replace(measured, phases=phases), "closed form (hinge)") == "disagrees"
    speed = measured.speed.assign(simulated=measured.speed["simulated"] * measured.speed["frequency"] ** 0.01)
    assert verdict(replace(measured, speed=speed), "the frequency of a class") == "disagrees"
    losses = measured.losses.assign(drift=1e-12)
    assert verdict(replace(measured, losses=losses), "nothing moves") == "disagrees"
    losses = measured.losses.assign(stop_time=measured.losses["stop_time"] * (1.0 + 1e-5))
    assert verdict(replace(measured, losses=losses), "learning ends at t*") == "disagrees"
    starved = measured.starvation.assign(simulated=measured.starvation["simulated"] ** 1.01)
    starved["simulated"][:, 0] = measured.starvation["simulated"][:, 0]
    assert verdict(replace(measured, starvation=starved), "starved by the law") == "disagrees"
    starved["simulated"] = measured.starvation["predicted"] * 1.001
    assert verdict(replace(measured, starvation=starved), "an upper bound") == "disagrees"

    patched = measured.patched.copy(deep=True)
    clean = np.linspace(0.7, 0.9, len(WITHOUT_PATCH))[:, None] + [[0.0, 1e-4, 2e-4]]
    patched["equal_accuracy"].loc[{"image": "clean"}] = clean
    for part in ("At the same training loss", "The more frequent the patch"):
        assert verdict(replace(measured, patched=patched), part) == "agrees"
    patched["equal_accuracy"].loc[{"image": "clean", "without": 0.1}] = clean[-1]
    assert verdict(replace(measured, patched=patched), "The more frequent the patch") == "disagrees"
    patched["equal_accuracy"].loc[{"image": "clean", "without": 1.0}] = clean[0]
    assert verdict(replace(measured, patched=patched), "At the same training loss") == "disagrees"


def test_neurons_of_a_feature_move_as_one_mode() -> None:
    # z' = p r g(M) u, u' = p r g(M) z for three neurons that stay active, with M = r sum z u.
    p, r = 0.3, 1.7
    u0, z0 = np.array([0.3, 0.2, 0.5]), np.array([0.4, -0.1, -0.3])

    def field(_: float, y: np.ndarray) -> np.ndarray:
        u, z = y[:3], y[3:]
        force = 1.0 / (1.0 + np.exp(r * z @ u))
        return np.asarray(p * r * force * np.concatenate([z, u]))

    end = solve_ivp(field, (0.0, 6.0), np.concatenate([u0, z0]), method="DOP853", rtol=1e-12, atol=1e-14).y[:, -1]
    mode = collective_modes(u0, z0, r)
    alone = solve_ivp(
        lambda _, m: p * r / (1.0 + np.exp(m)) * np.sqrt(mode.imbalance**2 + 4.0 * m**2),
        (0.0, 6.0),
        [float(mode.margin)],
        method="DOP853",
        rtol=1e-12,
        atol=1e-14,
    ).y[0, -1]
    assert mode.margin == pytest.approx(r * z0 @ u0, rel=1e-14)
    assert alone == pytest.approx(r * end[3:] @ end[:3], rel=1e-10)
    # One neuron: C = r |z^2 - u^2|; a neuron that dies does not count.
    assert collective_modes(np.array([0.3]), np.array([0.5]), 2.0).imbalance == pytest.approx(2.0 * 0.16, rel=1e-14)
    assert collective_modes(np.array([0.3, 0.1]), np.array([0.5, -0.2])).margin == pytest.approx(0.15, rel=1e-14)


def test_inflections_are_counted() -> None:
    t = np.linspace(-6.0, 6.0, 200)
    one = 1.0 / (1.0 + np.exp(-t))
    two = 0.5 * (1.0 / (1.0 + np.exp(-4.0 * (t - 3.0))) + 1.0 / (1.0 + np.exp(-4.0 * (t + 3.0))))
    everywhere = np.ones((2, 200), bool)
    assert inflections(t, np.stack([one, two]), everywhere).tolist() == [1, 3]
    assert inflections(t, np.stack([one, two]), everywhere & (t > 1.0)).tolist() == [0, 1]


def test_exponent_is_the_slope_with_its_error() -> None:
    x = np.array([0.5, 1.0, 2.0])
    cases = xr.Dataset(
        {"simulated": (("case", "network"), np.stack([x**-1.0, x**-1.2], axis=1))}, {"frequency": ("case", x)}
    )
    assert exponent(cases, "frequency") == pytest.approx((-1.1, 0.1), rel=1e-12)


def test_patch_is_a_corner_set_to_the_label() -> None:
    assert patch_pixels(64).tolist() == [0, 1, 8, 9]
    assert patch_pixels(784).tolist() == [28 * row + column for row in range(7) for column in range(7)]
    assert patch_pixels(9).tolist() == [0]
    assert patch_pixels(33).tolist() == [0, 1]
    x = np.arange(32.0).reshape(2, 16)
    marked = add_patch(x, np.array([1.0, -1.0]), patch_pixels(16))
    assert marked[:, 0].tolist() == [1.0, -1.0]
    np.testing.assert_array_equal(marked[:, 1:], x[:, 1:])
    assert x[0, 0] == 0.0


def test_equal_loss_is_one_that_all_networks_reach() -> None:
    loss = np.array([[[0.7, 0.3, 0.05, 0.01]], [[0.7, 0.5, 0.25, 0.2]]])
    accuracy = np.array([[[0.5, 0.6, 0.7, 0.8]], [[0.5, 0.65, 0.75, 0.85]]])
    dataset = xr.Dataset(
        {
            "train_loss": (("without", "run", "time"), loss),
            "accuracy": (("image", "without", "run", "time"), accuracy[None]),
            "margin": (("image", "without", "run", "time"), accuracy[None]),
        },
        {"time": [0.0, 1.0, 2.0, 3.0]},
    )
    found = at_equal_loss(dataset)
    assert found["equal_loss"] == 0.2
    assert found["equal_time"].values.tolist() == [[2.0], [3.0]]
    assert found["equal_accuracy"].values.tolist() == [[[0.7], [0.85]]]
    reached = at_equal_loss(dataset.assign(train_loss=dataset["train_loss"] / 4.0))
    assert reached["equal_loss"] == 0.1
    assert reached["equal_time"].values.tolist() == [[1.0], [2.0]]


def test_default_job_is_that_of_the_paper(tmp_path: Path) -> None:
    assert "24 networks for each of 5 shares" in prepare(out=tmp_path).description


def test_own_images_are_told_apart_by_parity(tmp_path: Path) -> None:
    images, labels = np.arange(60 * 4, dtype=np.uint8).reshape(60, 2, 2), np.arange(60) % 3
    np.savez(tmp_path / "mine.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    assert "mine (60 training images)" in prepare(data=tmp_path / "mine.npz", out=tmp_path).description


def test_refuses_images_of_one_parity(tmp_path: Path) -> None:
    images, labels = np.arange(80, dtype=np.uint8).reshape(20, 2, 2), np.full(20, 4)
    np.savez(tmp_path / "even.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    with pytest.raises(ValueError, match=r"at least ten training images of odd and of even classes.*got 0 and 20"):
        prepare(out=tmp_path, data=tmp_path / "even.npz")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 7])
def test_full_reproduction(seed: int, tmp_path: Path) -> None:
    result = reproduce(prepare(out=tmp_path, seed=seed))
    for claim in result.claims:
        if claim.statement.startswith(CONTRADICTED):
            assert claim.verdict == "disagrees"
        elif claim.statement.startswith("The more frequent the patch"):
            # The smallest of four differences, some five standard errors from 0: it may or may not be resolved.
            assert claim.verdict != "disagrees"
        else:
            assert claim.verdict == "agrees", claim
