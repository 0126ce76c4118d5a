"""Reproduction of arXiv 1809.06848 (Tachet des Combes et al.): the learning dynamics of neural networks.

Seven panels: (a) classes learn in parallel and along sigmoids, (b) phase diagrams of single neurons, (c) speed against
input norm and frequency, (d) hinge against cross-entropy, (e) gradient starvation of modes, (f) starvation in networks
trained on images with an added feature, (g) wide networks in the kernel and the mean-field scaling. Every claim is
judged by a number with its error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wideangle.papers import _frame
from wideangle.papers._frame import Announce, Reproduction, carry_out, silent

if TYPE_CHECKING:
    import xarray as xr

SOURCE = "arXiv 1809.06848"
# Share of the training images that are left without the added feature; with all of them so it is the control.
WITHOUT_PATCH = (0.0, 0.03, 0.1, 0.3, 1.0)
MOST_IMAGES = 1500  # Of the training and of the test set; gradient descent sees all images in every step.


@dataclass(frozen=True, kw_only=True)
class Job(_frame.Job):
    """What a reproduction will do, checked and ready to start.

    Parameters
    ----------
    data
        Images of panel (f), told apart by whether their class is odd or even.
    out, seed
        As in any job; the seed is that of initial values, of the split of the digits and of training.
    n_networks
        Networks in the ensembles of panels (a) and (c).
    n_grid
        Initial readouts, and projections, of panel (b).
    learning_rates
        Steps of gradient descent in panel (a).
    n_runs
        Networks trained for each share of images without the feature in panel (f), with different weights.
    steps
        Steps of gradient descent of each.
    widths
        Widths of the networks of panel (g), even numbers of particles.
    n_wide
        Networks of each width.
    """

    n_networks: int = 16
    n_grid: int = 161
    learning_rates: tuple[float, ...] = (0.2, 0.1, 0.05)
    n_runs: int = 24
    steps: int = 400
    widths: tuple[int, ...] = (128, 256, 512, 1024, 2048, 4096)
    n_wide: int = 32

    @property
    def description(self) -> str:
        """One sentence on the extent of the training."""
        return (
            f"Training: {self.n_runs} networks for each of {len(WITHOUT_PATCH)} shares of images without the added"
            f" feature, on {self.data.name} ({min(len(self.data.x_train), MOST_IMAGES)} training images):"
            f" {self.steps} steps of gradient descent."
        )

    @property
    def lacking(self) -> str:
        """What the data must do and do not."""
        for part, labels in (("training", self.data.y_train), ("test", self.data.y_test)):
            odd, even = sum(labels % 2 == 1), sum(labels % 2 == 0)
            if min(odd, even) < 10:
                return f"hold at least ten {part} images of odd and of even classes, got {odd} and {even}"
        return ""


@dataclass(frozen=True)
class Measurements:
    """All numbers of the reproduction, as the functions of the same names describe them.

    Those of ``patched`` are in :mod:`wideangle.papers.dynamics_patches`, those of ``particles`` in
    :mod:`wideangle.papers.dynamics_particles`, the others in :mod:`wideangle.papers.dynamics_panels`; ``training`` is
    :func:`wideangle.dynamics.compare_training`.
    """

    parallel: xr.Dataset
    training: xr.Dataset
    phases: xr.Dataset
    speed: xr.Dataset
    losses: xr.Dataset
    starvation: xr.Dataset
    hinge: xr.Dataset
    patched: xr.Dataset
    particles: xr.Dataset


def reproduce(job: Job, *, announce: Announce = silent, progress: bool = False) -> Reproduction[Measurements]:
    """Measure, judge, draw and write, as :func:`wideangle.papers._frame.carry_out` describes."""
    from wideangle.papers.dynamics_claims import judge
    from wideangle.papers.dynamics_report import describe

    return carry_out(job, measure, judge, describe, announce=announce, progress=progress)


def measure(job: Job, *, announce: Announce = silent, progress: bool = False) -> Measurements:
    """Compute every number."""
    from wideangle.papers import dynamics_panels as panels
    from wideangle.papers.dynamics_particles import particles
    from wideangle.papers.dynamics_patches import patched

    announce("Integrating phase diagrams and modes (the first time on a machine, compiling the integrators) ...")
    phases, starvation, hinge = panels.phases(job.n_grid), panels.starvation(), panels.hinge()
    announce(f"Integrating ensembles of {job.n_networks} two-layer networks ...")
    parallel = panels.parallel(job.n_networks, job.seed)
    speed, losses = panels.speed(job.n_networks, job.seed), panels.losses()
    announce("Training one of them by gradient descent with decreasing steps ...")
    training = panels.trained(parallel, job.learning_rates)
    announce(f"Integrating networks of up to {max(job.widths)} particles ...")
    wide = particles(job.widths, job.n_wide, job.seed)
    announce(job.description)
    return Measurements(
        parallel=parallel,
        training=training,
        phases=phases,
        speed=speed,
        losses=losses,
        starvation=starvation,
        hinge=hinge,
        patched=patched(job.data, n_runs=job.n_runs, steps=job.steps, seed=job.seed, progress=progress),
        particles=wide,
    )
