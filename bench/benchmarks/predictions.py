"""Closed forms and quadratures."""

from __future__ import annotations

import numpy as np

import wideangle as wa

NET = wa.MLP((256,) * 32)


class Angles:
    """Mean and variance of ln sin^2(theta) layer by layer."""

    params = ("infinite-width", "finite-width", "finite-width-linear", "small-angle")
    param_names = ("method",)

    def time_predict(self, method: str) -> None:
        wa.propagation.predict_angles(NET, 0.1, method=method)


class Densities:
    """The whole density of ln sin^2(theta) layer by layer."""

    params = ("finite-width", "finite-width-linear", "small-angle")
    param_names = ("method",)

    def time_predict(self, method: str) -> None:
        wa.propagation.predict_angle_density(NET, 0.1, method=method)


class Moments:
    """Mixed moments of two rectified Gaussians at 10,000 angles."""

    params = (((1, 1), (2, 2), (5, 3)),)
    param_names = ("powers",)

    def setup(self, powers: tuple[int, int]) -> None:
        self.theta = np.linspace(0.0, np.pi, 10_000)

    def time_mixed_moment(self, powers: tuple[int, int]) -> None:
        wa.propagation.mixed_moment(*powers, self.theta)
