"""Width scalings: predictions, particles, and networks trained to check them."""

from __future__ import annotations

import numpy as np

import wideangle as wa

SAMPLE = np.ones(64)
POINTS = np.random.default_rng(0).standard_normal((100, 64))


class FirstStep:
    """The first step at infinite width, by activation: a closed form, or a quadrature."""

    params = ("relu", "tanh")
    param_names = ("activation",)

    def time_predict(self, activation: str) -> None:
        count = 100 if activation == "relu" else 4
        wa.parametrization.predict_first_step(3, SAMPLE, POINTS[:count], step=1.0, activation=activation)


class Limit:
    """Ten steps at infinite width."""

    params = (1, 2, 4)
    param_names = ("n_hidden",)

    def time_simulate(self, n_hidden: int) -> None:
        wa.parametrization.simulate_limit(n_hidden, POINTS[:4], [1.0, -1.0, 1.0, -1.0], n_steps=10, learning_rate=0.5)


class Check:
    """The coordinate check of five widths, three networks of each, over four steps."""

    params = ("mup", "ip-llr")
    param_names = ("scaling",)

    def setup(self, scaling: str) -> None:
        self.data = wa.data.load_digits(seed=0)

    def time_check(self, scaling: str) -> None:
        wa.parametrization.coordinate_check(scaling, self.data, n_seeds=3)
