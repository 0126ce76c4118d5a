"""Boundaries of a pattern: their kinds, and below which size distances and rates are those of roundings."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from wideangle.dynamics._flow_field import EPSILON

# w . x = 0, a margin of 1, a readout of 0 of a neuron that slides, an end of the coefficient of what slides or is held.
NONE, ACTIVATION, MARGIN, READOUT, SLIDE, HOLD = map(np.int64, range(6))
# Distances and rates below so many roundings of their terms count as none.
ROUNDINGS = 64.0
SLACK = 1e-11


@njit
def size_of_weights(flow: Any, work: Any, at: Any, neuron: Any) -> Any:
    total = 0.0
    for q in range(flow.features):
        total += work.y[at + neuron * flow.features + q] ** 2
    return math.sqrt(total)


@njit
def margin_tolerance(flow: Any, work: Any, at: Any, sample: Any) -> Any:
    """Return what roundings make of the distance of a margin from 1."""
    n, h, total = flow.neurons, flow.samples, 1.0
    for i in range(n):
        if work.active[i * h + sample] != 0.0:
            total += flow.scale * abs(work.y[at + n * flow.features + i] * work.pre[i * h + sample])
    return ROUNDINGS * EPSILON * total


@njit
def margin_rate_tolerance(flow: Any, work: Any, sample: Any) -> Any:
    """Return what roundings make of the rate of a margin."""
    n, h, d, total = flow.neurons, flow.samples, flow.features, 0.0
    for i in range(n):
        if work.active[i * h + sample] != 0.0:
            rate = 0.0
            for q in range(d):
                rate += abs(work.k[i * d + q] * flow.rows[sample * d + q])
            total += abs(work.k[n * d + i] * work.pre[i * h + sample])
            total += abs(work.y[n * d + i]) * rate
    return 16.0 * ROUNDINGS * EPSILON * flow.scale * total


@njit
def outside(coefficient: Any) -> Any:
    return not -SLACK <= coefficient <= 1.0 + SLACK
