"""The page of the reproduction of the propagation papers: captions, alternative texts, tables and provenance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from wideangle._cpu import active_cpu_path
from wideangle.papers._page import Figure, Page, Panel, explain_verdicts
from wideangle.papers.propagation import SOURCE
from wideangle.papers.propagation_claims import angle_text
from wideangle.papers.propagation_figures import (
    LABELS,
    draw_angles,
    draw_densities,
    draw_many_inputs,
    draw_overview,
    draw_training,
)
from wideangle.reports import html

if TYPE_CHECKING:
    import xarray as xr

    from wideangle.papers.propagation import Job, Measurements

TITLE = "Angle propagation in random ReLU networks"
LEAD = (
    "Two inputs at angle θ₀ pass through a random ReLU network. X = ln sin² θ, with θ the angle after a layer, drifts"
    " down and spreads. Here the finite-width predictions of C. Jakub and M. Nica (arXiv 2302.09712 and 2306.01513),"
    " the infinite-width limit and the exact law are held against simulated and trained networks."
)


def describe(job: Job, measurements: Measurements) -> Page[Measurements]:
    """Return what report.html shows."""
    return Page(
        title=TITLE,
        lead=LEAD,
        verdicts=explain_verdicts(
            "X is ln sin² θ; se are standard errors.",
            brackets="five standard errors; for rank correlations a 95 % bootstrap interval",
        ),
        panels=(
            Panel(
                "a. The angle by layer",
                Figure("angles", draw_angles, (9.2, 5.6)),
                angles_alt(measurements),
                angles_caption(job),
                means_table(measurements),
            ),
            Panel(
                "b. The density of the angle",
                Figure("densities", draw_densities, (9.2, 3.3)),
                densities_alt(measurements),
                densities_caption(job),
            ),
            Panel(
                "c. Accuracy after training",
                Figure("training", draw_training, (9.2, 3.9)),
                training_alt(measurements),
                training_caption(job),
                architectures_table(measurements),
            ),
            Panel(
                "d. Many inputs",
                Figure("many-inputs", draw_many_inputs, (9.2, 3.4)),
                many_inputs_alt(measurements),
                many_inputs_caption(job, measurements),
            ),
        ),
        overview=Figure("propagation", draw_overview, (14.0, 8.4)),
        numbers=numbers(measurements),
        provenance=provenance(job, measurements),
        source=SOURCE,
    )


def numbers(measurements: Measurements) -> dict[str, xr.Dataset]:
    """Return the Datasets by the names of their groups."""
    return {
        "angles": measurements.angles,
        "small-angles": measurements.small_angles,
        "histograms": measurements.histograms,
        "training": measurements.training,
        "many-inputs": measurements.many_inputs,
        **{f"density-{method}-{theta0:g}": density for (theta0, method), density in measurements.densities.items()},
    }


def angles_caption(job: Job) -> str:
    return (
        f"Mean and standard deviation of X = ln sin² θ by layer for width 256, depth 32, θ₀ = 0.1, over"
        f" {job.n_samples:,} simulated networks (dots and band) and as predicted (lines; thin lines are one standard"
        " deviation away). Below: predicted minus simulated mean, at this angle and at θ₀ = 10⁻⁶; the bands are five"
        " standard errors wide to each side. The small-angle law is"
        " exact in the limit θ₀ → 0 only and leaves the frame on the left; the exact law holds at every angle."
    )


def angles_alt(measurements: Measurements) -> str:
    last = measurements.angles.isel(layer=-1)
    ends = ", ".join(
        f"{LABELS[method]} {mean:.2f}"
        for method, mean in zip(last["predictor"].values.tolist(), last["log_sin2"].values, strict=True)
    )
    return (
        f"Line chart by layer. The simulated mean falls from {measurements.angles['ensemble_mean'][0].item():.2f} to"
        f" {last['ensemble_mean'].item():.2f} at layer {int(last['layer'])} while its standard deviation grows to"
        f" {np.sqrt(last['ensemble_variance'].item()):.2f}. Predicted means there: {ends}."
    )


def densities_caption(job: Job) -> str:
    return (
        f"Histograms of X over {job.n_tested:,} simulated networks and the densities that follow from integrating the"
        " normal transition of each published rule, or the exact transition at small angles, layer over layer. D is the"
        " Kolmogorov-Smirnov distance."
    )


def densities_alt(measurements: Measurements) -> str:
    parts = []
    for number in range(measurements.histograms.sizes["panel"]):
        panel = measurements.histograms.isel(panel=number).dropna("predictor")
        distances = " and ".join(f"{value:.3f}" for value in panel["ks_statistic"].values)
        where = f"layer {int(panel['layer'])} from θ₀ = {angle_text(panel['theta0'].item())}"
        parts.append(f"{where}: standard deviation {panel['sample_sd'].item():.2f}, KS distances {distances}")
    return f"Histograms with predicted densities on top. {'; '.join(parts)}."


def training_caption(job: Job) -> str:
    return (
        f"{job.description} Each dot is one architecture, the mean over its runs; across, the predicted X of the last"
        " layer for orthogonal inputs. The infinite-width prediction depends on the depth alone. Brackets: 95 %"
        " bootstrap interval over architectures and runs."
    )


def training_alt(measurements: Measurements) -> str:
    training = measurements.training
    accuracy = training["accuracy"].mean("run")
    rho = ", ".join(
        f"{here['spearman'].item():.2f} at {predictor.replace('-', ' ')}"
        for predictor in training["predictor"].values.tolist()
        for here in [training.sel(predictor=predictor)]
    )
    return (
        f"Two scatter plots of {training.sizes['architecture']} architectures: test accuracy, from"
        f" {accuracy.min().item():.2f} to {accuracy.max().item():.2f}, against the predicted X. Spearman's rho: {rho}."
    )


def many_inputs_caption(job: Job, measurements: Measurements) -> str:
    n_inputs = measurements.many_inputs.attrs["n_inputs"]
    return (
        f"The Gram matrix Q of {n_inputs} samples of {job.data.name}, scaled to unit mean square, by layer: logarithm"
        " of its determinant, the squared volume that the inputs span, and effective rank (tr Q)²/tr Q². Dots and"
        f" bands: mean and standard deviation over {job.n_gram_samples:,} simulated networks of width 64 (light) and"
        " 256; dashed: infinite width, the arc-cosine kernel layer over layer."
    )


def many_inputs_alt(measurements: Measurements) -> str:
    last = measurements.many_inputs.isel(layer=-1)
    widths = ", ".join(
        f"{last['log_determinant_mean'].sel(width=width).item():.1f} at width {width}" for width in last["width"].values
    )
    return (
        f"Two line charts by layer. ln det falls to {last['log_determinant'].item():.1f} at infinite width and to"
        f" {widths}; the effective rank falls to {last['effective_rank'].item():.2f} at infinite width and hardly"
        f" differs at width {int(last['width'][-1])}: {last['effective_rank_mean'].isel(width=-1).item():.2f}."
    )


def means_table(measurements: Measurements) -> str:
    """Return predicted and simulated means and standard deviations at some layers."""
    angles = measurements.angles
    # The exact law beside the simulation that it is to agree with.
    methods = sorted(angles["predictor"].values.tolist(), key=lambda method: method != "exact")
    depth = int(angles["layer"][-1])
    rows = []
    for layer in sorted({1, 2, depth // 4, depth // 2, 3 * depth // 4, depth} - {0}):
        here = angles.sel(layer=layer)
        mean, error, spread = (
            here[name].item() for name in ("ensemble_mean", "ensemble_mean_standard_error", "ensemble_variance")
        )
        cells = [f"{mean:.4f} ± {np.sqrt(spread):.3f}", f"{error:.4f}"]
        for method in methods:
            mean, variance = (here[name].sel(predictor=method).item() for name in ("log_sin2", "variance"))
            cells.append(f"{mean:.3f} ± {np.sqrt(variance):.3f}" if variance > 0 else f"{mean:.3f}")
        rows.append((layer, *cells))
    return html.numbers(
        ("Layer", "Monte Carlo", "se", *(LABELS[method] for method in methods)),
        rows,
        caption="Mean ± standard deviation of X by layer, simulated (se: standard error of the mean) and predicted",
    )


def architectures_table(measurements: Measurements) -> str:
    """Return all architectures with their predictions and accuracies."""
    training = measurements.training
    rows: list[tuple[Any, ...]] = []
    for name in training["architecture"].values.tolist():
        here = training.sel(architecture=name)
        finite, infinite = (here["log_sin2"].sel(predictor=p).item() for p in training["predictor"].values)
        accuracies = here["accuracy"].values
        rows.append(
            (
                name,
                f"{int(here['n_parameters']):,}",
                f"{finite:.2f}",
                f"{infinite:.2f}",
                f"{np.mean(accuracies):.3f}",
                f"{np.std(accuracies, ddof=1):.3f}" if len(accuracies) > 1 else "-",
            )
        )
    return html.numbers(
        ("Width x depth", "Weights", "X finite width", "X infinite width", "Accuracy", "sd over runs"),
        rows,
        caption="Predicted X of the last layer and test accuracy",
        folded=f"All {len(rows)} architectures",
    )


def provenance(job: Job, measurements: Measurements) -> dict[str, Any]:
    """Return what is needed, beside version and seed, to compute the same again."""
    attributes = measurements.training.attrs
    return {
        "CPU path of the kernel": f"{active_cpu_path()} (every path gives the same bits)",
        "Ensemble": (
            f"{job.n_samples:,} networks for moments, the first {job.n_tested:,} for densities;"
            f" {job.n_gram_samples:,} of each width for many inputs"
        ),
        "Training data": f"{job.data.name}: {len(job.data.x_train)} training and {len(job.data.x_test)} test samples",
        "Training runs": (
            f"{job.n_runs} of each architecture, {job.steps} steps of batch {attributes['batch_size']},"
            f" Adam with learning rate {attributes['learning_rate']:g} on the cross-entropy"
        ),
        "Numbers": (
            "propagation.nc, groups angles, small-angles, histograms, density-*, training, many-inputs and claims"
        ),
    }
