"""``wideangle analyze-representation``: how redundant a layer is, from its activations in a file."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import click

from wideangle.cli._shared import Command, add_options, argument_errors, integers, show_progress, terminal_width


def feature_options(command: Command) -> Command:
    """Add the options that say where features, and what reads them out, are."""
    place = click.Path(path_type=Path)
    names = ("features", "readout", "bias", "targets")
    options = [
        click.option(f"--{name}", default=name, show_default=True, metavar="NAME", help=f"Entry with the {name}.")
        for name in names
    ]
    options += [
        click.option(
            f"--{name}-file", f"{name}_path", type=place, metavar="FILE", help=f"File with the {name}, if another."
        )
        for name in names[1:]
    ]
    return add_options(command, options)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@feature_options
@click.option(
    "--training-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Features and targets of the training samples, in entries of the same names, for their errors.",
)
@click.option("--chunk-sizes", metavar="W1,W2,...", help="Neurons of a chunk [default: powers of two, and the width].")
@click.option("--chunks", "n_chunks", type=int, default=40, show_default=True, help="Random chunks of each size.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the chunks.")
@click.option("--ridge", type=float, default=1e-8, show_default=True, help="Penalty of the regressions.")
@click.option("--asymptotic-error", type=float, metavar="E", help="Error of ever wider layers [default: fitted].")
@click.option("--critical-width", type=float, metavar="W", help="Critical width [default: from the spectrum].")
@click.option(
    "--missing",
    type=click.Choice(["raise", "drop"]),
    default="raise",
    show_default=True,
    help="What to do with samples whose activations are not finite.",
)
@click.option("--threads", "n_threads", type=int, help="Number of threads [default: every core].")
@click.option("--progress/--no-progress", default=None, help="Progress bar [default: if standard error is a terminal].")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("wideangle-representation"), show_default=True, metavar="DIR"
)
def analyze_representation(
    file: Path,
    training_file: Path | None,
    chunk_sizes: str | None,
    asymptotic_error: float | None,
    critical_width: float | None,
    n_threads: int | None,
    progress: bool | None,
    out: Path,
    **options: Any,
) -> None:
    """Say how redundant a layer is, from its activations in FILE: .npy, .npz, or .pt without pickles.

    FILE holds features, of shape (sample, neuron), of test samples; for errors of chunks also the readout
    (class, neuron), its bias, and targets. Prints what random chunks know of the layer, how many clones it consists
    of, or why the data cannot decide; writes report.html, the figure as PNG and SVG, and all numbers as NetCDF.

    \b
    Example:
      wideangle analyze-representation layer.npz --training-file training.npz --out layer-report
    """
    from wideangle._files import make_writable
    from wideangle.reports import claims_table
    from wideangle.representation.file_analysis import analyze, prepare

    chunks = {name: options.pop(name) for name in ("n_chunks", "seed", "ridge", "missing")}
    with argument_errors():
        sizes = None if chunk_sizes is None else integers("--chunk-sizes", chunk_sizes)
        fit = {"asymptotic_error": asymptotic_error, "critical_width": critical_width}
        chunks["chunk_sizes"] = sizes
        job = prepare(file, files=options, training_path=training_file, chunks=chunks, fit=fit)
        make_writable(out)
        analysis = analyze(job, out, n_threads=n_threads, progress=show_progress(progress))
    width = terminal_width()
    click.echo(f"{analysis.table}\n")
    for sentence in analysis.findings:
        click.echo(textwrap.fill(sentence, width))
    click.echo("")
    if analysis.claims:
        click.echo(f"{claims_table(analysis.claims, width=width)}\n")
    click.echo(f"Report, figures and numbers: {analysis.report}")
