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
    outputs, alphas = [], []
    for seeds in np.random.SeedSequence(seed).spawn(_GROUPS):
        rng = np.random.default_rng(seeds)
        output, alpha = _one_group(phi, inputs, factors, samples @ points.T, steps, n_particles // _GROUPS, rng)
        outputs.append(output)
        alphas.append(alpha)
    output, output_error = _mean(outputs)
    alpha, alpha_error = _mean(alphas)
    return output, alpha, output_error, alpha_error


def _one_group(
    phi: Activation,
    inputs: Array,
    factors: list[tuple[Array, Array]],
    products: Array,
    steps: Array,
    count: int,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    n = len(steps)
    slopes = Slopes(*phi.slopes_at_zero)
    u = rng.standard_normal((count, inputs.shape[1])) @ inputs.T
    gradients = _draw(factors[0][1], count, rng)
    before = phi.value(u[:, :n])
    after = phi.value(u[:, n:] + (steps * phi.derivative(u[:, :n]) * gradients) @ products)
    alphas = [before.T @ after / count]
    for layer in range(1, len(factors)):
        h, gradients = (_draw(factor, count, rng) for factor in factors[layer])
        slope = np.where(h > 0.0, slopes.above, slopes.below)
        # A smooth activation is linear here, and uncorrelated with what is even in the gradients.
        before = slope * h if slopes.above != slopes.below else np.zeros_like(h)
        after = phi.value((steps * slope * gradients) @ alphas[-1])
        alphas.append(before.T @ after / count)
    # Gradients of the last layer are the readout's weights, the same for every sample.
    output = (gradients[:, 0] + before @ steps) @ after / count
    return output, np.array(alphas)


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


def _mean(groups: list[Array]) -> tuple[Array, Array]:
    values = np.array(groups)
    return values.mean(axis=0), values.std(axis=0, ddof=1) / math.sqrt(len(groups))
