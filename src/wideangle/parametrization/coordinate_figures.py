"""Curves of a coordinate check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from wideangle.parametrization._coordinate_tables import QUANTITIES
from wideangle.reports.claims import AGREES, DISAGREES

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from wideangle.reports import Theme

_COLUMNS = 8
_TITLES = ("Size", "Change", "Update")


def figure_size(part: xr.Dataset) -> tuple[float, float]:
    """Return the size of the figure in inches."""
    return max(4.6, 2.1 * len(_shown(part)) + 1.0), 6.4


def draw_check(part: xr.Dataset, figure: Figure, theme: Theme) -> None:
    """Draw size, change and update of each layer against the width, a line for each step."""
    layers = _shown(part)
    axes = figure.subplots(3, len(layers), squeeze=False, sharex=True, sharey="row")
    steps = _steps(part)
    colours = _shades(theme, len(steps))
    for column, layer in enumerate(layers):
        here = part.sel(layer=layer)
        for row, name in enumerate(QUANTITIES):
            panel = axes[row][column]
            for step, colour in zip(steps, colours, strict=True):
                if step > 0 or name == "size":
                    _draw_sizes(panel, here, name, step, colour)
            _draw_prediction(panel, here, name, 0 if name == "size" else int(part.judged_step), theme)
            _scale(panel, part, first=column == 0, title=_TITLES[row])
        verdict = str(here.verdict.values)
        name = "Output" if layer == part.layer.values[-1] else f"Layer {layer}"
        colour = {AGREES: theme.methods["finite-width-linear"], DISAGREES: theme.methods["infinite-width"]}.get(
            verdict, theme.muted
        )
        axes[0][column].set_title(name)
        mark = {AGREES: "\N{CHECK MARK} ", DISAGREES: "\N{MULTIPLICATION SIGN} "}.get(verdict, "")
        axes[0][column].text(
            1.0, 1.05, mark + verdict, transform=axes[0][column].transAxes, ha="right", color=colour, fontsize=8.0
        )
        axes[2][column].set_xlabel("width")
    for across in axes:
        if all(map(_is_empty, across)):
            across[0].set_ylim(0.1, 10.0)  # without any sizes a logarithmic axis has no limits; all of the row share it
    handles = [axes[0][0].plot([], [], color=colour)[0] for colour in colours]
    labels = [f"step {step}" if step else "start" for step in steps]
    figure.legend(handles, labels, loc="outside lower center", ncols=len(steps))


def _shown(part: xr.Dataset) -> list[int]:
    """Return the layers that are drawn: all, or the first ones and the last if there are many."""
    layers = [int(layer) for layer in part.layer.values]
    return layers if len(layers) <= _COLUMNS else [*layers[: _COLUMNS - 2], *layers[-2:]]


def _steps(part: xr.Dataset) -> list[int]:
    last = int(part.step.values[-1])
    return sorted({round(step) for step in np.linspace(0, last, min(last, 4) + 1)})


def _shades(theme: Theme, count: int) -> list[Any]:
    """Return colours from that of muted text to that of networks of finite width."""
    from matplotlib.colors import to_rgb

    ends = np.array([to_rgb(theme.methods[name]) for name in ("expansion", "finite-width")])
    return [tuple(ends[0] + share * (ends[1] - ends[0])) for share in np.linspace(0.0, 1.0, count)]


def _draw_sizes(panel: Any, here: xr.Dataset, name: str, step: int, colour: Any) -> None:
    values = here[name].sel(step=step).values  # (width, seed)
    values = np.where(np.isfinite(values) & (values > 0.0) & (values < 1e30), values, np.nan)
    widths = here.width.values
    with np.errstate(invalid="ignore"):
        known = np.isfinite(values).all(axis=1)
    panel.plot(np.repeat(widths, values.shape[1]), values.ravel(), ".", color=colour, markersize=2.5, alpha=0.6)
    panel.plot(widths[known], np.exp(np.log(values[known]).mean(axis=1)), color=colour, linewidth=1.4)


def _draw_prediction(panel: Any, here: xr.Dataset, name: str, step: int, theme: Theme) -> None:
    """Draw the predicted power through the mean at the largest width."""
    exponent = float(here[f"{name}_predicted"].sel(step=step))
    at_end = here[name].sel(step=step).values[-1]
    if not (np.isfinite(exponent) and np.all(np.isfinite(at_end)) and np.all(at_end > 0.0)):
        return
    widths = here.width.values.astype(float)
    line = np.exp(np.log(at_end).mean()) * (widths / widths[-1]) ** exponent
    panel.plot(widths, line, color=theme.ink, linewidth=1.0, linestyle=(0, (4, 2)), zorder=1)


def _is_empty(panel: Any) -> bool:
    return not any(np.any(np.isfinite(np.asarray(line.get_ydata(), np.float64))) for line in panel.lines)


def _scale(panel: Any, part: xr.Dataset, *, first: bool, title: str) -> None:
    panel.set(xscale="log", yscale="log")
    if _is_empty(panel):
        panel.text(0.5, 0.5, "zero, or not finite", transform=panel.transAxes, ha="center")
    widths = part.width.values
    panel.set_xticks(widths[:: 2 if len(widths) > 4 else 1])
    panel.set_xticklabels([str(width) for width in panel.get_xticks().astype(int)])
    panel.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    if first:
        panel.set_ylabel(title)
