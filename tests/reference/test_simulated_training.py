"""Ensembles in training, against SGD in PyTorch from the same weights through the same samples and labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import wideangle as wa
from wideangle.response._training_results import samples_met

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(23)
FUNCTIONS = {
    "relu": torch.nn.ReLU(),
    "tanh": torch.nn.Tanh(),
    "gelu": torch.nn.GELU(),
    "silu": torch.nn.SiLU(),
    "leaky_relu(0.2)": torch.nn.LeakyReLU(0.2),
}
LOSSES = {
    "cross-entropy": lambda f, y: torch.nn.functional.softplus(-y * f).mean(),
    "hinge": lambda f, y: torch.relu(1.0 - y * f).mean(),
    "squared": lambda f, y: 0.5 * torch.nn.functional.mse_loss(f, y),
    "exponential": lambda f, y: torch.exp(-y * f).mean(),
}


def module_of(state: Any, activation: str) -> Any:
    """The network of a state without network and time, as a module in float64."""
    layers: list[Any] = []
    depth = sum(str(name).startswith("weights_") for name in state)
    for layer in range(1, depth + 1):
        weights = state[f"weights_{layer}"].values
        linear = torch.nn.Linear(weights.shape[1], weights.shape[0], dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(weights))
            linear.bias.copy_(torch.tensor(state[f"biases_{layer}"].values))
        layers += [linear, FUNCTIONS[activation]]
    return torch.nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("widths", "activation", "options"),
    [
        ((20,), "relu", {"batch": 1}),
        ((20,), "tanh", {"batch": 1, "noise": 0.2}),
        ((20,), "gelu", {"batch": 4}),
        ((20,), "silu", {"batch": 5, "replacement": False, "noise": 0.1}),
        ((20,), "leaky_relu(0.2)", {"batch": "full"}),
        ((8, 6), "relu", {"batch": 1}),
        ((8, 6), "tanh", {"batch": "full", "noise": 0.1}),
    ],
    ids=str,
)
def test_hundreds_of_steps_are_those_of_sgd(
    widths: tuple[int, ...], activation: str, options: dict[str, Any], loss: str
) -> None:
    n_steps, rate = 400, {"exponential": 0.001, "squared": 0.005}.get(loss, 0.02)
    x = RNG.normal(size=(12, 2))
    y = RNG.normal(size=12) if loss == "squared" else RNG.choice([-1.0, 1.0], size=12)
    net = wa.MLP(widths, activation=activation, bias_variance=0.5)
    state = wa.response.simulate_training(
        net, (x, y), n_networks=9, n_steps=n_steps, learning_rate=rate, loss=loss, seed=4, record=100, **options
    )
    assert (state.status == 0).all()
    indices, labels = samples_met(state)
    for k in (0, 8):
        network = state.isel(network=k)
        module = module_of(network.isel(time=0), activation)
        optimizer = torch.optim.SGD(module.parameters(), lr=rate)
        for step in range(n_steps):
            met = indices[k, step] >= 0
            optimizer.zero_grad()
            outputs = module(torch.tensor(x[indices[k, step][met]]))[:, 0]
            LOSSES[loss](outputs, torch.tensor(labels[k, step][met])).backward()
            optimizer.step()
            if (step + 1) % 100 == 0:
                record = network.isel(time=(step + 1) // 100)
                with torch.no_grad():
                    expected = module(torch.tensor(x))[:, 0].numpy()
                np.testing.assert_allclose(record.outputs, expected, rtol=0, atol=1e-10)
                linears = [part for part in module if isinstance(part, torch.nn.Linear)]
                for layer, linear in enumerate(linears, start=1):
                    weights, biases = linear.weight.detach().numpy(), linear.bias.detach().numpy()
                    np.testing.assert_allclose(record[f"weights_{layer}"], weights, rtol=0, atol=1e-10)
                    np.testing.assert_allclose(record[f"biases_{layer}"], biases, rtol=0, atol=1e-10)
        assert np.abs(network.weights_1.isel(time=-1) - network.weights_1.isel(time=0)).max() > 1e-3
