"""Modes, the flow of all parameters and gradient descent in PyTorch agree as they should."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import wideangle as wa
from wideangle.losses import LOSSES

FEATURES, SHARES = [[1.0, 0.0], [1.0, 1.0]], [0.4, 0.6]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("depth", "imbalance"), [(1, 0.0), (2, 0.0), (2, [0.5, -0.3]), (3, 0.0)])
def test_all_ways_agree(loss: str, depth: int, imbalance: Any) -> None:
    found = wa.dynamics.compare_training(
        FEATURES, SHARES, [0.05, 0.1], np.linspace(0.0, 8.0, 9), loss=loss, depth=depth, imbalance=imbalance
    )
    assert float(found.flow_error) < 1e-8
    if loss == "hinge":
        # A step that jumps over margin 1 errs by a share of the step that depends on where it began.
        bound = 4.0 * found.learning_rate * np.max(np.abs(np.gradient(found.modes, found.time, axis=1)))
        assert np.all(found.training_error * np.max(np.abs(found.modes)) < bound)
        assert float(found.order) > 0.5
    else:
        assert float(found.order) == pytest.approx(1.0, abs=0.02)
        assert np.all(np.diff(found.training_error) < 0.0)


@pytest.mark.parametrize("loss", LOSSES)
def test_relu_networks_agree(loss: str) -> None:
    """Features of their own: modes are exact for a ReLU network with all its weights."""
    found = wa.dynamics.compare_training(
        [[0.0, 1.5], [0.8, 0.0]],
        SHARES,
        [0.05, -0.03],
        np.linspace(0.0, 8.0, 9),
        loss=loss,
        imbalance=[0.2, -0.1],
        architecture="relu",
    )
    assert float(found.flow_error) < 1e-8
    if loss != "hinge":
        assert float(found.order) == pytest.approx(1.0, abs=0.02)


def test_a_wrong_flow_is_noticed() -> None:
    """The error is that of the comparison: another imbalance, which modes and network do not share, stands out."""
    right = wa.dynamics.compare_training(FEATURES, SHARES, [0.05, 0.1], [4.0], imbalance=[0.5, -0.3])
    wrong = wa.dynamics.simulate_modes(FEATURES, SHARES, [0.05, 0.1], [4.0])
    assert float(np.abs(right.flow[:, 0] - wrong.margins[:, 0]).max()) > 1e3 * float(right.flow_error)


def test_divergence_leaves_no_order() -> None:
    found = wa.dynamics.compare_training(
        [[10.0, 0.0], [0.0, 1.0]], [0.5, 0.5], [0.5, 0.5], [0.0, 30.0], loss="squared", learning_rates=[3.0, 2.0, 1.0]
    )
    assert not np.isfinite(found.training_error).any()
    assert np.isnan(found.order)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"margins0": [[0.1, 0.1], [0.1, 0.2]]}, ValueError, "one trajectory"),
    ({"margins0": [0.0, 0.1]}, ValueError, "margins0"),
    ({"margins0": [-0.1, 0.1]}, ValueError, "margins0"),
    ({"times": [0.0]}, ValueError, "times"),
    ({"learning_rates": [0.1, 0.05]}, ValueError, "learning_rates"),
    ({"learning_rates": [0.1, 0.1, 0.05]}, ValueError, "learning_rates"),
    ({"learning_rates": [0.1, 0.2, 3.0]}, ValueError, "learning_rates"),
    ({"learning_rates": [0.1, -0.2, 0.3]}, ValueError, "learning_rates"),
    ({"architecture": "relu"}, ValueError, "features"),
    (
        {"architecture": "relu", "features": np.eye(2), "margins0": [-0.1, 0.1], "imbalance": 0.3},
        ValueError,
        "negative",
    ),
    ({"architecture": "deep"}, ValueError, "architecture"),
    ({"loss": "log"}, ValueError, "loss"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD)
def test_bad_input(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"features": FEATURES, "margins0": [0.1, 0.1], "times": [0.0, 1.0]} | change
    features, *subject = [arguments.pop(name) for name in ("features", "margins0", "times")]
    with pytest.raises(error, match=message):
        wa.dynamics.compare_training(features, SHARES, *subject, **arguments)
