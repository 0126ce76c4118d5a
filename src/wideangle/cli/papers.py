"""``wideangle reproduce``: a command for each paper."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

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


class Paper(NamedTuple):
    """What the command of a paper says of it; ``name`` is that of its module, ``full`` what ``--full`` does, if any."""

    name: str
    title: str
    duration: str
    seed_of: str
    example: str
    full: str | None = None


PAPERS = (
    Paper(
        "propagation",
        title="Angles between two inputs of a random ReLU network (arXiv 2302.09712 and 2306.01513).",
        duration="about two minutes on two cores",
        seed_of="the ensemble, the data split and training",
        example="--data mnist/ --out mnist-report --full",
        full="Ten training runs of each architecture instead of one.",
    ),
    Paper(
        "dynamics",
        title="Learning dynamics of two-layer ReLU networks (arXiv 1809.06848).",
        duration="about a minute on two cores, and once another for compiling",
        seed_of="initial values, the data split and training",
        example="--seed 1 --out dynamics-report",
    ),
    Paper(
        "parametrization",
        title="Width scalings of deep networks: integrable, maximal-update, kernel (arXiv 2110.15596).",
        duration="about three minutes on two cores",
        seed_of="initial weights, the data split and batches",
        example="--data cifar10.npz --out cifar10-report",
        full="Width 1024, batches of 512, 600 steps, five networks of each kind.",
    ),
    Paper(
        "representation",
        title="Redundant representations in wide networks: chunks and clones (arXiv 2106.03485).",
        duration="about three minutes on two cores",
        seed_of="initial weights, the data split, batches and chunks",
        example="--seed 1 --out representation-report",
        full="Ten networks of each kind, and widths up to 512.",
    ),
    Paper(
        "response",
        title=(
            "Training response of neural networks: kernels, aging, features, fragility (arXiv 2405.04074 and "
            "2204.07291)."
        ),
        duration="about a minute and a half on two cores",
        seed_of="initial weights, the data split, orders of samples and label noise",
        example="--seed 1 --out response-report",
        full="400 small networks of each kind, four times the steps, twenty on images.",
    ),
)


def reproduction_options(paper: Paper) -> Callable[[Command], Command]:
    """Add the options that every reproduction has, and ``--full`` where there is one."""
    place = click.Path(path_type=Path)
    data_help = "MNIST-format IDX files (a directory) or an NPZ file to train on [default: the digits of scikit-learn]."
    options = [
        click.option("--data", type=place, metavar="PATH", help=data_help),
        click.option("--out", type=place, default=Path(f"wideangle-{paper.name}"), show_default=True, metavar="DIR"),
        click.option("--seed", type=int, default=0, show_default=True, help=f"Seed of {paper.seed_of}."),
    ]
    if paper.full is not None:
        options.append(click.option("--full", is_flag=True, help=paper.full))
    return lambda command: add_options(command, options)


def add_command(paper: Paper) -> None:
    """Add the command that reproduces a paper."""
    text = f"""{paper.title}

    Writes report.html, figures as PNG and SVG, and all numbers as NetCDF; prints a table of claims with verdicts.
    Takes {paper.duration}; needs the part [reference] (PyTorch).

    \b
    Example:
      wideangle reproduce {paper.name} {paper.example}
    """

    @reproduce.command(paper.name, help=text)
    @reproduction_options(paper)
    def command(**options: Any) -> None:
        run_reproduction(importlib.import_module(f"wideangle.papers.{paper.name}"), options)


for each in PAPERS:
    add_command(each)


def run_reproduction(paper: ModuleType, options: dict[str, Any]) -> None:
    """Check the options of a paper's module, reproduce the paper, and print what was found, and where."""
    from wideangle.reports import claims_table

    with argument_errors():
        job = paper.Job.prepare(**options)
    result = paper.reproduce(job, announce=lambda text: click.echo(text, err=True), progress=show_progress(None))
    click.echo(claims_table(result.claims, width=terminal_width()))
    click.echo(f"\n{job.description}")
    click.echo(f"Report, figures and numbers: {result.report}")
