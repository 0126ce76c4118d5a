r"""Laws of one random ReLU layer for :math:`X = \ln\sin^2\theta`, each a shift of X with its variance.

Shifts rather than new values, because X loses no digits however small the angle is: X = -10000 has an angle that is
zero in floating point, and its shift is the limit at angle 0. The laws of Theorem 1 and of infinite width hold for
obtuse angles too, where the next X does not come close to the present one; there their shifts count from 0, which
:func:`shift_origin` says.

Sources: Jakub and Nica, arXiv 2302.09712 (Theorem 1, Approximations 1 and 2); Cho and Saul 2009 for infinite width.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from wideangle.propagation._theorem1 import SERIES_BELOW, moments_from_series, moments_regrouped, small_angle_terms
from wideangle.propagation.gaussian_moments import mixed_moment

Array = NDArray[np.float64]

LINEAR_SLOPE = -2.0 / (3.0 * math.pi)
"""Slope of the infinite-width shift at angle 0."""

# Up to here the binomial weights are summed one by one, beyond by Gauss quadrature, exact to rounding from there on.
_EXACT_BINOMIAL = 512
_QUADRATURE_NODES = 40
# Euler numbers E_0, E_2, ...; nine reach rounding accuracy from K = 20 on.
_EULER = (1.0, -1.0, 5.0, -61.0, 1385.0, -50521.0, 2702765.0, -199360981.0, 19391512145.0)
_ASYMPTOTIC_FROM = 20.0


def log_sin2_of_angle(theta: Array) -> Array:
    """Return ln sin^2 theta for theta in (0, pi], without loss near pi/2, where it is tiny."""
    cosine = np.cos(theta)
    near = np.abs(cosine) < 0.5
    return np.where(near, np.log1p(-(np.where(near, cosine, 0.0) ** 2)), 2.0 * np.log(np.sin(theta)))


def angle_of_log_sin2(log_sin2: Array) -> Array:
    """Return the acute angle with ln sin^2 theta = ``log_sin2`` <= 0; it underflows to 0 below about -1490."""
    return np.arctan2(np.exp(0.5 * log_sin2), np.sqrt(-np.expm1(log_sin2)))


def shift_origin(theta: Array) -> Array:
    """Return the X that the shifts of :func:`theorem1` and :func:`infinite_width` count from."""
    return np.where(theta <= 0.5 * math.pi, log_sin2_of_angle(theta), 0.0)


def infinite_width(theta: Array) -> Array:
    r"""Return the shift of X in an infinitely wide layer, :math:`\cos\theta' = 2 J_{1,1}(\theta)`.

    That is the arc-cosine kernel of order 1 of Cho and Saul 2009.
    """
    shift = np.empty_like(theta)
    small = theta < SERIES_BELOW
    shift[small] = small_angle_terms(theta[small])[0]
    large = theta[~small]
    shift[~small] = np.log1p(-4.0 * mixed_moment(1, 1, large) ** 2) - shift_origin(large)
    return shift


def theorem1(theta: Array, width: int) -> tuple[Array, Array]:
    """Return the shift of the mean and the variance of X by Theorem 1 of arXiv 2302.09712, for ``width`` >= 2.

    The terms left out are of order 1/width^2. The relative accuracy is better than 1e-13 for theta in [0, pi].
    """
    shift, variance = np.empty_like(theta), np.empty_like(theta)
    small = theta < SERIES_BELOW
    shift[small], variance[small] = moments_from_series(theta[small], float(width))
    large = theta[~small]
    mean, variance[~small] = moments_regrouped(large, float(width))
    shift[~small] = mean - shift_origin(large)
    return shift, variance


def linear_rule(theta: Array, width: int) -> tuple[Array, Array]:
    r"""Return shift :math:`-(2/3\pi)\theta - \rho(n)` and variance :math:`8n/(n+5)^2`, for ``width`` n >= 2.

    Approximations 1 and 2 of arXiv 2302.09712: Theorem 1 to first order in the angle, its variance at angle 0 to
    leading order; meant for acute angles. :math:`\rho(n) = \ln\frac{n+5}{n-1} - \frac{10n}{(n+5)^2} +
    \frac{6n}{(n-1)^2}`.
    """
    n = float(width)
    rho = math.log1p(6.0 / (n - 1.0)) - 10.0 * n / (n + 5.0) ** 2 + 6.0 * n / (n - 1.0) ** 2
    return LINEAR_SLOPE * theta - rho, np.full_like(theta, 8.0 * n / (n + 5.0) ** 2)


@lru_cache(maxsize=1024)
def small_angle_rule(width: int) -> tuple[float, float]:
    r"""Return mean and variance of the exact shift of X as the angle goes to 0, for ``width`` n >= 2.

    New here, not in the papers. As :math:`\theta \to 0` both inputs activate the same K ~ Binomial(n, 1/2) neurons.
    Regressing one's K Gaussian pre-activations on the other's leaves a residual of squared length
    :math:`\sin^2\theta\,\chi^2_{K-1}`, independent of the squared length :math:`\chi^2_K` of the other (Bartlett), so
    :math:`\sin^2\theta' = \sin^2\theta\,\chi^2_{K-1}/\chi^2_K`. With :math:`E\ln\chi^2_k = \psi(k/2) + \ln 2` and
    :math:`\mathrm{Var}\ln\chi^2_k = \psi'(k/2)`, given that the pair survives (K >= 2),

    .. math::
        \text{mean} = E[g(K)], \quad \text{variance} = E[\psi'(\tfrac{K-1}{2}) + \psi'(\tfrac K2)] + \mathrm{Var}\,g(K),
        \qquad g(K) = \psi(\tfrac{K-1}{2}) - \psi(\tfrac K2) .
    """
    from scipy.special import polygamma

    active, weights = active_neurons(width)
    gap = -digamma_gap(active)
    mean = float(weights @ gap)
    trigamma = polygamma(1, 0.5 * (active - 1.0)) + polygamma(1, 0.5 * active)
    return mean, float(weights @ (trigamma + (gap - mean) ** 2))


@lru_cache(maxsize=64)
def active_neurons(width: int, fewest: int = 2) -> tuple[Array, Array]:
    """Return nodes and weights of the expectation over K ~ Binomial(width, 1/2) given K >= ``fewest``, 1 or 2.

    Up to width 512 these are all values of K. Beyond, they are the Gauss quadrature of the binomial distribution (its
    orthogonal polynomials are Krawtchouk's). Its 40 nodes integrate to rounding accuracy a function of K analytic above
    K = 1, which is more than 22 standard deviations away; K < 2 has a probability below 1e-150 there.
    """
    if width <= _EXACT_BINOMIAL:
        active = np.arange(fewest, width + 1, dtype=np.float64)
        counts = [math.comb(width, k) for k in range(fewest, width + 1)]
        survivors = sum(counts)
        return active, np.array([count / survivors for count in counts])
    degrees = np.arange(1, _QUADRATURE_NODES, dtype=np.float64)
    off_diagonal = 0.5 * np.sqrt(degrees * (width - degrees + 1.0))
    nodes, vectors = np.linalg.eigh(np.diag(off_diagonal, -1))
    return 0.5 * width + nodes, vectors[0] ** 2


def digamma_gap(active: Array) -> Array:
    r"""Return :math:`\psi(K/2) - \psi((K-1)/2)` for K >= 2 without the cancellation of large K.

    Derived: the gap is :math:`\frac12\int_0^\infty e^{-zt}\,\mathrm{sech}(t/4)\,dt` with :math:`z = K/2 - 3/4`, and
    expanding the hyperbolic secant gives :math:`\frac12\sum_k E_{2k}\,16^{-k} z^{-2k-1}` with the Euler numbers.
    """
    from scipy.special import digamma

    large = active >= _ASYMPTOTIC_FROM
    z = np.where(large, 0.5 * active - 0.75, 1.0)
    coefficients = [0.5 * euler / 16.0**k for k, euler in enumerate(_EULER)]
    asymptotic = np.polynomial.polynomial.polyval(1.0 / z**2, coefficients) / z
    return np.where(large, asymptotic, digamma(0.5 * active) - digamma(0.5 * (active - 1.0)))
