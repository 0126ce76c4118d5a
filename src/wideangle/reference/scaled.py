"""Networks under a width scaling in PyTorch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import (
    MAX_WIDTH,
    check_choice,
    check_integer,
    check_positive_real,
    check_real,
    check_seed,
)
from wideangle.activations import Activation, parse_activation
from wideangle.reference._torch import WEIGHTS, generator, require_torch
from wideangle.scalings import Scaling, check_scaling

Array = NDArray[np.float64]

if TYPE_CHECKING:
    from wideangle.reference.scaled_modules import ScaledMLP, ScaledOptimizer


def build_scaled_mlp(
    scaling: Scaling,
    width: int,
    *,
    n_inputs: int,
    n_outputs: int,
    seed: int,
    activation: str | Activation = "relu",
    weight_variance: float | None = None,
    weight_mean: float = 1.0,
) -> ScaledMLP:
    r"""Build a network with the initial weights and multipliers of a width scaling.

    Parameters
    ----------
    scaling
        With the number of hidden layers, such as ``wideangle.parametrization.scaling("mup", 3)``.
    width
        Width m of all hidden layers.
    n_inputs, n_outputs
        Dimensions of the input and of the output.
    seed
        Seed of the weights, 0 <= seed < 2**64. PyTorch's global generator is neither used nor advanced.
    activation
        Name of the activation, as for :class:`wideangle.MLP`; default ``"relu"``.
    weight_variance
        Of the entries of U, over ``n_inputs`` in the first layer; 1 in the output layer. The default is as in
        :func:`wideangle.parametrization.predict_first_step`: 2 for ReLU, 4 for GELU and SiLU, 1 for tanh, ELU and sin,
        16 for sigmoid.
    weight_mean
        Of the entries of U of layers 2 to L + 1 under scalings that are not centered; default 1.

    Returns
    -------
    torch.nn.Module
        Maps x (sample, feature) to the output (sample, unit), in float32. ``preactivations(x)`` returns those of all
        layers. Initial biases, where the scaling has random ones, are standard normal, times their power of the width.

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    TypeError, ValueError
        If an argument is of the wrong type or out of range.

    Notes
    -----
    Hajjar, Chizat and Giraud, arXiv 2110.15596.

    Examples
    --------
    >>> import wideangle as wa
    >>> mup = wa.parametrization.scaling("mup", 2)
    >>> model = wa.reference.build_scaled_mlp(mup, 256, n_inputs=64, n_outputs=10, seed=1)
    >>> [tuple(weight.shape) for weight in model.weights]
    [(256, 64), (256, 256), (10, 256)]
    """
    check_scaling("scaling", scaling)
    width = check_integer("width", width, low=1, high=MAX_WIDTH, remedy="give the width of the hidden layers")
    n_inputs = check_integer("n_inputs", n_inputs, low=1, high=2**31, remedy="give the number of features of a sample")
    n_outputs = check_integer("n_outputs", n_outputs, low=1, high=2**31, remedy="give the number of outputs")
    seed = check_seed(seed)
    phi = parse_activation(activation)
    variance = phi.gradient_preserving_variance
    if weight_variance is not None:
        variance = check_variance(weight_variance)
    mean = check_real("weight_mean", weight_mean, remedy="give a number, such as 1.0")
    require_torch()
    import torch

    from wideangle.reference.modules import activation_module
    from wideangle.reference.scaled_modules import ScaledMLP, power

    rng = generator(seed, WEIGHTS)
    sizes = (n_inputs, *(width,) * scaling.n_hidden, n_outputs)
    weights, biases = [], []
    for layer, (inputs, units) in enumerate(itertools.pairwise(sizes)):
        spread = math.sqrt(variance / n_inputs if layer == 0 else 1.0 if layer == scaling.n_hidden else variance)
        weight = torch.randn((units, inputs), generator=rng) * spread
        if layer > 0 and not scaling.centered:
            weight += mean
        weights.append(weight * power(width, -scaling.b[layer]))
        if scaling.biases != "none":
            start = torch.randn(units, generator=rng) if scaling.biases == "random" else torch.zeros(units)
            biases.append(start * power(width, -scaling.bias_b[layer]))
    module = torch.nn.Identity() if phi.name == "linear" else activation_module(phi)
    return ScaledMLP(scaling, width, weights, biases, module)


def scaled_optimizer(
    model: ScaledMLP,
    *,
    learning_rate: float,
    optimizer: Literal["sgd", "adam"] = "sgd",
    first_learning_rate: float | Sequence[float] | None = None,
) -> ScaledOptimizer:
    r"""Make an optimizer that steps with the learning rates of a network's scaling.

    Parameters
    ----------
    model
        From :func:`build_scaled_mlp`.
    learning_rate
        :math:`\eta`, which each layer has times a power of the width.
    optimizer
        ``"sgd"`` (default) or ``"adam"``, with PyTorch's betas, and an eps of 1e-19. Gradients down to 1e-18 make
        full steps, which is enough for integrable networks of eight layers of width 1,000; smaller ones make smaller
        steps.
    first_learning_rate
        That of the first step, or one for each of the L + 1 layers; default the same.

    Returns
    -------
    ScaledOptimizer
        With ``zero_grad()``, ``step()``, ``learning_rates()`` of the next step, and ``n_steps``. After the first step
        it takes the initial weights of inner layers out if the scaling drops them.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Examples
    --------
    >>> import torch
    >>> import wideangle as wa
    >>> llr = wa.parametrization.scaling("ip-llr", 2)
    >>> model = wa.reference.build_scaled_mlp(llr, 100, n_inputs=4, n_outputs=1, seed=1)
    >>> optimizer = wa.reference.scaled_optimizer(model, learning_rate=0.1)
    >>> [round(rate) for rate in optimizer.learning_rates()]
    [100, 1000, 100]
    >>> model(torch.ones(1, 4)).sum().backward()
    >>> optimizer.step()
    >>> [round(rate) for rate in optimizer.learning_rates()]
    [10, 1000, 10]
    """
    require_torch()
    from wideangle.reference.scaled_modules import ScaledMLP, ScaledOptimizer

    if not isinstance(model, ScaledMLP):
        raise TypeError(
            f"model must be a network from wideangle.reference.build_scaled_mlp, got {type(model).__name__}"
        )
    kind = check_choice("optimizer", optimizer, ("sgd", "adam"))
    rate = check_rate("learning_rate", learning_rate)
    own = rate if first_learning_rate is None else first_learning_rate
    first = check_layer_rates("first_learning_rate", own, len(model.weights))
    return ScaledOptimizer(model, kind, rate, first)


def train_steps(
    model: ScaledMLP, samples: Array, points: Array, descent: Callable[[int, Array], Array], n_steps: int
) -> Array:
    r"""Take steps of full-batch gradient descent and return the outputs after each.

    Parameters
    ----------
    model
        Changed in place.
    samples, points
        What is learnt from (sample, feature), and where outputs are returned for (input, feature).
    descent
        Takes the number of steps taken and outputs (sample, unit), and returns minus the derivative of the loss by
        them, times the learning rate.
    n_steps
        Number of steps.

    Returns
    -------
    numpy.ndarray
        Outputs (step, input, unit), float64.
    """
    import torch

    inputs, shown = (torch.tensor(array, dtype=torch.float32) for array in (samples, points))
    optimizer = scaled_optimizer(model, learning_rate=1.0)
    outputs = []
    for step in range(n_steps):
        optimizer.zero_grad()
        current = model(inputs)
        force = descent(step, current.detach().numpy().astype(np.float64))
        current.backward(torch.tensor(-force, dtype=torch.float32))
        optimizer.step()
        with torch.no_grad():
            outputs.append(model(shown).numpy())
    return np.array(outputs, np.float64)


def check_layer_rates(name: str, value: Any, n_layers: int) -> tuple[float, ...]:
    """Return the learning rate of each layer, given one for all or one for each."""
    if np.ndim(value) == 0:
        return (check_rate(name, value),) * n_layers
    if len(value) != n_layers:
        raise ValueError(
            f"{name} must be a number or one for each of {n_layers} layers, got {len(value)}; give one for every "
            "hidden layer and one for the output layer"
        )
    return tuple(check_rate(f"{name}[{place}]", rate) for place, rate in enumerate(value))


def check_variance(value: Any) -> float:
    """Return the variance of the entries of U, or raise."""
    return check_positive_real("weight_variance", value, remedy="give a positive variance, such as 2.0")


def check_rate(name: str, value: Any) -> float:
    """Return a positive learning rate, or raise."""
    return check_positive_real(name, value, remedy="give a positive learning rate, such as 0.1")
