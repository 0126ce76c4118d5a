"""The first step on a batch of samples, whose pre-activations and gradients are correlated, with drawn neurons."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from wideangle.activations import Activation
from wideangle.network import MLP
from wideangle.parametrization._expectations import Slopes, rectified_product

Array = NDArray[np.float64]

# Groups of neurons that do not meet in any layer: the spread of their results is the error of the mean.
_GROUPS = 16


def predict_batch(
    phi: Activation,
    variance: float,
    n_hidden: int,
    samples: Array,
    points: Array,
    steps: Array,
    n_particles: int,
    seed: int,
) -> tuple[Array, Array, Array, Array]:
    """Return output (point), alpha (layer, sample, point), and one standard error of each."""
    forward, backward = _covariances(phi, variance, n_hidden, samples)
    factors = [(_factor(k), _factor(v)) for k, v in zip(forward, backward, strict=True)]
    both = np.concatenate([samples, points])
    u, s, _ = np.linalg.svd(both, full_matrices=False)
    inputs = u * s * math.sqrt(variance / both.shape[1])
    count = n_particles // _GROUPS
    groups = [_Group(phi, count, np.random.default_rng(seeds)) for seeds in np.random.SeedSequence(seed).spawn(_GROUPS)]
    products = samples @ points.T
    # The overlaps of all groups together make the estimate. Those of each group alone, which would add a bias wherever
    # a layer bends at zero, tell its error.
    own, pooled = np.empty((2, _GROUPS, n_hidden, *products.shape))
    outputs = np.empty((2, _GROUPS, len(points)))
    for layer, layer_factors in enumerate(factors):
        for g, group in enumerate(groups):
            group.enter(layer_factors, inputs if layer == 0 else None)
            for which, alphas in enumerate((own, pooled)):
                drive = products if layer == 0 else alphas[g, layer - 1]
                alphas[g, layer], outputs[which, g] = group.respond(steps, drive)
        pooled[:, layer] = pooled[:, layer].mean(axis=0)
    return outputs[1].mean(axis=0), pooled[0], _error(outputs[0]), _error(own)


class _Group:
    """Neurons that one layer after the other is drawn for."""

    def __init__(self, phi: Activation, count: int, rng: np.random.Generator) -> None:
        self.phi, self.count, self.rng, self.slopes = phi, count, rng, Slopes(*phi.slopes_at_zero)
        self.before = self.slope = self.gradients = np.empty(0)
        self.start: Array | float = 0.0

    def enter(self, factors: tuple[Array, Array], inputs: Array | None) -> None:
        """Draw the pre-activations at the start and the gradients; of the first layer also those of the points."""
        n = len(factors[1])
        if inputs is not None:
            u = self.rng.standard_normal((self.count, inputs.shape[1])) @ inputs.T
            self.start, u = u[:, n:], u[:, :n]
            self.before, self.slope = self.phi.value(u), self.phi.derivative(u)
        else:
            h = _draw(factors[0], self.count, self.rng)
            self.start, self.slope = 0.0, np.where(h > 0.0, self.slopes.above, self.slopes.below)
            # A smooth activation is linear here, and uncorrelated with what is even in the gradients.
            self.before = self.slope * h if self.slopes.above != self.slopes.below else np.zeros_like(h)
        self.gradients = _draw(factors[1], self.count, self.rng)

    def respond(self, steps: Array, drive: Array) -> tuple[Array, Array]:
        """Return the overlaps and, if this is the last layer, the output, given the overlaps of the layer before."""
        after = self.phi.value(self.start + (steps * self.slope * self.gradients) @ drive)
        # Gradients of the last layer are the readout's weights, the same for every sample.
        return self.before.T @ after / self.count, (self.gradients[:, 0] + self.before @ steps) @ after / self.count


def _covariances(phi: Activation, variance: float, n_hidden: int, samples: Array) -> tuple[list[Array], list[Array]]:
    """Of pre-activations, scaled to order one, and of gradients, between samples, for every layer."""
    slopes = Slopes(*phi.slopes_at_zero)
    forward = [variance / samples.shape[1] * (samples @ samples.T)]
    for layer in range(1, n_hidden):
        known = layer > 1 or phi.homogeneous
        forward.append(_next(forward[-1], variance, slopes)[0] if known else _after_one(phi, variance, samples))
    backward = [np.ones_like(forward[0])]
    for layer in range(n_hidden - 1, 0, -1):
        backward.append(backward[-1] * _next(forward[layer], variance, slopes)[1])
    return forward, backward[::-1]


def _next(k: Array, variance: float, slopes: Slopes) -> tuple[Array, Array]:
    """Covariance of the next layer's pre-activations, and the factor that gradients get, for linear pieces."""
    roots = np.sqrt(np.diag(k))
    scale = np.outer(roots, roots)
    sine = np.sqrt(np.maximum(scale**2 - k**2, 0.0))
    even, kink = slopes.above * slopes.below, (slopes.above - slopes.below) ** 2
    share = (np.pi - np.arctan2(sine, k)) / (2.0 * np.pi)
    return variance * (even * k + kink * rectified_product(scale, k, sine)), variance * (even + kink * share)


def _after_one(phi: Activation, variance: float, samples: Array) -> Array:
    from wideangle.propagation import nngp_kernel

    net = MLP(widths=(1,), activation=phi, weight_variance=variance)
    return np.asarray(nngp_kernel(net, samples).kernel.values)


def _factor(covariance: Array) -> Array:
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def _draw(factor: Array, count: int, rng: np.random.Generator) -> Array:
    return np.asarray(rng.standard_normal((count, len(factor))) @ factor.T)


def _error(groups: Array) -> Array:
    return np.asarray(groups.std(axis=0, ddof=1) / math.sqrt(len(groups)))
