"""The losses of binary classification, as functions of the margin: names, values and forces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wideangle._checks import check_choice

Array = NDArray[np.float64]

LOSSES = ("cross-entropy", "hinge", "squared", "exponential")
"""Names that functions accept as ``loss``."""


@dataclass(frozen=True, slots=True)
class Loss:
    r"""A loss :math:`\ell(m)` of the margin :math:`m = y f(x)`, with labels y = -1 or 1.

    Made by :func:`parse_loss`.

    Attributes
    ----------
    name
        One of :data:`LOSSES`: ``"cross-entropy"``, :math:`\ln(1+e^{-m})`, that of logistic regression; ``"hinge"``,
        :math:`\max(0, 1-m)`; ``"squared"``, :math:`(1-m)^2/2`, which is :math:`(y-f)^2/2`; ``"exponential"``,
        :math:`e^{-m}`.
    """

    name: str

    def __str__(self) -> str:
        """Return the name that functions accept as ``loss``."""
        return self.name

    def value(self, margin: ArrayLike) -> Array:
        r""":math:`\ell(m)`, element by element, in float64; ``inf`` where it exceeds the range of floats."""
        return _FUNCTIONS[self.name][0](np.asarray(margin, dtype=np.float64))

    def force(self, margin: ArrayLike) -> Array:
        r""":math:`g(m) = -\ell'(m)`, with which gradient flow drives the margin up, element by element, in float64.

        1/(1 + e^m), [m < 1] (0 at the kink of the hinge), 1 - m, and e^-m.
        """
        return _FUNCTIONS[self.name][1](np.asarray(margin, dtype=np.float64))


def parse_loss(value: Any, *, name: str = "loss") -> Loss:
    """Return the loss of that name.

    Parameters
    ----------
    value
        One of :data:`LOSSES`. A :class:`Loss` is returned as it is.
    name
        What error messages call the argument.

    Raises
    ------
    TypeError, ValueError
        If it is not a string, or none of the names.

    Examples
    --------
    >>> from wideangle.losses import parse_loss
    >>> hinge = parse_loss("hinge")
    >>> hinge.value([-1.0, 0.5, 1.0]), hinge.force([-1.0, 0.5, 1.0])
    (array([2. , 0.5, 0. ]), array([1., 1., 0.]))
    """
    if isinstance(value, Loss):
        return value
    return Loss(check_choice(name, value, LOSSES))


def _cross_entropy_force(margin: Array) -> Array:
    # exp of what is never positive: the small end keeps its relative accuracy, the other cannot overflow.
    decay = np.exp(-np.abs(margin))
    return np.where(margin > 0.0, decay, 1.0) / (1.0 + decay)


def _decay(margin: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.exp(-margin)


def _square(margin: Array) -> Array:
    with np.errstate(over="ignore"):
        return 0.5 * (1.0 - margin) ** 2


_FUNCTIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "cross-entropy": (lambda m: np.maximum(-m, 0.0) + np.log1p(np.exp(-np.abs(m))), _cross_entropy_force),
    "hinge": (lambda m: np.maximum(1.0 - m, 0.0), lambda m: np.where(m < 1.0, 1.0, 0.0)),
    "squared": (_square, lambda m: 1.0 - m),
    "exponential": (_decay, _decay),
}
