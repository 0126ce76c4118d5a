"""What the mean-field model takes from networks in training: kernel, plasticity, initial outputs and samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle.losses import Loss
from wideangle.response._evaluation import check_evaluation_memory, evaluate
from wideangle.response._mean_field_order import SampleOrder
from wideangle.response._state import States, check_trained, read_state
from wideangle.response._training_results import data_digest
from wideangle.response._training_run import times_of_steps

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_ATTRIBUTES = ("batch", "replacement", "noise", "seed", "method")
_ONE_RUN = (
    "give the records of one run, or join runs that were made with the same arguments by xarray.concat with "
    "combine_attrs='drop_conflicts'"
)
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
    start_time: float  # of the first of them

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
        first = read_state(self.state.isel(time=0))
        check_evaluation_memory(first, len(self.x), len(points), n_pairs=1)
        return evaluate(first, self.x, points, keep=("kernel",))["kernel"]

    def outputs(self, points: Array) -> Array:
        """Return the outputs of the networks (network, time, point)."""
        values = evaluate(read_state(self.state), points, keep=("outputs",))["outputs"]
        return values.reshape(len(self.numbers), len(self.steps), len(points))

    def plasticity(self) -> Array:
        """Return the mean over the samples of K(x, x) in units of that at the first record, by network and time."""
        diagonal = evaluate(read_state(self.state), self.x, keep=("diagonal",))["diagonal"]
        diagonal = diagonal.reshape(len(self.numbers), len(self.steps), len(self.x))
        # Samples that no parameter has an influence on do not count.
        counted = diagonal[:, :1] > 0.0
        relative = np.divide(diagonal, diagonal[:, :1], out=np.zeros_like(diagonal), where=counted)
        number = counted.sum(axis=-1)
        result: Array = np.where(number > 0, relative.sum(axis=-1) / np.maximum(number, 1), 1.0)
        return result


def read_networks(state: xr.Dataset) -> TrainedNetworks:
    """Return the networks of a state of training that have not diverged."""
    if "weights_1" not in state:
        raise ValueError(
            "kernel must be a state of training where it is a Dataset, with weights_1 and what belongs to it, got one "
            f"of {', '.join(map(str, state)) or 'nothing'}; {_REMEDY}, or a kernel as an array (point, sample)"
        )
    states = read_state(state, name="kernel")
    loss, x, y = check_trained(states, name="kernel")
    _check_dimensions(state, states)
    learning_rate = _check_training(state, states, x, y)
    if "network" not in states.dims:
        state = state.assign(
            {name: values.expand_dims("network") for name, values in state.items() if "time" in values.dims}
        )
    numbers, steps = _check_numbers(state), _check_steps(state)
    start_time = _check_times(state, steps, learning_rate)
    state = state.transpose("network", "time", ...)
    fine = np.isfinite(read_state(state).parameters).all(axis=1).reshape(-1, len(steps)).all(axis=1)
    if not fine.any():
        raise ValueError(
            f"kernel must be a state with networks that have not diverged, got {len(numbers)} that have; lower "
            "learning_rate"
        )
    return TrainedNetworks(
        state=state.isel(network=fine),
        dropped=numbers[~fine].tolist(),
        loss=loss,
        learning_rate=learning_rate,
        x=x,
        y=y,
        numbers=numbers[fine],
        steps=steps,
        start_time=start_time,
    )


def _check_dimensions(state: xr.Dataset, states: States) -> None:
    others = [dim for dim in states.dims if dim not in ("network", "time")]
    if others:
        raise ValueError(
            f"kernel must be a state with the dimensions network and time only, got {', '.join(states.dims)}; select "
            f"one of {', '.join(others)} with isel"
        )
    if "network" not in state.coords:
        raise ValueError(
            "kernel must have the coordinate network, by whose numbers the samples of each step are drawn, got none; "
            "keep it in selections"
        )


def _check_training(state: xr.Dataset, states: States, x: Array, y: Array) -> float:
    """Return the learning rate of networks whose training can be repeated."""
    missing = [name for name in _ATTRIBUTES if name not in state.attrs]
    if missing:
        raise ValueError(
            f"kernel must be a state with the attributes {', '.join(_ATTRIBUTES)}, and lacks {missing}; {_REMEDY}, and "
            "keep its attributes, for which some functions of xarray have keep_attrs=True"
        )
    if states.learning_rate is None:
        raise ValueError(f"kernel must be a state with the attribute learning_rate, and lacks it; {_REMEDY}")
    if state.attrs["method"] != "descent":
        raise ValueError(
            f"kernel must be a state of method 'descent', got {state.attrs['method']!r}, which takes no steps; "
            "train with method='descent', or give the tangent kernel as an array"
        )
    digest = data_digest(x, y)
    if state.attrs.get("data_digest", digest) != digest:
        raise ValueError(
            "kernel must hold all the samples that its networks were trained on, in their order, got others: the "
            "samples of each step are drawn by number; give a selection of networks and times only"
        )
    return states.learning_rate


def _check_numbers(state: xr.Dataset) -> Integers:
    """Return the numbers of the networks, which their samples are drawn by."""
    values = np.atleast_1d(state["network"].values)
    whole = values.dtype.kind in "iuf" and np.all((values >= 0) & (values < 2.0**53) & (values == np.floor(values)))
    if not whole:
        raise ValueError(
            f"kernel must have whole numbers, 0 or more, as coordinate network, by which the samples of each step are "
            f"drawn, got {values.tolist()[:5]}; keep those that wideangle.response.simulate_training gave"
        )
    return values.astype(np.int64)


def _check_steps(state: xr.Dataset) -> Integers:
    if "step" not in state:
        raise ValueError(f"kernel must be a state with the coordinate step, and lacks it; {_REMEDY}")
    steps = np.atleast_1d(state["step"].values).astype(np.int64)
    if len(steps) < 2 or np.any(np.diff(steps) <= 0):
        raise ValueError(f"kernel must be a state with records of increasing steps, got steps {steps}; {_REMEDY}")
    if {"start_step", "n_steps"} <= set(state.attrs):
        _check_one_run(state, steps)
    return steps


def _check_one_run(state: xr.Dataset, steps: Integers) -> None:
    """Refuse records of several runs, such as xarray.concat gives with the attributes of the first."""
    first = int(state.attrs["start_step"])
    last = first + int(state.attrs["n_steps"])
    outside = steps[(steps < first) | (steps > last)]
    if outside.size:
        raise ValueError(
            f"kernel must hold records of the run that its attributes describe, from start_step to start_step + "
            f"n_steps, here {first} to {last}, got one of step {outside[0]}; {_ONE_RUN}"
        )


def _check_times(state: xr.Dataset, steps: Integers, learning_rate: float) -> float:
    """Return the time of the first record, if all belong to steps of one learning rate."""
    if "time" not in state.coords or state["time"].dtype.kind not in "fiu":
        return learning_rate * float(steps[0])
    times = np.atleast_1d(state["time"].values).astype(np.float64)
    expected = times_of_steps(steps, learning_rate, int(steps[0]), float(times[0]))
    if not np.allclose(times, expected, rtol=1e-9, atol=0.0):
        raise ValueError(
            f"kernel must hold records of one learning rate, at times that increase by it with each step, got times "
            f"{times} at steps {steps}; {_ONE_RUN}"
        )
    return float(times[0])
