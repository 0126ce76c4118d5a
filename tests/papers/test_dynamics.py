"""The reproduction of arXiv 1809.06848: verdicts, numbers, refusals."""

from __future__ import annotations

import gzip
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.integrate import solve_ivp

from wideangle.papers._frame import Reproduction
from wideangle.papers._verdicts import width_exponent
from wideangle.papers.dynamics import WITHOUT_PATCH, Job, Measurements, reproduce
from wideangle.papers.dynamics_claims import exponent, inflections, judge, particle_claims
from wideangle.papers.dynamics_panels import collective_modes
from wideangle.papers.dynamics_particles import particles
from wideangle.papers.dynamics_patches import add_patch, at_equal_loss, patch_pixels, patched
from wideangle.papers.dynamics_report import patch_text

pytest.importorskip("torch")

# What follows from the theory and contradicts what is said of it: the reproduction has to find both.
CONTRADICTED = ("From given initial weights, too", "It freezes when m₁ gets to 1")


@pytest.fixture
def result(reduced_dynamics: Any) -> Reproduction[Measurements]:
    found: Reproduction[Measurements] = reduced_dynamics.result
    return found


def test_what_is_known_comes_out(result: Reproduction[Measurements]) -> None:
    # Everything without statistical error holds at any size of the ensembles.
    for claim in result.claims[:-7]:
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


def test_exchanged_scalings_are_found_out(result: Reproduction[Measurements]) -> None:
    measured = result.measurements
    exchanged = measured.particles.isel(scaling=[1, 0]).assign_coords(scaling=measured.particles["scaling"])
    assert [claim.verdict for claim in particle_claims(measured.particles)].count("disagrees") == 0
    assert [claim.verdict for claim in particle_claims(exchanged)] == ["disagrees"] * 3


def test_particles_start_alike_in_both_scalings_and_vote_for_nothing() -> None:
    numbers = particles((16,), 3, 5)
    start = numbers["shown"].sel(moment="start").values
    np.testing.assert_array_equal(start[0], start[1])
    inputs, labels = numbers["inputs"].values, numbers["labels"].values
    np.testing.assert_allclose(np.maximum(start[0, :, :2] @ inputs.T, 0.0).T @ start[0, :, 2], 0.0, atol=1e-12)
    # XOR: classes by quadrants.
    angles = np.arctan2(inputs[:, 1], inputs[:, 0])
    np.testing.assert_array_equal(labels, np.sign(np.cos(2.0 * (angles - np.radians(20.0)))))


def test_width_exponent_is_the_slope_of_the_root_mean_square_with_its_error() -> None:
    rng = np.random.default_rng(3)
    widths = np.array([10.0, 40.0, 160.0])
    noise = np.exp(0.2 * rng.standard_normal((2000, 3, 8)))
    found = [
        width_exponent(xr.DataArray(draw * widths[:, None] ** -0.7, {"width": widths}, ("width", "network")))
        for draw in noise
    ]
    slopes, errors = np.array(found).T
    assert slopes.mean() == pytest.approx(-0.7, abs=5.0 * slopes.std() / np.sqrt(2000))
    # Eight networks leave the error of a slope uncertain by about 15 %, and it is a little too small on average.
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(slopes.std(), rel=0.15)


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
    assert "24 networks for each of 5 shares" in Job.prepare(out=tmp_path).description


def test_own_images_are_told_apart_by_parity(tmp_path: Path) -> None:
    images, labels = np.arange(60 * 4, dtype=np.uint8).reshape(60, 2, 2), np.arange(60) % 3
    np.savez(tmp_path / "mine.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    assert "mine (60 training images)" in Job.prepare(data=tmp_path / "mine.npz", out=tmp_path).description


def mnist_like(side: int = 12) -> dict[str, Any]:
    """Grey noise with a bright corner block in images of odd classes, and a dark one in those of even classes."""
    rng = np.random.default_rng(4)
    arrays: dict[str, Any] = {}
    for part, count in (("train", 1600), ("test", 40)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = rng.integers(100, 156, (count, side, side)).astype(np.uint8)
        images[:, : side // 4, : side // 4] = np.where(labels % 2 == 1, 200, 56)[:, None, None]
        arrays |= {f"x_{part}": images, f"y_{part}": labels}
    return arrays


def write_images(folder: Path, kind: str, arrays: dict[str, Any]) -> Path:
    if kind == "npz":
        np.savez(folder / "mine.npz", **arrays)
        return folder / "mine.npz"
    stems = {"x_train": "train-images", "y_train": "train-labels", "x_test": "t10k-images", "y_test": "t10k-labels"}
    for name, array in arrays.items():
        content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
        path = folder / f"{stems[name]}-idx{array.ndim}-ubyte{'.gz' if kind == 'gz' else ''}"
        path.write_bytes(gzip.compress(content) if kind == "gz" else content)
    return folder


@pytest.mark.parametrize("kind", ["idx", "gz", "npz"])
def test_own_image_files_are_read_classified_and_patched(kind: str, tmp_path: Path) -> None:
    arrays = mnist_like()
    job = Job.prepare(data=write_images(tmp_path, kind, arrays), out=tmp_path / "out")
    assert job.data.x_train.shape == (1600, 144)
    assert "(1500 training images)" in job.description
    np.testing.assert_array_equal(job.data.y_train, arrays["y_train"])
    pixels = arrays["x_train"].reshape(1600, -1).astype(np.float64)
    np.testing.assert_allclose(job.data.x_train, (pixels - pixels.mean()) / pixels.std(), atol=1e-5)
    numbers = patched(job.data, n_runs=2, steps=40, seed=1)
    assert (numbers.attrs["n_train"], numbers.attrs["n_test"]) == (1500, 40)
    assert numbers.attrs["patch_pixels"] == [0, 1, 2, 12, 13, 14, 24, 25, 26]
    # The corner tells odd from even, and networks that never saw a patch learn it from there. The patch of the other
    # class overwrites all of it: it would not mislead them if it were elsewhere.
    accuracy = numbers["accuracy"].isel(time=-1).sel(without=1.0)
    assert accuracy.sel(image="clean").min() == 1.0
    assert accuracy.sel(image="patched").min() > 0.9
    assert accuracy.sel(image="reversed").max() < 0.1


def test_patch_of_images_that_are_not_square_is_not_said_to_be_in_a_corner() -> None:
    assert patch_text(784) == "49 pixels in a corner"
    assert patch_text(3072) == "the first 192 features"


def test_refuses_images_of_one_parity(tmp_path: Path) -> None:
    images, labels = np.arange(80, dtype=np.uint8).reshape(20, 2, 2), np.full(20, 4)
    np.savez(tmp_path / "even.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    with pytest.raises(ValueError, match=r"at least ten training images of odd and of even classes.*got 0 and 20"):
        Job.prepare(out=tmp_path, data=tmp_path / "even.npz")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 7])
def test_full_reproduction(seed: int, tmp_path: Path) -> None:
    result = reproduce(Job.prepare(out=tmp_path, seed=seed))
    for claim in result.claims:
        if claim.statement.startswith(CONTRADICTED):
            assert claim.verdict == "disagrees"
        elif claim.statement.startswith("The more frequent the patch"):
            # The smallest of four differences, some five standard errors from 0: it may or may not be resolved.
            assert claim.verdict != "disagrees"
        else:
            assert claim.verdict == "agrees", claim
