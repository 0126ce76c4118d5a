"""States of the form that training returns, from random weights."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr


def random_state(
    sizes: tuple[int, ...] = (2, 5, 1),
    *,
    n_networks: int = 3,
    times: tuple[float, ...] = (0.0, 0.5),
    activation: str = "tanh",
    loss: str = "cross-entropy",
    learning_rate: float = 0.1,
    n_samples: int = 4,
    weight_rates: tuple[float, ...] | None = None,
    bias_rates: tuple[float, ...] | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Networks with normal weights over the root of the fan-in and normal biases, another one at every time."""
    random = np.random.default_rng(seed)
    ones = [1.0] * (len(sizes) - 1)
    units = ["feature", *(f"unit_{layer}" for layer in range(1, len(sizes) - 1)), "output"]
    state = xr.Dataset(
        {
            "x": (("sample", "feature"), random.normal(size=(n_samples, sizes[0]))),
            "y": ("sample", random.choice([-1.0, 1.0], size=n_samples)),
        },
        {
            "network": 10 + np.arange(n_networks),
            "time": np.array(times),
            "step": ("time", np.rint(np.array(times) / learning_rate).astype(int)),
        },
        {
            "activation": activation,
            "loss": loss,
            "learning_rate": learning_rate,
            "weight_rates": ones if weight_rates is None else list(weight_rates),
            "bias_rates": ones if bias_rates is None else list(bias_rates),
        },
    )
    leading = (n_networks, len(times))
    for layer, (inputs, outputs) in enumerate(itertools.pairwise(sizes), start=1):
        below, here = units[layer - 1], units[layer]
        weights = random.normal(size=(*leading, outputs, inputs)) / np.sqrt(inputs)
        state[f"weights_{layer}"] = (("network", "time", here, below), weights)
        state[f"biases_{layer}"] = (("network", "time", here), random.normal(size=(*leading, outputs)))
    return state


@pytest.fixture
def make_state() -> Callable[..., xr.Dataset]:
    return random_state


@pytest.fixture
def layers_of() -> Callable[[xr.Dataset], list[tuple[Any, Any]]]:
    """Give the weights and biases of each layer of a selection of one network, as arrays."""

    def layers(state: xr.Dataset) -> list[tuple[Any, Any]]:
        number = sum(str(name).startswith("weights_") for name in state)
        return [(state[f"weights_{layer}"].values, state[f"biases_{layer}"].values) for layer in range(1, number + 1)]

    return layers
