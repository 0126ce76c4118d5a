r"""How fast a mode grows under a given force, and the integrals that give its learning time.

Under gradient flow a mode moves by :math:`\dot m = g(m)\,h(m)`: a force g = -l' that the loss sets and a speed h that
the layers set, with time in units of 1/rate. A balanced chain of D factors has :math:`h = D m^{2-2/D}`; two factors
with imbalance C have :math:`h = \sqrt{C^2 + 4 m^2}`. All integrals are over lo <= m <= hi, arrays of one dimension.
None is taken as a difference of values at the two ends unless that loses no digits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]

_NODES = 64
_REACH = 45.0  # e^-45 = 3e-20: what lies further below the upper end does not count
_EXPONENTIAL_TERMS = 20  # 1/20! = 4e-19
_GEOMETRIC_TERMS = 56  # 2^-56 = 1e-17


@dataclass(frozen=True)
class Growth:
    """The speed of modes, and integrals of 1/speed times what the losses bring.

    Attributes
    ----------
    depth
        Number of factors D, 1 or more.
    imbalance
        C of each mode, not negative, in units of the margin; 0 unless D = 2.
    """

    depth: int
    imbalance: Array

    def __getitem__(self, chosen: Mask | Index) -> Growth:
        return Growth(self.depth, self.imbalance[chosen])

    @property
    def power(self) -> float:
        """Exponent 2 - 2/D of the margin in the speed."""
        return 1.0 - self.rest

    @property
    def rest(self) -> float:
        """Exponent 2/D - 1 of the free time; rounded once, since it multiplies logarithms of up to 700."""
        return 2.0 / self.depth - 1.0

    def speed(self, margin: Array) -> Array:
        """Return h, which is positive."""
        if self.depth == 2:
            return np.hypot(self.imbalance, 2.0 * margin)
        return np.asarray(self.depth * np.abs(margin) ** self.power)

    def span(self, margin: Array) -> Array:
        """Return |m|/h, the change of the free time with ln m."""
        if self.depth == 2:
            return np.abs(margin) / self.speed(margin)
        return np.asarray(np.abs(margin) ** self.rest / self.depth)

    def free_time(self, lo: Array, hi: Array) -> Array:
        """Return the integral of 1/h: the time from lo to hi under a force of 1."""
        if self.depth != 2:
            return power_integral(lo, hi, self.rest) / self.depth
        below, above = lo < 0.0, hi > 0.0
        result = np.zeros(lo.shape)
        for side, a, b in ((above, np.maximum(lo, 0.0), hi), (below, np.maximum(-hi, 0.0), -lo)):
            result[side] += _asinh_rise(a[side], b[side], self.imbalance[side])
        return result

    def advance(self, margin: Array, free_time: Array) -> Array:
        """Return where a mode is that started at ``margin`` and felt a force of 1 for ``free_time`` >= 0."""
        if self.depth == 1:
            return margin + free_time
        if self.depth > 2:
            with np.errstate(divide="ignore", over="ignore"):
                used = np.minimum((self.depth - 2.0) * free_time * margin**-self.rest, 1.0)
                return margin * np.exp(np.log1p(-used) / self.rest)
        return _hyperbolic_advance(margin, free_time, self.imbalance)

    def exponential_time(self, lo: Array, hi: Array, shift: Array) -> Array:
        """Return the integral of e^(m - shift)/h."""
        with np.errstate(over="ignore"):
            if self.depth == 1:
                return -np.exp(hi - shift) * np.expm1(lo - hi)
            result = np.zeros(lo.shape)
            top, bottom = hi > 1.0, lo < -1.0
            for side, a, b in ((top, np.maximum(lo, 1.0), hi), (bottom, lo, np.minimum(hi, -1.0))):
                result[side] += np.exp((b - shift)[side]) * self[side]._tail(a[side], b[side])
            for sign, a, b in ((1.0, lo, hi), (-1.0, -hi, -lo)):
                side = (a < 1.0) & (b > 0.0)
                a, b = np.maximum(a, 0.0)[side], np.minimum(b, 1.0)[side]
                part = self[side]
                result[side] += np.exp(-shift[side]) * (part.free_time(a, b) + part._exponential_rest(a, b, sign))
        return result

    def linear_time(self, lo: Array, hi: Array) -> Array:
        """Return the integral of 1/(|1 - m| h), with lo and hi on the same side of 1."""
        if self.depth == 1:
            return _log_approach(lo, hi)
        if self.depth == 2:
            return self._linear_time_of_two(lo, hi)
        return self._linear_time_of_many(lo, hi)

    def _tail(self, lo: Array, hi: Array) -> Array:
        """Return the integral of e^(m - hi)/h where |m| >= 1, so that h is smooth on the scale of 1."""
        # Counted down from hi, so that the exponent is not rounded to the last digit of a large margin.
        length = np.minimum(hi - lo, _REACH)
        zero = np.zeros(lo.shape)
        return _quadrature(lambda v, part: np.exp(-v) / self._at(part, hi[part, None] - v), zero, length)

    def _exponential_rest(self, lo: Array, hi: Array, sign: float) -> Array:
        """Return the integral of (e^(sign m) - 1)/h over 0 <= lo <= m <= hi <= 1."""
        result = np.zeros(lo.shape)
        balanced = self.imbalance == 0.0
        term = np.ones(np.count_nonzero(balanced))
        for k in range(1, _EXPONENTIAL_TERMS):
            term = term * sign / k
            result[balanced] += term * power_integral(lo[balanced], hi[balanced], k + self.rest) / self.depth
        part = ~balanced
        if np.any(part):
            result[part] = self[part]._imbalanced_rest(lo[part], hi[part], sign)
        return result

    def _imbalanced_rest(self, lo: Array, hi: Array, sign: float) -> Array:
        """Do the same for C > 0: in m where 1/h is smooth, else with m = (C/2) sinh s, dm/h = ds/2."""
        result = np.zeros(lo.shape)
        smooth = self.imbalance > 0.5
        c, a, b = self.imbalance[smooth], lo[smooth], hi[smooth]
        result[smooth] = _quadrature(lambda m, part: np.expm1(sign * m) / np.hypot(c[part, None], 2.0 * m), a, b)
        rough, top = self[~smooth], hi[~smooth]
        # The integrand falls like e^-y at y below the upper end.
        length = np.minimum(2.0 * rough.free_time(lo[~smooth], top), _REACH)
        large = top + 0.5 * rough.speed(top)
        small = 0.25 * rough.imbalance * (rough.imbalance / large)

        def integrand(y: Array, part: slice) -> Array:
            margin = 0.5 * (large[part, None] * np.exp(-y) - small[part, None] * np.exp(y))
            return 0.5 * np.expm1(sign * margin)

        result[~smooth] = _quadrature(integrand, np.zeros(top.shape), length)
        return result

    def _linear_time_of_two(self, lo: Array, hi: Array) -> Array:
        """Elementary: with R^2 = C^2 + 4 and P = C^2 + 4m, asinh(P/(2C|1-m|))/R is the integral."""
        c = self.imbalance
        root = np.hypot(c, 2.0)
        p_lo, p_hi = c**2 + 4.0 * lo, c**2 + 4.0 * hi
        s_lo, s_hi = self.speed(lo), self.speed(hi)
        w_lo, w_hi = np.abs(1.0 - lo), np.abs(1.0 - hi)
        # asinh a - asinh b = asinh[(a^2 - b^2)/(a cosh b + b cosh a)] for a, b of one sign; a - b has no cancellation
        # and C drops out. The larger P divides both parts, so that neither underflows.
        larger = np.where(np.abs(p_hi) >= np.abs(p_lo), p_hi, p_lo)
        same = p_lo * np.sign(p_hi) >= 0.0
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            q_lo, q_hi = p_lo / larger, p_hi / larger
            numerator = root * (hi - lo) * (q_hi / w_hi + q_lo / w_lo)
            denominator = q_hi * s_lo + q_lo * s_hi
            ratio = numerator / denominator
            result = np.where(ratio < 1e8, np.arcsinh(ratio), np.log(numerator) - np.log(denominator) + np.log(2.0))
            apart = _asinh_ratio(p_hi, 2.0 * c * w_hi, root * s_hi) + _asinh_ratio(-p_lo, 2.0 * c * w_lo, root * s_lo)
        return np.where(same, result, apart) / root

    def _linear_time_of_many(self, lo: Array, hi: Array) -> Array:
        """Series in m below 1/2 and in 1/m above 2; between them the pole at 1 taken out, the rest by quadrature."""
        result = np.zeros(lo.shape)
        low, high = np.minimum(hi, 0.5), np.maximum(lo, 2.0)
        below, above = lo < 0.5, hi > 2.0
        for k in range(_GEOMETRIC_TERMS):
            result[below] += power_integral(lo[below], low[below], k + self.rest)
            result[above] += power_integral(high[above], hi[above], self.rest - 1.0 - k)
        near = (hi > 0.5) & (lo < 2.0)
        a, b = np.maximum(lo, 0.5)[near], np.minimum(hi, 2.0)[near]

        def rest(m: Array, part: slice) -> Array:
            return np.expm1(-self.power * np.log(m)) / (1.0 - m)

        smooth = _quadrature(rest, a, b)
        result[near] += _log_approach(a, b) + np.where(b < 1.0, smooth, -smooth)
        return result / self.depth

    def _at(self, part: slice, margin: Array) -> Array:
        if self.depth == 2:
            return np.hypot(self.imbalance[part, None], 2.0 * margin)
        return self.depth * margin**self.power


def power_integral(lo: Array, hi: Array, exponent: float) -> Array:
    """Return the integral of m^(exponent - 1) over 0 <= lo <= m <= hi, and lo > 0 unless the exponent is positive."""
    if exponent == 1.0:
        return hi - lo
    with np.errstate(divide="ignore", over="ignore"):
        gap = (hi - lo) / lo
        log_ratio = np.where(gap < 1e300, np.log1p(gap), np.log(hi) - np.log(lo))
        if exponent == 0.0:
            return log_ratio
        end = hi if exponent > 0.0 else lo
        return -(end**exponent) * np.expm1(-abs(exponent) * log_ratio) / abs(exponent)


def _log_approach(lo: Array, hi: Array) -> Array:
    """Return the integral of 1/|1 - m|, with lo and hi on the same side of 1."""
    near, far = np.minimum(np.abs(1.0 - lo), np.abs(1.0 - hi)), np.maximum(np.abs(1.0 - lo), np.abs(1.0 - hi))
    with np.errstate(divide="ignore", over="ignore"):
        return np.where(hi - lo < near, np.log1p((hi - lo) / near), np.log(far / near))


def _asinh_rise(lo: Array, hi: Array, c: Array) -> Array:
    """Return [asinh(2 hi/c) - asinh(2 lo/c)]/2 for 0 <= lo <= hi; the logarithm of hi/lo for c = 0."""
    s_lo, s_hi = np.hypot(c, 2.0 * lo), np.hypot(c, 2.0 * hi)
    below, rise = 2.0 * lo + s_lo, 2.0 * (hi - lo)
    with np.errstate(over="ignore"):
        ratio = rise * (1.0 + 2.0 * (hi + lo) / (s_lo + s_hi)) / below
    return 0.5 * np.where(ratio < 1e300, np.log1p(ratio), np.log(2.0 * hi + s_hi) - np.log(below))


def _asinh_ratio(p: Array, w: Array, h: Array) -> Array:
    """Return asinh(p/w) for p >= 0, where h^2 = p^2 + w^2; w may be far below p."""
    return np.where(p < w, np.log1p((p + p * (p / (h + w))) / w), np.log(p + h) - np.log(w))


def _hyperbolic_advance(margin: Array, free_time: Array, c: Array) -> Array:
    """Return m cosh 2u + (1/2) sqrt(c^2 + 4 m^2) sinh 2u without loss of digits where its terms cancel."""
    root = 0.5 * np.hypot(c, 2.0 * margin)
    large, short = root + np.abs(margin), np.minimum(free_time, 0.5)
    near = margin * np.cosh(2.0 * short) + root * np.sinh(2.0 * short)
    growth = np.exp(np.minimum(free_time, 700.0))
    with np.errstate(over="ignore", divide="ignore", under="ignore", invalid="ignore"):
        # small = root - |m| is (c/2)^2/large, kept as a logarithm because the square can underflow.
        log_small = 2.0 * np.log(0.5 * c) - np.log(large)
        small_up = np.exp(2.0 * free_time + log_small)
        small_down = np.exp(log_small - 2.0 * free_time)
        up = 0.5 * (large * growth * growth - small_down)
        through = 0.5 * (small_up - large / growth / growth)
    return np.where(free_time < 0.5, near, np.where(margin < 0.0, through, up))


@lru_cache(maxsize=1)
def _nodes() -> tuple[Array, Array]:
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return 0.5 * (1.0 + nodes), 0.5 * weights


def _quadrature(integrand: Callable[[Array, slice], Array], lo: Array, hi: Array) -> Array:
    """Return Gauss-Legendre integrals over [lo, hi]; ``integrand`` gets nodes (mode, node) and which modes they are."""
    nodes, weights = _nodes()
    result = np.empty(lo.shape)
    block = 4096  # modes at a time, so that a block of nodes stays in the cache
    for start in range(0, lo.size, block):
        part = slice(start, start + block)
        length = (hi - lo)[part, None]
        # A sum by rows, not a product with the weights: BLAS rounds a row differently by how many there are.
        result[part] = (integrand(lo[part, None] + length * nodes, part) * length * weights).sum(axis=1)
    return result
