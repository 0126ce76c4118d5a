"""Tangent kernels and responses of many small networks."""

from __future__ import annotations

import numpy as np

import wideangle as wa
from bench.response_kernel_tables import as_state, networks


class Kernels:
    """1,000 networks 2-20-1 at 200 x 200 points, 320 MB of numbers."""

    params = ((1, 2), ("kernel", "parts"))
    param_names = ("n_threads", "what")

    def setup(self, n_threads: int, what: str) -> None:
        self.network, self.x = networks()

    def time_kernels(self, n_threads: int, what: str) -> None:
        wa.response.tangent_kernel(self.network, self.x, parts=what == "parts", n_threads=n_threads)


class Responses:
    """100 networks 2-20-1, 50 examples and 200 points."""

    params = (("kernel", "step"), ("relu", "tanh"))
    param_names = ("kind", "activation")

    def setup(self, kind: str, activation: str) -> None:
        network, self.x = networks()
        self.state = as_state(network, self.x, activation).isel(network=slice(100))

    def time_responses(self, kind: str, activation: str) -> None:
        wa.response.training_response(self.state, self.x[:50], self.x, kind=kind, learning_rate=0.01)


class WideNetworks:
    """Kernels of networks of two wide layers, where the products count."""

    def setup(self) -> None:
        rng = np.random.default_rng(0)
        sizes = (64, 256, 256, 1)
        self.network = wa.NetworkWeights(
            [rng.standard_normal((4, sizes[i + 1], sizes[i])) / np.sqrt(sizes[i]) for i in range(3)]
        )
        self.x = rng.standard_normal((500, 64))

    def time_kernels(self) -> None:
        wa.response.tangent_kernel(self.network, self.x)
