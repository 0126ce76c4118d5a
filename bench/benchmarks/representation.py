"""Chunks of a layer: regressions from the covariance, and readouts by running sums."""

from __future__ import annotations

from typing import Any

import numpy as np

import wideangle as wa


class Chunks:
    """Forty chunks of every power of two; dependent neurons take the way round by way of their basis."""

    params = ((128, 512), ("independent", "dependent"), ("regressions", "readouts too"))
    param_names = ("neurons", "features", "what")

    def setup(self, neurons: int, features: str, what: str) -> None:
        rng = np.random.default_rng(0)
        self.features = np.maximum(rng.standard_normal((10_000, 40)) @ rng.standard_normal((40, neurons)), 0.0)
        self.features += 0.3 * rng.standard_normal(self.features.shape)
        if features == "dependent":
            self.features[:, 0] = self.features[:, 1]
        self.head: dict[str, Any] = {}
        if what != "regressions":
            self.head = {"readout": rng.standard_normal((10, neurons)), "targets": rng.integers(10, size=10_000)}

    def time_statistics(self, neurons: int, features: str, what: str) -> None:
        wa.representation.chunk_statistics(self.features, seed=1, **self.head)
