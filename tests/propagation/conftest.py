"""What several tests of propagation need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RealNetworks:
    """Plain NumPy networks with two-slope activations and real weights, at one input; no code of the package.

    ``post`` holds the input and the post-activations, ``slopes`` and ``weights`` (scaled) one array a layer, each with
    the networks first.
    """

    post: list[Array]
    slopes: list[Array]
    weights: list[Array]

    def backward(self) -> list[Array]:
        """Return the gradients of the first output with respect to x, z^1, ..., z^L, z^(L+1)."""
        n_networks, outputs = self.weights[-1].shape[:2]
        delta = np.zeros((n_networks, outputs))
        delta[:, 0] = 1.0
        deltas = [delta]
        for weight, slope in zip(self.weights[::-1], [*self.slopes[::-1], None], strict=True):
            delta = np.einsum("kij,ki->kj", weight, delta)
            if slope is not None:
                delta = delta * slope
            deltas.append(delta)
        return deltas[::-1]

    def forward_derivative(self, direction: Array) -> list[Array]:
        """Return the derivatives of x, the post-activations and the outputs along a direction of the input."""
        v = np.broadcast_to(direction, self.post[0].shape)
        result = [v]
        for weight, slope in zip(self.weights, [*self.slopes, None], strict=True):
            v = np.einsum("kij,kj->ki", weight, v)
            if slope is not None:
                v = v * slope
            result.append(v)
        return result


def _draw(
    widths: tuple[int, ...],
    x: Array,
    *,
    slope: float,
    weight_variance: float,
    bias_variance: float,
    outputs: int,
    n_networks: int,
    seed: int,
) -> RealNetworks:
    rng = np.random.default_rng(seed)
    h = np.broadcast_to(x, (n_networks, x.size))
    post, slopes, weights = [h], [], []
    for width in (*widths, outputs):
        weight = rng.standard_normal((n_networks, width, h.shape[1])) * np.sqrt(weight_variance / h.shape[1])
        weights.append(weight)
        z = np.einsum("kij,kj->ki", weight, h)
        z += np.sqrt(bias_variance) * rng.standard_normal(z.shape)
        if len(weights) <= len(widths):
            slopes.append(np.where(z > 0.0, 1.0, np.where(z < 0.0, slope, 0.0)))
            h = slopes[-1] * z
            post.append(h)
    return RealNetworks(post, slopes, weights)


@pytest.fixture
def draw_networks() -> Callable[..., RealNetworks]:
    """The function that draws :class:`RealNetworks`."""
    return _draw


# What every ensemble refuses.
BAD_ARGUMENTS: list[tuple[str, Any]] = [
    *[("count", value) for value in (0, -5, 10**19, 10.0, "10", None, True)],
    *[("seed", value) for value in (-1, 2**64, 1.0, "1", None)],
    *[("keep", value) for value in ("all", None, 1)],
    *[("n_threads", value) for value in (0, -1, 1.5, "2", 10**6)],
    *[("first", value) for value in (-1, 0.0, 10**19)],
    *[("progress", value) for value in (1, "yes", None)],
    *[("net", value) for value in ((4, 4), None)],
]


@pytest.fixture(params=BAD_ARGUMENTS, ids=lambda argument: repr(argument)[:40])
def bad_argument(request: pytest.FixtureRequest) -> tuple[str, Any]:
    """The name of an argument of every ensemble and a bad value; "count" and "first" stand for names of its own."""
    name, value = request.param
    return str(name), value
