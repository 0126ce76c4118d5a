"""Every step of training against NumPy and PyTorch: same weights, same samples, same labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import wideangle as wa
from wideangle.activations import ACTIVATIONS, parse_activation
from wideangle.losses import LOSSES
from wideangle.response._training_results import samples_met

RNG = np.random.default_rng(3)
Array = np.ndarray[Any, Any]


def labels_for(loss: str, n: int) -> Array:
    return RNG.normal(size=n) if loss == "squared" else RNG.choice([-1.0, 1.0], size=n)


def loss_slope(loss: str, f: float, y: float) -> float:
    """The derivative of each loss, written out."""
    if loss == "squared":
        return f - y
    if loss == "hinge":
        return -y if y * f < 1.0 else 0.0
    return -y * float(np.exp(-y * f)) / (1.0 + (float(np.exp(-y * f)) if loss == "cross-entropy" else 0.0))


class Descent:
    """Plain gradient descent of one network in NumPy, a sample at a time."""

    def __init__(self, state: Any, *, loss: str, rate: float) -> None:
        self.depth = sum(str(name).startswith("weights_") for name in state)
        self.weights = [state[f"weights_{layer}"].values.copy() for layer in range(1, self.depth + 1)]
        self.biases = [state[f"biases_{layer}"].values.copy() for layer in range(1, self.depth + 1)]
        self.rates = list(zip(state.attrs["weight_rates"], state.attrs["bias_rates"], strict=True))
        self.phi = parse_activation(state.attrs["activation"])
        self.loss, self.rate = loss, rate

    def gradients(self, x: Array, y: float) -> list[tuple[Array, Array]]:
        values, slopes = [x], []
        for weights, biases in zip(self.weights[:-1], self.biases[:-1], strict=True):
            z = weights @ values[-1] + biases
            values.append(self.phi.value(z))
            slopes.append(self.phi.derivative(z))
        f = float((self.weights[-1] @ values[-1] + self.biases[-1])[0])
        delta = np.array([loss_slope(self.loss, f, y)])
        result = []
        for layer in range(self.depth - 1, -1, -1):
            result.append((np.outer(delta, values[layer]), delta))
            if layer:
                delta = self.weights[layer].T @ delta * slopes[layer - 1]
        return result[::-1]

    def step(self, x: Array, y: Array) -> None:
        all_gradients = [self.gradients(row, label) for row, label in zip(x, y, strict=True)]
        for layer, (weight_rate, bias_rate) in enumerate(self.rates):
            by_weights = np.mean([gradients[layer][0] for gradients in all_gradients], axis=0)
            by_biases = np.mean([gradients[layer][1] for gradients in all_gradients], axis=0)
            self.weights[layer] -= self.rate * weight_rate * by_weights
            self.biases[layer] -= self.rate * bias_rate * by_biases


CASES = [
    {"batch": 1},
    {"batch": 1, "noise": 0.3},
    {"batch": 3},
    {"batch": 7, "noise": 0.2, "replacement": False},
    {"batch": 1, "replacement": False},
    {"batch": "full"},
    {"batch": "full", "noise": 0.4},
    {"batch": 1, "readout": "frozen"},
    {"batch": 2, "readout": "frozen"},
    {"batch": 1, "biases": False},
    {"batch": 2, "biases": False},
    {"batch": 1, "parametrization": "ntk"},
    {"batch": 5, "parametrization": "ntk"},
]


def check_against_numpy(
    net: wa.MLP, x: Array, y: Array, *, n_steps: int = 40, tolerance: float = 1e-12, **options: Any
) -> None:
    rate = (0.005 if options["loss"] == "exponential" else 0.05) * (4 if options.get("parametrization") == "ntk" else 1)
    state = wa.response.simulate_training(
        net, (x, y), n_networks=18, n_steps=n_steps, learning_rate=rate, seed=5, record=n_steps, **options
    )
    indices, labels = samples_met(state)
    assert indices.shape == (18, n_steps, len(x) if options["batch"] == "full" else options["batch"])
    for k in (0, 7, 8, 17):
        network = Descent(state.isel(network=k, time=0), loss=options["loss"], rate=rate)
        for samples, targets in zip(indices[k], labels[k], strict=True):
            met = samples >= 0
            network.step(x[samples[met]], targets[met])
        final = state.isel(network=k, time=-1)
        for layer in range(network.depth):
            for name, expected in (("weights", network.weights[layer]), ("biases", network.biases[layer])):
                found = final[f"{name}_{layer + 1}"].values
                np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(1.0, np.abs(expected).max()))
        if options.get("readout") == "frozen":
            assert (
                state[f"weights_{network.depth}"].isel(time=0) == state[f"weights_{network.depth}"].isel(time=-1)
            ).all()
        if options.get("biases") is False:
            assert all((state[f"biases_{layer + 1}"] == 0).all() for layer in range(network.depth))


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("loss", LOSSES)
def test_steps_are_those_of_numpy(loss: str, case: dict[str, Any]) -> None:
    x = RNG.normal(size=(10, 2))
    net = wa.MLP((11,), weight_variance=1.5, bias_variance=0.4)
    check_against_numpy(net, x, labels_for(loss, 10), loss=loss, **case)


@pytest.mark.parametrize("activation", [*ACTIVATIONS, "leaky_relu(-0.3)"])
@pytest.mark.parametrize("batch", [1, 6])
def test_every_activation_steps_as_numpy_does(activation: str, batch: int) -> None:
    x = RNG.normal(size=(9, 3))
    check_against_numpy(
        wa.MLP((5,), bias_variance=0.2),
        x,
        labels_for("hinge", 9),
        loss="cross-entropy",
        activation=activation,
        batch=batch,
    )


@pytest.mark.parametrize("features", [1, 2, 4, 5, 70])
@pytest.mark.parametrize("widths", [(1,), (4,), (6, 9), (3, 1, 5)])
@pytest.mark.parametrize("batch", [1, 4, 5, "full"])
def test_every_shape_steps_as_numpy_does(features: int, widths: tuple[int, ...], batch: int | str) -> None:
    x = RNG.normal(size=(11, features))
    net = wa.MLP(widths, activation="tanh", bias_variance=0.2)
    check_against_numpy(net, x, labels_for("squared", 11), loss="squared", batch=batch, n_steps=12)
