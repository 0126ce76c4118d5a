"""The claims of arXiv 2405.04074 and 2204.07291, and of what follows from them, each with what was measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wideangle.papers._verdicts import Bounds, estimated_claim, exact_claim, standard_error
from wideangle.papers.response_features import LOSSES
from wideangle.papers.response_models import MODELLED
from wideangle.papers.response_panels import DESCENT, NOISY, SINGLE, Case
from wideangle.reports import Claim

if TYPE_CHECKING:
    import xarray as xr

    from wideangle.papers.response import Measurements

Array = NDArray[np.float64]

JUDGED = ("relu", "tanh", "sigmoid")  # Activations.
SIMILAR = 0.95  # Cosine from which on kernels are taken for the same up to a factor.
NOTICED = math.log(1.1)  # Logarithm of factors that count as a change.
ORDER, RATE = 0.1, 0.02  # Around the order 1 of the error of steps, and of rates around those of constant kernels.
POWER = 0.2  # Around the exponent 1 of the cross-entropy with a constant kernel.
FOLLOWED = 0.2  # Error of the model over the change of outputs, up to which the model describes networks.
REDUCED = 0.01  # Relative, from which on a space of features is smaller.
SAME_STEP = 0.5  # Difference between responses by steps and by the kernel, with the training's learning rate.
SIZE_NAMES = {
    "kinks": "number of kinks",
    "active_units": "number of active units",
    "effective_rank": "effective rank",
    "participation_ratio": "participation ratio",
}
FRAGILE_NAMES = {
    "relative_worst_change": "worst change of the output, relative to outputs",
    "contradiction_mean": "change elsewhere by a contradicting sample, relative to that at it",
}


def judge(measurements: Measurements) -> tuple[Claim, ...]:
    """Return all claims in the order of the panels."""
    return (
        *kernel_claims(measurements),
        *ideal_claims(measurements.ideal),
        *aging_claims(measurements.aging),
        *factor_claims(measurements.aging),
        *(claim for loss in LOSSES for claim in size_claims(measurements, loss)),
        *(claim for loss in LOSSES for claim in fragility_claims(measurements, loss)),
        *image_claims(measurements.images),
        *model_claims(measurements),
    )


def rate(measurements: Measurements) -> float:
    """Return the learning rate whose networks are judged."""
    return float(measurements.features.attrs["learning_rate"])


def claim_on(statement: str, values: xr.DataArray | Array, allowed: Bounds, note: str = "") -> Claim:
    """Return a claim on a mean over independent networks, without those where it is not defined."""
    numbers = np.asarray(values, dtype=float)
    found = numbers[np.isfinite(numbers)]
    if len(found) < 2:
        return Claim(statement, math.nan, (-math.inf, math.inf), allowed, note)
    note = f"{note}; " if note else ""
    error = standard_error(found)
    return estimated_claim(statement, float(np.mean(found)), error, allowed, f"{note}{len(found)} networks")


def step_orders(steps: xr.Dataset, activation: str) -> Array:
    """Return the power of the learning rate in the error of the response by the kernel, of each network."""
    errors = np.log(steps["error"].sel(activation=activation).transpose("network", "learning_rate").values)
    x = np.log(steps["learning_rate"].values)
    orders: Array = errors @ (x - x.mean()) / np.sum((x - x.mean()) ** 2)
    return orders


def kernel_claims(measurements: Measurements) -> list[Claim]:
    """Judge the response of a single sample: its factors, shape, and what stages and activations make of it."""
    kernels = measurements.kernels
    late = kernels.sel(stage="late")
    growth = late["growth"]
    orders = {name: step_orders(measurements.steps, name) for name in ("tanh", "sigmoid", "relu")}
    claims = [
        claim_on(
            f"The response to one sample is the loss derivative times readout and hidden parts ({name}): real steps"
            f" differ from it in proportion to the learning rate; the power is within {ORDER:g} of 1.",
            values,
            (1.0 - ORDER, 1.0 + ORDER),
        )
        for name, values in orders.items()
    ]
    claims += [
        claim_on(
            f"A simple response kernel ({name}): it falls with the distance from the sample; the rank correlation is"
            " negative.",
            kernels["fall"].sel(activation=name, stage="late"),
            (-math.inf, 0.0),
            f"at the start {kernels['fall'].sel(activation=name, stage='start').mean().item():.2f}",
        )
        for name in JUDGED
    ]
    claims += [
        claim_on(
            f"The response is a decay times one kernel ({name}): the kernel keeps its form; the cosine with that at the"
            f" start is at least {SIMILAR:g} late in training.",
            late["similarity"].sel(activation=name),
            (SIMILAR, math.inf),
            f"early {kernels['similarity'].sel(activation=name, stage='early').mean().item():.3f}",
        )
        for name in JUDGED
    ]
    claims.append(
        claim_on(
            "Factors depend on the stage of training: with ReLU, ln K(x, x) changes by at least ln 1.1.",
            np.abs(growth.sel(activation="relu").values),
            (NOTICED, math.inf),
            f"mean {growth.sel(activation='relu').mean().item():.2f}",
        )
    )
    claims.append(
        claim_on(
            "Factors depend on the activation function: ln K(x, x) changes by at least ln 1.1 more with ReLU than with"
            " tanh.",
            growth.sel(activation="relu").values - growth.sel(activation="tanh").values,
            (NOTICED, math.inf),
        )
    )
    aging = measurements.aging["kernel"].isel(time=-1)
    for method in (SINGLE, NOISY):
        names = [Case("cross-entropy", each, "relu").name for each in (DESCENT, method)]
        change = np.log(aging.sel(case=names[0]).values / aging.sel(case=names[1]).values)
        claims.append(
            claim_on(
                f"Factors depend on the method of training: at the end ln K(x, x) is by at least ln 1.1 larger with"
                f" gradient descent than with {method} (cross-entropy).",
                change,
                (NOTICED, math.inf),
            )
        )
    return claims


def ideal_claims(ideal: xr.Dataset) -> list[Claim]:
    """Judge networks whose kernel is constant against what that predicts."""
    hinge = ideal["response"].sel(loss="hinge").transpose("network", "time").values
    answering = hinge > 0.0
    change = np.max(np.abs(hinge - hinge[:, :1])[answering] / hinge.max())
    return [
        exact_claim(
            "In ideal situations the response is constant: with a constant kernel and the hinge loss it does not"
            " change before it is zero; the largest relative change is rounding.",
            float(change),
            (0.0, 1e-9),
            f"zero at the end in {np.mean(hinge[:, -1] == 0.0):.0%} of {len(hinge)} networks",
        ),
        claim_on(
            "In ideal situations it ages like a power: with a constant kernel and the cross-entropy; the late"
            f" exponent is within {POWER:g} of 1.",
            ideal["exponent"],
            (1.0 - POWER, 1.0 + POWER),
        ),
        claim_on(
            "With a constant kernel and the squared loss it falls exponentially (derived), with the rate of the"
            f" kernel; their ratio is within {RATE:g} of 1.",
            ideal["fitted_rate"] / ideal["rate"],
            (1.0 - RATE, 1.0 + RATE),
        ),
    ]


def aging_claims(aging: xr.Dataset) -> list[Claim]:
    """Judge exponents of the response at the end of training, where the loss derivative goes to zero as a power."""
    claims = []
    for case in (Case("cross-entropy", DESCENT, name) for name in ("relu", "tanh", "erf", "sigmoid")):
        here = aging.sel(case=case.name)
        claims.append(
            claim_on(
                f"The response ages like a power ({case.name}): -d ln response/d ln t at the end is within"
                f" {POWER:g} of 1, that of a constant kernel up to logarithms.",
                here["response_exponent"],
                (1.0 - POWER, 1.0 + POWER),
                f"constant kernel {here['constant_kernel_exponent'].mean().item():.2f}",
            )
        )
    descent = aging.sel(case=Case("cross-entropy", DESCENT, "relu").name)["response_exponent"]
    for method in (SINGLE, NOISY):
        name = Case("cross-entropy", method, "relu").name
        change = aging.sel(case=name)["response_exponent"].values - descent.values
        claims.append(
            claim_on(
                f"Aging depends on the method: the exponent with {method} differs from that of gradient descent; the"
                " difference is below 0 (cross-entropy, ReLU).",
                change,
                (-math.inf, 0.0),
            )
        )
    return claims


def factor_claims(aging: xr.Dataset) -> list[Claim]:
    """Judge which factor ages, and whether plasticity is lost."""
    claims = []
    for activation in ("relu", "tanh"):
        here = aging.sel(case=Case("cross-entropy", DESCENT, activation).name)
        claims.append(
            claim_on(
                f"It is the loss derivative that ages ({activation}, cross-entropy), not the kernel: the exponent of"
                " the kernel is at most 0.",
                here["kernel_exponent"],
                (-math.inf, 0.0),
                f"loss derivative {here['loss_derivative_exponent'].mean().item():.2f}",
            )
        )
    start_and_end = aging.isel(time=[0, -1])
    for case in (
        *(Case("cross-entropy", DESCENT, name) for name in ("relu", "tanh", "sigmoid")),
        Case("cross-entropy", SINGLE, "relu"),
        Case("cross-entropy", NOISY, "relu"),
    ):
        here = start_and_end.sel(case=case.name)
        answers, undo = here["contradiction"], here["undo"].isel(time=-1) / here["undo"].isel(time=0)
        claims.append(
            claim_on(
                f"Plasticity is lost finally ({case.name}): the response to a sample with the other label falls; its"
                " logarithm changes by less than 0.",
                np.log(answers.isel(time=-1).values / answers.isel(time=0).values),
                (-math.inf, 0.0),
                f"time to undo an output times {undo.mean().item():.2g}",
            )
        )
    return claims


def size_claims(measurements: Measurements, loss: str) -> list[Claim]:
    """Judge whether stochastic training reduces the space of features more than gradient descent in the same time."""
    last = measurements.features.sel(loss_name=loss).isel(time=-1)
    here = last.sel(learning_rate=rate(measurements))
    claims = [
        claim
        for method, each in judged(measurements)
        for claim in _reductions(last.sel(learning_rate=each), f"{loss}, {method}, learning rate {each:g}", method)
    ]
    curvature = here["curvature"]
    claims.append(
        claim_on(
            f"Label noise lowers the curvature (derived for the squared loss; {loss}): ln of the mean K(x, x) is less"
            " than after gradient descent; the difference is negative.",
            np.log(curvature.sel(training=NOISY).values / curvature.sel(training=DESCENT).values),
            (-math.inf, 0.0),
        )
    )
    return claims


def judged(measurements: Measurements) -> tuple[tuple[str, float], ...]:
    """Return the methods and learning rates that are judged: steps of single samples are unstable at the largest."""
    usual, largest = rate(measurements), float(measurements.features["learning_rate"].values[-1])
    return (SINGLE, usual), (NOISY, usual), (SINGLE, largest)


def _reductions(here: xr.Dataset, words: str, method: str) -> list[Claim]:
    claims = []
    for name, size in SIZE_NAMES.items():
        found, reference = (here[name].sel(training=each).values for each in (method, DESCENT))
        claims.append(
            claim_on(
                f"Stochastic training reduces the space of features ({words}): the {size}, relative to that after"
                f" gradient descent in the same time, changes by -{REDUCED:g} or less.",
                (found - reference) / reference.mean(),
                (-math.inf, -REDUCED),
                f"{found.mean():.2f} and {reference.mean():.2f}",
            )
        )
    return claims


def fragility_claims(measurements: Measurements, loss: str) -> list[Claim]:
    """Judge whether stochastic training makes networks fragile, and those with fewer features more so."""
    claims = []
    for method, each in judged(measurements):
        here = measurements.features.sel(loss_name=loss, learning_rate=each)
        for name, words in FRAGILE_NAMES.items():
            found, reference = (here[name].sel(training=kind).values for kind in (method, DESCENT))
            claims.append(
                claim_on(
                    f"Stochastic training makes fragile ({loss}, {method}, learning rate {each:g}): the {words}, is"
                    " larger than after gradient descent; the difference is positive.",
                    found - reference,
                    (0.0, math.inf),
                    f"{np.nanmean(found):.3f} and {np.nanmean(reference):.3f}",
                )
            )
    pooled = measurements.relations.sel(loss_name=loss, pool="all")
    for size in ("active_units", "effective_rank"):
        for name, words in FRAGILE_NAMES.items():
            at = pooled.sel(feature_measure=size, fragility_measure=name)
            claims.append(
                Claim(
                    f"Reduction comes with fragility ({loss}, all methods and learning rates): the rank correlation"
                    f" between the {SIZE_NAMES[size]} and the {words}, is negative.",
                    at["correlation"].item(),
                    known(at["low"].item(), at["high"].item()),
                    (-1.0, 0.0),
                    f"95 % interval over initial states, {int(at['n_networks'])} networks",
                )
            )
    return claims


def known(low: float, high: float) -> Bounds:
    """Return an interval, or all numbers where there is none."""
    return (low, high) if math.isfinite(low) and math.isfinite(high) else (-math.inf, math.inf)


def image_claims(images: xr.Dataset) -> list[Claim]:
    """Judge small networks on images."""
    descent = images.sel(training=DESCENT)
    first, last = descent.isel(time=0), descent.isel(time=-1)
    claims = [
        claim_on(
            "Images: the response by the kernel is that of real steps with the learning rate of the training; the"
            f" relative difference at the start is at most {SAME_STEP:g}.",
            descent["step_difference"],
            (0.0, SAME_STEP),
        ),
        claim_on(
            "Images: a simple response kernel; it falls with the distance between images at the start; the rank"
            " correlation is negative.",
            first["fall"],
            (-math.inf, 0.0),
            f"at the end {last['fall'].mean().item():.2f}",
        ),
        claim_on(
            f"Images: a decay times one kernel; its cosine with that at the start is at least {SIMILAR:g} at the end.",
            last["similarity"],
            (SIMILAR, math.inf),
        ),
    ]
    for method in (DESCENT, SINGLE):
        here = images.sel(training=method)
        claims.append(
            claim_on(
                f"Images: the response ages like a power ({method}): -d ln response/d ln t at the end is within"
                f" {POWER:g} of 1.",
                here["exponent"],
                (1.0 - POWER, 1.0 + POWER),
            )
        )
    for name in ("active_units", "effective_rank", "participation_ratio"):
        pair = [images[name].sel(training=each).values for each in (SINGLE, DESCENT)]
        claims.append(
            claim_on(
                f"Images: single samples reduce the space of features; the {SIZE_NAMES[name]}, relative to that after"
                f" gradient descent, changes by -{REDUCED:g} or less.",
                (pair[0] - pair[1]) / pair[1].mean(),
                (-math.inf, -REDUCED),
                f"{pair[0].mean():.2f} and {pair[1].mean():.2f}",
            )
        )
    return claims


def model_claims(measurements: Measurements) -> list[Claim]:
    """Judge the mean-field model, and the splitting of the space of inputs."""
    claims = []
    for activation in MODELLED:
        here = measurements.model.sel(activation=activation)
        error = here["error"]
        claims.append(
            claim_on(
                f"The mean-field model explains how networks learn ({activation}): its error is at most {FOLLOWED:g}"
                " of the change of the outputs, at the end.",
                error.isel(time=-1),
                (0.0, FOLLOWED),
                f"at time {here['time'].values[len(error['time']) // 2]:.2g}:"
                f" {error.isel(time=len(error['time']) // 2).mean().item():.2f}",
            )
        )
        domains = here["network_domains"]
        claims.append(
            claim_on(
                f"The space of inputs is split ({activation}): networks have more domains of one sign at the end than"
                " at the start; the difference is positive.",
                domains.isel(time=-1).values - domains.isel(time=0).values,
                (0.0, math.inf),
                f"{domains.isel(time=0).mean().item():.2f} to {domains.isel(time=-1).mean().item():.2f} of"
                f" {int(measurements.model['label_domains'].max())} of the labels, model"
                f" {here['n_domains'].isel(time=-1).mean().item():.2f}",
            )
        )
    return claims
