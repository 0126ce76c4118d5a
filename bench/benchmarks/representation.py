"""Chunks of a layer, regressions from the covariance and readouts by running sums; and its clones."""

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


class Clones:
    """Eight clones of 32 neurons, or 256 generic mixtures of as many signals: how many clones, and of which neurons."""

    params = ("clones", "mixtures")
    param_names = ("features",)

    def setup(self, features: str) -> None:
        layer = wa.representation.synthetic_clones(4000, 16, 8, 32, 0.3, seed=1)
        self.features, readout = layer["features"].values, layer["readout"].values
        if features == "mixtures":
            rng = np.random.default_rng(0)
            self.features = rng.standard_normal((4000, 32)) @ rng.standard_normal((32, 256)) / 6.0
            self.features += 0.3 * rng.standard_normal(self.features.shape)
        targets = np.argmax(self.features @ readout.T, axis=1)
        self.chunks = wa.representation.chunk_statistics(self.features, seed=1, readout=readout, targets=targets)

    def time_fit(self, features: str) -> None:
        wa.representation.fit_clones(self.chunks, asymptotic_error=0.0)

    def time_find(self, features: str) -> None:
        wa.representation.find_clones(self.features, n_starts=4, seed=1)
