r"""Hermite coefficients of activations that have no closed-form kernel, for Gaussians of many variances at once.

With orthonormal Hermite polynomials :math:`h_k`, :math:`a_k(q) = E[\phi(\sqrt q U)\,h_k(U)]` and correlation c,

.. math:: E[\phi(\sqrt{q_1} U)\,\phi(\sqrt{q_2} V)] = \sum_k a_k(q_1)\,a_k(q_2)\,c^k

(Mehler). For k >= 2, :math:`a_k = q\,E[\phi''(\sqrt q U)\,h_{k-2}(U)]/\sqrt{k(k-1)}` by integration by parts, and
:math:`\phi''` is confined to a few units about 0, whatever q.

Hermite functions of degrees up to 256 come from their recurrence, those above from their differential equation, by
Taylor series from panel to panel, at a cost that does not depend on the degree. Above degree 256 neighbouring terms of
the same parity differ little: the sum is taken over a geometrically thinning choice of degrees, with the weights that
are exact where the terms between follow polynomials of degree 9.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from wideangle.activations import parse_activation

Array = NDArray[np.float64]

PLAIN_DEGREES = 256
DEGREES_PER_OCTAVE = 32  # of either parity
WINDOW = 10
REACH = 13.0  # standard deviations; exp(-REACH^2/4), of a Hermite function, is 4e-19
DEFICIT = 1e-14
HIGHEST = 2**52  # degrees are exact as floats up to here
PANEL_NODES = 12
PANEL_PHASE = 4.0  # radians by which the Hermite function of highest degree turns in a panel
TAYLOR_ORDER = 40


@dataclass(frozen=True)
class Degrees:
    """Degrees 1 <= k of the terms that are summed, with weights, and the code of the step to the next one."""

    degree: NDArray[np.int64]
    weight: Array
    jump: NDArray[np.int32]

    def first(self, count: int) -> Degrees:
        """The lowest ``count`` of them."""
        return Degrees(self.degree[:count], self.weight[:count], self.jump[:count])


@lru_cache(maxsize=64)
def choose_degrees(top: int, odd: bool) -> Degrees:
    """Every degree up to 256, then 32 of either parity for each factor of 2; ``top`` is a power of 2 from 256 on."""
    start = np.arange(1, PLAIN_DEGREES + 1)[:: 2 if odd else 1]
    pieces = [start]
    parities = (1,) if odd else (0, 1)
    octave = PLAIN_DEGREES
    while octave < top:
        spacing = octave // DEGREES_PER_OCTAVE
        base = np.arange(octave, 2 * octave, spacing)
        pieces.append((base[:, None] + np.array(parities)).ravel())
        octave *= 2
    degree = np.unique(np.concatenate(pieces))
    weight = np.ones(degree.size)
    for parity in parities:
        members = np.nonzero(degree % 2 == parity)[0]
        weight[members] = _interpolation_weights(degree[members])
    steps = np.diff(degree, append=degree[-1] + 1)
    whole = np.log2(steps)
    exact = whole == np.floor(whole)
    jump = np.where(exact, whole, -np.log2(steps + 1.0)).astype(np.int32)
    return Degrees(degree, weight, jump)


def _interpolation_weights(degree: NDArray[np.int64]) -> Array:
    """Weights of a sum over degrees of one parity, from the first to the last, known at the given ones only."""
    weight = np.ones(degree.size)
    for position in np.nonzero(np.diff(degree) > 2)[0]:
        count = int(degree[position + 1] - degree[position]) // 2 - 1
        places, shares = _sum_rule(count)
        between = degree[position] + 2.0 + 2.0 * places
        first = min(max(position - WINDOW // 2 + 1, 0), degree.size - WINDOW)
        nodes = degree[first : first + WINDOW].astype(np.float64)
        for i, node in enumerate(nodes):
            others = np.delete(nodes, i)
            weight[first + i] += shares @ np.prod((between[:, None] - others) / (node - others), axis=1)
    return weight


@lru_cache(maxsize=64)
def _sum_rule(count: int) -> tuple[Array, Array]:
    """Nodes and weights with which a sum over 0, 1, ... count - 1 is exact for polynomials of degree 11.

    Golub and Welsch's method with the recurrence of the discrete Chebyshev polynomials.
    """
    if count <= 6:
        return np.arange(float(count)), np.ones(count)
    k = np.arange(1.0, 6.0)
    off_diagonal = np.sqrt(k**2 * (count**2 - k**2) / (4.0 * (4.0 * k**2 - 1.0)))
    places, vectors = np.linalg.eigh(np.diag(off_diagonal, 1) + np.diag(off_diagonal, -1))
    return places + 0.5 * (count - 1), count * vectors[0] ** 2


@dataclass(frozen=True)
class Function:
    """An activation with two derivatives; the second is below 1e-17 of its largest value beyond ``reach``."""

    reach: float
    odd: bool
    value: Callable[[Array], Array]
    first: Callable[[Array], Array]
    second: Callable[[Array], Array]
    pole: float  # distance of its nearest pole from the real axis; 0 for elu, whose second derivative jumps at 0

    def highest_degree(self, q: float) -> int:
        """A power of 2 beyond which the coefficients add nothing.

        They fall like exp(-pole sqrt(2k/q)); those of elu as k^(-7/4), so that the sum of k a_k^2 lacks
        0.03 q k^(-3/2) of E[phi^2].
        """
        degree = 1000.0 * q / self.pole**2 if self.pole else (3e11 * q) ** (2.0 / 3.0)
        return 1 << math.ceil(math.log2(min(max(degree, PLAIN_DEGREES), HIGHEST)))


@dataclass(frozen=True)
class Moments:
    """Of an activation at Gaussians of variances q: E[phi], E[phi'], E[phi^2], q E[phi'^2] and q^2 E[phi''^2]."""

    mean: Array
    slope: Array
    square: Array
    slope_square: Array
    curvature_square: Array


def moments(function: Function, q: Array) -> Moments:
    """Integrate with 32 Gauss-Legendre nodes on every factor of 2, from half a unit to 13 standard deviations."""
    octaves = max(4, math.ceil(math.log2(2.0 * REACH * math.sqrt(float(q.max())))))
    edges = np.concatenate([[0.0], REACH * 2.0 ** np.arange(-octaves, 1)])
    nodes, weights = np.polynomial.legendre.leggauss(32)
    half = 0.5 * np.diff(edges)[:, None]
    x = (edges[:-1, None] + half * (1.0 + nodes)).ravel()
    w = (half * weights).ravel() * np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)
    sums = np.zeros((5, q.size))
    for start in range(0, q.size, 256):
        part = slice(start, start + 256)
        scale = np.sqrt(q[part])[:, None]
        for side in (-1.0, 1.0):
            at = side * scale * x
            value, first, second = function.value(at), function.first(at) * scale, function.second(at) * scale**2
            for row, integrand in enumerate((value, first, value**2, first**2, second**2)):
                sums[row, part] += integrand @ w
    mean, slope, square, slope_square, curvature_square = sums
    return Moments(mean, slope, square, slope_square, curvature_square)


@dataclass(frozen=True)
class Coefficients:
    """Normalised coefficients a_k(q)/sqrt(E[phi^2]): that of degree 0, then one for each of ``degrees``.

    ``tail`` and ``slope_tail`` are what the sums of their squares, and of k times their squares, lack of E[phi^2] and
    q E[phi'^2], as fractions of E[phi^2], at the worst of the variances.
    """

    degrees: Degrees
    values: Array
    moments: Moments
    tail: float
    slope_tail: float


def coefficients(function: Function, q: Array) -> Coefficients:
    """Coefficients at variances q > 0, up to the degree from which on they are negligible, or :data:`HIGHEST`."""
    of = moments(function, q)
    root = np.sqrt(of.square)
    groups = _groups_of_like(q)
    tops = [function.highest_degree(float(q[group].max())) for group in groups]
    degrees = choose_degrees(max(tops), function.odd)
    upper = degrees.degree[1:]
    values = np.zeros((q.size, degrees.degree.size + 1))
    values[:, 0] = 0.0 if function.odd else of.mean / root
    values[:, 1] = of.slope / root
    for group, top in zip(groups, tops, strict=True):
        count = int(np.count_nonzero(upper < top + 2))
        curvatures = _curvatures(function, q[group], upper[:count] - 2)
        factor = q[group, None] / root[group, None]
        values[group, 2 : 2 + count] = factor * curvatures / np.sqrt(upper[:count] * (upper[:count] - 1.0))
    squares = values[:, 1:] ** 2 * degrees.weight
    tails = np.abs(1.0 - values[:, 0] ** 2 - squares.sum(axis=1))
    slope_tails = np.abs(of.slope_square / of.square - squares @ degrees.degree)
    keep = _needed(squares.max(axis=0) * degrees.degree)
    return Coefficients(degrees.first(keep), values[:, : keep + 1], of, float(tails.max()), float(slope_tails.max()))


def _groups_of_like(q: Array) -> list[NDArray[np.int64]]:
    """Indices of variances within a factor of 4 of each other: they share the grid of an integration."""
    octave = np.floor(0.5 * np.log2(q))
    return [np.nonzero(octave == value)[0] for value in np.unique(octave)]


def _needed(contributions: Array) -> int:
    """How many terms are needed for the rest to add up to less than 1e-17."""
    rest = np.cumsum(contributions[::-1])[::-1]
    return max(1, int(np.count_nonzero(rest > 1e-17)))


def _curvatures(function: Function, q: Array, degree: NDArray[np.int64]) -> Array:
    """E[phi''(sqrt q U) h_k(U)] for ascending degrees."""
    if function.pole:
        return _projections(function, q, degree)
    near = int(np.count_nonzero(degree <= max(2 * PLAIN_DEGREES, 16.0 * float(q.max()))))
    return np.hstack([_projections(function, q, degree[:near]), _kink_expansion(q, degree[near:])])


def _projections(function: Function, q: Array, degree: NDArray[np.int64]) -> Array:
    """E[phi''(sqrt q U) h_k(U)] by Gauss-Legendre panels that resolve both factors."""
    high = 1.0 / math.sqrt(float(q.max()))
    panel = min(0.5, high, PANEL_PHASE / math.sqrt(degree[-1] + 1.0))
    count = math.ceil(min(REACH, function.reach / math.sqrt(float(q.min()))) / panel)
    nodes, weights = np.polynomial.legendre.leggauss(PANEL_NODES)
    places = 0.5 * (1.0 + nodes)
    x = (panel * (np.arange(count)[:, None] + places)).ravel()
    w = np.tile(0.5 * panel * weights, count)
    hermite = np.empty((x.size, degree.size))
    low = int(np.count_nonzero(degree <= PLAIN_DEGREES))
    hermite[:, :low] = _hermite_by_recurrence(x, degree[:low])
    hermite[:, low:] = _hermite_by_taylor(panel, count, places, degree[low:])
    hermite *= (w * _root_density(x))[:, None]
    # By parity, so that one side is enough.
    at = np.sqrt(q)[:, None] * x
    right, left = function.second(at), function.second(-at)
    even = degree % 2 == 0
    result = np.empty((q.size, degree.size))
    result[:, even] = (right + left) @ hermite[:, even]
    result[:, ~even] = (right - left) @ hermite[:, ~even]
    return result


def _root_density(x: Array) -> Array:
    return np.asarray(np.exp(-0.25 * x * x) / (2.0 * math.pi) ** 0.25)


def _hermite_by_recurrence(x: Array, degree: NDArray[np.int64]) -> Array:
    """h_k(x) times the square root of the normal density, a column for each of the ascending degrees."""
    result = np.empty((x.size, degree.size))
    before, current = np.zeros_like(x), _root_density(x)
    column = 0
    for k in range(int(degree[-1]) + 1):
        if degree[column] == k:
            result[:, column] = current
            column += 1
        before, current = current, (x * current - math.sqrt(k) * before) / math.sqrt(k + 1.0)
    return result


def _hermite_by_taylor(panel: float, count: int, places: Array, degree: NDArray[np.int64]) -> Array:
    """The same at ``places`` of each panel, from y'' = (x^2/4 - k - 1/2) y and the values of y and y' at 0.

    For degrees so high that no panel lies beyond the turning points 2 sqrt(k), where the other solution would grow.
    """
    result = np.empty((count * places.size, degree.size))
    if degree.size == 0:
        return result
    at_zero = (2.0 * math.pi) ** -0.25
    value = at_zero * _hermite_at_zero(degree)
    slope = at_zero * np.sqrt(degree) * _hermite_at_zero(degree - 1) * panel
    powers = places[:, None] ** np.arange(TAYLOR_ORDER)
    order = np.arange(TAYLOR_ORDER)
    terms = np.empty((TAYLOR_ORDER, degree.size))
    for i in range(count):
        start = i * panel
        terms[0], terms[1] = value, slope
        for n in range(TAYLOR_ORDER - 2):
            total = (0.25 * start**2 - 0.5 - degree) * terms[n]
            if n >= 1:
                total += 0.5 * start * panel * terms[n - 1]
            if n >= 2:
                total += 0.25 * panel**2 * terms[n - 2]
            terms[n + 2] = total * (panel**2 / ((n + 1) * (n + 2)))
        result[i * places.size : (i + 1) * places.size] = powers @ terms
        value, slope = terms.sum(axis=0), order @ terms
    return result


def _kink_expansion(q: Array, degree: NDArray[np.int64]) -> Array:
    r"""E[exp(sqrt q U) h_k(U); U < 0] for k well above q.

    Integrating by parts, :math:`\sqrt k B_k = \sqrt q B_{k-1} - h_{k-1}(0)/\sqrt{2\pi}`; expanded downward,
    :math:`B_k = -\sum_i q^{i/2} h_{k-1-i}(0) / \sqrt{2\pi\,k(k-1)\cdots(k-i)}`.
    """
    factor = np.ones((1, degree.size))
    total = np.zeros((q.size, degree.size))
    for i in range(32):
        factor = factor / np.sqrt(degree - float(i))
        total -= factor * _hermite_at_zero(degree - 1 - i)
        factor = factor * np.sqrt(q)[:, None]
    return total / math.sqrt(2.0 * math.pi)


def _hermite_at_zero(degree: NDArray[np.int64]) -> Array:
    """h_k(0) = (-1)^(k/2) sqrt(C(k, k/2)/2^k) for even k, 0 for odd k."""
    table = _central_binomials()
    n = degree // 2
    # Gamma(n + 1/2)/Gamma(n + 1), by its expansion in 1/n where the table ends.
    m = np.maximum(n, 1).astype(np.float64)
    series = 1.0 - 1.0 / (8.0 * m) + 1.0 / (128.0 * m**2) + 5.0 / (1024.0 * m**3) - 21.0 / (32768.0 * m**4)
    binomial = np.where(n < table.size, table[np.minimum(n, table.size - 1)], series / np.sqrt(math.pi * m))
    return np.where(degree % 2 == 0, (1.0 - 2.0 * (n % 2)) * np.sqrt(binomial), 0.0)


@lru_cache(maxsize=1)
def _central_binomials() -> Array:
    n = np.arange(1, 4096)
    return np.concatenate([[1.0], np.cumprod(1.0 - 0.5 / n)])


def _tanh_second(x: Array) -> Array:
    return np.asarray(-2.0 * np.tanh(x) / np.cosh(np.minimum(np.abs(x), 350.0)) ** 2)


def _silu_second(x: Array) -> Array:
    from scipy.special import expit

    gate = expit(x)
    return np.asarray(gate * expit(-x) * (2.0 + x * (1.0 - 2.0 * gate)))


def _sigmoid_second(x: Array) -> Array:
    from scipy.special import expit

    gate = expit(x)
    return np.asarray(gate * expit(-x) * (1.0 - 2.0 * gate))


def _elu_second(x: Array) -> Array:
    return np.where(x < 0.0, np.exp(np.minimum(x, 0.0)), 0.0)


def _function(name: str, *, reach: float, odd: bool, second: Callable[[Array], Array], pole: float) -> Function:
    phi = parse_activation(name)
    return Function(reach, odd, phi.value, phi.derivative, second, pole)


FUNCTIONS = {
    "tanh": _function("tanh", reach=22.0, odd=True, second=_tanh_second, pole=math.pi / 2.0),
    "silu": _function("silu", reach=45.0, odd=False, second=_silu_second, pole=math.pi),
    "sigmoid": _function("sigmoid", reach=42.0, odd=False, second=_sigmoid_second, pole=math.pi),
    "elu": _function("elu", reach=42.0, odd=False, second=_elu_second, pole=0.0),
}
