r"""The exact law of the angle after one random ReLU layer of finite width, new here.

The expectation of a function of the next angle is that of its representation in the frame of
:mod:`wideangle.propagation._frame`, and those expectations are double integrals of an analytic, rapidly decaying
function (:mod:`wideangle.propagation._layer_transform`), so everything converges exponentially. Beyond a width of 512
the expansion in 1/n to fifth order, whose relative error is below 1e-9 there, takes the place of the integrals.
"""

from __future__ import annotations

from functools import cached_property, lru_cache

import numpy as np

from wideangle.propagation._composition import Layer, expanded_layer
from wideangle.propagation._expansion import expand_cumulants
from wideangle.propagation._frame import HALF_PI, mode_frame, mode_nodes, modes, power_frame
from wideangle.propagation._layer_transform import expected_members, survival
from wideangle.propagation.rules import Array, log_sin2_of_angle, small_angle_rule

# More would need the frame to more digits than the integrals give.
_N_MODES = 21
_WIDEST = 512
_MAX_WIDTH = 2**31
_ORDER = 5
# The last term of a series that is trusted, relative to its sum.
_SMALL_TERM = 1e-9
# Small widths have pairs of neurons that are all but parallel, and with them long tails of X: for widths up to the
# first number, the least epsilon for any angle and for obtuse ones.
_LONG_TAILS = ((24, 1e-36, 1e-24), (39, 1e-26, 1e-18), (_MAX_WIDTH, 1e-20, 1e-14))


def exact_layer(width: int) -> Layer:
    """Return the exact law of a layer of ``width`` >= 2 neurons; layers of equal width share their integrals."""
    return _wide_layer(width) if width > _WIDEST else _integrated_layer(width)


@lru_cache(maxsize=64)
def _integrated_layer(width: int) -> IntegratedLayer:
    return IntegratedLayer(width)


@lru_cache(maxsize=64)
def _wide_layer(width: int) -> WideLayer:
    return WideLayer(width)


class IntegratedLayer:
    """A layer whose expectations are integrals."""

    def __init__(self, width: int) -> None:
        self.width = width
        # The least epsilon of the frames: pairs nearer to parallel than its root have a probability below 1e-11.
        self._smallest, self._smallest_obtuse = next(values for most, *values in _LONG_TAILS if width <= most)

    def rows(self, theta: float) -> Array:
        nodes, _ = mode_nodes(_N_MODES)
        if theta < nodes[1]:
            interpolated: Array = modes(np.array([theta]), _N_MODES)[0] @ self.operators()
            return interpolated
        return self._integrate(theta)

    def operators(self) -> Array:
        return self._operators

    def moments(self, theta: float) -> tuple[float, float]:
        if theta > HALF_PI:
            return self._obtuse_moments(theta)
        alive, first, second = self.rows(theta)[:, 0]
        mean = float(first / alive)
        return mean, float(second / alive) - mean**2

    def _obtuse_moments(self, theta: float) -> tuple[float, float]:
        """Return mean and variance of X itself to relative accuracy, small as they are near pi."""
        alive = survival(theta, self.width)
        raw = []
        for exponent in (1, 2):
            frame = power_frame(exponent, self._smallest_obtuse)
            members = expected_members(theta, self.width, frame.power, frame.epsilon)
            raw.append(float(frame.weights[0] @ members) / alive)
        return raw[0], raw[1] - raw[0] ** 2

    def _integrate(self, theta: float) -> Array:
        frame = mode_frame(_N_MODES, self._smallest)
        members = expected_members(theta, self.width, frame.power, frame.epsilon)
        raw = (frame.weights @ members).reshape(3, _N_MODES)
        raw[0] += survival(theta, self.width) * modes(np.array([HALF_PI]), _N_MODES)[0]
        if theta > HALF_PI:
            return raw
        # Powers of D = ln sin^2 theta' - ln sin^2 theta.
        origin = float(log_sin2_of_angle(np.float64(theta)))
        return np.stack([raw[0], raw[1] - origin * raw[0], raw[2] - 2.0 * origin * raw[1] + origin**2 * raw[0]])

    @cached_property
    def _operators(self) -> Array:
        nodes, matrix = mode_nodes(_N_MODES)
        rows = np.zeros((3, _N_MODES, _N_MODES))
        # At angle 0 the next angle is 0 and D has the law of Bartlett's decomposition.
        mean, variance = small_angle_rule(self.width)
        rows[:, 0, 0] = survival(0.0, self.width) * np.array([1.0, mean, variance + mean**2])
        for index, theta in enumerate(nodes[1:], start=1):
            rows[:, index] = self._integrate(float(theta))
        operators: Array = matrix @ rows
        return operators


class WideLayer:
    """A layer so wide that the expansion in 1/n has nine digits, except where few neurons are active on both inputs."""

    def __init__(self, width: int) -> None:
        self._expanded = expanded_layer(width, _ORDER)
        self._integrated = IntegratedLayer(width)

    def rows(self, theta: float) -> Array:
        return self._choose(theta).rows(theta)

    def operators(self) -> Array:
        return self._expanded.operators()

    def moments(self, theta: float) -> tuple[float, float]:
        return self._choose(theta).moments(theta)

    def _choose(self, theta: float) -> Layer:
        if theta <= HALF_PI:
            return self._expanded
        terms = expand_cumulants(np.array([theta]), _ORDER)[:2, :, 0] * float(self._expanded.width) ** -np.arange(6.0)
        converged = np.all(np.abs(terms[:, -1]) < _SMALL_TERM * np.abs(terms.sum(axis=1)))
        return self._expanded if converged else self._integrated
