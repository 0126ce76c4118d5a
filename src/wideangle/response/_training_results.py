"""From recorded parameters to the Dataset that training returns."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wideangle import _core
from wideangle._cpu import active_cpu_path
from wideangle.losses import Loss
from wideangle.response._evaluation import evaluate
from wideangle.response._state import States, layer_slices
from wideangle.response._training_run import TrainingRun

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]


def training_dataset(
    run: TrainingRun, parameters: Array, diverged_step: NDArray[np.int64], first_network: int
) -> xr.Dataset:
    """Return parameters (network, record, parameter) layer by layer, with data, status and coordinates."""
    import xarray as xr

    records = np.array(run.records, dtype=np.int64)
    dataset = xr.Dataset(
        {
            "x": (("sample", "feature"), run.x),
            "y": ("sample", run.y),
            "status": ("network", (diverged_step >= 0).astype(np.int64)),
            "diverged_step": ("network", diverged_step),
        },
        {
            "network": first_network + np.arange(len(parameters)),
            "time": run.learning_rate * records,
            "step": ("time", records),
        },
    )
    units = ["feature", *(f"unit_{layer}" for layer in range(1, len(run.widths) + 1)), "output"]
    for layer, place in enumerate(layer_slices(run.sizes), start=1):
        below, here = units[layer - 1], units[layer]
        weights = parameters[..., place.weights].reshape(*parameters.shape[:2], *place.shape)
        dataset[f"weights_{layer}"] = (("network", "time", here, below), weights)
        dataset[f"biases_{layer}"] = (("network", "time", here), parameters[..., place.biases])
    return dataset


def add_evaluations(
    dataset: xr.Dataset, run: TrainingRun, parameters: Array, keep: tuple[str, ...], n_threads: int
) -> None:
    """Add what the recorded networks make of the training data."""
    shape = parameters.shape[:2]
    states = States(
        parameters=parameters.reshape(-1, parameters.shape[-1]),
        sizes=run.sizes,
        activation=run.activation,
        weight_rates=run.weight_rates,
        bias_rates=run.bias_rates,
        dims=("network", "time"),
        shape=shape,
        coords={},
    )
    last = len(run.widths)
    found = evaluate(
        states,
        run.x,
        keep=("outputs", "kernel") if "tangent_kernel" in keep else ("outputs",),
        layers=(last,) if "hidden_activations" in keep else (),
        n_threads=n_threads,
    )
    outputs = found["outputs"].reshape(*shape, -1)
    dataset["outputs"] = (("network", "time", "sample"), outputs)
    dataset["loss"] = (("network", "time"), mean_loss(run.loss, outputs, run.y))
    if "tangent_kernel" in keep:
        dataset["tangent_kernel"] = states.variable(found["kernel"], "sample", "other_sample")
    if "hidden_activations" in keep:
        dataset["hidden_activations"] = states.variable(found[f"activations_{last}"], "sample", f"unit_{last}")


def mean_loss(loss: Loss, outputs: Array, y: Array) -> Array:
    """Return the mean over the samples, (network, time); of any labels for the squared loss."""
    with np.errstate(over="ignore"):
        losses = 0.5 * (outputs - y) ** 2 if loss.name == "squared" else loss.value(y * outputs)
        return np.asarray(losses.mean(axis=-1))


def data_digest(x: Array, y: Array) -> str:
    """Return what tells training data from any others, or from the same in another order."""
    parts = (np.ascontiguousarray(some, dtype=np.float64).tobytes() for some in (x, y))
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def samples_met(state: xr.Dataset) -> tuple[NDArray[np.int64], Array]:
    """Return samples and labels, noise included, (network, step, batch) that the networks of a state have met.

    The state has its networks one after the other, as training returns them. -1 and NaN fill up smaller batches.
    """
    attributes = state.attrs
    batch, n_samples = attributes["batch"], state.sizes["sample"]
    full = batch == "full"
    indices, labels = _core.training_order(
        state["x"].values,
        state["y"].values,
        first_step=attributes.get("start_step", 0),
        n_steps=attributes["n_steps"],
        order="full" if full else "drawn" if attributes["replacement"] == "True" else "permuted",
        batch=n_samples if full else batch,
        given=None,
        noise=attributes["noise"],
        flips=attributes["loss"] != "squared",
        seed=int(attributes["seed"]),
        first_network=int(np.atleast_1d(state["network"].values)[0]),
        n_networks=state["network"].size,
        cpu_path=active_cpu_path(),
    )
    return indices, labels
