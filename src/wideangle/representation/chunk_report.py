"""What chunks say of a layer: in sentences, as text, and as a page with curves."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from wideangle._files import writable_file
from wideangle.reports import DARK, Claim, render
from wideangle.reports import html as blocks
from wideangle.representation._signatures import NOT_MEASURED
from wideangle.representation.chunk_figures import COVERED, draw_chunks, figure_size

if TYPE_CHECKING:
    import xarray as xr

_COLUMNS = {
    "r2": "R2",
    "r2_outside": "R2 outside",
    "residual_correlation": "correlation",
    "residual_correlation_outside": "corr. outside",
    "error": "error",
}
_WELL_EXPLAINED = 0.9
_MISSING = {
    "training error": "it takes the training samples, in chunks of the critical width and of all neurons",
    "r2": "it takes four signals or more, found in the spectrum, and neurons for five thirds of a clone",
    "residual correlation": (
        "it takes signals found in the spectrum, noise of each neuron, and chunks of the critical width or more that"
        " leave two neurons"
    ),
}
_ABOUT_QUANTITIES = (
    "R2 is the share of the layer's variance that the regression of all neurons on those of a chunk explains;"
    " correlation is the mean absolute correlation of what is left. Both contain the chunk, which explains itself; R2"
    " outside and correlation outside leave it out. Generic is what the eigenvalues of the covariance predict for R2 of"
    " chunks of a layer that mixes its signals at random, with nothing to fit. Errors are those of chunks read out by"
    " their own columns of the readout."
)


def chunk_table(statistics: xr.Dataset, *, fit: xr.Dataset | None = None, training: xr.Dataset | None = None) -> str:
    """Return statistics of chunks as text: a row for each size, means over chunks with standard errors.

    Parameters
    ----------
    statistics
        From :func:`chunk_statistics`.
    fit
        From :func:`fit_clones`, for what generic chunks would explain; default None.
    training
        From :func:`chunk_statistics` for the training samples, whose errors are listed beside; default None.

    Returns
    -------
    str
        A table with aligned columns.

    Raises
    ------
    TypeError
        If something else is given.

    Examples
    --------
    >>> import wideangle as wa
    >>> layer = wa.representation.synthetic_clones(1000, 4, 4, 8, 0.3, seed=1)
    >>> chunks = wa.representation.chunk_statistics(layer.features, seed=1, chunk_sizes=(8, 16))
    >>> print(wa.representation.chunk_table(chunks).splitlines()[0])
    chunk size  R2 ...
    """
    _check_results(statistics, fit, training)
    rows = _rows(statistics, fit, training)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def write_chunk_report(
    statistics: xr.Dataset,
    path: str | os.PathLike[str],
    *,
    fit: xr.Dataset | None = None,
    training: xr.Dataset | None = None,
    title: str = "Chunks of a layer",
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Write statistics of chunks as one HTML file that needs nothing else: finding, curves, signatures and table.

    Parameters
    ----------
    statistics
        From :func:`chunk_statistics`.
    path
        File to write; one that is there is replaced.
    fit
        From :func:`fit_clones`, for the number of clones, or why there is none, and the signatures; default None.
    training
        From :func:`chunk_statistics` for the training samples, whose errors are shown beside; default None.
    title
        Heading of the page.
    settings
        What to list among the settings beside the attributes of the results, such as the name of a file; default None.

    Raises
    ------
    TypeError
        If something else is given.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import wideangle as wa
    >>> layer = wa.representation.synthetic_clones(1000, 4, 4, 8, 0.3, seed=1)
    >>> chunks = wa.representation.chunk_statistics(layer.features, seed=1)
    >>> fit = wa.representation.fit_clones(chunks)
    >>> wa.representation.write_chunk_report(chunks, "chunks.html", fit=fit)
    """
    _check_results(statistics, fit, training)
    target = writable_file(path)
    draw = partial(draw_chunks, statistics, fit=fit, training=training)
    size = figure_size(statistics)
    curves = blocks.figure(
        render(draw, size=size),
        render(draw, size=size, theme=DARK),
        alt="Curves against the size of chunks, whose numbers are in the table below.",
        caption=_caption(statistics, fit),
    )
    header, *rows = _rows(statistics, fit, training)
    table = blocks.numbers(header, rows, caption="Means over chunks of each size, with standard errors.")
    sections = [
        blocks.section("Chunks", curves, table, blocks.paragraph(_ABOUT_QUANTITIES)),
        *([] if fit is None else [_signatures(fit)]),
        blocks.section("Settings", blocks.definitions({**(settings or {}), **_settings(statistics, fit)})),
    ]
    lead, *rest = findings(statistics, fit)
    target.write_text(blocks.page(title, lead, [*map(blocks.paragraph, rest), *sections]), encoding="utf-8")


def findings(statistics: xr.Dataset, fit: xr.Dataset | None) -> list[str]:
    """Return what was found, in sentences, the most important one first."""
    n_samples, n_neurons = int(statistics.attrs["n_samples"]), statistics.sizes["neuron"]
    found = [] if fit is None else [_about_clones(statistics, fit), _about_errors(statistics, fit)]
    found.append(_about_variance(statistics))
    if n_samples <= n_neurons:
        found.append(
            f"There are {n_samples} samples of {n_neurons} neurons: chunks of {n_samples - 1} neurons explain all"
            " samples, whatever they are. More samples are needed."
        )
    if statistics.attrs["n_constant"]:
        found.append(f"{statistics.attrs['n_constant']} of {n_neurons} neurons are constant.")
    if statistics.attrs["n_dropped"]:
        total = n_samples + int(statistics.attrs["n_dropped"])
        found.append(
            f"{statistics.attrs['n_dropped']} of {total} samples were left out, as not all of their activations are"
            " finite."
        )
    return [sentence for sentence in found if sentence]


def signature_claims(fit: xr.Dataset) -> tuple[list[Claim], str]:
    """Return the signatures that were judged, and a sentence on those that were not."""
    claims, missing = [], []
    for name in fit["signature"].values:
        row = fit.sel(signature=name)
        if row["verdict"].item() == NOT_MEASURED:
            missing.append(f"{name} ({_MISSING.get(name, fit.attrs['exponent_reason'])})")
        else:
            interval, allowed = (
                (float(row[f"{kind}_low"]), float(row[f"{kind}_high"])) for kind in ("measured", "allowed")
            )
            claims.append(Claim(row["statement"].item(), float(row["measured"]), interval, allowed))
    if not missing:
        return claims, ""
    if not fit.attrs["decided"]:
        return claims, "None of the signatures can be judged, as the critical width is not decided."
    return claims, f"Not measured: {'; '.join(missing)}."


def _about_clones(statistics: xr.Dataset, fit: xr.Dataset) -> str:
    if not fit.attrs["decided"]:
        return f"The data cannot decide how many clones the layer consists of: {fit.attrs['reason']}."
    varying = statistics.sizes["neuron"] - int(statistics.attrs["n_constant"])
    count, width = _with_range(fit, "n_clones", " clones"), _with_range(fit, "critical_width", " neurons")
    if fit.attrs["given_critical_width"] != "None":
        return f"With the given critical width of {width}, the layer of {varying} neurons makes {count}."
    signals = int(fit["n_signals"])
    plural = "s" if signals > 1 else ""
    return (
        f"The layer consists of {count}: its {varying} neurons share {signals} signal{plural}, up to independent noise,"
        f" which makes the critical width {width}."
    )


def _about_errors(statistics: xr.Dataset, fit: xr.Dataset) -> str:
    if "error" not in statistics or not fit.attrs["decided"]:
        return ""
    if np.isnan(fit["exponent"]):
        return f"The data cannot decide on the power of the error: {fit.attrs['exponent_reason']}."
    return (
        f"From the critical width on the error of chunks tends to {float(fit['asymptotic_error']):.3g} like a power"
        f" {_with_range(fit, 'exponent')} of the number of neurons; clones with independent noise have -0.5."
    )


def _about_variance(statistics: xr.Dataset) -> str:
    """Say how many neurons tell nearly all of the others, or how much the largest chunk tells."""
    known = statistics["r2_outside_mean"].dropna("chunk_size")
    if not known.size:
        return "There is no chunk size that leaves neurons outside."
    well = known[known >= _WELL_EXPLAINED]
    best = well[0] if well.size else known[-1]
    how = "" if well.size else f"; no size explains {_WELL_EXPLAINED:.0%}"
    size, n_neurons = int(best["chunk_size"]), statistics.sizes["neuron"]
    return f"Random chunks of {size} of the {n_neurons} neurons explain {float(best):.1%} of the others' variance{how}."


def _with_range(fit: xr.Dataset, name: str, unit: str = "") -> str:
    value, low, high = (f"{float(fit[name + end]):.3g}" for end in ("", "_low", "_high"))
    return f"{value}{unit}" if low == high else f"{value}{unit} ({low} to {high})"


def _rows(statistics: xr.Dataset, fit: xr.Dataset | None, training: xr.Dataset | None) -> list[tuple[str, ...]]:
    columns: dict[str, list[str]] = {"chunk size": [str(size) for size in statistics["chunk_size"].values]}
    for name, heading in _COLUMNS.items():
        if name in statistics:
            columns[heading] = _cells(statistics, name)
        if name == "r2" and fit is not None:
            columns["generic"] = [f"{value:.4f}" for value in fit["r2_generic"].values]
    if training is not None:
        columns["training error"] = _cells(training, "error")
    return [tuple(columns), *zip(*columns.values(), strict=True)]


def _cells(statistics: xr.Dataset, name: str) -> list[str]:
    means, spreads = (statistics[f"{name}_{end}"].values for end in ("mean", "standard_error"))
    return [_cell(mean, spread) for mean, spread in zip(means, spreads, strict=True)]


def _cell(mean: float, standard_error: float) -> str:
    if np.isnan(mean):
        return "-"
    return f"{mean:.4f}" if np.isnan(standard_error) else f"{mean:.4f} ± {standard_error:.4f}"


def _caption(statistics: xr.Dataset, fit: xr.Dataset | None) -> str:
    n_chunks = statistics.sizes["chunk"]
    caption = f"Means over {n_chunks} random chunks of each size; shades hold {COVERED:.0%} of the chunks."
    caption += " Dotted: the correlation that independent noise has in so many samples."
    if fit is not None:
        caption += " Dashed orange, R2: what chunks of generic neurons would explain, from the spectrum alone."
        if fit.attrs["decided"]:
            caption += " Dashed green: the critical width, with its range as a band."
    return caption


def _signatures(fit: xr.Dataset) -> str:
    claims, missing = signature_claims(fit)
    caption = (
        "A claim agrees if its 95 % interval (in brackets) lies inside what is allowed, disagrees if it lies outside,"
        " and is not resolved otherwise. The statements follow arXiv 2106.03485, which gives no ranges."
    )
    table = [blocks.claims(claims, caption=caption)] if claims else []
    return blocks.section("Signatures of clones", *table, *([blocks.paragraph(missing)] if missing else []))


def _settings(statistics: xr.Dataset, fit: xr.Dataset | None) -> dict[str, Any]:
    shown = {name: value for name, value in statistics.attrs.items() if name != "function"}
    if fit is not None:
        shown |= {name: fit.attrs[name] for name in ("given_critical_width", "given_asymptotic_error", "confidence")}
        shown["source"] = f"{shown['source']}; {fit.attrs['source']}"
    return shown


def _check_results(statistics: Any, fit: Any, training: Any) -> None:
    """Raise if something is not what the functions it should come from return."""
    for name, value, function in (
        ("statistics", statistics, "chunk_statistics"),
        ("fit", fit, "fit_clones"),
        ("training", training, "chunk_statistics"),
    ):
        if value is None and name != "statistics":
            continue
        if not str(getattr(value, "attrs", {}).get("function", "")).endswith(f".{function}"):
            raise TypeError(f"{name} must be the result of {function}, got {type(value).__name__}")
