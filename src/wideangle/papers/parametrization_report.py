"""The page of the reproduction of arXiv 2110.15596: captions, alternative texts, tables and provenance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from wideangle.papers._page import Figure, Page, Panel, explain_verdicts
from wideangle.papers._verdicts import width_exponent
from wideangle.papers.parametrization import N_HIDDEN, SOURCE
from wideangle.papers.parametrization_claims import first_step_gaps, gap_by_width, output_exponents
from wideangle.papers.parametrization_figures import (
    draw_checks,
    draw_curves,
    draw_depths,
    draw_hybrid,
    draw_layers,
    draw_overview,
)
from wideangle.papers.parametrization_panels import CHECKED_DEPTH
from wideangle.reports import html
from wideangle.reports.claims import AGREES, DISAGREES, NOT_RESOLVED

if TYPE_CHECKING:
    import xarray as xr

    from wideangle.papers.parametrization import Job, Measurements

FIELDS = {
    "diversity": "Diversity",
    "dimension": "Dimension",
    "numerical_rank": "Numerical rank",
    "participation_rank": "(tr A)² / tr A²",
    "norm_ratio": "Frobenius / spectral",
}
TITLE = "Width scalings of deep networks"
LEAD = (
    "How a deep network learns as its width grows is decided by the powers of the width in its initial weights,"
    " multipliers and learning rates. What K. Hajjar, L. Chizat and C. Giraud (arXiv 2110.15596) find for integrable"
    " networks, in which sums over neurons are averages, is held against predicted limits and trained networks."
)


def describe(job: Job, measurements: Measurements) -> Page[Measurements]:
    """Return what report.html shows."""
    return Page(
        title=TITLE,
        lead=LEAD,
        verdicts=explain_verdicts(
            "Exponents in (a) and (e) have bootstrap intervals over networks instead. se are standard errors."
        ),
        panels=(
            Panel(
                "a. Integrable networks by depth",
                Figure("depths", draw_depths, (9.2, 3.6)),
                depths_alt(measurements),
                depths_caption(job),
            ),
            Panel(
                "b. Training",
                Figure("curves", draw_curves, (9.2, 3.4)),
                curves_alt(measurements),
                curves_caption(job),
                curves_table(measurements),
            ),
            Panel(
                "c. A large first step, and the hybrid scaling",
                Figure("hybrid", draw_hybrid, (9.2, 3.3)),
                hybrid_alt(measurements),
                hybrid_caption(measurements),
            ),
            Panel(
                "d. Diversity of neurons and ranks of updates",
                Figure("layers", draw_layers, (9.2, 3.2)),
                layers_alt(measurements),
                LAYERS_CAPTION,
                layers_table(measurements),
            ),
            Panel(
                "e. Coordinate checks",
                Figure("checks", draw_checks, (9.2, 3.0)),
                checks_alt(measurements),
                checks_caption(job),
                checks_table(measurements),
            ),
        ),
        overview=Figure("parametrization", draw_overview, (12.5, 17.0)),
        numbers=numbers(measurements),
        provenance=provenance(job, measurements),
        source=SOURCE,
    )


def numbers(measurements: Measurements) -> dict[str, xr.Dataset]:
    """Return what is written, by the name of its group."""
    return {name.replace("_", "-"): dataset for name, dataset in vars(measurements).items()}


def depths_caption(job: Job) -> str:
    return (
        f"Change of the output on {job.data.name} after a few steps of gradient descent, in integrable ReLU networks"
        " of 2 to 7 layers. Left: dots are networks, lines their root mean square. Right: slopes of these lines with"
        " bootstrap intervals, and the predicted ones: 0 for two and three layers, and one less with every further"
        " layer. Dashed: the threshold of the paper's abstract, more than four layers; four already do not learn."
    )


def depths_alt(measurements: Measurements) -> str:
    depths = measurements.depths
    found = output_exponents(depths, "change_exponent")
    parts = ", ".join(
        f"{value:.2f} for {depth + 1}" for depth, value in zip(depths["depth"].values, found, strict=True)
    )
    return (
        "Left: log-log chart of the update of the output against width, a line for each number of layers; those of two"
        " and three layers are level, the others fall, steeper the more layers there are. Right: exponents by number of"
        f" layers: {parts}."
    )


def curves_caption(job: Job) -> str:
    return (
        f"{job.description} Cross-entropy of the batches, means over ten steps, a line for each network. Where the"
        " first step has its own learning rate it is calibrated so that the last hidden layer changes by order one."
    )


def curves_alt(measurements: Measurements) -> str:
    accuracy = measurements.curves["train_accuracy"].isel(record=-1).mean("run")
    parts = []
    for activation in accuracy["activation"].values.tolist():
        values = accuracy.sel(activation=activation)
        names = ", ".join(f"{name} {values.sel(scaling=name).item():.2f}" for name in values["scaling"].values.tolist())
        parts.append(f"{activation}: {names}")
    return (
        "Training loss over steps in four charts, by scaling. Accuracy on the training set at the end:"
        f" {'; '.join(parts)}."
    )


def curves_table(measurements: Measurements) -> str:
    """Return accuracies on training and test set by scaling and activation."""
    curves = measurements.curves.isel(record=-1).mean("run", skipna=False)
    activations = curves["activation"].values.tolist()
    rows = []
    for name in curves["scaling"].values.tolist():
        here = curves.sel(scaling=name)
        cells = [
            f"{here['train_accuracy'].sel(activation=kind).item():.3f} /"
            f" {here['test_accuracy'].sel(activation=kind).item():.3f}"
            for kind in activations
        ]
        rows.append((name, *cells))
    return html.numbers(("Scaling", *activations), rows, caption="Accuracy after training, on training / test set")


def hybrid_caption(measurements: Measurements) -> str:
    hybrid, first = measurements.hybrid, measurements.first_step
    return (
        f"ReLU networks of {hybrid.sizes['layer']} layers under ip-llr and under the hybrid scaling, which is maximal"
        " update with the initial weights of inner layers taken out after the first step, from the same start. Left:"
        f" training loss at the least and the largest width. Middle: root mean square, over {hybrid.sizes['probe']}"
        f" test images and {hybrid.sizes['run']} networks, of the difference of their outputs, with fitted powers of"
        " the width. Right: one step of three-layer networks on one sample: distance from the closed-form limit of"
        f" infinite width, over {first.sizes['network']} networks, and between the two."
    )


def hybrid_alt(measurements: Measurements) -> str:
    gaps = gap_by_width(measurements.hybrid)
    parts = ", ".join(
        f"{width_exponent(gaps.sel(record=step))[0]:.2f} after step {step}"
        for step in gaps["record"].values.tolist()[1:]
    )
    rates = [width_exponent(gap)[0] for gap in first_step_gaps(measurements.first_step)]
    return (
        "Left: training losses under both scalings at two widths. Middle: log-log chart of the gap between their"
        f" outputs against width; slopes {parts}. Right: log-log chart with slopes {rates[0]:.3f} for the distance from"
        f" the limit and {rates[1]:.3f} between the scalings."
    )


LAYERS_CAPTION = (
    "ReLU networks after training, by layer, the output layer last. Diversity of neurons: 0 if all those of a layer"
    " are the same function of the input but for a constant, 1 if they have none in common. Dimension: participation"
    " ratio of their covariance over samples, 1 if all are multiples of one function. Numerical rank of the update"
    " of the weights: singular values above the roundings of float32; (tr A)² / tr A² with A = ΔWᵀΔW: their"
    " effective number. The updates of integrable networks without a way out (ip) are roundings, and left out."
)


def layers_alt(measurements: Measurements) -> str:
    last = measurements.curves.isel(record=-1).sel(activation="relu").mean("run", skipna=False)
    inner = last["diversity"].isel(layer=slice(1, -1)).mean("layer")
    parts = ", ".join(f"{name} {inner.sel(scaling=name).item():.2f}" for name in last["scaling"].values.tolist())
    return (
        "Four charts by layer: diversity of neurons, numerical rank, participation rank and norm ratio of the"
        f" updates of weights, a line for each scaling. Mean diversity of layers 2 to {N_HIDDEN}: {parts}."
    )


def layers_table(measurements: Measurements) -> str:
    """Return diversity and ranks of the inner layers by scaling and activation."""
    last = (
        measurements.curves.isel(record=-1)
        .mean("run", skipna=False)
        .isel(layer=slice(1, -1))
        .mean("layer", skipna=False)
    )
    rows = []
    for activation in last["activation"].values.tolist():
        for name in last["scaling"].values.tolist():
            here = last.sel(activation=activation, scaling=name)
            cells = (
                here[field].item() for field in ("diversity", "numerical_rank", "participation_rank", "norm_ratio")
            )
            rows.append((f"{name}, {activation}", *("-" if np.isnan(cell) else f"{cell:.3g}" for cell in cells)))
    header = ("Scaling, activation", *FIELDS.values())
    return html.numbers(header, rows, caption=f"Means over layers 2 to {N_HIDDEN}", folded="All activations")


def checks_caption(job: Job) -> str:
    return (
        f"Exponents of the change of each layer's pre-activations, the output last, in ReLU networks of {CHECKED_DEPTH}"
        f" hidden layers of widths {job.widths[0]} to {job.widths[-1]} after a few steps on {job.data.name}. Bars:"
        " predicted; dots: fitted, with bootstrap intervals over networks. The last one is trained under the"
        " standard scaling and held against the exponents of maximal update."
    )


def checks_alt(measurements: Measurements) -> str:
    checks = measurements.checks
    parts = []
    for name in checks["check"].values.tolist():
        verdicts = checks["verdict"].sel(check=name).values.tolist()
        parts.append(f"{name}: {verdicts.count(AGREES)} of {len(verdicts)} layers agree")
    return f"Charts of measured and predicted exponents by layer for each scaling. {'; '.join(parts)}."


def checks_table(measurements: Measurements) -> str:
    """Return regimes and exponents of the last hidden layer and the output by scaling."""
    checks = measurements.checks
    rows = []
    for name in checks["check"].values.tolist():
        here = checks.sel(check=name)
        verdicts = here["verdict"].values.tolist()
        cells = [
            f"{here['change_exponent'].values[place]:.2f} [{here['change_low'].values[place]:.2f},"
            f" {here['change_high'].values[place]:.2f}] ({here['change_predicted'].values[place]:g})"
            for place in (-2, -1)
        ]
        agreeing = f"{verdicts.count(AGREES)} / {verdicts.count(NOT_RESOLVED)} / {verdicts.count(DISAGREES)}"
        regime, found = here["regime_expected"].item(), here["regime"].item()
        rows.append((name, regime if found == regime else f"{regime}, found {found}", *cells, agreeing))
    header = ("Scaling", "Regime", "Last hidden layer", "Output", "Agree / open / contradict")
    return html.numbers(
        header, rows, caption="Exponents of the change with intervals (predicted), and verdicts by layer"
    )


def provenance(job: Job, measurements: Measurements) -> dict[str, Any]:
    """Return what is needed, beside version and seed, to compute the same again."""
    given = measurements.curves["learning_rate"]
    rates = "; ".join(
        f"{name} {', '.join(f'{rate:g}' for rate in given.sel(scaling=name).values)}"
        for name in given["scaling"].values
    )
    return {
        "Coordinate checks": f"widths {', '.join(map(str, job.widths))}, {job.n_seeds} networks of each",
        "Training data": (
            f"{job.data.name}: {len(job.data.x_train)} training and {len(job.data.x_test)} test samples,"
            f" {job.data.n_classes} classes"
        ),
        "Training runs": (
            f"{job.n_runs} for each scaling and activation; gradient descent, learning rates for"
            f" {', '.join(given['activation'].values)}: {rates}"
        ),
        "Numbers": f"parametrization.nc, groups {', '.join(numbers(measurements))} and claims",
    }
