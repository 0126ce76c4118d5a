"""What one step on one training sample with the wrong label does to the outputs at the others."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from wideangle.response._evaluation import evaluate
from wideangle.response._state import States, check_trained
from wideangle.response.responses import loss_derivative

Array = NDArray[np.float64]


def step_on_contradictions(states: States, rows: NDArray[np.intp]) -> tuple[Array, Array]:
    """Return outputs (state, sample), and their changes (state, visited sample, sample) by one step on each sample.

    Every step is from the same state, on a sample with the sign of its label changed.
    """
    loss, x, y = check_trained(states)
    rate = float(states.learning_rate or 0.0)
    chosen = dataclasses.replace(states, parameters=np.ascontiguousarray(states.parameters[rows]))
    before = evaluate(chosen, x, keep=("outputs",))["outputs"]
    steps = evaluate(chosen, x, loss_derivatives=loss_derivative(loss, before, -y), learning_rate=rate)
    return before, rate * steps["response"]


def contradiction_measures(before: Array, change: Array) -> dict[str, Array]:
    """Return the change at each visited sample (state, sample), and those at the others relative to its size."""
    own = np.einsum("sii->si", change).copy()
    n_samples = change.shape[1]
    others = np.abs(change)
    flips = ((before[:, None] + change < 0.0) != (before[:, None] < 0.0)).astype(np.float64)
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
