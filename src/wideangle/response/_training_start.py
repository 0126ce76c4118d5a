"""Where training starts: at weights drawn from a seed, or at a state that training has led to."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import check_integer
from wideangle.network import MLP, NetworkWeights
from wideangle.propagation.network_simulation import check_float32_weights
from wideangle.response._state import States, layer_slices, read_state
from wideangle.response._training_arguments import MAX_STEPS
from wideangle.response._training_run import TrainingRun, initial_parameters, times_of_steps

Array = NDArray[np.float64]


class Start(NamedTuple):
    """Networks to train: the state they are in, None if they are to be drawn, number and time of their first step."""

    states: States | None
    first_step: int
    time: float

    @property
    def digest(self) -> str:
        """What tells the state from others, or "None"."""
        if self.states is None:
            return "None"
        return hashlib.sha256(np.ascontiguousarray(self.states.parameters).tobytes()).hexdigest()[:16]

    def times(self, run: TrainingRun) -> Array:
        """Return the times of the records."""
        return times_of_steps(np.array(run.records), run.learning_rate, run.first_step, self.time)

    def parameters(self, run: TrainingRun, net: MLP, *, first_network: int, n_networks: int, biases: str) -> Array:
        """Return the parameters (network, parameter)."""
        if self.states is not None:
            return np.ascontiguousarray(np.broadcast_to(self.states.parameters, (n_networks, self.states.size)))
        drawn = initial_parameters(net, run.sizes[0], seed=run.seed, first_network=first_network, n_networks=n_networks)
        for place in without_biases(run.sizes, biases):
            drawn[:, place] = 0.0
        return drawn


def without_biases(sizes: tuple[int, ...], biases: str) -> list[slice]:
    """Return where biases stand that are 0 and stay so, of ``"all"``, ``"hidden"`` or ``"none"`` that there are."""
    places = [place.biases for place in layer_slices(sizes)]
    return {"all": [], "hidden": places[-1:], "none": places}[biases]


def check_start(
    initial: Any,
    start_step: Any,
    run: TrainingRun,
    net: MLP,
    *,
    n_networks: int,
    first_network: int,
    biases: str,
) -> Start:
    """Return where training is to start, which must fit everything else."""
    if initial is None:
        check_float32_weights(net, run.sizes[0])
        first_step = _check_step(0 if start_step is None else start_step, run.n_steps)
        return Start(None, first_step, run.learning_rate * first_step)
    states = read_state(initial, name="initial")
    _check_shape(states, run)
    _check_networks(states, n_networks, first_network, numbered=not isinstance(initial, NetworkWeights))
    for place in without_biases(states.sizes, biases):
        if np.any(states.parameters[:, place] != 0.0):
            raise ValueError(
                "initial must have biases of 0 where there are to be none, and has others; give biases=True, or set "
                "them to 0"
            )
    step, time = (states.coords.get(name) if start_step is None else None for name in ("step", "time"))
    if step is not None:
        start_step = int(step)
    first_step = _check_step(0 if start_step is None else start_step, run.n_steps)
    return Start(states, first_step, run.learning_rate * first_step if time is None else float(time))


def _check_step(start_step: Any, n_steps: int) -> int:
    return check_integer(
        "start_step", start_step, low=0, high=MAX_STEPS - n_steps, remedy="give the number of the first step, or None"
    )


def _check_shape(states: States, run: TrainingRun) -> None:
    if states.sizes != run.sizes:
        shapes = ["-".join(map(str, each)) for each in (run.sizes, states.sizes)]
        raise ValueError(
            f"initial must hold networks {shapes[0]}, as network and data say, got {shapes[1]}; give the network and "
            "data of the same sizes"
        )
    if states.activation != run.activation:
        raise ValueError(
            f"initial must hold networks with the activation {run.activation}, got {states.activation}; "
            f"give activation='{states.activation}' to train them as they are"
        )


def _check_networks(states: States, n_networks: int, first_network: int, *, numbered: bool) -> None:
    if set(states.dims) - {"network"}:
        lengths = dict(zip(states.dims, states.shape, strict=True))
        raise ValueError(
            f"initial must hold networks at one time, got dimensions {lengths}; select, such as initial.isel(time=-1)"
        )
    if states.dims and len(states) != n_networks:
        raise ValueError(
            f"initial must hold n_networks = {n_networks} networks, or one for all, got {len(states)}; "
            f"give n_networks={len(states)}"
        )
    if not numbered or (n_networks > 1 and not states.dims):
        return
    numbers = states.coords.get("network")
    if numbers is not None and not np.array_equal(np.atleast_1d(numbers), first_network + np.arange(n_networks)):
        raise ValueError(
            f"initial must hold the networks from first_network = {first_network} on, by which samples are drawn, got "
            f"{np.atleast_1d(numbers).tolist()[:8]}; give first_network, or initial.drop_vars('network') to number anew"
        )
