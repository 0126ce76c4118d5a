"""What the classes of a data set are to each other: orthogonal separability, and max-margin directions."""

from __future__ import annotations

import warnings

import numpy as np

from wideangle.dynamics._growth import Array


class SeparabilityWarning(UserWarning):
    """The data lie outside the assumption under which the classes learn independently of each other."""


def warn_unless_separable(x: Array, y: Array, *, stacklevel: int) -> None:
    """Warn unless inputs of one class have positive products with each other and none with the other class."""
    product = np.einsum("ad,bd->ab", x, x)
    norm = np.sqrt(np.diagonal(product))
    rounding = 1e-12 * np.outer(norm, norm)
    same = np.equal.outer(y, y)
    wrong = np.where(same, product <= 0.0, product > rounding)
    if not np.any(wrong):
        return
    a, b = np.argwhere(wrong)[0]
    kind = "one class" if same[a, b] else "different classes"
    warnings.warn(
        f"the data are not orthogonally separable: x[{a}] and x[{b}], of {kind}, have the product {product[a, b]:.3g}. "
        "The classes then do not learn independently of each other, neurons need not stay with one class, and the "
        "directions need not tend to those of max_margin. The flow itself, its events, conserved quantities and "
        "losses hold for all data.",
        SeparabilityWarning,
        stacklevel=stacklevel + 1,
    )


def max_margin_direction(x: Array) -> Array:
    """Return the v of least norm with v . x >= 1 for all rows of x; NaN if there is none, or no row.

    With u >= 0 the residual r of least norm of [x, 1]^T u = (0, 1) gives v = -r_x / r_1, by duality (C. L. Lawson and
    R. J. Hanson, Solving Least Squares Problems, 1974, chapter 23, least distance programming).
    """
    from scipy.optimize import nnls

    if not len(x):
        return np.full(x.shape[1], np.nan)
    size = np.sqrt(np.mean(np.sum(x**2, axis=1)))
    if size == 0.0:
        return np.full(x.shape[1], np.nan)
    matrix = np.vstack([x.T / size, np.ones(len(x))])
    target = np.zeros(x.shape[1] + 1)
    target[-1] = 1.0
    multipliers, _ = nnls(matrix, target, maxiter=100 * len(x))
    residual = matrix @ multipliers - target
    with np.errstate(divide="ignore", invalid="ignore"):
        direction = np.asarray(residual[:-1] / -residual[-1] / size)
    # Infeasible if the residual vanishes; then the quotient means nothing.
    feasible = np.linalg.norm(residual) > 1e-10 and np.all(x @ direction > 1.0 - 1e-6)
    return direction if feasible else np.full(x.shape[1], np.nan)


def class_alignment(weights: Array, readout: Array, pre_active: Array, y: Array, directions: Array) -> Array:
    """Return (..., class): the cosine between the direction of each class and the network's own.

    The latter is sum |z_i| w_i over the neurons with readouts of the sign of the class that are active on some sample
    of it. NaN where there is none.
    """
    result = np.full((*readout.shape[:-1], 2), np.nan)
    for c, label in enumerate((-1.0, 1.0)):
        reads = (readout * label > 0.0) & np.any(pre_active[..., y == label], axis=-1)
        own = np.einsum("...i,...id->...d", np.where(reads, np.abs(readout), 0.0), weights)
        with np.errstate(divide="ignore", invalid="ignore"):
            length = np.linalg.norm(own, axis=-1) * np.linalg.norm(directions[c])
            result[..., c] = own @ directions[c] / length
    return result
