"""Mixed moments against 60-digit integration, a Cartesian quadrature, closed forms and their own inequalities."""

from __future__ import annotations

import math
import re
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from wideangle.propagation import mixed_moment

ANGLES = (0.0, 1e-300, 1e-8, 0.3, 1.0, math.pi / 2, 2.5, 3.1, math.pi - 1e-6, math.pi)
orders = st.integers(0, 12)
angles = st.floats(0.0, math.pi)


def integral_form(a: int, b: int, theta: float) -> Any:
    """The moment as the integral over the polar angle from theta - pi/2 to pi/2, scaled so that mpmath's absolute error
    is a relative one."""
    with mp.workdps(60):
        angle = mp.mpf(theta)
        low, high = angle - mp.pi / 2, mp.pi / 2

        def integrand(psi: Any) -> Any:
            return mp.cos(psi) ** a * mp.cos(psi - angle) ** b

        knots = [low + (high - low) * i / 8 for i in range(9)]
        peak = max(integrand(low + (high - low) * i / 64) for i in range(65))
        total = mp.quad(lambda psi: integrand(psi) / peak, knots, method="gauss-legendre")
        k = mp.mpf(a + b)
        return peak * total * mp.power(2, k / 2) * mp.gamma(1 + k / 2) / (2 * mp.pi)


@pytest.mark.parametrize(
    ("a", "b", "rtol"),
    [
        (1, 0, 1e-14),
        (1, 1, 1e-14),
        (3, 1, 1e-14),
        (7, 1, 1e-14),
        (50, 61, 3e-12),
        (0, 140, 3e-12),
        (150, 130, 3e-12),
        (140, 200, 3e-12),
        (1, 500, 3e-12),
    ],
)
def test_against_60_digits(a: int, b: int, rtol: float) -> None:
    """The bounds are those that the docstring states; several of the moments leave the range of floats."""
    computed = mixed_moment(a, b, ANGLES)
    for theta, value in zip(ANGLES, computed, strict=True):
        exact = integral_form(a, b, theta)
        if exact > mp.mpf(10) ** 308:
            assert value == np.inf
        elif exact < mp.mpf(10) ** -308:
            assert 0.0 <= value < 1e-307
        else:
            assert abs(value / exact - 1) < rtol, theta


@pytest.mark.parametrize(("a", "b"), [(0, 0), (1, 1), (2, 0), (4, 3)])
def test_against_a_cartesian_quadrature(a: int, b: int) -> None:
    """The definition itself: x^a y^b under the bivariate normal density over the positive quadrant."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    # The densities beyond 13 standard deviations are below 1e-36.
    x, w = 6.5 * (1.0 + nodes), 6.5 * weights
    for theta in (0.6, math.pi / 2, 2.4):
        rho, determinant = math.cos(theta), math.sin(theta) ** 2
        exponent = -(x[:, None] ** 2 - 2.0 * rho * x[:, None] * x + x**2) / (2.0 * determinant)
        density = np.exp(exponent) / (2.0 * math.pi * math.sqrt(determinant))
        expected = (w * x**a) @ density @ (w * x**b)
        assert_allclose(mixed_moment(a, b, theta), expected, rtol=1e-12)


@pytest.mark.parametrize("theta", ANGLES)
def test_closed_forms(theta: float) -> None:
    """The trigonometric forms of J11, J22 and J31 in arXiv 2302.09712."""
    with mp.workdps(150):
        t = mp.mpf(theta)
        s, c, rest = mp.sin(t), mp.cos(t), mp.pi - t
        exact = {
            (0, 0): rest / (2 * mp.pi),
            (1, 1): (s + rest * c) / (2 * mp.pi),
            (2, 2): (rest * (2 * c**2 + 1) + 3 * s * c) / (2 * mp.pi),
            (3, 1): (3 * rest * c + s * c**2 + 2 * s) / (2 * mp.pi),
        }
        for (a, b), value in exact.items():
            assert abs(float(mixed_moment(a, b, theta)) / value - 1) < 1e-14


@pytest.mark.parametrize("k", [1, 2, 5, 30])
def test_equal_inputs_give_half_a_normal_moment(k: int) -> None:
    expected = 0.5 * math.exp(math.lgamma(0.5 * (k + 1))) * 2.0 ** (0.5 * k) / math.sqrt(math.pi)
    assert_allclose(mixed_moment(k - k // 3, k // 3, 0.0), expected, rtol=3e-14 * k)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
def test_shape_is_kept(shape: tuple[int, ...]) -> None:
    theta = np.linspace(0.1, 3.0, math.prod(shape)).reshape(shape)
    result = mixed_moment(2, 1, theta)
    assert result.shape == shape
    assert result.dtype == np.float64
    assert_allclose(result, np.reshape([float(mixed_moment(2, 1, t)) for t in theta.ravel()], shape), rtol=1e-15)


def test_many_angles_and_other_types() -> None:
    theta = np.linspace(0.0, math.pi, 100_003)
    result = mixed_moment(2, 2, theta)
    assert_allclose(result[::9999], mixed_moment(2, 2, theta[::9999]), rtol=1e-15)
    assert_allclose(mixed_moment(np.int64(2), 2, np.array([0, 1, 3])), mixed_moment(2, 2, [0.0, 1.0, 3.0]), rtol=0)
    assert_allclose(mixed_moment(1, 1, np.float32(0.5)), mixed_moment(1, 1, 0.5), rtol=0)


def test_huge_orders_end_quickly_in_infinity_or_zero() -> None:
    assert_allclose(mixed_moment(2**53, 2**53, [0.0, math.pi]), [np.inf, 0.0])
    assert_allclose(mixed_moment(10**6, 0, math.pi / 2), np.inf)


@settings(deadline=None)
@given(orders, orders, angles)
def test_symmetric_and_within_cauchy_schwarz(a: int, b: int, theta: float) -> None:
    moment = float(mixed_moment(a, b, theta))
    # At pi, which its double misses by 1e-16, a moment goes like the (a + b + 1)th power of that.
    assert_allclose(mixed_moment(b, a, theta), moment, rtol=1e-13, atol=1e-307)
    bound = math.sqrt(float(mixed_moment(2 * a, 0, 0.0)) * float(mixed_moment(2 * b, 0, 0.0)))
    assert 0.0 <= moment <= bound * (1 + 1e-13)
    assert moment > 0.0 or (a + b + 1) * math.log10(math.pi - theta + 1.2e-16) < -290.0


@settings(deadline=None)
@given(orders, orders, angles, angles)
def test_decreases_with_the_angle(a: int, b: int, first: float, second: float) -> None:
    """By Price's theorem the derivative with respect to the correlation is an expectation of positive terms."""
    low, high = sorted((first, second))
    if a and b:
        assert float(mixed_moment(a, b, high)) <= float(mixed_moment(a, b, low)) * (1 + 1e-13) + 1e-307


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 8), st.integers(1, 8), st.floats(0.05, 3.09))
def test_derivative_lowers_both_orders(a: int, b: int, theta: float) -> None:
    """Price's theorem: d J_ab / d cos theta = a b J_{a-1,b-1}. Fourth-order differences, step 1e-3."""
    step = 1e-3
    stencil = mixed_moment(a, b, theta + step * np.array([-2.0, -1.0, 1.0, 2.0]))
    derivative = stencil @ [1.0, -8.0, 8.0, -1.0] / (12.0 * step)
    expected = -math.sin(theta) * a * b * float(mixed_moment(a - 1, b - 1, theta))
    scale = float(mixed_moment(a, b, 0.0)) * (a + b) ** 5
    assert_allclose(derivative, expected, rtol=0, atol=scale * step**4)


@pytest.mark.parametrize("bad", [-1, 2**53 + 1])
def test_order_out_of_range(bad: int) -> None:
    with pytest.raises(ValueError, match=rf"^a must lie between 0 and .* got {bad}; give a non-negative integer"):
        mixed_moment(bad, 1, 0.5)
    with pytest.raises(ValueError, match=rf"^b must lie between 0 and .* got {bad}"):
        mixed_moment(1, bad, 0.5)


@pytest.mark.parametrize("bad", [1.0, True, "1", None])
def test_order_of_wrong_type(bad: Any) -> None:
    with pytest.raises(TypeError, match=r"^a must be an integer"):
        mixed_moment(bad, 1, 0.5)


@settings(deadline=None)
@given(st.one_of(st.floats(max_value=-1e-300), st.floats(min_value=math.nextafter(math.pi, 4.0)), st.just(math.nan)))
def test_angle_out_of_range(bad: float) -> None:
    with pytest.raises(ValueError, match=rf"^theta must lie in \[0, pi\], got {re.escape(repr(bad))}; give angles"):
        mixed_moment(1, 1, [0.5, bad])


@pytest.mark.parametrize("bad", ["0.5", None, 1j, True, [True], object()])
def test_angle_of_wrong_type(bad: Any) -> None:
    with pytest.raises(TypeError, match=r"^theta must be an array of real numbers.*; give angles in radians"):
        mixed_moment(1, 1, bad)
