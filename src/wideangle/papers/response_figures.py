"""The figures of the reproduction of arXiv 2405.04074 and 2204.07291. Each draws on an empty figure or subfigure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from wideangle.papers.response_feature_claims import rate
from wideangle.papers.response_features import LOSSES, RADIUS
from wideangle.papers.response_models import MODELLED
from wideangle.papers.response_panels import (
    ACTIVATIONS,
    DESCENT,
    METHODS,
    NOISE,
    NOISY,
    SINGLE,
    STAGES,
    Case,
    points,
    samples,
)

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

    from wideangle.papers.response import Measurements
    from wideangle.reports import Theme

SERIES = ("finite-width", "infinite-width", "finite-width-linear", "small-angle", "expansion")
STYLES = dict(zip(METHODS, ("exact", "finite-width", "infinite-width", "small-angle"), strict=True))
GUIDE = (0, (4, 2))  # Dashes of what there is to compare with.
DOTS: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 3.2, "markerfacecolor": "none"}  # Derived.
SAMPLE = 4  # Whose response is drawn.
TITLES = {
    "kinks": "Distinct kinks",
    "active_units": "Active units",
    "effective_rank": "Effective rank",
    "participation_ratio": "Participation ratio",
    "distinct_units": "Distinct units",
    "worst_change": "worst change",
    "relative_worst_change": "worst, relative",
    "flip_fraction": "flips by inputs",
    "contradiction_mean": "contradiction",
    "contradiction_flips": "flips by contradiction",
}


def draw_kernels(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """Panel (a): shapes of responses to one sample, by activation and stage."""
    kernels = measurements.kernels.isel(train=SAMPLE)
    grid = figure.subplots(2, len(ACTIVATIONS), sharex=True)
    x = points()[:, 0]
    for column, activation in enumerate(ACTIVATIONS):
        for row, (name, title) in enumerate((("kernel", "K(x', x)"), ("shape", "K(x', x)/K(x, x)"))):
            axes = grid[row][column]
            for stage, style in zip(STAGES, SERIES, strict=False):
                axes.plot(x, kernels[name].sel(activation=activation, stage=stage), **theme.line(style), label=stage)
            axes.axvline(samples()[0][SAMPLE, 0], color=theme.muted, linewidth=0.9, linestyle=GUIDE)
            if column == 0:
                axes.set_ylabel(title)
            if row == 0:
                if activation == "relu":
                    axes.set_yscale("log")
                    _plain_ticks(axes)
                first = column == 0
                axes.set_title(f"a   {activation}" if first else activation, fontweight="bold" if first else "normal")
            else:
                axes.set_xlabel("x'")
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3)


def _plain_ticks(axes: Axes) -> None:
    """Label a logarithmic axis over few decades with plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100.0 * low else (1.0,)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def draw_aging(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """Panel (b): mean responses over time by loss, method and activation, beside constant kernels."""
    panels = figure.subplots(1, len(NOISE) + 1)
    for number, (axes, loss) in enumerate(zip(panels, NOISE, strict=False)):
        for method in (DESCENT, SINGLE, NOISY):
            _draw_curves(axes, theme, measurements, Case(loss, method, "relu"), STYLES[method], method)
        name = f"{loss}, relu"
        axes.set_title(f"b   {name}" if number == 0 else name, fontweight="bold" if number == 0 else "normal")
    panels[0].set_ylabel("response")
    handles, labels = panels[1].get_legend_handles_labels()
    last = panels[-1]
    for activation, style in zip(ACTIVATIONS[1:], SERIES, strict=False):
        _draw_curves(last, theme, measurements, Case("cross-entropy", DESCENT, activation), style, activation)
    last.set_title("other activations", fontweight="normal")
    last.legend(loc="lower left")
    guides = [panels[0].plot([], [], color=theme.muted, **style)[0] for style in ({"linestyle": GUIDE}, DOTS)]
    for axes in panels:
        axes.set_xlabel("time")
        drawn = np.concatenate([line.get_ydata() for line in axes.lines if line.get_linestyle() == "-"])
        axes.set_ylim(np.nanmin(drawn) / 3.0, np.nanmax(drawn) * 2.0)
        _plain_ticks(axes)
    figure.legend(
        [*handles, *guides],
        [*labels, "constant kernel", "the same, derived"],
        loc="outside lower center",
        ncols=5,
    )


def _draw_curves(axes: Axes, theme: Theme, measurements: Measurements, case: Case, style: str, label: str) -> None:
    here = measurements.aging.sel(case=case.name).isel(time=slice(1, None))
    colour = theme.methods[style]
    mean = here["response"].mean("network")
    axes.loglog(here["time"], mean.where(mean > 0.0), color=colour, linewidth=1.6, label=label)
    predictions = measurements.predictions
    if case.method == DESCENT:
        # Of the networks for which there is a prediction.
        constant = here["constant_kernel"].sel(network=predictions["network"]).mean("network")
        derived = predictions["response"].sel(case=case.name).mean("network").isel(time=slice(1, None, 3))
        axes.loglog(derived["time"], derived.where(derived > 0.0), color=colour, **DOTS)
    else:
        # Where single samples make a constant kernel unstable the mean is that of what diverges.
        constant = here["constant_kernel"].median("network")
    axes.loglog(here["time"], constant.where(constant > 0.0), color=colour, linewidth=1.0, linestyle=GUIDE)


def draw_factors(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """Panel (c): factors of the response over time, relative to their start."""
    aging = measurements.aging
    cases = (
        Case("cross-entropy", DESCENT, "relu"),
        Case("cross-entropy", DESCENT, "tanh"),
        Case("cross-entropy", NOISY, "relu"),
        Case("squared", NOISY, "relu"),
    )
    names = {"response": "response", "loss_derivative": "loss derivative", "readout_part": "readout part"}
    names["hidden_part"] = "hidden part"
    panels = figure.subplots(1, len(cases), sharey=True)
    for number, (axes, case) in enumerate(zip(panels, cases, strict=True)):
        here = aging.sel(case=case.name).mean("network")
        for (name, label), style in zip(names.items(), ("exact", *SERIES), strict=False):
            values = here[name] / here[name].isel(time=0)
            axes.loglog(here["time"].values[1:], values[1:], **theme.line(style), label=label)
            if name == "loss_derivative" and case.method == DESCENT:
                derived = measurements.predictions["force"].sel(case=case.name).mean("network")
                kept = (derived / derived.isel(time=0)).isel(time=slice(1, None, 3))
                axes.loglog(kept["time"], kept, color=theme.methods[style], **DOTS, label="derived, constant kernel")
        title = f"{case.loss}\n{case.method}, {case.activation}"
        axes.set_title(f"c   {title}" if number == 0 else title, fontweight="bold" if number == 0 else "normal")
        axes.set_xlabel("time")
    panels[0].set_ylabel("relative to the start")
    panels[0].set_ylim(bottom=1e-3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)


def draw_features(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """Panel (d): sizes of the space of features at the same time, by learning rate and method, and imbalances."""
    last = measurements.features.isel(time=-1)
    names = ("kinks", "active_units", "effective_rank", "participation_ratio")
    grid = figure.subplots(len(LOSSES), len(names) + 1, sharex="col")
    for row, (line, loss) in enumerate(zip(grid, LOSSES, strict=True)):
        for column, (axes, name) in enumerate(zip(line, names, strict=False)):
            for method in METHODS:
                values = last[name].sel(loss_name=loss, training=method)
                _draw_with_errors(axes, values, theme, STYLES[method], method)
            start = measurements.features[name].sel(loss_name=loss).isel(time=0).mean().item()
            axes.axhline(start, color=theme.muted, linewidth=0.9, linestyle=GUIDE, label="before training")
            if row == 0:
                first = column == 0
                title = TITLES[name]
                axes.set_title(f"d   {title}" if first else title, fontweight="bold" if first else "normal")
            else:
                axes.set_xlabel("learning rate")
            rates = last["learning_rate"].values
            axes.set_xscale("log")
            axes.set_xticks(rates, [f"{each:g}" for each in rates], fontsize=7.5)
            axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        line[0].set_ylabel(loss)
        _draw_balance(line[-1], measurements.balance.sel(loss_name=loss), theme)
    grid[0][-1].set_title("Imbalance of units", fontweight="normal")
    grid[-1][-1].set_xlabel("time")
    handles, labels = grid[0][0].get_legend_handles_labels()
    derived = grid[0][-1].plot([], [], color=theme.muted, **DOTS)
    figure.legend([*handles, *derived], [*labels, "derived"], loc="outside lower center", ncols=6)


def _draw_balance(axes: Axes, balance: xr.Dataset, theme: Theme) -> None:
    """Draw imbalances over time, and what is derived of them."""
    for method in balance["training"].values.tolist():
        here = balance.sel(training=method).mean("network").isel(time=slice(1, None))
        axes.semilogx(here["time"], here["imbalance"], **theme.line(STYLES[method]))
        some = here.isel(time=slice(0, None, 2))
        axes.semilogx(some["time"], some["derived"], color=theme.methods[STYLES[method]], **DOTS)


def _draw_with_errors(axes: Axes, values: xr.DataArray, theme: Theme, style: str, label: str) -> None:
    """Draw means over networks against the learning rate, with bands of one standard error."""
    mean = values.mean("network")
    error = values.std("network", ddof=1) / np.sqrt(values.count("network"))
    axes.plot(mean["learning_rate"], mean, **theme.line(style), marker="o", markersize=3, label=label)
    axes.fill_between(
        mean["learning_rate"], mean - error, mean + error, color=theme.methods[style], alpha=0.2, linewidth=0
    )


def draw_fragility(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """Panel (e): fragility of networks against their effective rank, and rank correlations."""
    panels = figure.subplots(1, 4, width_ratios=(1.0, 1.0, 1.25, 1.25))
    last = measurements.features.isel(time=-1).sel(loss_name="squared", learning_rate=rate(measurements))
    labels = {"relative_worst_change": "worst change over outputs", "contradiction_mean": "change by a contradiction"}
    for axes, (name, label) in zip(panels, labels.items(), strict=False):
        for method in METHODS:
            here = last.sel(training=method)
            axes.plot(
                here["effective_rank"],
                here[name],
                "o",
                color=theme.methods[STYLES[method]],
                markersize=2.2,
                alpha=0.6,
                label=method,
            )
        axes.set(xlabel="effective rank", ylabel=label)
    panels[0].set_title(f"e   Squared loss, radius {RADIUS:g}")
    handles, names = panels[0].get_legend_handles_labels()
    for axes, loss in zip(panels[2:], LOSSES, strict=True):
        _draw_correlations(axes, measurements.relations.sel(loss_name=loss, pool="all"), theme)
        axes.set_title(f"{loss}, all", fontweight="normal")
    panels[3].tick_params(axis="y", labelleft=False)
    figure.legend(handles, names, loc="outside lower left", ncols=2, markerscale=2.0)
    figure.legend(*panels[2].get_legend_handles_labels(), loc="outside lower right", ncols=2)


def _draw_correlations(axes: Axes, relations: xr.Dataset, theme: Theme) -> None:
    """Draw rank correlations with their intervals, in groups for each measure of fragility."""
    sizes = relations["feature_measure"].values.tolist()
    fragile = relations["fragility_measure"].values.tolist()
    place, ticks = 0.0, []
    for name in fragile:
        ticks.append(place + 0.5 * (len(sizes) - 1))
        for size, style in zip(sizes, SERIES, strict=False):
            at = relations.sel(feature_measure=size, fragility_measure=name)
            found, low, high = (at[each].item() for each in ("correlation", "low", "high"))
            colour = theme.methods[style]
            axes.plot([low, high], [place, place], color=colour, linewidth=1.6)
            axes.plot(
                [found], [place], "o", color=colour, markersize=4, label=TITLES[size] if name == fragile[0] else None
            )
            place += 1.0
        place += 1.0
    axes.axvline(0.0, color=theme.muted, linewidth=0.9)
    axes.set(xlim=(-1.0, 1.0), xlabel="rank correlation")
    axes.set_yticks(ticks, [TITLES.get(name, name.replace("_", " ")) for name in fragile])
    axes.set_ylim(place - 1.0, -1.0)


def draw_images(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """Panel (f): small networks on images."""
    images = measurements.images
    panels = figure.subplots(1, 4)
    left, kernel, simple, sizes = panels
    for method in images["training"].values.tolist():
        here = images.sel(training=method)
        line = theme.line(STYLES[method])
        time = here["time"].values
        left.loglog(time[1:], here["response"].mean("run")[1:], **line, label=f"{method}: response")
        left.loglog(
            time[1:],
            here["loss_derivative"].mean("run")[1:],
            color=theme.methods[STYLES[method]],
            linewidth=1.2,
            linestyle=GUIDE,
            label=f"{method}: loss derivative",
        )
        kernel.semilogx(time[1:], here["kernel"].mean("run")[1:], **line)
        simple.semilogx(time[1:], here["similarity"].mean("run")[1:], **line)
        simple.semilogx(
            time[1:],
            -here["fall"].mean("run")[1:],
            color=theme.methods[STYLES[method]],
            linewidth=1.2,
            linestyle=GUIDE,
        )
    names = ("participation_ratio", "effective_rank", "active_units")
    methods = images["training"].values.tolist()
    for place, name in enumerate(names):
        for number, method in enumerate(methods):
            values = images[name].sel(training=method).values
            sizes.plot(
                np.full(len(values), place + 0.25 * number - 0.125),
                values,
                "o",
                color=theme.methods[STYLES[method]],
                markersize=3.5,
                alpha=0.7,
            )
    sizes.set_ylim(bottom=0.0)
    sizes.set_xticks(range(len(names)), [TITLES[name].replace(" ", "\n") for name in names])
    for axes, title in zip(panels, ("f   Response", "K(x, x)", "Form of the kernel", "Hidden features"), strict=True):
        axes.set_title(title, fontweight="bold" if axes is left else "normal")
        if axes is not sizes:
            axes.set_xlabel("time")
    simple.set_ylim(-0.05, 1.05)
    simple.set_ylabel("cosine, fall (dashed)")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)


def draw_model(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """Panel (g): outputs of networks and of the mean-field model, errors, domains and plasticity."""
    model, aging = measurements.model, measurements.aging
    outputs, errors, domains, plasticity, relearning = figure.subplots(1, 5)
    here = model.sel(activation=MODELLED[-1]).isel(time=-1)
    outputs.plot(here["point_x"], here["network_outputs"], **theme.line("exact"), label="network")
    outputs.plot(here["point_x"], here["outputs"], **theme.line("infinite-width"), label="mean-field model")
    x, y = samples()
    outputs.plot(x[:, 0], y, "o", color=theme.muted, markersize=3.5)
    outputs.axhline(0.0, color=theme.muted, linewidth=0.7)
    outputs.set_title(f"g   Outputs, {MODELLED[-1]}")
    outputs.set_xlabel("x")
    for activation, style in zip(MODELLED, SERIES, strict=False):
        found = model.sel(activation=activation)
        time, colour = found["time"].values[1:], theme.methods[style]
        errors.loglog(time, found["error"].mean("network")[1:], color=colour, linewidth=1.6, label=activation)
        errors.loglog(time, found["constant_error"].mean("network")[1:], color=colour, linewidth=1.0, linestyle=GUIDE)
        domains.semilogx(time, found["network_domains"].mean("network")[1:], color=colour, linewidth=1.6)
        domains.semilogx(time, found["n_domains"].mean("network")[1:], color=colour, linewidth=1.0, linestyle=GUIDE)
    errors.set_title("Error of the model", fontweight="normal")
    errors.legend(loc="upper left")
    domains.axhline(model["label_domains"].max().item(), color=theme.muted, linewidth=0.9)
    domains.set_title("Domains", fontweight="normal")
    domains.set_ylim(bottom=0.0)
    for case, style in zip(
        (
            Case("cross-entropy", DESCENT, "relu"),
            Case("cross-entropy", DESCENT, "tanh"),
            Case("cross-entropy", DESCENT, "sigmoid"),
            Case("cross-entropy", NOISY, "relu"),
        ),
        SERIES,
        strict=False,
    ):
        values = aging["contradiction"].sel(case=case.name).mean("network")
        label = case.activation if case.method == DESCENT else case.method
        plasticity.loglog(aging["time"][1:], (values / values[0])[1:], **theme.line(style), label=label)
    plasticity.axhline(1.0, color=theme.muted, linewidth=0.7)
    plasticity.set_title("Plasticity", fontweight="normal")
    plasticity.legend(loc="upper left", fontsize=7.5)
    _draw_relearning(relearning, measurements.relearning, theme)
    for axes in (errors, domains, plasticity, relearning):
        axes.set_xlabel("time")
    _plain_ticks(plasticity)
    figure.legend(*outputs.get_legend_handles_labels(), loc="outside lower left", ncols=2)


def _draw_relearning(axes: Axes, relearning: xr.Dataset, theme: Theme) -> None:
    """Draw geometric means of the times that networks take to learn other labels, over those of untrained ones."""
    time = relearning["stage_time"].values
    ratio = relearning["relearning_time"] / relearning["relearning_time"].isel(stage=0)
    slower = np.exp(np.log(ratio).mean("network"))
    for name, style in zip(relearning["case"].values.tolist(), (SERIES[0], SERIES[1], SERIES[3]), strict=True):
        for labels, dashes in zip(relearning["labels"].values.tolist(), ("-", GUIDE), strict=True):
            values = slower.sel(case=name, labels=labels)[1:]
            look = {"color": theme.methods[style], "linestyle": dashes, "linewidth": 1.4}
            axes.loglog(time[1:], values, **look, marker="o", markersize=3)
    axes.axhline(1.0, color=theme.muted, linewidth=0.7)
    axes.set_title("Time to relearn", fontweight="normal")
    _plain_ticks(axes)


def draw_overview(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """All panels in one figure."""
    drawn = (
        (draw_kernels, 1.35),
        (draw_aging, 1.0),
        (draw_factors, 1.05),
        (draw_features, 1.35),
        (draw_fragility, 1.1),
        (draw_images, 1.0),
        (draw_model, 0.95),
    )
    rows = figure.subfigures(len(drawn), 1, height_ratios=[height for _, height in drawn])
    for row, (draw, _) in zip(rows, drawn, strict=True):
        draw(measurements, row, theme)
