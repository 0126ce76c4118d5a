"""What chunks of generic neurons leave of a layer: a law of the eigenvalues of its covariance alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

_HALVINGS = 100

Array = NDArray[np.float64]


def generic_residual(eigenvalues: Array, sizes: ArrayLike) -> Array:
    """Return the variance that regressions on chunks leave, summed over neurons, from none to all but one of them.

    If the eigenvectors of a covariance with eigenvalues m_k are random directions, that is sum_k m_k / (1 + t m_k) with
    the t for which sum_k t m_k / (1 + t m_k) is the number of neurons, for many neurons: what a chunk leaves of the
    others is the inverse of a principal submatrix of the inverse covariance, and that is a free compression (Nica and
    Speicher, Am. J. Math. 118, 799, 1996).
    """
    wanted = np.asarray(sizes, dtype=np.float64)
    t = _solve(lambda t: _known(eigenvalues, t), wanted, eigenvalues)
    return _left(eigenvalues, t)


def generic_size(eigenvalues: Array, residual: ArrayLike) -> Array:
    """Return the number of generic neurons that leave a residual variance: the inverse of :func:`generic_residual`."""
    wanted = -np.asarray(residual, dtype=np.float64)
    t = _solve(lambda t: -_left(eigenvalues, t), wanted, eigenvalues)
    return _known(eigenvalues, t)


def _known(eigenvalues: Array, t: Array) -> Array:
    scaled = t[..., None] * eigenvalues
    return np.asarray(np.sum(scaled / (1.0 + scaled), axis=-1))


def _left(eigenvalues: Array, t: Array) -> Array:
    return np.asarray(np.sum(eigenvalues / (1.0 + t[..., None] * eigenvalues), axis=-1))


def _solve(rising: Callable[[Array], Array], wanted: Array, eigenvalues: Array) -> Array:
    """Return where a rising function of t has a value, by bisection of ln t."""
    positive = eigenvalues[eigenvalues > 0.0]
    low = np.full(wanted.shape, -np.log(positive.max()) - 40.0)
    high = np.full(wanted.shape, -np.log(positive.min()) + 40.0)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        below = rising(np.exp(middle)) < wanted
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray(np.exp(0.5 * (low + high)))
