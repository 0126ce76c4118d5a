"""Spectra and kinds of the units of a layer, for blocks of networks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle.activations import Activation

Array = NDArray[np.float64]


class Moments(NamedTuple):
    """Second moments of activations over points."""

    raw: Array  # (state, unit, unit)
    smaller: Array  # the one asked for, with units or points, whichever are fewer, on its sides


def second_moments(h: Array, *, centred: bool) -> Moments:
    """Return the second moments of activations (state, unit, point), each over the number of points."""
    number = h.shape[2]
    means = h.mean(axis=2, keepdims=True)
    deviations = h - means
    covariance = np.matmul(deviations, deviations.swapaxes(1, 2)) / number
    # Adding the means loses nothing, while taking them from the raw moments would.
    raw = covariance + means * means.swapaxes(1, 2)
    if number < h.shape[1]:
        taken = deviations if centred else h
        return Moments(raw, np.matmul(taken.swapaxes(1, 2), taken) / number)
    return Moments(raw, covariance if centred else raw)


def spectrum_measures(moment: Array, total: Array) -> dict[str, Array]:
    """Return measures of the eigenvalues of second moments (state, row, row); ``total`` (state) is the raw moment."""
    eps = np.finfo(np.float64).eps
    eigenvalues = np.linalg.eigvalsh(moment)[:, ::-1]
    # Less is rounding, of the product or of the means.
    largest = np.where(eigenvalues[:, :1] > (16.0 * eps) ** 2 * total[:, None], eigenvalues[:, :1], 0.0)
    resolved = eigenvalues > moment.shape[1] * eps * largest
    resolved &= largest > 0.0
    eigenvalues = np.where(resolved, eigenvalues, 0.0)
    singular = np.sqrt(eigenvalues)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = eigenvalues / largest
        participation = ratio.sum(axis=1) ** 2 / (ratio**2).sum(axis=1)
        shares = singular / singular.sum(axis=1, keepdims=True)
        entropy = -(shares * np.log(np.where(shares > 0.0, shares, 1.0))).sum(axis=1)
    # Without any variation there is no direction at all.
    empty = largest[:, 0] == 0.0
    return {
        "participation_ratio": np.where(empty, 0.0, participation),
        "effective_rank": np.where(empty, 0.0, np.exp(entropy)),
        "rank": resolved.sum(axis=1).astype(np.float64),
        "singular_values": singular,
    }


def dead_and_linear(z: Array, activation: Activation, tolerance: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which units (state, unit) have no slope at any point, and which of the others have the same at all."""
    if activation.homogeneous:
        above, below = z.min(axis=2) > 0.0, z.max(axis=2) <= 0.0
        if activation.slope == 1.0:
            return np.zeros_like(above), np.ones_like(above)
        dead = below if abs(activation.slope) <= tolerance else np.zeros_like(below)
        return dead, (above | below) & ~dead
    slope = activation.derivative(z)
    least, largest = slope.min(axis=2), slope.max(axis=2)
    dead = np.maximum(np.abs(least), np.abs(largest)) <= tolerance
    return dead, (largest - least <= tolerance) & ~dead


def duplicate_groups(raw: Array, left_out: NDArray[np.bool_], tolerance: float) -> NDArray[np.int64]:
    """Return the first unit of the group of each unit (state, unit), and -1 for those left out.

    Two units are in one group if the angle between their activations has a sine of at most the tolerance, or if others
    link them.
    """
    n_units = raw.shape[1]
    norms = np.sqrt(np.einsum("sii->si", raw))
    scale = np.where(norms > 0.0, norms, 1.0)
    cosines = raw / (scale[:, :, None] * scale[:, None, :])
    silent = left_out | (norms == 0.0)
    linked = cosines**2 >= 1.0 - tolerance**2
    linked &= ~(silent[:, :, None] | silent[:, None, :])
    units = np.arange(n_units)
    linked |= np.eye(n_units, dtype=np.bool_)
    groups = np.broadcast_to(units, norms.shape).copy()
    while True:
        lowest = np.where(linked, groups[:, None, :], n_units).min(axis=2)
        if np.array_equal(lowest, groups):
            return np.where(left_out, -1, groups)
        groups = lowest
