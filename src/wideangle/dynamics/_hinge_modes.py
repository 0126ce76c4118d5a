"""Coupled modes under the hinge, exactly: a sample pushes with a constant force until its margin is 1.

Between two such moments every mode grows in closed form. Features that are not negative make all margins increase, so
that a sample that has reached 1 never comes back, and a trajectory has at most as many pieces as there are types.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Grow = Callable[[Array, Array], Array]


def grow_linear(start: Array, drive: Array) -> Array:
    """Return margins of one factor after a drive, the integral of the force."""
    return start + drive


def grow_balanced(start: Array, drive: Array) -> Array:
    """Return margins of two equal factors."""
    return np.where(start == 0.0, 0.0, start * np.exp(2.0 * np.sign(start) * drive))


def grow_imbalanced(imbalance: Array) -> Grow:
    """Return the growth of two factors with C, a row for each trajectory."""

    def grow(start: Array, drive: Array) -> Array:
        size = np.abs(imbalance[: len(start)])
        safe = np.where(size > 0.0, size, 1.0)
        # sinh(x + d) from sinh x = 2 m/C: no difference of large numbers for positive margins.
        hyperbolic = start * np.cosh(2.0 * drive) + 0.5 * np.hypot(size, 2.0 * start) * np.sinh(2.0 * drive)
        small = 0.5 * safe * np.sinh(np.arcsinh(2.0 * start / safe) + 2.0 * drive)
        return np.where(size > 0.0, np.where(start < 0.0, small, hyperbolic), grow_balanced(start, drive))

    return grow


def grow_deep(depth: int) -> Grow:
    """Return the growth of a balanced chain of more than two factors; infinite after the time at which it diverges."""
    power = 1.0 - 2.0 / depth

    def grow(start: Array, drive: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            # m^-power falls linearly; in units of its start, which may be beyond the range of floats.
            left = 1.0 - depth * power * drive * start**power
            return np.where(start > 0.0, start * np.maximum(left, 0.0) ** (-1.0 / power), 0.0)

    return grow


def integrate_hinge(features: Array, probabilities: Array, margins0: Array, times: Array, grow: Grow) -> Array:
    """Return margins (trajectory, mode, time) from time 0 on.

    ``features`` (type, mode), ``probabilities`` (trajectory, type), ``margins0`` (trajectory, mode). ``grow`` maps
    margins and drives (trajectory, mode) to margins.
    """
    now = margins0.copy()
    clock = np.zeros(len(now))
    result = np.repeat(now[:, :, None], len(times), axis=2)
    pushing = now @ features.T < 1.0
    for _ in range(len(features) + 1):
        force = (pushing * probabilities) @ features
        wait = _first_time(features, now, force, pushing, grow)
        until = clock + wait
        for k, time in enumerate(times):
            inside = (time >= clock) & (time <= until)
            if np.any(inside):
                elapsed = np.where(inside, time - clock, 0.0)
                result[:, :, k] = np.where(inside[:, None], grow(now, elapsed[:, None] * force), result[:, :, k])
        moving = np.isfinite(wait)
        if not np.any(moving):
            return result
        now = np.where(moving[:, None], grow(now, np.where(moving, wait, 0.0)[:, None] * force), now)
        clock = until
        pushing &= ~_reached(features, now, pushing, moving)
    return result


def _reached(features: Array, margins: Array, pushing: Mask, moving: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the types that are at 1 now: those within rounding of the largest of those that push."""
    values = np.where(pushing, margins @ features.T, -np.inf)
    reached: Mask = moving[:, None] & (values >= 1.0 - 1e-12)
    return reached


def _first_time(features: Array, start: Array, force: Array, pushing: Mask, grow: Grow) -> Array:
    """Return the time until the first of the pushing types has a margin of 1, infinite if none ever has."""

    def excess(wait: Array) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):
            values = grow(start, wait[:, None] * force) @ features.T
        worst: Array = np.max(np.where(pushing, values, -np.inf), axis=1) - 1.0
        return worst

    with np.errstate(over="ignore", invalid="ignore"):
        movable = grow(start, np.where(force > 0.0, 1e300, 0.0)) != start
    moves = movable.any(axis=1) & pushing.any(axis=1)
    low, high = np.zeros(len(start)), np.ones(len(start))
    for _ in range(1100):
        short = moves & (excess(high) < 0.0)
        if not np.any(short):
            break
        low, high = np.where(short, high, low), np.where(short, 2.0 * high, high)
        moves &= np.isfinite(high)
        high = np.where(moves, high, 1.0)
    for _ in range(1200):
        middle = low + 0.5 * (high - low)
        if not np.any(moves & (middle > low) & (middle < high)):
            break
        below = excess(middle) < 0.0
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.where(moves, high, np.inf)
