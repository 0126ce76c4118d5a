"""Networks of finite width under a scaling, in NumPy: for comparison, and sharing nothing with what they check."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from wideangle.scalings import Scaling

Array = NDArray[Any]
Function = Callable[[Array], Array]


class Network:
    """Layers of one width, trained by whole steps of gradient descent on the sum over samples of s f(x)."""

    def __init__(
        self,
        scaling: Scaling,
        width: int,
        n_features: int,
        phi: Function,
        slope: Function,
        *,
        variance: float = 2.0,
        mean: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.scaling, self.width, self.phi, self.slope, self.taken = scaling, float(width), phi, slope, 0
        rng = np.random.default_rng(seed)
        sizes = [n_features, *[width] * scaling.n_hidden, 1]
        last = scaling.n_hidden
        self.weights, self.biases = [], []
        for layer, (inputs, units) in enumerate(itertools.pairwise(sizes)):
            spread = (variance / n_features if layer == 0 else 1.0 if layer == last else variance) ** 0.5
            matrix = rng.standard_normal((units, inputs), dtype=np.float32) * np.float32(spread)
            if not scaling.centered:
                matrix += np.float32(mean)
            self.weights.append(matrix * self.power(-scaling.b[layer]))
            bias = rng.standard_normal(units, dtype=np.float32) * self.power(-scaling.bias_b[layer])
            self.biases.append(bias if scaling.biases == "random" else 0.0 * bias)
        self.starts = [matrix.copy() for matrix in self.weights]

    def power(self, exponent: Any) -> Any:
        return np.float32(self.width ** float(exponent))

    def forward(self, x: Array) -> list[Array]:
        """Pre-activations (sample, unit) of every layer, the output last."""
        values, s = [], self.scaling
        for layer, (matrix, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            z = x @ matrix.T * self.power(-s.a[layer]) + bias * self.power(-s.bias_a[layer])
            values.append(z)
            x = self.phi(z)
        return values

    def step(self, x: Array, s: Array) -> None:
        """Add to the parameters the gradient of sum over i of s_i f(x_i), times the scaling's learning rates."""
        scaling, first = self.scaling, self.taken == 0
        rates, bias_rates = scaling.learning_rate_exponents(first=first)
        values = self.forward(x)
        entering = [x, *[self.phi(z) for z in values[:-1]]]
        delta = np.asarray(s, np.float32)[:, None]
        updates = []
        for layer in range(len(values) - 1, -1, -1):
            gradient = delta.T @ entering[layer] * self.power(-scaling.a[layer])
            bias_gradient = delta.sum(axis=0) * self.power(-scaling.bias_a[layer])
            updates.append(
                (layer, gradient * self.power(-rates[layer]), bias_gradient * self.power(-bias_rates[layer]))
            )
            if layer > 0:
                delta = delta @ self.weights[layer] * self.power(-scaling.a[layer]) * self.slope(values[layer - 1])
        for layer, update, bias_update in updates:
            self.weights[layer] += update
            if scaling.biases != "none" and layer < scaling.n_hidden:
                self.biases[layer] = self.biases[layer] + bias_update
            if first and scaling.drops_initial and 0 < layer < scaling.n_hidden:
                self.weights[layer] -= self.starts[layer]
        self.taken += 1


def relu(z: Array) -> Array:
    return np.maximum(z, 0)


def relu_slope(z: Array) -> Array:
    return (z > 0).astype(z.dtype)


@pytest.fixture
def finite_network() -> Callable[..., Network]:
    """The class of networks of finite width; ReLU unless another activation and its slope are given."""

    def make(scaling: Scaling, width: int, n_features: int, **options: Any) -> Network:
        options = {"phi": relu, "slope": relu_slope} | options
        return Network(scaling, width, n_features, options.pop("phi"), options.pop("slope"), **options)

    return make
