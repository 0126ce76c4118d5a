"""Sizes of what a few steps of training do to each layer of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from wideangle.reference.scaled_modules import ScaledMLP, power

Array = NDArray[np.float64]


class Layers(Protocol):
    """A network whose layers are looked at; the last layer's outputs are the network's."""

    weights: Sequence[torch.Tensor]
    entering: Sequence[torch.Tensor]
    outputs: Sequence[torch.Tensor]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output, and keep what enters and leaves each layer."""

    def apply(self, layer: int, weight: torch.Tensor) -> torch.Tensor:
        """Return what a layer of these weights and no bias makes of what entered it last."""

    def output_bias(self) -> torch.Tensor | float:
        """Return what the bias of the last layer adds to it."""


class ScaledLayers:
    """The layers of a network under a scaling."""

    def __init__(self, model: ScaledMLP) -> None:
        self.model, self.weights = model, list(model.weights)
        self.entering: list[torch.Tensor] = []
        self.outputs: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output, and keep what enters and leaves each layer."""
        self.outputs = self.model.preactivations(x)
        with torch.no_grad():
            self.entering = [x, *(self.model.activation(z) for z in self.outputs[:-1])]
        return self.outputs[-1]

    def apply(self, layer: int, weight: torch.Tensor) -> torch.Tensor:
        """Return what a layer of these weights and no bias makes of what entered it last."""
        multiplier = power(self.model.width, -self.model.scaling.a[layer])
        return torch.nn.functional.linear(self.entering[layer], weight) * multiplier

    def output_bias(self) -> torch.Tensor | float:
        """Return what the bias of the last layer adds to it."""
        if len(self.model.biases) == 0:
            return 0.0
        return self.model.biases[-1].detach().clone() * power(self.model.width, -self.model.scaling.bias_a[-1])


def record_steps(
    network: Layers, x: torch.Tensor, y: torch.Tensor, optimizer: Any, n_steps: int
) -> Array:
    """Train on one batch and return root mean squares (quantity, step, layer) at the start and after each step.

    Quantities are those of :func:`wideangle.parametrization.coordinate_check`: size, change and update. Of a network
    that diverges they are infinite from there on.
    """
    records = np.full((3, n_steps + 1, len(network.weights)), np.inf)
    for step in range(n_steps + 1):
        output = network.forward(x)
        with torch.no_grad():
            if step == 0:
                starts = [weight.detach().clone() for weight in network.weights]
                first = [z.detach().clone() for z in network.outputs]
                bias = network.output_bias()
            records[:, step] = _measure(network, first, starts, bias)
        loss = torch.nn.functional.cross_entropy(output, y)
        if step == n_steps or not torch.isfinite(loss):
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return np.where(np.isfinite(records), records, np.inf)


def _measure(network: Layers, first: list[torch.Tensor], starts: list[torch.Tensor], bias: Any) -> Array:
    sizes, changes, updates = [], [], []
    for layer, (z, before, weight, start) in enumerate(
        zip(network.outputs, first, network.weights, starts, strict=True)
    ):
        change = z - before
        if layer == len(starts) - 1:
            change = change - (network.output_bias() - bias)
        sizes.append(_size(z))
        changes.append(_size(change))
        updates.append(_size(network.apply(layer, weight - start)))
    return np.array([sizes, changes, updates])


def _size(values: torch.Tensor) -> float:
    return float(values.detach().square().mean().sqrt())
