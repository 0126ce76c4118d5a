"""What one step on one training sample with the wrong label does to the outputs at the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wideangle.activations import Activation
from wideangle.losses import Loss
from wideangle.response._network_functions import Layers, outputs, preactivations, slopes

Array = NDArray[np.float64]


def loss_derivative(loss: Loss, f: Array, y: Array) -> Array:
    """Return dl/df at outputs (..., sample) with labels (sample)."""
    return f - y if loss.name == "squared" else -y * loss.force(y * f)


def step_on_each(
    layers: Layers,
    activation: Activation,
    x: Array,
    force: Array,
    weight_rates: tuple[float, ...],
    bias_rates: tuple[float, ...],
) -> Array:
    """Return outputs (state, visited sample, sample) after one step on each sample, from the same state each time.

    ``force`` (state, visited sample) is the learning rate times minus the derivative of the loss.
    """
    n_states, n_samples = force.shape
    z = preactivations(layers, activation, x)
    back = slopes(layers, activation, z)
    below = np.broadcast_to(x.T, (n_states, *x.T.shape))
    stepped: Layers = []
    for number, (weights, biases) in enumerate(layers):
        shift = back[number].swapaxes(1, 2) * force[..., None]
        step = shift[..., None] * below.swapaxes(1, 2)[:, :, None, :]
        moved = weights[:, None] + weight_rates[number] * step, biases[:, None] + bias_rates[number] * shift
        stepped.append((moved[0].reshape(-1, *weights.shape[1:]), moved[1].reshape(-1, weights.shape[1])))
        below = activation.value(z[number])
    return outputs(stepped, activation, x).reshape(n_states, n_samples, n_samples)


def contradiction_measures(before: Array, after: Array) -> dict[str, Array]:
    """Return the change at each visited sample (state, sample), and those at the others relative to its size."""
    change = after - before[:, None]
    own = np.einsum("sii->si", change).copy()
    n_samples = change.shape[1]
    others = np.abs(change)
    flips = ((after < 0.0) != (before[:, None] < 0.0)).astype(np.float64)
    diagonal = np.arange(n_samples)
    others[:, diagonal, diagonal] = 0.0
    flips[:, diagonal, diagonal] = 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = others / np.abs(own)[..., None]
    number = n_samples - 1
    return {
        "contradiction_own": own,
        "contradiction_mean": relative.sum(axis=2) / number,
        "contradiction_largest": relative.max(axis=2),
        "contradiction_flips": flips.sum(axis=2) / number,
    }
