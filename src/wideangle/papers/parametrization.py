"""Reproduction of arXiv 2110.15596 (Hajjar, Chizat and Giraud): wide integrable networks, and ways to train them.

Five panels: (a) the update of integrable networks of 2 to 7 layers against width, (b) training curves under six
scalings and four activations, (c) a large first step against the hybrid of maximal update and integrable, (d) diversity
of neurons and ranks of weight updates, (e) coordinate checks of all scalings. Every claim is judged by a number with
its error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from wideangle._cpu import available_threads
from wideangle.papers import _frame
from wideangle.papers._frame import Announce, Reproduction, carry_out, lacking_a_batch, silent

if TYPE_CHECKING:
    import xarray as xr

SOURCE = "arXiv 2110.15596"
SHOWN = ("ip-llr", "mup", "ntk", "ip-bias", "ip-non-centered", "ip")  # Scalings whose training is shown.
ACTIVATIONS = ("relu", "gelu", "elu", "tanh")
N_HIDDEN = 6  # Of the networks that are trained, as in the paper.


@dataclass(frozen=True, kw_only=True)
class Job(_frame.Job):
    """What a reproduction will do, checked and ready to start.

    Parameters
    ----------
    data, out, seed
        As in any job; the seed is that of initial weights, of the split of the digits and of batches.
    widths
        Of panels (a), (c) and (e), increasing; (c) leaves the last one out.
    n_seeds
        Networks of each width in panels (a) and (e).
    width
        Of the networks of panels (b) and (d).
    n_runs
        Networks of each scaling and activation there.
    n_steps
        Of their training.
    batch_size
        Of all training.
    n_hybrid
        Networks of each scaling and width in panel (c), and
    n_compared
        of each width beside the limit of the first step.
    n_threads
        Networks that are trained at a time, each with one thread.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    n_seeds: int = 4
    width: int = 512
    n_runs: int = 2
    n_steps: int = 200
    batch_size: int = 128
    n_hybrid: int = 16
    n_compared: int = 512
    n_threads: int = field(default_factory=available_threads)

    # As in the paper.
    FULL: ClassVar[Mapping[str, Any]] = {"width": 1024, "n_runs": 5, "n_steps": 600, "batch_size": 512}

    @property
    def description(self) -> str:
        """One sentence on the extent of the training."""
        return (
            f"Training: {self.n_runs} networks of {N_HIDDEN} hidden layers of width {self.width} for each of"
            f" {len(SHOWN)} scalings and {len(ACTIVATIONS)} activations, on {self.data.name}"
            f" ({len(self.data.x_train)} training samples): {self.n_steps} steps of batch {self.batch_size}."
        )

    @property
    def lacking(self) -> str:
        """What the data must do and do not."""
        return lacking_a_batch(self.data, self.batch_size)


@dataclass(frozen=True)
class Measurements:
    """All numbers of the reproduction, as the functions of the same names describe them.

    They are in :mod:`wideangle.papers.parametrization_panels`.
    """

    depths: xr.Dataset
    curves: xr.Dataset
    hybrid: xr.Dataset
    first_step: xr.Dataset
    checks: xr.Dataset


def reproduce(job: Job, *, announce: Announce = silent, progress: bool = False) -> Reproduction[Measurements]:
    """Measure, judge, draw and write, as :func:`wideangle.papers._frame.carry_out` describes."""
    from wideangle.papers.parametrization_claims import judge
    from wideangle.papers.parametrization_report import describe

    return carry_out(job, measure, judge, describe, announce=announce, progress=progress)


def measure(job: Job, *, announce: Announce = silent, progress: bool = False) -> Measurements:
    """Compute every number."""
    from wideangle.papers import parametrization_panels as panels

    announce("Training integrable networks of 2 to 7 layers, and checking the coordinates of all scalings ...")
    depths = panels.depths(job, progress)
    checks = panels.checks(job, progress)
    announce("Training networks with a large first step beside hybrid ones, at several widths ...")
    hybrid = panels.hybrid(job, progress)
    first_step = panels.first_step(job, progress)
    announce(job.description)
    return Measurements(
        depths=depths,
        curves=panels.curves(job, progress),
        hybrid=hybrid,
        first_step=first_step,
        checks=checks,
    )
