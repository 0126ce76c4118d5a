"""Data, initial weights and runs of two-layer networks that several tests take."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from wideangle.dynamics import SeparabilityWarning, simulate_two_layer

Array = NDArray[np.float64]


class Networks:
    separable = (
        np.array([[1.0, 0.2, 0.1], [0.6, 0.9, 0.3], [0.4, 0.8, 0.1], [-1.0, -0.6, -0.2], [-0.4, -0.5, -0.3]]),
        np.array([1.0, 1.0, 1.0, -1.0, -1.0]),
    )

    @staticmethod
    def mixed_data(seed: int, samples: int, features: int) -> tuple[Array, Array]:
        rng = np.random.default_rng(seed)
        y = np.where(np.arange(samples) % 2 == 0, 1.0, -1.0)
        return rng.normal(size=(samples, features)), y

    @staticmethod
    def start(seed: int, neurons: int, features: int, size: float = 0.5) -> tuple[Array, Array]:
        rng = np.random.default_rng(seed)
        return size * rng.normal(size=(neurons, features)), size * rng.normal(size=neurons)

    @staticmethod
    def simulate(*arguments: Any, **options: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SeparabilityWarning)
            return simulate_two_layer(*arguments, **options)

    @staticmethod
    def state_of(run: Any, index: int = -1) -> Array:
        last = run.isel(time=index)
        return np.concatenate([last.weights.values.ravel(), last.readout.values])


@pytest.fixture
def nets() -> type[Networks]:
    """Orthogonally separable and mixed data, initial weights, runs without warnings, and their states as vectors."""
    return Networks
