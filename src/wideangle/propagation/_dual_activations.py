r"""What a layer of smooth activations does to pairs of inputs: closed forms, and series for the others.

A pair of inputs is given by the variances :math:`q_1, q_2` of its pre-activations and by a *signed gap*:
:math:`1 - c` where the correlation c is at least 0, :math:`-(1 + c)` where it is negative (-0.0 for c = -1), so that
both ends keep their digits. A :class:`Layer` maps the gap of c to the gap of
:math:`\kappa = E[\phi\phi]/\sqrt{E[\phi^2]E[\phi^2]}` and gives the slope :math:`d\kappa/dc`, which is
:math:`\sqrt{q_1q_2}\,E[\phi'\phi']` in the same units (Price's theorem).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from wideangle import _core
from wideangle._cpu import active_cpu_path
from wideangle.propagation import _hermite

Array = NDArray[np.float64]

GROUP = 32  # columns that the series kernel takes at once


def acute_and_sign(gaps: Array) -> tuple[Array, Array]:
    """The gap of the smaller of the angles to the other input and to its opposite, and where it is the opposite."""
    return np.abs(gaps), np.signbit(gaps)


def correlation_gap(gaps: Array) -> Array:
    """1 - c from signed gaps."""
    return np.where(np.signbit(gaps), 2.0 + gaps, gaps)


def signed_gaps(gap: Array, opposite: Array) -> Array:
    """Signed gaps from 1 - c and 1 + c."""
    return np.where(gap <= 1.0, np.abs(gap), -np.abs(opposite))


def correlations(gaps: Array) -> Array:
    """c from signed gaps."""
    return np.where(np.signbit(gaps), -1.0 - gaps, 1.0 - gaps)


class Layer(ABC):
    """One layer for given variances of row inputs and column inputs.

    ``rows`` and ``columns`` are E[phi^2] of the inputs; ``slope_rows`` is dkappa/dc of an input with itself.
    """

    rows: Array
    columns: Array
    slope_rows: Array
    tail: float = 0.0
    slope_tail: float = 0.0
    curvature: float = 0.0

    @abstractmethod
    def advance(self, gaps: Array, rows: slice, columns: slice) -> tuple[Array, Array]:
        """Return signed gaps of kappa and slopes for a block of pairs."""


class ErfLayer(Layer):
    r"""erf, Williams 1997.

    :math:`E[\phi\phi] = \frac2\pi\arcsin s_{12}` with :math:`s_{12} = 2K_{12}/\sqrt{(1+2q_1)(1+2q_2)}`; with
    :math:`\alpha_{ij} = \arcsin s_{ij}` the gap is taken from :math:`\alpha_{ii} - \alpha_{12}`, of which the sine is
    a multiple of :math:`s_{ii} - s_{12}`.
    """

    def __init__(self, q_rows: Array, q_columns: Array) -> None:
        self._rows, self._columns = (self._own(q) for q in (q_rows, q_columns))
        self.rows, self.columns = (2.0 / math.pi * own[3] for own in (self._rows, self._columns))
        a, p, _, angle, _, _ = self._rows
        self.slope_rows = p / (np.sqrt(a * (1.0 + p)) * angle)

    @staticmethod
    def _own(q: Array) -> tuple[Array, ...]:
        a = 1.0 / (1.0 + 2.0 * q)
        p = 2.0 * q * a
        cosine = np.sqrt(a * (1.0 + p))
        return a, p, np.sqrt(p), np.arctan2(p, cosine), cosine, q

    def advance(self, gaps: Array, rows: slice, columns: slice) -> tuple[Array, Array]:
        a1, p1, r1, angle1, cosine1, q1 = (part[rows, None] for part in self._rows)
        a2, p2, r2, angle2, cosine2, q2 = (part[None, columns] for part in self._columns)
        gap, turned = acute_and_sign(gaps)
        sine = r1 * r2 * (1.0 - gap)
        cosine = np.sqrt(a1 * a2 + p1 * a2 + p2 * a1 + p1 * p2 * gap * (2.0 - gap))
        step = 2.0 * (q1 - q2) * a1 * a2 / (r1 + r2)  # r1 - r2

        def behind(own_sine: Array, own_cosine: Array, difference: Array) -> Array:
            """Difference of the angles whose sines differ by ``difference``."""
            along = difference * (cosine + sine * (own_sine + sine) / (own_cosine + cosine))
            return np.arctan2(along, own_cosine * cosine + own_sine * sine)

        first = behind(p1, cosine1, r1 * (step + r2 * gap))
        second = behind(p2, cosine2, r2 * (r1 * gap - step))
        norm = np.sqrt(angle1 * angle2)
        result = _gap_from_differences(first, second, np.sqrt(angle1), np.sqrt(angle2)) / norm
        return np.where(turned, -result, result), r1 * r2 / (cosine * norm)


class SinLayer(Layer):
    r"""sin: :math:`E[\phi\phi] = e^{-(q_1+q_2)/2}\sinh K_{12}`, by the product formula and the normal characteristic
    function."""

    def __init__(self, q_rows: Array, q_columns: Array) -> None:
        self._q_rows, self._q_columns = q_rows, q_columns
        self.rows, self.columns = (-0.5 * np.expm1(-2.0 * q) for q in (q_rows, q_columns))
        self.slope_rows = 0.5 * (1.0 + np.exp(-2.0 * q_rows)) * q_rows / self.rows

    def advance(self, gaps: Array, rows: slice, columns: slice) -> tuple[Array, Array]:
        q1, q2 = self._q_rows[rows, None], self._q_columns[None, columns]
        own1, own2 = self.rows[rows, None], self.columns[None, columns]
        gap, turned = acute_and_sign(gaps)
        root1, root2 = np.sqrt(q1), np.sqrt(q2)
        step = root1 - root2
        half = 0.5 * step**2 + root1 * root2 * gap  # (q1 + q2)/2 - K12
        sum_part = np.exp(-half - 2.0 * root1 * root2 * (1.0 - gap))
        one = -np.expm1(-half)

        def behind(q: Array, advance: Array) -> Array:
            """Own expectation less the one of the pair; ``advance`` is q - K12."""
            exponent = 2.0 * advance - half
            small = np.exp(-2.0 * q) * np.expm1(np.minimum(exponent, 1.0))
            return 0.5 * (one + np.where(exponent < 1.0, small, sum_part - np.exp(-2.0 * q)))

        first = behind(q1, root1 * (step + root2 * gap))
        second = behind(q2, root2 * (root1 * gap - step))
        norm = np.sqrt(own1 * own2)
        result = _gap_from_differences(first, second, np.sqrt(own1), np.sqrt(own2)) / norm
        slope = 0.5 * (np.exp(-half) + sum_part) * root1 * root2 / norm
        return np.where(turned, -result, result), slope


def _gap_from_differences(first: Array, second: Array, root1: Array, root2: Array) -> Array:
    """sqrt(e1 e2) - e12 from e1 - e12 and e2 - e12, with roots of e1 and e2."""
    return np.abs(0.5 * (first + second) - 0.5 * ((first - second) / (root1 + root2)) ** 2)


class GeluLayer(Layer):
    r"""x times the normal distribution function.

    With :math:`A_i = 1 + q_i`, :math:`\cos\psi = K_{12}/\sqrt{A_1A_2}`, :math:`\Delta = A_1A_2\sin^2\psi`,

    .. math:: 2\pi E[\phi\phi] = K_{12}(\pi - \psi)
        + \frac{q_1q_2 + K_{12}^2 (1 - q_1q_2)/(A_1A_2)}{\sqrt\Delta}, \qquad
        2\pi E[\phi'\phi'] = \pi - \psi + \cot\psi\Big(\frac1{A_1} + \frac1{A_2} + \frac1\Delta\Big)

    (the first as in Tsuchida, Pearce, van der Heide, Roosta and Gallagher, arXiv 2002.08517). Derived: of
    :math:`E[\Phi(u)\Phi(v)] = \frac14 + \frac{\arcsin}{2\pi}` take the second derivatives that integration by parts of
    :math:`E[uv\Phi\Phi]` asks for; the second line is the derivative of the first with respect to :math:`K_{12}`.
    """

    def __init__(self, q_rows: Array, q_columns: Array) -> None:
        self._rows, self._columns = (self._own(q) for q in (q_rows, q_columns))
        self._q_rows, self._q_columns = q_rows, q_columns
        self.rows, self.columns = (own[3] for own in (self._rows, self._columns))
        a, weight, _, square = self._rows
        sine2 = a * (2.0 - a)
        psi = np.arctan2(np.sqrt(sine2), weight)
        cotangent = weight / np.sqrt(sine2)
        self.slope_rows = (math.pi - psi + cotangent * (2.0 * a + a * a / sine2)) / (2.0 * math.pi) * q_rows / square

    @staticmethod
    def _own(q: Array) -> tuple[Array, ...]:
        a = 1.0 / (1.0 + q)
        weight = q * a
        sine = np.sqrt(a * (2.0 - a))
        psi = np.arctan2(sine, weight)
        square = q * (math.pi - psi + 2.0 * weight / np.sqrt(1.0 + 2.0 * q)) / (2.0 * math.pi)
        short = a - _excess(psi) / math.pi + ((a * (2.0 - a)) ** 2 - (weight * a) ** 2) / (math.pi * sine)
        return a, weight, short, square

    def advance(self, gaps: Array, rows: slice, columns: slice) -> tuple[Array, Array]:
        a1, weight1, short1, own1 = (part[rows, None] for part in self._rows)
        a2, weight2, short2, own2 = (part[None, columns] for part in self._columns)
        q1, q2 = self._q_rows[rows, None], self._q_columns[None, columns]
        gap, acute = correlation_gap(gaps), np.abs(gaps)
        sine2_theta = acute * (2.0 - acute)
        sum_a, product_a, weight = a1 + a2, a1 * a2, weight1 * weight2
        root = np.sqrt(weight)
        both = sum_a - product_a  # 1 - weight
        psi_gap = both / (1.0 + root) + root * gap  # 1 - cos(psi)
        sine2 = both + weight * sine2_theta
        sine = np.sqrt(sine2)
        psi = np.arctan2(sine, 1.0 - psi_gap)
        cosine = root * (1.0 - gap)
        norm = np.sqrt(own1) * np.sqrt(own2)
        scale = np.sqrt(q1) * np.sqrt(q2) / norm  # of the two norms below and above
        slope = scale * (math.pi - psi + cosine / sine * (sum_a + product_a / sine2)) / (2.0 * math.pi)
        mixed = weight * (sum_a - sine2_theta * (product_a - weight)) / (sine * root)
        direct = scale / (2.0 * math.pi) * ((1.0 - gap) * (math.pi - psi) + mixed)
        # Of wide Gaussians the activation is nearly ReLU: what is missing of it is small and does not cancel.
        short = psi_gap - _excess(psi) / math.pi
        short += (both**2 - weight * product_a + sine2_theta * weight * sum_a) / (math.pi * sine)
        ratio = np.log1p(-np.minimum(short, 0.5)) - 0.5 * (np.log1p(-short1) + np.log1p(-short2))
        wide = (short < 0.5) & (q1 > 1.0) & (q2 > 1.0)
        result = np.abs(np.where(wide, -np.expm1(ratio), 1.0 - direct))
        return signed_gaps(result, np.where(wide, 2.0 - result, 1.0 + direct)), slope


def _excess(angle: Array) -> Array:
    """sin(x) - x cos(x), by its series below 0.7."""
    square = np.minimum(angle, 0.7) ** 2
    series = np.zeros_like(angle)
    for n in range(9, 0, -1):
        series = series * -square + 2.0 * n / math.factorial(2 * n + 1)
    return np.where(angle < 0.7, angle**3 * series, np.sin(angle) - angle * np.cos(angle))


class SeriesLayer(Layer):
    """An activation without a closed form, by its Hermite coefficients."""

    def __init__(self, name: str, q_rows: Array, q_columns: Array) -> None:
        shared = q_columns is q_rows
        q = q_rows if shared else np.concatenate([q_rows, q_columns])
        found = _hermite.coefficients(_hermite.FUNCTIONS[name], q)
        count = q_rows.size
        self._odd = _hermite.FUNCTIONS[name].odd
        self._degrees = found.degrees
        self._row_values = np.ascontiguousarray(found.values[:count])
        of_columns = found.values if shared else found.values[count:]
        self._column_values = np.zeros((of_columns.shape[1], of_columns.shape[0] + GROUP))
        self._column_values[:, : of_columns.shape[0]] = of_columns.T
        of = found.moments
        self.rows = of.square[:count]
        self.columns = of.square if shared else of.square[count:]
        self.slope_rows = (of.slope_square / of.square)[:count]
        self.tail, self.slope_tail = found.tail, found.slope_tail
        self.curvature = float((of.curvature_square / of.square).max())

    def advance(self, gaps: Array, rows: slice, columns: slice) -> tuple[Array, Array]:
        result = np.array(gaps, order="C")
        slopes = np.empty_like(result)
        _core.hermite_product(
            result,
            slopes,
            rows=self._row_values[rows],
            columns=self._column_values,
            first_column=columns.start or 0,
            degree=self._degrees.degree.astype(np.float64),
            weight=self._degrees.weight,
            jump=self._degrees.jump,
            odd=self._odd,
            cpu_path=active_cpu_path(),
        )
        return result, slopes


CLOSED_FORMS: dict[str, type[ErfLayer] | type[SinLayer] | type[GeluLayer]] = {
    "erf": ErfLayer,
    "sin": SinLayer,
    "gelu": GeluLayer,
}


def make_layer(name: str, q_rows: Array, q_columns: Array) -> Layer:
    """The layer of an activation for pre-activations of positive variances."""
    if name in CLOSED_FORMS:
        return CLOSED_FORMS[name](q_rows, q_columns)
    return SeriesLayer(name, q_rows, q_columns)
