"""Curves of chunks against their size, and the spectrum of the layer they are of."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from wideangle.reports import Theme

COVERED = 0.9  # The part of the chunks that shades hold.

_TICKS = 7
_LINEAR = 0.5  # Decades up to which a logarithmic axis would show nothing more.
_DECADES = 2.0  # Up to which values at the axis are plain numbers.
_RESOLVED = 1e-13  # Of the largest eigenvalue.
_LEGEND = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.19), "ncols": 2, "columnspacing": 1.4}

Array = NDArray[np.float64]


def figure_size(statistics: xr.Dataset) -> tuple[float, float]:
    """Return the size of the figure in inches: two by two panels, or three in a row without errors."""
    return (9.6, 8.2) if "error" in statistics else (12.6, 4.5)


def draw_chunks(
    statistics: xr.Dataset,
    figure: Figure,
    theme: Theme,
    *,
    fit: xr.Dataset | None = None,
    training: xr.Dataset | None = None,
) -> None:
    """Draw what chunks explain, how the rest is correlated, their errors if there are any, and the spectrum.

    Parameters
    ----------
    statistics
        From :func:`chunk_statistics`.
    figure, theme
        An empty figure, and its colours; see :func:`wideangle.reports.render`.
    fit
        From :func:`fit_clones`, for critical width, prediction, fitted errors and signals; default None.
    training
        From :func:`chunk_statistics` for the training samples, whose errors are drawn beside; default None.
    """
    errors = "error" in statistics
    panels = figure.subplots(*((2, 2) if errors else (1, 3))).ravel()
    _draw_explained(panels[0], statistics, fit, theme)
    _draw_correlation(panels[1], statistics, theme)
    if errors:
        _draw_errors(panels[2], statistics, fit, training, theme)
    for panel in panels[:-1]:
        _mark_critical_width(panel, fit, theme, labelled=panel is panels[0])
        _scale_sizes(panel, statistics["chunk_size"].values)
    _draw_spectrum(panels[-1], statistics, fit, theme)
    for panel in panels:
        if panel.get_legend_handles_labels()[0]:
            panel.legend(**_LEGEND)


def _draw_explained(panel: Axes, statistics: xr.Dataset, fit: xr.Dataset | None, theme: Theme) -> None:
    panel.set_title("Share of variance that chunks explain")
    _draw_curve(panel, statistics, "r2_outside", theme.methods["finite-width"], "of neurons outside")
    _draw_curve(panel, statistics, "r2", theme.methods["simulation"], "of all neurons")
    if fit is not None:
        panel.plot(fit["chunk_size"], fit["r2_generic"], **theme.line("infinite-width"), label="of all, generic chunks")
    panel.set(ylim=(-0.03, 1.03), ylabel="$R^2$")


def _draw_correlation(panel: Axes, statistics: xr.Dataset, theme: Theme) -> None:
    panel.set_title("Correlation of what they leave")
    colours = theme.methods["finite-width"], theme.methods["simulation"]
    _draw_curve(panel, statistics, "residual_correlation_outside", colours[0], "of neurons outside", above=0.0)
    _draw_curve(panel, statistics, "residual_correlation", colours[1], "of all neurons", above=0.0)
    sizes = statistics["chunk_size"].values
    line = np.geomspace(0.9 * sizes[0], 1.1 * sizes[-1], 200)
    floor = correlation_floor(statistics.attrs["n_samples"], line)
    panel.plot(line, floor, **theme.line("small-angle"), label="of independent noise")
    panel.set_ylabel("mean absolute correlation")
    means = statistics[["residual_correlation_outside_mean", "residual_correlation_mean"]].to_array().values.ravel()
    # Far below the floor there is only what the offset of the published quantity leaves of residuals near zero.
    least = np.nanmin(floor, initial=1.0) / 5.0
    _scale_values(panel, np.concatenate([means, floor]), at_least=least)
    if not np.any(means > least):
        panel.text(0.03, 0.93, "chunks leave nothing", transform=panel.transAxes, color=theme.muted)


def _draw_errors(
    panel: Axes, statistics: xr.Dataset, fit: xr.Dataset | None, training: xr.Dataset | None, theme: Theme
) -> None:
    panel.set_title("Error of chunks")
    label = "error" if training is None else "of test samples"
    _draw_curve(panel, statistics, "error", theme.methods["finite-width"], label, above=0.0)
    drawn = [statistics["error_mean"].values]
    if training is not None:
        colour = theme.methods["simulation"]
        _draw_curve(panel, training, "error", colour, "of training samples", above=0.0)
        drawn.append(training["error_mean"].values)
    if fit is not None and np.isfinite(fit["exponent"]):
        above = fit.sel(chunk_size=fit["chunk_size"] >= fit["critical_width"])
        exponent, limit = float(fit["exponent"]), float(fit["asymptotic_error"])
        start = f"{limit:.3g} + " if limit else ""
        label = f"{start}const. $w^{{{exponent:.2f}}}$"
        drawn.append(above["error_fit"].values)
        panel.plot(above["chunk_size"], above["error_fit"], **theme.line("infinite-width"), label=label)
    panel.set_ylabel("share of wrong labels")
    _scale_values(panel, np.concatenate(drawn), at_least=0.0)
    if not np.any(np.concatenate(drawn) > 0.0):
        panel.text(0.03, 0.93, "every label is right", transform=panel.transAxes, color=theme.muted)


def _draw_spectrum(panel: Axes, statistics: xr.Dataset, fit: xr.Dataset | None, theme: Theme) -> None:
    panel.set_title("Spectrum of the covariance")
    eigenvalues = statistics["eigenvalue"].values
    shown = eigenvalues[eigenvalues > _RESOLVED * eigenvalues[0]]
    ranks = 1 + np.arange(len(shown))
    panel.plot(ranks, shown, ".", color=theme.methods["finite-width"], markersize=4.0, label="eigenvalues")
    if fit is not None and np.isfinite(fit["r2_limit"]):
        count = int(fit["n_signals"])
        between = panel.axvline(count + 0.5, color=theme.ink, linewidth=1.0, linestyle=(0, (4, 2)))
        between.set_label(f"{count} signals to the left")
    panel.set_ylabel("eigenvalue")
    _scale_sizes(panel, 2 ** np.arange(int(math.log2(len(eigenvalues))) + 1), last=len(eigenvalues))
    _scale_values(panel, shown, at_least=0.0)


def correlation_floor(n_samples: int, sizes: Array) -> Array:
    """Return the mean magnitude of correlations of independent residuals, after regressions on chunks of given sizes.

    A sample correlation of independent Gaussians has a standard deviation of one over the root of the degrees of
    freedom, of which a regression on w neurons leaves N - 1 - w; magnitudes of Gaussians have sqrt(2/pi) on average.
    """
    degrees = n_samples - 1.0 - sizes
    return np.asarray(np.sqrt(2.0 / (np.pi * np.where(degrees > 0.0, degrees, np.nan))))


def _draw_curve(
    panel: Axes, statistics: xr.Dataset, name: str, colour: str, label: str, *, above: float = -math.inf
) -> None:
    """Draw the means over chunks that lie above a limit, and a shade that holds most of the chunks."""
    sizes = statistics["chunk_size"].values
    values = statistics[name].transpose("chunk_size", "chunk").values
    mean = statistics[f"{name}_mean"].values
    known = np.isfinite(mean) & (mean > above)
    if not known.any():
        return
    tail = 0.5 * (1.0 - COVERED)
    low, high = np.quantile(values[known], [tail, 1.0 - tail], axis=1)
    panel.fill_between(sizes[known], low, high, color=colour, alpha=0.22, linewidth=0.0)
    panel.plot(sizes[known], mean[known], "o-", color=colour, markersize=3.6, linewidth=1.5, label=label)


def _mark_critical_width(panel: Axes, fit: xr.Dataset | None, theme: Theme, *, labelled: bool) -> None:
    if fit is None or np.isnan(fit["critical_width"]):
        return
    low, value, high = (float(fit[f"critical_width{end}"]) for end in ("_low", "", "_high"))
    colour = theme.methods["finite-width-linear"]
    panel.axvspan(low, high, color=colour, alpha=0.25, linewidth=0.0, zorder=0.5)
    line = panel.axvline(value, color=colour, linewidth=1.2, linestyle=(0, (4, 2)), zorder=0.6)
    if labelled:
        line.set_label(f"critical width {value:.4g}")


def _scale_sizes(panel: Axes, sizes: NDArray[Any], *, last: int = 0) -> None:
    """Make the horizontal axis logarithmic, with ticks at sizes that are far enough apart to be read."""
    logs = np.log(sizes.astype(float))
    end = max(logs[-1], math.log(last or 1))
    margin = 0.04 * (end - logs[0]) or 0.5
    panel.set(xscale="log", xlim=(math.exp(logs[0] - margin), math.exp(end + margin)))
    panel.set_xlabel("rank" if last else "neurons of a chunk")
    ticks = [0]
    for place in range(1, len(sizes)):
        if logs[place] - logs[ticks[-1]] >= (logs[-1] - logs[0]) / _TICKS - 1e-9:
            ticks.append(place)
    panel.set_xticks(sizes[ticks], labels=[str(size) for size in sizes[ticks]])
    panel.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)


def _scale_values(panel: Axes, values: Array, *, at_least: float) -> None:
    """Make the vertical axis logarithmic where values above a limit allow it, and leave out what is below the limit."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    seen = values[np.isfinite(values) & (values > at_least)]
    if not seen.size:
        panel.set_ylim(bottom=0.0)
        return
    ends = _ends_of_shades(panel)
    ends = np.concatenate([ends[ends > at_least], seen])
    low, high = math.log10(ends.min()), math.log10(ends.max())
    if high - low < _LINEAR:
        panel.margins(y=0.06)
        return
    panel.set_yscale("log")
    margin = 0.06 * (high - low)
    panel.set_ylim(10.0 ** (low - margin), 10.0 ** (high + margin))
    if high - low < _DECADES:
        panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())


def _ends_of_shades(panel: Axes) -> Array:
    paths = [np.asarray(path.vertices)[:, 1] for shade in panel.collections for path in shade.get_paths()]
    return np.concatenate(paths) if paths else np.zeros(0)
