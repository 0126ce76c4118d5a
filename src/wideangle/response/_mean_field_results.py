"""From recorded outputs to the Dataset that the mean-field model returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wideangle.response._mean_field_running import MeanFieldRun
from wideangle.response._training_results import mean_loss
from wideangle.response._training_run import times_of_steps
from wideangle.response.responses import loss_derivative

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


def mean_field_dataset(
    run: MeanFieldRun, outputs: Array, diverged_step: Integers, probe: Array, dim: str
) -> xr.Dataset:
    """Return outputs (run, record, point) with what follows from them."""
    import xarray as xr

    x, y = run.order.x, run.order.y
    at_samples, dims = outputs[..., : len(x)], (dim, "time")
    plasticity = np.stack([np.interp(run.records, run.knots, values) for values in run.plasticity])
    # (run, record, sample)
    diagonal = plasticity[..., None] * np.einsum("kii->ki", run.columns[..., : len(x)])[:, None]
    diagonal = np.where(np.isnan(at_samples), np.nan, diagonal)
    with np.errstate(over="ignore"):
        response = (np.abs(loss_derivative(run.loss, at_samples, y)) * diagonal).mean(axis=-1)
    dataset = xr.Dataset(
        {
            "outputs": ((*dims, "sample"), at_samples),
            "loss": (dims, mean_loss(run.loss, at_samples, y)),
            "plasticity": (dims, diagonal.mean(axis=-1)),
            "response": (dims, response),
            "status": (dim, (diverged_step >= 0).astype(np.int64)),
            "diverged_step": (dim, diverged_step),
        },
        {
            dim: run.numbers,
            "time": times_of_steps(run.records, run.learning_rate, run.first_step, run.start_time),
            "step": ("time", run.records),
            "x": (("sample", "feature"), x),
            "y": ("sample", y),
        },
    )
    if len(probe):
        dataset.coords["probe_x"] = (("probe", "feature"), probe)
        dataset["probe_outputs"] = ((*dims, "probe"), outputs[..., len(x) :])
    if x.shape[1] == 1:
        places = np.argsort(np.concatenate([x, probe])[:, 0], kind="stable")
        dataset["n_domains"] = (dims, count_domains(outputs[..., places]))
    return dataset


def add_networks(dataset: xr.Dataset, model: Array, outputs: Array) -> None:
    """Add the outputs of the networks (network, time, point), and how far those of the model are from them."""
    dims, n_samples = ("network", "time"), dataset.sizes["sample"]
    with np.errstate(over="ignore"):
        error, change = (np.sqrt(np.mean(d**2, axis=-1)) for d in (model - outputs, outputs - outputs[:, :1]))
    dataset["network_outputs"] = ((*dims, "sample"), outputs[..., :n_samples])
    if "probe" in dataset.sizes:
        dataset["probe_network_outputs"] = ((*dims, "probe"), outputs[..., n_samples:])
    dataset["error"], dataset["change"] = (dims, error), (dims, change)


def count_domains(outputs: Array) -> Integers:
    """Return the number of intervals of one sign along the last axis, in which zeros break nothing; -1 for NaN."""
    signs = np.sign(outputs)
    latest = np.maximum.accumulate(np.where(signs != 0.0, np.arange(signs.shape[-1]), 0), axis=-1)
    signs = np.take_along_axis(signs, latest, axis=-1)
    changes = (signs[..., 1:] != signs[..., :-1]) & (signs[..., :-1] != 0.0)
    number = changes.sum(axis=-1) + (signs[..., -1] != 0.0)
    return np.where(np.isnan(outputs).any(axis=-1), -1, number).astype(np.int64)
