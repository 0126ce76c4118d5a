"""Networks drawn as far as training looks at them, against networks with all their weights, and fits of known laws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from wideangle.activations import parse_activation
from wideangle.parametrization import Scaling, scaling
from wideangle.parametrization._conditional import ConditionalMLP, GaussianMatrix, Weights, train_conditional
from wideangle.parametrization._finite import Networks, Training, extrapolate, fit_rate, train_networks

Array = NDArray[Any]

WIDTHS = np.array([100.0, 200.0, 400.0, 800.0])
RNG = np.random.default_rng(3)
VECTORS = RNG.standard_normal((7, 9))


def test_products_are_those_of_one_matrix() -> None:
    matrix = GaussianMatrix(9, np.random.default_rng(0))
    # Once as many products as there are rows are known, so is the matrix.
    left = matrix.times(VECTORS[:4].T)
    across = matrix.times(VECTORS[2:].T, transposed=True)
    rest = matrix.times(np.eye(9))
    np.testing.assert_allclose(rest @ VECTORS[:4].T, left, atol=1e-12)
    np.testing.assert_allclose(rest.T @ VECTORS[2:].T, across, atol=1e-12)
    np.testing.assert_allclose(matrix.times(np.eye(9), transposed=True), rest.T, atol=1e-12)
    np.testing.assert_array_equal(matrix.times(np.zeros((9, 2))), 0.0)
    np.testing.assert_allclose(matrix.times(1e-30 * VECTORS[:4].T), 1e-30 * left, rtol=1e-9)


def test_products_have_the_law_of_independent_entries() -> None:
    count, size = 20_000, 3
    rng = np.random.default_rng(1)
    vectors = np.random.default_rng(4).standard_normal((3, size, 2))
    entries = np.empty((count, size * size))
    for k in range(count):
        matrix = GaussianMatrix(size, rng)
        first = matrix.times(vectors[0])
        # What is looked at depends on what was seen, as in a network.
        matrix.times(np.maximum(first, 0.0) + vectors[1], transposed=True)
        matrix.times(vectors[2])
        entries[k] = matrix.times(np.eye(size)).ravel()
    assert np.all(np.abs(entries.mean(axis=0)) < 5.0 / np.sqrt(count))
    covariance = entries.T @ entries / count
    assert np.all(np.abs(covariance - np.eye(9)) < 5.0 * np.sqrt(2.0 / count))
    fourth = np.mean(entries**4, axis=0)
    assert np.all(np.abs(fourth - 3.0) < 5.0 * np.sqrt(96.0 / count))


class Dense:
    """A whole matrix in place of one of which products are drawn."""

    def __init__(self, matrix: Array) -> None:
        self.matrix = matrix

    def times(self, vectors: Array, *, transposed: bool = False) -> Array:
        return (self.matrix.T if transposed else self.matrix) @ vectors


ODD = Scaling(("1/4", "3/4", "1/2"), (0, "-1/4", "1/4"), (-1, "-3/2", "-3/4"), c_first=("-1/2", "-5/4", -1))


@pytest.mark.parametrize("name", ["ip-llr", "hp", "mup", "ntk", "odd"])
def test_steps_are_those_of_a_network_with_the_same_weights(name: str, finite_network: Callable[..., Any]) -> None:
    s = ODD if name == "odd" else scaling(name, 3)
    width, x, points = 40, VECTORS[:3, :4], VECTORS[3:, :4]
    twin = finite_network(s, width, 4, seed=2)
    weights = Weights(width, s.n_hidden, 4, 1, 2.0, np.random.default_rng(0))
    start = [w * float(width) ** float(b) for w, b in zip(twin.weights, s.b, strict=True)]
    weights.first, weights.last = start[0].astype(float), start[-1].T.astype(float)
    weights.inner = [Dense(w / np.sqrt(2.0)) for w in start[1:-1]]  # type: ignore[misc]
    model = ConditionalMLP(s, width, weights, parse_activation("relu"))
    outputs = train_conditional(model, x, points, lambda step, f: 0.3 * (1.0 - f) / (1 + step), 3)
    for step in range(3):
        twin.step(x.astype(np.float32), 0.3 * (1.0 - twin.forward(x.astype(np.float32))[-1][:, 0]) / (1 + step))
        expected = twin.forward(points.astype(np.float32))[-1]
        np.testing.assert_allclose(outputs[step], expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_outputs_have_the_same_law_as_those_of_pytorch() -> None:
    pytest.importorskip("torch")
    task = Training(
        n_hidden=3,
        phi=parse_activation("relu"),
        variance=2.0,
        samples=VECTORS[:2, :4],
        points=VECTORS[4:6, :4],
        n_outputs=1,
        descent=lambda step, f: (2.0 if step == 0 else 0.5) * (1.0 - f),
        n_steps=2,
    )
    moments = []
    for method, count in (("conditional", 1200), ("pytorch", 500)):
        outputs = train_networks(task, Networks((12, 40), count, 1, 1, method), progress=False)
        assert outputs.shape == (2, 2, count, 2, 2, 1)
        bounded = np.tanh(outputs)
        values = np.stack([bounded, bounded**2, bounded * bounded[::-1], np.sign(outputs - 0.1)])
        moments.append((values.mean(axis=3), values.var(axis=3) / count))
    (one, one_variance), (other, other_variance) = moments
    assert np.all(np.abs(one - other) < 5.0 * np.sqrt(one_variance + other_variance) + 1e-12)


def test_networks_do_not_depend_on_threads() -> None:
    task = Training(2, parse_activation("relu"), 2.0, VECTORS[:2], VECTORS[2:4], 1, lambda step, f: 1.0 - f, 2)
    one, two = (
        train_networks(task, Networks((10, 20, 40), 5, 3, threads, "conditional"), progress=False) for threads in (1, 2)
    )
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("bend", [0.0, 8.0])
def test_rates_of_known_powers(bend: float) -> None:
    rng = np.random.default_rng(0)
    slopes, errors = [], []
    for _ in range(200):
        gap = np.exp(bend / np.sqrt(WIDTHS)) / np.sqrt(WIDTHS)
        slope, error = fit_rate(rng.chisquare(3, (4, 64)) * gap[:, None] ** 2, WIDTHS)
        slopes.append(slope)
        errors.append(error)
    assert abs(np.mean(slopes) + 0.5) < 5.0 * np.std(slopes) / np.sqrt(200)
    # A jackknife's error is right to within some per cent.
    assert abs(np.mean(errors) / np.std(slopes) - 1.0) < 0.25


@pytest.mark.parametrize("widths", [WIDTHS, WIDTHS[:3]])
def test_extrapolation_of_known_parabolas(widths: Array) -> None:
    rng = np.random.default_rng(1)
    z = []
    for _ in range(300):
        roots = np.sqrt(widths)[:, None, None]
        outputs = 2.0 + (3.0 + rng.standard_normal((2, len(widths), 24, 1))) / roots - 10.0 / roots**2
        intercept, error = extrapolate(outputs, widths)
        z.append((intercept - 2.0) / error)
    assert abs(np.mean(z)) < 5.0 / np.sqrt(600)
    assert abs(np.std(z) - 1.0) < 0.15
