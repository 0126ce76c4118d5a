"""What a network is: widths, activation, variances. No weights, no framework."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from wideangle._checks import MAX_WIDTH, check_integer, check_real
from wideangle.activations import Activation, parse_activation


@dataclass(frozen=True, init=False, slots=True)
class MLP:
    r"""A fully connected network at initialisation.

    Hidden layer :math:`l = 1 \dots L` of width :math:`n_l` computes
    :math:`z^l = \sqrt{\sigma_w^2 / n_{l-1}}\, W^l \phi(z^{l-1}) + \sigma_b b^l` with independent standard normal
    weights and biases; the input takes the place of :math:`\phi(z^0)`.

    Parameters
    ----------
    widths
        Widths :math:`n_1 \dots n_L` of the hidden layers, each an integer from 1 to 2**31. The input and output
        dimensions are not part of it: angles at initialisation do not depend on them.
    activation
        Name of :math:`\phi`: ``"relu"`` (default), ``"leaky_relu"`` (slope 0.01 for negative values; another as in
        ``"leaky_relu(0.2)"``), ``"abs"``, ``"linear"``, ``"erf"``, ``"tanh"``, ``"gelu"`` (with the normal distribution
        function), ``"elu"`` (alpha 1), ``"silu"`` (swish) or ``"sin"``.
    weight_variance
        :math:`\sigma_w^2 > 0`, default 2 (He initialisation, which keeps the mean squared norm for ReLU).
    bias_variance
        :math:`\sigma_b^2 \ge 0`, default 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or outside the ranges above.

    Examples
    --------
    >>> import wideangle as wa
    >>> net = wa.MLP(widths=(256,) * 32)
    >>> net.depth, net.weight_variance
    (32, 2.0)
    """

    widths: tuple[int, ...]
    activation: str
    weight_variance: float
    bias_variance: float

    def __init__(
        self,
        widths: Iterable[int],
        *,
        activation: str | Activation = "relu",
        weight_variance: float = 2.0,
        bias_variance: float = 0.0,
    ) -> None:
        set_field = object.__setattr__
        set_field(self, "widths", check_widths("widths", widths))
        set_field(self, "activation", str(parse_activation(activation)))
        set_field(self, "weight_variance", _check_variance("weight_variance", weight_variance, zero_allowed=False))
        set_field(self, "bias_variance", _check_variance("bias_variance", bias_variance, zero_allowed=True))

    @property
    def depth(self) -> int:
        """Number of hidden layers L."""
        return len(self.widths)

    @property
    def phi(self) -> Activation:
        """The activation with its values and derivatives."""
        return parse_activation(self.activation)


def check_widths(name: str, widths: Any) -> tuple[int, ...]:
    """Return widths as a tuple of ints between 1 and 2**31."""
    remedy = "give the widths of the hidden layers as integers, such as (256,) * 32"
    if isinstance(widths, (str, bytes)) or not isinstance(widths, Iterable):
        raise TypeError(f"{name} must be a sequence of integers, got {widths!r} ({type(widths).__name__}); {remedy}")
    result = []
    for position, width in enumerate(widths):
        where = f"{name}[{position}]"
        # A fractional width is a wrong value rather than a wrong kind of thing: 256.0 reads as a number of neurons.
        if isinstance(width, float):
            raise ValueError(f"{where} must be an integer, got {width!r}; {remedy}")
        result.append(check_integer(where, width, low=1, high=MAX_WIDTH, remedy=remedy))
    if not result:
        raise ValueError(f"{name} must name at least one hidden layer, got {widths!r}; {remedy}")
    return tuple(result)


def _check_variance(name: str, value: Any, *, zero_allowed: bool) -> float:
    bound = "non-negative" if zero_allowed else "positive"
    remedy = f"give a {bound} variance, such as {0.0 if zero_allowed else 2.0}"
    result = check_real(name, value, remedy=remedy)
    if result < 0.0 or (result == 0.0 and not zero_allowed):
        raise ValueError(f"{name} must be {bound}, got {value!r}; {remedy}")
    return result
