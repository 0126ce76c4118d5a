"""What the mean-field model takes from networks in training: kernel, plasticity, initial outputs and samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import check_memory
from wideangle.losses import Loss
from wideangle.response._mean_field_order import SampleOrder
from wideangle.response._state import States, check_trained, read_state

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_REMEDY = "give what wideangle.response.simulate_training returns, with two records or more"


class TrainedNetworks(NamedTuple):
    """Networks in training, without those that have diverged."""

    state: xr.Dataset
    dropped: list[int]
    loss: Loss
    learning_rate: float
    x: Array
    y: Array
    numbers: Integers
    steps: Integers  # of the records

    def order(self) -> SampleOrder:
        """Return the samples that the networks were trained on, and the labels that they were told."""
        batch = self.state.attrs["batch"]
        drawn = "drawn" if self.state.attrs["replacement"] == "True" else "permuted"
        return SampleOrder(
            x=self.x,
            y=self.y,
            kind="full" if batch == "full" else drawn,
            batch=len(self.x) if batch == "full" else int(batch),
            seed=int(self.state.attrs["seed"]),
            noise=float(self.state.attrs["noise"]),
            flips=self.loss.name != "squared",
        )

    def columns(self, points: Array) -> Array:
        """Return the tangent kernels (network, sample, point) at the first record."""
        check_memory(
            16 * len(self.numbers) * len(self.x) * len(points),
            f"the kernels of {len(self.numbers)} networks need",
            remedy="give fewer of the networks or probes",
        )
        return _tangent_kernel(self._at(0), self.x, points)

    def outputs(self, points: Array, n_records: int | None = None) -> Array:
        """Return the outputs of the networks (network, time, point), of the first records or of all."""
        places = range(n_records or len(self.steps))
        return np.stack([_sweep(self._at(place), points)[0] for place in places], axis=1)

    def plasticity(self) -> Array:
        """Return the mean K(x, x) over the samples, by network and time, in units of that at the first record."""
        means = []
        for place in range(len(self.steps)):
            kernels = _tangent_kernel(self._at(place), self.x, self.x)
            means.append(np.einsum("kii->k", kernels))
        result = np.stack(means, axis=1)
        start = result[:, :1]
        # A kernel of 0 stays so, whatever it is multiplied with.
        return np.divide(result, start, out=np.ones_like(result), where=start > 0.0)

    def _at(self, place: int) -> States:
        return read_state(self.state.isel(time=place))


def read_networks(state: xr.Dataset) -> TrainedNetworks:
    """Return the networks of a state of training that have not diverged."""
    states = read_state(state)
    loss, x, y = check_trained(states)
    if "network" not in states.dims:
        state = state.expand_dims("network")
    missing = [name for name in ("batch", "replacement", "noise", "seed", "method") if name not in state.attrs]
    if missing or states.learning_rate is None or "step" not in state:
        raise ValueError(f"kernel must be a state that holds how it was trained, and lacks {missing or 'step'}; {_REMEDY}")
    if state.attrs["method"] != "descent":
        raise ValueError(
            f"kernel must be a state of method 'descent', got {state.attrs['method']!r}, which takes no steps; train with "
            "method='descent', or give the tangent kernel as an array"
        )
    steps = np.atleast_1d(state["step"].values).astype(np.int64)
    if len(steps) < 2 or np.any(np.diff(steps) <= 0):
        raise ValueError(f"kernel must be a state with records of increasing steps, got steps {steps}; {_REMEDY}")
    state = state.transpose("network", "time", ...)
    fine = np.isfinite(read_state(state).parameters).all(axis=1).reshape(-1, len(steps)).all(axis=1)
    if not fine.any():
        raise ValueError("kernel must be a state with networks that have not diverged, and has none; lower learning_rate")
    numbers = state["network"].values.astype(np.int64)
    return TrainedNetworks(
        state=state.isel(network=fine),
        dropped=numbers[~fine].tolist(),
        loss=loss,
        learning_rate=states.learning_rate,
        x=x,
        y=y,
        numbers=numbers[fine],
        steps=steps,
    )


def _sweep(states: States, x: Array) -> tuple[Array, list[Array], list[Array]]:
    """Return outputs (state, input), and the activations below and the gradients by the sums of each layer."""
    below = [np.broadcast_to(x, (len(states), *x.shape))]
    slopes = []
    for weights, biases in states.layers[:-1]:
        z = below[-1] @ weights.swapaxes(-1, -2) + biases[:, None, :]
        below.append(states.activation.value(z))
        slopes.append(states.activation.derivative(z))
    weights, biases = states.layers[-1]
    outputs = (below[-1] @ weights.swapaxes(-1, -2))[..., 0] + biases
    gradients = [np.ones((*outputs.shape, 1))]
    for (weights, _), slope in zip(states.layers[:0:-1], slopes[::-1], strict=True):
        gradients.append(gradients[-1] @ weights * slope)
    return outputs, below, gradients[::-1]


def _tangent_kernel(states: States, x: Array, other: Array) -> Array:
    _, below, gradients = _sweep(states, x)
    _, other_below, other_gradients = _sweep(states, other)
    result = np.zeros((len(states), len(x), len(other)))
    for layer in range(len(below)):
        inputs = below[layer] @ other_below[layer].swapaxes(-1, -2)
        factors = states.bias_rates[layer] + states.weight_rates[layer] * inputs
        result += gradients[layer] @ other_gradients[layer].swapaxes(-1, -2) * factors
    return result
