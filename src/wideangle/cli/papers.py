"""``wideangle reproduce``: a command for each paper."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from wideangle.cli._shared import (
    Command,
    add_options,
    argument_errors,
    show_help_without_command,
    show_progress,
    terminal_width,
)


@click.group(invoke_without_command=True)
@click.pass_context
def reproduce(context: click.Context) -> None:
    """Reproduce a paper: figures, numbers, and a verdict on each of its claims.

    \b
    Example:
      wideangle reproduce propagation --out report
    """
    show_help_without_command(context)


def reproduction_options(paper: str, seed_of: str) -> Callable[[Command], Command]:
    """Add the options that every reproduction has; ``seed_of`` says of what the seed is."""
    place = click.Path(path_type=Path)
    data_help = "MNIST-format IDX files (a directory) or an NPZ file to train on [default: the digits of scikit-learn]."
    options = (
        click.option("--data", type=place, metavar="PATH", help=data_help),
        click.option("--out", type=place, default=Path(f"wideangle-{paper}"), show_default=True, metavar="DIR"),
        click.option("--seed", type=int, default=0, show_default=True, help=f"Seed of {seed_of}."),
    )
    return lambda command: add_options(command, options)


@reproduce.command()
@reproduction_options("propagation", "the ensemble, the data split and training")
@click.option("--full", is_flag=True, help="Ten training runs of each architecture instead of one.")
def propagation(**options: Any) -> None:
    """Angles between two inputs of a random ReLU network (arXiv 2302.09712 and 2306.01513).

    Writes report.html, figures as PNG and SVG, and all numbers as NetCDF; prints a table of claims with verdicts.
    Takes about two minutes on two cores; needs the part [reference] (PyTorch).

    \b
    Example:
      wideangle reproduce propagation --data mnist/ --out mnist-report --full
    """
    from wideangle.papers import propagation

    run_reproduction(propagation, options)


@reproduce.command()
@reproduction_options("dynamics", "initial values, the data split and training")
def dynamics(**options: Any) -> None:
    """Learning dynamics of two-layer ReLU networks (arXiv 1809.06848).

    Writes report.html, figures as PNG and SVG, and all numbers as NetCDF; prints a table of claims with verdicts.
    Takes about a minute on two cores, and once another for compiling; needs the part [reference] (PyTorch).

    \b
    Example:
      wideangle reproduce dynamics --seed 1 --out dynamics-report
    """
    from wideangle.papers import dynamics

    run_reproduction(dynamics, options)


@reproduce.command()
@reproduction_options("parametrization", "initial weights, the data split and batches")
@click.option("--full", is_flag=True, help="Width 1024, batches of 512, 600 steps, five networks of each kind.")
def parametrization(**options: Any) -> None:
    """Width scalings of deep networks: integrable, maximal-update, kernel (arXiv 2110.15596).

    Writes report.html, figures as PNG and SVG, and all numbers as NetCDF; prints a table of claims with verdicts.
    Takes about three minutes on two cores; needs the part [reference] (PyTorch).

    \b
    Example:
      wideangle reproduce parametrization --data cifar10.npz --out cifar10-report
    """
    from wideangle.papers import parametrization

    run_reproduction(parametrization, options)


@reproduce.command()
@reproduction_options("representation", "initial weights, the data split, batches and chunks")
@click.option("--full", is_flag=True, help="Ten networks of each kind, and widths up to 512.")
def representation(**options: Any) -> None:
    """Redundant representations in wide networks: chunks and clones (arXiv 2106.03485).

    Writes report.html, figures as PNG and SVG, and all numbers as NetCDF; prints a table of claims with verdicts.
    Takes about three minutes on two cores; needs the part [reference] (PyTorch).

    \b
    Example:
      wideangle reproduce representation --seed 1 --out representation-report
    """
    from wideangle.papers import representation

    run_reproduction(representation, options)


@reproduce.command()
@reproduction_options("response", "initial weights, the data split, orders of samples and label noise")
@click.option("--full", is_flag=True, help="400 small networks of each kind, four times the steps, twenty on images.")
def response(**options: Any) -> None:
    """Training response of neural networks: kernels, aging, features, fragility (arXiv 2405.04074 and 2204.07291).

    Writes report.html, figures as PNG and SVG, and all numbers as NetCDF; prints a table of claims with verdicts.
    Takes less than three minutes on two cores; needs the part [reference] (PyTorch).

    \b
    Example:
      wideangle reproduce response --seed 1 --out response-report
    """
    from wideangle.papers import response

    run_reproduction(response, options)


def run_reproduction(paper: ModuleType, options: dict[str, Any]) -> None:
    """Check the options of a paper's module, reproduce the paper, and print what was found, and where."""
    from wideangle.reports import claims_table

    with argument_errors():
        job = paper.Job.prepare(**options)
    result = paper.reproduce(job, announce=lambda text: click.echo(text, err=True), progress=show_progress(None))
    click.echo(claims_table(result.claims, width=terminal_width()))
    click.echo(f"\n{job.description}")
    click.echo(f"Report, figures and numbers: {result.report}")
