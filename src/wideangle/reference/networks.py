"""Random networks in PyTorch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from wideangle._checks import check_flag, check_integer, check_seed
from wideangle.network import MLP
from wideangle.reference._torch import WEIGHTS, generator, require_torch

if TYPE_CHECKING:
    import torch


def build_mlp(
    widths: Iterable[int],
    *,
    n_inputs: int,
    n_outputs: int,
    seed: int,
    weight_variance: float = 2.0,
    bias: bool = False,
) -> torch.nn.Sequential:
    r"""Build a ReLU network with independent normal weights.

    Parameters
    ----------
    widths
        Widths :math:`n_1 \dots n_L` of the hidden layers.
    n_inputs, n_outputs
        Dimensions of the input, :math:`n_0`, and of the output.
    seed
        Seed of the weights, 0 <= seed < 2**64. PyTorch's global generator is neither used nor advanced. The weights
        are the same for the same seed and version of PyTorch.
    weight_variance
        :math:`\sigma_w^2 > 0`, default 2 (He initialisation).
    bias
        Whether layers have biases, which start at zero; default False. Weights do not depend on it.

    Returns
    -------
    torch.nn.Sequential
        Linear layers with a ReLU after each but the last, in float32. A weight of hidden layer :math:`l` has variance
        :math:`\sigma_w^2 / n_{l-1}`, as in arXiv:2302.09712. A weight of the output layer has variance
        :math:`1 / n_L`, so that with the default, inputs of unit mean square give outputs of unit mean square.

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    TypeError, ValueError
        If an argument is of the wrong type or out of range.

    Examples
    --------
    >>> import wideangle as wa
    >>> model = wa.reference.build_mlp((30,) * 3, n_inputs=64, n_outputs=10, seed=1)
    >>> sum(weight.numel() for weight in model.parameters())
    4020
    """
    net = MLP(widths, weight_variance=weight_variance)
    n_inputs = check_integer("n_inputs", n_inputs, low=1, high=2**31, remedy="give the number of features of a sample")
    n_outputs = check_integer("n_outputs", n_outputs, low=1, high=2**31, remedy="give the number of classes")
    check_seed(seed)
    bias = check_flag("bias", bias)
    require_torch()
    import torch

    rng = generator(seed, WEIGHTS)
    sizes = (n_inputs, *net.widths, n_outputs)
    layers: list[torch.nn.Module] = []
    for position, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        variance = net.weight_variance if position < net.depth else 1.0
        # PyTorch's own initialisation would draw from the global generator.
        layer = torch.nn.Linear(n_in, n_out, bias=bias, device="meta").to_empty(device="cpu")
        torch.nn.init.normal_(layer.weight, std=math.sqrt(variance / n_in), generator=rng)
        if bias:
            torch.nn.init.zeros_(layer.bias)
        layers += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])
