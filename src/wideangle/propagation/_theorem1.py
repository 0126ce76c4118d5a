r"""Theorem 1 of arXiv 2302.09712 without its cancellations.

The printed mean and variance are built from three polynomials in the moments :math:`J_{11}, J_{22}, J_{31}`,

.. math::
    T = 1 - 4J_{11}^2, \quad Q = 2J_{11}^2 - 4J_{11}J_{31} + J_{22} + 1, \quad
    D = 8J_{11}^2 J_{22} - 8J_{11}^4 + 4J_{11}^2 - 8J_{11}J_{31} + J_{22} + 1,

which vanish like :math:`\theta^2`, :math:`\theta^2` and :math:`\theta^4`. For angles below 1 their power series are
divided by those powers. At larger angles the mean and variance are regrouped so that, as the moments vanish towards
:math:`\pi`, what is left has no constant terms to cancel. Both forms are exact rearrangements.
"""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle.propagation.gaussian_moments import mixed_moment

Array = NDArray[np.float64]

SERIES_BELOW = 1.0
"""The angle up to which the series serve; at 1 they and the regrouped form are equally accurate."""

# The series of cos^4 sets the pace: 4^k/k! is below 2**-53 of its sum from k = 34 on.
_N_TERMS = 40
_DIGITS = 60
_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")


class Series(NamedTuple):
    """Taylor coefficients about 0, lowest power first."""

    contraction: Array
    """Of (T - sin^2 theta) / theta^3."""
    t: Array
    """Of T / theta^2."""
    q: Array
    """Of Q / theta^2."""
    d: Array
    """Of D / theta^4."""


@lru_cache(maxsize=1)
def series() -> Series:
    """Return the Taylor coefficients, each computed to 60 digits and rounded once."""
    n_powers = _N_TERMS + 4

    def times(*factors: NDArray[Any]) -> NDArray[Any]:
        product = factors[0]
        for factor in factors[1:]:
            product = np.convolve(product, factor)[:n_powers]
        return product

    with localcontext() as context:
        context.prec = _DIGITS
        zero, one = Decimal(0), Decimal(1)
        sine, cosine, rest, unit = (np.array([zero] * n_powers, dtype=object) for _ in range(4))
        for power in range(n_powers):
            sign = -one if power % 4 >= 2 else one
            (sine if power % 2 else cosine)[power] = sign / math.factorial(power)
        rest[0], rest[1], unit[0] = _PI, -one, one
        j11 = (sine + times(rest, cosine)) / (2 * _PI)
        j22 = (times(rest, 2 * times(cosine, cosine) + unit) + 3 * times(sine, cosine)) / (2 * _PI)
        j31 = (3 * times(rest, cosine) + times(sine, cosine, cosine) + 2 * sine) / (2 * _PI)
        square, mixed = times(j11, j11), times(j11, j31)
        t = unit - 4 * square
        q = 2 * square - 4 * mixed + j22 + unit
        d = 8 * times(square, j22) - 8 * times(square, square) + 4 * square - 8 * mixed + j22 + unit
        contraction = t - times(sine, sine)

    def divided(coefficients: NDArray[Any], power: int) -> Array:
        return coefficients[power : power + _N_TERMS].astype(np.float64)

    return Series(divided(contraction, 3), divided(t, 2), divided(q, 2), divided(d, 4))


def small_angle_terms(theta: Array) -> tuple[Array, Array, Array]:
    """Return ln(T / sin^2 theta), Q / T and D / T^2 for theta below ``SERIES_BELOW``."""
    coefficients = series()
    contraction, t, q, d = (np.polynomial.polynomial.polyval(theta, c) for c in coefficients)
    bent = theta * contraction
    return np.log1p(bent / (t - bent)), q / t, d / (t * t)


def moments_from_series(theta: Array, width: float) -> tuple[Array, Array]:
    """Return mu - ln sin^2 theta and sigma^2 of Theorem 1 for theta below ``SERIES_BELOW``."""
    log_ratio, q, d = small_angle_terms(theta)
    j22 = _j22(theta)
    n, fewer = width, width - 1.0
    spread = fewer + 4.0 * j22
    shift = log_ratio - np.log1p(4.0 * j22 / fewer) + 4.0 * n * ((1.0 + j22) / spread**2 - d / fewer**2)
    variance = 8.0 * n * ((1.0 + j22) / spread**2 - 2.0 * q / (spread * fewer) + d / fewer**2)
    return shift, variance


def _j22(theta: Array) -> Array:
    """Return J22 in closed form, free of cancellation for acute angles."""
    cosine = np.cos(theta)
    return ((math.pi - theta) * (2.0 * cosine**2 + 1.0) + 3.0 * np.sin(theta) * cosine) / (2.0 * math.pi)


def moments_regrouped(theta: Array, width: float) -> tuple[Array, Array]:
    r"""Return mu and sigma^2 of Theorem 1 for theta from ``SERIES_BELOW`` to pi.

    With :math:`a, b, c = J_{11}, J_{22}, J_{31}`, :math:`N = n - 1`, :math:`w = N + 4b`, :math:`u = NT`,
    :math:`E = D - 1 - b`, writing :math:`1 + b` for :math:`P`:

    .. math::
        \mu &= \ln(1-4a^2) - \ln(1+4b/N) + 4n\,[P u^2 - D w^2]/(uw)^2, \\
        \sigma^2 &= 8n\,[P u^2 - 2Q u w + D w^2]/(uw)^2
                  = 8n\,[P (u-w)^2 + 2(P-Q) u w + (D-P) w^2]/(uw)^2,

    and every bracket is then a sum of powers of a, b and c without a constant term.
    """
    a, b, c = mixed_moment(1, 1, theta), mixed_moment(2, 2, theta), mixed_moment(3, 1, theta)
    n, fewer = width, width - 1.0
    p = 1.0 + b
    e = 4.0 * a * (a - 2.0 * c) + 8.0 * a**2 * (b - a**2)
    spread, determinant = fewer + 4.0 * b, fewer * (1.0 - 4.0 * a**2)
    scale = (n / (determinant * spread)) / (determinant * spread)
    skewed = 8.0 * a * c - 12.0 * a**2 - 16.0 * a**2 * b + 24.0 * a**4 + 16.0 * a**4 * b
    bracket = fewer**2 * skewed - (p + e) * 8.0 * b * (fewer + 2.0 * b)
    mean = np.log1p(-4.0 * a**2) - np.log1p(4.0 * b / fewer) + 4.0 * scale * bracket
    cross = fewer * (a**2 - 4.0 * a * c + b) + 2.0 * b * (1.0 - 2.0 * c / a + 2.0 * b - 2.0 * a**2)
    variance = 8.0 * scale * (16.0 * p * (a**2 * fewer + b) ** 2 + 8.0 * a**2 * spread * cross)
    return mean, variance
