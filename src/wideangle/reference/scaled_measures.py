"""What the neurons of a layer have in common, and of how many directions the update of its weights consists."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

RANKS = ("numerical_rank", "participation_rank", "norm_ratio")
_EPSILON = float(np.finfo(np.float32).eps)


def diversity_of_units(values: torch.Tensor) -> tuple[float, float]:
    r"""Return how much the units of a layer differ as functions of the input, and the dimension of what they span.

    Parameters
    ----------
    values
        Of the units, (sample, unit), in float32.

    Returns
    -------
    diversity
        With :math:`\tilde h_j(x)` for values minus their mean over samples, the root of the mean over samples of the
        variance over units, divided by the root mean square: 0 if all units are the same function but for a constant,
        1 if their mean is zero.
    dimension
        :math:`(\operatorname{tr} C)^2 / \operatorname{tr} C^2` of the matrix C of the covariances of the units over
        samples: 1 if all are multiples of one function.

    Both are NaN where values depend on the sample by no more than roundings.
    """
    h = values.detach().double()
    size = float(h.abs().max())
    if size == 0.0:
        return math.nan, math.nan
    h = h / size
    h = h - h.mean(dim=0)
    square = float(h.square().mean())
    if math.sqrt(square) <= 16.0 * _EPSILON:
        return math.nan, math.nan
    diversity = math.sqrt(float(h.var(dim=1, correction=0).mean()) / square)
    products = h @ h.T if h.shape[0] < h.shape[1] else h.T @ h
    return diversity, float(products.trace()) ** 2 / float(products.square().sum())


def ranks_of_update(update: torch.Tensor, size: float, n_steps: int) -> tuple[float, float, float]:
    r"""Return the numerical rank, the participation rank and the ratio of norms of the update of a matrix.

    Parameters
    ----------
    update
        What the matrix has changed by, in float32.
    size
        Root mean square of the entries of the matrix that it was taken from.
    n_steps
        Steps that the change was made in.

    Returns
    -------
    numerical_rank
        Number of singular values above :math:`\epsilon\,(\max(n_1, n_2)\, \sigma_1 + \sqrt t\, (\sqrt{n_1} +
        \sqrt{n_2})\, w)`, with the unit roundoff of float32 and the root mean square w of the entries: the first
        term is the threshold of :func:`numpy.linalg.matrix_rank`, the second what the roundings of t steps add up to.
    participation_rank
        :math:`(\sum \sigma^2)^2 / \sum \sigma^4`, which is :math:`(\operatorname{tr} A)^2 / \operatorname{tr} A^2` of
        the product A of the update's transpose with the update.
    norm_ratio
        Frobenius norm over spectral norm; its square is also called the stable rank.

    The last two are NaN where nothing but roundings is left, and the first is 0 there. All are NaN if an entry is not
    finite, as may happen where a neuron has died of too large a step.
    """
    import torch

    largest = float(update.abs().max())
    if largest == 0.0:
        return 0.0, math.nan, math.nan
    if not math.isfinite(largest):
        return math.nan, math.nan, math.nan
    values = largest * torch.linalg.svdvals(update / largest).double().numpy()
    rows, columns = update.shape
    roundings = math.sqrt(n_steps) * (math.sqrt(rows) + math.sqrt(columns)) * size
    rank = int(np.sum(values > _EPSILON * (max(rows, columns) * values[0] + roundings)))
    if rank == 0:
        return 0.0, math.nan, math.nan
    squares = (values / values[0]) ** 2
    return float(rank), float(squares.sum() ** 2 / np.sum(squares**2)), math.sqrt(float(squares.sum()))
