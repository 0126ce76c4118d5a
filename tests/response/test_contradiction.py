"""What one sample with a wrong label does to the others: real steps by hand, and where it can be measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr

import wideangle as wa

Array = np.ndarray[Any, Any]
MakeState = Callable[..., xr.Dataset]
LayersOf = Callable[[xr.Dataset], list[tuple[Any, Any]]]


def outputs(layers: list[tuple[Any, Any]], x: Array) -> Array:
    (w, b), (v, c) = layers
    return np.asarray((np.tanh(x @ w.T + b) @ v.T + c)[:, 0])


@pytest.mark.parametrize("loss", ["cross-entropy", "squared", "hinge", "exponential"])
@pytest.mark.parametrize("rates", [((1.0, 1.0), (1.0, 1.0)), ((0.5, 2.0), (0.0, 0.3)), ((1.0, 0.0), (1.0, 0.0))])
def test_a_contradicting_sample_is_a_real_step(
    make_state: MakeState,
    layers_of: LayersOf,
    loss: str,
    rates: tuple[tuple[float, float], tuple[float, float]],
) -> None:
    state = make_state((2, 6, 1), loss=loss, n_samples=5, weight_rates=rates[0], bias_rates=rates[1])
    found = wa.response.fragility(state, radius=0.1, n_starts=1, n_steps=1)
    x, y, eta = state["x"].values, state["y"].values, 0.1
    derivatives: dict[str, Callable[[float, float], float]] = {
        "cross-entropy": lambda f, y: -y / (1 + math.exp(y * f)),
        "squared": lambda f, y: f - y,
        "hinge": lambda f, y: -y if y * f < 1 else 0.0,
        "exponential": lambda f, y: -y * math.exp(-y * f),
    }
    derivative = derivatives[loss]
    for place in np.ndindex(3, 2):
        (w, b), (v, c) = layers_of(state.isel(network=place[0], time=place[1]))
        before = outputs([(w, b), (v, c)], x)
        for s in range(5):
            h = np.tanh(w @ x[s] + b)
            step = -eta * derivative(before[s], -y[s])
            back = v[0] * (1 - h**2) * step
            stepped = [
                (w + rates[0][0] * np.outer(back, x[s]), b + rates[1][0] * back),
                (v + rates[0][1] * step * h, c + rates[1][1] * step),
            ]
            change = outputs(stepped, x) - before
            others = np.delete(np.abs(change), s)
            one = found.isel(network=place[0], time=place[1], sample=s)
            assert float(one["contradiction_own"]) == pytest.approx(change[s], rel=1e-9)
            if change[s] == 0.0:  # the hinge takes the wrong label for granted: there is nothing to relate to
                assert np.isnan(float(one["contradiction_mean"]))
                continue
            assert float(one["contradiction_mean"]) == pytest.approx(others.mean() / abs(change[s]), rel=1e-8)
            assert float(one["contradiction_largest"]) == pytest.approx(others.max() / abs(change[s]), rel=1e-8)
            flips = np.delete(np.sign(before + change) != np.sign(before), s)
            assert float(one["contradiction_flips"]) == pytest.approx(flips.mean())


def test_contradictions_are_measured_where_they_can_be(make_state: MakeState) -> None:
    state = make_state((2, 5, 1))
    assert "contradiction_own" in wa.response.fragility(state, radius=0.1, n_steps=1)
    assert "contradiction_own" not in wa.response.fragility(state, radius=0.1, n_steps=1, contradiction=False)
    for partial in (state.isel(sample=[0]), state.drop_vars(["x", "y"])):
        x = np.zeros((1, 2))
        assert "contradiction_own" not in wa.response.fragility(partial, x, radius=0.1, n_steps=1)
        with pytest.raises(ValueError, match="contradiction=True needs"):
            wa.response.fragility(partial, x, radius=0.1, contradiction=True)
