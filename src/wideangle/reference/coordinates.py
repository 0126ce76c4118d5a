"""Sizes of what a few steps of training do to each layer of a network. Imports PyTorch: only for use in functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from wideangle.reference.scaled_modules import ScaledMLP, power

Array = NDArray[np.float64]


class Layers(Protocol):
    """A network whose layers with weights are looked at; the outputs of the last are the network's."""

    @property
    def weights(self) -> Sequence[torch.Tensor]:
        """Weights of the layers, as they are now."""

    @property
    def outputs(self) -> Sequence[torch.Tensor]:
        """Outputs of the layers in the last forward pass."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output, and keep what enters and leaves each layer."""

    def apply(self, layer: int, weight: torch.Tensor) -> torch.Tensor:
        """Return what a layer of these weights and no bias makes of what entered it last."""

    def output_bias(self) -> Any:
        """Return what the bias of the last layer adds to it, to be broadcast with the output."""


class Optimizer(Protocol):
    """What trains a network."""

    def zero_grad(self) -> None:
        """Forget the gradients."""

    def step(self) -> object:
        """Take a step."""


class ScaledLayers:
    """The layers of a network under a scaling."""

    def __init__(self, model: ScaledMLP) -> None:
        self.model = model
        self.weights: Sequence[torch.Tensor] = list(model.weights)
        self.outputs: Sequence[torch.Tensor] = []
        self._entering: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output, and keep what enters and leaves each layer."""
        self.outputs = self.model.preactivations(x)
        with torch.no_grad():
            self._entering = [x, *(self.model.activation(z) for z in self.outputs[:-1])]
        return self.outputs[-1]

    def apply(self, layer: int, weight: torch.Tensor) -> torch.Tensor:
        """Return what a layer of these weights and no bias makes of what entered it last."""
        multiplier = power(self.model.width, -self.model.scaling.a[layer])
        return torch.nn.functional.linear(self._entering[layer], weight) * multiplier

    def output_bias(self) -> Any:
        """Return what the bias of the last layer adds to it."""
        if len(self.model.biases) == 0:
            return 0.0
        return self.model.biases[-1].detach() * power(self.model.width, -self.model.scaling.bias_a[-1])


def record_steps(network: Layers, optimizer: Optimizer, x: torch.Tensor, y: torch.Tensor, n_steps: int) -> Array:
    """Train on one batch and return root mean squares (quantity, step, layer) at the start and after each step.

    The loss is logistic, of each output against all others: unlike that of the softmax its gradients do not sum to
    zero over the outputs, nor over samples of all classes, and no leading order cancels. The quantities are size,
    change and update of :func:`wideangle.parametrization.coordinate_check`, the output without its own bias. They are
    infinite from where training leaves the range of floats.
    """
    records = np.full((3, n_steps + 1, len(network.weights)), np.inf)
    starts = [weight.detach().clone() for weight in network.weights]
    first: list[torch.Tensor] = []
    for step in range(n_steps + 1):
        output = network.forward(x)
        with torch.no_grad():
            outputs = [*network.outputs[:-1], network.outputs[-1] - network.output_bias()]
            first = first or outputs
            records[:, step] = [
                [_size(z) for z in outputs],
                [_size(z - before) for z, before in zip(outputs, first, strict=True)],
                [_size(network.apply(layer, weight - starts[layer])) for layer, weight in enumerate(network.weights)],
            ]
        if step == n_steps or not np.all(np.isfinite(records[:, step])):
            break
        optimizer.zero_grad()
        loss = logistic_loss(output, y)
        torch.autograd.backward(loss)
        optimizer.step()
    return np.where(np.isfinite(records), records, np.inf)


def as_batch(x: NDArray[np.float32], y: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return samples in float64, and their labels."""
    return torch.tensor(x, dtype=torch.float64), torch.tensor(y)


def logistic_loss(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the mean over samples of the sum over outputs of the logistic loss against the label's one-hot code."""
    targets = torch.nn.functional.one_hot(y, output.shape[1]).to(output)
    losses = torch.nn.functional.binary_cross_entropy_with_logits(output, targets, reduction="none")
    return losses.sum(dim=1).mean()


def _size(values: torch.Tensor) -> float:
    return float(values.detach().square().mean().sqrt())
