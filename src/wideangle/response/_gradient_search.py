"""Extremes of the output over a ball of inputs by projected gradients from several starts, on a line by a grid too."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wideangle.activations import Activation
from wideangle.response._evaluation import evaluate
from wideangle.response._network_functions import Layers, outputs, select, values_and_gradients
from wideangle.response._state import States
from wideangle.response._worst_case import Extremes

Array = NDArray[np.float64]

# Length of the last step in units of the radius; the first is as long as the diameter.
_LAST_STEP = 1e-3

GRID = 401
"""Places on the interval around each point, in one dimension: at both ends, and at the point itself."""

# Twice, the best places of the grid are looked around: to so many parts of its gap.
_FINER = 16


def draw_starts(n_starts: int, n_features: int, radius: float, norm: str, seed: int) -> Array:
    """Return displacements (start, feature): the point itself, then random ones within the ball."""
    random = np.random.Generator(np.random.Philox(seed))
    if norm == "linf":
        drawn = random.uniform(-radius, radius, size=(n_starts, n_features))
    else:
        drawn = random.standard_normal((n_starts, n_features))
        lengths = np.sqrt((drawn**2).sum(axis=1, keepdims=True))
        drawn *= radius * random.uniform(size=(n_starts, 1)) ** (1.0 / n_features) / lengths
    drawn[0] = 0.0
    return drawn


def search_grid(extremes: Extremes, states: States, rows: NDArray[Any], points: Array, radius: float) -> None:
    """Offer changes on the intervals around points of one feature, for some of the states."""
    grid = radius * np.linspace(-1.0, 1.0, GRID)
    chosen = dataclasses.replace(states, parameters=states.parameters[rows])
    f = evaluate(chosen, (points + grid).reshape(-1, 1), keep=("outputs",))["outputs"]
    f = f.reshape(len(rows), len(points), GRID)
    extremes.offer(f - f[..., GRID // 2, None], np.broadcast_to(grid[:, None], (*f.shape, 1)))

    layers, activation = select(states.layers, rows), states.activation
    before = outputs(layers, activation, points)[..., None]
    near = np.linspace(-1.0, 1.0, 2 * _FINER + 1) * (grid[-1] - grid[-2])
    for gaps in (near, near / _FINER):
        best = np.concatenate([extremes.rise_at, extremes.fall_at], axis=2)
        at = np.clip(best[..., None] + gaps, -radius, radius).reshape(len(rows), len(points), -1, 1)
        places = (points[:, None] + at).reshape(len(rows), -1, 1)
        extremes.offer(outputs(layers, activation, places).reshape(at.shape[:3]) - before, at)


def search_extremes(
    extremes: Extremes,
    layers: Layers,
    activation: Activation,
    points: Array,
    radius: float,
    norm: str,
    starts: Array,
    n_steps: int,
) -> None:
    """Offer the largest changes found at points (point, feature); the true ones may be larger."""
    n_states, (n_points, n_features) = len(layers[0][0]), points.shape
    before = outputs(layers, activation, points)[..., None]
    # Candidates of a point: every start, upward and then downward.
    at = np.broadcast_to(np.concatenate([starts, starts]), (n_states, n_points, 2 * len(starts), n_features)).copy()
    sign = np.repeat([1.0, -1.0], len(starts))[:, None]
    lengths = 2.0 * radius * (_LAST_STEP / 2.0) ** (np.arange(n_steps) / max(n_steps - 1, 1))
    for length in lengths:
        places = (points[:, None] + at).reshape(n_states, -1, n_features)
        f, gradient = values_and_gradients(layers, activation, places)
        extremes.offer(f.reshape(at.shape[:3]) - before, at)
        at = _project(at + length * sign * _steepest(gradient.reshape(at.shape), norm), radius, norm)
    places = (points[:, None] + at).reshape(n_states, -1, n_features)
    extremes.offer(outputs(layers, activation, places).reshape(at.shape[:3]) - before, at)


def _steepest(gradient: Array, norm: str) -> Array:
    if norm == "linf":
        return np.sign(gradient)
    lengths = np.sqrt((gradient**2).sum(axis=-1, keepdims=True))
    return gradient / np.where(lengths > 0.0, lengths, 1.0)


def _project(at: Array, radius: float, norm: str) -> Array:
    if norm == "linf":
        return np.clip(at, -radius, radius)
    lengths = np.sqrt((at**2).sum(axis=-1, keepdims=True))
    # Slightly inside, so that rounding does not leave the ball.
    return at * np.minimum(1.0, radius * (1.0 - 4e-16) / np.where(lengths > 0.0, lengths, 1.0))
