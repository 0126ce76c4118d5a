"""A single ReLU neuron on one class: y = (z, u), readout and projection, with parameters (p r, r, w, kappa, v, h).

The force of the loss at margin m is w / (kappa + e^m) + v (1 - m) + h: cross-entropy (1, 1, 0, 0), exponential
(1, 0, 0, 0), squared (0, 1, 1, 0), hinge (0, 1, 0, 1), for which the trajectory has to end at m = 1.
"""

from __future__ import annotations

import math
from typing import Any

from wideangle.integrators._calls import njit_on_disk
from wideangle.integrators.elementwise import where


@njit_on_disk()
def flow(t: Any, y: Any, params: Any, out: Any) -> None:
    """Gradient flow while the neuron is on; beyond u = 0, where it ends, the same with the ReLU's slope of 1."""
    margin = params[1] * y[0] * y[1]
    force = params[0] * (params[2] / (params[3] + math.exp(margin)) + params[4] * (1.0 - margin) + params[5])
    out[0] = force * y[1]
    out[1] = force * y[0]


@njit_on_disk()
def projection(t: Any, y: Any, params: Any) -> Any:
    """Zero where the neuron dies."""
    return y[1]


@njit_on_disk()
def readout(t: Any, y: Any, params: Any) -> Any:
    """Zero where the neuron is rescued."""
    return y[0]


@njit_on_disk()
def learned(t: Any, y: Any, params: Any) -> Any:
    """Zero where the margin is the one to reach, the last parameter."""
    return where(y[0] > 0.0, params[1] * y[0] * y[1], -1.0) - params[6]
