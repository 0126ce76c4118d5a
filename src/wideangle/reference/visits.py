"""Training of a network on given samples with given labels, visit by visit.

Imports PyTorch: only for import within functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from wideangle.network import NetworkWeights
from wideangle.reference.conversion import to_torch
from wideangle.reference.module_responses import BINARY_LOSSES

Array = NDArray[np.float64]


class Rates(NamedTuple):
    """Learning rates of the weights and of the biases of each layer."""

    weights: Sequence[float]
    biases: Sequence[float]

    def times(self, factor: float) -> Rates:
        """Return the rates with a common factor."""
        return Rates([factor * rate for rate in self.weights], [factor * rate for rate in self.biases])


class Visits(NamedTuple):
    """Samples (step, batch) and their labels (step, batch) in each step; -1 fills up smaller batches."""

    samples: NDArray[np.int64]
    labels: Array


class Record(NamedTuple):
    """Parameters, layer by layer weights row by row and then biases, and outputs (sample)."""

    parameters: Array
    outputs: Array


def train_on_visits(
    network: NetworkWeights, rates: Rates, loss: str, x: Array, visits: Visits, records: Sequence[int]
) -> list[Record]:
    """Train a network of one output with biases by gradient descent, and return what it is after some of the steps."""
    model = to_torch(network, dtype="float64")
    optimizer = _optimizer(model, rates)
    inputs, labels = torch.tensor(x), torch.tensor(visits.labels)
    found = []
    for step in range(records[-1] + 1):
        if step in records:
            found.append(_record(model, inputs))
        if step == records[-1]:
            break
        here = visits.samples[step] >= 0
        _descend(model, optimizer, loss, inputs[torch.tensor(visits.samples[step][here])], labels[step][here])
    return found


def step_and_return(
    network: NetworkWeights,
    rates: Rates,
    loss: str,
    x: Array,
    y: Array,
    probes: Array,
    learning_rates: Sequence[float],
) -> Array:
    """Return the changes (learning rate, sample, probe) of the outputs in a step on one sample, over the learning rate.

    Each step is taken from the network as it is given.
    """
    inputs, labels, at = torch.tensor(x), torch.tensor(y), torch.tensor(probes)
    result = np.empty((len(learning_rates), len(x), len(probes)))
    start = _record(to_torch(network, dtype="float64"), at).outputs
    for place in np.ndindex(result.shape[:2]):
        rate, sample = learning_rates[place[0]], slice(place[1], place[1] + 1)
        model = to_torch(network, dtype="float64")
        _descend(model, _optimizer(model, rates.times(rate)), loss, inputs[sample], labels[sample])
        result[place] = (_record(model, at).outputs - start) / rate
    return result


def _optimizer(model: torch.nn.Sequential, rates: Rates) -> torch.optim.SGD:
    layers = [layer for layer in model if isinstance(layer, torch.nn.Linear)]
    groups = []
    for layer, of_weights, of_biases in zip(layers, rates.weights, rates.biases, strict=True):
        groups += [{"params": [layer.weight], "lr": of_weights}, {"params": [layer.bias], "lr": of_biases}]
    return torch.optim.SGD(groups, lr=0.0)


def _descend(
    model: torch.nn.Sequential, optimizer: torch.optim.SGD, loss: str, x: torch.Tensor, y: torch.Tensor
) -> None:
    optimizer.zero_grad()
    torch.autograd.backward(BINARY_LOSSES[loss](model(x), y).mean())
    optimizer.step()


def _record(model: torch.nn.Sequential, x: torch.Tensor) -> Record:
    with torch.no_grad():
        parameters = torch.nn.utils.parameters_to_vector(model.parameters())
        return Record(parameters.numpy().copy(), model(x)[:, 0].numpy())
