"""The figures of the reproduction of arXiv 2106.03485. Each draws on an empty figure or subfigure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from wideangle.papers.representation_claims import independent_correlation, trained_long
from wideangle.papers.representation_panels import LAST, ZERO

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

    from wideangle.papers.representation import Measurements
    from wideangle.reports import Theme

QUANTITIES = {
    "test_error": "Test error",
    "train_error": "Training error",
    "r2_outside": "R² of the others",
    "residual_correlation_outside": "Residual correlation",
}
SERIES = ("simulation", "small-angle", "finite-width-linear", "infinite-width", "finite-width", "expansion", "exact")
GUIDE = (0, (4, 2))  # Dashes of predictions.
NOTHING = 1e-9  # Differences of errors that are roundings.


def draw_chunks(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """Panel (a): chunks of layers of several widths, at the end of training with weight decay."""
    chunks = trained_long(measurements.chunks)
    widths = chunks["width"].values
    styles = SERIES[: len(widths)]
    lines = {f"width {width}": (chunks.sel(width=width), style) for width, style in zip(widths, styles, strict=True)}
    _draw_grid(figure, theme, "a", lines, independent_correlation(chunks, int(chunks.attrs["n_train_samples"])))


def draw_conditions(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """Panel (b): chunks of the widest layer at zero training error and at the end, with weight decay and without."""
    chunks = measurements.chunks.isel(width=-1)
    decay = chunks["decay"].values[0]
    lines = {
        f"{words}, {'the end' if moment == LAST else moment}": (chunks.isel(decay=place).sel(moment=moment), style)
        for place, moment, words, style in (
            (0, LAST, f"weight decay {decay:g}", "finite-width"),
            (0, ZERO, f"weight decay {decay:g}", "finite-width-linear"),
            (1, LAST, "no weight decay", "infinite-width"),
            (1, ZERO, "no weight decay", "small-angle"),
        )
    }
    all_chunks = measurements.chunks
    _draw_grid(figure, theme, "b", lines, independent_correlation(all_chunks, int(all_chunks.attrs["n_train_samples"])))


def _draw_grid(
    figure: Any, theme: Theme, letter: str, lines: dict[str, tuple[xr.Dataset, str]], independent: float
) -> None:
    """Draw a row for each task and a column for each quantity, means over runs with bands of standard errors."""
    first = next(iter(lines.values()))[0]
    tasks = first["task"].values.tolist()
    grid = figure.subplots(len(tasks), len(QUANTITIES), sharex=True, squeeze=False)
    for number, (row, task) in enumerate(zip(grid, tasks, strict=True)):
        for axes, (name, title) in zip(row, QUANTITIES.items(), strict=True):
            for label, (dataset, style) in lines.items():
                _draw_mean(axes, dataset[name].sel(task=task), theme, style, label)
            if name.startswith("residual"):
                axes.axhline(independent, color=theme.muted, linewidth=0.9, linestyle=GUIDE, label="independent noise")
                axes.set_ylim(bottom=0.0)
            if number == 0:
                start = name == next(iter(QUANTITIES))
                axes.set_title(f"{letter}   {title}" if start else title, fontweight="bold" if start else "normal")
            if number == len(tasks) - 1:
                axes.set_xlabel("chunk size w")
            _size_ticks(axes, first["chunk_size"].values[::2])
        row[0].set_ylabel(task)
    # Long labels take two rows.
    columns = len(lines) + 1 if max(map(len, lines)) < 20 else 3
    figure.legend(*grid[0][-1].get_legend_handles_labels(), loc="outside lower center", ncols=columns)


def _draw_mean(axes: Axes, values: xr.DataArray, theme: Theme, style: str, label: str, dim: str = "chunk_size") -> None:
    """Draw means over runs against sizes, with bands of one standard error."""
    known = values.transpose("run", dim)
    known = known[:, np.isfinite(known.values).any(axis=0)]
    mean = known.mean("run")
    error = known.std("run", ddof=1) / np.sqrt(known.count("run"))
    axes.semilogx(known[dim], mean, **theme.line(style), marker="o", markersize=2.8, label=label)
    axes.fill_between(known[dim], mean - error, mean + error, color=theme.methods[style], alpha=0.2, linewidth=0)


def draw_errors(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """Panel (c): error less its limit against width, for networks and for chunks of the widest."""
    chunks = trained_long(measurements.chunks)
    tests = trained_long(measurements.networks)["final_test_error"]
    tasks = chunks["task"].values.tolist()
    for number, (axes, task) in enumerate(zip(figure.subplots(1, len(tasks)), tasks, strict=True)):
        here = chunks.sel(task=task)
        limit = here["asymptotic_error"].item()
        widths = here["width"].values
        of_chunks = here["test_error"].isel(width=-1, drop=True).sel(chunk_size=slice(widths[0], None)) - limit
        power = here["chunk_exponent"].isel(width=-1).values
        spread = np.nanstd(power, ddof=1)
        _draw_points(
            axes,
            of_chunks.rename(chunk_size="width"),
            theme,
            "infinite-width",
            f"chunks of width {widths[-1]}: {np.nanmean(power):.2f} ± {spread:.2f}",
        )
        found, low, high = (here[f"width_exponent{end}"].item() for end in ("", "_low", "_high"))
        label = (
            f"networks: {found:.2f} ({low:.2f} to {high:.2f})"
            if np.isfinite(found)
            else "networks: no power, below the limit"
        )
        _draw_points(axes, tests.sel(task=task) - limit, theme, "finite-width", label)
        start = float(of_chunks.isel(chunk_size=0).mean())
        guide = start * (widths / widths[0]) ** -0.5
        axes.plot(widths, guide, color=theme.muted, linewidth=0.9, linestyle=GUIDE, label="power -1/2")
        axes.set(xscale="log", yscale="log", xlabel="width of the network, or chunk size")
        axes.set_title(f"c   {task}" if number == 0 else task, fontweight="bold" if number == 0 else "normal")
        if number == 0:
            axes.set_ylabel("test error less limit")
        bottom, top = axes.get_ylim()
        axes.set_ylim(max(bottom, 1e-4) / 15.0, top * 1.3)
        axes.legend(loc="lower left")
        _size_ticks(axes, widths)


def _draw_points(axes: Axes, values: xr.DataArray, theme: Theme, style: str, label: str) -> None:
    """Draw runs as dots, and a line through their means; what is not above the limit has no place in the chart."""
    colour, widths = theme.methods[style], values["width"].values
    runs = values.transpose("width", "run").values
    runs = np.where(np.abs(runs) > NOTHING, runs, 0.0)
    mean = np.nanmean(runs, axis=1)
    axes.plot(np.repeat(widths, runs.shape[1]), runs.ravel(), "o", color=colour, markersize=2.6, alpha=0.5)
    line = {**theme.line(style), "marker": "s", "markersize": 4.5}
    axes.plot(widths, np.where(mean > NOTHING, mean, np.nan), **line, label=label)


def draw_ensembles(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """Panel (d): networks beside ensembles of narrow ones of the same total width."""
    networks = trained_long(measurements.networks)
    member = int(networks["width"].values[0])
    tasks = networks["task"].values.tolist()
    panels = figure.subplots(1, 2 * len(tasks))
    places = [(task, kind) for task in tasks for kind in ("error", "loss")]
    for number, (axes, (task, kind)) in enumerate(zip(panels, places, strict=True)):
        for name, style, label in (
            ("final_test", "finite-width", "one network"),
            ("ensemble_test", "infinite-width", f"ensemble of networks of width {member}"),
        ):
            _draw_mean(axes, networks[f"{name}_{kind}"].sel(task=task), theme, style, label, "width")
        title = f"{task}: test {kind}"
        axes.set_title(f"d   {title}" if number == 0 else title, fontweight="bold" if number == 0 else "normal")
        axes.set(xlabel="total width")
        axes.set_ylim(bottom=0.0)
        _size_ticks(axes, networks["width"].values)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)


def draw_synthetic(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """Panel (e): numbers of synthetic clones, errors of their chunks, and what chunks explain."""
    left, middle, right = figure.subplots(1, 3)
    synthetic = measurements.synthetic
    truth, noises = synthetic["n_clones"].values, synthetic["noise"].values
    most = synthetic.isel(n_clones=-1)
    for place, (noise, style) in enumerate(zip(noises, SERIES[1:], strict=False)):
        colour = theme.methods[style]
        here = synthetic.sel(noise=noise)
        mean = here["n_clones_estimate"].mean("run")
        ends = [mean - here["n_clones_estimate_low"].mean("run"), here["n_clones_estimate_high"].mean("run") - mean]
        beside = truth * 1.07 ** (place - (len(noises) - 1) / 2)
        left.errorbar(beside, mean, np.maximum(ends, 0.0), fmt="o", color=colour, markersize=4.5)
        curves = most.sel(noise=noise)
        sizes = curves["chunk_size"].values
        middle.loglog(sizes, curves["error"].mean("run"), "o", color=colour, markersize=3, label=f"noise {noise:g}")
        middle.loglog(sizes, curves["error_predicted"], color=colour, linewidth=1.3)
        right.semilogx(sizes, curves["r2"].mean("run"), "o", color=colour, markersize=3)
        right.semilogx(sizes, curves["r2_generic"].mean("run"), color=colour, linewidth=1.3)
    left.plot(truth, truth, color=theme.muted, linewidth=0.9, linestyle=GUIDE)
    left.set(xscale="log", yscale="log", xlabel="clones", ylabel="clones found")
    left.set_title("e   Number of clones")
    left.set_yticks(truth, [str(each) for each in truth])
    left.tick_params(axis="y", which="minor", left=False, labelleft=False)
    _size_ticks(left, truth)
    middle.set(xlabel="chunk size w")
    middle.set_title(f"Error, {truth[-1]} clones", fontweight="normal")
    middle.legend(loc="lower left")
    right.set(xlabel="chunk size w", ylim=(-0.03, 1.05))
    right.set_title(f"R², {truth[-1]} clones", fontweight="normal")
    for axes in (middle, right):
        _size_ticks(axes, 2 ** np.arange(0, int(np.log2(sizes[-1])) + 1, 2))


def _size_ticks(axes: Axes, sizes: Any) -> None:
    axes.set_xscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)


def draw_overview(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """All panels in one figure."""
    rows = figure.subfigures(5, 1, height_ratios=(1.35, 1.35, 0.95, 0.9, 0.9))
    drawn = (draw_chunks, draw_conditions, draw_errors, draw_ensembles, draw_synthetic)
    for row, draw in zip(rows, drawn, strict=True):
        draw(measurements, row, theme)
