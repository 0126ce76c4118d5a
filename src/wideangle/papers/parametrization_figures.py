"""The figures of the reproduction of arXiv 2110.15596. Each draws on an empty figure or subfigure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from wideangle.papers._verdicts import root_mean_square, width_exponent
from wideangle.papers.parametrization_claims import first_step_gaps, gap_by_width, output_exponents
from wideangle.reports.claims import AGREES, DISAGREES
from wideangle.reports.figures import spread

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

    from wideangle.papers.parametrization import Measurements
    from wideangle.reports import Theme

# Lines that stand for scalings, told apart as the methods are elsewhere.
STYLES = {
    "ip-llr": "finite-width",
    "mup": "infinite-width",
    "ntk": "finite-width-linear",
    "ip-bias": "small-angle",
    "ip-non-centered": "expansion",
    "ip": "simulation",
    "hp": "exact",
}
SERIES = ("simulation", "infinite-width", "finite-width-linear", "finite-width", "small-angle", "expansion")


def draw_depths(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """Panel (a): the output's update in integrable networks of 2 to 7 layers."""
    left, right = figure.subplots(1, 2, width_ratios=(1.35, 1.0))
    depths = measurements.depths.isel(step=-1, activation=0)
    widths = depths["width"].values
    ends = []
    for depth, style in zip(depths["depth"].values, SERIES, strict=False):
        change = depths["change"].sel(depth=depth, layer=depth + 1)
        mean = np.sqrt((change**2).mean("seed")).values
        colour = theme.methods[style]
        left.loglog(widths, change.transpose("width", "seed"), "o", color=colour, markersize=2.6, alpha=0.6)
        left.loglog(widths, mean, color=colour, linewidth=1.5)
        ends.append((np.log10(mean[-1]), f"{depth + 1} layers", colour))
    left.set(xlabel="width m", ylabel="root mean square")
    left.set_title("a   Update of the output, integrable networks")
    _width_ticks(left, widths)
    heights = spread(sorted(height for height, _, _ in ends), 0.7)
    for height, (_, text, colour) in zip(heights, sorted(ends), strict=True):
        place = {"xytext": (7, 0), "textcoords": "offset points", "va": "center", "fontsize": 8.5}
        left.annotate(text, (widths[-1], 10.0**height), color=colour, **place)
    found, low, high, predicted = (
        output_exponents(measurements.depths, name)
        for name in ("change_exponent", "change_low", "change_high", "change_predicted")
    )
    layers = depths["depth"].values + 1
    right.plot(layers, predicted, "_", color=theme.ink, markersize=16, label="predicted")
    right.errorbar(
        layers,
        found,
        [found - low, high - found],
        fmt="o",
        color=theme.methods["finite-width"],
        markersize=4,
        label="measured",
    )
    right.axvline(4.5, color=theme.muted, linewidth=0.9, linestyle=(0, (4, 2)))
    right.set(xlabel="layers", ylabel="exponent of the width", xticks=layers)
    right.set_title("Exponents", fontweight="normal")
    right.legend(loc="lower left")


def draw_curves(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """Panel (b): training curves by scaling, for each activation."""
    curves = measurements.curves
    panels = figure.subplots(1, curves.sizes["activation"], sharey=True)
    for number, (axes, activation) in enumerate(zip(panels, curves["activation"].values.tolist(), strict=True)):
        for name in curves["scaling"].values.tolist():
            losses = smoothed(curves["loss"].sel(activation=activation, scaling=name))
            for run in range(losses.sizes["run"]):
                label = name if run == 0 else None
                axes.plot(
                    losses["step"], losses.isel(run=run), **{**theme.line(STYLES[name]), "linewidth": 1.3}, label=label
                )
        # Losses of networks on their way to infinity are cut off.
        axes.set(xlabel="step", yscale="log", ylim=(8e-4, 6.0))
        axes.set_title(f"{'b   ' if number == 0 else ''}{activation}", fontweight="bold" if number == 0 else "normal")
    panels[0].set_ylabel("training loss")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=curves.sizes["scaling"])


def smoothed(losses: xr.DataArray, over: int = 10) -> xr.DataArray:
    """Return means of the loss over that many batches."""
    return losses.coarsen(step=over, boundary="trim").mean()


def draw_hybrid(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """Panel (c): a large first step beside the hybrid scaling, and both beside the limit."""
    left, middle, right = figure.subplots(1, 3)
    hybrid, first = measurements.hybrid, measurements.first_step
    widths = hybrid["width"].values
    for scaling in hybrid["scaling"].values.tolist():
        losses = smoothed(hybrid["loss"].sel(scaling=scaling).mean("run"))
        for width, alpha in ((widths[0], 0.45), (widths[-1], 1.0)):
            line = {**theme.line(STYLES[scaling]), "alpha": alpha, "linewidth": 1.4}
            left.plot(losses["step"], losses.sel(width=width), **line, label=f"{scaling}, m = {width}")
    left.set(xlabel="step", ylabel="training loss", yscale="log")
    left.set_title("c   ip-llr and hybrid")
    left.legend(loc="lower left")
    gaps = gap_by_width(hybrid)
    for step, style in zip(hybrid["record"].values.tolist()[1:], SERIES[1:], strict=False):
        here = gaps.sel(record=step)
        slope, error = width_exponent(here)
        colour = theme.methods[style]
        middle.loglog(
            widths,
            root_mean_square(here),
            "o-",
            color=colour,
            markersize=4,
            linewidth=1.4,
            label=f"step {step}: {slope:.2f} ± {error:.2f}",
        )
    middle.set(xlabel="width m", ylabel="gap of outputs")
    middle.set_title("Gap between the two", fontweight="normal")
    middle.set_ylim(bottom=0.1 * middle.get_ylim()[0])
    middle.legend(loc="lower left")
    _width_ticks(middle, widths)
    for gap, label, style in zip(
        first_step_gaps(first), ("from the limit", "between the two"), ("finite-width", "infinite-width"), strict=True
    ):
        slope, error = width_exponent(gap)
        line = {"color": theme.methods[style], "markersize": 4, "linewidth": 1.4}
        right.loglog(first["width"], root_mean_square(gap), "o-", **line, label=f"{label}: {slope:.3f} ± {error:.3f}")
    right.set(xlabel="width m")
    right.set_title("One step, three layers", fontweight="normal")
    right.set_ylim(bottom=0.4 * right.get_ylim()[0])
    right.legend(loc="lower left")
    _width_ticks(right, first["width"].values)


def draw_layers(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """Panel (d): diversity of neurons and ranks of updates by layer, ReLU."""
    last = measurements.curves.isel(record=-1).sel(activation="relu")
    panels = figure.subplots(1, 4)
    for axes, name, title in zip(
        panels,
        ("diversity", "dimension", "numerical_rank", "participation_rank"),
        ("d   Diversity of neurons", "Dimension", "Numerical rank of ΔW", "(tr A)² / tr A²"),
        strict=True,
    ):
        for scaling in last["scaling"].values.tolist():
            if scaling == "ip" and "rank" in name:
                continue
            values = last[name].sel(scaling=scaling).mean("run")
            axes.plot(values["layer"], values, **theme.line(STYLES[scaling]), marker="o", markersize=3, label=scaling)
        axes.set(xlabel="layer", xticks=last["layer"].values)
        if name != "diversity":
            axes.set_yscale("log")
        axes.set_title(title, fontweight="bold" if name == "diversity" else "normal")
    panels[0].set_ylim(-0.03, 1.08)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)


def draw_checks(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """Panel (e): exponents of the changes of each layer, measured and predicted, for all scalings."""
    checks = measurements.checks
    names = checks["check"].values.tolist()
    panels = figure.subplots(1, len(names), sharey=True)
    for number, (axes, name) in enumerate(zip(panels, names, strict=True)):
        here = checks.sel(check=name)
        layers = here["layer"].values
        found, low, high = (here[f"change_{end}"].values for end in ("exponent", "low", "high"))
        axes.plot(layers, here["change_predicted"], "_", color=theme.ink, markersize=13)
        for place, verdict in enumerate(here["verdict"].values.tolist()):
            colour = theme.methods[{AGREES: "finite-width", DISAGREES: "infinite-width"}.get(verdict, "simulation")]
            span = [[found[place] - low[place]], [high[place] - found[place]]]
            axes.errorbar(layers[place], found[place], span, fmt="o", color=colour, markersize=3.5)
        axes.set(xticks=layers, xlabel="layer", xlim=(layers[0] - 0.6, layers[-1] + 0.6))
        title = name.replace(" for ", "\nfor ").replace("-non-", "-\nnon-")
        axes.set_title(
            f"{'e  ' if number == 0 else ''}{title}", fontsize=9, fontweight="bold" if number == 0 else "normal"
        )
    panels[0].set_ylabel("exponent of the change")


def _width_ticks(axes: Axes, widths: Any) -> None:
    axes.set_xticks(widths, [str(width) for width in widths])
    axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)


def draw_overview(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """All panels in one figure."""
    rows = figure.subfigures(5, 1, height_ratios=(1.0, 0.95, 0.95, 0.95, 0.9))
    for row, draw in zip(rows, (draw_depths, draw_curves, draw_hybrid, draw_layers, draw_checks), strict=True):
        draw(measurements, row, theme)
