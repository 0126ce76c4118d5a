"""Reproduction of arXiv 2106.03485 (Doimo, Glielmo, Goldt and Laio): redundant representations in wide networks.

Five panels: (a) errors, R^2 and residual correlation of chunks of the last hidden layer, for layers of several widths
trained with weight decay well past zero training error, (b) the same at zero training error and without weight decay,
(c) error against width for networks and for chunks, (d) wide networks beside ensembles of narrow ones, (e) synthetic
clones, whose number is known. Every claim is judged by a number with its error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from wideangle._cpu import available_threads
from wideangle.papers import _frame
from wideangle.papers._frame import Announce, Reproduction, carry_out, silent

if TYPE_CHECKING:
    import xarray as xr

SOURCE = "arXiv 2106.03485"


@dataclass(frozen=True, kw_only=True)
class Job(_frame.Job):
    """What a reproduction will do, checked and ready to start.

    Parameters
    ----------
    data
        To train on: on its classes, and on whether the number of the class is odd.
    out, seed
        As in any job; the seed is that of initial weights, of the split of the digits, of batches and of chunks.
    widths
        Of the trained networks, increasing. The least one is also that of the members of ensembles.
    n_runs
        Networks of each width, task and weight decay, at least two.
    weight_decay
        Beside none.
    extra_epochs
        Past zero training error.
    n_chunks
        Chunks of each size.
    n_layers
        Synthetic layers of each kind, and
    n_samples
        of each layer.
    n_threads
        Networks that are trained at a time, each with one thread.
    """

    widths: tuple[int, ...] = (32, 64, 128, 256)
    n_runs: int = 4
    weight_decay: float = 3e-3
    extra_epochs: int = 150
    n_chunks: int = 40
    n_layers: int = 4
    n_samples: int = 10_000
    n_threads: int = field(default_factory=available_threads)

    FULL: ClassVar[Mapping[str, Any]] = {"widths": (32, 64, 128, 256, 512), "n_runs": 10}

    @property
    def description(self) -> str:
        """One sentence on the extent of the training."""
        return (
            f"Training: {self.n_runs} networks of two hidden layers for each of the widths"
            f" {', '.join(map(str, self.widths))}, two tasks, and weight decay {self.weight_decay:g} and 0, on"
            f" {self.data.name} ({len(self.data.x_train)} training samples): {self.extra_epochs} epochs past zero"
            " training error."
        )

    @property
    def lacking(self) -> str:
        """What the data must do and do not."""
        found = self.data.n_classes
        return "" if found >= 2 else f"have at least two classes, got {found}"


@dataclass(frozen=True)
class Measurements:
    """All numbers of the reproduction, as the functions of the same names describe them.

    They are in :mod:`wideangle.papers.representation_panels`.
    """

    networks: xr.Dataset
    chunks: xr.Dataset
    synthetic: xr.Dataset


def reproduce(job: Job, *, announce: Announce = silent, progress: bool = False) -> Reproduction[Measurements]:
    """Measure, judge, draw and write, as :func:`wideangle.papers._frame.carry_out` describes."""
    from wideangle.papers.representation_claims import judge
    from wideangle.papers.representation_report import describe

    return carry_out(job, measure, judge, describe, announce=announce, progress=progress)


def measure(job: Job, *, announce: Announce = silent, progress: bool = False) -> Measurements:
    """Compute every number."""
    from wideangle.papers import representation_panels as panels

    announce("Counting synthetic clones ...")
    synthetic = panels.synthetic(job, progress)
    announce(job.description)
    networks, chunks = panels.trained(job, progress)
    return Measurements(networks=networks, chunks=chunks, synthetic=synthetic)
