"""What a report shows of the results of a study: variables, axes, ends of curves, names of cells."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import xarray as xr

Floats = NDArray[np.float64]
_MOST_DISTINCT = 3  # parameters in the name of a cell before others are left out


@dataclass(frozen=True, eq=False)
class Results:
    """The results of a study, as tables and figures need them."""

    dataset: xr.Dataset

    @cached_property
    def variables(self) -> list[str]:
        """Names of the variables that have means."""
        names = [str(name) for name in self.dataset.data_vars]
        return [name[:-5] for name in names if name.endswith("_mean") and f"{name[:-5]}_count" in names]

    @cached_property
    def histograms(self) -> list[str]:
        """Names of the variables that have histograms."""
        return [str(name)[:-10] for name in self.dataset.data_vars if str(name).endswith("_histogram")]

    @cached_property
    def quantiles(self) -> list[str]:
        """Names of the variables that have quantiles."""
        return [str(name)[:-9] for name in self.dataset.data_vars if str(name).endswith("_quantile")]

    @cached_property
    def quantiles_alone(self) -> list[str]:
        """Names of the variables that have quantiles and no means."""
        return [name for name in self.quantiles if name not in self.variables]

    @cached_property
    def samples(self) -> list[str]:
        """Names of the variables of which every sample is there."""
        return [str(name) for name, item in self.dataset.data_vars.items() if "sample" in item.dims]

    @cached_property
    def all_variables(self) -> list[str]:
        """Names of the variables that have anything to draw."""
        return sorted({*self.variables, *self.histograms, *self.quantiles})

    @cached_property
    def totals(self) -> list[str]:
        """Names of the counts of events."""
        ends = ("_count", "_histogram", "_underflow", "_overflow", "_of_cell")
        return [
            str(name)
            for name, item in self.dataset.data_vars.items()
            if name not in ("n_samples", "status")
            and not str(name).endswith(ends)
            and item.dtype.kind in "iu"
            and "sample" not in item.dims
        ]

    @cached_property
    def n_cells(self) -> int:
        """Number of cells."""
        return int(self.dataset.sizes["cell"])

    @cached_property
    def varied(self) -> dict[str, NDArray[Any]]:
        """The method if there are several, and parameters that are not the same in all cells, in the study's order."""
        found = {}
        for name, item in self.dataset.coords.items():
            if item.dims != ("cell",) or name == "cell":
                continue
            values = item.values
            if not all(_same(value, values[0]) for value in values):
                found[str(name)] = values
        order = ["method"]
        for name, values in json.loads(self.dataset.attrs["study"]).get("grid", {}).items():
            order += values if isinstance(values, dict) else [name]  # axes of one method alone
        return dict(sorted(found.items(), key=lambda entry: order.index(entry[0]) if entry[0] in order else len(order)))

    @cached_property
    def axes(self) -> list[str]:
        """Names of the numeric parameters that vary."""
        return [name for name, values in self.varied.items() if values.dtype.kind in "iuf"]

    def dims(self, name: str) -> tuple[str, ...]:
        """Return the dimensions of a variable besides that of cells."""
        for end, extra in (("_mean", 0), ("_histogram", 1), ("_quantile", 1)):
            if f"{name}{end}" in self.dataset:
                dims = tuple(map(str, self.dataset[f"{name}{end}"].dims))
                return dims[1 : len(dims) - extra]
        return tuple(map(str, self.dataset[name].dims))[1:]

    def mean(self, name: str) -> tuple[Floats, Floats]:
        """Return means and their standard errors (cell, position), with the dimensions of the variable made one."""
        found = (self.dataset[f"{name}{end}"].values for end in ("_mean", "_mean_standard_error"))
        mean, error = (values.reshape(self.n_cells, -1) for values in found)
        return mean, error

    def ends(self, dims: tuple[str, ...]) -> NDArray[np.intp]:
        """Return the last position (cell,) at which variables of these dimensions have samples, -1 for none."""
        size = math.prod(self.dataset.sizes[dim] for dim in dims)
        present = np.zeros((self.n_cells, size), dtype=bool)
        for name in self.variables:
            if self.dims(name) == dims:
                present |= self.dataset[f"{name}_count"].values.reshape(self.n_cells, size) > 0
        for name in self.histograms:
            if self.dims(name) == dims:
                counts = self.dataset[f"{name}_histogram"].values.reshape(self.n_cells, size, -1)
                present |= counts.any(axis=-1)
        for name in self.quantiles:
            if self.dims(name) == dims:
                values = self.dataset[f"{name}_quantile"].values.reshape(self.n_cells, size, -1)
                present |= ~np.isnan(values).all(axis=-1)
        last = size - 1 - np.argmax(present[:, ::-1], axis=1)
        begun = self.dataset["n_samples"].values > 0
        # Counts of events alone do not say where a cell ends: at the end.
        known = present.any(axis=1)
        return np.where(known, last, np.where(begun & ~present.any(), size - 1, -1)).astype(np.intp)

    def at_ends(self, name: str) -> tuple[Floats, Floats]:
        """Return mean and standard error (cell,) at the last position that has samples."""
        ends = self.ends(self.dims(name))
        rows = np.arange(self.n_cells)
        return tuple(np.where(ends >= 0, values[rows, ends], np.nan) for values in self.mean(name))  # type: ignore[return-value]

    def quantiles_at_ends(self, name: str) -> Floats:
        """Return quantiles (cell, probability) at the last position that has samples."""
        ends = self.ends(self.dims(name))
        values = self.dataset[f"{name}_quantile"].values
        values = values.reshape(self.n_cells, -1, values.shape[-1])[np.arange(self.n_cells), ends]
        return np.where(ends[:, None] >= 0, values, np.nan)

    def label(self, cell: int, *, without: tuple[str, ...] = ()) -> str:
        """Return what tells a cell from others."""
        parts = [
            str(values[cell]) if name == "method" else f"{name} {short(values[cell])}"
            for name, values in self.varied.items()
            if name not in without
        ]
        return ", ".join(parts[:_MOST_DISTINCT]) + (", ..." if len(parts) > _MOST_DISTINCT else "")

    def groups(self, axis: str) -> list[list[int]]:
        """Return cells that differ in one parameter alone, in its order, for each value of the others."""
        found: dict[tuple[str, ...], list[int]] = {}
        others = [values for name, values in self.varied.items() if name != axis]
        place = self.varied[axis]
        for cell in range(self.n_cells):
            if not (place.dtype.kind == "f" and math.isnan(place[cell])):
                found.setdefault(tuple(str(values[cell]) for values in others), []).append(cell)
        return [sorted(cells, key=lambda cell: place[cell]) for cells in found.values() if len(cells) > 1]


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) or (isinstance(one, float) and math.isnan(one) and math.isnan(other))


def short(value: Any) -> str:
    """Return a parameter in few characters."""
    text = f"{value:.6g}" if isinstance(value, (float, np.floating)) else str(value)
    return text if len(text) <= 24 else f"{text[:21]}..."


def with_error(mean: float, error: float) -> str:
    """Return a mean with its standard error, to two digits of this.

    >>> with_error(-3.14159, 0.0123)
    '-3.142 ± 0.012'
    """
    if math.isnan(mean):
        return "-"
    if not error > 0.0 or math.isinf(error):
        return f"{mean:.6g}"
    digits = 1 - math.floor(math.log10(error))
    if 0 <= digits <= 9 and abs(mean) < 1e6:
        return f"{mean:.{digits}f} ± {error:.{digits}f}"
    return f"{mean:.7g} ± {error:.2g}"


def chosen(number: int, most: int) -> list[int]:
    """Return at most so many of the numbers from 0, evenly spread, the first and the last among them.

    >>> chosen(9, 3)
    [0, 4, 8]
    """
    return sorted({round(k) for k in np.linspace(0, number - 1, min(number, most))}) if number else []
