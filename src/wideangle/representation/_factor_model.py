"""The factor model of a layer: its covariance in units of each neuron's noise, and where eigenvalues of noise end.

Two decisions stand on it, which answer different questions and fit the noise of neurons in different ways.
``_signals.find_signals`` says what the critical width of a layer *is*, or that its covariance leaves this open; it
needs clearly more samples than neurons, and takes the noise from the diagonal of the inverse covariance, which stays
exact where noise is a tiny part of the variance. ``_factors.fit_factors`` says how many signals are *significant*, for
groups to be looked for with, and has to answer for any layer with more samples than neurons; it takes the noise from
the diagonal of the covariance, since with few more the inverse is mostly chance. Each fit fails where the other is
needed, so what they share is this module.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def in_units_of(noise: Array, covariance: Array) -> Array:
    """Return a covariance in units of the noise of neurons, given as variances."""
    scales = 1.0 / np.sqrt(noise)
    return np.asarray(covariance * (scales * scales[:, None]))


def noise_edges(size: ArrayLike, degrees: ArrayLike, margin: float) -> tuple[Array, Array]:
    """Return where eigenvalues of sample covariances of unit noise end, below and above, with a margin.

    For numbers of neurons and degrees of freedom; the margin is in units of the fluctuations. Place and scale of the
    largest eigenvalue as in Johnstone, Ann. Stat. 29, 295 (2001), with the halves of Ma, Bernoulli 18, 322 (2012); the
    lower ones as their reflection (Feldheim and Sodin, Geom. Funct. Anal. 20, 88, 2010).
    """
    degrees = np.asarray(degrees, dtype=np.float64)
    n, p = np.sqrt(degrees - 0.5), np.sqrt(np.asarray(size, dtype=np.float64) - 0.5)
    upper = ((n + p) ** 2 + margin * (n + p) * (1.0 / n + 1.0 / p) ** (1.0 / 3.0)) / degrees
    gap = np.maximum(n - p, 0.0)
    lower = (gap**2 - margin * gap * np.abs(1.0 / p - 1.0 / n) ** (1.0 / 3.0)) / degrees
    return np.maximum(lower, 0.0), upper


def rest_of_spectrum(eigenvalue: Array, degrees: ArrayLike, margin: float) -> tuple[Array, Array]:
    """Return, after each number of signals, the mean of the other eigenvalues and the upper edge of noise like that.

    Eigenvalues decrease; there may be other degrees of freedom for each number.
    """
    left = np.arange(len(eigenvalue), 0, -1)
    level = np.cumsum(eigenvalue[::-1])[::-1] / left
    return level, level * noise_edges(left, degrees, margin)[1]


def count_signals(eigenvalue: Array, degrees: ArrayLike, margin: float, slack: float = 0.0) -> int:
    """Return how many decreasing eigenvalues stand out of the noise, by more than a relative slack.

    They are counted one after the other, each against the mean of it and the rest (Kritchman and Nadler, Chemometr.
    Intell. Lab. 94, 19, 2008). The last has none to stand out of.
    """
    stands_out = eigenvalue > rest_of_spectrum(eigenvalue, degrees, margin)[1] * (1.0 + slack)
    return int(np.argmin(stands_out))
