"""Gradient descent on all samples against steps by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import wideangle as wa
from wideangle.losses import LOSSES, parse_loss

X = np.array([[1.0, 0.5], [-0.3, 2.0], [0.7, -1.0]])
Y = np.array([1, -1, -1])
SHARES = np.array([0.5, 0.3, 0.2])


@pytest.mark.parametrize("loss", LOSSES)
def test_steps_of_a_linear_model(loss: str) -> None:
    model = torch.nn.Linear(2, 1, bias=False, dtype=torch.float64)
    weights = model.weight.detach().numpy()[0].copy()
    margins = wa.reference.train_full_batch(model, X, Y, loss=loss, learning_rate=0.3, steps=5, probabilities=SHARES)
    for found in margins:
        expected = Y * (X @ weights)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
        weights += 0.3 * (SHARES * parse_loss(loss).force(expected) * Y) @ X
    np.testing.assert_allclose(margins[-1], Y * (X @ model.weight.detach().numpy()[0]), rtol=1e-12)


@pytest.mark.parametrize("margin", [-40.0, -20.5, 0.0, 20.5, 40.0])
def test_slope_of_cross_entropy_at_large_margins(margin: float) -> None:
    # f = w x with x = 1: the step of size 1 / slope moves the margin by 1, up to its rounding.
    model = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
    torch.nn.init.constant_(model.weight, margin)
    slope = 1.0 / (1.0 + math.exp(margin))
    margins = wa.reference.train_full_batch(model, [[1.0]], [1], learning_rate=1.0 / slope, steps=1)
    np.testing.assert_allclose(margins[1] - margins[0], 1.0, rtol=0, atol=2e-14)


def test_record_and_equal_weights() -> None:
    model = torch.nn.Linear(2, 1, bias=False, dtype=torch.float64)
    first = model.weight.detach().numpy().copy()
    rows = wa.reference.train_full_batch(model, X, Y, learning_rate=0.1, steps=1, record=lambda _: model.weight[0])
    force = parse_loss("cross-entropy").force(Y * (X @ first[0]))
    np.testing.assert_allclose(rows[1] - rows[0], 0.1 * (force * Y) @ X / 3, rtol=1e-10)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"model": 3}, TypeError, "model"),
    ({"x": [1.0]}, ValueError, "x must"),
    ({"y": [1, 1]}, ValueError, "y must"),
    ({"y": [0, 1, 1]}, ValueError, "labels -1 or 1"),
    ({"learning_rate": 0.0}, ValueError, "learning_rate"),
    ({"steps": -1}, ValueError, "steps"),
    ({"loss": "mse"}, ValueError, "loss"),
    ({"probabilities": [0.5, 0.5]}, ValueError, "probabilities"),
    ({"probabilities": [0.5, 0.4, 0.2]}, ValueError, "probabilities"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD)
def test_bad_input(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {
        "model": torch.nn.Linear(2, 1, bias=False),
        "x": X,
        "y": Y,
        "learning_rate": 0.1,
        "steps": 1,
    } | change
    subject = [arguments.pop(name) for name in ("model", "x", "y")]
    with pytest.raises(error, match=message):
        wa.reference.train_full_batch(*subject, **arguments)
