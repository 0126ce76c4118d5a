"""Where piecewise linear networks of one input have their kinks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wideangle.activations import Activation
from wideangle.response._network_functions import Layers, preactivations

Array = NDArray[np.float64]


def breakpoints(layers: Layers, activation: Activation, low: float, high: float) -> Array:
    """Return the kinks of the units of these layers in [low, high], and both ends, sorted: (state, place).

    States with fewer kinks than others repeat the upper end.
    """
    number = len(layers[0][0])
    places = np.tile([low, high], (number, 1))
    if activation.slope == 1.0:
        return places
    for depth in range(1, len(layers) + 1):
        # Between neighbouring places every unit of this layer is linear, as all kinks below it are among the places.
        z = preactivations(layers[:depth], activation, places[..., None])[-1]
        before, after = z[..., :-1], z[..., 1:]
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            share = before / (before - after)
        crossing = np.signbit(before) != np.signbit(after)
        crossing &= (share >= 0.0) & (share <= 1.0)
        start, gap = places[:, None, :-1], np.diff(places, axis=1)[:, None]
        found = np.where(crossing, start + np.where(crossing, share, 0.0) * gap, high).reshape(number, -1)
        places = np.sort(np.concatenate([places, found], axis=1), axis=1)
        # One of the places at the upper end stays.
        longest = int((places < high).sum(axis=1).max()) + 1
        places = places[:, :longest]
    return places


def count_kinks(places: Array, resolution: float) -> Array:
    """Return how many sorted places (state, place) lie between the ends and further than that from each other."""
    low, high = places[:, :1], places[:, -1:]
    distinct = np.diff(places, axis=1) > resolution
    inside = (places > low) & (places < high)
    # The first place is the lower end; a kink counts if the one before it is another.
    first_inside = inside[:, 1:] & ~inside[:, :-1]
    counted: Array = (inside[:, 1:] & (distinct | first_inside)).sum(axis=1).astype(np.float64)
    return counted
