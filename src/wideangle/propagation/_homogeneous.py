r"""One neuron of a piecewise linear activation: :math:`\phi(x) = x` for x > 0, slope times x for x < 0."""

from __future__ import annotations

from wideangle.activations import Activation


def slope_moment(phi: Activation) -> float:
    r"""Return :math:`E[\phi'(g)^2] = E[\phi(g)^2] = (1 + a^2)/2` for slope a and a standard normal g."""
    return 0.5 * (1.0 + phi.slope**2)


def slope_kurtosis(phi: Activation) -> float:
    r"""Return :math:`E[\phi'(G)^4] / E[\phi'(G)^2]^2 = 2(1 + a^4)/(1 + a^2)^2`: 2 for ReLU, 1 for abs and linear.

    The squared length of n neurons, :math:`\sum_i \phi'(g_i)^2 g_i^2`, has relative variance
    :math:`(3\kappa - 1)/n` with this :math:`\kappa`.
    """
    # Slopes a and 1/a differ by a scale and by swapping the sides, and the smaller does not overflow.
    square = min(abs(phi.slope), 1.0 / abs(phi.slope)) ** 2 if phi.slope else 0.0
    return 2.0 * (1.0 + square**2) / (1.0 + square) ** 2
