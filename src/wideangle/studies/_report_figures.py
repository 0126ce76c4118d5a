"""Figures of a report: means with errors against dimensions and parameters, histograms and quantiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from wideangle.reports import Theme
from wideangle.reports.figures import DASHES
from wideangle.studies._report_data import Results, chosen

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LINES = 7
MOST_AXES = 3
BAND = 2.0  # standard errors
_WIDTH, _HEIGHT = 8.6, 2.7  # inches of a panel
_MOST_TICKS = 8
_LOGARITHMIC = 10.0  # ratio of the ends of an axis from which on it is logarithmic
_COLOURS = (
    "finite-width",
    "infinite-width",
    "finite-width-linear",
    "small-angle",
    "expansion",
    "simulation",
    "exact",
)

Draw = Callable[["Axes", Theme], None]


@dataclass(frozen=True)
class VariableFigure:
    """All that is drawn of one variable: panels one below the other."""

    panels: tuple[Draw, ...]
    caption: str

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return _WIDTH, _HEIGHT * len(self.panels)

    def draw(self, figure: Figure, theme: Theme) -> None:
        """Draw all panels."""
        rows: Any = figure.subplots(len(self.panels), 1, squeeze=False)
        for panel, axes in zip(self.panels, rows[:, 0], strict=True):
            panel(axes, theme)


def figure_of(results: Results, name: str) -> VariableFigure | None:
    """Return the figure of a variable, None if it has nothing to draw."""
    panels: list[Draw] = []
    captions = []
    if name in results.variables:
        dim = _long_dim(results, name)
        if dim is not None:
            panels.append(lambda axes, theme: _draw_along(results, name, dim, axes, theme))
            where = f"{dim}{_at_others(results, name, dim)}{_limit(results.n_cells, 'cells')}"
            captions.append(f"Mean of {name} by {where}; shades: ± {BAND:g} standard errors")
        for axis in results.axes[:MOST_AXES]:
            groups = results.groups(axis)
            if groups:
                panels.append(_against(results, name, axis))
                captions.append(f"against {axis}{_at_end(results, name)}{_limit(len(groups), 'lines')}, bars likewise")
    if name in results.histograms:
        panels.append(lambda axes, theme: _draw_histogram(results, name, axes, theme))
        captions.append(
            f"histogram{_at_end(results, name)}, as a density of all samples{_limit(results.n_cells, 'cells')}"
        )
    if name in results.quantiles and results.dataset.sizes["probability"] > 1:
        panels.append(lambda axes, theme: _draw_quantiles(results, name, axes, theme))
        captions.append(f"quantiles{_at_end(results, name)}, where they are finite{_limit(results.n_cells, 'cells')}")
    if not panels:
        return None
    caption = "; ".join(captions)
    return VariableFigure(tuple(panels), f"{caption[0].upper()}{caption[1:]}.")


def _against(results: Results, name: str, axis: str) -> Draw:
    return lambda axes, theme: _draw_against(results, name, axis, axes, theme)


def _limit(number: int, what: str) -> str:
    return f" ({MOST_LINES} of {number} {what})" if number > MOST_LINES else ""


def _at_end(results: Results, name: str) -> str:
    dims = results.dims(name)
    return f" at the last {', '.join(dims)} with samples" if dims else ""


def _at_others(results: Results, name: str, dim: str) -> str:
    others = [other for other in results.dims(name) if other != dim]
    return f", at the last {', '.join(others)}" if others else ""


def _long_dim(results: Results, name: str) -> str | None:
    """Return the dimension along which a variable is drawn: depth or time, else the longest one."""
    sizes = {dim: results.dataset.sizes[dim] for dim in results.dims(name) if results.dataset.sizes[dim] > 1}
    return max(sizes, key=lambda dim: (dim in ("layer", "time"), sizes[dim]), default=None)


def _draw_along(results: Results, name: str, dim: str, axes: Axes, theme: Theme) -> None:
    dataset = results.dataset
    coordinate = dataset[dim].values if dim in dataset.coords and dataset[dim].dtype.kind in "biuf" else None
    place = np.arange(dataset.sizes[dim]) if coordinate is None else coordinate
    own = dataset.get(f"{dim}_of_cell")
    own = None if own is None or own.dtype.kind not in "biuf" else own  # Text has no place on an axis.
    last = {other: -1 for other in results.dims(name) if other != dim}
    mean, error = (dataset[f"{name}{end}"].isel(last).values for end in ("_mean", "_mean_standard_error"))
    for line, cell in enumerate(chosen(results.n_cells, MOST_LINES)):
        x = place if own is None else own.values[cell]
        known = np.isfinite(mean[cell]) & np.isfinite(x)
        style = _style(theme, line)
        axes.plot(x[known], mean[cell][known], label=results.label(cell), **_marked(style, int(known.sum())))
        width = BAND * np.nan_to_num(error[cell][known])
        axes.fill_between(
            x[known], mean[cell][known] - width, mean[cell][known] + width, color=style["color"], alpha=0.2, linewidth=0
        )
    if own is None:
        _scale(axes, place)
    _finish(axes, f"{name} by {dim}{_at_others(results, name, dim)}", dim, f"mean of {name}")


def _draw_against(results: Results, name: str, axis: str, axes: Axes, theme: Theme) -> None:
    values, errors = results.at_ends(name)
    place = results.varied[axis]
    groups = results.groups(axis)
    for line, number in enumerate(chosen(len(groups), MOST_LINES)):
        cells = [cell for cell in groups[number] if np.isfinite(values[cell])]
        if not cells:
            continue
        bars = BAND * np.nan_to_num(errors[cells])
        label = results.label(cells[0], without=(axis,))
        style = _style(theme, line)
        axes.errorbar(
            place[cells], values[cells], yerr=bars, label=label, marker="o", markersize=3.5, capsize=2, **style
        )
    _scale(axes, place)
    _finish(axes, f"{name}{_at_end(results, name)}, against {axis}", axis, f"mean of {name}")


def _draw_histogram(results: Results, name: str, axes: Axes, theme: Theme) -> None:
    dataset = results.dataset
    edges = np.append(dataset[f"{name}_bin_left"].values, dataset[f"{name}_bin_right"].values[-1])
    n_bins = len(edges) - 1
    counts = dataset[f"{name}_histogram"].values.reshape(results.n_cells, -1, n_bins)
    outside = (dataset[f"{name}_underflow"] + dataset[f"{name}_overflow"]).values.reshape(results.n_cells, -1)
    ends = results.ends(results.dims(name))
    for line, cell in enumerate(chosen(results.n_cells, MOST_LINES)):
        own = counts[cell, ends[cell]]
        total = own.sum() + outside[cell, ends[cell]]
        if ends[cell] >= 0 and total > 0:
            axes.stairs(own / (total * np.diff(edges)), edges, label=results.label(cell), **_style(theme, line))
    _finish(axes, f"Histogram of {name}{_at_end(results, name)}", name, "density")


def _draw_quantiles(results: Results, name: str, axes: Axes, theme: Theme) -> None:
    dataset = results.dataset
    probability = dataset["probability"].values
    values = dataset[f"{name}_quantile"].values.reshape(results.n_cells, -1, len(probability))
    ends = results.ends(results.dims(name))
    for line, cell in enumerate(chosen(results.n_cells, MOST_LINES)):
        if ends[cell] < 0:
            continue
        known = np.isfinite(values[cell, ends[cell]])
        style = _marked(_style(theme, line), 2)
        axes.plot(values[cell, ends[cell]][known], probability[known], label=results.label(cell), **style)
    axes.set_ylim(-0.02, 1.02)
    _finish(axes, f"Quantiles of {name}{_at_end(results, name)}", name, "probability")


def _style(theme: Theme, line: int) -> dict[str, Any]:
    dashes = list(DASHES.values())
    return {
        "color": theme.methods[_COLOURS[line % len(_COLOURS)]],
        "linestyle": dashes[line % len(dashes)],
        "linewidth": 1.5,
    }


def _marked(style: dict[str, Any], n_points: int) -> dict[str, Any]:
    """Return a style in which few points can be seen."""
    return {**style, "marker": "o", "markersize": 3.0} if n_points < 12 else style


def _scale(axes: Axes, place: Any) -> None:
    known = np.unique(place[np.isfinite(place)])
    if len(known) > 2 and known[0] > 0 and known[-1] / known[0] >= _LOGARITHMIC:
        axes.set_xscale("log")
        axes.minorticks_off()
        ticks = known[chosen(len(known), _MOST_TICKS)]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])


def _finish(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    handles, labels = axes.get_legend_handles_labels()
    if any(labels):
        axes.legend(handles, labels, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)
