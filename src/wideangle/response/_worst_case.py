"""Extremes of the output over a ball of inputs, exactly, for piecewise linear networks of one or two inputs."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle.activations import Activation
from wideangle.response._breakpoints import breakpoints
from wideangle.response._network_functions import Layers, outputs, values_and_gradients

Array = NDArray[np.float64]


class Extremes(NamedTuple):
    """Largest rise and fall of the output in a ball around points, both of size 0 at least, and where they are."""

    rise: Array  # (state, point)
    fall: Array
    rise_at: Array  # (state, point, feature), from the point
    fall_at: Array

    @classmethod
    def none(cls, n_states: int, n_points: int, n_features: int) -> Extremes:
        """Start from the output at the points themselves."""
        changes, places = np.zeros((2, n_states, n_points)), np.zeros((2, n_states, n_points, n_features))
        return cls(changes[0], changes[1], places[0], places[1])

    def offer(self, change: Array, at: Array) -> None:
        """Keep the better of changes (state, point, candidate) at places (state, point, candidate, feature)."""
        for sign, best, best_at in ((1.0, self.rise, self.rise_at), (-1.0, self.fall, self.fall_at)):
            chosen = np.argmax(sign * change, axis=2)[..., None]
            value = np.take_along_axis(change, chosen, axis=2)[..., 0]
            better = sign * value > sign * best
            best[better] = value[better]
            best_at[better] = np.take_along_axis(at, chosen[..., None], axis=2)[:, :, 0][better]


def count_candidates(sizes: tuple[int, ...]) -> int:
    """Return about how many numbers the exact extremes of one network at one point need."""
    units = sum(sizes[1:-1])
    return 2 * units if sizes[0] == 1 else units * (units + 8 * units)


def has_exact(sizes: tuple[int, ...], activation: Activation) -> bool:
    """Whether the extremes can be had exactly: one input, or two with one hidden layer."""
    return activation.homogeneous and (sizes[0] == 1 or (sizes[0] == 2 and len(sizes) == 3))


def exact_extremes(layers: Layers, activation: Activation, points: Array, radius: float, norm: str) -> Extremes:
    """Return the extremes of networks for which :func:`has_exact` holds, at points (point, feature)."""
    extremes = Extremes.none(len(layers[0][0]), *points.shape)
    if points.shape[1] == 1:
        _search_interval(extremes, layers, activation, points, radius)
    elif norm == "l2":
        _search_vertices(extremes, layers, activation, points, radius, norm)
        _search_circle(extremes, layers, activation, points, radius)
    else:
        _search_vertices(extremes, layers, activation, points, radius, norm)
        _search_square(extremes, layers, activation, points, radius)
    return extremes


def _offer_displaced(
    extremes: Extremes, layers: Layers, activation: Activation, points: Array, at: Array, allowed: NDArray[np.bool_]
) -> None:
    """Offer the places (state, point, candidate, feature), relative to the points, that are allowed."""
    at = np.where(allowed[..., None], at, 0.0)
    values = outputs(layers, activation, (points[:, None] + at).reshape(len(at), -1, at.shape[-1]))
    before = outputs(layers, activation, points)
    extremes.offer(np.where(allowed, values.reshape(allowed.shape) - before[..., None], 0.0), at)


def _offer_common(
    extremes: Extremes, layers: Layers, activation: Activation, points: Array, places: Array, radius: float, norm: str
) -> None:
    """Offer those of the places (state, place, feature) that lie within the balls."""
    shift = [places[:, None, :, axis] - points[:, None, axis] for axis in range(points.shape[1])]
    if norm == "linf":
        near = functools.reduce(np.logical_and, (np.abs(part) <= radius for part in shift))
    else:
        near = sum((part**2 for part in shift), start=np.zeros(())) <= radius**2
    values = outputs(layers, activation, places)[:, None] - outputs(layers, activation, points)[..., None]
    extremes.offer(np.where(near, values, 0.0), places[:, None] - points[:, None])


def _search_interval(extremes: Extremes, layers: Layers, activation: Activation, points: Array, radius: float) -> None:
    # Between two kinks the output is linear: its extremes are at kinks or at the ends of the interval.
    low, high = float(points.min()) - radius, float(points.max()) + radius
    places = breakpoints(layers[:-1], activation, low, high)[..., None]
    _offer_common(extremes, layers, activation, points, places, radius, "linf")
    ends = np.broadcast_to(np.array([[-radius], [radius]]), (len(places), len(points), 2, 1))
    _offer_displaced(extremes, layers, activation, points, ends, np.ones(ends.shape[:3], dtype=np.bool_))


def _search_vertices(
    extremes: Extremes, layers: Layers, activation: Activation, points: Array, radius: float, norm: str
) -> None:
    """Offer the crossings of the lines at which two units have their kinks."""
    weights, biases = layers[0]
    first, second = np.triu_indices(weights.shape[1], 1)
    if len(first) == 0:
        return
    w, v, b, c = weights[:, first], weights[:, second], biases[:, first], biases[:, second]
    determinant = w[..., 0] * v[..., 1] - w[..., 1] * v[..., 0]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        crossing = np.stack([w[..., 1] * c - v[..., 1] * b, v[..., 0] * b - w[..., 0] * c], axis=-1)
        crossing /= determinant[..., None]
    # Parallel lines do not meet; a place beyond every ball stands for that.
    beyond = float(np.abs(points).max()) + 4.0 * radius
    crossing = np.where((np.abs(crossing) < beyond).all(axis=-1, keepdims=True), crossing, beyond)
    _offer_common(extremes, layers, activation, points, crossing, radius, norm)


def _search_circle(extremes: Extremes, layers: Layers, activation: Activation, points: Array, radius: float) -> None:
    """Offer where the lines meet the circle, and the directions of steepest rise and fall on the arcs between."""
    weights, biases = layers[0]
    norms = np.sqrt((weights**2).sum(axis=2))[:, None]
    z = np.matmul(points, weights.swapaxes(1, 2)) + biases[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = -z / (norms * radius)
    meets = np.abs(cosine) <= 1.0
    normal = np.arctan2(weights[..., 1], weights[..., 0])[:, None]
    half = np.arccos(np.where(meets, cosine, 1.0))
    angles = np.concatenate([normal - half, normal + half], axis=2) % (2.0 * math.pi)
    # One arc at least: without a line it is the whole circle.
    angles = np.sort(np.where(np.concatenate([meets, meets], axis=2), angles, 0.0), axis=2)

    half = 0.5 * np.diff(angles, axis=2, append=angles[..., :1] + 2.0 * math.pi)
    middles = _on_circle(angles + half, radius)
    f, gradient = values_and_gradients(layers, activation, (points[:, None] + middles).reshape(len(z), -1, 2))
    gradient = gradient.reshape(middles.shape)
    before = outputs(layers, activation, points)[..., None]
    # The output is linear on an arc and its chords: with the gradient, its value in the middle gives all others.
    offset = f.reshape(angles.shape) - before - (gradient * middles).sum(axis=3)
    ends = _on_circle(angles, radius)
    extremes.offer(offset + (gradient * ends).sum(axis=3), ends)
    steepest = np.arctan2(gradient[..., 1], gradient[..., 0])
    for turn in (0.0, math.pi):
        away = (steepest + turn - angles - half + math.pi) % (2.0 * math.pi) - math.pi
        at = _on_circle(steepest + turn, radius)
        extremes.offer(np.where(np.abs(away) <= half, offset + (gradient * at).sum(axis=3), 0.0), at)


def _on_circle(angles: Array, radius: float) -> Array:
    # Slightly inside, so that rounding does not leave the ball.
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1) * radius * (1.0 - 4e-16)


def _search_square(extremes: Extremes, layers: Layers, activation: Activation, points: Array, radius: float) -> None:
    """Offer the corners of the square and where the lines meet its sides."""
    weights, biases = layers[0]
    z = np.matmul(points, weights.swapaxes(1, 2)) + biases[:, None]
    for side in (0, 1):
        across, along = weights[:, None, :, side], weights[:, None, :, 1 - side]
        for end in (-radius, radius):
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                place = -(z + across * end) / along
            on_side = np.abs(place) <= radius
            place = np.where(on_side, place, 0.0)
            pair = (np.full_like(place, end), place) if side == 0 else (place, np.full_like(place, end))
            _offer_displaced(extremes, layers, activation, points, np.stack(pair, axis=-1), on_side)
    corners = radius * np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
    at = np.broadcast_to(corners, (len(weights), len(points), 4, 2))
    _offer_displaced(extremes, layers, activation, points, at, np.ones(at.shape[:3], dtype=np.bool_))
