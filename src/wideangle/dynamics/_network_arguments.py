"""Checks of the data sets, initial values and times of two-layer networks."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from wideangle._checks import check_array, check_integer, check_memory, check_numbers, check_positive_real, check_rtol
from wideangle.dynamics._arguments import LARGEST
from wideangle.dynamics._growth import Array


class Control(NamedTuple):
    """What limits an integration."""

    rtol: float
    atol: float
    max_steps: int


def check_data(x: Any, y: Any) -> tuple[Array, Array]:
    """Return inputs (sample, feature) and as many labels of -1 or 1."""
    inputs = check_numbers("x", x, ndim=(2,), remedy="give inputs as (sample, feature)", largest=LARGEST)
    remedy = "give a label of -1 or 1 for each sample"
    labels = check_array("y", y, ndim=(1,), remedy=remedy).astype(np.float64)
    if labels.size != len(inputs):
        raise ValueError(f"y must have as many labels as x has samples, {len(inputs)}, got {labels.size}; {remedy}")
    wrong = labels[np.abs(labels) != 1.0]
    if wrong.size:
        raise ValueError(f"y must hold labels -1 and 1 alone, got {wrong[0]}; {remedy}")
    return inputs, labels


def check_sample_weights(value: Any, samples: int) -> Array:
    """Return positive weights of the samples with sum 1, equal ones for None."""
    if value is None:
        return np.full(samples, 1.0 / samples)
    remedy = f"give {samples} positive weights, one for each sample, divided by their sum"
    weights = check_numbers("probabilities", value, ndim=(1,), remedy=remedy)
    if weights.size != samples:
        raise ValueError(f"probabilities must have one entry for each sample, got {weights.size}; {remedy}")
    if np.any(weights <= 0.0):
        raise ValueError(f"probabilities must be positive, got {weights.min()}; leave out samples that do not count")
    if abs(weights.sum() - 1.0) > 1e-9:
        raise ValueError(f"probabilities must sum to 1, got {weights.sum():.12g}; {remedy}")
    return weights


def check_control(rtol: Any, atol: Any, max_steps: Any) -> Control:
    """Return tolerances and the largest number of steps."""
    relative = check_rtol(rtol)
    absolute = check_positive_real("atol", atol, remedy="give a positive number, such as 1e-12")
    steps = check_integer("max_steps", max_steps, low=1, high=2**53, remedy="give a number of steps, such as 10**6")
    return Control(relative, absolute, steps)


def check_initial(name: str, value: Any, shape: str, ndim: int) -> Array:
    """Return initial values with an axis of trajectories before the ``ndim`` others."""
    remedy = f"give {shape} or (trajectory, {shape[1:]}"
    result = check_numbers(name, value, ndim=(ndim, ndim + 1), remedy=remedy, largest=LARGEST)
    return result if result.ndim == ndim + 1 else result[None]


def check_learning_rate(value: Any, times: Array) -> tuple[float, np.ndarray[Any, np.dtype[np.int64]]] | None:
    """Return the learning rate and the steps at which the times fall, or None for the gradient flow."""
    if value is None:
        return None
    remedy = "give a positive step of gradient descent, or None for gradient flow"
    rate = check_positive_real("learning_rate", value, remedy=remedy)
    steps = np.rint(times / rate)
    if steps[-1] > 2**53:
        raise ValueError(f"times must lie within 2**53 steps of gradient descent, got {times[-1]}; ask for less time")
    wrong = np.abs(times / rate - steps) > 1e-9 * np.maximum(steps, 1.0)
    if np.any(wrong):
        raise ValueError(
            f"times must be multiples of learning_rate = {rate}, got {times[wrong][0]}; time is learning rate times "
            "steps: give learning_rate * numpy.arange(...)"
        )
    return rate, steps.astype(np.int64)


def check_flow_memory(number: int, times: int, size: int, samples: int) -> None:
    """Refuse what does not fit into memory: states, and outputs, margins and what they are made from."""
    check_memory(
        8 * number * times * (3 * size + 4 * samples),
        f"{number} trajectories at {times} times need",
        remedy="ask for fewer times, or run parts of the ensemble one after another",
    )
