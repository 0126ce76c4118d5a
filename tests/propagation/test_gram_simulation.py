"""The ensemble of Gram matrices against exact one-layer laws, plain simulation, real networks, and itself."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import special, stats

import wideangle as wa
from wideangle._cpu import CPU_PATH_VARIABLE, cpu_paths
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


def bits(dataset: xr.Dataset) -> dict[str, bytes]:
    return {str(name): variable.values.tobytes() for name, variable in dataset.data_vars.items()}


@pytest.mark.parametrize(("activation", "bias_variance"), [("relu", 0.0), ("relu", 0.1), ("gelu", 0.1), ("sin", 0.0)])
@pytest.mark.parametrize("n_inputs", [2, 5])
def test_every_cpu_path_and_thread_count_gives_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, activation: str, bias_variance: float, n_inputs: int
) -> None:
    net = wa.MLP((7, 30, 12), activation=activation, bias_variance=bias_variance)

    def run(n_threads: int) -> dict[str, bytes]:
        return bits(wa.propagation.simulate_gram(net, inputs_of(n_inputs), n_samples=700, seed=9, n_threads=n_threads))

    expected = run(1)
    for path in cpu_paths():
        monkeypatch.setenv(CPU_PATH_VARIABLE, path)
        assert run(3) == expected


@given(
    first=st.integers(0, 600),
    count=st.integers(1, 300),
    seed=st.integers(0, 2**64 - 1),
    widths=st.lists(st.integers(1, 20), min_size=1, max_size=3),
    n_inputs=st.integers(1, 5),
    activation=st.sampled_from(ACTIVATIONS),
    bias_variance=st.sampled_from([0.0, 0.5]),
)
@settings(max_examples=40, deadline=None)
def test_sample_k_does_not_depend_on_the_run(
    first: int, count: int, seed: int, widths: list[int], n_inputs: int, activation: str, bias_variance: float
) -> None:
    net = wa.MLP(widths, activation=activation, bias_variance=bias_variance)
    gram0 = inputs_of(n_inputs)
    whole = wa.propagation.simulate_gram(net, gram0, n_samples=first + count, seed=seed, keep="samples")
    part = wa.propagation.simulate_gram(
        net, gram0, n_samples=count, seed=seed, keep="samples", first_sample=first, n_threads=1
    )
    xr.testing.assert_identical(whole.isel(sample=slice(first, None)).drop_attrs(), part.drop_attrs())
    gram = part.gram.values
    assert np.isfinite(gram).all()
    np.testing.assert_array_equal(gram, gram.swapaxes(2, 3))
    full = part["rank"].values == n_inputs
    np.testing.assert_array_equal(np.isfinite(part.log_determinant.values), full)


def test_moments_are_those_of_the_samples() -> None:
    net = wa.MLP((6, 5, 12))
    arguments: dict[str, Any] = {"n_samples": 3000, "seed": 4}
    moments = wa.propagation.simulate_gram(net, THREE, **arguments)
    samples = wa.propagation.simulate_gram(net, THREE, **arguments, keep="samples")
    gram = samples.gram.values
    np.testing.assert_allclose(moments["mean"], gram.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.variance, gram.var(axis=0, ddof=1), rtol=1e-10, atol=1e-25)
    lost = np.maximum.accumulate(samples["rank"].values < 3, axis=1)
    np.testing.assert_array_equal(moments.rank_lost, lost.sum(axis=0))
    for layer in range(4):
        at = moments.sel(layer=layer)
        full = samples["rank"].values[:, layer] == 3
        logs = samples.log_determinant.values[full, layer]
        assert int(at.full_rank) == full.sum()
        np.testing.assert_allclose(at.log_determinant_mean, logs.mean(), rtol=1e-12)
        norms = np.einsum("sii->si", gram[:, layer])
        np.testing.assert_array_equal(at.dead, np.count_nonzero(norms == 0.0, axis=0))
        for i in range(3):
            np.testing.assert_allclose(
                at.log_norm2_mean[i], np.log(norms[norms[:, i] > 0, i]).mean(), rtol=1e-11, atol=1e-14
            )


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


@pytest.mark.parametrize("dtype", ["int64", "uint8", "float16", ">f8", ">f4", "longdouble"])
def test_any_real_type_and_layout_is_read(dtype: str) -> None:
    integers = np.array([[4, 1, 2], [1, 5, 0], [2, 0, 6]])
    net = wa.MLP((5,))
    expected = wa.propagation.simulate_gram(net, integers.astype(np.float64), n_samples=20, seed=1)
    given_matrix = integers.astype(dtype)
    given_matrix.setflags(write=False)
    xr.testing.assert_identical(wa.propagation.simulate_gram(net, given_matrix, n_samples=20, seed=1), expected)
    strided = np.repeat(np.repeat(integers.astype(dtype), 2, axis=0), 3, axis=1)[::2, ::3]
    xr.testing.assert_identical(wa.propagation.simulate_gram(net, strided, n_samples=20, seed=1), expected)
    nested = integers.tolist()
    xr.testing.assert_identical(wa.propagation.simulate_gram(net, nested, n_samples=20, seed=1), expected)


BAD_MATRICES: list[Any] = [
    np.zeros((0, 0)),
    np.ones(3),
    np.ones((2, 3)),
    np.ones((2, 2, 2)),
    1.0,
    None,
    "gram",
    np.eye(2) * 1j,
    np.array([[1.0, np.nan], [np.nan, 1.0]]),
    np.array([[np.inf, 0.0], [0.0, 1.0]]),
    np.array([[1.0, 0.5], [0.4, 1.0]]),
    np.array([[1.0, 2.0], [2.0, 1.0]]),
    -np.eye(2),
    np.array([[True, False], [False, True]]),
    np.array([["a", "b"], ["c", "d"]]),
    [[1.0, 0.5], [0.5]],
]


@pytest.mark.parametrize("matrix", BAD_MATRICES, ids=lambda value: repr(value)[:40])
def test_bad_matrices_are_refused(matrix: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="gram0"):
        wa.propagation.simulate_gram(wa.MLP((4,)), matrix, n_samples=10, seed=1)


@given(
    matrix=hnp.arrays(
        dtype=st.sampled_from([np.float64, np.float32, np.float16, np.int32]),
        shape=hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4),
    )
)
@settings(max_examples=200, deadline=None)
def test_any_array_is_simulated_or_refused_by_name(matrix: NDArray[Any]) -> None:
    refusal, ensemble = "", None
    try:
        ensemble = wa.propagation.simulate_gram(wa.MLP((4,)), matrix, n_samples=5, seed=1)
    except (ValueError, TypeError) as error:
        refusal = str(error)
    if ensemble is None:
        assert "gram0" in refusal
    else:
        np.testing.assert_allclose(ensemble["mean"][0], matrix, rtol=1e-2, atol=1e-2 * np.abs(matrix).max())
        assert np.isfinite(ensemble.log_norm2_mean.values[~(ensemble.dead.values == 5)]).all()


GOOD: dict[str, Any] = {"net": wa.MLP((4, 4)), "gram0": np.eye(2), "n_samples": 10, "seed": 1}
BAD = [
    *[("n_samples", value) for value in (0, -5, 10**19, 10.0, "10", None, True)],
    *[("seed", value) for value in (-1, 2**64, 1.0, "1", None)],
    *[("keep", value) for value in ("all", None, 1)],
    *[("n_threads", value) for value in (0, -1, 1.5, "2", 10**6)],
    *[("first_sample", value) for value in (-1, 0.0, 10**19)],
    *[("progress", value) for value in (1, "yes", None)],
    *[("net", value) for value in ((4, 4), None)],
]


@pytest.mark.parametrize(("name", "value"), BAD, ids=lambda value: repr(value)[:30])
def test_bad_arguments_are_named(name: str, value: Any) -> None:
    arguments = {**GOOD, name: value}
    net, gram0 = arguments.pop("net"), arguments.pop("gram0")
    with pytest.raises((ValueError, TypeError), match=name):
        wa.propagation.simulate_gram(net, gram0, **arguments)


def test_what_cannot_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"n_samples = .*GiB.*keep='moments'"):
        wa.propagation.simulate_gram(wa.MLP((4,) * 100), np.eye(4), n_samples=10**13, seed=1, keep="samples")
    with pytest.raises(ValueError, match=r"gram0 with 100 inputs.*GiB"):
        wa.propagation.simulate_gram(wa.MLP((4,) * 10**6), np.eye(100), n_samples=10, seed=1)


def test_result_survives_a_file(tmp_path: Path) -> None:
    for keep in ("moments", "samples"):
        result = wa.propagation.simulate_gram(wa.MLP((9, 4)), THREE, n_samples=50, seed=2**64 - 1, keep=keep)
        result.to_netcdf(tmp_path / f"{keep}.nc", engine="h5netcdf")
        with xr.open_dataset(tmp_path / f"{keep}.nc", engine="h5netcdf") as again:
            xr.testing.assert_equal(again.load(), result)
            assert again.attrs["seed"] == str(2**64 - 1)


def test_memory_does_not_grow_with_samples() -> None:
    code = """
    import numpy as np
    import wideangle as wa
    x = np.random.default_rng(1).standard_normal((6, 9))
    wa.propagation.simulate_gram(wa.MLP((8,) * 5), x @ x.T, n_samples=1_000_000, seed=1)
    print(open("/proc/self/status").read().split("VmHWM:")[1].split("kB")[0])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, timeout=300
    )
    assert int(done.stdout) < 180 * 1024


@pytest.mark.parametrize(("width", "n_inputs"), [(64, 3), (2**31, 2), (2**31, 64)])
def test_interrupt_leaves_the_process_usable(width: int, n_inputs: int) -> None:
    code = f"""
    import threading
    import numpy as np
    import wideangle as wa
    print("ready", flush=True)
    try:
        wa.propagation.simulate_gram(wa.MLP(({width},)), np.eye({n_inputs}), n_samples=10**12, seed=1)
    except KeyboardInterrupt:
        print("interrupted", threading.active_count(), flush=True)
    again = wa.propagation.simulate_gram(wa.MLP((8,)), np.eye(2), n_samples=10, seed=1)
    print("again", int(again.full_rank[0]))
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=2)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert output == "interrupted 1\nagain 10\n"


def test_progress_reaches_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    wa.propagation.simulate_gram(wa.MLP((8,)), np.eye(3), n_samples=1000, seed=1, progress=True)
    assert "1.00k/1.00k" in capsys.readouterr().err
