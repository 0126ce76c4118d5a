"""Mean losses over samples and their derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from wideangle.parametrization._objectives import check_objective

OUTPUTS = np.random.default_rng(0).standard_normal((4, 3))


@pytest.mark.parametrize(
    ("loss", "y0", "n_outputs"),
    [
        ("squared", [0.5, -1.0, 2.0, 0.0], None),
        ("squared", np.arange(12.0).reshape(4, 3), None),
        ("cross-entropy", [1, -1, -1, 1], None),
        ("hinge", [1, -1, -1, 1], None),
        ("exponential", [1, -1, -1, 1], None),
        ("cross-entropy", [2, 0, 1, 1], 3),
    ],
)
def test_descent_is_minus_the_derivative(loss: str, y0: Any, n_outputs: int | None) -> None:
    objective = check_objective(loss, y0, n_outputs, 4)
    outputs = OUTPUTS[:, : objective.n_outputs]
    descent = objective.descent(outputs, 0.3)
    for place in np.ndindex(outputs.shape):
        h = np.zeros_like(outputs)
        h[place] = 1e-6
        derivative = (objective.value(outputs + h) - objective.value(outputs - h)) / 2e-6
        assert descent[place] == pytest.approx(-0.3 * derivative, rel=1e-6, abs=1e-9)
    np.testing.assert_allclose(objective.value(np.stack([outputs, 2.0 * outputs]))[1], objective.value(2.0 * outputs))


def test_cross_entropy_of_classes_is_that_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    labels = np.array([2, 0, 1, 1], np.uint8)
    for scale in (1.0, 1e3):
        expected = torch.nn.functional.cross_entropy(torch.tensor(scale * OUTPUTS), torch.tensor(labels.astype(int)))
        value = check_objective("cross-entropy", labels, 3, 4).value(scale * OUTPUTS)
        assert float(value) == pytest.approx(expected.item(), rel=1e-12)


def test_values_of_one_output() -> None:
    assert float(check_objective("squared", [1.0, 3.0], None, 2).value(np.zeros((2, 1)))) == 2.5
    assert float(check_objective("hinge", [1, -1], None, 2).value(np.array([[0.5], [0.5]]))) == 1.0
