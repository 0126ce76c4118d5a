"""The claims of arXiv 1809.06848, and of what follows from it, each with what was measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wideangle.papers._verdicts import (
    estimated_claim,
    exact_claim,
    mean_claim,
    root_mean_square,
    standard_error,
    width_exponent,
)

if TYPE_CHECKING:
    import xarray as xr

    from wideangle.papers.dynamics import Measurements
    from wideangle.reports import Claim

Array = NDArray[np.float64]

CURVES = 1e-3  # Of accuracies; neurons that die, which the prediction leaves out, begin with margins of about 1e-4.
EXPONENT = 1e-3
INTEGRATION = 1e-6  # Of relative errors of quantities that are integrated with relative tolerances of 1e-8 and less.
ORDER = 0.05
# Of exponents in the width, fitted from some 100 particles on. Corrections to the law of large numbers are of order
# 1/width, a few per cent there, which moves an exponent by about 0.01.
WIDTH_EXPONENT = 0.05
ABOVE_START = 0.02  # Margins beyond which the start, at 0.001 or so, plays no part.


def judge(measurements: Measurements) -> tuple[Claim, ...]:
    """Return all claims in the order of the panels."""
    return (
        *parallel_claims(measurements.parallel, measurements.training),
        *phase_claims(measurements.phases),
        *speed_claims(measurements.speed),
        *loss_claims(measurements.losses),
        *starvation_claims(measurements.starvation, measurements.hinge),
        *patch_claims(measurements.patched),
        *particle_claims(measurements.particles),
    )


def parallel_claims(parallel: xr.Dataset, training: xr.Dataset) -> list[Claim]:
    """Judge the curves of accuracy: their shape, their independence of each other, and training with finite steps."""
    accuracy, predicted = (expected_accuracy(parallel[name].values) for name in ("simulated", "predicted"))
    n_networks, n_modes = accuracy.shape[:2]
    bends = inflections(parallel["time"].values, accuracy, parallel["simulated"].values > ABOVE_START)
    order = training["order"].item()
    errors = ", ".join(f"{error:.2g}" for error in training["training_error"].values)
    return [
        exact_claim(
            f"Classes learn in parallel, each as if alone: over {n_networks} networks the expected accuracies of"
            f" {n_modes} features follow the closed form of a single one within {CURVES:g}.",
            float(np.max(np.abs(accuracy - predicted))),
            (0.0, CURVES),
            f"{n_networks * n_modes} curves",
        ),
        exact_claim(
            "These curves are sigmoids: the number of those without exactly one inflection is 0.",
            int(np.sum(bends != 1)),
            (0, 0),
            f"{n_networks * n_modes} curves, from margin {ABOVE_START:g} on",
        ),
        exact_claim(
            "The flow of all weights of a ReLU network with a neuron for each feature is that of the modes, within a"
            f" relative {INTEGRATION:g}.",
            training["flow_error"].item(),
            (0.0, INTEGRATION),
            f"{training.sizes['mode']} neurons",
        ),
        estimated_claim(
            "Gradient descent tends to this flow in proportion to its step: the order in the step differs from 1 by at"
            f" most {ORDER:g}.",
            order - 1.0,
            training["order_standard_error"].item(),
            (-ORDER, ORDER),
            f"order {order:.4f}; relative errors {errors}",
        ),
    ]


def expected_accuracy(margins: Array) -> Array:
    """Return the probability that labels drawn from the network's own probabilities are right."""
    result: Array = np.exp(-np.logaddexp(0.0, -margins))
    return result


def inflections(times: Array, curves: Array, counted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return how often the slopes of curves (..., time) change between rising and falling, where counted."""
    slopes = np.diff(curves) / np.diff(times)
    bends = np.sign(np.diff(slopes))
    return np.asarray(np.sum((bends[..., 1:] != bends[..., :-1]) & counted[..., 1:-2], axis=-1))


def phase_claims(phases: xr.Dataset) -> list[Claim]:
    """Judge the closed-form phases and times against integration."""
    claims = []
    for loss in phases["loss"].values.tolist():
        here = phases.sel(loss=loss)
        wrong = int((here["phase"] != here["predicted_phase"]).sum())
        times = here["convergence_time"].values, here["predicted_convergence_time"].values
        once = int(np.sum(np.isnan(times[0]) != np.isnan(times[1])))
        error = float(np.nanmax(np.abs(times[0] / np.where(times[1] > 0.0, times[1], np.nan) - 1.0)))
        claims += [
            exact_claim(
                f"Neurons learn, are rescued, die or stay as the lines z = -u, z = 0 and u = 0 say ({loss}): the"
                " number of neurons with another fate is 0.",
                wrong,
                (0, 0),
                f"{here['phase'].size:,} neurons",
            ),
            exact_claim(
                f"Their times to margin 1 are those of the closed form ({loss}): the largest relative error is at most"
                f" {INTEGRATION:g}.",
                error if once == 0 else math.inf,
                (0.0, INTEGRATION),
                f"{int(np.isfinite(times[1]).sum()):,} neurons learn",
            ),
        ]
    return claims


def speed_claims(speed: xr.Dataset) -> list[Claim]:
    """Judge how the time to a margin scales with frequency and input norm."""
    same_margins = speed.isel(case=speed["start"].values == "margins")
    by_frequency = same_margins.isel(case=same_margins["input_norm"].values == 1.0)
    by_norm = same_margins.isel(case=same_margins["frequency"].values == 0.5)
    claims = []
    for name, cases, text in (
        ("frequency", by_frequency, "the frequency of a class"),
        ("input_norm", by_norm, "the norm of its inputs, at given initial margins"),
    ):
        mean, error = exponent(cases, name)
        claims.append(
            estimated_claim(
                f"The time to a margin is inversely proportional to {text}: the exponent differs from -1 by at most"
                f" {EXPONENT:g}.",
                mean + 1.0,
                error,
                (-EXPONENT, EXPONENT),
                f"exponent {mean:.6f}; se {error:.1g}",
            )
        )
    same_weights = speed.isel(case=speed["start"].values == "weights")
    mean, error = exponent(same_weights, "input_norm")
    predicted, _ = exponent(same_weights, "input_norm", "predicted")
    claims += [
        estimated_claim(
            "From given initial weights, too, the time is inversely proportional to the norm: the exponent is -1 within"
            " 0.02.",
            mean,
            error,
            (-1.02, -0.98),
            f"se {error:.1g}; closed form {predicted:.4f}",
        ),
        exact_claim(
            "The closed form gives every one of these times within 0.2 %.",
            float(np.max(np.abs(speed["simulated"].values / speed["predicted"].values - 1.0))),
            (0.0, 2e-3),
            f"{speed['simulated'].size} times",
        ),
    ]
    return claims


def exponent(cases: xr.Dataset, against: str, name: str = "simulated") -> tuple[float, float]:
    """Return the slope of ln time against the logarithm of a coordinate: mean over networks and standard error."""
    slopes = np.polyfit(np.log(cases[against].values), np.log(cases[name].values), 1)[0]
    return float(np.mean(slopes)), standard_error(slopes)


def loss_claims(losses: xr.Dataset) -> list[Claim]:
    """Judge what the hinge and the cross-entropy do to the margin in the long run."""
    late = losses.sel(loss="cross-entropy").isel(time=slice(-2, None))
    growth = float(np.diff(late["simulated"].values)[0] / np.diff(np.log(late["time"].values))[0])
    margin = float(late["simulated"].values.mean())
    stop_error = np.max(np.abs(losses["stop_time"].values / losses["predicted_stop_time"].values - 1.0))
    path_error = np.max(np.abs(losses["simulated"].values / losses["predicted"].values - 1.0))
    return [
        exact_claim(
            "Under the hinge learning ends at t* = ln(1/m₀)/(2pr): the largest relative error is at most"
            f" {INTEGRATION:g}.",
            float(stop_error),
            (0.0, INTEGRATION),
            f"{losses.sizes['case']} combinations of m₀, p and r",
        ),
        exact_claim(
            "From then on nothing moves: the largest change of a weight up to t = 10¹² is 0.",
            losses["drift"].item(),
            (0.0, 0.0),
        ),
        exact_claim(
            "Under cross-entropy the margin grows for ever, like ln t: at t = 10¹² by m/(m - 1) for each unit of ln t,"
            " within 0.01.",
            growth - margin / (margin - 1.0),
            (-0.01, 0.01),
            f"{growth:.4f} at margin {margin:.2f}",
        ),
        exact_claim(
            f"Both paths of the margin are those of the closed form, with a relative error of at most {INTEGRATION:g}.",
            float(path_error),
            (0.0, INTEGRATION),
        ),
    ]


def starvation_claims(starvation: xr.Dataset, hinge: xr.Dataset) -> list[Claim]:
    """Judge the power law of starvation, its bounds, and the freezing under the hinge."""
    fractions = starvation["fraction"].values
    grown = np.log(starvation["simulated"].isel(time=-1) / starvation["simulated"].isel(time=0)).values
    exponents = grown[:, 1] / grown[:, 0]
    above, below = 0.0, 0.0
    for run in (starvation, hinge):
        above = max(above, float((run["simulated"] / run["predicted"] - 1.0).max()))
        below = max(below, float((run["lower_bound"] / run["simulated"] - 1.0).max()))
    frozen = hinge["simulated"].sel(loss="hinge").isel(time=-1, mode=1).values
    error = float(np.max(np.abs(frozen / hinge["frozen_margin"].values - 1.0)))
    start = hinge["simulated"].isel(loss=0, time=0, fraction=0).values
    at_one = start[1] * start[0] ** -fractions
    return [
        exact_claim(
            "The rarer feature is starved by the law m₂/m₂(0) = (m₁/m₁(0))^λ: at t = 10¹² the exponent is λ within"
            f" {EXPONENT:g} for each of {len(fractions)} frequencies λ.",
            float(np.max(np.abs(exponents - fractions))),
            (0.0, EXPONENT),
            ", ".join(f"{value:.5f}" for value in exponents),
        ),
        exact_claim(
            f"At all times the law is an upper bound, and the lower bound one: by at most {INTEGRATION:g} relatively"
            " are they crossed.",
            max(above, below),
            (0.0, INTEGRATION),
            f"{starvation.sizes['time'] * len(fractions) + 2 * hinge.sizes['time'] * len(fractions)} points",
        ),
        exact_claim(
            f"Under the hinge the rarer feature freezes at the predicted value, within a relative {INTEGRATION:g}.",
            error,
            (0.0, INTEGRATION),
            ", ".join(f"{value:.4f}" for value in frozen),
        ),
        exact_claim(
            f"It freezes when m₁ gets to 1: the value is the law's there within 1 %, for λ up to {fractions[-1]:g}.",
            float(np.min(frozen / at_one)),
            (0.99, 1.01),
            f"least ratio, at λ = {fractions[np.argmin(frozen / at_one)]:g}; it freezes at m₁ + m₂ = 1",
        ),
    ]


def patch_claims(patched: xr.Dataset) -> list[Claim]:
    """Judge starvation in trained networks, by paired differences of networks that start from the same weights."""
    equal = patched["equal_accuracy"].sel(image="clean").transpose("without", "run")
    end = patched["accuracy"].sel(image="clean").isel(time=-1).transpose("without", "run")
    target = patched["equal_loss"].item()
    most, control = equal.values[0], equal.values[-1]
    steps = np.diff(equal.values, axis=0)
    weakest = int(np.argmin([np.mean(row) for row in steps]))
    margins = patched["equal_margin"].sel(image="clean").transpose("without", "run").values
    shares = patched["without"].values
    return [
        mean_claim(
            f"At the same training loss of {target:.2g}, networks whose training images all have the patch classify"
            " fewer clean images than the control without it: the accuracy differs by more than 0.05.",
            control - most,
            (0.05, 1.0),
            f"{np.mean(most):.3f} against {np.mean(control):.3f}",
        ),
        mean_claim(
            "The more frequent the patch, the lower that accuracy: even the smallest difference between neighbouring"
            " frequencies is positive.",
            steps[weakest],
            (0.0, 1.0),
            f"{100 * shares[weakest]:g} % against {100 * shares[weakest + 1]:g} % without patch",
        ),
        mean_claim(
            "Their mean margin on clean images is less than half of the control's.",
            margins[0] / margins[-1],
            (-math.inf, 0.5),
            f"{np.mean(margins[0]):.2f} against {np.mean(margins[-1]):.2f}",
        ),
        mean_claim(
            "Longer training does not make up for it: after equally many steps the accuracy on clean images differs by"
            " more than 0.05 as well.",
            end.values[-1] - end.values[0],
            (0.05, 1.0),
            f"{np.mean(end.values[0]):.3f} against {np.mean(end.values[-1]):.3f} at t = {patched['time'].values[-1]:g}",
        ),
    ]


def particle_claims(particles: xr.Dataset) -> list[Claim]:
    """Judge how far wide networks move from their start, and their tangent kernels, in the two scalings."""
    kernel, mean_field = (particles.sel(scaling=scaling) for scaling in ("kernel", "mean-field"))
    widths = f"{particles['width'].values[0]} to {particles['width'].values[-1]} particles"
    within = f"within {WIDTH_EXPONENT:g}"
    claims = []
    for run, name, allowed, statement in (
        (
            kernel,
            "movement",
            (-0.5 - WIDTH_EXPONENT, -0.5 + WIDTH_EXPONENT),
            f"In the kernel scaling particles move by m^(-1/2): the exponent is -1/2 {within}.",
        ),
        (
            kernel,
            "kernel_change",
            (-0.75 - WIDTH_EXPONENT, -0.5 + WIDTH_EXPONENT),
            (
                "The tangent kernel changes by m^(-3/4) at random and by m^(-1/2) on average: the exponent lies between"
                f" -3/4 and -1/2, {within}."
            ),
        ),
        (
            mean_field,
            "kernel_change",
            (-WIDTH_EXPONENT, WIDTH_EXPONENT),
            f"In the mean-field scaling the kernel changes alike at any width: the exponent is 0 {within}.",
        ),
    ):
        mean, error = width_exponent(run[name])
        last = root_mean_square(run[name]).values[-1]
        note = f"{widths}; {last:.2g} at the last; se {error:.1g}"
        claims.append(estimated_claim(statement, mean, error, allowed, note))
    return claims
