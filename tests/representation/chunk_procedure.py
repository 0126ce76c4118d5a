"""The published procedure for chunks of a layer, arXiv 2106.03485, in scikit-learn and NumPy: no code of the package.

A chunk is a list of neurons. Features have the shape (sample, neuron), a readout (class, neuron).
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def residuals(features: Array, chunk: Array, ridge: float) -> tuple[Array, Array]:
    """Return the features in float64, and what a ridge regression on the chunk leaves of them."""
    from scipy.linalg import LinAlgWarning
    from sklearn.linear_model import Ridge

    layer = np.asarray(features, dtype=np.float64)
    inputs = layer[:, chunk]
    with warnings.catch_warnings():
        # Collinear chunks: coefficients are ill-determined, predictions are not.
        warnings.simplefilter("ignore", LinAlgWarning)
        return layer, layer - Ridge(ridge).fit(inputs, layer).predict(inputs).reshape(layer.shape)


def extended_residuals(features: Array, chunk: Array, ridge: float) -> Array:
    """Return residuals in extended precision, by elimination with pivots."""
    centred = features.astype(np.longdouble)
    centred -= centred.mean(axis=0)
    scatter = centred.T @ centred
    size = len(chunk)
    left = scatter[np.ix_(chunk, chunk)] + np.longdouble(ridge) * np.eye(size, dtype=np.longdouble)
    right = scatter[chunk]
    for i in range(size):
        best = i + int(np.argmax(np.abs(left[i:, i])))
        left[[i, best]], right[[i, best]] = left[[best, i]], right[[best, i]]
        factors = (left[:, i] / left[i, i])[:, None]
        factors[i] = 0.0
        left, right = left - factors * left[i], right - factors * right[i]
    rest: Array = centred - centred[:, chunk] @ (right / np.diag(left)[:, None])
    return rest


def r2(features: Array, chunk: Array, ridge: float) -> float:
    """Return R^2 of the whole layer, neurons weighted by their variance."""
    from sklearn.metrics import r2_score

    layer, rest = residuals(features, chunk, ridge)
    return float(r2_score(layer, layer - rest, multioutput="variance_weighted"))


def r2_outside(features: Array, chunk: Array, ridge: float) -> float:
    """Return the same over the neurons outside the chunk, NaN if there is none."""
    layer, rest = residuals(features, chunk, ridge)
    outside = outside_of(chunk, layer.shape[1])
    if outside.size == 0:
        return float("nan")
    return float(1.0 - rest[:, outside].var(axis=0).sum() / layer[:, outside].var(axis=0).sum())


def residual_correlation(features: Array, chunk: Array, ridge: float) -> float:
    """Return the mean size of the correlation of two residuals, over all pairs of neurons."""
    return mean_off_diagonal(residuals(features, chunk, ridge)[1])


def residual_correlation_outside(features: Array, chunk: Array, ridge: float) -> float:
    """Return the same over pairs outside the chunk, NaN if there is none."""
    layer, rest = residuals(features, chunk, ridge)
    outside = outside_of(chunk, layer.shape[1])
    return mean_off_diagonal(rest[:, outside]) if outside.size > 1 else float("nan")


def mean_off_diagonal(rest: Array) -> float:
    covariance = np.cov(rest, rowvar=False)
    variances = np.diag(covariance)
    correlation = covariance / (np.sqrt(np.outer(variances, variances)) + 1e-8)
    return float(np.abs(correlation[np.tril_indices_from(correlation, k=-1)]).mean())


def outside_of(chunk: Array, n_neurons: int) -> Array:
    return np.setdiff1d(np.arange(n_neurons), chunk)


def accuracy_and_loss(
    features: Array, chunk: Array, readout: Array, bias: Array | None, targets: Array
) -> tuple[float, float]:
    """Return accuracy and mean cross-entropy of the chunk, read out by its own columns of the readout."""
    layer = np.asarray(features, dtype=np.float64)
    logits = layer[:, chunk] @ np.asarray(readout, dtype=np.float64)[:, chunk].T
    if bias is not None:
        logits = logits + bias
    shifted = logits - logits.max(axis=1, keepdims=True)
    right = shifted[np.arange(len(layer)), targets]
    loss = float((np.log(np.exp(shifted).sum(axis=1)) - right).mean())
    return float((logits.argmax(axis=1) == targets).mean()), loss
