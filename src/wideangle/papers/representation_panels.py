"""The numbers of the reproduction of arXiv 2106.03485: what is trained and measured."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wideangle.data import LabelledData
from wideangle.representation import chunk_statistics, compare, compare_training, train_widths

if TYPE_CHECKING:
    import xarray as xr

    from wideangle.papers.representation import Job

CLASSES, PARITY = "classes", "odd or even"  # Tasks.
ZERO, LAST = "zero training error", "last"  # When chunks are measured.
ENSEMBLES = ("ensemble_test_error", "ensemble_test_loss", "n_members")
RECORDED = ("final_train_error", "final_test_error", "final_test_loss", "epochs_to_zero_training_error", "status")
REGRESSIONS = ("r2", "residual_correlation", "r2_outside", "residual_correlation_outside")
FITTED = ("chunk_exponent", "width_exponent", "width_exponent_low", "width_exponent_high", "asymptotic_error")


def synthetic(job: Job, progress: bool) -> xr.Dataset:
    """Count synthetic clones: :func:`wideangle.representation.compare`."""
    return compare(
        n_samples=job.n_samples,
        n_runs=job.n_layers,
        n_chunks=job.n_chunks,
        seed=job.seed,
        n_threads=job.n_threads,
        progress=progress,
    )


def trained(job: Job, progress: bool) -> tuple[xr.Dataset, xr.Dataset]:
    """Train networks on two tasks, with weight decay and without, and measure their chunks.

    Returns
    -------
    networks : xarray.Dataset
        Errors, losses and ensembles of :func:`wideangle.representation.train_widths` along ``task`` and ``decay``.
    chunks : xarray.Dataset
        On (task, decay, moment, width, run, chunk_size), means over chunks as :func:`chunk_curves` returns them. For
        networks with weight decay, at the end, what :func:`fits` returns along ``task``.
    """
    import xarray as xr

    networks, chunks = [], []
    decays = (job.weight_decay, 0.0)
    for data in (job.data, odd_or_even(job.data)):
        both = [_train(job, data, decay, progress) for decay in decays]
        curves = [chunk_curves(each, job) for each in both]
        kept = [each[[*RECORDED, *ENSEMBLES]] for each in both]
        networks.append(xr.concat(kept, xr.Variable("decay", list(decays)), combine_attrs="drop_conflicts"))
        chunks.append(xr.concat(curves, xr.Variable("decay", list(decays))).merge(fits(both[0], job, progress)))
    task = xr.Variable("task", [CLASSES, PARITY])
    of_chunks = xr.concat(chunks, task, combine_attrs="override")
    of_chunks.attrs["n_train_samples"] = len(job.data.x_train)
    return xr.concat(networks, task, combine_attrs="drop_conflicts"), of_chunks


def odd_or_even(data: LabelledData) -> LabelledData:
    """Return the same samples with whether the number of the class is odd for a label."""
    return LabelledData(data.x_train, data.y_train % 2, data.x_test, data.y_test % 2, name=f"{data.name}, {PARITY}")


def _train(job: Job, data: LabelledData, decay: float, progress: bool) -> xr.Dataset:
    return train_widths(
        data,
        job.widths,
        n_runs=job.n_runs,
        weight_decay=decay,
        extra_epochs=job.extra_epochs,
        keep=(ZERO, LAST),
        member_width=job.widths[0],
        seed=job.seed,
        n_threads=job.n_threads,
        progress=progress,
    )


def chunk_curves(networks: xr.Dataset, job: Job) -> xr.Dataset:
    """Measure chunks of all networks when their training error is zero for the first time, and at the end.

    Returns
    -------
    xarray.Dataset
        On (moment, width, run, chunk_size), means over chunks: ``train_error``, ``test_error``, and ``r2``,
        ``residual_correlation``, ``r2_outside`` and ``residual_correlation_outside`` on training samples. NaN beyond
        the width, and of networks that diverged or did not come so far.
    """
    import xarray as xr

    widths, moments = networks["width"].values, (ZERO, LAST)
    sizes = np.unique(np.concatenate([2 ** np.arange(int(math.log2(widths[-1])) + 1), widths]))
    shape = (len(moments), len(widths), networks.sizes["run"], len(sizes))
    curves = {name: np.full(shape, np.nan) for name in ("train_error", "test_error", *REGRESSIONS)}
    for place in np.ndindex(shape[:3]):
        network, width = networks.sel(kept=moments[place[0]]).isel(run=place[2]), int(widths[place[1]])
        if not np.isfinite(network[f"readout_{width}"].values).all():
            continue
        of_width = sizes[sizes <= width]
        for part in ("train", "test"):
            found = _chunks_of(network, width, part, of_width, job)
            curves[f"{part}_error"][place][: len(of_width)] = found["error_mean"]
            for name in REGRESSIONS if part == "train" else ():
                curves[name][place][: len(of_width)] = found[f"{name}_mean"]
    dims = ("moment", "width", "run", "chunk_size")
    coordinates = {"moment": list(moments), "width": widths, "run": networks["run"].values, "chunk_size": sizes}
    return xr.Dataset({name: (dims, values) for name, values in curves.items()}, coordinates)


def _chunks_of(network: xr.Dataset, width: int, part: str, sizes: NDArray[np.int64], job: Job) -> xr.Dataset:
    with warnings.catch_warnings():
        # Regressions are on training samples only; the test set may have fewer samples than the layer has neurons.
        warnings.filterwarnings("ignore", "features have", UserWarning)
        return chunk_statistics(
            network[f"{part}_features_{width}"],
            chunk_sizes=sizes,
            n_chunks=job.n_chunks,
            seed=job.seed,
            readout=network[f"readout_{width}"],
            bias=network[f"bias_{width}"],
            targets=network[f"{part}_targets"],
            n_threads=job.n_threads,
        )


def fits(networks: xr.Dataset, job: Job, progress: bool) -> xr.Dataset:
    """Fit powers to errors of networks and of chunks, and look for a number of clones.

    Returns
    -------
    xarray.Dataset
        Those of :func:`wideangle.representation.compare_training` for chunks from the least width on, and
        ``decided(width, run)``: 1 where the covariance of the layer tells a number of clones, else 0.
    """
    found = compare_training(
        networks,
        critical_width=job.widths[0],
        n_chunks=job.n_chunks,
        seed=job.seed,
        n_threads=job.n_threads,
        progress=progress,
    )
    fitted: xr.Dataset = found[list(FITTED)].assign(decided=found["decided"].astype(np.int8))
    return fitted
