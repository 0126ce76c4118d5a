"""The ensemble of Gram matrices against exact laws of one layer, plain simulation and real networks."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special, stats

import wideangle as wa
from wideangle.activations import ACTIVATIONS

Array = NDArray[np.float64]
SIGMA = 5.0
THREE = np.array([[1.0, 0.6, -0.9], [0.6, 2.0, 0.3], [-0.9, 0.3, 3.0]])


def z_scores(estimate: Any, standard_error: Any, exact: Any) -> Array:
    return cast(Array, np.abs(np.asarray(estimate) - np.asarray(exact)) / np.asarray(standard_error))


def inputs_of(n_inputs: int) -> Array:
    x = np.random.default_rng(n_inputs).standard_normal((n_inputs, 20))
    gram: Array = x @ x.T / 20
    return gram


@pytest.mark.parametrize("n_inputs", [2, 3, 10])
def test_one_relu_layer_has_the_arc_cosine_mean_and_its_variance(n_inputs: int) -> None:
    n, gram0 = 20, inputs_of(n_inputs)
    at = wa.propagation.simulate_gram(wa.MLP((n,), weight_variance=1.7), gram0, n_samples=200_000, seed=1).sel(layer=1)
    norm = np.sqrt(np.outer(gram0.diagonal(), gram0.diagonal())) * 1.7
    theta = np.arccos(np.clip(gram0 * 1.7 / norm, -1.0, 1.0))
    sine, cosine, rest = np.sin(theta), np.cos(theta), math.pi - theta
    mean = norm * (sine + rest * cosine) / (2 * math.pi)
    square = norm**2 * (rest * (2 * cosine**2 + 1) + 3 * sine * cosine) / (2 * math.pi)
    assert z_scores(at["mean"], at.mean_standard_error, mean).max() < SIGMA
    assert z_scores(at.variance, at.variance_standard_error, (square - mean**2) / n).max() < SIGMA


def test_linear_networks_multiply_wishart_matrices() -> None:
    widths, gram0, weight_variance = (6, 30, 11), inputs_of(5), 0.7
    net = wa.MLP(widths, activation="linear", weight_variance=weight_variance)
    ensemble = wa.propagation.simulate_gram(net, gram0, n_samples=100_000, seed=2)
    mean, variance = np.linalg.slogdet(gram0)[1], 0.0
    for layer, n in enumerate(widths, start=1):
        # Bartlett: the determinant of a Wishart matrix is a product of independent chi-squares.
        half = (n - np.arange(5)) / 2
        mean += 5 * math.log(weight_variance / n) + float(np.sum(special.digamma(half) + math.log(2)))
        variance += float(np.sum(special.polygamma(1, half)))
        at = ensemble.sel(layer=layer)
        assert int(at.full_rank) == 100_000
        assert z_scores(at.log_determinant_mean, at.log_determinant_mean_standard_error, mean) < SIGMA
        assert z_scores(at.log_determinant_variance, at.log_determinant_variance_standard_error, variance) < SIGMA
        expected = gram0 * weight_variance**layer
        assert z_scores(at["mean"], at.mean_standard_error, expected).max() < SIGMA


@pytest.mark.parametrize("n_inputs", [3, 5])
def test_determinants_at_small_angles_are_ratios_of_chi_squares(n_inputs: int) -> None:
    # Inputs so close that a neuron is active on all or none: given K active neurons Q is a Wishart matrix of K degrees
    # of freedom whose diagonal entries all share one chi-square, and the determinant of the correlations has the law
    # of the product of chi2_{K-i}/chi2_K over i = 1 ... m-1.
    n, x = 40, np.random.default_rng(1).standard_normal((n_inputs, 20))
    x = 1.0 + 1e-5 * x
    gram0 = x @ x.T / 20
    at = wa.propagation.simulate_gram(wa.MLP((n,)), gram0, n_samples=50_000, seed=3, keep="samples")
    logs = at.log_determinant.values - np.log(np.einsum("slii->sli", at.gram.values)).sum(axis=2)
    full = (at["rank"].values == n_inputs).all(axis=1)
    assert full.sum() > 49_990
    step = np.diff(logs[full], axis=1)[:, 0]
    k = np.arange(n_inputs, n + 1)
    weight = stats.binom.pmf(k, n, 0.5)
    each = sum(special.digamma((k - i) / 2) - special.digamma(k / 2) for i in range(1, n_inputs))
    mean = float(weight @ each / weight.sum())
    # A neuron splits the inputs with probability of the order of the angle, 1e-5.
    assert abs(step.mean() - mean) < SIGMA * step.std() / math.sqrt(step.size) + 1e-4


@pytest.mark.parametrize("n", [1, 7, 40])
def test_one_input_has_the_law_of_chi_squares(n: int) -> None:
    def gram(activation: str) -> Array:
        net = wa.MLP((n,), activation=activation, weight_variance=3.0)
        samples = wa.propagation.simulate_gram(net, [[0.5]], n_samples=50_000, seed=n, keep="samples")
        return np.asarray(samples.gram.values[:, 1, 0, 0]) * n / 1.5

    for activation in ("linear", "abs"):
        assert stats.kstest(gram(activation), stats.chi2(n).cdf).pvalue > 1e-6
    relu = gram("relu")
    dead = np.count_nonzero(relu == 0.0)
    assert abs(dead - 50_000 * 0.5**n) <= SIGMA * math.sqrt(50_000 * 0.5**n) + 0.5
    k = np.arange(1, n + 1)
    weight = stats.binom.pmf(k, n, 0.5) / (1 - 0.5**n)
    assert stats.kstest(relu[relu > 0], lambda x: stats.chi2.cdf(x[:, None], k) @ weight).pvalue > 1e-6


def plain_simulation(net: wa.MLP, gram0: Array, n_samples: int, seed: int) -> Array:
    """Gram matrices (sample, layer, input, input) with a symmetric square root of each covariance."""
    rng = np.random.default_rng(seed)
    gram = np.broadcast_to(gram0, (n_samples, *gram0.shape))
    layers = [gram]
    for n in net.widths:
        values, vectors = np.linalg.eigh(net.bias_variance + net.weight_variance * gram)
        root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
        phi = net.phi.value(rng.standard_normal((n_samples, n, len(gram0))) @ root.transpose(0, 2, 1))
        gram = phi.transpose(0, 2, 1) @ phi / n
        layers.append(gram)
    return np.stack(layers, axis=1)


@pytest.mark.parametrize("bias_variance", [0.0, 0.3])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_agrees_with_plain_simulation(activation: str, bias_variance: float) -> None:
    net = wa.MLP((8, 15), activation=activation, weight_variance=1.5, bias_variance=bias_variance)
    n_samples = 40_000
    gram = plain_simulation(net, THREE, n_samples, seed=3)
    ensemble = wa.propagation.simulate_gram(net, THREE, n_samples=4 * n_samples, seed=4)
    for layer in (1, 2):
        at, plain = ensemble.sel(layer=layer), wa.statistics.Moments.from_samples(gram[:, layer])
        error = np.hypot(at.mean_standard_error, plain.standard_error_mean)
        assert z_scores(at["mean"], error, plain.mean).max() < SIGMA
        error = np.hypot(at.variance_standard_error, plain.standard_error_variance)
        assert z_scores(at.variance, error, plain.variance).max() < SIGMA
        # Where inputs died the determinant is zero, where one neuron fires on two inputs alone it is not.
        sign, log_determinant = np.linalg.slogdet(gram[:, layer])
        full = (sign > 0) & (np.linalg.cond(gram[:, layer]) < 1e11)
        if full.all():
            logs = wa.statistics.Moments.from_samples(log_determinant)
            error = np.hypot(at.log_determinant_mean_standard_error, logs.standard_error_mean)
            assert z_scores(at.log_determinant_mean, error, logs.mean) < SIGMA
        share, lost = 1 - full.mean(), 1 - int(at.full_rank) / (4 * n_samples)
        assert abs(share - lost) <= SIGMA * math.sqrt((share + lost + 1e-4) * (1.25 / n_samples))
        trace = np.trace(gram[:, layer], axis1=1, axis2=2)
        moved = trace > 0
        ratio = trace[moved] ** 2 / np.sum(gram[moved, layer] ** 2, axis=(1, 2))
        ranks = wa.statistics.Moments.from_samples(ratio)
        error = np.hypot(at.effective_rank_mean_standard_error, ranks.standard_error_mean)
        assert z_scores(at.effective_rank_mean, error, ranks.mean) < SIGMA


def test_real_networks_have_the_same_gram_matrices() -> None:
    x = np.random.default_rng(5).standard_normal((4, 12))
    net = wa.MLP((20, 9, 30), activation="gelu", bias_variance=0.2)
    networks = wa.propagation.simulate_outputs(net, x, n_networks=20_000, seed=6, keep="gram")
    ensemble = wa.propagation.simulate_gram(net, x @ x.T / 12, n_samples=200_000, seed=7)
    hidden = ensemble.sel(layer=slice(1, None))
    plain = wa.statistics.Moments.from_samples(networks.gram.values[:, 1:])
    error = np.hypot(hidden.mean_standard_error, plain.standard_error_mean)
    assert z_scores(hidden["mean"], error, plain.mean).max() < SIGMA
    error = np.hypot(hidden.variance_standard_error, plain.standard_error_variance)
    assert z_scores(hidden.variance, error, plain.variance).max() < SIGMA


def determinants(gram: Array) -> Array:
    """ln det of the first two inputs where it is well above the rounding, else NaN."""
    a, b, c = gram[..., 0, 0], gram[..., 1, 1], gram[..., 0, 1]
    product = a * b
    with np.errstate(divide="ignore", invalid="ignore"):
        logs: Array = np.where(product - c * c > 1e-9 * product, np.log(product - c * c), np.nan)
    return logs


def test_the_angle_kernel_and_the_general_one_agree() -> None:
    # Layers so narrow that pairs die and collapse; a third input turns the angle kernel off.
    net, n_samples = wa.MLP((12,) * 6), 100_000
    pair = wa.propagation.simulate_gram(net, THREE[:2, :2], n_samples=n_samples, seed=8)
    three = wa.propagation.simulate_gram(net, THREE, n_samples=n_samples, seed=9).isel(
        input=slice(0, 2), input_=slice(0, 2)
    )
    for name in ("", "log_norm2_"):
        for moment in ("mean", "variance"):
            mine, other = (data[f"{name}{moment}"].values[1:] for data in (pair, three))
            errors = [data[f"{name}{moment}_standard_error"].values[1:] for data in (pair, three)]
            assert z_scores(mine, np.hypot(*errors), other).max() < SIGMA
    spread = np.sqrt((pair.dead + three.dead).values + 1.0)
    assert np.abs((pair.dead - three.dead).values / spread).max() < SIGMA
    assert int(pair.dead.min(dim="input")[-1]) > 50

    logs = [
        determinants(wa.propagation.simulate_gram(net, gram0, n_samples=20_000, seed=10, keep="samples").gram.values)
        for gram0 in (THREE[:2, :2], THREE)
    ]
    for layer in range(1, 7):
        first, second = (values[:, layer][np.isfinite(values[:, layer])] for values in logs)
        assert stats.ks_2samp(first, second).pvalue > 1e-6


def test_pairs_are_those_of_simulate_angles() -> None:
    net, theta0, n_samples = wa.MLP((9, 30, 5), weight_variance=1.3), 0.4, 5000
    gram0 = np.array([[4.0, 6.0 * math.cos(theta0)], [6.0 * math.cos(theta0), 9.0]])
    angles = wa.propagation.simulate_angles(net, theta0, n_samples=n_samples, seed=11)
    grams = wa.propagation.simulate_gram(net, gram0, n_samples=n_samples, seed=11)
    np.testing.assert_array_equal(grams.rank_lost, angles.collapsed + angles.dead)
    samples = wa.propagation.simulate_gram(net, gram0, n_samples=n_samples, seed=11, keep="samples")
    single = wa.propagation.simulate_angles(net, theta0, n_samples=n_samples, seed=11, keep="samples")
    alive = np.isfinite(single.log_sin2.values)
    norm_a, norm_b = samples.gram.values[..., 0, 0][alive], samples.gram.values[..., 1, 1][alive]
    # theta0 comes from the matrix, whose entries are rounded.
    np.testing.assert_allclose(norm_a, 4.0 * np.exp(single.log_norm2.values[alive]), rtol=1e-12)
    log_sin2 = samples.log_determinant.values[alive] - np.log(norm_a) - np.log(norm_b)
    np.testing.assert_allclose(log_sin2, single.log_sin2.values[alive], atol=1e-11)


def test_determinants_of_pairs_go_beyond_float64() -> None:
    gram0 = np.array([[1.0, math.cos(1e-3)], [math.cos(1e-3), 1.0]])
    ensemble = wa.propagation.simulate_gram(wa.MLP((30,) * 600), gram0, n_samples=200, seed=12)
    assert int(ensemble.full_rank[-1]) > 190
    assert -75.0 < float(ensemble.log_determinant_mean[-1] - ensemble.log_norm2_mean[-1].sum()) < -50.0


def test_singular_matrices_and_zero_inputs() -> None:
    # x, -x, 2x and 0: rank 1. ReLU makes x and -x orthogonal, and keeps x and 2x parallel.
    x = np.array([[1.0], [-1.0], [2.0], [0.0]])
    ensemble = wa.propagation.simulate_gram(wa.MLP((50, 50)), x @ x.T, n_samples=500, seed=1, keep="samples")
    assert ensemble["rank"].values.T.tolist() == [[1] * 500, [2] * 500, [2] * 500]
    assert np.all(np.isneginf(ensemble.log_determinant))
    gram = ensemble.gram.values
    assert np.all(gram[:, 1, 0, 1] == 0.0)
    assert np.all(gram[:, :, 3] == 0.0)
    np.testing.assert_allclose(gram[:, :, 2, 2], 4.0 * gram[:, :, 0, 0], rtol=1e-6)

    moments = wa.propagation.simulate_gram(wa.MLP((50, 50)), x @ x.T, n_samples=500, seed=1)
    assert moments.rank_lost.values.tolist() == [500] * 3
    assert np.isnan(moments.log_determinant_mean).all()
    assert moments.dead.values[:, 3].tolist() == [500] * 3
    assert moments.dead.values[1, :3].tolist() == [0, 0, 0]
    nothing = wa.propagation.simulate_gram(wa.MLP((5,)), np.zeros((2, 2)), n_samples=50, seed=1)
    assert np.all(nothing["mean"] == 0.0)
    assert np.isnan(nothing.effective_rank_mean).all()
    # Biases wake zeros up.
    biased = wa.propagation.simulate_gram(wa.MLP((5,), bias_variance=1.0), np.zeros((2, 2)), n_samples=50, seed=1)
    assert np.all(biased["mean"][1] > 0.0)
    assert biased.full_rank.values.tolist() == [0, 0]


def test_rank_is_lost_with_depth_and_said() -> None:
    gram0 = inputs_of(10)
    ensemble = wa.propagation.simulate_gram(wa.MLP((25,) * 120), gram0, n_samples=200, seed=1)
    lost = ensemble.rank_lost.values
    assert lost[0] == 0
    assert lost[-1] == 200
    assert np.all(np.diff(lost) >= 0)
    assert np.all(ensemble.full_rank.values >= 200 - lost)
    assert np.isfinite(ensemble["mean"]).all()
    narrow = wa.propagation.simulate_gram(wa.MLP((6, 60)), gram0, n_samples=50, seed=1)
    assert narrow.full_rank.values[1] == 0
    assert narrow.rank_lost.values.tolist() == [0, 50, 50]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("weight_variance", [1.0, 4.0, 256.0])
def test_no_variance_makes_a_nan(activation: str, weight_variance: float) -> None:
    net = wa.MLP((64,) * 16, activation=activation, weight_variance=weight_variance)
    ensemble = wa.propagation.simulate_gram(net, inputs_of(10), n_samples=32, seed=1)
    for name in ("mean", "log_norm2_mean", "effective_rank_mean", "variance", "mean_standard_error"):
        assert np.isfinite(ensemble[name]).all(), name


@pytest.mark.parametrize("weight_variance", [0.01, 2.0, 256.0])
def test_deep_networks_stay_finite_in_the_log_domain(weight_variance: float) -> None:
    net = wa.MLP((32,) * 2000, weight_variance=weight_variance)
    ensemble = wa.propagation.simulate_gram(net, THREE, n_samples=64, seed=1)
    logs = ensemble.log_norm2_mean.values
    # The mean of ln chi^2_K/n, K ~ Binomial(n, 1/2) given K > 0, for each layer.
    k = np.arange(1, 33)
    weight = stats.binom.pmf(k, 32, 0.5) / (1 - 0.5**32)
    step = float(weight @ (special.digamma(k / 2) + math.log(2))) + math.log(weight_variance / 32)
    spread = float(weight @ (special.polygamma(1, k / 2) + special.digamma(k / 2) ** 2)) - (
        float(weight @ special.digamma(k / 2)) ** 2
    )
    assert abs(logs[-1, 0] - logs[0, 0] - 2000 * step) < SIGMA * math.sqrt(2000 * spread / 64)
    assert np.isfinite(ensemble.effective_rank_mean).all()


def test_other_seeds_layers_and_samples_are_independent() -> None:
    net = wa.MLP((20, 20), activation="linear")
    first = wa.propagation.simulate_gram(net, THREE, n_samples=50_000, seed=1, keep="samples").log_determinant.values
    second = wa.propagation.simulate_gram(net, THREE, n_samples=50_000, seed=2, keep="samples").log_determinant.values
    step1, step2 = np.diff(first, axis=1), np.diff(second, axis=1)
    bound = SIGMA / math.sqrt(50_000)
    assert abs(np.corrcoef(step1[:, 0], step1[:, 1])[0, 1]) < bound
    assert abs(np.corrcoef(step1[:, 0], step2[:, 0])[0, 1]) < bound
    assert abs(np.corrcoef(step1[:-1, 0], step1[1:, 0])[0, 1]) < bound
    assert abs(np.corrcoef(step1[:-16, 0], step1[16:, 0])[0, 1]) < bound
