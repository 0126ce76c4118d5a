"""Results as arrays: what the journal holds, cell by cell, written as one Zarr group that xarray opens."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wideangle._version import __version__
from wideangle.statistics import Histogram, Moments, QuantileSketch, Total
from wideangle.studies._coordinates import cell_coordinates, named
from wideangle.studies._journal import Journal
from wideangle.studies._layout import Layout, merged
from wideangle.studies._names import MOMENTS
from wideangle.studies._sample_arrays import all_chunks_written, compressed, write_sample_arrays
from wideangle.studies._store import COMPLETE, Store, about
from wideangle.studies._tree import Node

if TYPE_CHECKING:
    import xarray as xr

    from wideangle.studies.planning import Plan
    from wideangle.studies.study import Study

STATES = ("complete", "partial", "failed", "not begun")
_CHUNK = 2**20  # bytes of the largest variable in a chunk of cells
_BATCH = 2**26

Array = NDArray[Any]


def write_results(
    store: Store, study: Study, plan: Plan, journal: Journal, layout: Layout, *, unfinished: set[int]
) -> None:
    """Write what the journal holds, of the cells that fit the layout, as the Zarr group of the store."""
    done = layout.fitting(journal.done())
    states = _states(plan, journal, done, unfinished)
    # Of a run that was stopped the next one writes them.
    has_samples = study.statistics.samples and unfinished <= {failure.cell for failure in journal.failures()}
    attributes = attributes_of(study, about(study), is_complete=not unfinished, has_samples=has_samples)
    with store.writing() as folder, all_chunks_written():
        _write_cells(folder, study, journal, done, layout, states, attributes)
        if has_samples:
            complete = set(range(plan.n_cells)) - unfinished
            write_sample_arrays(folder, store, study, plan, journal, layout.sample_forms(), complete)
        _consolidate(folder)


def _states(plan: Plan, journal: Journal, done: Mapping[int, list[Node]], unfinished: set[int]) -> NDArray[np.int8]:
    result = np.full(plan.n_cells, STATES.index(COMPLETE), dtype=np.int8)
    for cell in unfinished:
        result[cell] = STATES.index("partial" if done.get(cell) else "not begun")
    for failure in journal.failures():
        result[failure.cell] = STATES.index("failed")
    return result


def _write_cells(
    folder: Path,
    study: Study,
    journal: Journal,
    done: Mapping[int, list[Node]],
    layout: Layout,
    states: NDArray[np.int8],
    attributes: dict[str, Any],
) -> None:
    n_cells = len(study.cells)
    largest = max([8 * int(np.prod(layout.shape(name))) * _per_value(study, name) for name in layout.dims], default=8)
    largest = max(largest, 8)  # A dimension may have no entries.
    # Samples have a chunk for each cell, and dask wants the same of all variables.
    chunk = 1 if study.statistics.samples else min(2 ** max(0, int(np.log2(_CHUNK / largest))), n_cells)
    batch = chunk * max(1, int(_BATCH / (largest * max(len(layout.dims), 1) * chunk)))
    parameters = cell_coordinates(study)
    for start in range(0, n_cells, batch):
        cells = range(start, min(start + batch, n_cells))
        dataset = dataset_of(study, journal, done, layout, states, parameters, cells)
        dataset.attrs = attributes  # each time, as those of what is appended take the place of those before
        if start:
            dataset.to_zarr(folder, append_dim="cell", consolidated=False, zarr_format=2)
            continue
        encoding = {
            name: {
                "chunks": tuple(chunk if dim == "cell" else max(size, 1) for dim, size in item.sizes.items()),
                **compressed(),
            }
            for name, item in dataset.variables.items()
            if item.ndim
        }
        dataset.to_zarr(folder, mode="w", consolidated=False, zarr_format=2, encoding=encoding)


def _per_value(study: Study, name: str) -> int:
    bins = study.statistics.histograms.get(name, (0.0, 0.0, 1))[2]
    return max(bins, len(study.statistics.quantiles), 1)


def dataset_of(
    study: Study,
    journal: Journal,
    done: Mapping[int, list[Node]],
    layout: Layout,
    states: NDArray[np.int8],
    parameters: Mapping[str, Array],
    cells: range,
) -> xr.Dataset:
    """Return the results of some cells, without kept samples."""
    import xarray as xr

    variables: dict[str, tuple[tuple[str, ...], Array, dict[str, Any]]] = {}
    chosen = slice(cells.start, cells.stop)
    variables["n_samples"] = ("cell",), np.zeros(len(cells), dtype=np.int64), {"long_name": "samples that are in"}
    flags = {"flag_values": list(range(len(STATES))), "flag_meanings": " ".join(s.replace(" ", "_") for s in STATES)}
    variables["status"] = ("cell",), states[chosen], flags
    for name in layout.dims:
        for field_name, item in _empty(study, layout, name, len(cells)).items():
            variables[field_name] = item
    moving = layout.moving()
    for name in moving:
        variables[f"{name}_of_cell"] = ("cell", name), layout.of_cells(name, len(cells)), {}
    for row, cell in enumerate(cells):
        if cell not in done:
            continue
        reduced = merged(journal, cell, done[cell])
        variables["n_samples"][1][row] = reduced.n_samples
        for name in reduced.dims:
            for kind, accumulator in reduced.accumulators[name].items():
                for field_name, values in _fields(study, name, kind, accumulator).items():
                    of_cell = variables[field_name][1][row : row + 1]
                    place = (slice(None), *map(slice, np.shape(values)))
                    of_cell[place] = values
        for name in moving:
            if name in reduced.coordinates:
                values = reduced.coordinates[name]
                variables[f"{name}_of_cell"][1][row, : len(values)] = values
    coordinates: dict[str, Any] = {"cell": np.arange(cells.start, cells.stop)}
    coordinates["method"] = "cell", np.array([cell.method for cell in study.cells], dtype=str)[chosen]
    # Parameters may be called like what is measured, such as a loss.
    taken = {*layout.names, *variables, *coordinates, "sample", "probability"}
    bins = {name: np.linspace(low, high, n + 1) for name, (low, high, n) in study.statistics.histograms.items()}
    taken |= {f"{name}_bin{end}" for name in bins for end in ("", "_left", "_right")}
    for name, values in named(parameters, taken).items():
        coordinates[name] = "cell", values[chosen]
    for name, known in layout.coordinates.items():
        if name not in moving and name in layout.sizes:
            coordinates[name] = known[0]
    if study.statistics.quantiles:
        coordinates["probability"] = np.array(study.statistics.quantiles)
    for name, edges in bins.items():
        coordinates[f"{name}_bin_left"] = f"{name}_bin", edges[:-1]
        coordinates[f"{name}_bin_right"] = f"{name}_bin", edges[1:]
    return xr.Dataset(variables, coordinates)


def _fields(study: Study, name: str, kind: str, accumulator: Any) -> dict[str, Array]:
    """Return the arrays of an accumulator by the name that they have in the results."""
    if kind == "total":
        assert isinstance(accumulator, Total)
        return {name: accumulator.values}
    if kind == "histogram":
        assert isinstance(accumulator, Histogram)
        return {
            f"{name}_histogram": accumulator.counts,
            f"{name}_underflow": accumulator.underflow,
            f"{name}_overflow": accumulator.overflow,
        }
    if kind == "quantiles":
        assert isinstance(accumulator, QuantileSketch)
        values = accumulator.quantile(np.array(study.statistics.quantiles))
        return {f"{name}_quantile": np.moveaxis(values, 0, -1)}
    assert isinstance(accumulator, Moments)
    return {
        f"{name}_count": accumulator.count,
        f"{name}_mean": accumulator.mean,
        f"{name}_variance": accumulator.variance,
        f"{name}_mean_standard_error": accumulator.standard_error_mean,
        f"{name}_variance_standard_error": accumulator.standard_error_variance,
        f"{name}_skewness": accumulator.skewness,
        f"{name}_excess_kurtosis": accumulator.excess_kurtosis,
    }


def _empty(
    study: Study, layout: Layout, name: str, n_cells: int
) -> dict[str, tuple[tuple[str, ...], Array, dict[str, Any]]]:
    """Return the arrays of a variable for cells of which nothing is done."""
    dims, shape = ("cell", *layout.dims[name]), (n_cells, *layout.shape(name))
    result: dict[str, tuple[tuple[str, ...], Array, dict[str, Any]]] = {}
    kinds = layout.kinds[name]
    if "total" in kinds:
        result[name] = dims, np.zeros(shape, dtype=np.int64), {"long_name": "number of samples"}
    if "moments" in kinds:
        for field_name, text in MOMENTS.items():
            counts = field_name == "count"
            values = np.zeros(shape, dtype=np.int64) if counts else np.full(shape, np.nan)
            result[f"{name}_{field_name}"] = dims, values, {"long_name": f"{name}: {text}"}
    if "histogram" in kinds:
        n_bins = study.statistics.histograms[name][2]
        counts_shape = (*shape, n_bins)
        result[f"{name}_histogram"] = (*dims, f"{name}_bin"), np.zeros(counts_shape, dtype=np.int64), {}
        for side in ("underflow", "overflow"):
            result[f"{name}_{side}"] = dims, np.zeros(shape, dtype=np.int64), {}
    if "quantiles" in kinds:
        values = np.full((*shape, len(study.statistics.quantiles)), np.nan)
        bound: dict[str, Any] = {"relative_error": study.statistics.relative_error}
        result[f"{name}_quantile"] = (*dims, "probability"), values, bound
    return result


def attributes_of(
    study: Study, described: Mapping[str, str], *, is_complete: bool, has_samples: bool
) -> dict[str, Any]:
    """Return what results say of themselves; ``described`` is what their store says of the study."""
    # From the metadata, as importing them for their numbers would take longer than writing a small store.
    versions = {
        "wideangle": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": version("scipy"),
        "numba": version("numba"),
    }
    result = {
        "title": study.name,
        "function": "wideangle.studies.run",
        "wideangle_version": __version__,
        "versions": json.dumps(versions),
        "identity": described["identity"],
        "study": json.dumps(study.to_dict()),
        "study_about": json.dumps(described),
        "state": COMPLETE if is_complete else "partial",
    }
    if study.statistics.samples and not has_samples:
        result["samples"] = (
            "kept, but not in here yet: they are gathered by the run after which nothing but cells that failed is left"
        )
    return result


def _consolidate(folder: Path) -> None:
    import zarr

    if int(zarr.__version__.split(".")[0]) >= 3:
        zarr.consolidate_metadata(str(folder), zarr_format=2)
    else:
        zarr.consolidate_metadata(str(folder))
