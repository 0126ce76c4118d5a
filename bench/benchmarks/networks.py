"""Ensembles of random networks with real weights."""

from __future__ import annotations

import numpy as np

import wideangle as wa


class Outputs:
    """100 networks of 8 layers of width 256."""

    params = ((1, 10, 64), (1, 2))
    param_names = ("inputs", "n_threads")

    def setup(self, inputs: int, n_threads: int) -> None:
        self.net = wa.MLP((256,) * 8)
        self.x = np.random.default_rng(0).normal(size=(inputs, 256))

    def time_final(self, inputs: int, n_threads: int) -> None:
        wa.propagation.simulate_outputs(self.net, self.x, n_networks=100, seed=1, n_threads=n_threads)

    def time_gram(self, inputs: int, n_threads: int) -> None:
        wa.propagation.simulate_outputs(self.net, self.x, n_networks=100, seed=1, n_threads=n_threads, keep="gram")


class Weights:
    """The weights of one network of 8 layers of width 1024."""

    def time_materialize(self) -> None:
        wa.propagation.materialize(wa.MLP((1024,) * 8), 1024, 0, seed=1)
