"""The nonlinearities of networks: names, values and derivatives."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wideangle._checks import check_real

Array = NDArray[np.float64]

ACTIVATIONS = ("relu", "leaky_relu", "abs", "linear", "erf", "tanh", "gelu", "elu", "silu", "sin", "sigmoid")
"""Names that :class:`wideangle.MLP` accepts as ``activation``; the slope of leaky ReLU stands in parentheses."""

DEFAULT_SLOPE = 0.01

_LEAKY_RELU = re.compile(r"leaky_relu\s*\(\s*(?:slope\s*=\s*)?(?P<slope>[^)]+?)\s*\)")
_TWO_BRANCHES = {"relu": 0.0, "abs": -1.0, "linear": 1.0}


@dataclass(frozen=True, slots=True)
class Activation:
    r"""A nonlinearity :math:`\phi`, applied to each neuron.

    Made by :func:`parse_activation`.

    Attributes
    ----------
    name
        One of :data:`ACTIVATIONS`.
    slope
        :math:`\phi(x) = \mathrm{slope} \cdot x` for x < 0, for the piecewise linear ones (0 for ReLU, -1 for abs, 1 for
        linear); 0 for the others, where it means nothing.
    """

    name: str
    slope: float = 0.0

    def __str__(self) -> str:
        """Return the name that :class:`wideangle.MLP` accepts."""
        return f"leaky_relu({self.slope!r})" if self.name == "leaky_relu" else self.name

    @property
    def code(self) -> int:
        """Position in :data:`ACTIVATIONS`, by which the kernels know it."""
        return ACTIVATIONS.index(self.name)

    @property
    def homogeneous(self) -> bool:
        r"""Whether :math:`\phi(c x) = c\,\phi(x)` for every c > 0."""
        return self.name == "leaky_relu" or self.name in _TWO_BRANCHES

    @property
    def slopes_at_zero(self) -> tuple[float, float]:
        """Slopes just above and just below zero."""
        if self.homogeneous:
            return 1.0, self.slope
        slope = float(self.derivative(0.0))
        return slope, slope

    @property
    def gradient_preserving_variance(self) -> float:
        r"""Variance of the weights that keeps the size of gradients where pre-activations are small.

        One over the mean square of the slopes at zero: 2 for ReLU, 4 for GELU and SiLU, 1 for tanh, ELU and sin,
        16 for sigmoid.
        """
        above, below = self.slopes_at_zero
        return 2.0 / (above**2 + below**2)

    def value(self, x: ArrayLike) -> Array:
        r""":math:`\phi(x)`, element by element, in float64."""
        z = np.asarray(x, dtype=np.float64)
        if self.slope == 0.0 and self.homogeneous:
            return np.maximum(z, 0.0)
        if self.homogeneous:
            return np.where(z < 0.0, self.slope * z, z)
        return _FUNCTIONS[self.name][0](z)

    def derivative(self, x: ArrayLike) -> Array:
        r""":math:`\phi'(x)`, element by element, in float64; at the kink of a piecewise linear one, the left one."""
        z = np.asarray(x, dtype=np.float64)
        if self.homogeneous:
            return np.where(z <= 0.0, self.slope, 1.0)
        return _FUNCTIONS[self.name][1](z)


def parse_activation(value: Any, *, name: str = "activation") -> Activation:
    """Return the activation of that name.

    Parameters
    ----------
    value
        One of :data:`ACTIVATIONS`; ``"leaky_relu(0.2)"`` for a slope other than 0.01. An :class:`Activation` is
        returned as it is.
    name
        What error messages call the argument.

    Raises
    ------
    TypeError, ValueError
        If it is not a string, or none of the names.

    Examples
    --------
    >>> from wideangle.activations import parse_activation
    >>> parse_activation("leaky_relu(0.2)").value([-1.0, 1.0])
    array([-0.2,  1. ])
    """
    remedy = f"choose one of {', '.join(ACTIVATIONS)}, with a slope as in 'leaky_relu(0.2)'"
    if isinstance(value, Activation):
        return value
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {value!r} ({type(value).__name__}); {remedy}")
    text = value.strip()
    if match := _LEAKY_RELU.fullmatch(text):
        try:
            number = float(match["slope"])
        except ValueError:
            raise ValueError(f"{name} must have a number as its slope, got {value!r}; {remedy}") from None
        return Activation("leaky_relu", check_real(f"slope of {name}", number, remedy=remedy))
    if text not in ACTIVATIONS:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, ACTIVATIONS))}, got {value!r}; {remedy}")
    return Activation(text, DEFAULT_SLOPE if text == "leaky_relu" else _TWO_BRANCHES.get(text, 0.0))


def _erf(x: Array) -> Array:
    from scipy.special import erf

    return np.asarray(erf(x))


def _normal_cdf(x: Array) -> Array:
    from scipy.special import ndtr

    return np.asarray(ndtr(x))


def _sigmoid(x: Array) -> Array:
    from scipy.special import expit

    return np.asarray(expit(x))


def _normal_density(x: Array) -> Array:
    return np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)


def _elu_derivative(x: Array) -> Array:
    return np.exp(np.minimum(x, 0.0))


def _silu_derivative(x: Array) -> Array:
    gate = _sigmoid(x)
    return gate * (1.0 + x * (1.0 - gate))


_FUNCTIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "erf": (_erf, lambda x: np.exp(-x * x) * (2.0 / math.sqrt(math.pi))),
    "tanh": (np.tanh, lambda x: 1.0 / np.cosh(np.minimum(np.abs(x), 350.0)) ** 2),
    "gelu": (lambda x: x * _normal_cdf(x), lambda x: _normal_cdf(x) + x * _normal_density(x)),
    "elu": (lambda x: np.where(x < 0.0, np.expm1(np.minimum(x, 0.0)), x), _elu_derivative),
    "silu": (lambda x: x * _sigmoid(x), _silu_derivative),
    "sin": (np.sin, np.cos),
    "sigmoid": (_sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x)),
}
