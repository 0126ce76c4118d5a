"""Single-sample SGD of 2-20-1 ReLU networks in PyTorch: one network as one writes it, and a whole ensemble at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]
WIDTH = 20
RATE = 0.05


def eager_steps(x: Array, y: Array, n_steps: int) -> Any:
    """Train one network with ``torch.optim.SGD``, one sample a step."""
    generator = torch.Generator().manual_seed(1)
    network = torch.nn.Sequential(
        torch.nn.Linear(x.shape[1], WIDTH), torch.nn.ReLU(), torch.nn.Linear(WIDTH, 1)
    ).double()
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE)
    inputs, labels = torch.tensor(x), torch.tensor(y)
    for index in torch.randint(len(x), (n_steps,), generator=generator):
        optimizer.zero_grad()
        loss: Any = torch.nn.functional.softplus(-labels[index] * network(inputs[index])).sum()
        loss.backward()
        optimizer.step()
    return network


def vmap_steps(x: Array, y: Array, n_steps: int, n_networks: int, *, dtype: Any = torch.float64) -> Any:
    """Train an ensemble with ``torch.func.vmap`` of the gradient, a sample for each network in every step."""
    generator = torch.Generator().manual_seed(1)
    inputs, labels = torch.tensor(x, dtype=dtype), torch.tensor(y, dtype=dtype)
    shapes = ((WIDTH, x.shape[1]), (WIDTH,), (WIDTH,), ())
    parameters = tuple(torch.randn(n_networks, *shape, generator=generator, dtype=dtype) for shape in shapes)

    def loss(weights: Any, biases: Any, readout: Any, bias: Any, sample: Any, label: Any) -> Any:
        output = readout @ torch.relu(weights @ sample + biases) + bias
        return torch.nn.functional.softplus(-label * output)

    gradient: Any = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1, 2, 3)))
    with torch.no_grad():
        for chosen in torch.randint(len(x), (n_steps, n_networks), generator=generator):
            for parameter, slope in zip(parameters, gradient(*parameters, inputs[chosen], labels[chosen]), strict=True):
                parameter.sub_(slope, alpha=RATE)
    return parameters
