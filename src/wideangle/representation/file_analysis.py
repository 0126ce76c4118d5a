"""From a file of features to the number of clones: what the command ``wideangle analyze-representation`` does."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wideangle._checks import check_integer
from wideangle._files import write_groups
from wideangle.reference.feature_files import read_features
from wideangle.reports import render
from wideangle.representation._layer import check_layer, check_readout
from wideangle.representation.chunk_figures import draw_chunks, figure_size
from wideangle.representation.chunk_report import chunk_table, findings, signature_claims, write_chunk_report
from wideangle.representation.chunks import chunk_statistics, powers_of_two
from wideangle.representation.clone_number import check_fit, fit_clones

if TYPE_CHECKING:
    import xarray as xr

    from wideangle.reports import Claim

DPI = 125.0  # Of the PNG file.


@dataclass(frozen=True, kw_only=True)
class Job:
    """What an analysis will do.

    Parameters
    ----------
    path, training_path
        The files, for the title and the settings.
    layer, training
        What they hold, checked; ``training`` may be None.
    chunks, fit
        Keywords of :func:`chunk_statistics` and of :func:`fit_clones`, of which the latter are checked.
    """

    path: Path
    training_path: Path | None
    layer: Mapping[str, Any]
    training: Mapping[str, Any] | None
    chunks: Mapping[str, Any]
    fit: Mapping[str, Any]


@dataclass(frozen=True)
class Analysis:
    """What was found, in words and numbers, and where the report is."""

    table: str
    findings: list[str]
    claims: list[Claim]
    report: Path


def prepare(
    path: Path,
    *,
    files: Mapping[str, Any],
    training_path: Path | None,
    chunks: Mapping[str, Any],
    fit: Mapping[str, Any],
) -> Job:
    """Read and check everything that an analysis needs, before any work.

    Parameters
    ----------
    path
        File of features, as for :func:`read_features`.
    files
        Names of entries and further files: the keywords of :func:`read_features`.
    training_path
        File with features and targets of the training samples, in entries of the same names; or None.
    chunks
        Keywords of :func:`chunk_statistics` but for the arrays. Where ``chunk_sizes`` is None, the width is among the
        sizes beside the powers of two: errors of chunks are held against those of the whole layer.
    fit
        ``asymptotic_error`` and ``critical_width`` of :func:`fit_clones`.

    Raises
    ------
    OSError, ImportError, TypeError, ValueError
        If a file cannot be read, or what it holds, or an argument, is not as it should be.
    """
    layer = _arrays(read_features(path, **files))
    head: dict[str, Any] = {name: layer[name] for name in ("readout", "bias") if name in layer and "readout" in layer}
    if "readout" not in layer or "targets" not in layer:
        layer, head = {"features": layer["features"]}, {}
    _check(path, layer, chunks["missing"])
    check_fit(fit["asymptotic_error"], fit["critical_width"], layer["features"].shape[1], bool(head))
    remedy = "intervals come from the differences between chunks; give a number such as 40"
    check_integer("n_chunks", chunks["n_chunks"], low=2, high=10**9, remedy=remedy)
    if chunks["chunk_sizes"] is None:
        n_neurons = layer["features"].shape[1]
        chunks = {**chunks, "chunk_sizes": np.union1d(powers_of_two(n_neurons), n_neurons)}
    training = None
    if training_path is not None:
        if not head:
            raise ValueError(f"errors of chunks on {training_path} need readout and targets in {path}; save these, too")
        names = {name: files[name] for name in ("features", "targets") if name in files}
        training = _arrays(read_features(training_path, **names))
        if "targets" not in training:
            raise ValueError(f"{training_path}: found no targets; save the label of each training sample, too")
        training = {"features": training["features"], "targets": training["targets"], **head}
        _check(training_path, training, chunks["missing"])
    return Job(path=path, training_path=training_path, layer=layer, training=training, chunks=chunks, fit=fit)


def analyze(job: Job, out: Path, *, n_threads: int | None, progress: bool) -> Analysis:
    """Measure chunks, fit clones, and write report.html, chunks.svg, chunks.png and chunks.nc to a directory.

    Parameters
    ----------
    job
        From :func:`prepare`.
    out
        An existing directory.
    n_threads, progress
        Of :func:`chunk_statistics`.

    Raises
    ------
    TypeError, ValueError
        If a keyword of :func:`chunk_statistics` is not as it should be, before any work.
    OSError
        If something cannot be written.
    """
    measure = partial(chunk_statistics, **job.chunks, n_threads=n_threads, progress=progress)
    with warnings.catch_warnings():
        # What these warn of is among the findings.
        warnings.filterwarnings("ignore", "cannot decide|features have", UserWarning)
        statistics = measure(**job.layer)
        training = None if job.training is None else measure(**job.training)
        fit = fit_clones(statistics, training=training, **job.fit)
    found = findings(statistics, fit)
    if "readout" not in job.layer:
        found.append("Readout and targets are not both there, so chunks were not read out.")
    claims, missing = signature_claims(fit)
    report = out / "report.html"
    settings = {"file": job.path, **({} if job.training_path is None else {"training file": job.training_path})}
    title = f"Chunks of {job.path.name}"
    write_chunk_report(statistics, report, fit=fit, training=training, title=title, settings=settings)
    draw = partial(draw_chunks, statistics, fit=fit, training=training)
    size = figure_size(statistics)
    (out / "chunks.svg").write_bytes(render(draw, size=size))
    (out / "chunks.png").write_bytes(render(draw, size=size, file_format="png", dpi=DPI))
    numbers = {"statistics": statistics, "training": training, "clones": fit}
    write_groups(out / "chunks.nc", {name: each for name, each in numbers.items() if each is not None})
    table = chunk_table(statistics, fit=fit, training=training)
    return Analysis(table, [*found, *([missing] if missing else [])], claims, report)


def _arrays(layer: xr.Dataset) -> dict[str, Any]:
    return {str(name): layer[name].values for name in layer.data_vars}


def _check(path: Path, layer: Mapping[str, Any], missing: Any) -> None:
    """Raise, with the name of the file, if its arrays cannot be measured."""
    try:
        checked = check_layer(layer["features"], layer.get("targets"), missing)
        check_readout(layer.get("readout"), layer.get("bias"), checked)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{path}: {error}") from error
