"""Reproduction of arXiv 2405.04074 and 2204.07291 (Nakazato): the training response of neural networks.

Seven panels: (a) kernels of responses of small networks on one-dimensional inputs, by stage and activation, (b) how
responses age by loss, method and activation, beside networks whose kernel stays what it was, (c) the factors of the
response over time, (d) the space of hidden features under stochastic training and under gradient descent, (e) fragility
against that, (f) the same on images, (g) the mean-field model of the outputs. Every claim is judged by a number with
its error over networks.
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

SOURCE = "arXiv 2405.04074 and 2204.07291"


@dataclass(frozen=True, kw_only=True)
class Job(_frame.Job):
    """What a reproduction will do, checked and ready to start.

    Parameters
    ----------
    data
        Images of classes, for panel (f).
    out, seed
        As in any job; the seed is that of initial weights, orders of samples and label noise.
    n_networks
        Small networks of each kind, at least ten.
    n_predicted
        Of these, how many responses are derived for, in panels (b) and (c).
    n_steps
        Of panels (a) to (c), at ``learning_rate``.
    learning_rate
        Of the small networks where it is not varied.
    learning_rates
        Of panels (d) and (e), increasing; ``learning_rate`` is among them.
    duration
        Learning rate times steps in panels (d), (e) and (g), the same for all learning rates and methods.
    n_runs
        Networks that are trained on images with each method, at least two.
    image_steps
        Steps of these.
    image_samples
        Training samples of these, the first of the data.
    n_threads
        Threads; numbers do not depend on it, but for the last digits of panel (f).
    """

    n_networks: int = 100
    n_predicted: int = 12
    n_steps: int = 2**17
    learning_rate: float = 0.05
    learning_rates: tuple[float, ...] = (0.0125, 0.025, 0.05, 0.1)
    duration: float = 1000.0
    n_runs: int = 10
    image_steps: int = 2048
    image_samples: int = 64
    n_threads: int = field(default_factory=available_threads)

    FULL: ClassVar[Mapping[str, Any]] = {"n_networks": 400, "n_steps": 2**19, "n_runs": 20, "image_samples": 128}

    @property
    def description(self) -> str:
        """One sentence on the extent of the training."""
        return (
            f"Training: {self.n_networks} networks of each kind on eight numbers, up to {self.n_steps} steps, and"
            f" {self.n_runs} with each method on {self.image_samples} samples of {self.data.name}, {self.image_steps}"
            " steps."
        )

    @property
    def lacking(self) -> str:
        """What the data must do and do not."""
        found = self.data.n_classes
        if found < 2:
            return f"have at least two classes, got {found}"
        return lacking_a_batch(self.data, self.image_samples)


@dataclass(frozen=True)
class Measurements:
    """All numbers of the reproduction, as the functions of the same names describe them.

    They are in :mod:`wideangle.papers.response_panels`, ``predictions``, ``checks`` and ``balance`` in
    :mod:`wideangle.papers.response_predictions`, ``features`` and ``relations`` in
    :mod:`wideangle.papers.response_features`, and ``images``, ``image_fits`` and ``model`` in
    :mod:`wideangle.papers.response_models`.
    """

    kernels: xr.Dataset
    steps: xr.Dataset
    checks: xr.Dataset
    ideal: xr.Dataset
    aging: xr.Dataset
    fits: xr.Dataset
    predictions: xr.Dataset
    features: xr.Dataset
    balance: xr.Dataset
    relations: xr.Dataset
    images: xr.Dataset
    image_fits: xr.Dataset
    model: xr.Dataset
    relearning: xr.Dataset


def reproduce(job: Job, *, announce: Announce = silent, progress: bool = False) -> Reproduction[Measurements]:
    """Measure, judge, draw and write, as :func:`wideangle.papers._frame.carry_out` describes."""
    from wideangle.papers.response_claims import judge
    from wideangle.papers.response_report import describe

    return carry_out(job, measure, judge, describe, announce=announce, progress=progress)


def measure(job: Job, *, announce: Announce = silent, progress: bool = False) -> Measurements:
    """Compute every number."""
    from wideangle.papers import (
        response_features,
        response_models,
        response_panels,
        response_predictions,
        response_relearning,
    )

    announce("Computing responses of small networks ...")
    kernels, steps = response_panels.kernels(job), response_panels.steps(job)
    checks = response_predictions.checks(job)
    announce("Following responses in training ...")
    ideal, aging = response_panels.ideal(job), response_panels.aging(job, progress)
    fits = response_panels.fits(aging)
    predictions = response_predictions.predictions(job, aging)
    announce("Measuring spaces of features and fragility ...")
    features = response_features.features(job, progress)
    relations = response_features.relations(features, job)
    balance = response_predictions.balance(job)
    announce("Following the mean-field model ...")
    model = response_models.model(job)
    announce("Learning opposite labels ...")
    relearning = response_relearning.relearning(job)
    announce(job.description)
    images = response_models.images(job, progress)
    return Measurements(
        kernels=kernels,
        steps=steps,
        checks=checks,
        ideal=ideal,
        aging=aging,
        fits=fits,
        predictions=predictions,
        features=features,
        balance=balance,
        relations=relations,
        images=images,
        image_fits=response_models.image_fits(images),
        model=model,
        relearning=relearning,
    )
