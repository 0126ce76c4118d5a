"""The figures of the propagation papers. Each draws on an empty figure or subfigure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from wideangle.papers.propagation_claims import angle_text
from wideangle.reports.figures import label_line_ends

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

    from wideangle.papers.propagation import Measurements
    from wideangle.reports import Theme

LABELS = {
    "simulation": "Monte Carlo",
    "infinite-width": "infinite width",
    "finite-width-linear": "Approximation 1",
    "finite-width": "Theorem 1",
    "small-angle": "small-angle law",
    "exact": "exact law",
}
DENSITY_LABELS = {
    "finite-width-linear": "Approximation 2",
    "finite-width": "Theorem 1",
    "small-angle": "small-angle law",
}
BOUNDED = ("finite-width-linear", "finite-width")  # Whose standard deviation panel (a) shows.
X = r"$\ln\,\sin^2\theta"
MARKED_ARCHITECTURES = ("15x30", "50x50")


def draw_angles(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """Panel (a): mean and standard deviation by layer, and the errors of the predicted means, also at tiny angles."""
    axes = figure.subplot_mosaic([["mean", "mean"], ["error", "small"]], height_ratios=(1.9, 1.0))
    angles, grey = measurements.angles, theme.methods["simulation"]
    layer, mean = angles["layer"].values, angles["ensemble_mean"].values
    sd = np.sqrt(angles["ensemble_variance"].values)
    upper = axes["mean"]
    upper.fill_between(layer, mean - sd, mean + sd, color=grey, alpha=0.22, linewidth=0)
    upper.plot(layer, mean, "o", color=grey, markersize=3.2)
    ends = [(mean[-1], "Monte Carlo ± sd", grey)]
    for method in angles["predictor"].values.tolist():
        predicted, line = angles.sel(predictor=method), theme.line(method)
        upper.plot(layer, predicted["log_sin2"], **line)
        ends.append((predicted["log_sin2"][-1].item(), LABELS[method], line["color"]))
        if method in BOUNDED:
            for sign in (-1, 1):
                edge = predicted["log_sin2"] + sign * np.sqrt(predicted["variance"])
                upper.plot(layer, edge, **{**line, "linewidth": 0.9})
    upper.set_title(rf"a   Mean ± sd by layer, $\theta_0$ = {angle_text(angles.attrs['theta0'])}")
    upper.set_ylabel(rf"{X}_\ell$")
    upper.set_xlim(0, layer[-1])
    upper.set_xlabel(r"layer $\ell$")
    label_line_ends(upper, ends, x=layer[-1] * 1.015)
    for name, here in (("error", angles), ("small", measurements.small_angles)):
        draw_errors(axes[name], here, theme)
    axes["error"].set_ylabel("error of the mean")


def draw_errors(axes: Axes, angles: xr.Dataset, theme: Theme) -> None:
    """Draw predicted minus simulated means with a band of five standard errors."""
    layer, mean = angles["layer"].values, angles["ensemble_mean"].values
    grey, error = theme.methods["simulation"], 5.0 * angles["ensemble_mean_standard_error"].values
    axes.fill_between(layer, -error, error, color=grey, alpha=0.35, linewidth=0)
    for method in angles["predictor"].values.tolist():
        axes.plot(layer, angles["log_sin2"].sel(predictor=method) - mean, **theme.line(method))
    axes.set_title(rf"Errors, $\theta_0$ = {angle_text(angles.attrs['theta0'])}", fontweight="normal")
    axes.set_xlim(0, layer[-1])
    axes.set_ylim(-0.08, 0.32)
    axes.set_xlabel(r"layer $\ell$")


def draw_densities(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """Panel (b): predicted densities over histograms."""
    n_panels = measurements.histograms.sizes["panel"]
    for number, axes in enumerate(figure.subplots(1, n_panels)):
        panel = measurements.histograms.isel(panel=number)
        layer, theta0 = int(panel["layer"]), panel["theta0"].item()
        left, right = panel["bin_left"].values, panel["bin_right"].values
        heights = panel["count"].values / (panel["n_samples"].item() * (right - left))
        axes.stairs(heights, [*left, right[-1]], fill=True, color=theme.methods["simulation"], alpha=0.3)
        for method in panel["predictor"].values.tolist():
            distance = panel["ks_statistic"].sel(predictor=method).item()
            if math.isnan(distance):
                continue
            density = measurements.densities[theta0, method]["density"].sel(layer=layer)
            density = density.sel(log_sin2=slice(left[0], right[-1]))
            label = f"{DENSITY_LABELS[method]}, D = {distance:.3f}"
            axes.plot(density["log_sin2"], density, **theme.line(method), label=label)
        axes.set_xlim(left[0], right[-1])
        axes.set_ylim(0, 1.32 * heights.max())
        axes.set_xlabel(rf"{X}_{{{layer}}}$")
        axes.set_title(rf"{'b   ' if number == 0 else ''}Layer {layer}, $\theta_0$ = {angle_text(theta0)}")
        axes.legend(loc="upper center", handlelength=1.8, borderaxespad=0.2)
        axes.locator_params(axis="x", nbins=4)
        if number == 0:
            axes.set_ylabel("probability density")


def draw_training(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """Panel (c): accuracy after training against both predictions."""
    training = measurements.training
    accuracy, spread = training["accuracy"].mean("run"), training["accuracy"].std("run", ddof=1, skipna=True)
    predictors = training["predictor"].values
    for index, (axes, predictor) in enumerate(zip(figure.subplots(1, 2, sharey=True), predictors, strict=True)):
        here = training.sel(predictor=predictor)
        colour = theme.methods[str(predictor)]
        if training.sizes["run"] > 1:
            axes.errorbar(here["log_sin2"], accuracy, spread, fmt="none", ecolor=colour, alpha=0.45, linewidth=0.9)
        axes.plot(here["log_sin2"], accuracy, "o", color=colour, markersize=4.5, alpha=0.85, markeredgewidth=0)
        for name in MARKED_ARCHITECTURES:
            if name in training["architecture"].values:
                at = (here["log_sin2"].sel(architecture=name).item(), accuracy.sel(architecture=name).item())
                axes.annotate(name, at, (5, -9), textcoords="offset points", color=theme.muted, fontsize=7.5)
        rho, low, high = (here[name].item() for name in ("spearman", "spearman_low", "spearman_high"))
        text = rf"Spearman $\rho$ = {rho:.2f} [{low:.2f}, {high:.2f}]"
        axes.text(0.03, 0.98, text, transform=axes.transAxes, va="top")
        axes.set_ylim(0.0, 1.12)
        axes.set_title(f"{'c   ' if index == 0 else ''}{str(predictor).replace('-', ' ').capitalize()}")
        axes.set_xlabel(rf"predicted {X}_L$")
        if index == 0:
            axes.set_ylabel(f"test accuracy ({training.attrs['data']})")


def draw_many_inputs(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """Panel (d): ln det and effective rank of the Gram matrix of many inputs."""
    gram = measurements.many_inputs
    layer, grey = gram["layer"].values, theme.methods["simulation"]
    names = {"log_determinant": "ln det Q", "effective_rank": "effective rank"}
    for number, (axes, (name, label)) in enumerate(zip(figure.subplots(1, 2), names.items(), strict=True)):
        axes.plot(layer, gram[name], **theme.line("infinite-width"))
        ends = [(gram[name][-1].item(), "infinite", theme.methods["infinite-width"])]
        for width, alpha in zip(gram["width"].values, (0.15, 0.3), strict=True):
            mean = gram[f"{name}_mean"].sel(width=width).values
            sd = np.sqrt(gram[f"{name}_variance"].sel(width=width).values)
            axes.fill_between(layer, mean - sd, mean + sd, color=grey, alpha=alpha, linewidth=0)
            axes.plot(layer, mean, "o", color=grey, markersize=2.8, alpha=2.0 * alpha + 0.3)
            ends.append((mean[-1], f"width {width}", grey))
        axes.set_xlim(0, layer[-1])
        axes.set_xlabel(r"layer $\ell$")
        axes.set_title(f"{'d   ' if number == 0 else ''}{gram.attrs['n_inputs']} inputs: {label}")
        if name == "effective_rank":
            axes.set_yscale("log")
            axes.set_yticks([1, 2, 4, 8], ["1", "2", "4", "8"], minor=False)
            axes.minorticks_off()
        else:
            label_line_ends(axes, ends, x=layer[-1] * 1.015)


def draw_overview(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """All panels in one picture."""
    left, right = figure.subfigures(1, 2, width_ratios=(1.0, 1.35), wspace=0.03)
    upper, lower = left.subfigures(2, 1, height_ratios=(1.9, 1.0), hspace=0.03)
    draw_angles(measurements, upper, theme)
    draw_many_inputs(measurements, lower, theme)
    upper, lower = right.subfigures(2, 1, hspace=0.03)
    draw_densities(measurements, upper, theme)
    draw_training(measurements, lower, theme)
