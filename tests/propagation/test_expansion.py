"""The expansion in 1/n against Theorem 1, Bartlett's law, its own two sets of variables, and the exact law."""

from __future__ import annotations

import math
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import wideangle as wa
from wideangle.propagation import predict_angles
from wideangle.propagation._composition import _four_cumulant_rule
from wideangle.propagation._expansion import _acute, _expand, _obtuse, expand_cumulants

ANGLES = (0.0, 1e-300, 1e-9, 0.1, 0.7, 1.0, 1.5, math.pi / 2, 2.0, 2.5, 3.1)


def leading_terms(theta: Any) -> tuple[Any, Any, Any]:
    """X at infinite width, and the 1/n terms of mean and variance, from the printed Theorem 1 of arXiv 2302.09712."""
    s, c, rest = mp.sin(theta), mp.cos(theta), mp.pi - theta
    j11 = (s + rest * c) / (2 * mp.pi)
    j22 = (rest * (2 * c**2 + 1) + 3 * s * c) / (2 * mp.pi)
    j31 = (3 * rest * c + s * c**2 + 2 * s) / (2 * mp.pi)
    d = 8 * j11**2 * j22 - 8 * j11**4 + 4 * j11**2 - 8 * j11 * j31 + j22 + 1
    t, q = 1 - 4 * j11**2, 2 * j11**2 - 4 * j11 * j31 + j22 + 1
    mean = -4 * j22 + 4 * (j22 + 1) - 4 * d / t**2
    return mp.log(t), mean, 8 * (j22 + 1) + 8 * d / t**2 - 16 * q / t


@pytest.mark.parametrize("theta", [1e-9, *ANGLES[3:]])
def test_first_order_is_theorem_1(theta: float) -> None:
    """Without the terms of order 1/n^2 that its closed form happens to keep."""
    with mp.workdps(120):
        limit, mean, variance = leading_terms(mp.mpf(theta))
        limit -= 2 * mp.log(mp.sin(mp.mpf(theta))) if theta <= math.pi / 2 else 0
        coefficients = expand_cumulants(np.array([theta]), 1)[:2, :, 0]
        assert abs(coefficients[0, 0] - limit) < 2e-15 + 1e-13 * abs(limit)
        assert abs(coefficients[0, 1] / mean - 1) < 1e-12
        assert coefficients[1, 0] == 0.0
        assert abs(coefficients[1, 1] / variance - 1) < 1e-12


def test_angle_zero_is_bartletts_law() -> None:
    """Cumulants of ln(chi2_{K-1}/chi2_K), K ~ Binomial(n, 1/2), expanded by hand.

    With polygammas in powers of 2/K, the third is E[-8/K^3] + 3 Cov[4/K, -1/K] = (-64 - 48)/n^3 to leading order, and
    the fourth E[32/K^3] + 3 Var[4/K] = (256 + 192)/n^3.
    """
    mean, variance, third, fourth = expand_cumulants(np.array([0.0, 1e-300]), 3)
    for column in range(2):
        assert_allclose(mean[:, column], [0.0, -2.0, -8.0, -40.0], rtol=1e-12, atol=1e-14)
        assert_allclose(variance[:, column], [0.0, 8.0, 32.0, 508.0 / 3.0], rtol=1e-12, atol=1e-14)
        assert_allclose(third[:, column], [0.0, 0.0, 0.0, -112.0], rtol=1e-12, atol=1e-12)
        assert_allclose(fourth[:, column], [0.0, 0.0, 0.0, 448.0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("theta", [0.7, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_both_sets_of_variables_agree(theta: float, order: int) -> None:
    """The scaled variables of acute angles and the plain ones of obtuse angles are different series of one function.

    The plain ones cancel at small angles; 1e-9 of the largest is what they have left at 0.7.
    """
    angles = np.array([theta])
    scaled = _expand(*_acute(angles, order), order)
    plain = _expand(*_obtuse(angles, order), order)
    plain[0, 0] -= 2.0 * math.log(math.sin(theta))
    assert_allclose(scaled, plain, rtol=1e-9, atol=1e-9 * np.abs(plain).max())


def test_smooth_across_right_angles() -> None:
    """The two formulas meet at pi/2, where X counts from 0 on either side up to 1e-12."""
    around = expand_cumulants(np.array([math.pi / 2, math.pi / 2 + 1e-7]), 3)
    assert_allclose(around[..., 0], around[..., 1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("theta0", [1e-6, 0.3, 1.0, math.pi / 2, 2.5])
def test_error_falls_with_the_next_power(order: int, theta0: float) -> None:
    """Doubling n divides the error against the exact law by 2^(order + 1), up to the terms beyond the next."""
    errors = []
    for width in (128, 256):
        exact = predict_angles(wa.MLP([width]), theta0, method="exact")
        expansion = predict_angles(wa.MLP([width]), theta0, method="expansion", order=order)
        errors.append(
            [float(expansion.log_sin2[1] - exact.log_sin2[1]), float(expansion.variance[1] - exact.variance[1])]
        )
    mean, variance = np.log2(np.abs(np.array(errors[0]) / np.array(errors[1])))
    assert abs(mean - (order + 1)) < 0.35
    assert abs(variance - (order + 1)) < 0.35


@pytest.mark.parametrize(("skewness", "excess"), [(0.0, 0.0), (0.4, 0.3), (-1.1, 2.0), (0.0, -0.5), (2.0, 7.0)])
def test_rule_has_four_cumulants(skewness: float, excess: float) -> None:
    z, weights = _four_cumulant_rule(skewness, excess)
    moments = [float(weights @ z**k) for k in range(5)]
    assert_allclose(moments, [1.0, 0.0, 1.0, skewness, 3.0 + excess], atol=1e-12)


@pytest.mark.parametrize("theta0", [0.05, 0.5, 1.5])
def test_orders_improve_through_depth(theta0: float) -> None:
    net = wa.MLP((60,) * 10)
    exact = predict_angles(net, theta0, method="exact")
    errors = []
    for order in (1, 2, 3):
        expansion = predict_angles(net, theta0, method="expansion", order=order)
        errors.append([abs(float((expansion[name] - exact[name])[-1])) for name in ("log_sin2", "variance")])
    assert (np.array(errors[1]) < np.array(errors[0]) / 5).all()
    assert (np.array(errors[2]) < np.array(errors[1]) / 4).all()
    assert (np.array(errors[2]) < [3e-4, 1.5e-3]).all()


@pytest.mark.parametrize("theta0", [1e-300, 1.0, 3.1, math.pi])
@pytest.mark.parametrize("width", [2, 3, 10, 2**31])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_signs_at_any_width_and_angle(theta0: float, width: int, order: int) -> None:
    angles = predict_angles(wa.MLP([width] * 3), theta0, method="expansion", order=order)
    assert np.isfinite(angles.log_sin2).all()
    assert (np.diff(angles.log_sin2[1:]) < 0.0).all()
    assert (angles.variance[1:] > 0.0).all()


def test_default_order_is_three() -> None:
    net = wa.MLP([40, 30])
    default = predict_angles(net, 0.5, method="expansion")
    assert default.identical(predict_angles(net, 0.5, method="expansion", order=3))
    assert default.attrs["order"] == 3
    assert "2302.09712" in default.attrs["source"]
    assert "order" not in predict_angles(net, 0.5, method="exact").attrs


@pytest.mark.parametrize("order", [0, 4, -1, 2.0, True, "3"])
def test_order_out_of_range(order: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"^order must .*; give the highest power of 1/n, 1 to 3$"):
        predict_angles(wa.MLP([10]), 0.5, method="expansion", order=order)


@pytest.mark.parametrize("method", ["exact", "finite-width", "infinite-width", "small-angle"])
def test_order_of_another_method(method: str) -> None:
    with pytest.raises(ValueError, match=rf"^order must be None for method '{method}', got 2; only 'expansion'"):
        predict_angles(wa.MLP([10]), 0.5, method=method, order=2)
