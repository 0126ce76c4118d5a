"""The numbers of panels (d) and (e) of the reproduction of arXiv 2405.04074: spaces of features, and fragility."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wideangle._progress import progress_callback
from wideangle.papers.response_panels import METHODS, Case, geometric, points, samples, train
from wideangle.response import feature_space, fragility, relate_fragility, tangent_kernel

if TYPE_CHECKING:
    import xarray as xr

    from wideangle.papers.response import Job

LOSSES = ("squared", "cross-entropy")
SIZES = ("kinks", "active_units", "distinct_units", "effective_rank", "participation_ratio")
RADIUS = 0.1
N_RECORDS = 9
FRAGILE = ("relative_worst_change", "flip_fraction", "contradiction_mean", "contradiction_flips")


def features(job: Job, progress: bool) -> xr.Dataset:
    """Measure networks of ReLU that were trained for the same time with several learning rates and methods.

    Returns
    -------
    xarray.Dataset
        On (loss_name, learning_rate, training, network): ``SIZES`` of the space of features over the points, along
        ``time``; at the end ``curvature``, the mean of K(x, x) over the samples, ``loss``, ``participation_ratio_raw``
        with the means of the activations, and measures of fragility, means over points or samples: ``worst_change`` of
        the output under changes of the input up to ``RADIUS``, and ``FRAGILE``, as
        :func:`wideangle.response.relate_fragility` defines them.
    """
    import xarray as xr

    cases = [(loss, rate, method) for loss in LOSSES for rate in job.learning_rates for method in METHODS]
    found = []
    with progress_callback(len(cases), progress, unit="kind") as report:
        for number, (loss, rate, method) in enumerate(cases):
            found.append(_measure(job, Case(loss, method, "relu"), rate))
            if report is not None:
                report(number + 1)
    rows = iter(found)
    by_loss = []
    for _ in LOSSES:
        by_rate = [
            xr.concat([next(rows) for _ in METHODS], xr.Variable("training", list(METHODS)), combine_attrs="drop")
            for _ in job.learning_rates
        ]
        by_loss.append(xr.concat(by_rate, xr.Variable("learning_rate", list(job.learning_rates)), combine_attrs="drop"))
    every = xr.concat(by_loss, xr.Variable("loss_name", list(LOSSES)), combine_attrs="drop")
    result: xr.Dataset = every.assign_attrs(learning_rate=job.learning_rate)
    return result


def _measure(job: Job, case: Case, rate: float) -> xr.Dataset:
    x, grid = samples()[0], points()
    n_steps = round(job.duration / rate)
    # The same times for all learning rates, with the steps that they have in common.
    times = np.array(geometric(round(job.duration / max(job.learning_rates)), N_RECORDS)) * max(job.learning_rates)
    record = tuple(round(time / rate) for time in times)
    state = train(job, case, n_steps=n_steps, learning_rate=rate, record=record)
    sizes = feature_space(state, grid)[list(SIZES)].reset_coords("step", drop=True).assign_coords(time=times)
    last = state.isel(time=-1).reset_coords(["time", "step"], drop=True)
    kernel = tangent_kernel(last, x, n_threads=job.n_threads)["kernel"]
    fragile = fragility(last, grid, radius=RADIUS)
    worst = fragile["lower"].mean("probe")
    means = {
        "curvature": kernel.isel(input_=kernel["input"].variable).mean("input"),
        "loss": last["loss"],
        "participation_ratio_raw": feature_space(last, grid, centred=False)["participation_ratio"],
        "worst_change": worst,
        "relative_worst_change": worst / np.sqrt((fragile["output"] ** 2).mean("probe")),
        "flip_fraction": fragile["flip_fraction"],
        "contradiction_mean": fragile["contradiction_mean"].mean("sample"),
        "contradiction_flips": fragile["contradiction_flips"].mean("sample"),
        "lower": fragile["lower"],
        "output": fragile["output"],
    }
    result: xr.Dataset = sizes.assign({name: values.reset_coords(drop=True) for name, values in means.items()})
    return result


def relations(features: xr.Dataset, job: Job) -> xr.Dataset:
    """Correlate ranks of networks by the size of their space of features and by their fragility.

    Returns
    -------
    xarray.Dataset
        What :func:`wideangle.response.relate_fragility` returns on (loss_name, pool): for networks of each method at
        ``job.learning_rate``, and ``"all"`` for all methods and learning rates together.
    """
    import xarray as xr

    last = features.isel(time=-1)
    by_loss = []
    for loss in LOSSES:
        here = last.sel(loss_name=loss)
        pools = {method: here.sel(learning_rate=job.learning_rate, training=method) for method in METHODS}
        everything = here.rename(network="number").stack(network=("learning_rate", "training", "number"))
        # All methods and learning rates begin with the same networks.
        starts = everything["number"].values
        everything = everything.drop_vars(["network", "learning_rate", "training", "number"])
        pools["all"] = everything.assign_coords(start=("network", starts))
        each = [_relate(pool, job.seed) for pool in pools.values()]
        by_loss.append(xr.concat(each, xr.Variable("pool", list(pools)), combine_attrs="drop"))
    return xr.concat(by_loss, xr.Variable("loss_name", list(LOSSES)), combine_attrs="drop")


def _relate(pool: xr.Dataset, seed: int) -> xr.Dataset:
    """Relate sizes with fragility; contradictions are measured at samples, of which there is a mean already."""
    fragile = pool[["lower", "output", "flip_fraction"]]
    extra = {name: pool[name].expand_dims("sample") for name in ("contradiction_mean", "contradiction_flips")}
    sizes, grouped = pool[list(SIZES)].reset_coords(drop=True), "start" in pool.coords
    if grouped:
        sizes = sizes.assign_coords(start=pool["start"].variable)
    found = relate_fragility(
        sizes,
        fragile.reset_coords(drop=True).assign({name: part.reset_coords(drop=True) for name, part in extra.items()}),
        seed=seed,
        n_bootstrap=1000,
        groups="start" if grouped else None,
    )
    plain: xr.Dataset = found.reset_coords(drop=True)
    return plain
