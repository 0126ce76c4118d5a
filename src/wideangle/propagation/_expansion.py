r"""Cumulants of ln sin^2 of the next angle in powers of 1/n, to any order.

:math:`X` is a smooth function of means over n independent neurons. The means deviate from their expectations by
:math:`\xi` with joint cumulants :math:`\kappa_\alpha n^{1-|\alpha|}`, :math:`\kappa_\alpha` those of one neuron, and

.. math:: E[g(\xi)] =
    \exp\Big(\sum_{|\alpha|\ge2} \frac{\kappa_\alpha n^{1-|\alpha|}}{\alpha!}\,\partial^\alpha\Big) g(0)

(derived: the moment generating function of :math:`\xi` applied to :math:`\partial`). To order k in 1/n this takes
derivatives of g up to 2k and cumulants up to k + 1. arXiv 2302.09712 stops at k = 1. Nothing here is specific to an
order: truncated power series in three variables do the algebra, and the moments of one neuron are numbers.

For acute angles the variables are the means of :math:`C = ab`, :math:`R = (a-b)^2/\sin^2\theta` and
:math:`M = (a^2-b^2)/(2\sin\theta)`, all of order 1 however small the angle is, with

.. math:: \frac{AB - C^2}{\sin^2\theta} = CR + \tfrac14R^2\sin^2\theta - M^2, \qquad
    AB = C^2 + \sin^2\theta\,(CR + \tfrac14R^2\sin^2\theta - M^2) ;

for obtuse ones they are :math:`A = a^2`, :math:`B = b^2`, C, and :math:`X = \ln(1 - C^2/AB)` keeps its digits near pi.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle.propagation._frame import HALF_PI
from wideangle.propagation.gaussian_moments import PI_REMAINDER, mixed_moment
from wideangle.propagation.rules import Array

_NODES = 24


class Monomials(NamedTuple):
    """The monomials of three variables up to a degree, and how they multiply."""

    exponents: tuple[tuple[int, ...], ...]
    degrees: NDArray[np.int64]
    factorials: Array
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    starts: NDArray[np.int64]

    def times(self, p: Array, q: Array) -> Array:
        """Return the product of two series, of shape (n_monomials, n_points) each, without terms of higher degree."""
        product: Array = np.add.reduceat(p[self.left] * q[self.right], self.starts, axis=0)
        return product

    def log1p(self, p: Array, degree: int) -> Array:
        """Return ln(1 + p) of a series without constant term, up to ``degree``."""
        p = np.where(self.degrees[:, None] <= degree, p, 0.0)
        result, power = p.copy(), p
        for k in range(2, degree + 1):
            power = self.times(power, p)
            result += power * ((-1.0) ** (k + 1) / k)
        return np.where(self.degrees[:, None] <= degree, result, 0.0)

    def variable(self, index: int, mean: Array) -> Array:
        """Return mean + xi_index as a series."""
        series = np.zeros((len(self.exponents), mean.size))
        series[0] = mean
        series[1 + index] = 1.0
        return series


@lru_cache(maxsize=8)
def monomials(degree: int) -> Monomials:
    """Return the monomials up to ``degree``, by degree and within it from the first variable on."""
    exponents = tuple(
        powers
        for total in range(degree + 1)
        for powers in itertools.product(range(total, -1, -1), repeat=3)
        if sum(powers) == total
    )
    position = {powers: index for index, powers in enumerate(exponents)}
    products = []
    for (i, p), (j, q) in itertools.product(enumerate(exponents), repeat=2):
        product = position.get((p[0] + q[0], p[1] + q[1], p[2] + q[2]))
        if product is not None:
            products.append((product, i, j))
    table = np.array(sorted(products))
    return Monomials(
        exponents,
        np.array([sum(powers) for powers in exponents]),
        np.array([math.prod(map(math.factorial, powers)) for powers in exponents], dtype=np.float64),
        table[:, 1],
        table[:, 2],
        np.searchsorted(table[:, 0], np.arange(len(exponents))),
    )


def expand_cumulants(theta: Array, order: int) -> Array:
    r"""Return the first four cumulants of the change of X in one layer as polynomials in 1/n.

    Parameters
    ----------
    theta
        Angles in [0, pi] before the layer. Beyond pi/2 the change counts from 0 rather than from ln sin^2 theta.
    order
        Highest power of 1/n.

    Returns
    -------
    numpy.ndarray
        Coefficients, shape (4, order + 1, len(theta)): cumulant, power of 1/n, angle.
    """
    coefficients = np.empty((4, order + 1, theta.size))
    acute = theta <= HALF_PI
    for chosen, branch in ((acute, _acute), (~acute, _obtuse)):
        if chosen.any():
            coefficients[:, :, chosen] = _expand(*branch(theta[chosen], order), order)
    return coefficients


def _acute(theta: Array, order: int) -> tuple[Array, Array, Array]:
    """Return X at the means, X as a series about them, and the moments of one neuron in C, R, M."""
    table = monomials(2 * order)
    moments = _acute_moments(theta, order)
    c, r, m = (table.variable(i, moments[1 + i]) for i in range(3))
    s2 = np.sin(theta) ** 2
    determinant = table.times(c, r) + 0.25 * s2 * table.times(r, r) - table.times(m, m)
    product = table.times(c, c) + s2 * determinant
    at_means = np.log(determinant[0]) - np.log(product[0])
    series = [p / p[0] for p in (determinant, product)]
    for p in series:
        p[0] = 0.0
    return at_means, table.log1p(series[0], 2 * order) - table.log1p(series[1], 2 * order), moments


def _obtuse(theta: Array, order: int) -> tuple[Array, Array, Array]:
    """Return X at the means, X as a series about them, and the moments of one neuron in A, B, C."""
    table = monomials(2 * order)
    moments = np.zeros((len(table.exponents), theta.size))
    for index, (i, j, k) in enumerate(table.exponents):
        if i + j + k > order + 1:
            continue
        if (i == 0 or j == 0) and k == 0:
            # One input alone: half of the moment of a normal variable.
            moments[index] = 0.5 * math.prod(range(2 * (i + j) - 1, 0, -2))
        else:
            moments[index] = mixed_moment(2 * i + k, 2 * j + k, theta)
    moments[0] = 1.0
    a, b, c = (table.variable(i, moments[1 + i]) for i in range(3))
    inverse = _reciprocal(table, table.times(a, b), 2 * order)
    squared_cosine = table.times(table.times(c, c), inverse)
    rest = 1.0 - squared_cosine[0]
    series = -squared_cosine / rest
    series[0] = 0.0
    return np.log1p(-squared_cosine[0]), table.log1p(series, 2 * order), moments


def _reciprocal(table: Monomials, p: Array, degree: int) -> Array:
    rest = -p / p[0]
    rest[0] = 0.0
    result = np.zeros_like(p)
    result[0] = 1.0
    power = result
    for _ in range(degree):
        power = table.times(power, rest)
        result = result + power
    inverse: Array = result / p[0]
    return inverse


def _acute_moments(theta: Array, order: int) -> Array:
    r"""Return E[C^i R^j M^k] of one neuron, in polar coordinates.

    With E exponential, a neuron active on both inputs has :math:`C = E(\cos\theta + \cos v)`,
    :math:`R = E(1-\cos v)/\cos^2(\theta/2)` and :math:`M = -E\sin v`, v uniform on :math:`\pm(\pi-\theta)`; one active
    on the first input alone has C = 0, :math:`R = 2E\sin^2t/\sin^2\theta`, :math:`M = E\sin^2t/\sin\theta`, t uniform
    on :math:`(0, \theta)`.
    """
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    x, w = 0.5 * (1.0 + nodes), 0.5 * weights / (2.0 * math.pi)
    left = ((math.pi - theta) + PI_REMAINDER)[:, None]
    theta = theta[:, None]
    v = left * x
    both = (
        2.0 * np.cos(0.5 * (v + theta)) * np.cos(0.5 * (v - theta)),
        2.0 * (np.sin(0.5 * v) / np.cos(0.5 * theta)) ** 2,
        np.sin(v),
    )
    # sin(x theta)/sin(theta), x at theta = 0.
    ratio = x * np.sinc(theta * x / math.pi) / np.sinc(theta / math.pi)
    alone = (2.0 * ratio**2, ratio**2 * np.sin(theta))
    table = monomials(2 * order)
    moments = np.zeros((len(table.exponents), theta.size))
    for index, (i, j, k) in enumerate(table.exponents):
        # M changes sign with the inputs' exchange, so its odd powers vanish.
        if i + j + k > order + 1 or k % 2:
            continue
        moment = left[:, 0] * ((both[0] ** i * both[1] ** j * both[2] ** k) @ w)
        if i == 0:
            moment += 2.0 * theta[:, 0] * ((alone[0] ** j * alone[1] ** k) @ w)
        moments[index] = math.factorial(i + j + k) * moment
    moments[0] = 1.0
    return moments


def _expand(at_means: Array, series: Array, moments: Array, order: int) -> Array:
    table = monomials(2 * order)
    weights = _mean_moments(moments, order)
    raw, power = [], series
    for degree in range(1, 5):
        raw.append((weights * power).sum(axis=1))
        if degree < 4:
            power = table.times(power, series)

    def times(p: Array, q: Array) -> Array:
        product = np.zeros_like(p)
        for i in range(order + 1):
            product[i:] += p[i] * q[: order + 1 - i]
        return product

    first, second, third, fourth = raw
    square = times(first, first)
    cumulants = np.stack(
        [
            first,
            second - square,
            third - 3.0 * times(first, second) + 2.0 * times(first, square),
            fourth
            - 4.0 * times(first, third)
            - 3.0 * times(second, second)
            + 12.0 * times(square, second)
            - 6.0 * times(square, square),
        ]
    )
    cumulants[0, 0] += at_means
    return cumulants


def _mean_moments(moments: Array, order: int) -> Array:
    """Return E[xi^alpha] of the deviations of the means, as coefficients of (1/n)^k, shape (order + 1, ...)."""
    table = monomials(2 * order)
    generating = moments / table.factorials[:, None]
    generating[0] = 0.0
    logarithm = table.log1p(generating, order + 1)
    parts = [np.where((table.degrees == k + 1)[:, None], logarithm, 0.0) for k in range(order + 1)]
    result = np.zeros((order + 1, *moments.shape))
    result[0, 0] = 1.0
    # The exponential of a series in 1/n by its derivative.
    for k in range(1, order + 1):
        for j in range(1, k + 1):
            result[k] += (j / k) * table.times(parts[j], result[k - j])
    return result * table.factorials[:, None]
