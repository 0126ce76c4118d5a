"""Ensembles of random networks."""

from __future__ import annotations

import wideangle as wa


class FigureEnsemble:
    """5,000 networks of 32 layers of width 256."""

    params = (1, 2)
    param_names = ("n_threads",)

    def setup(self, n_threads: int) -> None:
        self.net = wa.MLP((256,) * 32)
        self.time_moments(n_threads)

    def time_moments(self, n_threads: int) -> None:
        wa.propagation.simulate_angles(self.net, 0.1, n_samples=5_000, seed=1, n_threads=n_threads)

    def time_moments_and_histogram(self, n_threads: int) -> None:
        wa.propagation.simulate_angles(
            self.net, 0.1, n_samples=5_000, seed=1, n_threads=n_threads, histogram=(-12.0, 0.0, 400)
        )

    def time_samples(self, n_threads: int) -> None:
        wa.propagation.simulate_angles(self.net, 0.1, n_samples=5_000, seed=1, n_threads=n_threads, keep="samples")


class NarrowEnsemble:
    """10**6 networks of 10 layers of width 64."""

    timeout = 120

    def setup(self) -> None:
        self.net = wa.MLP((64,) * 10)

    def time_moments(self) -> None:
        wa.propagation.simulate_angles(self.net, 0.1, n_samples=10**6, seed=1)

    def peakmem_moments(self) -> None:
        wa.propagation.simulate_angles(self.net, 0.1, n_samples=10**6, seed=1)
