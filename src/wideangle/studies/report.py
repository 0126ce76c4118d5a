"""The page of a study: what was studied, how far it is, figures, tables, provenance, and how to repeat and cite it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wideangle._files import writable_file
from wideangle._version import __version__
from wideangle.reports import DARK, LIGHT, html, render
from wideangle.studies._citations import bibtex
from wideangle.studies._report_data import Results, chosen, short, with_error
from wideangle.studies._report_figures import figure_of
from wideangle.studies._results import STATES
from wideangle.studies._store import Store
from wideangle.studies._toml_text import toml_text
from wideangle.studies.loading import load
from wideangle.studies.planning import duration
from wideangle.studies.status import Status, check_readable, status

if TYPE_CHECKING:
    import xarray as xr

MOST_ROWS = 200
MOST_VARIABLES = 6
_MOST_PARAMETERS = 6
_MOST_QUANTILES = 3  # of a variable in the table
_MOST_LISTED = 12  # values of an axis
_MOST_CELLS_OF_TOML = 200


def write_report(store: str | os.PathLike[str], path: str | os.PathLike[str] | None = None) -> Path:
    """Write what is known of a study as one HTML file that needs nothing else, finished or not.

    The page says what was studied and how far it is, has figures and a table of means with standard errors, and tells
    where the results come from, how to repeat them, and what to cite. Results are compared with their checksums first.
    The store is not changed.

    Parameters
    ----------
    store
        Folder that :func:`run` was given.
    path
        File to write; one that is there is replaced. Default None: beside the store, ``angles-report.html`` for
        ``angles.zarr``.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    OSError
        If there is no study in that place, or the file cannot be written.
    StoreError
        If the store is damaged.

    Examples
    --------
    >>> import tempfile, wideangle as wa
    >>> study = wa.studies.Study("simulate_angles", samples=4000, seed=1, parameters={"theta0": 0.1, "widths": [16, 8]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     results = wa.studies.run(study, f"{folder}/angles.zarr", progress=False)
    ...     wa.studies.write_report(f"{folder}/angles.zarr").name
    'angles-report.html'
    """
    place = Store(store)
    check_readable(place)
    folder = place.path.absolute()
    target = writable_file(folder.with_name(f"{folder.stem}-report.html") if path is None else path)
    found = status(store)
    with load(store) as dataset:
        results = Results(dataset)
        described = json.loads(dataset.attrs["study"])
        sections = [
            html.section("What was studied", html.definitions(_about_study(described, results))),
            html.section("How far it is", *_about_runs(found)),
            *(_about_variable(results, name) for name in results.all_variables[:MOST_VARIABLES]),
            html.section("Cells", *_about_cells(results)),
            html.section("Where the results come from", html.definitions(_provenance(dataset, found))),
            html.section("How to repeat it", *_reproduction(described, found)),
            html.section(
                "How to cite it",
                html.paragraph("The package, and the papers behind the methods:"),
                html.code(bibtex(_methods(described))),
            ),
        ]
    title = found.name or f"Study {found.identity[:12]}"
    page = html.page(title, _lead(described, found), sections)
    target.write_text(page, encoding="utf-8", errors="backslashreplace")  # Names of files may have no encoding.
    return target


def _methods(described: Mapping[str, Any]) -> list[str]:
    method = described["method"]
    return [method] if isinstance(method, str) else list(method)


def _lead(described: Mapping[str, Any], found: Status) -> str:
    n_cells = sum(found.cells.values())
    text = (
        f"{n_cells} cell{'s'[: n_cells != 1]} of {' and '.join(_methods(described))}, {found.samples_done:.6g} samples"
    )
    if found.is_complete:
        return f"{text}. The study is complete."
    share = found.samples_done / found.samples_planned
    return f"{text}. The study is not complete ({found.state}, {share:.1%}): these are the results so far."


def _about_study(described: Mapping[str, Any], results: Results) -> dict[str, Any]:
    """Return the description of the study, in the words of its file."""
    entries: dict[str, Any] = {
        "method": ", ".join(_methods(described)),
        "cells": results.n_cells,
        "samples of a cell": described["samples"] if "stop" not in described else f"at most {described['samples']}",
        "seed": described["seed"],
        "random numbers": described["random_numbers"],
        "block size": described.get("block_size", "chosen by estimated cost"),
        "statistics": _settings(described["statistics"]) or "moments",
    }
    if "stop" in described:
        entries["stopping rule"] = _settings(described["stop"])
    methods = _methods(described)
    for table, text in (("parameters", "parameter"), ("grid", "grid over")):
        for name, value in described.get(table, {}).items():
            entries[f"{table} of {name}" if name in methods else f"{text} {name}"] = _values(value)
    if described.get("cells"):
        entries["cells listed one by one"] = len(described["cells"])
    return entries


def _settings(table: Mapping[str, Any]) -> str:
    return "; ".join(f"{name}: {_values(value)}" for name, value in table.items())


def _values(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} = {_values(item)}" for name, item in value.items())
    if isinstance(value, list):
        texts = [_values(item) if isinstance(item, (Mapping, list)) else short(item) for item in value]
        if len(texts) > _MOST_LISTED:
            texts = [*texts[:3], "...", texts[-1], f"({len(value)} values)"]
        return ", ".join(texts)
    return short(value)


def _about_runs(found: Status) -> list[str]:
    parts = [html.paragraph(line) for line in str(found).splitlines()[1:]]
    if found.runs:
        rows = [
            (number, run.started, run.host, run.workers, duration(run.seconds), f"{run.samples:.6g}", run.state)
            for number, run in enumerate(found.runs, start=1)
        ][-MOST_ROWS:]
        header = ("run", "began (UTC)", "host", "workers", "time", "samples", "state")
        parts.append(html.numbers(header, rows, caption="Runs on the store."))
    if found.failures:
        failed = [(one.cell, one.parameters, one.message) for one in found.failures[:MOST_ROWS]]
        parts.append(html.numbers(("cell", "parameters", "error"), failed, caption="Cells that failed."))
    return parts


def _about_variable(results: Results, name: str) -> str:
    figure = figure_of(results, name)
    if figure is None:
        numbers = "The last numbers of each cell are" if results.dims(name) else "One number for each cell is"
        return html.section(name, html.paragraph(f"{numbers} in the table."))
    light, dark = (render(figure.draw, size=figure.size, theme=theme) for theme in (LIGHT, DARK))
    in_table = name in (*results.variables, *results.quantiles_alone)
    alt = f"Curves of {name}{'; numbers at their ends are in the table of cells' if in_table else ''}."
    return html.section(name, html.figure(light, dark, alt=alt, caption=figure.caption))


def _about_cells(results: Results) -> list[str]:
    parts = []
    left_out = results.all_variables[MOST_VARIABLES:]
    if left_out:
        names = ", ".join(left_out[:_MOST_LISTED])
        parts.append(html.paragraph(f"Left out here, and in the store: {len(left_out)} more variables ({names})."))
    n_rows = min(results.n_cells, MOST_ROWS)
    if results.samples:
        kept = ", ".join(results.samples[:_MOST_LISTED])
        parts.append(html.paragraph(f"Every sample is kept in the store, and not shown here, of {kept}."))
    elif "samples" in results.dataset.attrs:
        parts.append(html.paragraph(f"Samples are {results.dataset.attrs['samples']}."))
    caption = _what_is_in_the_table(results)
    if n_rows < results.n_cells:
        caption += f" The first {n_rows} of {results.n_cells} cells; all are in the store."
    columns = _columns(results)
    table = [tuple(column[row] for column in columns.values()) for row in range(n_rows)]
    return [*parts, html.numbers(tuple(columns), table, caption=caption)]


def _what_is_in_the_table(results: Results) -> str:
    kinds = ["means ± standard errors"] * bool(results.variables) + ["quantiles"] * bool(results.quantiles_alone)
    if not kinds:
        return "Cells, with counts where each variable ends." if results.totals else "Cells."
    text = (
        f"{' and '.join(kinds)} over samples with a finite value, where each variable ends: at the last layer or time."
    )
    return f"{text[0].upper()}{text[1:]}"


def _columns(results: Results) -> dict[str, list[str]]:
    dataset, rows = results.dataset, range(min(results.n_cells, MOST_ROWS))
    columns = {"cell": [str(row) for row in rows]}
    for name, values in list(results.varied.items())[:_MOST_PARAMETERS]:
        columns[name] = [short(values[row]) for row in rows]
    columns["samples"] = [str(number) for number in dataset["n_samples"].values[: len(rows)]]
    if dataset["status"].values.any():
        columns["state"] = [STATES[number] for number in dataset["status"].values[: len(rows)]]
    for name in results.variables[:MOST_VARIABLES]:
        mean, error = results.at_ends(name)
        columns[f"{name} (mean)"] = [with_error(float(mean[row]), float(error[row])) for row in rows]
    probability = dataset["probability"].values if results.quantiles_alone else np.empty(0)
    for name in results.quantiles_alone[:MOST_VARIABLES]:
        quantiles = results.quantiles_at_ends(name)
        for place in chosen(len(probability), _MOST_QUANTILES):
            column = f"{name} (quantile {probability[place]:g})"
            columns[column] = [with_error(float(quantiles[row, place]), math.nan) for row in rows]
    for name in results.totals[:MOST_VARIABLES]:
        ends = results.ends(results.dims(name))
        values = dataset[name].values.reshape(results.n_cells, -1)
        columns[name] = ["-" if ends[row] < 0 else str(values[row, ends[row]]) for row in rows]
    return columns


def _provenance(dataset: xr.Dataset, found: Status) -> dict[str, Any]:
    sums = "all files agree with their SHA-256 checksums" if found.is_complete else "what is finished agrees with them"
    versions = json.loads(dataset.attrs["versions"])
    return {
        "store": found.path.absolute(),
        "identity of the study": found.identity,
        "checksums": sums,
        **{f"version of {name}": version for name, version in versions.items()},
        "page written by": f"wideangle {__version__}",
    }


def _reproduction(described: Mapping[str, Any], found: Status) -> list[str]:
    """Return the file of the study, and the command that runs it."""
    try:
        if len(described.get("cells", ())) > _MOST_CELLS_OF_TOML:
            raise ValueError("too long for a page")
        text = toml_text(described)
    except ValueError:
        reading = (
            "import json, xarray as xr, wideangle as wa\n\n"
            f"attributes = xr.open_zarr({str(found.path)!r}).attrs\n"
            'study = wa.studies.Study.from_dict(json.loads(attributes["study"]))\n'
            'wa.studies.run(study, "again.zarr")'
        )
        return [html.paragraph("The description of the study is in its store; in Python:"), html.code(reading)]
    return [
        html.paragraph("As study.toml:"),
        html.code(text),
        html.paragraph("Then the same results, to the bit, on any number of workers, with the versions above:"),
        html.code("wideangle study run study.toml"),
    ]
