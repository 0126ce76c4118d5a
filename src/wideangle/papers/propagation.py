"""Reproduction of the papers on angles at finite width: arXiv 2302.09712 and 2306.01513 (Jakub, Nica).

Four panels: (a) mean and standard deviation of X_l = ln sin^2 theta_l by layer, (b) the density of X_l, (c) accuracy
after training against the predicted X_L, (d) many inputs at once. Every claim is judged by a number with its
statistical error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wideangle._cpu import available_threads
from wideangle._files import make_writable
from wideangle._provenance import provenance
from wideangle.data import LabelledData
from wideangle.network import MLP
from wideangle.papers import _frame
from wideangle.papers._frame import Announce, Reproduction, carry_out, prepare_training, silent

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
    data
        What to train on.
    out, seed
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
        Optimiser steps of each run.
    n_workers
        Processes to train in.
    """

    data: LabelledData
    n_samples: int
    n_tested: int
    n_gram_samples: int
    architectures: Sequence[Sequence[int]]
    n_runs: int
    steps: int
    n_workers: int

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


@dataclass(frozen=True)
class Measurements:
    """All numbers of the reproduction, as :func:`measure` describes them."""

    angles: xr.Dataset
    small_angles: xr.Dataset
    densities: dict[tuple[float, str], xr.Dataset]
    histograms: xr.Dataset
    training: xr.Dataset
    many_inputs: xr.Dataset


def prepare(*, data: Path | None = None, out: Path, full: bool = False, seed: int = 0) -> Job:
    """Check everything that can fail before any work is done.

    Parameters
    ----------
    data
        Directory of IDX files or NPZ file to train on for one epoch; scikit-learn's digits for 600 steps by default.
    out
        Directory to write to, made if it does not exist.
    full
        Ten training runs of each architecture instead of one.
    seed
        Seed of the ensemble, of the split of the digits and of training, 0 <= seed < 2**64.

    Raises
    ------
    ValueError, TypeError
        If the seed or the data are unusable.
    OSError
        If ``data`` cannot be read or ``out`` cannot be written.
    ModuleNotFoundError
        If PyTorch is missing.
    """
    from wideangle.propagation.figure_architectures import ARCHITECTURES

    labelled = prepare_training(data, seed)
    if len(labelled.x_train) < BATCH_SIZE:
        raise ValueError(
            f"data must hold at least one batch of {BATCH_SIZE} training samples, got {len(labelled.x_train)} in"
            f" {str(data)!r}; give a larger data set"
        )
    make_writable(out)
    return Job(
        data=labelled,
        out=out,
        seed=seed,
        n_samples=1_000_000,
        n_tested=100_000,
        n_gram_samples=20_000,
        architectures=ARCHITECTURES,
        n_runs=10 if full else 1,
        steps=DIGITS_STEPS if data is None else math.ceil(len(labelled.x_train) / BATCH_SIZE),
        n_workers=min(available_threads(), MAX_WORKERS),
    )


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
