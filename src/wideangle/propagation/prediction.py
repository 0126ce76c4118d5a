"""Predicted mean and variance of ln sin^2 of the angle between two inputs, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from wideangle._checks import check_choice, check_theta0
from wideangle._provenance import provenance
from wideangle.network import MLP
from wideangle.propagation import rules
from wideangle.propagation._network import check_angle_network
from wideangle.propagation.rules import Array

if TYPE_CHECKING:
    import xarray as xr

METHODS = ("infinite-width", "finite-width", "finite-width-linear", "small-angle")
"""The laws that predict angles, in the order of :func:`predict_angles`."""

SOURCES = {
    "infinite-width": "Cho and Saul 2009, arc-cosine kernel of order 1",
    "finite-width": "Jakub and Nica, arXiv 2302.09712, Theorem 1",
    "finite-width-linear": "Jakub and Nica, arXiv 2302.09712, Approximations 1 and 2",
    "small-angle": "wideangle: exact law of ln(chi2_{K-1} / chi2_K), K ~ Binomial(n, 1/2), as theta -> 0",
}

_CLOSURE_NODES = 128
_CLOSURE_REACH = 12.0


def predict_angles(net: MLP, theta0: float, *, method: str = "finite-width") -> xr.Dataset:
    r"""Predict mean and variance of :math:`X_l = \ln\sin^2\theta_l` for the angle between two inputs.

    Parameters
    ----------
    net
        A bias-free ReLU network. Its weight variance does not matter: angles are free of scale.
    theta0
        Angle between the inputs in radians, 0 < theta0 <= pi.
    method
        The law of a layer of width n:

        ``"infinite-width"``
            :math:`\cos\theta_l = 2 J_{1,1}(\theta_{l-1})`, without fluctuations (Cho and Saul 2009).
        ``"finite-width"`` (default)
            Theorem 1 of Jakub and Nica, arXiv 2302.09712: mean :math:`\mu(\theta, n)` and variance
            :math:`\sigma^2(\theta, n)` up to :math:`O(n^{-2})`. The first layer is the theorem itself. Through depth it
            is closed by a Gaussian: with :math:`X_{l-1} \sim N(m, v)`, values above 0 set to 0,
            :math:`m' = E[\mu]` and :math:`v' = E[\sigma^2] + \mathrm{Var}[\mu]` (derived: the laws of total mean and
            variance).
        ``"finite-width-linear"``
            Their Approximation 1, :math:`X_l = X_{l-1} - \frac{2}{3\pi}\theta_{l-1} - \rho(n_l)`, for the mean, and the
            variance of their Approximation 2 about it,
            :math:`v' = \mathrm{Var}[X - \frac{2}{3\pi}\theta(X)] + 8n/(n+5)^2` with :math:`X \sim N(m, v)` as above.
            Meant for acute angles; applied as published to obtuse ones too.
        ``"small-angle"``
            The exact law as :math:`\theta \to 0`, new here: the next :math:`\sin^2` is this one times
            :math:`\chi^2_{K-1}/\chi^2_K`, with independent chi-squares and K ~ Binomial(n, 1/2) given K >= 2 (the pair
            survives), so that means add up
            :math:`E[\psi(\tfrac{K-1}{2}) - \psi(\tfrac K2)]` with the digamma function (see
            :func:`wideangle.propagation.rules.small_angle_rule`). Holds for every n >= 2, small angles only.

    Returns
    -------
    xarray.Dataset
        ``log_sin2(layer)``, the mean of :math:`X_l`; ``variance(layer)``; and ``theta(layer)`` in radians, the acute
        angle with that ``log_sin2``. Layers run 0…L; layer 0 is the input, with ``theta`` equal to ``theta0``. The laws
        of finite width are conditional on survival: a pair can also collapse to angle 0 or die.

    Raises
    ------
    TypeError, ValueError
        If ``net`` has biases, ``theta0`` lies outside (0, pi], the method is unknown, or a layer has width 1 under a
        finite-width method: such a layer leaves no angle between the inputs.

    Examples
    --------
    >>> import wideangle as wa
    >>> angles = wa.propagation.predict_angles(wa.MLP(widths=(256,) * 32), 0.1)
    >>> angles.log_sin2.sel(layer=[0, 1, 32]).round(3).values
    array([-4.609, -4.639, -5.486])
    """
    import xarray as xr

    check_angle_network(net)
    theta0 = check_theta0(theta0)
    method = check_choice("method", method, METHODS)
    if method != "infinite-width":
        check_finite_widths(net, method)
    step = _STEPS[method]
    log_sin2, variances = [float(rules.log_sin2_of_angle(np.float64(theta0)))], [0.0]
    theta, mean, variance = theta0, start_of_chain(theta0, method), 0.0
    for width in net.widths:
        mean, variance = step(theta, mean, variance, width)
        theta = float(rules.angle_of_log_sin2(np.float64(mean)))
        log_sin2.append(mean)
        variances.append(variance)
    angles = rules.angle_of_log_sin2(np.array(log_sin2))
    angles[0] = theta0
    dataset = xr.Dataset(
        {
            "log_sin2": ("layer", np.array(log_sin2), {"long_name": "mean of ln sin^2 theta"}),
            "variance": ("layer", np.array(variances), {"long_name": "variance of ln sin^2 theta"}),
            "theta": ("layer", angles, {"long_name": "angle", "units": "rad"}),
        },
        coords={"layer": np.arange(net.depth + 1)},
    )
    dataset.attrs = provenance(
        "wideangle.propagation.predict_angles", source=SOURCES[method], net=net, theta0=theta0, method=method
    )
    return dataset


def check_finite_widths(net: MLP, method: str) -> None:
    """Raise unless every layer is at least 2 wide."""
    if 1 in net.widths:
        raise ValueError(
            f"widths[{net.widths.index(1)}] must be at least 2 for method {method!r}, got 1; a layer of one neuron "
            "leaves no angle between the inputs: widen it, or choose 'infinite-width'"
        )


def start_of_chain(theta0: float, method: str) -> float:
    """Return the X that the first layer's shift counts from, which the exact means take as 0 for obtuse angles."""
    angle = np.float64(theta0)
    exact = method in ("infinite-width", "finite-width")
    return float(rules.shift_origin(angle) if exact else rules.log_sin2_of_angle(angle))


def _infinite_width_step(theta: float, mean: float, variance: float, width: int) -> tuple[float, float]:
    return mean + float(rules.infinite_width(np.array([theta]))[0]), 0.0


def _finite_width_step(theta: float, mean: float, variance: float, width: int) -> tuple[float, float]:
    angles, deviations, weights = _gaussian_angles(theta, mean, variance)
    shifts, variances = rules.theorem1(angles, width)
    means = deviations + shifts
    average = float(weights @ means)
    return mean + average, float(weights @ (variances + (means - average) ** 2))


def _linear_step(theta: float, mean: float, variance: float, width: int) -> tuple[float, float]:
    angles, deviations, weights = _gaussian_angles(theta, mean, variance)
    shifts, variances = rules.linear_rule(angles, width)
    means = deviations + shifts
    plug_in = float(rules.linear_rule(np.array([theta]), width)[0][0])
    return mean + plug_in, float(weights @ (variances + (means - weights @ means) ** 2))


def _small_angle_step(theta: float, mean: float, variance: float, width: int) -> tuple[float, float]:
    shift, added = rules.small_angle_rule(width)
    return mean + shift, variance + added


_STEPS: dict[str, Callable[[float, float, float, int], tuple[float, float]]] = {
    "infinite-width": _infinite_width_step,
    "finite-width": _finite_width_step,
    "finite-width-linear": _linear_step,
    "small-angle": _small_angle_step,
}


def _gaussian_angles(theta: float, mean: float, variance: float) -> tuple[Array, Array, Array]:
    """Return angles, deviations from the mean, and weights for the expectation over min(X, 0), X ~ N(mean, variance).

    With X = top - sd y^2 the integrand is smooth in y up to X = 0, where the angle itself goes like sqrt(-X).
    """
    if variance == 0.0:
        return np.array([theta]), np.zeros(1), np.ones(1)
    sd = math.sqrt(variance)
    highest = min(-mean / sd, _CLOSURE_REACH)
    top = 0.0 if highest < _CLOSURE_REACH else mean + sd * highest
    nodes, node_weights = unit_legendre(_CLOSURE_NODES)
    length = math.sqrt(highest + _CLOSURE_REACH)
    y = length * nodes
    z = highest - y**2
    weights = length * node_weights * 2.0 * y * np.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi)
    above = 0.5 * math.erfc(highest / math.sqrt(2.0))
    angles = rules.angle_of_log_sin2(np.append(top - sd * y**2, 0.0))
    return angles, np.append(sd * z, -mean), np.append(weights, above)


@lru_cache(maxsize=8)
def unit_legendre(n_nodes: int) -> tuple[Array, Array]:
    """Return Gauss-Legendre nodes and weights on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(n_nodes)
    return 0.5 * (1.0 + nodes), 0.5 * weights
