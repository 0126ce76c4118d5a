"""Networks with given weights."""

from __future__ import annotations

import wideangle as wa
from bench.forward_peer import draw


class SmallNetworks:
    """1,000 networks of 8 layers of width 64."""

    params = ((1, 10, 64), (1, 2))
    param_names = ("inputs", "n_threads")

    def setup(self, inputs: int, n_threads: int) -> None:
        self.weights, self.x = draw(64, 8, 1000, inputs)

    def time_forward(self, inputs: int, n_threads: int) -> None:
        wa.propagation.forward(self.weights, self.x, n_threads=n_threads)


class LargeNetwork:
    """One network of 8 layers of width 1024."""

    params = ((1, 10, 64, 1000), (1, 2))
    param_names = ("inputs", "n_threads")

    def setup(self, inputs: int, n_threads: int) -> None:
        self.weights, self.x = draw(1024, 8, 1, inputs)

    def time_forward(self, inputs: int, n_threads: int) -> None:
        wa.propagation.forward(self.weights, self.x, n_threads=n_threads)

    def time_forward_and_overlaps(self, inputs: int, n_threads: int) -> None:
        wa.propagation.forward(self.weights, self.x, n_threads=n_threads, overlaps=True)
