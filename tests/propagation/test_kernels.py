"""Kernels of piecewise linear networks against 50 digits, all networks against sampling, and what inputs may be."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import Any

import mpmath as mp
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

import wideangle as wa
from wideangle._cpu import CPU_PATH_VARIABLE, cpu_paths
from wideangle.propagation import nngp_kernel, tangent_kernel

Array = NDArray[np.float64]

SIGMA = 5.0
PIECEWISE_LINEAR = ("relu", "leaky_relu(0.1)", "leaky_relu(-0.4)", "leaky_relu(2.5)", "abs", "linear")
ACTIVATIONS = ("relu", "leaky_relu(0.1)", "abs", "linear", "erf", "tanh", "gelu", "elu", "silu", "sin", "sigmoid")
ANGLES = (1e-300, 1e-12, 1e-8, 1e-4, 0.01, 0.3, 1.0, math.pi / 2, 2.0, 3.0, math.pi - 1e-3, math.pi - 1e-8)


def textbook(x: Any, y: Any, net: wa.MLP) -> tuple[Any, Any, Any]:
    """Covariance and tangent kernel of two inputs, and the product of their norms, to 60 digits."""
    with mp.workdps(60):
        slope, weight, bias = (mp.mpf(value) for value in (net.phi.slope, net.weight_variance, net.bias_variance))
        a, b = [mp.mpf(float(v)) for v in x], [mp.mpf(float(v)) for v in y]
        k11, k22, k12 = (bias + weight * mp.fdot(u, v) / len(a) for u, v in ((a, a), (b, b), (a, b)))
        tangent = k12
        for _ in range(net.depth):
            norm = mp.sqrt(k11 * k22)
            angle = mp.acos(k12 / norm)
            # phi is (1 + slope)/2 times x plus (1 - slope)/2 times |x|.
            odd, even = ((1 + slope) / 2) ** 2, ((1 - slope) / 2) ** 2
            cosine = mp.cos(angle)
            product = odd * cosine + even * 2 / mp.pi * (mp.sin(angle) + (mp.pi / 2 - angle) * cosine)
            slopes = odd + even * (1 - 2 * angle / mp.pi)
            k12 = bias + weight * norm * product
            k11, k22 = bias + weight * (odd + even) * k11, bias + weight * (odd + even) * k22
            tangent = k12 + weight * slopes * tangent
        return k12, tangent, mp.sqrt(k11 * k22)


def pair(angle: float) -> tuple[Array, Array]:
    """Two inputs with that angle, up to the rounding of the second: the reference takes the inputs as they are."""
    near = angle < 3.0
    turn = angle if near else math.pi - angle
    return np.array([1.5, 0.0]), 0.7 * np.array([math.cos(turn) * (1 if near else -1), math.sin(turn)])


@pytest.mark.parametrize("activation", PIECEWISE_LINEAR)
@pytest.mark.parametrize("bias_variance", [0.0, 0.3])
@pytest.mark.parametrize("depth", [1, 2, 7, 40])
def test_against_60_digits(activation: str, bias_variance: float, depth: int) -> None:
    net = wa.MLP((1,) * depth, activation=activation, weight_variance=1.7, bias_variance=bias_variance)
    for angle in ANGLES:
        x, y = pair(angle)
        result = tangent_kernel(net, x[None], y[None])
        covariance, tangent, norm = textbook(x, y, net)
        # Rounding of a few units a layer; the tangent kernel is a sum over layers.
        assert abs(result.nngp.item() - covariance) <= 4e-16 * (depth + 4) * norm, angle
        assert abs(result.kernel.item() - tangent) <= 4e-16 * (depth + 4) * (depth + 1) * norm, angle


@pytest.mark.parametrize("angle", ANGLES)
def test_arc_cosine_kernel_to_13_digits_of_itself(angle: float) -> None:
    """One ReLU layer: the kernel falls as the cube of the angle to the opposite input, its tangent kernel linearly."""
    net = wa.MLP((1,))
    x, y = pair(angle)
    result = tangent_kernel(net, x[None], y[None])
    covariance, tangent, _ = textbook(x, y, net)
    assert abs(result.nngp.item() / covariance - 1) < 1e-13
    assert abs(result.kernel.item() / tangent - 1) < 1e-13


@pytest.mark.parametrize("scale", [1e-3, 1e-7, 1e-11])
def test_nearly_opposite_inputs_of_many_features(scale: float) -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_normal(50)
    y = -1.3 * x + scale * rng.standard_normal(50)
    covariance, tangent, _ = textbook(x, y, wa.MLP((1,)))
    result = tangent_kernel(wa.MLP((1,)), x[None], y[None])
    assert abs(result.nngp.item() / covariance - 1) < 1e-13
    assert abs(result.kernel.item() / tangent - 1) < 1e-13


def test_values_in_closed_form() -> None:
    # At a right angle, with unit norms: 1/pi for ReLU, 2/pi for the absolute value, 0 for the line.
    x = math.sqrt(0.5) * math.sqrt(2.0) * np.eye(2)
    for activation, weight_variance, expected in (
        ("relu", 2.0, 1 / math.pi),
        ("abs", 1.0, 2 / math.pi),
        ("linear", 1.0, 0.0),
    ):
        scale = math.sqrt(2.0 / weight_variance)
        net = wa.MLP((1,), activation=activation, weight_variance=weight_variance)
        assert_allclose(nngp_kernel(net, scale * x).kernel, [[1.0, expected], [expected, 1.0]], atol=1e-15)


def test_ten_thousand_layers() -> None:
    """Angles shrink to 3 pi/depth; the reference goes through all layers with 40 digits."""
    depth = 10_000
    net = wa.MLP((1,) * depth)
    x = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1e-9], [-1.0, 0.0]])
    result = tangent_kernel(net, x)
    with mp.workdps(40):
        angle, tangent = mp.pi / 2, mp.mpf(0)
        for _ in range(depth):
            cosine = (mp.sin(angle) + (mp.pi - angle) * mp.cos(angle)) / mp.pi
            tangent = cosine + tangent * (mp.pi - angle) / mp.pi
            angle = mp.acos(cosine)
        assert abs(result.kernel.values[0, 1] / tangent - 1) < 1e-12
        assert abs((1 - result.nngp.values[0, 1]) / (1 - mp.cos(angle)) - 1) < 1e-9  # 1 - K keeps eps/5e-7
    # theta_l = 3 pi/l, so that the mean cosine slope product leaves a quarter of depth + 1.
    assert_allclose(result.kernel.values[0, 1] / depth, 0.25, rtol=0.01)
    assert_allclose(np.diag(result.kernel), depth + 1.0, rtol=1e-11)
    # While the angle stays what it is, a layer takes angle/pi of what is below.
    assert_allclose(depth + 1.0 - result.kernel.values[0, 2], 1e-9 / math.pi * depth * (depth + 1) / 2, rtol=1e-4)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("weight_variance", [1.0, 2.0, 256.0])
@pytest.mark.parametrize("bias_variance", [0.0, 1.0])
def test_sixteen_layers_stay_finite(activation: str, weight_variance: float, bias_variance: float) -> None:
    net = wa.MLP((1,) * 16, activation=activation, weight_variance=weight_variance, bias_variance=bias_variance)
    x = np.random.default_rng(0).standard_normal((5, 3))
    x[1], x[2], x[3], x[4] = x[0], -x[0], 0.0, x[0] * (1.0 + 1e-9)
    result = tangent_kernel(net, x)
    for matrix in (result.kernel.values, result.nngp.values):
        assert np.all(np.isfinite(matrix))
        assert_array_equal(matrix, matrix.T)
        assert matrix[0, 0] == matrix[0, 1] == matrix[1, 1]
        eigenvalues = np.linalg.eigvalsh(matrix)
        # Slopes of tanh at variances of some 200 have errors of 2e-14, at each of 16 layers.
        assert eigenvalues[0] >= -1e-12 * eigenvalues[-1]
    if bias_variance == 0.0:
        assert not np.any(result.nngp.values[3])


@lru_cache
def gaussian_pairs() -> Array:
    return np.random.default_rng(7).standard_normal((2, 2_000_000))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias_variance", [0.0, 0.4])
def test_one_layer_against_sampling(activation: str, bias_variance: float) -> None:
    """Rows of the first weight matrix are Gaussian: sample them, and average products of activations and of slopes."""
    net = wa.MLP((1,), activation=activation, weight_variance=1.6, bias_variance=bias_variance)
    x = np.array([[1.0, 0.4], [-0.3, 1.1]])
    result = tangent_kernel(net, x[:1], x[1:], keep="layers")
    covariance = bias_variance + 1.6 * x @ x.T / 2
    u, v = np.linalg.cholesky(covariance) @ gaussian_pairs()
    phi = net.phi
    products = phi.value(u) * phi.value(v)
    slopes = phi.derivative(u) * phi.derivative(v)
    count = u.size
    expected = bias_variance + 1.6 * products.mean()
    assert abs(result.nngp.values[1, 0, 0] - expected) < SIGMA * 1.6 * products.std() / math.sqrt(count)
    samples = 1.6 * products + 1.6 * covariance[0, 1] * slopes
    tangent = bias_variance + samples.mean()
    assert abs(result.kernel.values[1, 0, 0] - tangent) < SIGMA * max(samples.std(), 1e-13) / math.sqrt(count) + 1e-14
    assert_allclose(result.kernel.values[0, 0, 0], covariance[0, 1], rtol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize(("activation", "bias_variance"), [("relu", 0.0), ("tanh", 0.3)])
def test_against_tangent_kernels_of_real_networks(activation: str, bias_variance: float) -> None:
    """Means over networks of two widths, extrapolated to infinite width along 1/width."""
    net = wa.MLP((1, 1), activation=activation, weight_variance=1.8, bias_variance=bias_variance)
    x = np.random.default_rng(3).standard_normal((3, 4))
    narrow, narrow_error = empirical_tangent_kernel(net, x, width=48, n_networks=4000, seed=1)
    wide, wide_error = empirical_tangent_kernel(net, x, width=96, n_networks=4000, seed=2)
    expected = tangent_kernel(net, x).kernel.values
    limit, error = 2 * wide - narrow, np.sqrt(4 * wide_error**2 + narrow_error**2)
    # What is left is of second order: the first order, as far as it is seen, times 1/48.
    allowance = (np.abs(wide - narrow) + SIGMA * error) / 48
    assert np.all(np.abs(limit - expected) < SIGMA * error + allowance)
    assert np.all(error < 0.02 * np.abs(expected).max())


def empirical_tangent_kernel(net: wa.MLP, x: Array, *, width: int, n_networks: int, seed: int) -> tuple[Array, Array]:
    """Mean over networks and its standard error, by automatic differentiation with respect to standard normals."""
    import torch

    sizes = (x.shape[1], width, width, 1)
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.tensor(x)
    phi = {"relu": torch.relu, "tanh": torch.tanh}[net.activation]

    def output(parameters: tuple[torch.Tensor, ...], point: torch.Tensor) -> torch.Tensor:
        value = point
        for layer in range(3):
            weight, bias = parameters[2 * layer], parameters[2 * layer + 1]
            scale = math.sqrt(net.weight_variance / weight.shape[1])
            value = scale * (weight @ (value if layer == 0 else phi(value))) + math.sqrt(net.bias_variance) * bias
        return value[0]

    def kernel(*parameters: torch.Tensor) -> torch.Tensor:
        gradient = torch.func.grad(output)
        rows = torch.func.vmap(lambda point: torch.cat([g.flatten() for g in gradient(parameters, point)]))(inputs)
        return rows @ rows.T

    kernels = []
    for _ in range(n_networks // 100):
        draws = []
        for n_in, n_out in itertools.pairwise(sizes):
            for shape in ((100, n_out, n_in), (100, n_out)):
                draws.append(torch.randn(shape, generator=generator, dtype=torch.float64))
        kernels.append(torch.func.vmap(kernel)(*draws).numpy())
    values = np.concatenate(kernels)
    return values.mean(axis=0), values.std(axis=0, ddof=1) / math.sqrt(len(values))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_layer_of_all_layers_is_the_kernel_of_a_shallower_network(activation: str) -> None:
    x, y = np.random.default_rng(1).standard_normal((2, 5, 3))
    deep = wa.MLP((1,) * 4, activation=activation, bias_variance=0.1)
    layers = tangent_kernel(deep, x, y, keep="layers")
    assert layers.kernel.dims == layers.nngp.dims == ("layer", "input", "input_")
    assert_array_equal(layers.layer, np.arange(5))
    for depth in (1, 4):
        net = wa.MLP((1,) * depth, activation=activation, bias_variance=0.1)
        final = tangent_kernel(net, x, y)
        assert_array_equal(layers.kernel.sel(layer=depth), final.kernel)
        assert_array_equal(layers.nngp.sel(layer=depth), final.nngp)
        assert_array_equal(nngp_kernel(net, x, y).kernel, final.nngp)
        assert_array_equal(nngp_kernel(deep, x, y, keep="layers").kernel, layers.nngp)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_threads_instruction_sets_and_symmetry_change_no_bits(activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = wa.MLP((1,) * 3, activation=activation, bias_variance=0.2)
    x = np.random.default_rng(2).standard_normal((70, 9))
    expected = tangent_kernel(net, x)
    results = [tangent_kernel(net, x, n_threads=n) for n in (1, 3)]
    for path in cpu_paths():
        monkeypatch.setenv(CPU_PATH_VARIABLE, path)
        results.append(tangent_kernel(net, x))
    for result in results:
        xr.testing.assert_identical(result, expected)
    assert_array_equal(expected.kernel, expected.kernel.T)
    whole = tangent_kernel(net, x, x)
    scale = np.sqrt(np.diag(expected.nngp)[:, None] * np.diag(expected.nngp))
    assert np.all(np.abs(whole.nngp.values - expected.nngp.values) <= 4e-15 * scale)


def test_large_matrices_in_more_blocks_than_one() -> None:
    """Blocks of rows and of columns, and what is mirrored, against single rows."""
    x = np.random.default_rng(5).standard_normal((1100, 2))
    for activation in ("relu", "erf", "silu"):
        net = wa.MLP((1, 1), activation=activation)
        result = tangent_kernel(net, x).kernel.values
        for row in (0, 600, 1099):
            assert_allclose(
                result[row], tangent_kernel(net, x[row : row + 1], x).kernel.values[0], rtol=1e-12, atol=1e-14
            )


numbers = st.floats(-1e3, 1e3).map(lambda value: 0.0 if abs(value) < 1e-3 else value)


@settings(deadline=None, max_examples=40)
@given(
    data=st.data(),
    activation=st.sampled_from(ACTIVATIONS),
    bias_variance=st.sampled_from([0.0, 0.5]),
    count=st.integers(1, 6),
    features=st.integers(1, 4),
)
def test_kernels_are_symmetric_and_positive_semi_definite(
    data: st.DataObject, activation: str, bias_variance: float, count: int, features: int
) -> None:
    x = np.array(
        data.draw(st.lists(st.lists(numbers, min_size=features, max_size=features), min_size=count, max_size=count))
    )
    net = wa.MLP((1, 1), activation=activation, weight_variance=1.5, bias_variance=bias_variance)
    result = tangent_kernel(net, x)
    for matrix in (result.nngp.values, result.kernel.values):
        assert matrix.shape == (count, count)
        assert_array_equal(matrix, matrix.T)
        assert np.all(np.diag(matrix) >= 0.0)
        # In units of the norms, in which entries have errors of a few units of rounding.
        norms = np.sqrt(np.where(np.diag(matrix) > 0.0, np.diag(matrix), 1.0))
        assert np.linalg.eigvalsh(matrix / norms[:, None] / norms)[0] > -1e-12


@settings(deadline=None, max_examples=40)
@given(exponent=st.integers(-300, 300), activation=st.sampled_from(PIECEWISE_LINEAR))
def test_piecewise_linear_kernels_scale_with_their_inputs(exponent: int, activation: str) -> None:
    """By a power of 2 exactly, in one of the two inputs as well; and the sizes of inputs never matter to angles."""
    net = wa.MLP((1, 1), activation=activation)
    x, y = np.random.default_rng(8).standard_normal((2, 3, 4))
    kernel = tangent_kernel(net, x, y)
    scaled = tangent_kernel(net, x * 2.0**exponent, y)
    assert_array_equal(scaled.kernel, kernel.kernel * 2.0**exponent)
    assert_array_equal(scaled.nngp, kernel.nngp * 2.0**exponent)


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_inputs_of_any_kind(activation: str) -> None:
    net = wa.MLP((1, 1), activation=activation)
    whole = np.array([[3, -1, 2], [0, 5, -4]])
    expected = tangent_kernel(net, whole.astype(np.float64))
    read_only = whole.astype(np.float64)
    read_only.setflags(write=False)
    strided = np.zeros((4, 6))
    strided[::2, ::2] = whole
    kinds: list[Any] = [whole.astype(kind) for kind in ("i1", "i8", "f2", "f4", ">f8", ">i4", "longdouble")]
    kinds += [read_only, strided[::2, ::2], np.asfortranarray(whole), whole.tolist(), xr.DataArray(whole)]
    for x in kinds:
        xr.testing.assert_identical(tangent_kernel(net, x), expected)
        assert_allclose(tangent_kernel(net, x, x).kernel, expected.kernel, rtol=1e-14)


@pytest.mark.parametrize("function", [nngp_kernel, tangent_kernel])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x1": np.ones(3)}, r"x1 must have shape.*x1\[None, :\]"),
        ({"x1": np.ones((0, 3))}, "x1 must have shape.*no side 0"),
        ({"x1": np.ones((3, 0))}, "x1 must have shape.*no side 0"),
        ({"x1": 1.0}, "x1 must have shape"),
        ({"x1": np.ones((2, 2, 2))}, "x1 must have shape"),
        ({"x1": [[1.0, np.nan]]}, r"x1 must be finite, got nan at \(0, 1\)"),
        ({"x1": [[1.0], [np.inf]]}, r"x1 must be finite, got inf at \(1, 0\)"),
        ({"x1": [[1j]]}, "x1 must hold real numbers, got dtype complex128"),
        ({"x1": [["a"]]}, "x1 must hold real numbers"),
        ({"x1": [[True]]}, "x1 must hold real numbers"),
        ({"x1": [[1.0], [1.0, 2.0]]}, "x1 must be an array"),
        ({"x1": np.ones((2, 3)), "x2": np.ones((2, 4))}, "x2 must have as many features as x1, 3"),
        ({"x1": np.ones((2, 3)), "x2": np.ones(3)}, r"x2 must have shape.*x2\[None, :\]"),
        ({"x1": np.ones((2, 3)), "keep": "all"}, "keep must be one of 'final', 'layers'"),
        ({"x1": np.ones((2, 3)), "n_threads": 0}, "n_threads must lie between"),
        ({"net": "relu", "x1": np.ones((2, 3))}, "net must be a wideangle.MLP"),
        ({"net": wa.MLP((1,), weight_variance=1e200), "x1": np.ones((2, 3))}, "net.weight_variance"),
        (
            {"net": wa.MLP((1,), activation="erf"), "x1": np.full((2, 3), 1e200)},
            "leaves the range of float64 at layer 0",
        ),
        (
            {"net": wa.MLP((1,) * 500, activation="gelu", weight_variance=256.0), "x1": np.ones((2, 3))},
            "leaves the range of float64 at layer 1",
        ),
    ],
)
def test_bad_arguments_are_named(function: Any, arguments: dict[str, Any], message: str) -> None:
    arguments = {"net": wa.MLP((1,)), **arguments}
    with pytest.raises((TypeError, ValueError), match=message):
        function(**arguments)


def test_results_say_where_they_come_from() -> None:
    result = tangent_kernel(wa.MLP((3, 3), activation="tanh"), np.eye(2))
    assert result.attrs["function"] == "wideangle.propagation.tangent_kernel"
    assert result.attrs["activation"] == "tanh"
    assert 0.0 < result.attrs["truncation_error"] < 1e-12
    assert nngp_kernel(wa.MLP((3,)), np.eye(2)).attrs["truncation_error"] == 0.0
    assert "Cho and Saul" in nngp_kernel(wa.MLP((3,)), np.eye(2)).attrs["source"]
