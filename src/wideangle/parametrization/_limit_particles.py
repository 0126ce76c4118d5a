r"""Integrable networks at infinite width during training: layers of particles that meet in averages.

Inner weights are sums of products of gradients and activations, one for each sample and past step, and are never
formed. With N particles in a layer, B samples, P points and t steps taken, a layer's forward pass costs 4 N t B (B + P)
operations and its backward pass 4 N t B², all of them in products of matrices, and T steps of L layers cost
2 (L - 1) N T² B (2B + P). No product of two activations, or of two gradients, is taken twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle.activations import Activation
from wideangle.parametrization._expectations import Slopes
from wideangle.parametrization._first_step_particles import _covariances, _factor
from wideangle.parametrization._objectives import Objective

Array = NDArray[np.float64]
Particles = list[tuple[Array, Array]]

_BITS = 30  # of a point of a Sobol sequence
_SPREAD_EVENLY = 1000  # directions of a Gaussian at most; the others are drawn independently
_NEGLIGIBLE = 1e-14  # of a variance


class Task(NamedTuple):
    """What is trained, and how."""

    phi: Activation
    variance: float
    n_hidden: int
    samples: Array
    points: Array
    objective: Objective
    n_steps: int
    learning_rate: float
    first_learning_rate: float

    def descent(self, step: int, outputs: Array) -> Array:
        """Return minus the learning rate times the derivative of the loss by outputs (sample, unit)."""
        return self.objective.descent(outputs, self.learning_rate if step > 0 else self.first_learning_rate)

    @property
    def arguments(self) -> dict[str, Any]:
        """Those that results remember."""
        return {
            "n_hidden": self.n_hidden,
            "n_steps": self.n_steps,
            "learning_rate": self.learning_rate,
            "first_learning_rate": self.first_learning_rate,
            "loss": str(self.objective.loss),
            "n_outputs": self.objective.n_outputs,
            "activation": str(self.phi),
            "weight_variance": self.variance,
        }


class Course(NamedTuple):
    """Values for every step from the start on: outputs (step, sample and point, unit) and what else is reported.

    ``loss`` is (step); ``size`` is the root mean square of pre-activations, (step, layer).
    """

    output: Array
    loss: Array
    size: Array


class _Law(NamedTuple):
    """Of the particles at the start; Gaussians are given by factors of their covariances.

    Attributes
    ----------
    inputs
        Of the first layer's pre-activations, of samples and points together.
    forward
        Of pre-activations of layers 2 to L at the samples, scaled to order one.
    backward
        Of gradients that reach layers 1 to L - 1, times what the first step gives to every sample and output.
    descent
        That of the first step, (sample, unit).
    products
        Of the inputs: samples with samples and points.
    """

    inputs: Array
    forward: list[Array]
    backward: list[Array]
    descent: Array
    products: Array


def simulate_replicas(
    task: Task, *, n_particles: int, n_replicas: int, seed: int, progress: Callable[[Sequence[int]], Iterable[int]]
) -> tuple[Course, Course]:
    """Return estimates and one standard error of each.

    Averages over the particles of all replicas together make the estimate. Its bias, 1/R of that of R replicas by
    themselves to leading order, is told by their difference and taken out. The error is from the distances of replicas
    from the estimate, which their bias is a part of: where it is not small, neither are higher orders.
    """
    law = _law(task)
    # Particles are drawn twice, so that there is only one set of weights at a time.
    seeds = np.random.SeedSequence(seed).spawn(n_replicas)
    own, pooled = [], None
    for replica in progress(range(n_replicas + 1)):
        if replica < n_replicas:
            own.append(_train(task, law, _draw(law, n_particles, seeds[replica])))
        else:
            drawn = [_draw(law, n_particles, some) for some in seeds]
            together = [tuple(map(np.concatenate, zip(*layer, strict=True))) for layer in zip(*drawn, strict=True)]
            pooled = _train(task, law, together)  # type: ignore[arg-type]
    assert pooled is not None
    estimates, errors = [], []
    for value, *values in zip(pooled, *own, strict=True):
        distances = np.array(values) - value
        estimates.append(value - distances.mean(axis=0) / (n_replicas - 1))
        errors.append(np.sqrt(np.mean(distances**2, axis=0) / (n_replicas - 1)))
    return Course(*estimates), Course(*errors)


def _law(task: Task) -> _Law:
    forward, backward = _covariances(task.phi, task.variance, task.n_hidden, task.samples)
    both = np.concatenate([task.samples, task.points])
    u, s, _ = np.linalg.svd(both, full_matrices=False)
    descent = task.descent(0, np.zeros_like(task.objective.targets))
    return _Law(
        u * s * math.sqrt(task.variance / both.shape[1]),
        [_main(k) for k in forward[1:]],
        [_main(descent @ descent.T * k) for k in backward[:-1]],
        descent,
        task.samples @ both.T,
    )


def _main(covariance: Array) -> Array:
    """Return a factor whose columns become smaller, without what is negligible."""
    factor = _factor(covariance)[:, ::-1]
    squares = np.sum(factor**2, axis=0)
    return factor[:, : max(1, int(np.sum(squares > _NEGLIGIBLE * squares[0])))]


def _draw(law: _Law, count: int, seed: np.random.SeedSequence) -> Particles:
    """Return pre-activations and gradients of every layer at the start; of the last layer its weights instead."""
    rng = np.random.default_rng(seed)
    particles = []
    for place, factor in enumerate((law.inputs, *law.forward)):
        directions = factor.shape[1]
        last = place == len(law.forward)
        others = law.descent.shape[1] if last else law.backward[place].shape[1]
        # Behind the first layer every particle has a twin with the opposite pre-activation: what is odd in it vanishes
        # exactly, as it has to for activations that are smooth at zero.
        z = _normal(count if place == 0 else count // 2, directions + others, rng)
        h, g = z[:, :directions] @ factor.T, z[:, directions:]
        g = g if last else g @ law.backward[place].T
        particles.append((h, g) if place == 0 else (np.concatenate([h, -h]), np.concatenate([g, g])))
    return particles


def _normal(count: int, directions: int, rng: np.random.Generator) -> Array:
    """Return standard normal variables spread more evenly than independent ones, by a scrambled Sobol sequence."""
    from scipy.special import ndtri
    from scipy.stats import qmc

    spread = min(directions, _SPREAD_EVENLY)
    points = qmc.Sobol(spread, bits=_BITS, seed=rng).random_base2(count.bit_length() - 1)
    rest = rng.standard_normal((count, directions - spread))
    return np.concatenate([ndtri(points + 0.5**_BITS / 2.0), rest], axis=1)


def _train(task: Task, law: _Law, particles: Particles) -> Course:
    network = _Network(task, law, particles)
    n_samples = len(task.samples)
    outputs = [np.zeros((law.products.shape[1], law.descent.shape[1]))]
    sizes = [[_size(particles[0][0][:, :n_samples]), *(0.0,) * (task.n_hidden - 1)]]
    for step in range(1, task.n_steps + 1):
        h, x = network.forward()
        outputs.append(network.output(x[-1]))
        sizes.append([_size(z[:, :n_samples]) for z in h])
        if step < task.n_steps:
            network.step(h, x, task.descent(step, outputs[-1][:n_samples]))
    output = np.array(outputs)
    return Course(output, task.objective.value(output[:, :n_samples]), np.array(sizes))


def _size(values: Array) -> float:
    return math.sqrt(np.mean(np.square(values)))


class _Network:
    """Particles of every layer after the first step.

    ``gradients[l]`` and ``activations[l]``, (particle, step and sample), are the two sides of the updates of the
    weights between the hidden layers l and l + 1, counted from 0; gradients are times minus the learning rate.
    """

    def __init__(self, task: Task, law: _Law, particles: Particles) -> None:
        self.phi, self.products, self.rank = task.phi, law.products, 0
        self.first, self.readout = particles[0][0], particles[-1][1]
        # Stored so that what belongs to the steps taken is contiguous.
        shape = (len(particles), len(self.first), task.n_steps * len(law.products))
        self.gradients, self.activations = (
            [np.empty(shape[1:], order="F") for _ in range(shape[0] - 1)] for _ in range(2)
        )
        above, below = Slopes(*self.phi.slopes_at_zero)
        moves, x = [], []
        for place, (h, g) in enumerate(particles):
            h = h[:, : len(law.products)]
            slope = self.phi.derivative(h) if place == 0 else np.where(h > 0.0, above, below)
            x.append(self.phi.value(h) if place == 0 else slope * h)
            moves.append(slope * (g @ law.descent.T if place == len(particles) - 1 else g))
        self._move(moves, x, law.descent)

    def forward(self) -> tuple[list[Array], list[Array]]:
        """Return pre-activations and activations of every layer, (particle, sample and point)."""
        h = [self.first]
        x = [self.phi.value(self.first)]
        for left, right in zip(self.gradients, self.activations, strict=True):
            overlaps = right[:, : self.rank].T @ x[-1] / len(right)
            h.append(left[:, : self.rank] @ overlaps)
            x.append(self.phi.value(h[-1]))
        return h, x

    def output(self, x: Array) -> Array:
        """Return outputs (sample and point, unit), given the activations of the last layer."""
        return np.asarray(x.T @ self.readout / len(x))

    def step(self, h: list[Array], x: list[Array], descent: Array) -> None:
        """Take a step, given all pre-activations and activations and what it adds to the outputs' gradients."""
        n = len(descent)
        moves = [self.phi.derivative(h[-1][:, :n]) * (self.readout @ descent.T)]
        for left, right, z in zip(self.gradients[::-1], self.activations[::-1], h[-2::-1], strict=True):
            overlaps = left[:, : self.rank].T @ moves[-1] / len(left)
            moves.append(self.phi.derivative(z[:, :n]) * (right[:, : self.rank] @ overlaps))
        self._move(moves[::-1], [values[:, :n] for values in x], descent)

    def _move(self, moves: list[Array], x: list[Array], descent: Array) -> None:
        self.first = self.first + moves[0] @ self.products
        self.readout = self.readout + x[-1] @ descent
        added = slice(self.rank, self.rank + len(descent))
        for left, right, move, values in zip(self.gradients, self.activations, moves[1:], x[:-1], strict=True):
            left[:, added], right[:, added] = move, values
        self.rank = added.stop
