"""Kernels of smooth activations: against quadrature of their definition, and where that fails against 110 digits."""

from __future__ import annotations

import math
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy import special

import wideangle as wa
from wideangle.propagation import _dual_activations as dual
from wideangle.propagation import _hermite, nngp_kernel, tangent_kernel

Array = NDArray[np.float64]

SMOOTH = ("erf", "sin", "gelu", "tanh", "silu", "elu", "sigmoid")


def normal_nodes() -> tuple[Array, Array]:
    """Trapezoidal rule for a normal variable: for functions analytic within 0.3 of the real axis, to 1e-16."""
    x: Array = 0.05 * np.arange(-180.0, 181.0)
    return x, 0.05 * np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)


def kinked_nodes() -> tuple[Array, Array]:
    """Gauss-Legendre panels that shrink toward 0, for functions of a normal variable with another scale there."""
    edges = np.concatenate([[0.0], 2.0 ** -np.arange(40.0, 2.0, -1.0), np.arange(0.5, 9.1, 0.25)])
    nodes, weights = np.polynomial.legendre.leggauss(20)
    half = 0.5 * np.diff(edges)[:, None]
    x, w = (edges[:-1, None] + half * (1.0 + nodes)).ravel(), (half * weights).ravel()
    w = w * np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)
    return np.concatenate([-x, x]), np.concatenate([w, w])


def elu_given(mean: Array, deviation: float) -> tuple[Array, Array]:
    """E[elu] and E[elu'] of a normal variable: exp(x) tilts the density by its variance."""
    z = mean / deviation
    tilted = np.exp(mean + 0.5 * deviation**2 + special.log_ndtr(-z - deviation))
    density = deviation * np.exp(-0.5 * np.minimum(np.abs(z), 1e3) ** 2) / math.sqrt(2.0 * math.pi)
    return mean * special.ndtr(z) + density + tilted - special.ndtr(-z), special.ndtr(z) + tilted


def expectations(name: str, k11: float, k22: float, k12: float) -> tuple[float, float]:
    """E[phi phi] and E[phi' phi'] under a bivariate normal law."""
    phi = wa.MLP((1,), activation=name).phi
    root, mean = math.sqrt(k11), k12 / math.sqrt(k11)
    rest = math.sqrt(max(k22 - mean**2, 0.0))
    if name == "elu":
        x, w = kinked_nodes()
        inner = elu_given(mean * x, rest) if rest > 0.0 else (phi.value(mean * x), phi.derivative(mean * x))
        return float(w @ (phi.value(root * x) * inner[0])), float(w @ (phi.derivative(root * x) * inner[1]))
    x, w = normal_nodes()
    v = mean * x[:, None] + rest * x
    return tuple(  # type: ignore[return-value]
        float(np.einsum("i,j,i,ij->", w, w, function(root * x), function(v)))
        for function in (phi.value, phi.derivative)
    )


def by_quadrature(net: wa.MLP, x: Array, y: Array) -> tuple[float, float, float]:
    weight, bias = net.weight_variance, net.bias_variance
    k11, k22, k12 = (bias + weight * float(a @ b) / a.size for a, b in ((x, x), (y, y), (x, y)))
    tangent = k12
    for _ in range(net.depth):
        product, slopes = expectations(net.activation, k11, k22, k12)
        k12 = bias + weight * product
        k11, k22 = (bias + weight * expectations(net.activation, k, k, k)[0] for k in (k11, k22))
        tangent = k12 + tangent * weight * slopes
    return k12, tangent, math.sqrt(k11 * k22)


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize(("weight_variance", "bias_variance"), [(1.5, 0.0), (5.0, 0.3)])
def test_against_quadrature(activation: str, weight_variance: float, bias_variance: float) -> None:
    """Three layers, inputs of all angles and sizes: rounding, as far as the layers magnify it."""
    net = wa.MLP((1,) * 3, activation=activation, weight_variance=weight_variance, bias_variance=bias_variance)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((7, 4))
    x[1], x[2], x[3] = 1.2 * x[0], -x[0], x[0] + 1e-3
    x[4], x[5] = x[0] * (1 + 1e-3) + 0.02 * rng.standard_normal(4), 0.01 * x[5]
    result = tangent_kernel(net, x, x[:3])
    for i, j in np.ndindex(7, 3):
        covariance, tangent, norm = by_quadrature(net, x[i], x[j])
        assert abs(result.nngp.values[i, j] - covariance) < 1e-13 * norm
        assert abs(result.kernel.values[i, j] - tangent) < 1e-12 * (norm + abs(tangent))
    assert result.attrs["truncation_error"] < 2e-12


def exact_erf(q1: Any, q2: Any, t: Any) -> tuple[Any, Any]:
    k, a = mp.sqrt(q1 * q2) * (1 - t), (1 + 2 * q1) * (1 + 2 * q2)
    return 2 / mp.pi * mp.asin(2 * k / mp.sqrt(a)), 4 / mp.pi / mp.sqrt(a - 4 * k * k)


def exact_sin(q1: Any, q2: Any, t: Any) -> tuple[Any, Any]:
    k, factor = mp.sqrt(q1 * q2) * (1 - t), mp.exp(-(q1 + q2) / 2)
    return factor * mp.sinh(k), factor * mp.cosh(k)


def exact_gelu(q1: Any, q2: Any, t: Any) -> tuple[Any, Any]:
    """By parts from E[Phi(u) Phi(v)] = 1/4 + asin(rho)/2 pi, and its derivative by finite differences."""

    def product(k: Any) -> Any:
        a = (1 + q1) * (1 + q2)
        root = mp.sqrt(a - k * k)
        inner = k * (mp.pi / 2 + mp.asin(k / mp.sqrt(a)))
        return (inner + (q1 * q2 - k * k * (q1 / (1 + q1) + q2 / (1 + q2) - 1)) / root) / (2 * mp.pi)

    k = mp.sqrt(q1 * q2) * (1 - t)
    step = mp.mpf(10) ** -40 * mp.sqrt(q1 * q2)
    return product(k), (product(k + step) - product(k - step)) / (2 * step)


EXACT = {"erf": exact_erf, "sin": exact_sin, "gelu": exact_gelu}


CASES = [
    (activation, q, ratio)
    for activation in EXACT
    for q in (1e-8, 0.3, 1.7, 40.0, 1e6, 1e12)
    for ratio in (1.0, 1.0 + 1e-6, 2.0, 1e3)
    if activation != "sin" or q * ratio < 1e5  # a sine of more is a matter of how its argument was rounded
]


@pytest.mark.parametrize(("activation", "q", "ratio"), CASES)
def test_closed_forms_keep_their_digits(activation: str, q: float, ratio: float) -> None:
    """One layer, from equal to opposite inputs: gaps to a few units of rounding of themselves or of the distance.

    Norms are only known to rounding, so that for norms that differ by r a gap, which is of the order of r^2, is right
    if its error is below rounding times r.
    """
    q2 = q * ratio
    layer = dual.make_layer(activation, np.array([q]), np.array([q2]))
    for gap in (0.0, 1e-18, 1e-12, 1e-6, 1e-3, 0.2, 1.0, -0.5, -1e-6, -0.0):
        result, slope = layer.advance(np.array([[gap]]), slice(0, 1), slice(0, 1))
        with mp.workdps(110):
            t = 2 + mp.mpf(gap) if math.copysign(1.0, gap) < 0 else mp.mpf(gap)
            product, slopes = EXACT[activation](mp.mpf(q), mp.mpf(q2), t)
            own1, own2 = (EXACT[activation](mp.mpf(v), mp.mpf(v), mp.mpf(0))[0] for v in (q, q2))
            cosine = product / mp.sqrt(own1 * own2)
            obtuse = bool(np.signbit(result[0, 0]))
            expected = -(1 + cosine) if obtuse else 1 - cosine
            expected_slope = slopes * mp.sqrt(mp.mpf(q) * q2) / mp.sqrt(own1 * own2)
        apart = abs(ratio - 1.0) / math.sqrt(ratio)
        # GELU is between a line and ReLU: what magnifies errors is the bend of its slopes, on the scale of 1/q.
        floor = 4e-15 * min(1.0, 1.0 / q) if activation == "gelu" else 1e-14 * min(1.0, apart)
        assert abs(result[0, 0] - expected) <= 2e-14 * abs(expected) + floor, gap
        assert abs(slope[0, 0] - expected_slope) <= 2e-13 * abs(expected_slope) + 4e-15, gap


@pytest.mark.parametrize("activation", ["erf", "sin", "tanh"])
def test_chaotic_networks_know_nearly_equal_inputs_apart(activation: str) -> None:
    """A gap of 5e-29 grows by a factor of 3 to 9 a layer, and must not start from rounding."""
    net = wa.MLP((1,) * 60, activation=activation, weight_variance=16.0)
    near, far = (tangent_kernel(net, [[1.0, 0.0], [1.0, angle]], keep="layers").nngp.values for angle in (1e-14, 1e-13))
    gaps = [1.0 - matrix[:, 0, 1] / np.sqrt(matrix[:, 0, 0] * matrix[:, 1, 1]) for matrix in (near, far)]
    seen = (gaps[0] > 1e-11) & (gaps[1] < 1e-4)
    assert np.count_nonzero(seen) >= 3
    assert_allclose(gaps[1][seen] / gaps[0][seen], 100.0, rtol=0.01)


@pytest.mark.parametrize("activation", ["silu", "gelu", "elu"])
def test_wide_gaussians_see_a_relu(activation: str) -> None:
    """Large inputs: ReLU, and the first correction, from the integral of what an activation lacks of it."""
    q, angle = 1e7, 1.1
    x, y = math.sqrt(q) * np.array([[1.0, 0.0], [math.cos(angle), math.sin(angle)]])
    net, relu = (wa.MLP((1,), activation=name, weight_variance=2.0) for name in (activation, "relu"))
    missing = nngp_kernel(net, x[None], y[None]).kernel.item() - nngp_kernel(relu, x[None], y[None]).kernel.item()
    if activation == "elu":
        # -1 for x < 0 with the other active: -2 E[relu(u); v < 0] = -sqrt(q/2 pi) (1 - cos), twice weight_variance.
        assert_allclose(missing, -2.0 * math.sqrt(q / (2.0 * math.pi)) * (1.0 - math.cos(angle)), rtol=1e-3)
    else:
        # -I delta(x): twice -I times the density 1/sqrt(2 pi q) times E[relu(u) | v = 0] = sqrt(q/2 pi) sin(angle).
        lack = {"silu": math.pi**2 / 6.0, "gelu": 0.5}[activation]
        assert_allclose(missing, -2.0 * 2.0 * lack * math.sin(angle) / (2.0 * math.pi), rtol=1e-3)


@pytest.mark.parametrize("activation", ["tanh", "silu", "elu", "sigmoid"])
@pytest.mark.parametrize("q", [1e-9, 0.1, 1.0, 10.0, 300.0, 1e5, 1e9])
def test_series_reach_the_norms(activation: str, q: float) -> None:
    """Squares of the coefficients add up to E[phi^2], and k times them to q E[phi'^2], whatever the variance."""
    found = _hermite.coefficients(_hermite.FUNCTIONS[activation], np.array([q, 3.0 * q]))
    slope = float((found.moments.slope_square / found.moments.square).max())
    assert found.tail < 1e-14
    assert found.slope_tail < 5e-13 * max(slope, 1.0) ** 2


def test_thinned_sums_are_sums() -> None:
    """Weights against every degree, for terms like those of elu with a power of the correlation."""
    for odd in (False, True):
        chosen = _hermite.choose_degrees(2**15, odd)
        every = np.arange(1.0, float(chosen.degree[-1]) + 1.0, 2.0 if odd else 1.0)
        assert chosen.degree.size < 900
        assert np.all(np.diff(chosen.degree) > 0)
        for gap in (0.0, 1e-5, 1e-3, 0.1):

            def term(k: Array, gap: float = gap) -> Array:
                parity = np.where(k % 2 == 0, 1.0, 0.3)
                return np.asarray(parity * (k + 2.0) ** -2.5 * np.exp(k * math.log1p(-gap)))

            thinned = chosen.weight @ term(chosen.degree.astype(np.float64))
            # The sum over both parities ends with a pair.
            last = every[: every.size]
            assert_allclose(thinned, term(last).sum(), rtol=1e-13)


def test_hermite_functions_of_high_degree() -> None:
    """Taylor series from panel to panel against the recurrence, at degrees where both are at hand."""
    nodes = np.array([0.1, 0.5, 0.9])
    panel, count = 0.05, 60
    degree = np.array([300, 301, 1024, 4001])
    x = (panel * (np.arange(count)[:, None] + nodes)).ravel()
    by_taylor = _hermite._hermite_by_taylor(panel, count, nodes, degree)
    by_recurrence = _hermite._hermite_by_recurrence(x, degree)
    assert_allclose(by_taylor, by_recurrence, atol=2e-13)
    with mp.workdps(40):
        exact = mp.hermite(300, mp.mpf(x[5]) / mp.sqrt(2)) / mp.sqrt(mp.mpf(2) ** 300 * mp.factorial(300))
        exact *= mp.exp(-(mp.mpf(x[5]) ** 2) / 4) / (2 * mp.pi) ** mp.mpf(0.25)
    assert_allclose(by_taylor[5, 0], float(exact), atol=2e-13)


def test_errors_grow_with_what_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """With few degrees the stated bound is large, and holds."""
    net = wa.MLP((1,) * 3, activation="tanh", weight_variance=4.0)
    x = np.random.default_rng(6).standard_normal((6, 3))
    x[1] = x[0] + 1e-3
    exact = tangent_kernel(net, x)
    original = _hermite.choose_degrees
    monkeypatch.setattr(_hermite, "choose_degrees", lambda top, odd: original(top, odd).first(8))
    short = tangent_kernel(net, x)
    norm = np.sqrt(np.diag(exact.nngp)[:, None] * np.diag(exact.nngp))
    for variable, attribute in (("nngp", "nngp_truncation_error"), ("kernel", "truncation_error")):
        error = np.max(np.abs(short[variable].values - exact[variable].values) / norm)
        assert 1e-6 < error < short.attrs[attribute]
        assert short.attrs[attribute] < 10.0 * net.depth


def test_inputs_without_norm_and_opposite_inputs() -> None:
    x = np.array([[1.0, 2.0], [0.0, 0.0], [-1.0, -2.0]])
    for activation in ("erf", "sin", "tanh"):
        result = tangent_kernel(wa.MLP((1, 1), activation=activation), x)
        assert_array_equal(result.kernel[1], 0.0)
        # An odd activation without biases makes an odd network.
        assert_allclose(result.kernel.values[2], -result.kernel.values[0], rtol=1e-13)
        assert_allclose(result.nngp.values[2], -result.nngp.values[0], rtol=1e-13)
