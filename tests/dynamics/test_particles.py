"""Particles in the mean-field and the kernel scaling."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import wideangle as wa
from wideangle.dynamics import SeparabilityWarning, simulate_particles, simulate_two_layer

Array = NDArray[np.float64]


def data(samples: int = 6, features: int = 3, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, features))
    return x / np.linalg.norm(x, axis=1, keepdims=True), np.where(np.arange(samples) % 2 == 0, 1.0, -1.0)


def gaussian(particles: int, features: int = 3, seed: int = 1, trajectories: int | None = None) -> Array:
    shape = (particles, features + 1) if trajectories is None else (trajectories, particles, features + 1)
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("loss", ["squared", "hinge", "cross-entropy"])
@pytest.mark.parametrize(("scaling", "power", "speed"), [("mean-field", 0.5, 0.0), ("kernel", 0.25, 0.5)])
def test_scalings_are_the_two_layer_flow_in_other_units(loss: str, scaling: str, power: float, speed: float) -> None:
    # With w = m^p W and a = m^p Z, the network sum Z relu(W . x) and its flow are those of the particles, at m^-2p s
    # times their speed, s the factor of the particles' velocities in units of the force.
    x, y = data()
    m, times = 12, np.array([0.0, 0.7, 3.0])
    particles = gaussian(m)
    run = simulate_particles(x, y, particles, times, loss=loss, scaling=scaling, rtol=1e-11)
    unit = float(m) ** power
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SeparabilityWarning)
        other = simulate_two_layer(
            x, y, particles[:, :-1] / unit, particles[:, -1] / unit, times * m**-speed, loss=loss, rtol=1e-11
        )
    assert run.n_events == other.n_events
    np.testing.assert_allclose(run.outputs, other.outputs, atol=1e-9)
    np.testing.assert_allclose(run.particles[..., :-1], other.weights * unit, atol=1e-8)
    np.testing.assert_allclose(run.particles[..., -1], other.readout * unit, atol=1e-8)


def test_the_mean_field_depends_on_the_distribution_of_particles_alone() -> None:
    x, y = data()
    particles = gaussian(15)
    one = simulate_particles(x, y, particles, [0.0, 2.0], rtol=1e-10)
    two = simulate_particles(x, y, np.tile(particles, (3, 1)), [0.0, 2.0], rtol=1e-10)
    np.testing.assert_allclose(two.outputs, one.outputs, atol=1e-8)
    np.testing.assert_allclose(two.particles[:, 15:30], one.particles, atol=1e-7)
    np.testing.assert_allclose(two.kernel_change, one.kernel_change, atol=1e-7)


# For the kernel scaling see the next test: at these widths the fluctuation, of exponent -3/4, is the larger part.
@pytest.mark.parametrize(("scaling", "exponents"), [("kernel", (-0.5, -0.75)), ("mean-field", (0.0, 0.0))])
def test_movement_and_change_of_the_kernel_follow_the_width(scaling: str, exponents: tuple[float, float]) -> None:
    x, y = data()
    widths = np.array([50, 200, 800])
    runs = [
        simulate_particles(x, y, gaussian(width, trajectories=8), [0.0, 4.0], scaling=scaling, rtol=1e-5)
        for width in widths
    ]
    for name, exponent in zip(("movement", "kernel_change"), exponents, strict=True):
        values = [float(run[name][:, -1].mean()) for run in runs]
        assert np.polyfit(np.log(widths), np.log(values), 1)[0] == pytest.approx(exponent, abs=0.12)
        assert scaling == "kernel" or min(values) > 0.1


def test_mean_and_fluctuation_of_the_kernel_change_have_exponents_of_their_own() -> None:
    # Each sample drives particles on the active side of its boundary only: the mean number of activations that switch
    # is of order m^1/2, its fluctuation m^1/4, of the m that make up the kernel.
    angles = np.radians([35.0, 140.0, 235.0, 300.0])
    x, y = np.stack([np.cos(angles), np.sin(angles)], axis=1), np.array([1.0, -1.0, 1.0, -1.0])
    widths, networks = np.array([256, 1024, 4096]), 96
    means, fluctuations, errors = [], [], []
    for width in widths:
        half = gaussian(width // 2, 2, 3, networks)
        start = np.concatenate([half, half * [1.0, 1.0, -1.0]], axis=1)
        run = simulate_particles(x, y, start, [0.0, 10.0], scaling="kernel", boundaries="stepped", rtol=1e-5)
        particles = run.particles.values
        hidden = np.maximum(particles[..., :2] @ x.T, 0.0)
        gates = np.where(hidden > 0.0, particles[..., 2:], 0.0)
        kernels = np.einsum("ntjk,ntjl,kl->ntkl", gates, gates, x @ x.T) + np.einsum("ntjk,ntjl->ntkl", hidden, hidden)
        change = (kernels[:, 1] - kernels[:, 0]) / np.linalg.norm(kernels[:, 0].mean(axis=0))
        variance = float(np.sum(change.var(axis=0, ddof=1)))
        means.append(np.sqrt(np.sum(change.mean(axis=0) ** 2) - variance / networks))
        fluctuations.append(np.sqrt(variance))
        along = np.sum(change * change.mean(axis=0), axis=(1, 2))
        errors.append(along.std(ddof=1) / np.sqrt(networks) / along.mean())
    ends = np.log(widths[-1] / widths[0])
    error = np.hypot(errors[0], errors[-1]) / ends
    assert error < 0.04, (means, fluctuations, errors)
    assert np.log(means[-1] / means[0]) / ends == pytest.approx(-0.5, abs=5.0 * error)
    # The relative error of a variance of some ten independent numbers.
    error = np.sqrt(2.0 / (10.0 * networks)) / ends
    assert np.polyfit(np.log(widths), np.log(fluctuations), 1)[0] == pytest.approx(-0.75, abs=5.0 * error)


@pytest.mark.slow
def test_wide_networks_in_the_kernel_scaling_follow_kernel_regression() -> None:
    samples, features = 5, 3
    x, y = data(samples, features)
    times = np.array([0.0, 3.0, 30.0])
    net = wa.MLP(widths=(8,), weight_variance=1.0)  # the kernel is that of infinite width
    kernel = functools.partial(wa.propagation.tangent_kernel, net)
    # With unit vectors as targets the mean is the matrix A_t of f_t = f_0 + A_t (y - f_0). Its loss is the sum over
    # samples, ours the mean.
    regression = wa.propagation.predict_mean_variance((x, np.eye(samples)), x, kernel=kernel, time=times / samples)
    widths = np.array([200, 800, 3200])
    errors = []
    for width in widths:
        particles = gaussian(width, features, 5, 12)
        run = simulate_particles(x / np.sqrt(features), y, particles, times, scaling="kernel")
        assert run.attrs["boundaries"] == "events"
        start = run.outputs.values[:, :1]
        expected = start + np.einsum("tab,sb->sta", regression["mean"].values, y - start[:, 0])
        errors.append(np.sqrt(np.mean((run.outputs.values - expected) ** 2)))
        assert np.sqrt(np.mean((expected[:, -1] - start[:, 0]) ** 2)) > 0.5
    assert errors[-1] < 0.02
    assert np.polyfit(np.log(widths), np.log(errors), 1)[0] == pytest.approx(-0.5, abs=0.15)


def test_stepping_over_boundaries_agrees_within_its_tolerance() -> None:
    x, y = data()
    particles = gaussian(200)
    exact = simulate_particles(x, y, particles, [0.0, 3.0], boundaries="events")
    stepped = simulate_particles(x, y, particles, [0.0, 3.0], boundaries="stepped")
    assert exact.n_events > 10
    assert stepped.n_events == 0
    difference = abs(stepped.outputs - exact.outputs).max()
    assert 1e-7 < difference < 5e-3


def test_boundaries_are_events_unless_there_are_many() -> None:
    x, y = data()
    few = simulate_particles(x, y, gaussian(10), [0.0, 0.1])
    many = simulate_particles(x, y, gaussian(2000), [0.0, 0.1])
    assert (few.attrs["boundaries"], few.attrs["rtol"]) == ("events", 1e-8)
    assert (many.attrs["boundaries"], many.attrs["rtol"]) == ("stepped", 1e-3)


def test_outputs_kernel_and_movement_belong_to_the_particles() -> None:
    x, y = data()
    particles = gaussian(7)
    run = simulate_particles(x, y, particles, [0.0, 1.0], scaling="kernel", loss="cross-entropy")
    kernels = []
    for now in run.particles.values:
        pre = now[:, :-1] @ x.T
        f = now[:, -1] @ np.maximum(pre, 0.0) / np.sqrt(7)
        jacobian = [
            np.concatenate([(now[:, -1] * (pre[:, n] > 0))[:, None] * x[n], np.maximum(pre[:, n : n + 1], 0.0)], axis=1)
            for n in range(6)
        ]
        flat = np.stack([j.ravel() for j in jacobian])
        kernels.append(flat @ flat.T)
        np.testing.assert_allclose(run.outputs[len(kernels) - 1], f, atol=1e-14)
    change = np.linalg.norm(kernels[1] - kernels[0]) / np.linalg.norm(kernels[0])
    assert float(run.kernel_change[1]) == pytest.approx(change, rel=1e-12)
    moved = np.linalg.norm(run.particles[1] - particles) / np.linalg.norm(particles)
    assert float(run.movement[1]) == pytest.approx(float(moved), rel=1e-12)
    np.testing.assert_allclose(run.loss, np.mean(np.log1p(np.exp(-run.margins)), axis=-1))


def test_failed_trajectories_are_marked_and_threads_do_not_matter() -> None:
    x, y = data()
    start = gaussian(10, trajectories=4)
    start[2] *= 1e40
    one, two = (simulate_particles(x, y, start, [0.0, 1.0], loss="exponential", n_threads=k) for k in (1, 3))
    assert one.status.values.tolist() == [0, 0, 4, 0]
    assert np.isnan(one.outputs[2, 1]).all()
    assert np.isnan(one.kernel_change[2, 1])
    np.testing.assert_array_equal(one.particles, two.particles)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"particles0": [[0.1, 0.2]]}, ValueError, "particles0 must have a component for each of 2 features"),
        ({"particles0": [0.1, 0.2, 0.3]}, ValueError, "particles0 must have 2 or 3 dimension"),
        ({"particles0": [[0.1, np.nan, 0.3]]}, ValueError, "particles0 must be finite"),
        ({"particles0": np.zeros((0, 3))}, ValueError, "particles0 must not be empty"),
        ({"times": [1.0, 0.5]}, ValueError, "times must increase"),
        ({"y": [2]}, ValueError, "labels -1 and 1 alone"),
        ({"loss": "cubic"}, ValueError, "loss must be one of"),
        ({"scaling": "ntk"}, ValueError, "scaling must be one of 'mean-field', 'kernel'"),
        ({"boundaries": True}, TypeError, "boundaries must be a string"),
        ({"rtol": 1.0}, ValueError, "rtol must lie in"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], error: type[Exception], match: str) -> None:
    arguments: dict[str, Any] = {"x": [[1.0, 2.0]], "y": [1], "particles0": [[0.1, 0.2, 0.3]], "times": [0.0, 1.0]}
    with pytest.raises(error, match=match):
        simulate_particles(**arguments | change)


def test_interrupt_leaves_the_process_usable(interrupt: Callable[[str, str, str], str]) -> None:
    setup = """
    import numpy as np
    from wideangle.dynamics import simulate_particles as simulate
    x, y, particles = np.eye(3), [1, -1, 1], np.random.default_rng(0).normal(size=(3000, 4))
    simulate(x, y, particles, [0.1])
    """
    after = "print(int(simulate(x, y, particles, [0.1]).status))"
    assert interrupt(setup, "simulate(x, y, [particles] * 300, [1e6], rtol=1e-8)", after) == "0\n"
