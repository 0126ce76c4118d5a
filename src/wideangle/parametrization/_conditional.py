r"""Networks of finite width under a scaling whose inner weights are drawn only as far as they are looked at.

Training sees a Gaussian matrix through its products with a few vectors, on either side. Given those, it is Gaussian on
what is orthogonal to them, so that each product can be drawn when it is needed, in O(m) instead of O(m²), and outputs
have exactly the law that they have with all entries drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from wideangle.activations import Activation
from wideangle.scalings import Scaling

Array = NDArray[np.float64]

_NEGLIGIBLE = 1e-12  # of a square


class GaussianMatrix:
    """A square matrix with independent standard normal entries, of which products are drawn."""

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self._rng = rng
        empty = np.empty((size, 0))
        # Orthonormal vectors (entry, vector) and their products, with the matrix and with its transpose.
        self._seen = [(empty, empty), (empty, empty)]

    def times(self, vectors: Array, *, transposed: bool = False) -> Array:
        """Return the product with vectors (entry, vector)."""
        basis, images = self._seen[transposed]
        new = _directions(vectors, basis)
        if new.shape[1] > 0:
            others, other_images = self._seen[not transposed]
            drawn = self._rng.standard_normal(new.shape)
            drawn += others @ (other_images.T @ new - others.T @ drawn)
            basis, images = np.concatenate([basis, new], axis=1), np.concatenate([images, drawn], axis=1)
            self._seen[transposed] = basis, images
        return np.asarray(images @ (basis.T @ vectors))


def _directions(vectors: Array, basis: Array) -> Array:
    """Return an orthonormal basis of what vectors have besides a basis, but for less than a millionth of them."""
    squares = np.einsum("ij,ij->j", vectors, vectors)
    rest = vectors[:, squares > 0.0] / np.sqrt(squares[squares > 0.0])
    # Once more, for what roundings leave.
    for _ in range(2):
        rest = rest - basis @ (basis.T @ rest)
        values, rotation = np.linalg.eigh(rest.T @ rest)
        kept = values > _NEGLIGIBLE
        rest = rest @ (rotation[:, kept] / np.sqrt(values[kept]))
    return np.asarray(rest)


class Weights:
    """The numbers U that networks under several scalings begin with: first, inner and last layer."""

    def __init__(
        self, width: int, n_hidden: int, n_inputs: int, n_outputs: int, variance: float, rng: np.random.Generator
    ) -> None:
        self.spread = math.sqrt(variance)
        self.first = rng.standard_normal((width, n_inputs)) * math.sqrt(variance / n_inputs)
        self.last = rng.standard_normal((width, n_outputs))
        self.inner = [GaussianMatrix(width, rng) for _ in range(n_hidden - 1)]


class ConditionalMLP:
    """A network without biases, from centered weights. Samples are columns: x is (feature, sample)."""

    def __init__(self, scaling: Scaling, width: int, weights: Weights, phi: Activation) -> None:
        self.scaling, self.width, self.weights, self.phi, self.n_steps = scaling, float(width), weights, phi, 0
        self.first = weights.first * self._power(-scaling.b[0])
        self.last = weights.last * self._power(-scaling.b[-1])
        empty = np.empty((width, 0))
        self.updates = [(empty, empty) for _ in weights.inner]

    def forward(self, x: Array) -> list[Array]:
        """Return pre-activations (unit, sample) of every layer, the output last."""
        a = self.scaling.a
        values = [self.first @ x * self._power(-a[0])]
        for place in range(len(self.updates)):
            values.append(self._inner(place, self.phi.value(values[-1]), transposed=False))
        values.append(self.last.T @ self.phi.value(values[-1]) * self._power(-a[-1]))
        return values

    def step(self, x: Array, values: list[Array], descent: Array) -> None:
        """Take a step, given what forward returned and minus the derivative by the outputs, (unit, sample)."""
        scaling = self.scaling
        rates, _ = scaling.learning_rate_exponents(first=self.n_steps == 0)
        factors = [self._power(-a - c) for a, c in zip(scaling.a, rates, strict=True)]
        deltas = [self.last @ descent * self._power(-scaling.a[-1]) * self.phi.derivative(values[-2])]
        for place in range(len(self.updates) - 1, -1, -1):
            deltas.append(self._inner(place, deltas[-1], transposed=True) * self.phi.derivative(values[place]))
        deltas.reverse()
        self.first = self.first + deltas[0] @ x.T * factors[0]
        self.last = self.last + self.phi.value(values[-2]) @ descent.T * factors[-1]
        for place, (left, right) in enumerate(self.updates):
            added = self.phi.value(values[place])
            self.updates[place] = (
                np.concatenate([left, deltas[place + 1] * factors[place + 1]], axis=1),
                np.concatenate([right, added], axis=1),
            )
        self.n_steps += 1

    def _inner(self, place: int, x: Array, *, transposed: bool) -> Array:
        left, right = self.updates[place] if not transposed else self.updates[place][::-1]
        result = left @ (right.T @ x)
        if self.n_steps == 0 or not self.scaling.drops_initial:
            start = self.weights.inner[place].times(x, transposed=transposed)
            result += start * (self.weights.spread * self._power(-self.scaling.b[place + 1]))
        return np.asarray(result * self._power(-self.scaling.a[place + 1]))

    def _power(self, exponent: Fraction) -> float:
        return float(self.width ** float(exponent))


def train_conditional(
    model: ConditionalMLP, samples: Array, points: Array, descent: Callable[[int, Array], Array], n_steps: int
) -> Array:
    """Return outputs at points (input, feature) after every step, (step, input, unit).

    ``descent`` takes the number of steps taken and outputs at samples (sample, unit), and returns minus the learning
    rate times the derivative of the loss by them.
    """
    n_samples, outputs = len(samples), []
    both = np.concatenate([samples, points]).T
    values = model.forward(samples.T)
    for step in range(n_steps):
        values = [value[:, :n_samples] for value in values]
        model.step(samples.T, values, descent(step, values[-1].T).T)
        values = model.forward(both if step < n_steps - 1 else points.T)
        outputs.append(values[-1].T[-len(points) :])
    return np.array(outputs)
