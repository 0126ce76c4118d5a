"""Right-hand sides of coupled modes, in the variables in which they are nearly linear while margins are small.

Every function has the parameters ``w, kappa, u, depth``, then p (type), then F (type, mode) row by row and, with
imbalance, a and b (mode). The force of the loss is w / (kappa + e^M) + u (1 - M): cross-entropy (1, 1, 0),
exponential (1, 0, 0), squared (0, 1, 1).
"""

from __future__ import annotations

import math
from typing import Any

from wideangle.integrators._calls import njit_on_disk

HEAD = 4


@njit_on_disk()
def linear(t: Any, y: Any, params: Any, out: Any) -> None:
    """One factor: y is the margin."""
    modes = len(y)
    types = (len(params) - 4) // (modes + 1)
    for k in range(modes):
        out[k] = 0.0 * y[k]
    for tau in range(types):
        row = 4 + types + tau * modes
        margin = 0.0 * y[0]
        for k in range(modes):
            margin += params[row + k] * y[k]
        force = params[4 + tau] * (params[0] / (params[1] + math.exp(margin)) + params[2] * (1.0 - margin))
        for k in range(modes):
            out[k] += params[row + k] * force


@njit_on_disk()
def balanced(t: Any, y: Any, params: Any, out: Any) -> None:
    """Two factors of equal size: y is ln |margin|, and F has the signs of the margins."""
    modes = len(y)
    types = (len(params) - 4) // (modes + 1)
    for k in range(modes):
        out[k] = 0.0 * y[k]
    for tau in range(types):
        row = 4 + types + tau * modes
        margin = 0.0 * y[0]
        for k in range(modes):
            margin += params[row + k] * math.exp(y[k])
        force = 2.0 * params[4 + tau] * (params[0] / (params[1] + math.exp(margin)) + params[2] * (1.0 - margin))
        for k in range(modes):
            out[k] += params[row + k] * force


@njit_on_disk()
def deep(t: Any, y: Any, params: Any, out: Any) -> None:
    """A balanced chain of D > 2 factors: y is the logarithm of the margin."""
    modes = len(y)
    types = (len(params) - 4) // (modes + 1)
    depth = params[3]
    for k in range(modes):
        out[k] = 0.0 * y[k]
    for tau in range(types):
        row = 4 + types + tau * modes
        margin = 0.0 * y[0]
        for k in range(modes):
            margin += params[row + k] * math.exp(y[k])
        force = depth * params[4 + tau] * (params[0] / (params[1] + math.exp(margin)) + params[2] * (1.0 - margin))
        for k in range(modes):
            out[k] += params[row + k] * force
    for k in range(modes):
        out[k] *= math.exp((1.0 - 2.0 / depth) * y[k])


@njit_on_disk()
def imbalanced(t: Any, y: Any, params: Any, out: Any) -> None:
    """Two factors: the margin is a e^y + b e^-y, which is C/2 sinh y, or e^y for a balanced mode."""
    modes = len(y)
    types = (len(params) - 4 - 2 * modes) // (modes + 1)
    a = 4 + types * (modes + 1)
    for k in range(modes):
        out[k] = 0.0 * y[k]
    for tau in range(types):
        row = 4 + types + tau * modes
        margin = 0.0 * y[0]
        for k in range(modes):
            grown = math.exp(y[k])
            margin += params[row + k] * (params[a + k] * grown + params[a + modes + k] / grown)
        force = 2.0 * params[4 + tau] * (params[0] / (params[1] + math.exp(margin)) + params[2] * (1.0 - margin))
        for k in range(modes):
            out[k] += params[row + k] * force
