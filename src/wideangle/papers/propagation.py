"""Reproduction of the papers on angles at finite width: arXiv 2302.09712 and 2306.01513 (Jakub, Nica).

Four panels: (a) mean and standard deviation of X_l = ln sin^2 theta_l by layer, (b) the density of X_l, (c) accuracy
after training against the predicted X_L, (d) many inputs at once. Every claim is judged by a number with its
statistical error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from wideangle._cpu import available_threads
from wideangle._provenance import provenance
from wideangle.network import MLP
from wideangle.papers import _frame
from wideangle.papers._frame import Announce, Reproduction, carry_out, lacking_a_batch, silent
from wideangle.propagation.figure_architectures import ARCHITECTURES

if TYPE_CHECKING:
    import xarray as xr

WIDTH, DEPTH, THETA0 = 256, 32, 0.1
SMALL_THETA0 = 1e-6  # So small that the laws for small angles must hold, where at 0.1 they need not.
METHODS = ("infinite-width", "finite-width-linear", "finite-width", "small-angle", "exact")
# Initial angle, layer and methods of each panel of densities.
DENSITY_PANELS = (
    (THETA0, 1, ("finite-width-linear", "finite-width")),
    (THETA0, 30, ("finite-width-linear", "finite-width")),
    (SMALL_THETA0, 30, ("finite-width-linear", "small-angle")),
)
DIGITS_STEPS = 600  # One epoch of MNIST in batches of 100; digits are too few for an epoch to teach much.
BATCH_SIZE = 100
N_BINS = 64
TESTED = ("ks_statistic", "ks_p_value", "predicted_sd")
SOURCE = "arXiv 2302.09712 and 2306.01513"
MAX_WORKERS = 16  # Each is a process with a PyTorch of its own, some 300 MB.


@dataclass(frozen=True, kw_only=True)
class Job(_frame.Job):
    """What a reproduction will do, checked and ready to start.

    Parameters
    ----------
    data, out, seed
        As in any job; the seed is that of the ensemble, of the split of the digits and of training.
    n_samples
        Number of random networks for the moments in panel (a).
    n_tested
        Number of random networks, the first of the same ensemble, for the histograms and tests in panel (b).
    n_gram_samples
        Number of random networks in panel (d).
    architectures
        Hidden widths of the networks to train.
    n_runs
        Training runs of each architecture.
    steps
        Optimiser steps of each run; one epoch of images other than the digits.
    n_workers
        Processes to train in.
    """

    n_samples: int = 1_000_000
    n_tested: int = 100_000
    n_gram_samples: int = 20_000
    architectures: Sequence[Sequence[int]] = ARCHITECTURES
    n_runs: int = 1
    steps: int = DIGITS_STEPS
    n_workers: int = field(default_factory=lambda: min(available_threads(), MAX_WORKERS))

    FULL: ClassVar[Mapping[str, Any]] = {"n_runs": 10}

    @property
    def description(self) -> str:
        """One sentence on the extent of the training."""
        epochs = self.steps * BATCH_SIZE / len(self.data.x_train)
        runs = "one run" if self.n_runs == 1 else f"{self.n_runs} runs"
        return (
            f"Training: {len(self.architectures)} architectures, {runs} each, on {self.data.name}"
            f" ({len(self.data.x_train)} training samples): {self.steps} steps of batch {BATCH_SIZE}, that is"
            f" {epochs:.3g} epoch{'' if epochs == 1 else 's'}."
        )

    @property
    def lacking(self) -> str:
        """What the data must do and do not."""
        return lacking_a_batch(self.data, BATCH_SIZE)

    @classmethod
    def prepare(cls, *, data: Path | None = None, **options: Any) -> Job:
        """Check everything that can fail, as in any job, and train on images of one's own for one epoch."""
        job = super().prepare(data=data, **options)
        return job if data is None else replace(job, steps=math.ceil(len(job.data.x_train) / BATCH_SIZE))


@dataclass(frozen=True)
class Measurements:
    """All numbers of the reproduction, as :func:`measure` describes them."""

    angles: xr.Dataset
    small_angles: xr.Dataset
    densities: dict[tuple[float, str], xr.Dataset]
    histograms: xr.Dataset
    training: xr.Dataset
    many_inputs: xr.Dataset


def reproduce(job: Job, *, announce: Announce = silent, progress: bool = False) -> Reproduction[Measurements]:
    """Measure, judge, draw and write, as :func:`wideangle.papers._frame.carry_out` describes."""
    from wideangle.papers.propagation_claims import judge
    from wideangle.papers.propagation_report import describe

    return carry_out(job, measure, judge, describe, announce=announce, progress=progress)


def measure(job: Job, *, announce: Announce = silent, progress: bool = False) -> Measurements:
    """Compute every number.

    Returns
    -------
    Measurements
        ``angles`` and ``small_angles``: :func:`wideangle.propagation.compare_angles` of the network of the figure for
        theta0 = 0.1 and 1e-6, the former with ``summed_variance(predictor, layer)``, the conditional variances of the
        layers added up without propagating them. ``densities``: :func:`wideangle.propagation.predict_angle_density`
        by theta0 and method. ``histograms``: count(panel, bin) with its edges, n_samples and sample_sd(panel), and
        ks_statistic, ks_p_value and predicted_sd(predictor, panel), NaN where a panel leaves a method out.
        ``training``: :func:`wideangle.propagation.train_architectures`. ``many_inputs``:
        :func:`wideangle.papers.propagation_inputs.many_inputs`.
    """
    from wideangle.papers.propagation_inputs import many_inputs
    from wideangle.propagation import compare_angles, predict_angle_density, train_architectures

    net = MLP((WIDTH,) * DEPTH)
    announce(f"Simulating {job.n_samples:,} random networks of width {WIDTH} and depth {DEPTH} ...")
    angles, small_angles = (
        compare_angles(net, theta0, n_samples=job.n_samples, seed=job.seed, methods=METHODS, progress=progress)
        for theta0 in (THETA0, SMALL_THETA0)
    )
    angles["summed_variance"] = (("predictor", "layer"), [summed_variance(net, method) for method in METHODS])
    announce("Integrating the predicted densities ...")
    densities = {
        (theta0, method): predict_angle_density(net, theta0, method=method)
        for theta0, method in dict.fromkeys((theta0, m) for theta0, _, methods in DENSITY_PANELS for m in methods)
    }
    histograms = tested_histograms(net, densities, n_samples=job.n_tested, seed=job.seed)
    announce(f"Simulating the Gram matrix of many inputs in {job.n_gram_samples:,} random networks ...")
    together = many_inputs(job.data, n_samples=job.n_gram_samples, seed=job.seed)
    announce(job.description)
    training = train_architectures(
        job.architectures,
        job.data,
        n_runs=job.n_runs,
        seed=job.seed,
        steps=job.steps,
        n_workers=job.n_workers,
        progress=progress,
    )
    return Measurements(
        angles=angles,
        small_angles=small_angles,
        densities=densities,
        histograms=histograms,
        training=training,
        many_inputs=together,
    )


def summed_variance(net: MLP, method: str) -> list[float]:
    """Return the sums over layers of Var(X_l | X_{l-1}), which take no account of how X_l forgets X_{l-1}.

    The mean of X_l falls with theta_{l-1} (by 2/(3 pi) theta at small angles), so deviations shrink from layer to
    layer and this sum overstates the variance of X_L.
    """
    from wideangle.propagation import predict_angles

    path = predict_angles(net, THETA0, method=method)["theta"].values
    total = [0.0]
    for width, theta in zip(net.widths, path[:-1], strict=True):
        step = predict_angles(MLP((width,)), float(theta), method=method)
        total.append(total[-1] + float(step["variance"].values[1]))
    return total


def tested_histograms(
    net: MLP, densities: dict[tuple[float, str], xr.Dataset], *, n_samples: int, seed: int
) -> xr.Dataset:
    """Return histograms of simulated X_l for each panel of densities, and the tests of those densities."""
    import numpy as np
    import xarray as xr

    from wideangle.propagation import simulate_angles
    from wideangle.statistics import Moments, ks_against_density

    simulated = {
        theta0: simulate_angles(net, theta0, n_samples=n_samples, seed=seed, keep="samples")["log_sin2"]
        for theta0 in (THETA0, SMALL_THETA0)
    }
    methods = list(dict.fromkeys(method for _, method in densities))
    tests = {name: np.full((len(methods), len(DENSITY_PANELS)), np.nan) for name in TESTED}
    counts, edges, moments = [], [], []
    for column, (theta0, layer, shown) in enumerate(DENSITY_PANELS):
        x = simulated[theta0].sel(layer=layer).values
        x = x[np.isfinite(x)]
        count, edge = np.histogram(x, bins=N_BINS)
        counts.append(count)
        edges.append(edge)
        moments.append(Moments.from_samples(x))
        for method in shown:
            density = densities[theta0, method].sel(layer=layer)
            test = ks_against_density(x, density["log_sin2"].values, density["density"].values)
            found = (test.statistic, test.p_value, math.sqrt(density["variance"].item()))
            for name, value in zip(TESTED, found, strict=True):
                tests[name][methods.index(method), column] = value
    return xr.Dataset(
        {
            "count": (("panel", "bin"), counts),
            "bin_left": (("panel", "bin"), [edge[:-1] for edge in edges]),
            "bin_right": (("panel", "bin"), [edge[1:] for edge in edges]),
            "n_samples": ("panel", [int(m.count) for m in moments]),
            "sample_sd": ("panel", [math.sqrt(m.variance) for m in moments]),
            **{name: (("predictor", "panel"), values) for name, values in tests.items()},
        },
        coords={
            "predictor": methods,
            "theta0": ("panel", [theta0 for theta0, _, _ in DENSITY_PANELS]),
            "layer": ("panel", [layer for _, layer, _ in DENSITY_PANELS]),
        },
        attrs=provenance("tested_histograms", source=SOURCE, net=net, n_samples=n_samples, seed=seed),
    )
