"""Signals that neurons of a layer share, and the noise that each has for itself: a factor model."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle.representation._factor_model import count_signals, in_units_of

Array = NDArray[np.float64]

# Below this share of a neuron's variance, roundings are all there is: the noise of neurons that others determine.
LEAST_NOISE = 1e-12
MAX_ITERATIONS = 30
# Probability of noise to pass for a signal.
SIGNIFICANCE = 1e-3
# What the largest eigenvalue of noise exceeds with that probability, in Tracy and Widom's units.
_TRACY_WIDOM = 3.2724


class Factors(NamedTuple):
    """Correlations of neurons, with their inverse; each neuron's share of noise in its variance; number of signals."""

    correlation: Array
    precision: Array
    noise: Array
    number: int


def find_related(correlation: Array, n_samples: int) -> NDArray[np.bool_]:
    """Return which neurons others tell anything of, by the F test of their regression on all others."""
    from scipy.stats import f

    n_neurons = len(correlation)
    if n_neurons < 2:
        return np.zeros(n_neurons, dtype=bool)
    unexplained = 1.0 / np.diag(np.linalg.inv(correlation + LEAST_NOISE * np.eye(n_neurons)))
    ratio = (1.0 / unexplained - 1.0) / (n_neurons - 1) * (n_samples - n_neurons)
    related: NDArray[np.bool_] = ratio > f.isf(SIGNIFICANCE / n_neurons, n_neurons - 1, n_samples - n_neurons)
    return related


def fit_factors(correlation: Array, n_samples: int) -> Factors:
    r"""Split the correlations of neurons into those of a few signals and a diagonal of noise.

    The model is that of factor analysis, :math:`C = L L^\top + \Psi`, fitted by principal factors. The first
    :math:`\Psi_j` are the residual variances of neurons given all others, too large by about 1/(1 - signals/neurons).
    In units of the noise, eigenvalues of noise alone lie below the edge of Marchenko and Pastur; those above it are
    counted, with a margin for what the last iteration changed in the noise: it would count errors of the noise as
    signals, and then fit them. (The margin is derived from tests, not from the literature.)
    """
    n_neurons = len(correlation)
    if n_neurons < 2:
        return Factors(correlation, correlation, np.ones(n_neurons), 0)
    regular = correlation + LEAST_NOISE * np.eye(n_neurons)
    precision: Array = np.linalg.inv(regular).astype(np.float64)
    noise: Array = np.reciprocal(np.diag(precision)).astype(np.float64)
    change, converged = 0.5, np.sqrt(2.0 / n_samples)
    for _ in range(MAX_ITERATIONS):
        values, vectors = np.linalg.eigh(in_units_of(noise, regular))
        values, vectors = values[::-1], vectors[:, ::-1]
        if change <= converged:
            break
        # More than half as many signals as neurons are none that two groups could share.
        used = min(count_signals(values, n_samples - 1, _TRACY_WIDOM, change), n_neurons // 2)
        level = values[used:].mean()
        left = 1.0 / noise - vectors[:, :used] ** 2 @ (values[:used] - level)
        ratio = np.clip(noise * np.maximum(left, 1e-3), LEAST_NOISE, 1.0) / noise
        noise *= ratio
        change = float(np.abs(ratio / ratio.mean() - 1.0).max())
    return Factors(regular, precision, noise, count_signals(values, n_samples - 1, _TRACY_WIDOM))
