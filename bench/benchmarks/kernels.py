"""Kernels of infinitely wide networks."""

from __future__ import annotations

import numpy as np

import wideangle as wa


class TangentKernel:
    """NNGP and tangent kernel of 2,000 inputs, 10 layers."""

    params = ("relu", "erf", "gelu", "tanh", "elu")
    param_names = ("activation",)
    timeout = 120

    def setup(self, activation: str) -> None:
        self.net = wa.MLP((1,) * 10, activation=activation)
        self.x = np.random.default_rng(1).standard_normal((2_000, 64))
        wa.propagation.tangent_kernel(self.net, self.x[:10])

    def time_symmetric(self, activation: str) -> None:
        wa.propagation.tangent_kernel(self.net, self.x)

    def time_two_sets(self, activation: str) -> None:
        wa.propagation.tangent_kernel(self.net, self.x, self.x[::-1])

    def peakmem_symmetric(self, activation: str) -> None:
        wa.propagation.tangent_kernel(self.net, self.x)
