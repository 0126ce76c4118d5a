"""Gram matrices to first order in 1/n: exact cases, the recursion in plain entries, ensembles, and hard inputs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from scipy import special

import wideangle as wa
from wideangle.propagation import predict_gram

Array = NDArray[np.float64]
SIGMA = 5.0

FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0.0),
    "leaky_relu(0.3)": lambda x: np.maximum(x, 0.3 * x),
    "abs": np.abs,
    "linear": lambda x: x,
    "erf": special.erf,
    "tanh": np.tanh,
    "gelu": lambda x: 0.5 * x * special.erfc(-x / math.sqrt(2.0)),
    "elu": lambda x: np.where(x < 0.0, np.expm1(np.minimum(x, 0.0)), x),
    "silu": lambda x: x / (1.0 + np.exp(-x)),
    "sin": np.sin,
    "sigmoid": lambda x: 1.0 / (1.0 + np.exp(-x)),
}
SMOOTH = ("linear", "erf", "tanh", "gelu", "silu", "sin", "sigmoid")


def neuron_moments(phi: Callable[[Array], Array], smooth: bool, g: Array, *, fourth: bool) -> tuple[Array, Array]:
    """Mean and covariance of (phi(u)^2, phi(u) phi(v), phi(v)^2) by a rule of its own.

    Smooth: trapezoidal in independent normals, which converges geometrically. Else: Gauss-Legendre on the four
    quadrants of (u, v) itself, with the density.
    """
    a, c, b = g
    if smooth:
        x = np.arange(-90, 91) * 0.1
        w = np.exp(-0.5 * x**2) * 0.1 / math.sqrt(2 * math.pi)
        u = np.broadcast_to(math.sqrt(a) * x[:, None], (x.size, x.size))
        v = c / math.sqrt(a) * x[:, None] + math.sqrt(b - c * c / a) * x
        weights = w[:, None] * w
    else:
        nodes, node_weights = np.polynomial.legendre.leggauss(120)
        half, w = 5.5 * (1.0 + nodes), 5.5 * node_weights
        x, w = np.concatenate([-half, half]), np.concatenate([w, w])
        u, v = np.meshgrid(math.sqrt(a) * x, math.sqrt(b) * x, indexing="ij")
        determinant = a * b - c * c
        density = np.exp(-0.5 * (b * u * u - 2 * c * u * v + a * v * v) / determinant)
        weights = density * w[:, None] * w * math.sqrt(a * b / determinant) / (2 * math.pi)
    f, h = phi(u), phi(v)
    products = np.stack([f * f, f * h, h * h])
    mean = np.einsum("kij,ij->k", products, weights)
    if not fourth:
        return mean, np.empty((3, 3))
    deviations = products - mean[:, None, None]
    return mean, np.einsum("kij,lij,ij->kl", deviations, deviations, weights)


def plain_recursion(net: wa.MLP, gram0: Array) -> tuple[Array, Array, Array]:
    """F, the shift of the mean and the variance of (Q11, Q12, Q22), all from finite differences in these entries."""
    phi, smooth = FUNCTIONS[net.activation], net.activation in SMOOTH
    bias, weight = net.bias_variance, net.weight_variance

    def mean(q: Array) -> Array:
        return neuron_moments(phi, smooth, bias + weight * q, fourth=False)[0]

    q, shift, covariance = gram0[[0, 0, 1], [0, 1, 1]], np.zeros(3), np.zeros((3, 3))
    for width in net.widths:
        step = 1e-3 * q[[0, 0, 2]]
        # Fourth order for the first derivatives and the diagonal of the second, second order times 1e-3 for the rest.
        jacobian, hessian = np.empty((3, 3)), np.empty((3, 3, 3))
        centre = mean(q)
        for k in range(3):
            e = np.eye(3)[k] * step
            near, far = [mean(q + s * e) for s in (1, -1)], [mean(q + 2 * s * e) for s in (1, -1)]
            jacobian[:, k] = (8 * (near[0] - near[1]) - (far[0] - far[1])) / (12 * step[k])
            hessian[:, k, k] = (16 * (near[0] + near[1]) - (far[0] + far[1]) - 30 * centre) / (12 * step[k] ** 2)
        for k, m in itertools.combinations(range(3), 2):
            e, h = np.eye(3)[k] * step, np.eye(3)[m] * step
            mixed = mean(q + e + h) - mean(q + e - h) - mean(q - e + h) + mean(q - e - h)
            hessian[:, k, m] = hessian[:, m, k] = mixed / (4 * step[k] * step[m])
        shift = jacobian @ shift + 0.5 * np.einsum("ikm,km->i", hessian, covariance)
        noise = neuron_moments(phi, smooth, bias + weight * q, fourth=True)[1]
        covariance = noise / width + jacobian @ covariance @ jacobian.T
        q = centre
    return q, shift, np.diagonal(covariance).copy()


@pytest.mark.parametrize("activation", FUNCTIONS)
@pytest.mark.parametrize(("weight_variance", "bias_variance"), [(1.6, 0.0), (1.1, 0.3)])
def test_against_the_recursion_in_plain_entries(activation: str, weight_variance: float, bias_variance: float) -> None:
    net = wa.MLP((20, 50, 30), activation=activation, weight_variance=weight_variance, bias_variance=bias_variance)
    gram0 = np.array([[1.2, 0.4], [0.4, 0.7]])
    q, shift, variance = plain_recursion(net, gram0)
    gram, limit = predict_gram(net, gram0).isel(layer=-1), predict_gram(net, gram0, method="infinite-width")
    at = ([0, 0, 1], [0, 1, 1])
    rtol = 1e-9 if activation in SMOOTH else 1e-7
    assert_allclose(limit.gram.values[-1][at], q, rtol=rtol)
    assert_allclose(gram.variance.values[at], variance, rtol=1e-5)
    # The finite differences of the mixed second derivatives are good to 1e-6 or so of those.
    scale = np.sqrt(variance).max() ** 2 + np.abs(shift).max()
    assert_allclose(gram.gram.values[at] - limit.gram.values[-1][at], shift, rtol=0, atol=2e-5 * scale)
    assert not limit.variance.any()
    assert gram.gram.dims == ("input", "input_")


def test_linear_network_against_exact_moments() -> None:
    """Two layers of Wishart matrices: the mean is exact, the variance lacks (Q_ii Q_jj + 3 Q_ij^2)/(n_1 n_2)."""
    gram0 = np.array([[1.2, 0.4, -0.3], [0.4, 0.7, 0.1], [-0.3, 0.1, 2.0]])
    net = wa.MLP((10, 15), activation="linear", weight_variance=1.0)
    predicted = predict_gram(net, gram0)
    products = np.outer(gram0.diagonal(), gram0.diagonal())
    one = products + gram0**2
    for layer, factor in ((0, 0.0), (1, 1 / 10), (2, 1 / 10 + 1 / 15)):
        assert_allclose(predicted.gram.sel(layer=layer), gram0, rtol=1e-14)
        assert_allclose(predicted.variance.sel(layer=layer), factor * one, rtol=1e-13)
    exact_second = one / 10 + (products + gram0**2 + (products + 3 * gram0**2) / 10) / 15
    left_out = (products + 3 * gram0**2) / 150
    assert_allclose(exact_second - predicted.variance.sel(layer=2), left_out, rtol=1e-12)


def test_one_relu_layer_against_closed_forms() -> None:
    """J_11 for the mean, exact; J_22 - J_11^2 for the variance of the off-diagonal entry; 5/n on the diagonal."""
    theta = 0.8
    gram0 = 2.0 * np.array([[1.0, 3.0 * math.cos(theta)], [3.0 * math.cos(theta), 9.0]])
    predicted = predict_gram(wa.MLP((30,)), gram0).sel(layer=1)
    sine, cosine, rest = math.sin(theta), math.cos(theta), math.pi - theta
    j11 = (sine + rest * cosine) / (2 * math.pi)
    j22 = (rest * (2 * cosine**2 + 1) + 3 * sine * cosine) / (2 * math.pi)
    assert_allclose(predicted.gram, np.array([[2.0, 12.0 * j11], [12.0 * j11, 18.0]]), rtol=1e-14)
    expected = np.array([[4 * 5.0, 144 * (j22 - j11**2)], [144 * (j22 - j11**2), 324 * 5.0]]) / 30
    assert_allclose(predicted.variance, expected, rtol=1e-13)


def simulated_moments(net: wa.MLP, gram0: Array, n_samples: int, seed: int) -> tuple[Array, Array, Array, Array]:
    """Mean and variance of the last Q, and their standard errors, from rows of Gaussian pre-activations."""
    rng = np.random.default_rng(seed)
    q = np.broadcast_to(gram0, (n_samples, *gram0.shape))
    for width in net.widths:
        values, vectors = np.linalg.eigh(net.bias_variance + net.weight_variance * q)
        roots = vectors * np.sqrt(np.maximum(values, 0.0))[:, None]
        z = np.einsum("kij,knj->kni", roots, rng.standard_normal((n_samples, width, len(gram0))))
        h = FUNCTIONS[net.activation](z)
        q = np.einsum("kni,knj->kij", h, h) / width
    mean, variance = q.mean(axis=0), q.var(axis=0)
    fourth = ((q - mean) ** 4).mean(axis=0)
    return mean, variance, np.sqrt(variance / n_samples), np.sqrt((fourth - variance**2) / n_samples)


def richardson(activation: str, weight_variance: float, bias_variance: float, widths: int, n_samples: int) -> float:
    """Check that 4 r(2n) - r(n) of the residuals r is 0, what is left out being c/n^2. Return the signal over noise."""
    gram0 = np.array([[1.0, 0.2], [0.2, 1.5]])
    totals, signal = [], []
    for factor, width in ((-1.0, widths), (4.0, 2 * widths)):
        net = wa.MLP((width,) * 3, activation=activation, weight_variance=weight_variance, bias_variance=bias_variance)
        mean, variance, mean_error, variance_error = simulated_moments(net, gram0, n_samples, seed=width)
        predicted = predict_gram(net, gram0).isel(layer=-1)
        limit = predict_gram(net, gram0, method="infinite-width").isel(layer=-1)
        residuals = np.stack([mean - predicted.gram.values, variance - predicted.variance.values])
        totals.append((factor * residuals, (factor * np.stack([mean_error, variance_error])) ** 2))
        signal.append(factor * np.stack([(predicted.gram - limit.gram).values, predicted.variance.values]))
    error = np.sqrt(sum(square for _, square in totals))
    assert (np.abs(sum(residual for residual, _ in totals)) < SIGMA * error).all()
    return float((np.abs(sum(signal)) / error).max())


def test_relu_ensemble_beyond_first_order() -> None:
    assert richardson("relu", 2.0, 0.0, 24, 20_000) > 3 * SIGMA


@pytest.mark.slow
@pytest.mark.parametrize(
    ("activation", "weight_variance", "bias_variance"),
    [
        ("relu", 1.5, 0.3),
        ("abs", 1.0, 0.2),
        ("tanh", 2.5, 0.1),
        ("gelu", 2.0, 0.1),
        ("elu", 1.2, 0.2),
        ("sin", 1.5, 0.2),
    ],
)
def test_ensembles_beyond_first_order(activation: str, weight_variance: float, bias_variance: float) -> None:
    assert richardson(activation, weight_variance, bias_variance, 40, 100_000) > 6 * SIGMA


@pytest.mark.parametrize("activation", FUNCTIONS)
@pytest.mark.parametrize("bias_variance", [0.0, 0.4])
def test_parallel_inputs_are_no_special_case(activation: str, bias_variance: float) -> None:
    """Equal inputs give equal entries; an angle of 1e-7 changes them by no more than it should."""
    net = wa.MLP((20,) * 6, activation=activation, bias_variance=bias_variance)
    equal = predict_gram(net, np.ones((2, 2)))
    alone = predict_gram(net, [[1.0]])
    for name in ("gram", "variance"):
        assert_allclose(equal[name], np.broadcast_to(alone[name], (7, 2, 2)), rtol=1e-11)
    close = predict_gram(net, np.array([[1.0, math.cos(1e-7)], [math.cos(1e-7), 1.0]]))
    for name in ("gram", "variance"):
        assert_allclose(close[name], equal[name], rtol=1e-11)


def test_shift_of_nearly_parallel_inputs() -> None:
    """For ReLU the shift is of the order of theta^4: both norms keep their means, and so does the distance to theta^3.

    A variance of the correlation made of rounding, 1e-16, would add 1e-16/theta instead.
    """
    for theta in (1e-2, 1e-3, 1e-5, 1e-9):
        gram0 = np.array([[1.0, math.cos(theta)], [math.cos(theta), 1.0]])
        net = wa.MLP((100,) * 5)
        shift = predict_gram(net, gram0).gram - predict_gram(net, gram0, method="infinite-width").gram
        assert abs(float(shift[-1, 0, 1])) < 0.1 * theta**4 + 1e-15


@pytest.mark.parametrize(("activation", "sign"), [("linear", -1.0), ("abs", 1.0), ("relu", 0.0), ("tanh", -1.0)])
def test_opposite_inputs(activation: str, sign: float) -> None:
    predicted = predict_gram(wa.MLP((20,) * 3, activation=activation), np.array([[1.0, -2.0], [-2.0, 4.0]]))
    assert np.isfinite(predicted.variance).all()
    matrix = predicted.gram.values[1]
    assert_allclose(matrix[0, 1], sign * matrix[0, 0] if activation == "tanh" else sign * 2 * matrix[0, 0], atol=0.5)
    if activation in ("linear", "abs"):
        assert_allclose(predicted.variance.values[:, 0, 1], 4 * predicted.variance.values[:, 0, 0], rtol=1e-12)


def test_many_inputs_are_pairs() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 4))
    gram0 = x @ x.T / 4
    net = wa.MLP((30, 40), activation="gelu", bias_variance=0.1)
    whole = predict_gram(net, gram0)
    for pair in ((0, 3), (5, 2)):
        part = predict_gram(net, gram0[np.ix_(pair, pair)])
        for name in ("gram", "variance"):
            assert_allclose(whole[name].values[:, pair][:, :, pair], part[name], rtol=1e-12)
    assert (whole.quadrature_error[0], whole.quadrature_error.max() < 1e-8) == (0.0, True)


def test_outputs() -> None:
    net = wa.MLP((50,) * 4, weight_variance=1.5, bias_variance=0.2)
    predicted = predict_gram(net, np.array([[1.0, 0.3], [0.3, 2.0]]))
    limit = predict_gram(net, np.array([[1.0, 0.3], [0.3, 2.0]]), method="infinite-width")
    assert_allclose(predicted.output_covariance, 0.2 + 1.5 * predicted.gram.isel(layer=-1), rtol=1e-14)
    variance = 0.2 + 1.5 * np.diag(limit.gram.values[-1])
    expected = 3 * 1.5**2 * np.diag(predicted.variance.values[-1]) / variance**2
    assert_allclose(predicted.output_excess_kurtosis, expected, rtol=1e-13)
    assert not limit.output_excess_kurtosis.any()


@pytest.mark.parametrize(
    ("activation", "weight_variance", "bias_variance"), [("relu", 2.0, 0.0), ("gelu", 2.0, 0.1), ("tanh", 2.0, 0.1)]
)
def test_against_real_networks(activation: str, weight_variance: float, bias_variance: float) -> None:
    """Gram matrices and outputs of networks with real weights.

    What is left out, relative to the terms of first order, is 5L/2n for the exact norm of a ReLU network.
    """
    net = wa.MLP((60,) * 3, activation=activation, weight_variance=weight_variance, bias_variance=bias_variance)
    x = np.array([[0.3, -1.2, 0.5], [1.0, 0.4, 0.2]])
    n_networks = 20_000
    networks = wa.propagation.simulate_outputs(net, x, n_networks=n_networks, seed=4, outputs=2, keep="gram")
    predicted = predict_gram(net, x @ x.T / 3)
    limit = predict_gram(net, x @ x.T / 3, method="infinite-width")
    left_out = 2.5 * 3 / 60
    for layer in (1, 2, 3):
        gram = networks.gram.sel(layer=layer).values
        variance = predicted.variance.sel(layer=layer).values
        mean = predicted.gram.sel(layer=layer).values
        error = SIGMA * np.sqrt(variance / n_networks) + left_out * np.abs(mean - limit.gram.sel(layer=layer).values)
        assert (np.abs(gram.mean(axis=0) - mean) < error).all()
        fourth = ((gram - gram.mean(axis=0)) ** 4).mean(axis=0)
        error = SIGMA * np.sqrt((fourth - variance**2) / n_networks)
        assert (np.abs(gram.var(axis=0) - variance) < error + left_out * variance).all()
    outputs = networks.outputs.values
    covariance = np.einsum("kio,kjo->ij", outputs, outputs) / (2 * n_networks)
    diagonal = predicted.output_covariance.values.diagonal()
    error = SIGMA * np.sqrt(3.0 * np.outer(diagonal, diagonal) / (2 * n_networks))
    assert (np.abs(covariance - predicted.output_covariance) < error).all()
    # The variance of z^4/3G^2 is 105/9 - 1 for a Gaussian, and twice that covers these.
    kurtosis = 3.0 * ((outputs**4).mean(axis=(0, 2)) / (3.0 * (outputs**2).mean(axis=(0, 2)) ** 2) - 1.0)
    error = SIGMA * 3.0 * math.sqrt(2.0 * 10.7 / (2 * n_networks))
    expected = predicted.output_excess_kurtosis.values
    assert (np.abs(kurtosis - expected) < error + left_out * expected).all()


def test_zero_inputs() -> None:
    gram0 = np.array([[0.0, 0.0], [0.0, 2.0]])
    for activation in ("relu", "tanh"):
        without = predict_gram(wa.MLP((20,) * 3, activation=activation), gram0)
        for name in ("gram", "variance"):
            assert not without[name].values[:, 0].any()
            assert (np.diagonal(without[name].values, axis1=1, axis2=2)[1:, 1] > 0.0).all()
        assert float(without.output_excess_kurtosis[0]) == 0.0
    biased = predict_gram(wa.MLP((20,), bias_variance=0.5), gram0).sel(layer=1)
    assert_allclose(np.diag(biased.gram), [0.25, 2.25], rtol=1e-14)
    assert_allclose(np.diag(biased.variance), np.array([0.25, 2.25]) ** 2 * 5 / 20, rtol=1e-13)


def test_extreme_depths_and_variances() -> None:
    gram0 = np.array([[1.0, 0.5], [0.5, 2.0]])
    for activation in FUNCTIONS:
        for weight_variance in (1.0, 256.0):
            deep = predict_gram(wa.MLP((64,) * 16, activation=activation, weight_variance=weight_variance), gram0)
            assert np.isfinite(deep.variance).all()
            assert float(deep.quadrature_error.max()) < 1e-4
    vanishing = predict_gram(wa.MLP((64,) * 3000, activation="erf", weight_variance=0.3), gram0[:1, :1])
    assert float(vanishing.gram[-1, 0, 0]) == 0.0
    with pytest.raises(ValueError, match=r"^net must keep the Gram matrix and its variance within .* layer 73"):
        predict_gram(wa.MLP((64,) * 200, weight_variance=256.0), gram0)


@pytest.mark.parametrize(
    "gram0",
    [
        np.array([[4, 1], [1, 2]]),
        np.array([[4, 1], [1, 2]], dtype=np.float16),
        np.array([[4, 1], [1, 2]], dtype=">f8"),
        np.array([[4, 0, 1], [0, 9, 0], [1, 0, 2]], dtype=np.float32)[::2, ::2],
        [[4, 1], [1, 2]],
    ],
)
def test_kinds_of_matrices(gram0: Any) -> None:
    net = wa.MLP((10,))
    if isinstance(gram0, np.ndarray):
        gram0.flags.writeable = False
    xr.testing.assert_equal(predict_gram(net, gram0), predict_gram(net, np.array([[4.0, 1.0], [1.0, 2.0]])))


@pytest.mark.parametrize(
    ("gram0", "error", "message"),
    [
        (1.0, ValueError, r"^gram0 must be a square matrix, got shape \(\)"),
        (np.ones((2, 3)), ValueError, r"^gram0 must be a square matrix, got shape \(2, 3\)"),
        (np.ones((0, 0)), ValueError, r"^gram0 must be a square matrix, got shape \(0, 0\)"),
        ([[1.0, math.nan], [math.nan, 1.0]], ValueError, r"^gram0 must be finite, got nan"),
        ([[math.inf]], ValueError, r"^gram0 must be finite, got inf"),
        ([[1.0, 0.5], [0.4, 1.0]], ValueError, r"^gram0 must be symmetric, got entries that differ by 0\.1"),
        ([[1.0, 2.0], [2.0, 1.0]], ValueError, r"^gram0 must be positive semi-definite, got eigenvalue -1"),
        ([[-1.0]], ValueError, r"^gram0 must be positive semi-definite"),
        ([[1j]], TypeError, r"^gram0 must be real numbers, got dtype complex128; give x @ x\.T / n_0"),
        ([["1"]], TypeError, r"^gram0 must be real numbers"),
        ([[True]], TypeError, r"^gram0 must be real numbers"),
    ],
)
def test_bad_matrices(gram0: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        predict_gram(wa.MLP((4,)), gram0)


def test_bad_method() -> None:
    with pytest.raises(ValueError, match=r"^method must be one of 'finite-width', 'infinite-width', got 'exact'"):
        predict_gram(wa.MLP((4,)), [[1.0]], method="exact")


@settings(deadline=None, max_examples=60)
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 3)), elements=st.floats(-10, 10, width=32)),
    st.sampled_from(["relu", "abs", "sin", "leaky_relu(0.3)"]),
    st.sampled_from([0.0, 0.3]),
)
def test_any_inputs(x: NDArray[np.float32], activation: str, bias_variance: float) -> None:
    """Single-precision products of any inputs, singular ones included: finite, and non-negative variances."""
    net = wa.MLP((5, 7), activation=activation, bias_variance=bias_variance)
    predicted = predict_gram(net, x @ x.T / x.shape[1])
    assert np.isfinite(predicted.gram).all()
    assert (predicted.variance.values >= -1e-12 * predicted.variance.values.max()).all()
    assert np.isfinite(predicted.output_excess_kurtosis).all()
