"""Ensembles of gradient norms: products of chi-squares, and networks of real weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wideangle._progress import progress_callback
from wideangle.propagation._homogeneous import slope_moment
from wideangle.propagation.network_simulation import run_networks
from wideangle.statistics.moments import Moments

if TYPE_CHECKING:
    from wideangle.network import MLP
    from wideangle.propagation.rules import Array

_BLOCK = 512
_PART_NUMBERS = 2**20  # What is kept of the kernel's results at a time.


def through_depth(layers: Array, ends: tuple[ArrayLike, ArrayLike]) -> Array:
    """Sum what layers, shape (..., L), and ends, shape (...), contribute along each way: (..., quantity, L + 2)."""
    result = np.zeros((*layers.shape[:-1], 2, layers.shape[-1] + 2))
    backward, forward = result[..., 0, :], result[..., 1, :]
    backward[..., 1:-1] = np.cumsum(layers[..., ::-1], axis=-1)[..., ::-1]
    backward[..., 0] = backward[..., 1] + ends[0]
    forward[..., 1:-1] = np.cumsum(layers, axis=-1)
    forward[..., -1] = forward[..., -2] + ends[1]
    return result


def chi_square_ensemble(net: MLP, scales: Array, input_dim: int, outputs: int, *, n_samples: int, seed: int) -> Moments:
    """Draw products of chi-squares; ``scales`` are the logarithms of the mean squared norms, (quantity, L + 2)."""
    total: Moments | None = None
    for block in range(-(-n_samples // _BLOCK)):
        log_norm2 = scales + _sample_block(net, input_dim, outputs, seed, block)
        log_norm2 = log_norm2[: n_samples - block * _BLOCK]
        moments = Moments.from_samples(log_norm2, where=np.isfinite(log_norm2))
        total = moments if total is None else total.merge(moments)
    assert total is not None
    return total


def _sample_block(net: MLP, input_dim: int, outputs: int, seed: int, block: int) -> Array:
    """Return ln of the squared norms divided by their means for one block, shape (sample, quantity, L + 2).

    The two quantities of a sample share the active neurons; nothing else of their joint law is meant to be right.
    """
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, block], dtype=np.uint64)))
    square, gain = net.phi.slope**2, slope_moment(net.phi)
    logs = np.empty((2, _BLOCK, net.depth))
    with np.errstate(divide="ignore"):
        for layer, width in enumerate(net.widths):
            active = rng.binomial(width, 0.5, _BLOCK)
            for quantity in range(2):
                chi2 = _chi_square(rng, active)
                if square:
                    chi2 = chi2 + square * _chi_square(rng, width - active)
                logs[quantity, :, layer] = np.log(chi2 / (width * gain))
        ends = [np.log(_chi_square(rng, np.full(_BLOCK, degrees)) / degrees) for degrees in (input_dim, outputs)]
    result = np.stack([through_depth(logs[k], (ends[0], ends[1]))[:, k] for k in range(2)], axis=1)
    if net.bias_variance == 0.0:
        result[np.isneginf(logs[0]).any(axis=1), 0, :-1] = -np.inf
    return result


def _chi_square(rng: np.random.Generator, degrees: NDArray[np.int64]) -> Array:
    """Return chi-squares, 0 where there are no degrees of freedom."""
    chi2: Array = 2.0 * rng.standard_gamma(0.5 * degrees)
    return chi2


def weights_ensemble(
    net: MLP,
    input_dim: int,
    outputs: int,
    *,
    norm2: float,
    n_samples: int,
    seed: int,
    n_threads: int,
    progress: bool,
) -> Moments:
    """Measure networks of real weights at an input of mean square ``norm2``, with a direction orthogonal to it."""
    x, direction = np.zeros((1, input_dim)), np.zeros((1, input_dim))
    # The weights are isotropic, so that any other pair of orthogonal vectors would have the same law.
    x[0, 0] = np.sqrt(norm2 * input_dim)
    direction[0, -1] = 1.0
    total: Moments | None = None
    part = max(1, _PART_NUMBERS // (net.depth + 2))
    with progress_callback(n_samples, progress, unit="network") as advance:
        for first in range(0, n_samples, part):
            raw = run_networks(
                net,
                x,
                tangent=direction,
                keep=("log_gradient2", "log_tangent2"),
                n_networks=min(part, n_samples - first),
                seed=seed,
                outputs=outputs,
                n_threads=n_threads,
                progress=False,
                first_network=first,
            )
            log_norm2 = np.stack([raw["log_gradient2"][..., 0], raw["log_tangent2"][..., 0]], axis=1)
            moments = Moments.from_samples(log_norm2, where=np.isfinite(log_norm2))
            total = moments if total is None else total.merge(moments)
            if advance is not None:
                advance(first + len(log_norm2))
    assert total is not None
    return total
