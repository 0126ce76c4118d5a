r"""Mean and variance of ln sin^2 theta through many layers, from what one layer does to functions of the angle.

Let D be the change of X in a layer and g a function of the angle. A layer is the three operators
:math:`(K_m g)(\theta) = E[D^m g(\theta');\ \text{survival} \mid \theta]`, m = 0, 1, 2, here matrices in the basis of
:func:`wideangle.propagation._frame.modes`. With the vectors :math:`\mu_l(g) = E[g(\theta_l)]`,
:math:`\nu_l(g) = E[(X_l - m)g(\theta_l)]` and :math:`\tau_l(g) = E[(X_l - m)^2 g(\theta_l)]` over the survivors of l
layers, the binomial theorem gives the next ones,

.. math:: \mu_{l+1} = \mu_l K_0, \quad \nu_{l+1} = \nu_l K_0 + \mu_l K_1, \quad
    \tau_{l+1} = \tau_l K_0 + 2\nu_l K_1 + \mu_l K_2,

and their values at g = 1 the probability to survive, the mean and the variance (derived: the Markov property). X
itself, which is unbounded, never meets a function basis; functions of the angle are smooth. Nothing is assumed on the
shape of the distribution, and the part of it at an angle of pi/2 exactly, where no neuron is active on both inputs, is
one more value of g.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np

from wideangle.propagation._expansion import expand_cumulants
from wideangle.propagation._frame import mode_nodes, modes
from wideangle.propagation.rules import Array, angle_of_log_sin2, log_sin2_of_angle

_GAUSS_NODES = 24
# Enough for rounding to be all that is left, since very wide layers have hardly a variance.
_N_MODES = 33
_MOST_SKEWED, _MOST_CORRECTED = 4.0, 1.0


class Layer(Protocol):
    """A random layer seen through the angle."""

    def rows(self, theta: float) -> Array:
        """Return E[D^m mode; survival | theta], shape (3, n_modes), for theta in (0, pi].

        Beyond pi/2, D counts from 0 rather than from ln sin^2 theta.
        """

    def operators(self) -> Array:
        """Return the three operators in the first modes, as many as the layer is known in: shape (3, n, n)."""

    def moments(self, theta: float) -> tuple[float, float]:
        """Return mean and variance of D given survival."""


def propagate(layers: Iterable[Layer], theta0: float) -> list[tuple[float, float]]:
    """Return the change of the mean of X in each layer, and its variance after it, over the survivors so far."""
    result: list[tuple[float, float]] = []
    mu = nu = tau = np.empty(0)
    for layer in layers:
        if not result:
            change, variance = layer.moments(theta0)
            mu, nu, tau = layer.rows(theta0)
        else:
            operators = layer.operators()
            known = min(mu.size, operators.shape[1])
            k0, k1, k2 = operators[:, :known]
            mu, nu, tau = mu[:known], nu[:known], tau[:known]
            mu, nu, tau = mu @ k0, nu @ k0 + mu @ k1, tau @ k0 + 2.0 * nu @ k1 + mu @ k2
            change = float(nu[0] / mu[0])
            variance = float(tau[0] / mu[0]) - change**2
        tau = tau - 2.0 * change * nu + change**2 * mu
        nu = nu - change * mu
        mu, nu, tau = mu / mu[0], nu / mu[0], tau / mu[0]
        result.append((change, variance))
    return result


@lru_cache(maxsize=64)
def expanded_layer(width: int, order: int) -> ExpandedLayer:
    """Return the law of a layer of ``width`` >= 2 neurons, expanded in 1/n; equal layers share their operators."""
    return ExpandedLayer(width, order)


class ExpandedLayer:
    r"""A layer whose cumulants of X are expanded in 1/n.

    Functions of the next angle are averaged over a Pearson type III law (a shifted and scaled gamma variable, whose
    third cumulant may have either sign) with the first three cumulants, corrected in its fourth by a multiple of its
    fourth orthogonal polynomial. Cumulants of order k + 1 appear with :math:`n^{-k}`, so to first order the law is a
    Gaussian. Values of X above 0 count as 0 where the angle is needed. Survival is certain to every order in 1/n.

    The coefficients of the mean are negative and those of the variance positive at every angle, so both have the right
    sign at every width.
    """

    def __init__(self, width: int, order: int) -> None:
        self.width = width
        self.order = order

    def cumulants(self, theta: Array) -> Array:
        """Return the first four cumulants of D, shape (4, len(theta))."""
        powers = float(self.width) ** -np.arange(self.order + 1.0)
        nodes, _ = mode_nodes(_N_MODES)
        coefficients = _node_cumulants(self.order) if theta is nodes else expand_cumulants(theta, self.order)
        cumulants: Array = np.einsum("ckt,k->ct", coefficients, powers)
        return cumulants

    def moments(self, theta: float) -> tuple[float, float]:
        mean, variance = self.cumulants(np.array([theta]))[:2, 0]
        return float(mean), float(variance)

    def rows(self, theta: float) -> Array:
        return self._rows(np.array([theta]))[:, 0]

    def operators(self) -> Array:
        return self._operators

    @cached_property
    def _operators(self) -> Array:
        nodes, matrix = mode_nodes(_N_MODES)
        operators: Array = matrix @ self._rows(nodes)
        return operators

    def _rows(self, theta: Array) -> Array:
        cumulants = self.cumulants(theta)
        with np.errstate(divide="ignore"):
            origin = np.where(theta > 0.0, log_sin2_of_angle(np.maximum(theta, np.finfo(float).tiny)), -np.inf)
        origin = np.where(theta <= 0.5 * math.pi, origin, 0.0)
        rows = np.empty((3, theta.size, _N_MODES))
        for index, (mean, variance, third, fourth) in enumerate(cumulants.T):
            # One factor at a time: near pi the squared variance is below the smallest float.
            z, weights = _four_cumulant_rule(third / variance / math.sqrt(variance), fourth / variance / variance)
            change = mean + math.sqrt(variance) * z
            values = modes(angle_of_log_sin2(np.minimum(origin[index] + change, 0.0)), _N_MODES)
            for power in range(3):
                rows[power, index] = (weights * change**power) @ values
        return rows


@lru_cache(maxsize=8)
def _node_cumulants(order: int) -> Array:
    return expand_cumulants(mode_nodes(_N_MODES)[0], order)


def _four_cumulant_rule(skewness: float, excess: float) -> tuple[Array, Array]:
    r"""Return nodes and weights with mean 0, variance 1 and the given third and fourth cumulants.

    The orthogonal polynomials of the standardised Pearson type III law have the recurrence
    :math:`b_{j+1}p_{j+1} = (z - j\gamma)p_j - b_jp_{j-1}`, :math:`b_j^2 = j(1 + (j-1)\gamma^2/4)`
    (Laguerre's, scaled), which goes over into Hermite's as the skewness :math:`\gamma` vanishes. Its excess is
    :math:`\frac32\gamma^2`. A factor :math:`1 + ap_4` on the weights leaves the moments below the fourth alone and adds
    :math:`ab_1b_2b_3b_4` to that. Near pi the expansion may ask for more than weights of moderate size can give; there
    the skewness and a are limited, and the angle is close to pi/2 with any.
    """
    skewness = min(max(skewness, -_MOST_SKEWED), _MOST_SKEWED)
    j = np.arange(1.0, _GAUSS_NODES)
    b = np.sqrt(j * (1.0 + (j - 1.0) * skewness**2 / 4.0))
    jacobi = np.diag(skewness * np.arange(float(_GAUSS_NODES))) + np.diag(b, -1)
    z, vectors = np.linalg.eigh(jacobi)
    before, now = np.zeros_like(z), np.ones_like(z)
    for k in range(4):
        before, now = now, ((z - k * skewness) * now - (b[k - 1] if k else 0.0) * before) / b[k]
    correction = min(max((excess - 1.5 * skewness**2) / float(np.prod(b[:4])), -_MOST_CORRECTED), _MOST_CORRECTED)
    weights: Array = vectors[0] ** 2 * (1.0 + correction * now)
    return z, weights
