r"""What one neuron makes of two Gaussian pre-activations (u, v): means, their derivatives, covariances.

The pairs have variances a, b and correlation :math:`\rho = 1 - d`. Derivatives are with respect to
:math:`(\ln a, \ln b, \rho)`, in which they stay bounded and uncancelled however close the inputs are; d is carried
instead of :math:`\rho` for the same reason. With the Euler operator :math:`D\phi(u) = u\phi'(u)` (derived: scaling u,
and Price's theorem for :math:`\rho`),

.. math::
    \partial_{\ln a} E[\phi\phi] = \tfrac12 E[D\phi\,\phi], \qquad
    \partial_\rho E[\phi\phi] = \sqrt{ab}\,E[\phi'\phi'], \qquad
    \partial_{\ln a}\partial_\rho E[\phi\phi] = \tfrac12\sqrt{ab}\,E[(\phi' + D\phi')\phi'] .
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from wideangle.activations import Activation
from wideangle.propagation._homogeneous import slope_kurtosis, slope_moment
from wideangle.propagation.rules import Array

_SECTOR_NODES = 24
_TRIGONOMETRIC_NODES = 20
_RADIAL_STEP = 0.14
_BLOCK = 2**20


class SingleLaw(NamedTuple):
    r"""Mean of :math:`\phi(u)^2`, its two first derivatives in ln a, and its relative variance; shape (input,)."""

    mean: Array
    slope: Array
    curvature: Array
    relative_variance: Array


class PairLaw(NamedTuple):
    r"""Moments of :math:`\phi(u), \phi(v)`, pairs first.

    Attributes
    ----------
    distance
        :math:`d' = 1 - E[\phi(u)\phi(v)]/\sqrt{E[\phi(u)^2] E[\phi(v)^2]}`, shape (pair,).
    gradient, hessian
        Derivatives of :math:`E[\phi(u)\phi(v)]`, shapes (pair, 3) and (pair, 3, 3).
    noise
        Covariance of :math:`f^2 - 1`, :math:`g^2 - 1` and :math:`\frac12(f-g)^2 - d'(f^2+g^2)/2`, where f and g are
        :math:`\phi(u)` and :math:`\phi(v)` divided by their root mean squares: what one neuron adds to the relative
        errors of the norms and to the error of d'. Shape (pair, 3, 3).
    error
        Estimated error of the quadrature, relative to f and g of mean square 1; 0 for closed forms.
    """

    distance: Array
    gradient: Array
    hessian: Array
    noise: Array
    error: float


def single_law(phi: Activation, a: Array) -> SingleLaw:
    """Return the law of one pre-activation for variances a > 0."""
    if phi.homogeneous:
        mean = slope_moment(phi) * a
        return SingleLaw(mean, mean, mean, np.full_like(a, 3.0 * slope_kurtosis(phi) - 1.0))
    if phi.name == "sin":
        decay = np.exp(-2.0 * a)
        mean = -0.5 * np.expm1(-2.0 * a)
        return SingleLaw(mean, a * decay, a * (1.0 - 2.0 * a) * decay, _sine_fourth(a) - 1.0)
    x, weights = _normal_nodes()
    u = np.sqrt(a)[:, None] * x
    value, first, second = _JETS[phi.name](u)
    d1, d2 = u * first, u * first + u * u * second
    mean = value**2 @ weights
    return SingleLaw(
        mean,
        (value * d1) @ weights,
        0.5 * (d1**2 + value * d2) @ weights,
        ((value**2 / mean[:, None] - 1.0) ** 2) @ weights,
    )


def neuron_moments(phi: Activation, variance: float) -> tuple[float, float]:
    r"""Return :math:`E[\phi(u)^2]` and :math:`E[\phi'(u)^2]` of one pre-activation with that variance > 0."""
    if phi.homogeneous:
        return slope_moment(phi) * variance, slope_moment(phi)
    if phi.name == "sin":
        return -0.5 * math.expm1(-2.0 * variance), 0.5 * (1.0 + math.exp(-2.0 * variance))
    x, weights = _normal_nodes()
    u = math.sqrt(variance) * x
    return float(phi.value(u) ** 2 @ weights), float(phi.derivative(u) ** 2 @ weights)


def pair_law(phi: Activation, a: Array, b: Array, d: Array, norms: tuple[Array, Array]) -> PairLaw:
    """Return the law of pairs with variances a, b > 0 and correlations 1 - d; ``norms`` are E[phi^2] for a and b."""
    if phi.homogeneous:
        law, nodes = _homogeneous, _TRIGONOMETRIC_NODES
    elif phi.name == "sin":
        law, nodes = _sine, 1
    else:
        law, nodes = _quadrature, 8 * _SECTOR_NODES * _half_line(0.5 * _RADIAL_STEP)[0].size
    size = max(1, _BLOCK // nodes)
    # At least one block, so that a single input, which has no pairs, is no special case.
    blocks = [
        law(phi, *(values[start : start + size] for values in (a, b, d, *norms)))
        for start in range(0, max(a.size, 1), size)
    ]
    distance, gradient, hessian, noise = (
        np.concatenate(parts) for parts in zip(*(block[:4] for block in blocks), strict=True)
    )
    return PairLaw(distance, gradient, hessian, noise, max(block.error for block in blocks))


def _angle(d: Array) -> Array:
    theta: Array = 2.0 * np.arcsin(np.sqrt(np.clip(0.5 * d, 0.0, 1.0)))
    return theta


def _homogeneous(phi: Activation, a: Array, b: Array, d: Array, norm_a: Array, norm_b: Array) -> PairLaw:
    r"""Closed forms for slopes 1 and s: polar coordinates leave trigonometric polynomials on four sectors.

    :math:`\partial_\rho E[\phi\phi]/\sqrt{ab} = [(1+s^2)(\pi-\theta) + 2s\theta]/2\pi`, and its derivative
    :math:`(1-s)^2/(2\pi\sin\theta)` (Cho and Saul 2009 for ReLU). The latter diverges for parallel inputs, where the
    variance of :math:`\rho` that it multiplies vanishes faster, with the square of d: 0 is put in its place.
    """
    s, theta = phi.slope, _angle(d)
    moments = _sector_moments(s, theta)
    distance = moments.half_square
    scale = np.sqrt(a) * np.sqrt(b)
    product = slope_moment(phi) * scale * (1.0 - distance)
    first = scale * ((1.0 + s * s) * (math.pi - theta) + 2.0 * s * theta) / (2.0 * math.pi)
    sine = np.sin(theta)
    singular = sine < 1e-15
    second = np.where(singular, 0.0, scale * (1.0 - s) ** 2 / (2.0 * math.pi * np.where(singular, 1.0, sine)))
    gradient = np.stack([0.5 * product, 0.5 * product, first], axis=-1)
    half, quarter = 0.5 * first, 0.25 * product
    hessian = _symmetric(quarter, quarter, second, quarter, half, half)
    return PairLaw(distance, gradient, hessian, moments.noise(), 0.0)


class _FourthMoments(NamedTuple):
    """Moments of f, g (mean square 1) and h = (f - g)^2/2."""

    half_square: Array
    f4: Array
    g4: Array
    f2g2: Array
    hh: Array
    f2h: Array
    g2h: Array

    def noise(self) -> Array:
        d = self.half_square
        f2s, g2s = 0.5 * (self.f4 + self.f2g2), 0.5 * (self.g4 + self.f2g2)
        spread = self.hh - d * (self.f2h + self.g2h) + 0.5 * d * d * (f2s + g2s)
        return _symmetric(self.f4 - 1.0, self.g4 - 1.0, spread, self.f2g2 - 1.0, self.f2h - d * f2s, self.g2h - d * g2s)


def _sector_moments(s: float, theta: Array) -> _FourthMoments:
    """Return the moments of a piecewise linear activation, those of f - g without cancellation."""
    nodes, weights = _unit_legendre(_TRIGONOMETRIC_NODES)
    angle = theta[:, None]
    same, mixed = math.pi - angle, angle
    u, v = np.sin(same * (1.0 - nodes)), np.sin(same * nodes)
    x, y = np.sin(mixed * nodes), np.sin(mixed * (1.0 - nodes))
    sectors = [
        (u, v, same[:, 0]),
        (s * u, s * v, same[:, 0]),
        (x, -s * y, mixed[:, 0]),
        (-s * x, y, mixed[:, 0]),
    ]
    norm2 = 0.5 * (1.0 + s * s)
    total = [np.zeros_like(theta) for _ in range(7)]
    for f, g, width in sectors:
        f2, g2, h = f * f, g * g, 0.5 * (f - g) ** 2
        # E[R^2] = 2 and E[R^4] = 8 of the radius, over the 2 pi of the angle.
        second, fourth = width / (math.pi * norm2), 4.0 * width / (math.pi * norm2**2)
        for k, integrand in enumerate((h, f2 * f2, g2 * g2, f2 * g2, h * h, f2 * h, g2 * h)):
            total[k] += (fourth if k else second) * (integrand @ weights)
    return _FourthMoments(*total)


def _sine(phi: Activation, a: Array, b: Array, d: Array, norm_a: Array, norm_b: Array) -> PairLaw:
    r"""Closed forms for the sine, from :math:`E[\cos(pu - qv)] = e^{-(p^2 a - 2pqc + q^2 b)/2}`, c the covariance.

    With :math:`S_k = e^{-k(a+b)/2} \sinh kc` and C with the hyperbolic cosine for k = 1,
    :math:`E[\sin u \sin v] = S_1`, :math:`\partial_{\ln a} S_1 = (cC - aS_1)/2` and
    :math:`\partial_{\ln a} C = (cS_1 - aC)/2`. With :math:`x = e^{-2a} - 1` and y likewise,
    :math:`E[\sin^2 u \sin^2 v] = (xy + 2S_2^2)/4` and
    :math:`E[\sin^3 u \sin v] = \frac34(1 - e^{-4a}) S_1 - e^{b-3a} S_1^3`, without cancellation for small variances.
    """
    root = np.sqrt(a) * np.sqrt(b)
    c = root * (1.0 - d)
    # (a + b)/2 - |c|, without cancellation where c > 0.
    exponent = np.where(c >= 0.0, 0.5 * (np.sqrt(a) - np.sqrt(b)) ** 2 + root * d, 0.5 * (a + b) + c)

    def damped_sinh(k: float) -> Array:
        return np.copysign(-0.5 * np.exp(-k * exponent) * np.expm1(-2.0 * k * np.abs(c)), c)

    sine = damped_sinh(1.0)
    cos = 0.5 * np.exp(-exponent) * (1.0 + np.exp(-2.0 * np.abs(c)))
    sine_a, sine_b = 0.5 * (c * cos - a * sine), 0.5 * (c * cos - b * sine)
    cos_a, cos_b = 0.5 * (c * sine - a * cos), 0.5 * (c * sine - b * cos)
    gradient = np.stack([sine_a, sine_b, root * cos], axis=-1)
    hessian = _symmetric(
        0.5 * (0.5 * c * cos + c * cos_a - a * sine - a * sine_a),
        0.5 * (0.5 * c * cos + c * cos_b - b * sine - b * sine_b),
        root**2 * sine,
        0.5 * (0.5 * c * cos + c * cos_b - a * sine_b),
        root * (0.5 * cos + cos_a),
        root * (0.5 * cos + cos_b),
    )

    def cubic(own: Array, other: Array) -> Array:
        """E[sin^3 u sin v] with ``own`` the variance of u."""
        with np.errstate(divide="ignore"):
            cube = np.copysign(np.exp(3.0 * np.log(np.abs(sine)) + other - 3.0 * own), sine)
        return -0.75 * np.expm1(-4.0 * own) * sine - cube

    fg = np.sqrt(norm_a) * np.sqrt(norm_b)
    f4, g4 = _sine_fourth(a), _sine_fourth(b)
    f2g2 = 1.0 + 0.5 * (damped_sinh(2.0) / fg) ** 2
    f3g, fg3 = cubic(a, b) / (norm_a * fg), cubic(b, a) / (norm_b * fg)
    f2h, g2h = 0.5 * (f4 + f2g2) - f3g, 0.5 * (g4 + f2g2) - fg3
    hh = 0.25 * (f4 + g4) + 1.5 * f2g2 - f3g - fg3
    moments = _FourthMoments(1.0 - sine / fg, f4, g4, f2g2, hh, f2h, g2h)
    return PairLaw(moments.half_square, gradient, hessian, moments.noise(), 0.0)


def _sine_fourth(a: Array) -> Array:
    """E[sin^4 u]/E[sin^2 u]^2."""
    x = np.expm1(-2.0 * a)
    return 3.0 + 2.0 * x + 0.5 * x * x


def _quadrature(phi: Activation, a: Array, b: Array, d: Array, norm_a: Array, norm_b: Array) -> PairLaw:
    """Return the law by polar quadrature, with the change from half the nodes either way as its error."""
    theta = _angle(d)
    coarse = _polar(phi, a, b, theta, norm_a, norm_b, _SECTOR_NODES, _RADIAL_STEP)
    fine = _polar(phi, a, b, theta, norm_a, norm_b, 2 * _SECTOR_NODES, 0.5 * _RADIAL_STEP)
    changes = (np.abs(fine.distance - coarse.distance), np.abs(fine.noise - coarse.noise))
    return fine._replace(error=max(float(change.max(initial=0.0)) for change in changes))


def _polar(
    phi: Activation, a: Array, b: Array, theta: Array, norm_a: Array, norm_b: Array, n_nodes: int, step: float
) -> PairLaw:
    r"""Integrate over :math:`u = \sqrt a R\cos\psi, v = \sqrt b R\cos(\psi - \theta)`, split where u or v is 0.

    A kink of the activation or of a derivative at 0 then lies on the edges, and equal inputs are no special case. The
    radius takes the double exponential rule of the half line, which resolves saturation at whatever scale.
    """
    radius, radial = _half_line(step)
    radial = radial * radius * np.exp(-0.5 * radius**2) / (2.0 * math.pi)
    nodes, weights = _unit_legendre(n_nodes)
    same, mixed = (math.pi - theta)[:, None], theta[:, None]
    u = np.concatenate([np.sin(same * (1.0 - nodes)), np.sin(mixed * nodes)], axis=1)
    v = np.concatenate([np.sin(same * nodes), -np.sin(mixed * (1.0 - nodes))], axis=1)
    angular = np.concatenate([same * weights, mixed * weights], axis=1)
    u, v = np.concatenate([u, -u], axis=1), np.concatenate([v, -v], axis=1)
    angular = np.concatenate([angular, angular], axis=1)
    u = np.sqrt(a)[:, None, None] * u[:, :, None] * radius
    v = np.sqrt(b)[:, None, None] * v[:, :, None] * radius

    def mean(integrand: Array) -> Array:
        total: Array = ((integrand @ radial) * angular).sum(axis=1)
        return total

    jet = _JETS[phi.name]
    fu, fu1, fu2 = jet(u)
    fv, fv1, fv2 = jet(v)
    du, dv = u * fu1, v * fv1
    root = np.sqrt(a) * np.sqrt(b)
    slopes = mean(fu1 * fv1)
    gradient = np.stack([0.5 * mean(du * fv), 0.5 * mean(fu * dv), root * slopes], axis=-1)
    hessian = _symmetric(
        0.25 * mean((du + u * u * fu2) * fv),
        0.25 * mean(fu * (dv + v * v * fv2)),
        root**2 * mean(fu2 * fv2),
        0.25 * mean(du * dv),
        0.5 * root * (slopes + mean(u * fu2 * fv1)),
        0.5 * root * (slopes + mean(fu1 * v * fv2)),
    )
    f, g = fu / np.sqrt(norm_a)[:, None, None], fv / np.sqrt(norm_b)[:, None, None]
    f2, g2, h = f * f, g * g, 0.5 * (f - g) ** 2
    fourth = (f2 * f2, g2 * g2, f2 * g2, h * h, f2 * h, g2 * h)
    moments = _FourthMoments(mean(h), *(mean(integrand) for integrand in fourth))
    return PairLaw(moments.half_square, gradient, hessian, moments.noise(), 0.0)


def _symmetric(aa: Array, bb: Array, cc: Array, ab: Array, ac: Array, bc: Array) -> Array:
    return np.stack([aa, ab, ac, ab, bb, bc, ac, bc, cc], axis=-1).reshape(-1, 3, 3)


def _erf_jet(x: Array) -> tuple[Array, Array, Array]:
    from scipy.special import erf

    slope = np.exp(-x * x) * (2.0 / math.sqrt(math.pi))
    return erf(x), slope, -2.0 * x * slope


def _tanh_jet(x: Array) -> tuple[Array, Array, Array]:
    value = np.tanh(x)
    slope = (1.0 - value) * (1.0 + value)
    return value, slope, -2.0 * value * slope


def _gelu_jet(x: Array) -> tuple[Array, Array, Array]:
    from scipy.special import ndtr

    cdf, density = ndtr(x), np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)
    return x * cdf, cdf + x * density, (2.0 - x * x) * density


def _elu_jet(x: Array) -> tuple[Array, Array, Array]:
    left = x < 0.0
    slope = np.exp(np.minimum(x, 0.0))
    return np.where(left, np.expm1(np.minimum(x, 0.0)), x), slope, np.where(left, slope, 0.0)


def _silu_jet(x: Array) -> tuple[Array, Array, Array]:
    from scipy.special import expit

    gate = expit(x)
    gate_slope = gate * (1.0 - gate)
    return x * gate, gate + x * gate_slope, gate_slope * (2.0 + x * (1.0 - 2.0 * gate))


def _sigmoid_jet(x: Array) -> tuple[Array, Array, Array]:
    from scipy.special import expit

    gate = expit(x)
    slope = gate * expit(-x)
    return gate, slope, slope * (1.0 - 2.0 * gate)


_JETS: dict[str, Callable[[Array], tuple[Array, Array, Array]]] = {
    "erf": _erf_jet,
    "tanh": _tanh_jet,
    "gelu": _gelu_jet,
    "elu": _elu_jet,
    "silu": _silu_jet,
    "sigmoid": _sigmoid_jet,
}
"""Value and the first two derivatives, from one evaluation of whatever is expensive in them."""


@lru_cache(maxsize=8)
def _unit_legendre(n_nodes: int) -> tuple[Array, Array]:
    nodes, weights = np.polynomial.legendre.leggauss(n_nodes)
    return 0.5 * (1.0 + nodes), 0.5 * weights


@lru_cache(maxsize=8)
def _half_line(step: float) -> tuple[Array, Array]:
    """Return nodes and weights of the integral over (0, 13) by x = exp(t - exp(-t)), for integrands like a Gaussian."""
    t = np.arange(-3.5, 2.65, step)
    x = np.exp(t - np.exp(-t))
    return x, step * x * (1.0 + np.exp(-t))


def _normal_nodes() -> tuple[Array, Array]:
    """Return nodes and weights of the mean over a standard normal number, of functions with a kink at 0 at most."""
    x, weights = _half_line(0.25 * _RADIAL_STEP)
    weights = weights * np.exp(-0.5 * x**2) / math.sqrt(2.0 * math.pi)
    return np.concatenate([-x, x]), np.concatenate([weights, weights])
