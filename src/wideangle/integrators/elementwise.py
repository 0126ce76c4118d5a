"""Functions for right-hand sides that are to run in lanes, sixteen trajectories at once.

A right-hand side compiles for lanes when it does not branch on values: no ``if``, ``and``, ``or`` or ``not`` on what
depends on ``t``, ``y`` or ``params``, and no arrays made from them. Arithmetic, comparisons, integer powers and the
functions ``exp``, ``expm1``, ``log``, ``log1p``, ``tanh``, ``sqrt`` and ``fabs`` of :mod:`math` and NumPy then work on
vectors, and :func:`where` stands for the branch. Every function here takes single numbers just as well.
"""

from __future__ import annotations

import math
from typing import Any

from numba import njit, types

from wideangle.integrators import _math as _math
from wideangle.integrators._lanes import Mask, overload_lanes, where_lanes


def where(condition: Any, a: Any, b: Any) -> Any:
    """Return ``a`` where the condition holds and ``b`` elsewhere; both are computed.

    Examples
    --------
    >>> import numba
    >>> from wideangle.integrators.elementwise import where
    >>> @numba.njit
    ... def hinge_slope(margin):
    ...     return where(margin < 1.0, 1.0, 0.0)
    >>> hinge_slope(0.5), hinge_slope(2.0)
    (1.0, 0.0)
    """
    return a if condition else b


@overload_lanes(where)
def _where(condition: Any, a: Any, b: Any) -> Any:
    if isinstance(condition, Mask):
        return lambda condition, a, b: where_lanes(condition, a, b)
    if isinstance(condition, types.Boolean):
        return lambda condition, a, b: a if condition else b
    return None


@njit
def logistic(x: Any) -> Any:
    """Return 1 / (1 + e^-x), with a relative error of 3 units in the last place down to x = -709.

    Examples
    --------
    >>> from wideangle.integrators.elementwise import logistic
    >>> logistic(0.0)
    0.5
    """
    return 1.0 / (1.0 + math.exp(-x))


@njit
def softplus(x: Any) -> Any:
    """Return ln(1 + e^x) without overflow and without cancellation.

    Examples
    --------
    >>> from wideangle.integrators.elementwise import softplus
    >>> softplus(1000.0), softplus(-1000.0)
    (1000.0, 0.0)
    """
    return where(x > 0.0, x, 0.0) + math.log1p(math.exp(-abs(x)))
