"""The claims of arXiv 2106.03485, and of what follows from it, each with what was measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wideangle.papers._verdicts import estimated_claim, exact_claim, standard_error
from wideangle.papers.representation_panels import LAST, ZERO
from wideangle.reports import Claim

if TYPE_CHECKING:
    import xarray as xr

    from wideangle.papers.representation import Measurements

PART = 4  # Chunks that are judged are this part of the widest layer.
SAME_ERROR = 0.01  # Between errors that are taken for the same.
KNOWN = 0.9  # Share of variance from which on chunks are taken to know the rest of the layer.
NOISE = 2.0  # Times the correlation of independent residuals in as many samples, up to which they are independent.
PREDICTED, RATE = -0.5, 0.1  # Power of the width in errors, and what is allowed around it.
LINEAR = 0.2  # Around the power 1 of the width in the number of clones.
ENSEMBLE_ERROR, ENSEMBLE_LOSS = 0.005, 1.1  # By how much, and by what factor, ensembles may be better.
COUNTED, SYNTHETIC_RATE, GENERIC = 0.1, 0.05, 0.01  # For synthetic clones.


def judge(measurements: Measurements) -> tuple[Claim, ...]:
    """Return all claims in the order of the panels."""
    networks, chunks = measurements.networks, measurements.chunks
    tasks = chunks["task"].values.tolist()
    return (
        *(claim for task in tasks for claim in chunk_claims(chunks.sel(task=task), task)),
        decided_claim(chunks),
        *(claim for task in tasks for claim in condition_claims(chunks.sel(task=task), task)),
        *(claim for task in tasks for claim in error_claims(networks.sel(task=task), chunks.sel(task=task), task)),
        *(claim for task in tasks for claim in ensemble_claims(networks.sel(task=task), task)),
        *synthetic_claims(measurements.synthetic),
    )


def trained_long(values: xr.Dataset) -> xr.Dataset:
    """Return what was measured with weight decay, at the end of training."""
    regularised: xr.Dataset = values.isel(decay=0)
    if "moment" in values.dims:
        regularised = regularised.sel(moment=LAST)
    return regularised


def judged_chunk(chunks: xr.Dataset) -> xr.Dataset:
    """Return chunks of the widest layer whose size is judged."""
    width = int(chunks["width"].values[-1])
    judged: xr.Dataset = chunks.sel(width=width, chunk_size=width // PART)
    return judged


def excess_error(chunks: xr.Dataset) -> xr.DataArray:
    """Return by how much chunks err more than their layer on the training set."""
    excess: xr.DataArray = chunks["train_error"] - own_error(chunks["train_error"])
    return excess


def own_error(errors: xr.DataArray) -> xr.DataArray:
    """Return errors of the largest chunks, which are the layers."""
    layers = [errors.sel(width=width, chunk_size=width, drop=True) for width in errors["width"].values]
    import xarray as xr

    whole: xr.DataArray = xr.concat(layers, errors["width"])
    return whole


def independent_correlation(chunks: xr.Dataset, n_samples: int) -> float:
    """Return the mean magnitude of correlations between independent residuals of chunks of the judged size."""
    size = int(chunks["width"].values[-1]) // PART
    return math.sqrt(2.0 / (math.pi * (n_samples - 1 - size)))


def critical_widths(chunks: xr.Dataset) -> xr.DataArray:
    """Return the sizes from which on chunks err on the training set as their layer does, (width, run).

    Between the sizes that are measured excess errors are taken to be linear in the logarithm of the size.
    """
    import xarray as xr

    excess = excess_error(chunks).transpose("width", "run", "chunk_size").values
    found = np.full(excess.shape[:2], np.nan)
    sizes = np.log2(chunks["chunk_size"].values)
    for place in np.ndindex(found.shape):
        curve = excess[place][np.isfinite(excess[place])]
        above = np.flatnonzero(curve > SAME_ERROR)
        if len(curve):
            last = above[-1] if len(above) else -1
            found[place] = 2.0 ** _crossing(sizes, curve, last)
    return xr.DataArray(found, {"width": chunks["width"], "run": chunks["run"]}, ("width", "run"))


def _crossing(sizes: NDArray[np.float64], curve: NDArray[np.float64], last: int) -> float:
    if last < 0:
        return float(sizes[0])
    fall = (curve[last] - SAME_ERROR) / (curve[last] - curve[last + 1])
    return float(sizes[last] + fall * (sizes[last + 1] - sizes[last]))


def clone_power(chunks: xr.Dataset) -> NDArray[np.float64]:
    """Return the power of the width in the number of clones of each run, for layers wider than the narrowest."""
    critical = critical_widths(chunks).isel(width=slice(1, None))
    widths = critical["width"].values
    counts = widths[:, None] / critical.values
    x = np.log(widths) - np.log(widths).mean()
    power: NDArray[np.float64] = x @ np.log(counts) / np.sum(x**2)
    return power


def finite_mean_claim(statement: str, values: xr.DataArray, allowed: tuple[float, float], note: str = "") -> Claim:
    """Return a claim on a mean over runs that did not diverge; nothing is known from fewer than two."""
    found = values.values[np.isfinite(values.values)]
    if len(found) < 2:
        return unknown(statement, allowed)
    error = standard_error(found)
    note = f"{note}; " if note else ""
    return estimated_claim(
        statement, float(np.mean(found)), error, allowed, f"{note}se {error:.2g}, {len(found)} networks"
    )


def unknown(statement: str, allowed: tuple[float, float], note: str = "") -> Claim:
    """Return a claim on a number of which nothing is known."""
    return Claim(statement, math.nan, (-math.inf, math.inf), allowed, note)


def chunk_claims(chunks: xr.Dataset, task: str) -> list[Claim]:
    """Judge chunks of layers that were trained with weight decay, well past zero training error."""
    import xarray as xr

    long = trained_long(chunks)
    judged, width = judged_chunk(long), int(chunks["width"].values[-1])
    independent = independent_correlation(chunks, int(chunks.attrs["n_train_samples"]))
    size = width // PART
    power = xr.DataArray(clone_power(long), dims="run")
    critical = critical_widths(long).mean("run")
    widths = ", ".join(f"{critical.sel(width=each).item():.0f} of {each}" for each in critical["width"].values[1:])
    return [
        finite_mean_claim(
            f"{name_of(task)}: chunks of {size} of {width} neurons classify the training set as the layer does; they"
            f" err more on at most {SAME_ERROR:g} of it.",
            excess_error(long).sel(width=width, chunk_size=size),
            (-math.inf, SAME_ERROR),
            f"error of chunks {judged['train_error'].mean().item():.3g}",
        ),
        finite_mean_claim(
            f"{name_of(task)}: they know the rest of the layer; they explain at least {KNOWN:g} of its variance.",
            judged["r2_outside"],
            (KNOWN, math.inf),
            f"the layer with the chunk {judged['r2'].mean().item():.3f}",
        ),
        finite_mean_claim(
            f"{name_of(task)}: what they leave is independent noise; mean correlations are at most {NOISE:g} times"
            " those of independent residuals.",
            judged["residual_correlation_outside"] / independent,
            (0.0, NOISE),
            f"independent: {independent:.3f}",
        ),
        finite_mean_claim(
            f"{name_of(task)}: the number of clones is proportional to the width above the critical one; the power of"
            f" the width differs from 1 by at most {LINEAR:g}.",
            power - 1.0,
            (-LINEAR, LINEAR),
            f"critical widths {widths}",
        ),
    ]


def name_of(task: str) -> str:
    return task.capitalize()


def decided_claim(chunks: xr.Dataset) -> Claim:
    """Judge whether the covariance of trained layers has a number of signals."""
    decided = chunks["decided"]
    return exact_claim(
        "The covariance of layers is that of few signals and independent noise (derived): their number can be told in"
        " at least half of the layers.",
        float(decided.mean()),
        (0.5, 1.0),
        f"{decided.size} layers with weight decay",
    )


def condition_claims(chunks: xr.Dataset, task: str) -> list[Claim]:
    """Judge what chunks know at zero training error, and without weight decay."""
    judged = judged_chunk(chunks)
    with_decay, without = judged.isel(decay=0), judged.isel(decay=1).sel(moment=LAST)
    early, late = with_decay.sel(moment=ZERO), with_decay.sel(moment=LAST)
    size = int(judged["chunk_size"])
    explained = " to ".join(f"{each['r2_outside'].mean().item():.3f}" for each in (early, late))
    free = chunks.isel(decay=1).sel(moment=LAST)
    return [
        finite_mean_claim(
            f"{name_of(task)}: redundancy comes after the training error is zero; from there to the end of training the"
            f" share of variance that chunks of {size} explain of the rest grows.",
            late["r2_outside"] - early["r2_outside"],
            (0.0, math.inf),
            f"from {explained}",
        ),
        finite_mean_claim(
            f"{name_of(task)}: it takes weight decay; without it chunks explain less than {KNOWN:g}.",
            without["r2_outside"],
            (-math.inf, KNOWN),
            f"with it {late['r2_outside'].mean().item():.3f}",
        ),
        finite_mean_claim(
            f"{name_of(task)}: without it they do not classify the training set as the layer does; they err more on at"
            f" least {SAME_ERROR:g} of it.",
            excess_error(free).isel(width=-1).sel(chunk_size=size),
            (SAME_ERROR, math.inf),
        ),
        finite_mean_claim(
            f"{name_of(task)}: what chunks leave is less correlated with weight decay than without; the difference of"
            " mean correlations is negative.",
            late["residual_correlation_outside"] - without["residual_correlation_outside"],
            (-math.inf, 0.0),
            f"without {without['residual_correlation_outside'].mean().item():.3f}",
        ),
    ]


def error_claims(networks: xr.Dataset, chunks: xr.Dataset, task: str) -> list[Claim]:
    """Judge test errors of networks and of chunks of the widest."""
    test = trained_long(networks)["final_test_error"]
    long = trained_long(chunks)
    least, most = (int(test["width"].values[end]) for end in (0, -1))
    judged = judged_chunk(long)
    size = int(judged["chunk_size"])
    return [
        finite_mean_claim(
            f"{name_of(task)}: wider networks generalise better; the test error of width {most} is less than that of"
            f" width {least}.",
            test.isel(width=-1, drop=True) - test.isel(width=0, drop=True),
            (-math.inf, 0.0),
            f"{test.isel(width=-1).mean().item():.4f} and {test.isel(width=0).mean().item():.4f}",
        ),
        width_claim(long, task),
        finite_mean_claim(
            f"{name_of(task)}: so does the error of chunks of {least} and more neurons of the widest layer in their"
            f" size; the power differs from -1/2 by at most {RATE:g}.",
            long["chunk_exponent"].isel(width=-1) - PREDICTED,
            (-RATE, RATE),
        ),
        finite_mean_claim(
            f"{name_of(task)}: chunks of {size} neurons err as networks of that width do; test errors differ by at most"
            f" {SAME_ERROR:g}.",
            judged["test_error"] - test.sel(width=size, drop=True),
            (-SAME_ERROR, SAME_ERROR),
            f"{judged['test_error'].mean().item():.4f} and {test.sel(width=size).mean().item():.4f}",
        ),
    ]


def width_claim(long: xr.Dataset, task: str) -> Claim:
    """Judge the power of the width in the test error of networks."""
    power, low, high = (float(long[f"width_exponent{end}"]) - PREDICTED for end in ("", "_low", "_high"))
    statement = (
        f"{name_of(task)}: the test error of networks approaches its limit, that of their ensemble, like one over the"
        f" root of the width; the power differs from -1/2 by at most {RATE:g}."
    )
    if not math.isfinite(power):
        return unknown(statement, (-RATE, RATE), "too few errors above the limit")
    note = f"limit {long['asymptotic_error'].item():.4f}; 95 % interval over runs"
    return Claim(statement, power, (low, high), (-RATE, RATE), note)


def ensemble_claims(networks: xr.Dataset, task: str) -> list[Claim]:
    """Judge the widest network beside the ensemble of narrow networks."""
    widest = trained_long(networks).isel(width=-1)
    width, members = int(widest["width"]), int(widest["n_members"])
    error = widest["final_test_error"] - widest["ensemble_test_error"]
    ratio = widest["final_test_loss"] / widest["ensemble_test_loss"]
    return [
        finite_mean_claim(
            f"{name_of(task)}: one network of width {width} is as good as an ensemble of {members} networks of width"
            f" {width // members}; its test error is larger by at most {ENSEMBLE_ERROR:g}.",
            error,
            (-math.inf, ENSEMBLE_ERROR),
            f"ensemble {widest['ensemble_test_error'].mean().item():.4f}",
        ),
        finite_mean_claim(
            f"{name_of(task)}: so is its cross-entropy; it is at most {ENSEMBLE_LOSS:g} times that of the ensemble.",
            ratio,
            (0.0, ENSEMBLE_LOSS),
            f"ensemble {widest['ensemble_test_loss'].mean().item():.4f} nat",
        ),
    ]


def generic_place(difference: xr.DataArray) -> str:
    """Return where a difference between measured and generic R^2 is largest."""
    place = np.unravel_index(int(np.nanargmax(np.abs(difference.values))), difference.shape)
    worst = difference[place]
    return f"{worst['n_clones'].item()} clones, noise {worst['noise'].item():g}, {worst['chunk_size'].item()} neurons"


def synthetic_claims(synthetic: xr.Dataset) -> list[Claim]:
    """Judge estimates beside the truth."""
    wrong = np.abs(synthetic["relative_error"].values)
    open_ones = int(np.sum(np.isnan(wrong)))
    worst = math.nan if open_ones == wrong.size else float(np.nanmax(wrong))
    exponents = synthetic["exponent_estimate"].transpose(..., "run").values.reshape(-1, synthetic.sizes["run"])
    off = np.abs(exponents.mean(axis=1) - PREDICTED)
    off[np.isnan(off)] = math.inf
    farthest = exponents[int(np.argmax(off))]
    generic = synthetic["r2"].mean("run") - synthetic["r2_generic"].mean("run")
    statement = (
        "The error of synthetic chunks goes like one over the root of their size: for no kind does the mean power"
        f" differ from -1/2 by more than {SYNTHETIC_RATE:g}."
    )
    return [
        Claim(
            f"The number of synthetic clones is found: the largest relative error is at most {COUNTED:g}.",
            worst,
            (-math.inf if math.isnan(worst) else worst, math.inf if open_ones else worst),
            (0.0, COUNTED),
            f"{wrong.size} layers, {open_ones} not decided",
        ),
        unknown(statement, (-SYNTHETIC_RATE, SYNTHETIC_RATE), "not decided for all kinds")
        if np.isnan(farthest).any()
        else estimated_claim(
            statement,
            float(farthest.mean()) - PREDICTED,
            standard_error(farthest),
            (-SYNTHETIC_RATE, SYNTHETIC_RATE),
            f"farthest of {len(exponents)} kinds, {farthest.size} layers",
        ),
        exact_claim(
            "The variance that synthetic chunks explain is that of generic neurons, with no parameter to fit (derived):"
            f" the largest difference of mean R^2 is at most {GENERIC:g}.",
            float(np.abs(generic).max()),
            (0.0, GENERIC),
            f"{generic.count().item()} means over {synthetic.sizes['run']} layers; largest for"
            f" {generic_place(generic)}",
        ),
    ]
