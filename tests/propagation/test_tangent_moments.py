"""The tangent kernel's diagonal against networks of real weights, torch.func, and the recursion term by term."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import wideangle as wa

SIGMA = 5.0


def moment_ratio_term_by_term(widths: tuple[int, ...], kurtosis: float) -> float:
    """The double sum over pairs of layers, each from the two-component recursion of the docstring."""
    rate, depth = 3 * kurtosis - 1, len(widths)
    total = 0.0
    for k in range(1, depth + 2):
        for m in range(k, depth + 2):
            state, outside = np.array([1.0, 0.0]), 1.0
            for layer, n in enumerate(widths, start=1):
                if k <= layer < m:
                    step = np.array([[kurtosis - 1, 2 * kurtosis], [kurtosis, 2 * kurtosis - 1]]) / n
                    state = state + step @ state
                else:
                    outside *= 1 + rate / n
            total += (1 if k == m else 2) * outside * state[0]
    return total / (depth + 1) ** 2


@pytest.mark.parametrize(
    ("widths", "activation", "slope", "weight_variance"),
    [
        ((4, 3, 5), "relu", 0.0, 2.0),
        ((2,), "relu", 0.0, 1.3),
        ((6, 2, 8, 5), "relu", 0.0, 2.0),
        ((5, 3, 6), "leaky_relu(-0.4)", -0.4, 1.5),
        ((3, 6), "leaky_relu(2.0)", 2.0, 0.5),
        ((3, 4), "abs", -1.0, 1.0),
        ((4, 5), "linear", 1.0, 1.0),
    ],
)
def test_against_networks_of_real_weights(
    draw_networks: Any, widths: tuple[int, ...], activation: str, slope: float, weight_variance: float
) -> None:
    n_networks, x = 100_000, np.array([0.3, -1.2, 0.5])
    networks = draw_networks(
        widths,
        x,
        slope=slope,
        weight_variance=weight_variance,
        bias_variance=0.0,
        outputs=1,
        n_networks=n_networks,
        seed=5,
    )
    deltas = networks.backward()
    kernel = np.zeros(n_networks)
    for post, delta in zip(networks.post, deltas[1:], strict=True):
        kernel += weight_variance / post.shape[1] * (post**2).sum(axis=1) * (delta**2).sum(axis=1)
    net = wa.MLP(widths, activation=activation, weight_variance=weight_variance)
    predicted = wa.propagation.predict_tangent_diagonal(net, (x**2).mean()).isel(layer=-1, input=0)
    mean, second = float(predicted["mean"]), float(predicted.variance) + float(predicted["mean"]) ** 2
    assert abs(kernel.mean() - mean) < SIGMA * kernel.std() / math.sqrt(n_networks)
    assert abs((kernel**2).mean() - second) < SIGMA * float((kernel**2).std()) / math.sqrt(n_networks)


@pytest.mark.slow
def test_against_torch_func() -> None:
    torch = pytest.importorskip("torch")
    widths, n_networks = (8, 5, 6), 20_000
    x = torch.tensor([0.3, -1.2, 0.5], dtype=torch.float64)
    shapes = list(zip((*widths, 1), (3, *widths), strict=True))

    def output(weights: Any) -> Any:
        h = x
        for layer, weight in enumerate(weights):
            z = math.sqrt(2.0 / h.shape[0]) * (weight @ h)
            h = torch.relu(z) if layer < len(widths) else z
        return h[0]

    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(n_networks, *shape, generator=generator, dtype=torch.float64) for shape in shapes]
    gradients = torch.func.vmap(torch.func.grad(output))(weights)
    kernel = sum((gradient**2).sum(dim=(1, 2)) for gradient in gradients).numpy()
    predicted = wa.propagation.predict_tangent_diagonal(wa.MLP(widths), float((x**2).mean())).isel(layer=-1, input=0)
    assert abs(kernel.mean() - float(predicted["mean"])) < SIGMA * kernel.std() / math.sqrt(n_networks)
    second = float(predicted.variance) + float(predicted["mean"]) ** 2
    assert abs((kernel**2).mean() - second) < SIGMA * (kernel**2).std() / math.sqrt(n_networks)


@pytest.mark.parametrize(
    ("activation", "kurtosis"), [("relu", 2.0), ("abs", 1.0), ("linear", 1.0), ("leaky_relu(0.5)", 1.36)]
)
@pytest.mark.parametrize("widths", [(1,), (3, 7, 2), (50, 3, 4, 100, 9), (40,) * 12])
def test_sum_over_pairs_of_layers(widths: tuple[int, ...], activation: str, kurtosis: float) -> None:
    kernel = wa.propagation.predict_tangent_diagonal(wa.MLP(widths, activation=activation), 1.0)
    for depth in range(len(widths) + 1):
        expected = math.log(moment_ratio_term_by_term(widths[:depth], kurtosis))
        assert_allclose(float(kernel.log_moment_ratio.sel(layer=depth)), expected, rtol=1e-12, atol=1e-14)


def test_growth_of_hanin_and_nica() -> None:
    """E[K^2]/E[K]^2 follows exp(5 beta) up to constants while beta = L/n runs over two decades."""
    for depth in (10, 100, 1000):
        kernel = wa.propagation.predict_tangent_diagonal(wa.MLP((100,) * depth), 1.0).sel(layer=depth)
        assert_allclose(float(kernel.exponent), 5 * depth / 100, rtol=1e-12)
        product = depth * math.log1p(5 / 100)
        assert -math.log(3.0) < float(kernel.log_moment_ratio) - product < 0.0


def test_wide_layers() -> None:
    """To first order in 1/n the relative variance is 5L/n - (4/n) L(L+2)/(3(L+1)) for equal widths."""
    depth, width = 20, 2**31
    kernel = wa.propagation.predict_tangent_diagonal(wa.MLP((width,) * depth), 1.0).sel(layer=depth)
    expected = (5 * depth - 4 * depth * (depth + 2) / (3 * (depth + 1))) / width
    assert_allclose(float(kernel.relative_variance), expected, rtol=100 / width + 1e-13)


def test_mean_is_the_infinite_width_recursion() -> None:
    net = wa.MLP((3, 4, 5), activation="leaky_relu(0.3)", weight_variance=1.7)
    norms = [0.0, 0.5, 3.0]
    kernel = wa.propagation.predict_tangent_diagonal(net, norms)
    nngp = theta = 1.7 * np.array(norms)
    assert_allclose(kernel["mean"].sel(layer=0), theta, rtol=1e-14)
    assert (kernel.variance.sel(layer=0) == 0.0).all()
    for layer in (1, 2, 3):
        nngp, derivative = 1.7 * 1.09 / 2 * nngp, 1.7 * 1.09 / 2
        theta = nngp + theta * derivative
        assert_allclose(kernel["mean"].sel(layer=layer), theta, rtol=1e-13)
    assert_allclose(kernel.variance, kernel.relative_variance * kernel["mean"] ** 2, rtol=1e-12)


def test_far_beyond_the_range_of_floats() -> None:
    kernel = wa.propagation.predict_tangent_diagonal(wa.MLP((4,) * 10_000, weight_variance=1.0), 1.0)
    last = kernel.isel(layer=-1, input=0)
    assert_allclose(float(last.log_mean), -10_000 * math.log(2.0) + math.log(10_001), rtol=1e-12)
    # The mean underflows, the relative variance overflows, and the variance between them does what it should.
    assert (float(last["mean"]), float(last.relative_variance), float(last.variance)) == (0.0, math.inf, 0.0)
    assert not np.isnan(kernel["variance"]).any()


@pytest.mark.parametrize(
    "norm2", [1, np.float32(1.0), [1.0], np.array([1.0], dtype=">f8"), np.array([1.0], dtype=np.float16)]
)
def test_kinds_of_norms(norm2: Any) -> None:
    kernel = wa.propagation.predict_tangent_diagonal(wa.MLP((4,)), norm2)
    assert_allclose(kernel["mean"].values, [[2.0], [4.0]], rtol=1e-15)


@pytest.mark.parametrize(
    ("norm2", "error", "message"),
    [
        (-1.0, ValueError, r"^norm2 must be finite and non-negative, got -1\.0"),
        ([1.0, math.nan], ValueError, r"^norm2 must be finite and non-negative, got nan"),
        ([[1.0]], ValueError, r"^norm2 must be a number or of shape \(input,\), got shape \(1, 1\)"),
        ([], ValueError, r"^norm2 must be a number or of shape"),
        (1j, TypeError, r"^norm2 must be real numbers, got dtype complex128"),
        ("1", TypeError, r"^norm2 must be real numbers"),
        (True, TypeError, r"^norm2 must be real numbers"),
    ],
)
def test_bad_norms(norm2: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        wa.propagation.predict_tangent_diagonal(wa.MLP((4,)), norm2)


def test_bad_networks() -> None:
    with pytest.raises(ValueError, match=r"^net\.activation must be .* got 'erf'"):
        wa.propagation.predict_tangent_diagonal(wa.MLP((4,), activation="erf"), 1.0)
    with pytest.raises(ValueError, match=r"^net\.bias_variance must be 0, got 0\.5"):
        wa.propagation.predict_tangent_diagonal(wa.MLP((4,), bias_variance=0.5), 1.0)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu(0.3)", "abs"])
def test_against_networks_of_the_kernel(activation: str) -> None:
    net = wa.MLP((8, 5, 11), activation=activation, weight_variance=1.7)
    x = np.array([[0.3, -1.0, 2.0]])
    n_networks = 100_000
    run = wa.propagation.simulate_outputs(net, x, n_networks=n_networks, seed=3, keep="tangent")
    theta = run.tangent_kernel.values.ravel()
    law = wa.propagation.predict_tangent_diagonal(net, [np.mean(x**2)]).sel(layer=3).isel(input=0)
    centred = theta - theta.mean()
    assert abs(theta.mean() - law["mean"]) < 5.0 * theta.std() / math.sqrt(n_networks)
    error = math.sqrt((np.mean(centred**4) - np.mean(centred**2) ** 2) / n_networks)
    assert abs(np.mean(centred**2) - law.variance) < 5.0 * error
    # The infinitely wide network, whose kernel does not fluctuate, is far outside.
    assert law.variance > 50.0 * error
