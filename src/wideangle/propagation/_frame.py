r"""Functions of the next angle whose expectation over a random layer is a double integral in closed form.

With :math:`A = \sum\phi(G_i)^2`, :math:`B = \sum\phi(\hat G_i)^2`, :math:`C = \sum\phi(G_i)\phi(\hat G_i)` over the n
neurons of a layer, :math:`c = C/\sqrt{AB}` is the cosine of the next angle. For :math:`-1 < r < 1` and a power m

.. math::
    f_{m,r}(c) = \Gamma(m) \int \frac{c^m\,d\eta}{(2\cosh\eta + 2rc)^m}
    = \int d\eta \int_0^\infty d\rho^2\, \rho^{2(m-1)}\, C^m e^{-\rho^2(e^\eta A + e^{-\eta} B + 2rC)}

(derived: do the integral over :math:`\rho`, then shift :math:`\eta` by :math:`\frac12\ln(B/A)`). The sums over neurons
stand in an exponent, so the expectation of the right-hand side needs one neuron's Laplace transform only. This *frame*
is as good as any: with :math:`\varepsilon = 1 + r` spaced evenly in the logarithm, combinations of it approach
:math:`(\ln\sin^2\theta)^k g(\theta)` for smooth g to twelve digits with coefficients of moderate size. They depend on
neither the width nor the angle before the layer.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from wideangle.propagation.rules import Array, log_sin2_of_angle

# Functions of the next angle bend like theta^k ln theta at 0, most at small widths; in the cube root the polynomials
# converge at every width. The root also concentrates nodes where deep chains go.
_ROOT = 3
HALF_PI = 0.5 * math.pi

# Members for r > 0, and the steps of ln epsilon for the rest; the error of the frame falls like exp(-pi^2/step).
_POSITIVE_R = 10
_MODE_STEP = 0.45
_POWER_STEP = 0.4
_POINTS_PER_FACTOR_E = 10
_MOMENT_TERMS = 32
# The least squares must not resolve what floats do not: combinations below this, relative to the largest, are left out.
_RESOLUTION = 1e-13


class Frame(NamedTuple):
    """The members of the frame of one power, and the combinations that give the functions wanted."""

    power: int
    epsilon: Array
    """1 + r of each member."""
    weights: Array
    """Of each member in each function, shape (n_functions, n_members); the functions vanish at c = 0."""


def modes(theta: Array, n_modes: int) -> Array:
    """Return the first modes at angles in [0, pi/2], shape ``(*theta.shape, n_modes)``.

    The first is the constant 1, the others are theta times a polynomial in theta^(1/3), by degree.
    """
    from scipy.special import eval_jacobi

    z = np.cbrt(theta / HALF_PI)
    degrees = np.arange(n_modes - 1)
    polynomials = eval_jacobi(degrees, 0, _ROOT - 1, 2.0 * z[..., None] - 1.0)
    return np.concatenate([np.ones((*theta.shape, 1)), theta[..., None] * polynomials], axis=-1)


@lru_cache(maxsize=4)
def mode_nodes(n_modes: int) -> tuple[Array, Array]:
    r"""Return ``n_modes`` angles, the first of them 0, and the matrix from values of a function there to its modes.

    Apart from 0 the angles are Gauss-Radau nodes of the weight :math:`\theta^{-2}d\theta`, in which a layer is a
    contraction at small angles, where :math:`E[\sin\theta'] = \sin\theta`; so interpolation there does not let deep
    chains blow up. The last is pi/2, from where the chain goes on after an input angle near pi.
    """
    from scipy.special import roots_jacobi

    x = np.append(roots_jacobi(n_modes - 2, 1, _ROOT - 1)[0], 1.0)
    theta = HALF_PI * (0.5 * (1.0 + x)) ** _ROOT
    matrix = np.zeros((n_modes, n_modes))
    matrix[0, 0] = 1.0
    matrix[1:, 1:] = np.linalg.inv(modes(theta, n_modes)[:, 1:])
    matrix[1:, 0] = -matrix[1:, 1:].sum(axis=1)
    return np.concatenate([[0.0], theta]), matrix


@lru_cache(maxsize=4)
def mode_frame(n_modes: int, smallest: float) -> Frame:
    """Return the frame of :math:`L^k` times each mode, less its value at c = 0, for k = 0, 1, 2 in turn.

    ``smallest`` is the least epsilon. L is ln sin^2 theta.
    """
    epsilon, theta = _members(smallest, _MODE_STEP), _angles(smallest)
    log_sin2 = log_sin2_of_angle(theta)
    values = modes(theta, n_modes)
    targets = [
        values - modes(np.array([HALF_PI]), n_modes),
        log_sin2[:, None] * values,
        log_sin2[:, None] ** 2 * values,
    ]
    # A mode that vanishes with theta is seen relative to theta in a chain, so small angles deserve less weight there.
    emphasis = np.minimum(1.0, theta / 1e-3) ** 0.5
    weights = _combinations(1, epsilon, theta, np.concatenate(targets, axis=1), emphasis)
    constant = np.arange(3) * n_modes
    alone = np.stack([np.zeros_like(theta), log_sin2, log_sin2**2], axis=1)
    weights[constant] = _combinations(1, epsilon, theta, alone, np.ones_like(theta))
    return Frame(1, epsilon, weights)


@lru_cache(maxsize=8)
def power_frame(exponent: int, smallest: float) -> Frame:
    """Return the frame of L^exponent with members of the same order c^(2 exponent), so that small c keep their digits.

    Relative to c^(2 exponent) the fit is good to 1e-11.
    """
    epsilon, theta = _members(smallest, _POWER_STEP), _angles(smallest)
    cosine = np.cos(theta)
    log_sin2 = log_sin2_of_angle(theta)
    target = (log_sin2 / cosine**2) ** exponent
    weights = _combinations(2 * exponent, epsilon, theta, target[:, None], np.ones_like(theta), relative=True)
    return Frame(2 * exponent, epsilon, weights)


def _members(smallest: float, step: float) -> Array:
    """Return epsilon, Chebyshev points for r > 0 and evenly spaced logarithms for r <= 0."""
    chebyshev = 0.5 - 0.5 * np.cos(math.pi * (np.arange(_POSITIVE_R) + 0.5) / _POSITIVE_R)
    return np.concatenate([1.0 + chebyshev, np.exp(-np.arange(0.0, -math.log(smallest), step))])


def _angles(smallest: float) -> Array:
    """Return angles dense enough to fit on, down to where the members have become constant."""
    low = math.log(30.0 * math.sqrt(smallest))
    logarithmic = np.exp(np.linspace(low, 0.0, math.ceil(-low * _POINTS_PER_FACTOR_E), endpoint=False))
    return np.concatenate([logarithmic, np.linspace(1.0, HALF_PI, 2 * _POINTS_PER_FACTOR_E, endpoint=False)])


def _combinations(
    power: int, epsilon: Array, theta: Array, targets: Array, emphasis: Array, *, relative: bool = False
) -> Array:
    """Return the weights that fit the targets, relative to c^power if asked, by truncated least squares."""
    cosine = np.cos(theta)[:, None]
    # 1 + rc, without cancellation where r is near -1 and c near 1.
    gap = 2.0 * np.sin(0.5 * theta)[:, None] ** 2 + epsilon * cosine
    scales = np.minimum(epsilon, 1.0) ** (power - 0.5)
    members = _members_at(power, gap) * scales
    if not relative:
        members *= cosine**power
    left, singular, right = np.linalg.svd(members * emphasis[:, None], full_matrices=False)
    kept = singular > _RESOLUTION * singular[0]
    fitted = (left[:, kept].T @ (targets * emphasis[:, None])) / singular[kept, None]
    weights: Array = (right[kept].T @ fitted).T * scales
    return weights


def _members_at(power: int, gap: Array) -> Array:
    r"""Return f / c^m where 1 + rc is ``gap``.

    With :math:`\cos\alpha = rc` it is :math:`2^{2-m}\pi J_{m-1,m-1}(\pi-\alpha)/\sin^{2m-1}\alpha` (derived:
    :math:`\int d\eta/(\cosh\eta + \cos\alpha) = 2\alpha/\sin\alpha`, then :math:`-d/d\cos\alpha` for each power).
    """
    alpha = 2.0 * np.arctan2(np.sqrt(2.0 - gap), np.sqrt(gap))
    sine = np.sqrt(gap * (2.0 - gap))
    members: Array = 4.0 * math.pi * 0.5**power * diagonal_moment(power - 1, alpha) / sine ** (2 * power - 1)
    return members


def diagonal_moment(order: int, phi: Array) -> Array:
    """Return J_{order,order}(pi - phi): phi^(2 order + 1) times an even entire function, here a polynomial."""
    squared = phi * phi
    coefficients = _moment_polynomial(order)
    value = np.full_like(phi, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value *= squared
        value += coefficient
    return value * phi ** (2 * order + 1)


@lru_cache(maxsize=4)
def _moment_polynomial(order: int) -> Array:
    r"""Return the Taylor coefficients in phi^2 of :math:`\int_0^\varphi\sin^j s\sin^j(\varphi-s)\,ds`, normalised.

    The integral is a trigonometric polynomial, so the series converges everywhere; it is kept to rounding at pi.
    """
    # sin(x phi) sin((1-x) phi) / phi^2 as a polynomial in phi^2, at Gauss nodes x.
    nodes, weights = np.polynomial.legendre.leggauss(40)
    k = np.arange(_MOMENT_TERMS)
    sine = np.array([(-1.0) ** i / math.factorial(2 * i + 1) for i in range(_MOMENT_TERMS)])
    total = np.zeros(_MOMENT_TERMS)
    for node, weight in zip(0.5 * (1.0 + nodes), 0.5 * weights, strict=True):
        product = np.convolve(sine * node ** (2 * k + 1), sine * (1.0 - node) ** (2 * k + 1))[:_MOMENT_TERMS]
        term = np.ones(1)
        for _ in range(order):
            term = np.convolve(term, product)[:_MOMENT_TERMS]
        total[: term.size] += weight * term
    counted = np.abs(total) * math.pi ** (2 * k) > 1e-18 * total[0]
    total = total[: np.flatnonzero(counted)[-1] + 1]
    return total * 2.0**order * math.factorial(order) / (2.0 * math.pi)
