"""Gram matrices as arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from wideangle.propagation.rules import Array


def check_gram(name: str, value: Any) -> Array:
    """Return a symmetric positive semi-definite matrix in float64, symmetric to the last bit.

    Asymmetry and negative eigenvalues within the rounding of its own type, such as those of a float32 product, pass.
    """
    remedy = "give x @ x.T / n_0 of real inputs x of shape (input, n_0)"
    try:
        matrix = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} could not be read as an array ({error}); {remedy}") from None
    if matrix.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be real numbers, got dtype {matrix.dtype}; {remedy}")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.size == 0:
        raise ValueError(f"{name} must be a square matrix, got shape {matrix.shape}; {remedy}")
    rounding = float(np.finfo(matrix.dtype if matrix.dtype.kind == "f" else np.float64).eps)
    gram: Array = matrix.astype(np.float64)
    if not np.isfinite(gram).all():
        raise ValueError(f"{name} must be finite, got {float(gram[~np.isfinite(gram)][0])!r}; {remedy}")
    largest = float(np.abs(gram).max())
    tolerance = 16.0 * len(gram) * max(rounding, np.finfo(np.float64).eps) * largest
    asymmetry = float(np.abs(gram - gram.T).max())
    if asymmetry > tolerance:
        raise ValueError(f"{name} must be symmetric, got entries that differ by {asymmetry:.3g}; {remedy}")
    gram = 0.5 * gram + 0.5 * gram.T
    if largest > 0.0:
        lowest = largest * float(np.linalg.eigvalsh(gram / largest)[0])
        if lowest < -tolerance:
            raise ValueError(f"{name} must be positive semi-definite, got eigenvalue {lowest:.3g}; {remedy}")
    return gram
