"""Claims of panels (a) to (c) of the reproduction of arXiv 2405.04074 and 2204.07291: responses and their aging."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from wideangle.papers._verdicts import estimated_claim, exact_claim
from wideangle.papers.response_judging import (
    NOTICED,
    SIMILAR,
    Array,
    claim_on,
    dependence_claim,
    law_claims,
)
from wideangle.papers.response_panels import DESCENT, NOISY, SINGLE, Case
from wideangle.reports import Claim

if TYPE_CHECKING:
    import xarray as xr

    from wideangle.papers.response import Measurements

JUDGED = ("relu", "tanh", "sigmoid")  # Activations.
AGED = ("relu", "tanh", "erf", "sigmoid")
ORDERS = {"tanh": 0.02, "sigmoid": 0.02, "relu": 0.1}  # Around the order 1 of the error of steps; kinks scatter.
ROUNDING = 1e-10  # Between the compiled training and that of PyTorch.
RATE = 0.005  # Around rates of constant kernels.
EXACT_EXPONENT = 0.01  # Around exponents that are derived, of networks whose kernel cannot change,
EXPONENT = 0.2  # and of those whose kernel can.
OTHER_EXPONENT = 0.1  # Between exponents that are not the same.
SAME_WAY = 0.02  # Logarithm, between derived responses of constant kernels and those of compiled steps.


def shape_claims(kernels: xr.Dataset) -> list[Claim]:
    """Judge the kernel of the response to a single sample: whether it is simple, and remains what it is."""
    late = kernels.sel(stage="late")
    claims = [
        claim_on(
            f"A simple response kernel ({name}): it falls with the distance from the sample; the rank correlation is"
            " negative.",
            late["fall"].sel(activation=name),
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
    return claims


def step_claims(measurements: Measurements) -> list[Claim]:
    """Judge whether responses by the kernel are those of steps, of the compiled training and of PyTorch."""
    claims = [
        claim_on(
            f"The response to one sample is the loss derivative times readout and hidden parts ({name}): real steps"
            f" differ from it in proportion to the learning rate; the power is within {allowed:g} of 1.",
            step_orders(measurements.steps, name),
            (1.0 - allowed, 1.0 + allowed),
        )
        for name, allowed in ORDERS.items()
    ]
    for name in measurements.checks["activation"].values.tolist():
        here = measurements.checks.sel(activation=name)
        claims.append(
            exact_claim(
                f"Two ways to train ({name}): networks of the compiled loop and of PyTorch, from the same weights on"
                f" the same single samples, differ by rounding; relative difference at most {ROUNDING:g}.",
                here["training_difference"].item(),
                (0.0, ROUNDING),
            )
        )
        claims.append(
            estimated_claim(
                f"Steps of PyTorch differ from the response by the kernel ({name}) in proportion to the learning rate;"
                " the power is within 0.05 of 1.",
                here["order"].item(),
                here["order_standard_error"].item(),
                (0.95, 1.05),
                "medians over samples, before and after training",
            )
        )
    return claims


def step_orders(steps: xr.Dataset, activation: str) -> Array:
    """Return the power of the learning rate in the error of the response by the kernel, of each network."""
    errors = np.log(steps["error"].sel(activation=activation).transpose("network", "learning_rate").values)
    x = np.log(steps["learning_rate"].values)
    orders: Array = errors @ (x - x.mean()) / np.sum((x - x.mean()) ** 2)
    return orders


def dependence_claims(measurements: Measurements) -> list[Claim]:
    """Judge whether factors of the response depend on the stage, the activation and the method of training."""
    growth = measurements.kernels["growth"].sel(stage="late")
    claims = [
        dependence_claim(
            "Factors depend on the stage of training (cross-entropy, relu): ln K(x, x) late in training differs from"
            " that at the start by at least ln 1.1.",
            growth.sel(activation="relu"),
            NOTICED,
        )
    ]
    claims += [
        dependence_claim(
            f"Factors depend on the activation function: the change of ln K(x, x) with {name} differs from that with"
            " tanh by at least ln 1.1 (cross-entropy).",
            growth.sel(activation=name).values - growth.sel(activation="tanh").values,
            NOTICED,
        )
        for name in ("relu", "sigmoid")
    ]
    kernel = measurements.aging["kernel"].isel(time=-1)
    exponents = measurements.aging["response_exponent"]
    names = {method: Case("cross-entropy", method, "relu").name for method in (DESCENT, SINGLE, NOISY)}
    claims += [
        dependence_claim(
            f"Factors depend on the method of training: at the end ln K(x, x) with {method} differs from that with"
            " gradient descent by at least ln 1.1 (cross-entropy, relu).",
            np.log(kernel.sel(case=names[method]).values / kernel.sel(case=names[DESCENT]).values),
            NOTICED,
        )
        for method in (SINGLE, NOISY)
    ]
    claims += [
        dependence_claim(
            f"Aging depends on the method of training: the late exponent of the response with {method} differs from"
            f" that with gradient descent by at least {OTHER_EXPONENT:g} (cross-entropy, relu).",
            exponents.sel(case=names[method]).values - exponents.sel(case=names[DESCENT]).values,
            OTHER_EXPONENT,
        )
        for method in (SINGLE, NOISY)
    ]
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
            f" exponent differs from that which is derived by at most {EXACT_EXPONENT:g}.",
            ideal["exponent"] - ideal["derived_exponent"],
            (-EXACT_EXPONENT, EXACT_EXPONENT),
            f"{ideal['exponent'].mean().item():.3f}, derived {ideal['derived_exponent'].mean().item():.3f}",
        ),
        claim_on(
            "With a constant kernel and the squared loss it falls exponentially (derived), with the rate of the"
            f" kernel; their ratio is within {RATE:g} of 1.",
            ideal["fitted_rate"] / ideal["rate"],
            (1.0 - RATE, 1.0 + RATE),
        ),
    ]


def prediction_claims(measurements: Measurements) -> list[Claim]:
    """Judge what is derived of aging with a constant kernel: against compiled steps with it, and against networks."""
    aging, predictions = measurements.aging, measurements.predictions
    cases = [Case("cross-entropy", DESCENT, name).name for name in AGED]
    both = aging.sel(case=cases, network=predictions["network"]), predictions.sel(case=cases)
    apart = np.log(both[0]["constant_kernel"].mean("network") / both[1]["response"].mean("network"))
    claims = [
        exact_claim(
            "Two ways to the aging of a constant kernel: responses derived for gradient flow, and those of compiled"
            f" steps with that kernel, differ by at most {SAME_WAY:g} in ln at all times (cross-entropy, gradient"
            " descent, all activations).",
            float(abs(apart).max()),
            (0.0, SAME_WAY),
        )
    ]
    for name in cases:
        claims.append(
            claim_on(
                f"The response ages as a constant kernel has it ({name}): -d ln response/d ln t at the end differs from"
                f" what is derived for the kernel of the start by at most {EXPONENT:g}.",
                both[0]["response_exponent"].sel(case=name) - both[1]["exponent"].sel(case=name),
                (-EXPONENT, EXPONENT),
                f"{both[0]['response_exponent'].sel(case=name).mean().item():.2f}, derived"
                f" {both[1]['exponent'].sel(case=name).mean().item():.2f}",
            )
        )
    return claims


def aging_claims(measurements: Measurements) -> list[Claim]:
    """Judge whether responses of networks age like a power."""
    claims = []
    for name in AGED:
        case = Case("cross-entropy", DESCENT, name).name
        derived = measurements.predictions.sel(case=case)
        note = f"derived for a constant kernel: {derived['chosen'].item()} with gamma {derived['gamma'].item():.2f}"
        claims += law_claims(case, measurements.fits.sel(case=case, factor="response"), note)
    return claims


def factor_claims(aging: xr.Dataset) -> list[Claim]:
    """Judge which factor ages, and whether responses to other labels do."""
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
