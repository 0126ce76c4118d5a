"""Panels (f) and (g) of the reproduction of arXiv 2405.04074 and 2204.07291: images and the mean-field model."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wideangle._progress import progress_callback
from wideangle.data import LabelledData
from wideangle.papers.response_panels import (
    DESCENT,
    SINGLE,
    Case,
    distance_correlation,
    geometric,
    late_exponent,
    law,
    points,
    samples,
    train,
)
from wideangle.reference import build_mlp
from wideangle.reference._torch import plain_descent, torch_threads
from wideangle.response import measure, simulate_mean_field

if TYPE_CHECKING:
    import xarray as xr

    from wideangle.papers.response import Job

MODELLED = ("relu", "tanh")
MODEL_RECORDS = 17
IMAGE_WIDTH, IMAGE_RATE, IMAGE_PROBES, IMAGE_RECORDS = 32, 0.05, 32, 13
IMAGE_STEPS = (IMAGE_RATE, 1e-3 * IMAGE_RATE)  # Learning rates of real steps.


def model(job: Job) -> xr.Dataset:
    """Follow networks and their mean-field model in gradient descent on the cross-entropy.

    Returns
    -------
    xarray.Dataset
        On (activation, network, time): ``error``, that of the model over the change of the outputs of the network,
        ``constant_error``, the same with a plasticity that does not age, ``n_domains`` of the model and
        ``network_domains``, the numbers of intervals of one sign of the output, and ``moved``, the share of points
        whose sign differs from that at the end. ``label_domains`` are those of the labels. ``outputs(activation, time,
        point)`` and ``network_outputs`` of the first network, at ``point_x(point)``.
    """
    import xarray as xr

    found = []
    n_steps = round(job.duration / job.learning_rate)
    for activation in MODELLED:
        case = Case("cross-entropy", DESCENT, activation)
        record = geometric(n_steps, MODEL_RECORDS)
        state = train(job, case, n_steps=n_steps, learning_rate=job.learning_rate, record=record)
        followed = simulate_mean_field(None, kernel=state, probe=points(), n_threads=job.n_threads)
        constant = simulate_mean_field(None, kernel=state, aging=1.0, probe=points(), n_threads=job.n_threads)
        found.append(_compare(followed, constant))
    result = xr.concat(found, xr.Variable("activation", list(MODELLED)), combine_attrs="drop")
    labelled: xr.Dataset = result.assign(label_domains=int(1 + np.count_nonzero(np.diff(samples()[1]))))
    return labelled


def _compare(followed: xr.Dataset, constant: xr.Dataset) -> xr.Dataset:
    import xarray as xr

    place = np.concatenate([followed["x"].values[:, 0], followed["probe_x"].values[:, 0]])
    order = np.argsort(place, kind="stable")
    outputs = {
        name: np.concatenate([followed[f"{start}{end}"].values for start, end in pair], axis=2)[:, :, order]
        for name, pair in {
            "outputs": (("", "outputs"), ("probe_", "outputs")),
            "network_outputs": (("network_", "outputs"), ("probe_", "network_outputs")),
        }.items()
    }
    signs = outputs["network_outputs"] >= 0.0
    dims = ("network", "time")
    size = followed["change"].where(followed["change"] > 0.0)
    values = {
        "error": followed["error"] / size,
        "constant_error": constant["error"] / size,
        "n_domains": followed["n_domains"],
        "network_domains": (dims, 1 + np.count_nonzero(np.diff(signs, axis=2), axis=2)),
        "moved": (dims, (signs != signs[:, -1:]).mean(axis=2)),
        **{name: (("time", "point"), array[0]) for name, array in outputs.items()},
    }
    return xr.Dataset(values, {"time": followed["time"].values, "point_x": ("point", place[order])})


def images(job: Job, progress: bool) -> xr.Dataset:
    """Train small PyTorch networks on images with gradient descent and single samples, and measure responses.

    Returns
    -------
    xarray.Dataset
        On (training, run, time), means over training samples: ``response``, that at the sample itself, its factors
        ``loss_derivative`` and ``kernel``, ``similarity``, the cosine between the kernel and that at the start,
        ``fall``, the rank correlation between the shape of the response and the distance of the probe, ``loss``. On
        (training, run): ``exponent``, see :func:`late_exponent`; and sizes of the space of hidden features at the end,
        ``participation_ratio``, ``effective_rank`` and ``active_units``, over test samples. On (training, run,
        learning_rate) ``step_difference`` between the response by the kernel and by real steps at the start, root mean
        square over that of the response.
    """
    import xarray as xr

    methods = {DESCENT: "full", SINGLE: 1}
    found: list[xr.Dataset] = []
    with torch_threads(job.n_threads), progress_callback(2 * job.n_runs, progress, unit="network") as report:
        for batch in methods.values():
            runs = []
            for run in range(job.n_runs):
                runs.append(_train_on_images(job, batch, job.seed + run))
                if report is not None:
                    report(len(found) * job.n_runs + run + 1)
            found.append(xr.concat(runs, "run", combine_attrs="drop"))
    return xr.concat(found, xr.Variable("training", list(methods)), combine_attrs="drop")


def image_fits(images: xr.Dataset) -> xr.Dataset:
    """Fit laws of aging to the response of networks on images: :func:`law` on (training)."""
    import xarray as xr

    found = [xr.Dataset(law(images["response"].sel(training=name, drop=True))) for name in images["training"].values]
    result: xr.Dataset = xr.concat(found, images["training"], combine_attrs="drop")
    return result


def _train_on_images(job: Job, batch: Any, seed: int) -> xr.Dataset:
    import xarray as xr

    data: LabelledData = job.data
    x, y = data.x_train[: job.image_samples], data.y_train[: job.image_samples]
    probes = data.x_test[:IMAGE_PROBES]
    module = build_mlp((IMAGE_WIDTH,), n_inputs=x.shape[1], n_outputs=data.n_classes, seed=seed, bias=True)
    options: dict[str, Any] = {"y_train": y, "batch": batch, "readout": "2", "seed": seed}
    # In float64, as small steps are lost in the rounding of float32.
    exact = copy.deepcopy(module).double()
    begin = [
        measure(exact, x, probes, plain_descent(rate), [0], kind=kind, **options)["response"].isel(time=0)
        for kind, rate in (("kernel", IMAGE_RATE), *(("step", rate) for rate in IMAGE_STEPS))
    ]
    times = geometric(job.image_steps, IMAGE_RECORDS)
    run = measure(module, x, probes, plain_descent(IMAGE_RATE), times, in_place=True, **options)
    kernel = run["kernel"].values.reshape(len(times), -1)
    norms = np.linalg.norm(kernel, axis=1)
    force = np.sqrt((run["loss_derivative"] ** 2).sum("output"))
    differences = [np.sqrt(((step - begin[0]) ** 2).mean() / (begin[0] ** 2).mean()) for step in begin[1:]]
    distances = np.linalg.norm(x[:, None].astype(float) - probes[None], axis=2)
    curves = {
        "response": run["amplitude"].mean("train"),
        "loss_derivative": force.mean("train"),
        "kernel": (run["amplitude"] / force).mean("train"),
        "similarity": ("time", kernel @ kernel[0] / (norms * norms[0])),
        "fall": ("time", distance_correlation(run["shape"].values, distances)),
        "loss": run["loss"],
    }
    dataset = xr.Dataset(curves, {"time": run["time"].values, "learning_rate": list(IMAGE_STEPS)})
    numbers = {
        "exponent": late_exponent(dataset["response"]),
        "step_difference": ("learning_rate", np.array(differences)),
        **_hidden_sizes(module, data.x_test),
    }
    complete: xr.Dataset = dataset.assign(numbers).reset_coords(drop=True)
    return complete


def _hidden_sizes(module: Any, x: NDArray[Any]) -> dict[str, float]:
    """Return sizes of the space of hidden activations over inputs."""
    weights, bias = (values.detach().numpy().astype(float) for values in (module[0].weight, module[0].bias))
    hidden = np.maximum(x @ weights.T + bias, 0.0)
    singular = np.linalg.svd(hidden - hidden.mean(axis=0), compute_uv=False)
    shares = singular[singular > 0.0] / singular.sum()
    return {
        "participation_ratio": float((singular**2).sum() ** 2 / (singular**4).sum()),
        "effective_rank": float(np.exp(-np.sum(shares * np.log(shares)))),
        "active_units": float(np.count_nonzero(hidden.any(axis=0))),
    }
