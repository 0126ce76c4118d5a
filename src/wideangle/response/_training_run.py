"""What the kernel trains: one run as plain numbers, the parameters it leads to and the samples it meets."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wideangle import _core
from wideangle._cpu import active_cpu_path, available_threads
from wideangle._progress import progress_callback
from wideangle.activations import Activation
from wideangle.losses import LOSSES, Loss
from wideangle.network import MLP
from wideangle.response._state import layer_slices

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class TrainingRun:
    """A run of descent or gradient flow on checked data, the same for all networks but for their random numbers.

    Attributes
    ----------
    x, y
        Data (sample, feature) and (sample), C-contiguous.
    widths
        Hidden layers.
    weight_rates, bias_rates
        Factors of the learning rate for each layer, the readout last.
    first_step, n_steps, records
        Number of the first step, length of the run, and the increasing numbers of the steps before which, or after the
        last, parameters are kept.
    order
        ``"full"``, ``"drawn"`` with replacement, ``"permuted"`` in each epoch, or ``"given"`` by the next.
    batch
        Samples of a step; their number for a full batch.
    tolerance
        0 for descent; for gradient flow what a step may err by, as a part of the norm of the parameters.
    given
        Samples (step, batch) that all networks take, or None.
    noise
        Standard deviation of label noise; probability of a flip for other losses than the squared one.
    """

    x: Array
    y: Array
    widths: tuple[int, ...]
    activation: Activation
    loss: Loss
    weight_rates: tuple[float, ...]
    bias_rates: tuple[float, ...]
    learning_rate: float
    n_steps: int
    records: tuple[int, ...]
    order: str
    batch: int
    seed: int
    noise: float = 0.0
    tolerance: float = 0.0
    given: Integers | None = None
    first_step: int = 0

    @property
    def sizes(self) -> tuple[int, ...]:
        """Features, widths of the hidden layers, and 1."""
        return (self.x.shape[1], *self.widths, 1)

    def starting_at(self, step: int) -> TrainingRun:
        """Return the same run with another number for its first step."""
        shift = step - self.first_step
        return replace(self, first_step=step, records=tuple(shift + each for each in self.records))

    def train(
        self, initial: Array, *, first_network: int = 0, n_threads: int = 0, progress: bool = False
    ) -> tuple[Array, Integers]:
        """Train networks with these parameters (network, parameter).

        Returns parameters (network, record, parameter), NaN from the step on in which a network diverges, and that step
        (network), or -1. ``n_threads`` is 0 for every processor.
        """
        with progress_callback(len(initial) * self.n_steps, progress, unit="step") as advance:
            parameters, diverged = _core.train_networks(
                initial,
                self.x,
                self.y,
                widths=list(self.widths),
                activation=self.activation.code,
                slope=self.activation.slope,
                loss=LOSSES.index(self.loss.name),
                weight_rates=list(self.weight_rates),
                bias_rates=list(self.bias_rates),
                learning_rate=self.learning_rate,
                records=list(self.records),
                first_network=first_network,
                n_threads=n_threads or available_threads(),
                tolerance=self.tolerance,
                first_step=self.first_step,
                n_steps=self.n_steps,
                order=self.order,
                batch=self.batch,
                given=None if self.given is None else np.ascontiguousarray(self.given, dtype=np.uint32),
                noise=self.noise,
                flips=self.loss.name != "squared",
                seed=self.seed,
                cpu_path=active_cpu_path(),
                progress=advance,
            )
        return parameters, diverged


def times_of_steps(steps: Integers, learning_rate: float, first_step: int, start_time: float) -> Array:
    """Return the times of steps of a run whose first one begins at ``start_time``."""
    if start_time == learning_rate * first_step:
        # One rate all along: no rounding is to tell the parts of a run from the whole.
        return np.asarray(learning_rate * steps, dtype=np.float64)
    return np.asarray(start_time + learning_rate * (steps - first_step), dtype=np.float64)


def initial_parameters(net: MLP, input_dim: int, *, seed: int, first_network: int, n_networks: int) -> Array:
    """Return the parameters (network, parameter) of networks of :func:`wideangle.propagation.simulate_outputs`."""
    count = layer_slices((input_dim, *net.widths, 1))[-1].biases.stop
    parameters = np.empty((n_networks, count))
    block = max(2**20 // count, 1)  # some milliseconds, so that Ctrl-C is heard
    for start in range(0, n_networks, block):
        stop = min(start + block, n_networks)
        parameters[start:stop] = _core.initial_parameters(
            input_dim,
            list(net.widths),
            weight_variance=net.weight_variance,
            bias_variance=net.bias_variance,
            seed=seed,
            first_network=first_network + start,
            n_networks=stop - start,
            cpu_path=active_cpu_path(),
        )
    return parameters


def learning_rate_factors(
    net: MLP, input_dim: int, *, parametrization: str, readout: str, biases: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    r"""Return what the learning rate of the weights and of the biases of each layer is multiplied with.

    With :math:`W = s\,\omega` descent of :math:`\omega` at rate :math:`\eta` moves W at rate :math:`s^2\eta`.
    """
    fans = [input_dim, *net.widths]
    if parametrization == "ntk":
        weights = [net.weight_variance / fan for fan in fans]
        offsets = [net.bias_variance for _ in fans]
    else:
        weights, offsets = [1.0 for _ in fans], [1.0 for _ in fans]
    if biases == "none":
        offsets = [0.0 for _ in fans]
    if biases == "hidden":
        offsets[-1] = 0.0
    if readout == "frozen":
        weights[-1] = offsets[-1] = 0.0
    return tuple(weights), tuple(offsets)
