"""Ensembles of small networks in training."""

from __future__ import annotations

import numpy as np

import wideangle as wa


class Training:
    """1000 networks 2-20-1, trained on 100 samples."""

    params = (("relu", "tanh"), (1, 10, "full"), (1, 2))
    param_names = ("activation", "batch", "n_threads")

    def setup(self, activation: str, batch: int | str, n_threads: int) -> None:
        x = np.random.default_rng(0).standard_normal((100, 2))
        self.data = (x, np.sign(x[:, 0]))
        self.net = wa.MLP((20,), activation=activation, bias_variance=1.0)

    def time_descent(self, activation: str, batch: int | str, n_threads: int) -> None:
        n_steps = 20 if batch == "full" else 2000 // int(batch)
        wa.response.simulate_training(
            self.net, self.data, n_networks=1000, n_steps=n_steps, batch=batch, learning_rate=0.05, seed=1,
            record=(0, n_steps), n_threads=n_threads,
        )  # fmt: skip


class Flow:
    """100 networks 2-20-1 along gradient flow."""

    def time_flow(self) -> None:
        x = np.random.default_rng(0).standard_normal((100, 2))
        wa.response.simulate_training(
            wa.MLP((20,), activation="tanh", bias_variance=1.0), (x, np.sign(x[:, 0])), n_networks=100, n_steps=10,
            learning_rate=0.1, seed=1, method="flow", record=(0, 10),
        )  # fmt: skip
