"""The figures of the reproduction of arXiv 1809.06848. Each draws on an empty figure or subfigure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from wideangle.papers._verdicts import root_mean_square, standard_error, width_exponent
from wideangle.papers.dynamics_claims import expected_accuracy
from wideangle.reports.figures import label_line_ends

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

    from wideangle.papers.dynamics import Measurements
    from wideangle.reports import Theme

# Lines that stand for frequencies or fractions, told apart as the methods are elsewhere.
SERIES = ("infinite-width", "finite-width-linear", "finite-width", "small-angle", "exact")
LOSS_STYLES = {"cross-entropy": "finite-width", "hinge": "infinite-width"}
SCALING_STYLES = {"kernel": "infinite-width", "mean-field": "finite-width"}
KIND_STYLES = {"clean": "finite-width", "patched": "finite-width-linear", "reversed": "infinite-width"}
KIND_LABELS = {"clean": "clean", "patched": "with the patch", "reversed": "with the wrong patch"}


def draw_parallel(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """Panel (a): accuracy on each feature, error on all, and the error of gradient descent by step."""
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.5, 1.1, 0.9))
    parallel, training = measurements.parallel, measurements.training
    time, frequency = parallel["time"].values[1:], parallel["frequency"].values
    simulated, predicted = (expected_accuracy(parallel[name].values[..., 1:]) for name in ("simulated", "predicted"))
    descent = expected_accuracy(training["trained"].isel(learning_rate=-1).values)
    for mode, name in enumerate(SERIES[: len(frequency)]):
        colour = theme.methods[name]
        low, high = simulated[:, mode].min(axis=0), simulated[:, mode].max(axis=0)
        left.fill_between(time, low, high, color=colour, alpha=0.22, linewidth=0)
        left.plot(time, predicted[0, mode], color=colour, linewidth=1.5, label=f"p = {frequency[mode]:.2f}")
        left.plot(training["time"][::3], descent[mode, ::3], "o", color=colour, markersize=3.0)
    left.set(xscale="log", xlim=(1.0, time[-1]), ylim=(0.48, 1.02), xlabel="time", ylabel="expected accuracy")
    left.set_title("a   Features in parallel")
    left.legend(loc="lower right", handlelength=1.4)

    grey = theme.methods["simulation"]
    errors = 1.0 - np.einsum("k,nkt->nt", frequency, simulated)
    middle.fill_between(time, errors.min(axis=0), errors.max(axis=0), color=grey, alpha=0.3, linewidth=0)
    middle.plot(time, 1.0 - frequency @ predicted[0], **theme.line("exact"))
    middle.plot(training["time"][::3], 1.0 - (frequency @ descent)[::3], "o", color=grey, markersize=3.0)
    middle.set(xscale="log", xlim=(1.0, time[-1]), xlabel="time", ylabel="expected error")
    middle.set_title("Error on all", fontweight="normal")

    rates, deviations = training["learning_rate"].values, training["training_error"].values
    right.loglog(rates, deviations, "o", color=theme.methods["finite-width"], markersize=4.5)
    right.loglog(rates, deviations[-1] * rates / rates[-1], color=theme.muted, linewidth=0.9)
    right.set(xlabel="learning rate", ylabel="largest relative error")
    right.set_xticks(rates, [f"{rate:g}" for rate in rates])
    right.set_yticks(deviations, [f"{deviation:.2g}" for deviation in deviations])
    right.minorticks_off()
    right.set_title(f"PyTorch, order {training['order'].item():.3f}", fontweight="normal")


def draw_phases(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """Panel (b): fates and times to margin 1 by initial readout and projection, for both losses."""
    from matplotlib.colors import LogNorm

    phases = measurements.phases
    panels = figure.subplots(1, 2, sharey=True)
    norm = LogNorm(0.1, 20.0)
    for number, (axes, loss) in enumerate(zip(panels, phases["loss"].values.tolist(), strict=True)):
        here = phases.sel(loss=loss)
        image = draw_fates(axes, here, theme, norm)
        axes.set_title(f"{'b   ' if number == 0 else ''}{loss.capitalize()}")
        axes.set_xlabel("initial projection u")
        if number == 0:
            axes.set_ylabel("initial readout z")
    figure.colorbar(image, ax=list(panels), label="time to margin 1", extend="both", aspect=25, pad=0.01)


def draw_fates(axes: Axes, here: xr.Dataset, theme: Theme, norm: Any) -> Any:
    """Draw one phase diagram with its boundaries and return the image of the times."""
    from matplotlib.colors import to_rgba

    u, z, phase = (here[name].values for name in ("projection", "readout", "phase"))
    extent = (u[0], u[-1], z[0], z[-1])
    fates = np.zeros((*phase.shape, 4))
    fates[phase == 2] = to_rgba(theme.methods["infinite-width"], 0.3)
    fates[phase == 3] = to_rgba(theme.methods["simulation"], 0.18)
    times = np.where(here["convergence_time"] > 0.0, here["convergence_time"], np.nan)
    times[here["convergence_time"].values == 0.0] = norm.vmin / 2.0
    axes.imshow(fates, origin="lower", extent=extent, aspect="auto", interpolation="nearest")
    image = axes.imshow(
        times, origin="lower", extent=extent, aspect="auto", norm=norm, cmap="viridis", interpolation="nearest"
    )
    for line in here["boundary"]:
        axes.plot(u, line, color=theme.ink, linewidth=1.2)
    axes.plot(u, here["converged_boundary"], color="white", linewidth=1.0, linestyle=(0, (4, 2)))
    axes.axvline(0.0, color=theme.ink, linewidth=1.2)
    axes.set(xlim=extent[:2], ylim=extent[2:])
    axes.grid(False)
    for x, y, text, colour in (
        (0.6, 0.75, "learns", "white"),
        (1.45, -0.45, "rescued", "white"),
        (0.6, -1.5, "dies", theme.ink),
        (-1.0, 0.0, "stays inactive", theme.ink),
    ):
        axes.text(x, y, text, color=colour, ha="center", va="center", fontsize=9)
    return image


def draw_speed(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """Panel (c): time to margin 1 against frequency and against input norm."""
    speed = measurements.speed
    left, right = figure.subplots(1, 2, sharey=True)
    margins = speed.isel(case=speed["start"].values == "margins")
    draw_times(left, margins.isel(case=margins["input_norm"].values == 1.0), "frequency", theme, "finite-width", "")
    left.set(xlabel="frequency p", ylabel="time to margin 1")
    left.set_title("c   Speed by frequency")
    norms = margins.isel(case=margins["frequency"].values == 0.5)
    draw_times(right, norms, "input_norm", theme, "finite-width", "from given margins")
    weights = speed.isel(case=speed["start"].values == "weights")
    draw_times(right, weights, "input_norm", theme, "infinite-width", "from given weights")
    right.set(xlabel="input norm r")
    right.set_title("Speed by input norm", fontweight="normal")
    right.legend(loc="upper right")
    left.set_xticks([0.03, 0.1, 0.3], ["0.03", "0.1", "0.3"])
    right.set_xticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
    for axes in (left, right):
        axes.minorticks_off()


def draw_times(axes: Axes, cases: xr.Dataset, against: str, theme: Theme, style: str, label: str) -> None:
    """Draw simulated times, mean and range over networks, and the predicted mean."""
    order = np.argsort(cases[against].values)
    x, simulated, predicted = (cases[name].values[order] for name in (against, "simulated", "predicted"))
    mean = simulated.mean(axis=1)
    spread = np.abs(np.stack([simulated.min(axis=1), simulated.max(axis=1)]) - mean)
    colour = theme.methods[style]
    axes.errorbar(x, mean, spread, fmt="o", color=colour, markersize=4.0, elinewidth=0.8)
    axes.loglog(x, predicted.mean(axis=1), color=colour, linewidth=1.4, label=label)


def draw_losses(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """Panel (d): the margin under the hinge, which stops, and under cross-entropy, which does not."""
    losses = measurements.losses
    left, right = figure.subplots(1, 2)
    stop = float(losses["time"].values[np.argmax(losses["predicted"].sel(loss="hinge").values >= 1.0)])
    for loss in losses["loss"].values.tolist():
        here, line = losses.sel(loss=loss), theme.line(LOSS_STYLES[loss])
        early = here.sel(time=slice(0.0, 3.0 * stop))
        left.plot(early["time"], early["predicted"], **line, label=loss)
        shown = early.isel(time=slice(None, None, 5))
        left.plot(shown["time"], shown["simulated"], "o", color=line["color"], markersize=3.0)
        late = here.sel(time=slice(0.1, None))
        right.plot(late["time"], late["predicted"], **line)
        shown = late.sel(time=np.geomspace(0.1, late["time"].values[-1], 40), method="nearest")
        right.plot(shown["time"], shown["simulated"], "o", color=line["color"], markersize=3.0)
    left.plot([stop, stop], [0.0, 1.5], color=theme.muted, linewidth=0.8)  # Below the legend.
    left.text(stop * 1.03, 1.35, "t*", color=theme.ink)
    left.set(xlabel="time", ylabel="margin", xlim=(0.0, 3.0 * stop))
    left.set_title("d   Hinge and cross-entropy")
    left.legend(loc="upper left")
    right.set(xscale="log", xlabel="time")
    right.set_title("Up to 10¹²", fontweight="normal")


def draw_starvation(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """Panel (e): growth of the rarer feature against that of the other, and freezing under the hinge."""
    left, right = figure.subplots(1, 2)
    run = measurements.starvation
    growth = run["simulated"] / run["simulated"].isel(time=0)
    ends = []
    for name, fraction in zip(SERIES, run["fraction"].values.tolist(), strict=False):
        first, second = (growth.sel(fraction=fraction, mode=mode).values for mode in (0, 1))
        colour = theme.methods[name]
        left.loglog(first, first**fraction, color=colour, linewidth=1.4)
        shown = np.unique(np.searchsorted(first, np.geomspace(1.0, first[-1], 14)))
        left.loglog(first[shown], second[shown], "o", color=colour, markersize=3.2)
        ends.append((second[-1], f"λ = {fraction:g}", colour))
    left.set(xlabel="m₁ / m₁(0)", ylabel="m₂ / m₂(0)", xlim=(1.0, 2.0 * first[-1]), ylim=(0.5, 1e12))
    left.set_title("e   Starvation, up to t = 10¹²")
    for value, text, colour in ends:
        left.annotate(text, (first[-1], value), (6, 0), textcoords="offset points", va="center", color=colour)

    run = measurements.hinge
    end = run["time"].values[-1]
    for name, fraction in zip(SERIES, run["fraction"].values.tolist(), strict=False):
        colour = theme.methods[name]
        for loss in run["loss"].values.tolist():
            here = run.sel(loss=loss, fraction=fraction, mode=1)
            dash = "-" if loss == "hinge" else (0, (4, 1.5))
            label = loss if fraction == run["fraction"].values[0] else None
            right.loglog(
                here["time"][1:], here["simulated"][1:], color=colour, linestyle=dash, linewidth=1.3, label=label
            )
        frozen = run["frozen_margin"].sel(fraction=fraction).item()
        right.plot([run["saturation_time"].sel(fraction=fraction).item()], [frozen], "s", color=colour, markersize=4.5)
    right.set(xlabel="time", xlim=(1.0, end), ylim=(8e-4, 8.0), ylabel="m₂")
    right.set_title("From m(0) = 10⁻³, both losses", fontweight="normal")
    right.legend(loc="upper left", ncols=2)
    for handle in right.get_legend().legend_handles:
        handle.set_color(theme.ink)


def draw_patched(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """Panel (f): accuracy on clean images over time, and at equal training loss, by frequency of the patch."""
    patched = measurements.patched
    left, right = figure.subplots(1, 2)
    shares = patched["without"].values
    time = patched["time"].values
    ends = []
    for name, share in zip(SERIES, shares, strict=True):
        runs = patched["accuracy"].sel(image="clean", without=share).transpose("time", "run").values
        mean, error = runs.mean(axis=1), runs.std(axis=1, ddof=1) / np.sqrt(runs.shape[1])
        left.fill_between(time, mean - error, mean + error, color=theme.methods[name], alpha=0.25, linewidth=0)
        left.plot(time, mean, color=theme.methods[name], linewidth=1.4)
        ends.append((mean[-1], share_text(share), theme.methods[name]))
    left.set(xlabel="time", ylabel=f"accuracy, clean images ({patched.attrs['data']})", xlim=(0.0, time[-1]))
    left.set_ylim(0.45, 1.0)
    left.set_title("f   Training, by share without the patch")
    label_line_ends(left, ends, x=time[-1] * 1.02)

    position = np.arange(len(shares))
    for kind in patched["image"].values.tolist():
        runs = patched["equal_accuracy"].sel(image=kind).transpose("without", "run").values
        errors = [standard_error(row) for row in runs]
        style = theme.line(KIND_STYLES[kind])
        right.errorbar(
            position, runs.mean(axis=1), errors, marker="o", markersize=4.0, **style, label=KIND_LABELS[kind]
        )
    right.set_xticks(position, [share_text(share) for share in shares])
    right.set(xlabel="training images without the patch", ylim=(0.0, 1.05), ylabel="accuracy")
    right.set_title(f"At training loss {patched['equal_loss'].item():.2g}", fontweight="normal")
    right.legend(loc=(0.02, 0.38))


def share_text(share: float) -> str:
    """Return a share of images as text; with all of them it is the control."""
    return "control" if share == 1.0 else f"{100.0 * share:g} %"


def draw_particles(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """Panel (g): movement and change of the kernel against width, and particles in both scalings."""
    draw_scalings(measurements.particles, figure, theme, letter="g   ")


def draw_scalings(particles: xr.Dataset, figure: Any, theme: Theme, letter: str = "") -> None:
    """Draw the numbers of :func:`wideangle.papers.dynamics_particles.particles` by width, and what moved where."""
    left, *planes = figure.subplots(1, 3, width_ratios=(1.3, 1.0, 1.0))
    width = particles["width"].values
    ends = []
    for scaling, method in SCALING_STYLES.items():
        colour = theme.methods[method]
        for name, marker, dash, text in (("movement", "o", "-", "particles"), ("kernel_change", "s", "--", "kernel")):
            values = particles[name].sel(scaling=scaling)
            height, slope = root_mean_square(values).values, width_exponent(values)[0]
            left.loglog(width, height, marker, color=colour, markersize=4.0)
            middle = np.exp(np.log(height).mean() + slope * (np.log(width) - np.log(width).mean()))
            left.loglog(width, middle, dash, color=colour, linewidth=1.2)
            ends.append((middle[-1], f"{text}, slope {slope_text(slope)}", colour))
    left.set(xlabel="particles m", ylabel="relative change", xlim=(width[0] / 1.2, width[-1] * 1.2))
    left.set_xticks(width, [f"{m:g}" for m in width])
    left.minorticks_off()
    left.set_title(f"{letter}From kernel to features")
    for height, text, colour in ends:
        left.annotate(text, (width[-1] * 1.3, height), va="center", color=colour, annotation_clip=False, fontsize=8.5)
    planes[0].set_ylabel("w₂")
    for axes, scaling in zip(planes, SCALING_STYLES, strict=True):
        draw_plane(axes, particles.sel(scaling=scaling), theme)
        axes.set_title(
            f"{scaling.capitalize()} scaling", fontweight="normal", color=theme.methods[SCALING_STYLES[scaling]]
        )


def slope_text(slope: float) -> str:
    """Return a slope with two decimals and a proper minus sign; what rounds to zero has none."""
    return f"{slope:.2f}".replace("-0.00", "0.00").replace("-", "\N{MINUS SIGN}")


def draw_plane(axes: Axes, here: xr.Dataset, theme: Theme) -> None:
    """Draw weights w in the plane at the start and at the end, and the directions of the inputs."""
    start, end = here["shown"].sel(moment="start").values, here["shown"].sel(moment="end").values
    reach = 5.8
    for label, method in ((1.0, "finite-width-linear"), (-1.0, "small-angle")):
        colour = theme.methods[method]
        for direction in here["inputs"].values[here["labels"].values == label]:
            axes.plot(*np.outer(direction, [0.87 * reach, 0.99 * reach]), color=colour, linewidth=2.4)
        own = np.sign(end[:, -1]) == label
        paths = np.stack([start[own, :2], end[own, :2], np.full((own.sum(), 2), np.nan)], axis=1).reshape(-1, 2)
        axes.plot(*paths.T, color=theme.methods["simulation"], alpha=0.35, linewidth=0.6)
        axes.plot(*end[own, :2].T, "o", color=colour, markersize=2.2, markeredgewidth=0.0)
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xlabel="w₁", aspect="equal")
    axes.set_xticks([-4, 0, 4])
    axes.set_yticks([-4, 0, 4])


def draw_overview(measurements: Measurements, figure: Any, theme: Theme) -> None:
    """All panels in one picture."""
    rows = figure.subfigures(4, 1, hspace=0.04)
    upper = rows[0].subfigures(1, 2, width_ratios=(1.35, 1.0), wspace=0.03)
    middle = rows[1].subfigures(1, 2, wspace=0.03)
    lower = rows[2].subfigures(1, 2, wspace=0.03)
    draw_parallel(measurements, upper[0], theme)
    draw_phases(measurements, upper[1], theme)
    draw_speed(measurements, middle[0], theme)
    draw_losses(measurements, middle[1], theme)
    draw_starvation(measurements, lower[0], theme)
    draw_patched(measurements, lower[1], theme)
    draw_particles(measurements, rows[3], theme)
