r"""Expectations of the frame over one random ReLU layer.

For one neuron with correlation :math:`\cos\theta`, :math:`a = \phi(G)`, :math:`b = \phi(\hat G)`, let
:math:`Z = E[e^{-p_1a^2 - p_2b^2 - 2qab}]` and :math:`z_j = E[(ab)^j e^{-\dots}]`. Each quadrant of :math:`(G, \hat G)`
is a Gaussian integral: with :math:`\Pi = (1 + 2p_1\sin^2\theta)(1 + 2p_2\sin^2\theta)`,

.. math::
    \Delta &= 1 + 2p_1 + 2p_2 + 4q\cos\theta + 4(p_1p_2 - q^2)\sin^2\theta, \qquad
    \tan\varphi = \frac{\sin\theta\sqrt\Delta}{2q\sin^2\theta - \cos\theta}, \\
    z_j &= \Delta^{-1/2}\,(\sqrt\Pi/\Delta)^j\, J_{j,j}(\pi - \varphi), \qquad
    Z = z_0 + \zeta(p_1) + \zeta(p_2) + \frac{\pi-\theta}{2\pi}, \qquad
    \zeta(p) = \frac{\arg(\cos\theta + i\sin\theta\sqrt{1+2p})}{2\pi\sqrt{1+2p}}

(derived: weighting a Gaussian by the exponential leaves a Gaussian, with that angle between the two half planes). Sums
over n independent neurons then have :math:`E[C e^{-\dots}] = n z_1 Z^{n-1}` and so on by the multinomial theorem.

Dead inputs have C = 0 and do not contribute. Collapsed pairs have one neuron active on both inputs and all others
silent; with :math:`q_0` the probability of silence, :math:`Z^{n-1} - q_0^{n-1}` in the place of :math:`Z^{n-1}` in the
terms of one neuron leaves them out exactly.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from wideangle.propagation._frame import HALF_PI, diagonal_moment
from wideangle.propagation.gaussian_moments import PI_REMAINDER
from wideangle.propagation.rules import Array

# Trapezoidal steps in both directions; the error falls like exp(-pi^2/step).
_ETA_STEP = 0.28
_RHO_STEP = 0.2
_RHO_LOW = -3.65
_STRETCH = 6.0
# The widest layer whose integrand has those tails above 1e-15 of the whole.
_HEAVY_TAILS = 100
# The widest layer in which all but a few neurons may be silent with a probability that counts.
_RARE_WIDTH = 50
_ETA_REACH = 40.0
# Intermediate arrays that stay in the cache make it three times faster.
_BLOCK = 2**14


def survival(theta: float, width: int) -> float:
    """Return the probability that a pair neither dies nor collapses in a layer."""
    both = _angle_left(theta) / (2.0 * math.pi)
    lost = 2.0 * 0.5**width + (width - 1.0) * both**width
    return 1.0 - lost


def expected_members(theta: float, width: int, power: int, epsilon: Array) -> Array:
    """Return the expectations of the members of a frame at the next angle, over the pairs that survive.

    Parameters
    ----------
    theta
        Angle before the layer, 0 < theta <= pi.
    width
        Neurons of the layer, at least 2.
    power
        Power of the frame: 1, 2 or 4.
    epsilon
        1 + r of the members.
    """
    point = _Point(theta, width)
    n_eta, n_rho = 40, point.rho2.size
    block = max(1, _BLOCK // (n_eta * n_rho))
    parts = [_expect(point, power, epsilon[start : start + block]) for start in range(0, epsilon.size, block)]
    return np.concatenate(parts)


class _Point:
    """What depends on the angle and the width alone."""

    def __init__(self, theta: float, width: int) -> None:
        self.width = width
        left = _angle_left(theta)
        self.acute = theta <= HALF_PI
        # Near pi the sine and cosine are those of what is left to pi.
        self.sine = math.sin(theta) if self.acute else math.sin(left)
        self.cosine = math.cos(theta) if self.acute else -math.cos(left)
        self.versine = 2.0 * math.sin(0.5 * theta) ** 2
        self.silent = left / (2.0 * math.pi)
        # Double exponential to the left, and to the right for the tails, powers of rho that narrow layers have.
        u = np.arange(_RHO_LOW, max(12.0 - 0.1 * width, 5.0), _RHO_STEP)
        stretch = np.exp(u / 3.0) if width <= _HEAVY_TAILS else np.zeros_like(u)
        self.rho2 = np.exp(u - np.exp(-u) + stretch) / width
        self.rho2_weights = _RHO_STEP * (1.0 + np.exp(-u) + stretch / 3.0)
        # Rare layers in which one input is all but dead have their integrand at exp(eta) = 1/sine.
        rare = -2.0 * math.log(self.sine) if width <= _RARE_WIDTH and not self.acute else 0.0
        self.reach, self.stretch = _ETA_REACH + rare, _STRETCH + rare


class _Neuron(NamedTuple):
    """Transforms of one neuron: log Z, log (Z / silent), and z_j by order."""

    log_z: Array
    log_ratio: Array
    moments: dict[int, Array]


def _expect(point: _Point, power: int, epsilon: Array) -> Array:
    base = np.minimum(point.versine + epsilon * point.cosine, 1.0) if point.acute else np.ones_like(epsilon)
    eta, eta_weights = _eta_nodes(np.sqrt(base * (2.0 - base)), point.reach, point.stretch)
    eta, eta_weights = eta[:, :, None], eta_weights[:, :, None]
    near = 2.0 * np.sinh(0.5 * eta) ** 2
    # With this scale of rho^2 the transform falls off at the same place for every eta and epsilon.
    scale = near + base[:, None, None]
    neuron = _transform(point, power, epsilon[:, None, None], eta, near, point.rho2 / scale)
    integrand = _sum_over_neurons(point.width, power, neuron)
    weights = eta_weights * point.rho2_weights * (point.rho2 / scale) ** power
    result: Array = (integrand * weights).sum(axis=(1, 2))
    return result


def _eta_nodes(scale: Array, reach: float, stretch: float) -> tuple[Array, Array]:
    r"""Return nodes and weights of the integral over :math:`\eta` from minus to plus infinity of an even function.

    :math:`\eta = \mathrm{arsinh}(\beta\sinh t)` with :math:`\beta` = ``scale``, the width of the narrowest feature,
    and :math:`t = k\sinh(\tau/k)` with k = ``stretch``; the trapezoidal rule in :math:`\tau` ends beyond ``reach``.
    """
    end = reach - math.log(0.5 * scale.min())
    tau = np.arange(0.0, stretch * math.asinh(end / stretch) + _ETA_STEP, _ETA_STEP)
    t = stretch * np.sinh(tau / stretch)
    # sinh t may be beyond floats, but not times the scale.
    grown = scale[..., None] * np.sinh(np.minimum(t, 350.0))
    slope = scale[..., None] * np.cosh(np.minimum(t, 350.0)) / np.hypot(1.0, grown)
    weights = 2.0 * _ETA_STEP * np.cosh(tau / stretch) * slope
    weights[..., 0] *= 0.5
    return np.arcsinh(grown), weights


def _transform(point: _Point, power: int, epsilon: Array, eta: Array, near: Array, rho2: Array) -> _Neuron:
    s, c = point.sine, point.cosine
    grow = np.exp(eta)
    p1, p2, q = rho2 * grow, rho2 / grow, (epsilon - 1.0) * rho2
    # p1 + p2 + 2 q cos(theta), from terms without cancellation.
    linear = 2.0 * rho2 * (near + (point.versine + epsilon * c if point.acute else 1.0 + (epsilon - 1.0) * c))
    determinant = 1.0 + 2.0 * linear + 4.0 * (rho2 * s) ** 2 * epsilon * (2.0 - epsilon)
    root = np.sqrt(determinant)
    phi = np.arctan2(s * root, 2.0 * q * s**2 - c)
    alone = [np.arctan2(s * one, c) / one for one in (np.sqrt(1.0 + 2.0 * p1), np.sqrt(1.0 + 2.0 * p2))]
    active = (phi / root + alone[0] + alone[1]) / (2.0 * math.pi)
    if power == 1 and point.acute:
        # The moment in closed form, which cancels near pi only.
        moments = {1: (s + (c - 2.0 * q * s**2) * phi / root) / (2.0 * math.pi * determinant)}
    else:
        factor = np.sqrt((1.0 + 2.0 * p1 * s**2) * (1.0 + 2.0 * p2 * s**2)) / determinant
        moments = {order: diagonal_moment(order, phi) * factor**order / root for order in range(1, power + 1)}
    return _Neuron(np.log(active + point.silent), np.log1p(active / point.silent), moments)


def _sum_over_neurons(n: int, power: int, neuron: _Neuron) -> Array:
    """Return E[C^power e^-...] over surviving pairs: by set partitions of the factors over distinct neurons."""

    def others(count: int) -> Array:
        return np.exp((n - count) * neuron.log_z)

    z = neuron.moments
    # All factors from one neuron; without the collapsed pairs.
    total: Array = n * z[power] * others(1) * -np.expm1(-(n - 1.0) * neuron.log_ratio)
    if power == 2:
        total += n * (n - 1.0) * z[1] ** 2 * others(2)
    if power == 4:
        total += n * (n - 1.0) * (4.0 * z[3] * z[1] + 3.0 * z[2] ** 2) * others(2)
        if n > 2:
            total += 6.0 * n * (n - 1.0) * (n - 2.0) * z[2] * z[1] ** 2 * others(3)
        if n > 3:
            total += n * (n - 1.0) * (n - 2.0) * (n - 3.0) * z[1] ** 4 * others(4)
    return total


def _angle_left(theta: float) -> float:
    return (math.pi - theta) + PI_REMAINDER
