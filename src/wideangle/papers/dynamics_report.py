"""The page of the reproduction of arXiv 1809.06848: captions, alternative texts, tables and provenance."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from wideangle.papers._page import Figure, Page, Panel, explain_verdicts
from wideangle.papers._verdicts import standard_error, width_exponent
from wideangle.papers.dynamics import SOURCE
from wideangle.papers.dynamics_claims import exponent
from wideangle.papers.dynamics_figures import (
    draw_losses,
    draw_overview,
    draw_parallel,
    draw_particles,
    draw_patched,
    draw_phases,
    draw_speed,
    draw_starvation,
    share_text,
    slope_text,
)
from wideangle.papers.dynamics_patches import patch_pixels
from wideangle.reports import html

if TYPE_CHECKING:
    from wideangle.papers.dynamics import Job, Measurements

TITLE = "Learning dynamics of two-layer ReLU networks"
LEAD = (
    "Networks with one hidden ReLU layer under gradient flow on data whose classes do not disturb each other: what R."
    " Tachet des Combes, M. Pezeshki, S. Shabanian, A. Courville and Y. Bengio (arXiv 1809.06848) predict, and what"
    " follows from it in closed form, is held against integrated and trained networks."
)


def describe(job: Job, measurements: Measurements) -> Page[Measurements]:
    """Return what report.html shows."""
    return Page(
        title=TITLE,
        lead=LEAD,
        verdicts=explain_verdicts("Numbers without brackets have no statistical error. se are standard errors."),
        panels=(
            Panel(
                "a. Classes in parallel",
                Figure("parallel", draw_parallel, (9.2, 3.0)),
                parallel_alt(measurements),
                parallel_caption(measurements),
            ),
            Panel("b. Phases", Figure("phases", draw_phases, (9.2, 3.8)), phases_alt(measurements), PHASES_CAPTION),
            Panel("c. Speed", Figure("speed", draw_speed, (9.2, 3.2)), speed_alt(measurements), SPEED_CAPTION),
            Panel(
                "d. Hinge and cross-entropy",
                Figure("losses", draw_losses, (9.2, 3.2)),
                losses_alt(measurements),
                LOSSES_CAPTION,
            ),
            Panel(
                "e. Gradient starvation",
                Figure("starvation", draw_starvation, (9.2, 3.6)),
                starvation_alt(measurements),
                STARVATION_CAPTION,
                starvation_table(measurements),
            ),
            Panel(
                "f. Starvation in trained networks",
                Figure("patches", draw_patched, (9.2, 3.6)),
                patched_alt(measurements),
                patched_caption(job, measurements),
                patched_table(measurements),
            ),
            Panel(
                "g. From the kernel regime to feature learning",
                Figure("particles", draw_particles, (9.2, 3.0)),
                particles_alt(measurements),
                particles_caption(measurements),
            ),
        ),
        overview=Figure("dynamics", draw_overview, (15.5, 13.6)),
        numbers=vars(measurements),
        provenance=provenance(job, measurements),
        source=f"{SOURCE}; (g): {measurements.particles.attrs['source']}",
    )


def parallel_caption(measurements: Measurements) -> str:
    parallel = measurements.parallel
    return (
        "Left: probability that a label drawn from the network's own probabilities is right, on"
        f" {parallel.sizes['mode']} orthogonal features of frequency p. Bands: range over {parallel.sizes['network']}"
        " networks with small random weights under gradient flow; lines: closed form for the first of them; dots:"
        " gradient descent in PyTorch on one neuron for each feature with the same margin and imbalance. Middle: error"
        " on all samples together. Right: largest difference between gradient descent and flow by learning rate,"
        " relative to the largest margin; the line has slope 1."
    )


def parallel_alt(measurements: Measurements) -> str:
    parallel = measurements.parallel
    halves = []
    for mode, p in enumerate(parallel["frequency"].values):
        curve = parallel["predicted"].isel(network=0, mode=mode).values
        halves.append(f"{parallel['time'].values[np.argmax(curve > np.log(3.0))]:.3g} at p = {p:.2f}")
    return (
        "Line charts over logarithmic time. The accuracy on each feature rises from one half to one along a sigmoid and"
        f" passes three quarters at the times {', '.join(halves)}. The error on all samples falls in as many steps."
        f" Gradient descent differs by {measurements.training['training_error'].values[-1]:.2g} at the smallest step."
    )


PHASES_CAPTION = (
    "Fate of a neuron by its initial readout z (times the label) and the projection u of its weights on the class, from"
    " integration. Colour: time to margin 1, where it learns at once or after being rescued; the shaded neurons die"
    " (z < -u) or are never active (u ≤ 0). Lines: boundaries in closed form, z = -u, z = 0 and u = 0; dashed: beyond"
    " it the margin exceeds 1 from the start."
)


def phases_alt(measurements: Measurements) -> str:
    parts = []
    for loss in measurements.phases["loss"].values.tolist():
        counts = np.bincount(measurements.phases["phase"].sel(loss=loss).values.ravel(), minlength=5)
        shares = (
            f"{100.0 * count / counts.sum():.1f} % {word}" for count, word in zip(counts, PHASE_WORDS, strict=True)
        )
        parts.append(f"{loss}: {', '.join(shares)}")
    return (
        "Two maps over initial projection and readout from -2 to 2. Upper right: neurons that learn, faster the larger"
        " both are; below them a wedge of rescued ones, slowest along the boundary z = -u; below that neurons that die;"
        f" on the left inactive ones. Of the neurons, {'; '.join(parts)}."
    )


PHASE_WORDS = ("learn", "are rescued", "die", "stay inactive", "are undecided")
SPEED_CAPTION = (
    "Time to margin 1 of a class, in networks of eight neurons with small random weights, against its frequency p and"
    " the norm r of its inputs. Dots with bars: mean and range over networks under gradient flow; lines: closed form."
    " At given initial margins, the weights shrinking like r to the power -1/2, the time is inversely proportional to"
    " pr. From given initial weights the margin is proportional to r at the start as well, and the time falls faster."
)


def speed_alt(measurements: Measurements) -> str:
    speed = measurements.speed
    margins = speed.isel(case=speed["start"].values == "margins")
    slopes = [
        exponent(margins.isel(case=margins["input_norm"].values == 1.0), "frequency")[0],
        exponent(margins.isel(case=margins["frequency"].values == 0.5), "input_norm")[0],
        exponent(speed.isel(case=speed["start"].values == "weights"), "input_norm")[0],
    ]
    return (
        "Two log-log charts of falling straight lines with dots on them: time to margin 1 against frequency, slope"
        f" {slopes[0]:.4f}, and against input norm, slopes {slopes[1]:.4f} from given margins and {slopes[2]:.4f} from"
        " given weights."
    )


LOSSES_CAPTION = (
    "Margin of a class with p = 1/2 and r = 1 from m₀ = 10⁻⁴ in a network with one neuron for each of two classes."
    " Dots: gradient flow of the network; lines: closed form. The hinge gets to margin 1 at t* = ln(1/m₀)/(2pr) and"
    " stops; cross-entropy goes on for ever, like ln t."
)


def losses_alt(measurements: Measurements) -> str:
    losses = measurements.losses
    ends = losses["simulated"].isel(time=-1)
    return (
        "Two line charts of the margin over time. Under the hinge it grows exponentially and stays at"
        f" {ends.sel(loss='hinge').item():.6f} from then on; under cross-entropy it is slower at first and gets to"
        f" {ends.sel(loss='cross-entropy').item():.2f} at t = 10¹², on a straight line over logarithmic time."
    )


STARVATION_CAPTION = (
    "Two features that compete: the first is in all samples, the second in a fraction λ of them. Left: growth of the"
    " margins m₁ and m₂ that they contribute, from 10⁻¹², under cross-entropy up to t = 10¹². Dots: integrated modes;"
    " lines: m₂/m₂(0) = (m₁/m₁(0))^λ. Right: m₂ over time from 10⁻³ under both losses; squares: where it is predicted"
    " to freeze under the hinge, at m₁ + m₂ = 1."
)


def starvation_alt(measurements: Measurements) -> str:
    frozen = measurements.hinge["frozen_margin"]
    values = ", ".join(
        f"{value:.4f} for λ = {fraction:g}"
        for fraction, value in zip(frozen["fraction"].values, frozen.values, strict=True)
    )
    return (
        "Left: log-log chart of four straight lines of slope λ with dots on them. Right: the rarer feature over time;"
        f" it rises, and under the hinge becomes constant at {values}, while under cross-entropy it slowly goes on."
    )


def starvation_table(measurements: Measurements) -> str:
    """Return exponents and frozen margins by fraction."""
    run, hinge = measurements.starvation, measurements.hinge
    grown = np.log(run["simulated"].isel(time=-1) / run["simulated"].isel(time=0)).values
    late = hinge["simulated"].isel(time=-1, mode=1)
    rows = []
    for number, fraction in enumerate(run["fraction"].values.tolist()):
        here = hinge.sel(fraction=fraction)
        rows.append(
            (
                f"{fraction:g}",
                f"{grown[number, 1] / grown[number, 0]:.6f}",
                f"{here['saturation_time'].item():.3f}",
                f"{here['frozen_margin'].item():.6f}",
                f"{late.sel(loss='hinge', fraction=fraction).item():.6f}",
                f"{late.sel(loss='cross-entropy', fraction=fraction).item():.4f}",
            )
        )
    return html.numbers(
        ("λ", "Exponent", "Freezes at t", "Predicted m₂", "Hinge m₂", "Cross-entropy m₂"),
        rows,
        caption="Exponent at t = 10¹² from 10⁻¹²; rarer feature from 10⁻³, at t = 10⁶",
    )


def patched_caption(job: Job, measurements: Measurements) -> str:
    return (
        f"{job.description} They have one hidden ReLU layer and tell odd from even classes. The added feature is a"
        f" patch: {patch_text(job.data.n_features)} set to the label, one standard deviation up or down. Left: accuracy"
        " on test images without it, mean and standard error over networks, by share of training images without it."
        " Right: the same when the training loss gets to a common value, and on test images with the patch of their own"
        " or the other class. The theory of modes predicts the sign of the effect; its size on real images it does not"
        " predict."
    )


def patch_text(n_features: int) -> str:
    """Return what the patch covers; where an image is not a square of pixels, its corner is unknown."""
    count = len(patch_pixels(n_features))
    return f"{count} pixels in a corner" if math.isqrt(n_features) ** 2 == n_features else f"the first {count} features"


def patched_alt(measurements: Measurements) -> str:
    accuracy = measurements.patched["equal_accuracy"].sel(image="clean").mean("run")
    parts = ", ".join(
        f"{accuracy.sel(without=share).item():.3f} ({share_text(share)})"
        for share in accuracy["without"].values.tolist()
    )
    return (
        "Left: accuracy on clean test images over time; it rises in all networks, and stays lower the fewer training"
        f" images lack the patch. Right: at equal training loss it is {parts}, by share of training images without the"
        " patch."
    )


def patched_table(measurements: Measurements) -> str:
    """Return times, accuracies and margins at equal training loss by share of images without the patch."""
    patched = measurements.patched
    rows = []
    for share in patched["without"].values.tolist():
        here = patched.sel(without=share)
        cells = [f"{here['equal_time'].mean().item():.2f}"]
        for kind in patched["image"].values.tolist():
            values = here["equal_accuracy"].sel(image=kind).values
            cells.append(f"{np.mean(values):.3f} ± {standard_error(values):.3f}")
        cells.append(f"{here['equal_margin'].sel(image='clean').mean().item():.2f}")
        rows.append((share_text(share), *cells))
    return html.numbers(
        ("Without patch", "Time", "Clean", "Patched", "Reversed", "Margin, clean"),
        rows,
        caption=f"At training loss {patched['equal_loss'].item():.2g}: accuracy on test images ± standard error",
    )


def particles_caption(measurements: Measurements) -> str:
    particles = measurements.particles
    return (
        "Networks of m neurons (w, a) on twelve inputs in the plane, the classes of XOR, at time"
        f" {particles.attrs['time']:g} of the squared loss. Left: root mean square over {particles.sizes['network']}"
        " networks of the relative change of all weights (dots) and of the tangent kernel on the inputs (squares);"
        " lines: fitted powers of m. In the kernel scaling, f = m^(-1/2) Σ a relu(w·x), both vanish as m grows; in the"
        " mean-field scaling, f = m^(-1) Σ a relu(w·x), they do not. Middle and right: the same"
        f" {particles.sizes['particle']} particles w in both scalings, from the start of the grey lines to the dots, in"
        " the colour of the class that they vote for; bars at the rim: directions of the inputs of either class."
    )


def particles_alt(measurements: Measurements) -> str:
    particles = measurements.particles
    slopes = [
        slope_text(width_exponent(particles[name].sel(scaling=scaling))[0])
        for scaling in ("kernel", "mean-field")
        for name in ("movement", "kernel_change")
    ]
    return (
        f"Left: log-log chart by width; slopes {slopes[0]} (particles) and {slopes[1]} (kernel) in the kernel scaling,"
        f" {slopes[2]} and {slopes[3]} in the mean-field scaling. Middle: in the kernel scaling particles stay a round"
        " cloud. Right: in the mean-field scaling they move outwards and gather at the inputs of their class."
    )


def provenance(job: Job, measurements: Measurements) -> dict[str, Any]:
    """Return what is needed, beside version and seed, to compute the same again."""
    attributes = measurements.patched.attrs
    return {
        "Ensembles": f"{job.n_networks} networks each in (a) and (c)",
        "Phase diagrams": f"{job.n_grid} x {job.n_grid} neurons for each loss",
        "Particles": f"{job.n_wide} networks in (g) of each of the widths {', '.join(map(str, job.widths))}",
        "Training data": (
            f"{job.data.name}: {attributes['n_train']} training and {attributes['n_test']} test images, odd against"
            " even classes"
        ),
        "Training runs": (
            f"{job.n_runs} for each share, width {attributes['width']}, {job.steps} steps of gradient descent on all"
            f" images with learning rate {attributes['learning_rate']:g} on the cross-entropy"
        ),
        "Numbers": f"dynamics.nc, groups {', '.join(vars(measurements))} and claims",
    }
