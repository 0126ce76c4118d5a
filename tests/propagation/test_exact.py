"""The exact law against large ensembles, direct quadrature over two neurons, closed forms, and the expansion in 1/n."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import wideangle as wa
from wideangle.propagation import predict_angles, rules, simulate_angles
from wideangle.propagation._composition import propagate
from wideangle.propagation._exact import _N_MODES, IntegratedLayer, WideLayer, exact_layer
from wideangle.propagation._frame import HALF_PI, diagonal_moment, mode_nodes, modes
from wideangle.propagation._layer_transform import expected_members, survival
from wideangle.propagation.gaussian_moments import mixed_moment

with (Path(__file__).parents[1] / "reference" / "angles_one_layer.json").open(encoding="utf-8") as _file:
    ENSEMBLES = json.load(_file)
ONE_LAYER, CHAIN = ENSEMBLES[:-1], ENSEMBLES[-1]


def z_scores(entry: dict[str, Any], method: str) -> Any:
    """Prediction less ensemble in standard errors, (mean, variance) by layer."""
    angles = predict_angles(wa.MLP(entry["widths"]), entry["theta0"], method=method).isel(layer=slice(1, None))
    mean = (angles.log_sin2 - entry["mean"]) / entry["mean_se"]
    return np.array([mean, (angles.variance - entry["variance"]) / entry["variance_se"]])


@pytest.mark.parametrize("entry", ONE_LAYER, ids=lambda e: f"{e['theta0']:.4g}-{e['widths'][0]}")
def test_one_layer_against_ensembles(entry: dict[str, Any]) -> None:
    """Mean and variance within five standard errors of 10^8 networks, where Theorem 1 is off by more in one or both.

    Near pi the variance of narrow layers comes from layers too rare to be among 10^8, so that its standard error is
    nothing to go by; :func:`test_rare_layers_by_strata` is for these.
    """
    assert entry["samples"] >= 10**8
    n_checked = 1 if entry["theta0"] > 3.0 and entry["widths"][0] < 50 else 2
    assert np.abs(z_scores(entry, "exact")[:n_checked]).max() < 5.0
    assert np.abs(z_scores(entry, "finite-width")[:n_checked]).max() > 5.0


def stratum(rng: Any, theta: float, both: int, alpha: int, beta: int, samples: int) -> tuple[Any, Any]:
    """X and importance of random layers with given numbers of neurons active on both inputs, alpha alone, beta alone.

    Few neurons active on one input alone are drawn more often where they hardly are: t = theta u^3 with weight 3 u^2,
    and the exponential E as a gamma variable of shape 1/2.
    """
    v = rng.uniform(theta - math.pi, math.pi - theta, (samples, both))
    e = rng.standard_exponential((samples, both))
    squares, importance = [], np.ones(samples)
    for count, sign in ((alpha, 1.0), (beta, -1.0)):
        power, shape = (3, 0.5) if count <= 4 else (1, 1.0)
        u, energy = rng.uniform(0.0, 1.0, (samples, count)), rng.standard_gamma(shape, (samples, count))
        importance *= (power * u ** (power - 1) * math.gamma(shape) * energy ** (1.0 - shape)).prod(1)
        alone = 2.0 * (energy * np.sin(theta * u**power) ** 2).sum(1)
        squares.append((2.0 * e * np.cos(0.5 * (v + sign * theta)) ** 2).sum(1) + alone)
    c = (2.0 * e * np.cos(0.5 * (v + theta)) * np.cos(0.5 * (v - theta))).sum(1)
    return np.log1p(-(c**2) / (squares[0] * squares[1])), importance


@pytest.mark.slow
@pytest.mark.parametrize("n", [10, 30])
def test_rare_layers_by_strata(n: int) -> None:
    """Near pi, moments summed over the numbers of neurons active on both inputs or one, with their exact probabilities.

    Layers in which one input is all but dead are seen however rare: most random layers go where they matter most.
    """
    theta, rng = 3.1, np.random.default_rng(3)
    both, alone = (math.pi - theta) / (2 * math.pi), theta / (2 * math.pi)
    strata = {}
    for k in range(1, 7):
        for a in range(n + 1 - k):
            for b in range(a, n + 1 - k - a):
                ways = math.comb(n, k) * math.comb(n - k, a) * math.comb(n - k - a, b) * (1 + (a != b))
                weight = ways * both ** (n - a - b) * alone ** (a + b)
                if k + a + b > 1 and weight > 1e-14:
                    x, importance = stratum(rng, theta, k, a, b, 300)
                    strata[k, a, b] = weight, weight * (importance * x).std(), weight * (importance * x**2).std()
    _, firsts, seconds = np.array(list(strata.values())).sum(0)
    moments, errors = np.zeros(2), np.zeros(2)
    for numbers, (weight, first, second) in strata.items():
        samples = 100 + int(2e6 * (first / firsts + second / seconds))
        x, importance = stratum(rng, theta, *numbers, samples)
        for power in (1, 2):
            moments[power - 1] += weight * (importance * x**power).mean()
            errors[power - 1] += weight**2 * (importance * x**power).var() / samples
    mean, second = moments / survival(theta, n)
    angles = predict_angles(wa.MLP([n]), theta, method="exact")
    assert abs(float(angles.log_sin2[1]) - mean) < 5.0 * math.sqrt(errors[0])
    assert abs(float(angles.variance[1]) + mean**2 - second) < 5.0 * math.sqrt(errors[1])
    assert 5.0 * math.sqrt(errors[0]) < 0.05 * abs(mean)
    assert 5.0 * math.sqrt(errors[1]) < 0.1 * second


def test_ten_layers_against_ensemble() -> None:
    """Within three standard errors in every layer. Theorem 1 closed by a Gaussian is 700 off and more."""
    assert CHAIN["widths"] == [30] * 10
    assert CHAIN["samples"] >= 10**8
    assert np.abs(z_scores(CHAIN, "exact")).max() < 3.0
    assert np.abs(z_scores(CHAIN, "finite-width")).min() > 100.0
    assert round(float(predict_angles(wa.MLP([30] * 10), 0.5, method="exact").log_sin2[10]), 3) == -3.034


def tanh_sinh(low: float, high: float, n: int = 60) -> tuple[Any, Any]:
    t = np.linspace(-3.1, 3.1, n)
    u = 0.5 * math.pi * np.sinh(t)
    weights = (t[1] - t[0]) * 0.25 * math.pi * np.cosh(t) / np.cosh(u) ** 2
    return low + (high - low) * 0.5 * (1.0 + np.tanh(u)), (high - low) * weights


def two_neurons(theta: float, f: Callable[[Any], Any]) -> float:
    """E[f(ln sin^2)] given survival for two neurons, over both phases and the share of the squared radii, uniform.

    With angles psi of the two pairs in the plane, sin^2 = w (1-w) sin^2(theta) sin^2(psi_1 - psi_2)/(A B) where both
    are active on both inputs; a neuron on both and one on alpha alone give a_2^2/(a_1^2 + a_2^2); one on alpha and one
    on beta give 1. Nothing else survives.
    """
    both, alone = (math.pi - theta) / (2 * math.pi), theta / (2 * math.pi)
    w, w_weights = tanh_sinh(0.0, 1.0)
    w, v = w[:, None, None], w[::-1, None, None]
    low, high = theta - math.pi / 2, math.pi / 2
    # psi_1 < psi_2: psi_1 = low + x y L, psi_2 = low + y L, with the singularity of ln sin^2 at x = 1.
    x, x_weights = tanh_sinh(0.0, 1.0)
    length = high - low
    gap = x[::-1, None] * x[None, :] * length
    first, second = low + x[:, None] * x[None, :] * length, low + x[None, :] * length + 0.0 * x[:, None]
    area = 2.0 * x_weights[:, None] * x_weights[None, :] * x[None, :]
    a = w * np.cos(first) ** 2 + v * np.cos(second) ** 2
    b = w * np.cos(first - theta) ** 2 + v * np.cos(second - theta) ** 2
    total = both**2 * np.einsum(
        "i,jk,ijk->", w_weights, area, f(np.log(w * v * (math.sin(theta) * np.sin(gap)) ** 2) - np.log(a) - np.log(b))
    )
    p, p_weights = tanh_sinh(low, high)
    t, t_weights = tanh_sinh(0.0, theta)
    one, two = w * np.cos(p)[:, None] ** 2, v * np.sin(t)[None, :] ** 2
    values = f(np.log(two) - np.log(one + two))
    total += 4 * both * alone * np.einsum("i,j,k,ijk->", w_weights, p_weights / length, t_weights / theta, values)
    total += 2 * alone**2 * float(f(np.zeros(1))[0])
    return float(total) / (both**2 + 4 * both * alone + 2 * alone**2)


@pytest.mark.parametrize("theta0", [0.05, 0.3, 1.0, math.pi / 2, 2.0, 2.8])
def test_two_neurons_by_direct_quadrature(theta0: float) -> None:
    mean = two_neurons(theta0, lambda x: x)
    variance = two_neurons(theta0, lambda x: x**2) - mean**2
    angles = predict_angles(wa.MLP([2]), theta0, method="exact")
    assert_allclose(angles.log_sin2[1], mean, rtol=1e-8)
    assert_allclose(angles.variance[1], variance, rtol=1e-8)


def expectation(layer: Any, theta: float, f: Callable[[Any], Any]) -> float:
    """E[f(next angle); survival] by the modes of f."""
    nodes, matrix = mode_nodes(_N_MODES)
    return float(layer.rows(theta)[0] @ (matrix @ f(nodes)))


@pytest.mark.parametrize("n", [2, 3, 5, 30, 300])
def test_orthogonal_inputs(n: int) -> None:
    """At pi/2 the inputs are independent, and directions of active pre-activations uniform in the positive orthant.

    So E[a_1 a_2/A] = 2/(pi K) given that 1 and 2 are among K active, and E[cos^2] is a sum over K in closed form.
    """
    alive, pairs = 1.0 - 0.5**n, 2.0 / math.pi * (0.5 * n - 1.0 + 0.5**n)
    square = alive**2 / n + pairs**2 / (n * (n - 1.0)) - n * 0.25**n
    assert_allclose(expectation(exact_layer(n), math.pi / 2, lambda t: np.cos(t) ** 2), square, rtol=1e-9)


@pytest.mark.parametrize("n", [2, 3, 10, 39, 40, 300, 10_000])
def test_small_angles_are_bartletts_law(n: int) -> None:
    mean, variance = rules.small_angle_rule(n)
    for theta0, tolerance in ((1e-300, 1e-12), (1e-9, 1e-9), (1e-5, 1e-5)):
        angles = predict_angles(wa.MLP([n]), theta0, method="exact")
        assert abs(float(angles.log_sin2[1] - angles.log_sin2[0]) - mean) < tolerance * (1.0 + abs(mean))
        assert abs(float(angles.variance[1]) - variance) < tolerance * (1.0 + variance)


@pytest.mark.parametrize("theta0", [1e-6, 0.01, 0.3, 1.0, math.pi / 2])
def test_integrals_meet_the_expansion(theta0: float) -> None:
    """Beyond width 512 the expansion to fifth order takes over; where it does both must be the same."""
    integrated, wide = IntegratedLayer(512), WideLayer(512)
    (mean, variance), (expanded_mean, expanded_variance) = integrated.moments(theta0), wide.moments(theta0)
    assert abs(mean / expanded_mean - 1.0) < 1e-9
    assert abs(variance / expanded_variance - 1.0) < 1e-8
    assert abs(mean / float(rules.theorem1(np.array([theta0]), 512)[0][0]) - 1.0) > 1e-5


@pytest.mark.parametrize("theta0", [0.05, 0.5, 1.5])
def test_integrals_meet_the_expansion_through_depth(theta0: float) -> None:
    """Their operators know nothing of each other: one has fits and integrals, the other four cumulants."""
    integrated, wide = (np.array(propagate([layer(512)] * 10, theta0)) for layer in (IntegratedLayer, WideLayer))
    assert_allclose(integrated[:, 0], wide[:, 0], rtol=1e-6)
    assert_allclose(integrated[:, 0].sum(), wide[:, 0].sum(), rtol=1e-7)
    assert_allclose(integrated[:, 1], wide[:, 1], rtol=1e-5)


@pytest.mark.parametrize("theta0", [1.58, 2.0, 2.5, 3.0])
@pytest.mark.parametrize("n", [4, 30, 200])
def test_both_frames_agree_on_obtuse_angles(n: int, theta0: float) -> None:
    """The frames of c^2 and c^4, made for small c, against that of c, which has the angle's origin subtracted."""
    layer = IntegratedLayer(n)
    alive, first, second = layer.rows(theta0)[:, 0]
    mean, variance = layer.moments(theta0)
    assert abs(float(first / alive) - mean) < 1e-10
    assert abs(float(second / alive) - (variance + mean**2)) < 1e-9


@pytest.mark.parametrize("theta", [1e-9, 0.5, 2.0, 3.0])
@pytest.mark.parametrize("n", [2, 3, 11])
def test_survival(theta: float, n: int) -> None:
    """By enumeration of the numbers of neurons active on both inputs, alpha alone and beta alone."""
    both, alone = (math.pi - theta) / (2 * math.pi), theta / (2 * math.pi)
    total = 0.0
    for k in range(n + 1):
        for a in range(n + 1 - k):
            for b in range(n + 1 - k - a):
                if k + a and k + b and k + (a > 0) + (b > 0) >= 2:
                    ways = math.comb(n, k) * math.comb(n - k, a) * math.comb(n - k - a, b)
                    total += ways * both**k * alone ** (a + b) * both ** (n - k - a - b)
    assert_allclose(survival(theta, n), total, rtol=1e-12)
    assert_allclose(IntegratedLayer(n).rows(theta)[0, 0], total, rtol=1e-8)


@pytest.mark.parametrize(("power", "epsilon"), [(1, 0.02), (1, 1.7), (2, 0.5), (4, 0.3)])
@pytest.mark.parametrize(("theta", "n"), [(0.4, 3), (1.3, 8), (2.6, 4)])
def test_members_against_random_layers(power: int, epsilon: float, theta: float, n: int) -> None:
    """c^m times the integral over eta, in 200,000 random layers that survive, within five standard errors."""
    rng = np.random.default_rng(17)
    samples = 200_000
    g, h = rng.standard_normal((2, samples, n))
    x, y = np.maximum(g, 0.0), np.maximum(math.cos(theta) * g + math.sin(theta) * h, 0.0)
    a, b, c = (x * x).sum(1), (y * y).sum(1), (x * y).sum(1)
    both, rank = ((x > 0) & (y > 0)).sum(1), ((x > 0) != (y > 0)).any(1)
    alive = (a > 0) & (b > 0) & (rank | (both > 1))
    cosine = c[alive] / np.sqrt(a * b)[alive]
    eta, step = np.linspace(-25.0, 25.0, 501, retstep=True)
    values = np.zeros(samples)
    gap = 2.0 * np.sinh(0.5 * eta) ** 2 + 1.0
    for start in range(0, cosine.size, 20_000):
        part = cosine[start : start + 20_000, None]
        integrand = math.factorial(power - 1) * (part / (2.0 * (gap + (epsilon - 1.0) * part))) ** power
        values[start : start + part.size] = step * integrand.sum(1)
    expected = float(expected_members(theta, n, power, np.array([epsilon]))[0])
    assert abs(values.mean() - expected) < 5.0 * values.std() / math.sqrt(samples)


@pytest.mark.parametrize("order", [0, 1, 2, 3, 4])
def test_diagonal_moments(order: int) -> None:
    theta = np.array([3.14159, 3.0, 2.0, 1.0, 0.1])
    # pi - theta needs the rest of pi where it is small.
    assert_allclose(
        diagonal_moment(order, (math.pi - theta) + 1.2246e-16), mixed_moment(order, order, theta), rtol=3e-13
    )


@pytest.mark.slow
@pytest.mark.parametrize(("widths", "theta0"), [((5, 3, 8), 2.8), ((2, 2, 2, 2), 1.0), ((12, 700, 7), 0.2)])
def test_unequal_narrow_layers_against_ensembles(widths: tuple[int, ...], theta0: float) -> None:
    ensemble = simulate_angles(wa.MLP(widths), theta0, n_samples=2_000_000, seed=5)
    exact = predict_angles(wa.MLP(widths), theta0, method="exact")
    later = slice(1, None)
    assert (np.abs(exact.log_sin2 - ensemble["mean"])[later] < 5.0 * ensemble.mean_standard_error[later]).all()
    assert (np.abs(exact.variance - ensemble.variance)[later] < 5.0 * ensemble.variance_standard_error[later]).all()


@pytest.mark.parametrize("n", [3, 10, 24, 25, 39, 40, 100, 101, 512, 513])
def test_deep_chains_do_not_blow_up(n: int) -> None:
    """No function that vanishes at angle 0 may grow from layer to layer: its expectation cannot."""
    operator = exact_layer(n).operators()[0]
    growth = np.abs(np.linalg.eigvals(operator[1:, 1:])).max() / operator[0, 0]
    assert growth < 1.0


@pytest.mark.parametrize("n", [10, 30])
def test_ten_thousand_layers_end_at_small_angles(n: int) -> None:
    angles = predict_angles(wa.MLP([n] * 10_000), 1.0, method="exact")
    mean, variance = rules.small_angle_rule(n)
    assert_allclose(np.diff(angles.log_sin2)[-100:], mean, rtol=1e-9)
    assert_allclose(np.diff(angles.variance)[-100:], variance, rtol=1e-7)


@pytest.mark.parametrize("theta0", [1e-300, 1e-7, 1.0, math.pi / 2, 3.1, 3.14159, math.pi])
@pytest.mark.parametrize("widths", [(2, 2, 2), (3, 10, 2**31), (1000, 5), (2**31, 2**31)])
def test_any_width_and_angle(widths: tuple[int, ...], theta0: float) -> None:
    angles = predict_angles(wa.MLP(widths), theta0, method="exact")
    assert np.isfinite(angles.log_sin2).all()
    assert (np.diff(angles.log_sin2[1:]) < 0.0).all() or theta0 == 1e-300
    assert (angles.variance[1:] > 0.0).all()
    # Nothing depends on what was computed before.
    assert angles.identical(predict_angles(wa.MLP(widths), theta0, method="exact"))


def test_right_angle_after_an_obtuse_one() -> None:
    """From an angle near pi the first layer ends at pi/2 all but surely, and the second starts there."""
    near = predict_angles(wa.MLP([30, 20]), math.pi - 1e-6, method="exact")
    right = predict_angles(wa.MLP([20]), math.pi / 2, method="exact")
    assert float(near.log_sin2[1]) < 0.0
    assert abs(float(near.log_sin2[2] - right.log_sin2[1])) < 1e-10
    assert abs(float(near.variance[2] - right.variance[1])) < 1e-9


def test_modes_hold_constants_and_the_angle() -> None:
    nodes, matrix = mode_nodes(_N_MODES)
    assert_allclose(matrix @ np.ones(nodes.size), np.eye(_N_MODES)[0], atol=1e-9)
    theta = np.array([0.0, 1e-5, 0.3, HALF_PI])
    assert_allclose(modes(theta, _N_MODES) @ (matrix @ np.sin(nodes)), np.sin(theta), rtol=1e-9, atol=1e-15)


def test_source_says_that_it_is_new() -> None:
    angles = predict_angles(wa.MLP([30]), 0.5, method="exact")
    assert angles.attrs["method"] == "exact"
    assert angles.attrs["source"].startswith("wideangle: exact law")
    assert_array_equal(angles.layer, [0, 1])
