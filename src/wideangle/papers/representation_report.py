"""The page of the reproduction of arXiv 2106.03485: captions, alternative texts, tables and provenance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from wideangle.papers._page import Figure, Page, Panel, explain_verdicts
from wideangle.papers.representation import SOURCE
from wideangle.papers.representation_claims import critical_widths, judged_chunk, trained_long
from wideangle.papers.representation_figures import (
    draw_chunks,
    draw_conditions,
    draw_ensembles,
    draw_errors,
    draw_overview,
    draw_synthetic,
)
from wideangle.papers.representation_panels import LAST, ZERO
from wideangle.reports import html

if TYPE_CHECKING:
    import xarray as xr

    from wideangle.papers.representation import Job, Measurements

TITLE = "Redundant representations in wide networks"
LEAD = (
    "If a layer is wide enough, D. Doimo, A. Glielmo, S. Goldt and A. Laio (arXiv 2106.03485) find, its neurons split"
    " into groups that know the same and differ by independent noise: clones. What they see in convolutional networks"
    " on images is held against networks of two hidden layers on much smaller data, and against clones whose number is"
    " known. Random chunks of a layer tell: how they classify by themselves, and what they know of the others."
)
VERDICTS = (
    "Differences and powers are means over networks. The allowed ranges put numbers to words of the paper, such as"
    " identical or independent; they are not fitted to the results. se are standard errors."
)


def describe(job: Job, measurements: Measurements) -> Page[Measurements]:
    """Return what report.html shows."""
    return Page(
        title=TITLE,
        lead=LEAD,
        verdicts=explain_verdicts(VERDICTS),
        panels=(
            Panel(
                "a. Chunks by size and width of the layer",
                Figure("chunks", draw_chunks, (9.2, 4.9)),
                chunks_alt(measurements),
                chunks_caption(job),
                chunks_table(measurements),
            ),
            Panel(
                "b. At zero training error, and without weight decay",
                Figure("conditions", draw_conditions, (9.2, 5.1)),
                conditions_alt(measurements),
                conditions_caption(job),
                conditions_table(measurements),
            ),
            Panel(
                "c. Errors against width",
                Figure("errors", draw_errors, (9.2, 3.4)),
                errors_alt(measurements),
                ERRORS_CAPTION,
            ),
            Panel(
                "d. Wide networks and ensembles of narrow ones",
                Figure("ensembles", draw_ensembles, (9.2, 3.0)),
                ensembles_alt(measurements),
                ensembles_caption(job),
                ensembles_table(measurements),
            ),
            Panel(
                "e. Synthetic clones",
                Figure("synthetic", draw_synthetic, (9.2, 3.1)),
                synthetic_alt(measurements),
                synthetic_caption(measurements),
            ),
        ),
        overview=Figure("representation", draw_overview, (11.5, 16.5)),
        numbers=numbers(measurements),
        provenance=provenance(job, measurements),
        source=SOURCE,
    )


def numbers(measurements: Measurements) -> dict[str, xr.Dataset]:
    """Return what is written, by the name of its group."""
    return dict(vars(measurements))


def chunks_caption(job: Job) -> str:
    return (
        f"{job.description} Above: the classes of the data; below: whether the number of the class is odd. Random"
        " chunks of the last hidden layer at the end of training with weight decay: errors when they are read out by"
        " their own columns of the output layer, share of variance of the neurons outside the chunk that a regression"
        " on the chunk explains, and mean correlation of what is left of these. Means over networks, bands: one"
        " standard error. Dashed: correlation of independent residuals in as many samples, which clones would come"
        " down to. Published R² and correlation count the chunk in, which explains itself: they are in the table."
    )


def chunks_alt(measurements: Measurements) -> str:
    return (
        "Eight charts against chunk size, a row for each task, a line for each width: test error, training error,"
        " variance explained and residual correlation. "
        + "; ".join(_judged_text(measurements, task, LAST, 0) for task in _tasks(measurements))
        + "."
    )


def _tasks(measurements: Measurements) -> list[str]:
    tasks: list[str] = measurements.chunks["task"].values.tolist()
    return tasks


def _judged_text(measurements: Measurements, task: str, moment: str, decay: int) -> str:
    judged = judged_chunk(measurements.chunks).sel(task=task, moment=moment).isel(decay=decay).mean("run")
    return (
        f"{task}: chunks of {int(judged['chunk_size'])} neurons of the widest layer have training error"
        f" {_shown(judged['train_error'])} and explain {_shown(judged['r2_outside'])}"
    )


def _shown(value: xr.DataArray, digits: int = 3) -> str:
    number = float(value)
    return f"{number:.{digits}f}" if np.isfinite(number) else "-"


def chunks_table(measurements: Measurements) -> str:
    """Return what chunks of the widest layer know by their size, as published and outside the chunk."""
    chunks = trained_long(measurements.chunks).isel(width=-1)
    width = int(chunks["width"])
    rows = []
    for task in _tasks(measurements):
        here = chunks.sel(task=task).mean("run")
        for size in here["chunk_size"].values.tolist():
            at = here.sel(chunk_size=size)
            names = (
                "train_error",
                "test_error",
                "r2",
                "r2_outside",
                "residual_correlation",
                "residual_correlation_outside",
            )
            rows.append((f"{task}, {size}", *(_shown(at[name]) for name in names)))
    header = (
        "Task, chunk size",
        "Training error",
        "Test error",
        "R²",
        "outside",
        "Residual correlation",
        "outside",
    )
    return html.numbers(header, rows, caption=f"Width {width}, with weight decay, at the end", folded="All chunk sizes")


def conditions_caption(job: Job) -> str:
    return (
        f"The same for layers of width {job.widths[-1]}, when the training error is zero for the first time and at the"
        f" end, {job.extra_epochs} epochs later, with weight decay and without."
    )


def conditions_alt(measurements: Measurements) -> str:
    parts = []
    for task in _tasks(measurements):
        for place, words in ((0, "with weight decay"), (1, "without")):
            for moment in (ZERO, LAST):
                parts.append(f"{words}, {moment}, {_judged_text(measurements, task, moment, place)}")
    return (
        "Eight charts against chunk size, a row for each task, of errors, variance explained and residual correlation,"
        f" in four conditions. {'; '.join(parts)}."
    )


def conditions_table(measurements: Measurements) -> str:
    """Return what chunks of the judged size know, and critical widths, in each condition."""
    rows = []
    width = measurements.chunks["width"].values[-1]
    for task in _tasks(measurements):
        for place, words in ((0, "weight decay"), (1, "none")):
            for moment in (ZERO, LAST):
                condition = measurements.chunks.sel(task=task, moment=moment).isel(decay=place)
                judged = judged_chunk(condition).mean("run")
                names = ("train_error", "test_error", "r2_outside", "residual_correlation_outside")
                critical = critical_widths(condition).sel(width=width).mean("run")
                rows.append(
                    (f"{task}, {words}, {moment}", *(_shown(judged[name]) for name in names), _shown(critical, 1))
                )
    header = ("Task, condition", "Training error", "Test error", "R² outside", "Correlation outside", "Critical width")
    size = int(judged_chunk(measurements.chunks)["chunk_size"])
    return html.numbers(
        header,
        rows,
        caption=f"Chunks of {size} of {width} neurons, and the size from which the training error is that of the layer",
    )


ERRORS_CAPTION = (
    "Test error less its limit, the error of the ensemble of all networks of the greatest width, with weight decay:"
    " of networks (dots, and squares for their mean) and of chunks of the widest. Powers with 95 % intervals over"
    " networks, and with standard deviations between networks for chunks; the paper predicts -1/2 for both. Networks"
    " that do not err more than the limit are missing."
)


def errors_alt(measurements: Measurements) -> str:
    long = trained_long(measurements.chunks)
    parts = []
    for task in _tasks(measurements):
        here = long.sel(task=task)
        parts.append(
            f"{task}: powers {_shown(here['width_exponent'], 2)} for networks and"
            f" {_shown(here['chunk_exponent'].isel(width=-1).mean('run'), 2)} for chunks, limit"
            f" {_shown(here['asymptotic_error'], 4)}"
        )
    return f"Two log-log charts of test error less limit against width or chunk size. {'; '.join(parts)}."


def ensembles_caption(job: Job) -> str:
    return (
        "Networks, with weight decay, at the end of training beside ensembles of networks of width"
        f" {job.widths[0]}, as many as have the same number of neurons together. Means over networks, bands: one"
        " standard error. Ensembles average probabilities. The loss is the cross-entropy in nat."
    )


def ensembles_alt(measurements: Measurements) -> str:
    widest = trained_long(measurements.networks).isel(width=-1).mean("run")
    parts = [
        f"{task}: test error {_shown(here['final_test_error'], 4)} of one network of width {int(here['width'])},"
        f" {_shown(here['ensemble_test_error'], 4)} of the ensemble, cross-entropy {_shown(here['final_test_loss'])}"
        f" and {_shown(here['ensemble_test_loss'])}"
        for here, task in ((widest.sel(task=task), task) for task in _tasks(measurements))
    ]
    return f"Four charts against total width: test error and cross-entropy for both tasks. {'; '.join(parts)}."


def ensembles_table(measurements: Measurements) -> str:
    """Return errors and losses by task and width."""
    networks = trained_long(measurements.networks).mean("run")
    names = ("final_test_error", "ensemble_test_error", "final_test_loss", "ensemble_test_loss")
    rows = [
        (f"{task}, {width}", *(_shown(networks[name].sel(task=task, width=width), 4) for name in names))
        for task in _tasks(measurements)
        for width in networks["width"].values.tolist()
    ]
    header = ("Task, total width", "Error", "of the ensemble", "Cross-entropy", "of the ensemble")
    return html.numbers(header, rows, caption="Means over networks")


def synthetic_caption(measurements: Measurements) -> str:
    synthetic = measurements.synthetic
    return (
        f"Layers of {synthetic.attrs['n_samples']} samples whose clones have {synthetic.attrs['width']} neurons, each"
        " a mixture of the same signals with noise of its own. Left: the number of clones as the covariance tells"
        " it, down to what random chunks make of it. Middle: errors of chunks (dots) and their derived law (lines)."
        " Right: variance that they explain (dots), and what chunks of generic neurons would, from the eigenvalues of"
        f" the covariance alone (lines). Means over {synthetic.sizes['run']} layers."
    )


def synthetic_alt(measurements: Measurements) -> str:
    synthetic = measurements.synthetic
    found = synthetic["n_clones_estimate"].mean(("noise", "run"))
    parts = ", ".join(f"{_shown(found.sel(n_clones=true), 2)} of {true}" for true in found["n_clones"].values)
    power = synthetic["exponent_estimate"].mean()
    return (
        f"Left: clones found against clones, on the diagonal: {parts}. Middle: log-log chart of errors of chunks, on"
        f" their predictions, with a mean power of {_shown(power)}. Right: variance explained against chunk size, on"
        " the lines of generic chunks."
    )


def provenance(job: Job, measurements: Measurements) -> dict[str, Any]:
    """Return what is needed, beside version and seed, to compute the same again."""
    return {
        "Networks": (
            f"widths {', '.join(map(str, job.widths))}, {job.n_runs} of each; weight decay {job.weight_decay:g} and 0,"
            f" {job.extra_epochs} epochs past zero training error"
        ),
        "Training data": (
            f"{job.data.name}: {len(job.data.x_train)} training and {len(job.data.x_test)} test samples,"
            f" {job.data.n_classes} classes"
        ),
        "Chunks": f"{job.n_chunks} of each size; regressions on training samples",
        "Synthetic clones": f"{job.n_layers} layers of each kind, {job.n_samples} samples",
        "Numbers": f"representation.nc, groups {', '.join(numbers(measurements))} and claims",
    }
