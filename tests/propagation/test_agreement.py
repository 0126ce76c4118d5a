"""Predicted against simulated: kernels of infinite width, Gram chains and networks of real weights, all activations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

import wideangle as wa
from wideangle.activations import ACTIVATIONS

X = np.random.default_rng(0).normal(size=(3, 10))


def covariance_z(f: NDArray[np.float64], expected: NDArray[np.float64]) -> NDArray[np.float64]:
    products = f[:, :, None] * f[:, None, :]
    return np.asarray((products.mean(axis=0) - expected) / (products.std(axis=0) / math.sqrt(len(f))))


@pytest.mark.parametrize("activation", [*ACTIVATIONS, "leaky_relu(-0.4)"])
def test_kernels_are_those_of_wide_networks(activation: str) -> None:
    # The 1/n corrections at widths n and 2n are eliminated between the two (Richardson), so that no allowance for them
    # is needed; what is left is of order 1/n^2, 1e-4 of the kernel, a twentieth of a standard error.
    kernels = wa.propagation.tangent_kernel(
        wa.MLP((1, 1), activation=activation, weight_variance=1.5, bias_variance=0.1), X
    )
    means, errors = [], []
    for width, n_networks in ((100, 12_000), (200, 12_000)):
        net = wa.MLP((width,) * 2, activation=activation, weight_variance=1.5, bias_variance=0.1)
        run = wa.propagation.simulate_outputs(net, X, n_networks=n_networks, seed=width, keep="tangent")
        theta = run.tangent_kernel.values
        means.append(theta.mean(axis=0))
        errors.append(theta.std(axis=0) / math.sqrt(n_networks))
        outputs = run.outputs.values[:, :, 0]
    error = np.hypot(2.0 * errors[1], errors[0])
    z = (2.0 * means[1] - means[0] - kernels.kernel.values) / error
    assert np.abs(z).max() < 5.0
    # A kernel wrong by 5 % would be seen.
    assert (0.05 * np.abs(np.diag(kernels.kernel)) > 5.0 * np.diag(error)).all()
    gram = wa.propagation.predict_gram(net, X @ X.T / 10)
    assert np.abs(covariance_z(outputs, gram.output_covariance.values)).max() < 5.0
    infinite = wa.propagation.predict_gram(net, X @ X.T / 10, method="infinite-width")
    np.testing.assert_allclose(infinite.output_covariance, kernels.nngp, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("activation", [*ACTIVATIONS, "leaky_relu(-0.4)"])
def test_gram_chains_are_those_of_real_networks(activation: str) -> None:
    net = wa.MLP((7, 12), activation=activation, weight_variance=1.4, bias_variance=0.3)
    n = 60_000
    chain = wa.propagation.simulate_gram(net, X @ X.T / 10, n_samples=n, seed=1)
    networks = wa.propagation.simulate_outputs(net, X, n_networks=n, seed=2, keep="gram").gram
    real = networks.var("network", ddof=1)
    fourth = ((networks - networks.mean("network")) ** 4).mean("network")
    for layer in (1, 2):
        here, there = chain.sel(layer=layer), networks.sel(layer=layer)
        error = np.hypot(here.mean_standard_error, there.std("network") / math.sqrt(n))
        assert (abs(here["mean"] - there.mean("network")) < 5.0 * error).all()
        spread = (fourth.sel(layer=layer) - real.sel(layer=layer) ** 2) / n
        error = np.sqrt(here.variance_standard_error**2 + spread)
        assert (abs(here.variance - real.sel(layer=layer)) < 5.0 * error).all()
