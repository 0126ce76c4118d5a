"""Draw the figures of docs/parametrization.md; ``python docs/make_parametrization_figures.py`` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import wideangle as wa
from wideangle.reports import Theme, render

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMAGES = Path(__file__).parent / "images"
STYLES = ("infinite-width", "finite-width-linear", "finite-width", "small-angle")
SAMPLE = np.array([np.sqrt(2.0), 0.0])


def draw_first_step(figure: Figure, theme: Theme) -> None:
    """Output after the first step against its size, and against the angle to the training sample."""
    left, right = figure.subplots(1, 2)
    steps = np.linspace(-2.5, 2.5, 101)
    steps = steps[steps != 0.0]
    for n_hidden, style in zip((1, 2, 3, 4), STYLES, strict=True):
        outputs = [wa.parametrization.predict_first_step(n_hidden, SAMPLE, SAMPLE, step=s).output.item() for s in steps]
        left.plot(steps, outputs, label=f"L = {n_hidden}", **theme.line(style))
    left.set(title="ReLU, at the training sample", xlabel="step s", ylabel="output after the step", ylim=(-3.0, 3.0))
    left.legend()
    angles = np.linspace(0.0, np.pi, 61)
    points = np.sqrt(2.0) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for activation, style in zip(("relu", "gelu", "tanh"), STYLES, strict=False):
        first = wa.parametrization.predict_first_step(2, SAMPLE, points, step=1.0, activation=activation)
        right.plot(angles, first.output, label=activation, **theme.line(style))
    right.set(title="Two hidden layers, s = 1", xlabel="angle to the training sample")
    right.legend()


def draw_widths(figure: Figure, theme: Theme) -> None:
    """Networks of finite width: their distance from the prediction, and their mean."""
    left, right = figure.subplots(1, 2)
    widths = (125, 250, 500, 1000, 2000)
    run = wa.parametrization.compare(2, SAMPLE, SAMPLE, step=1.5, widths=widths, n_networks=1500, seed=1)
    for name, rate, label, style in (
        ("gap", "rate", "from the prediction", "finite-width"),
        ("hybrid_gap", "hybrid_rate", "between ip-llr and hp", "infinite-width"),
    ):
        error = run[f"{rate}_error"].item()
        colour = theme.methods[style]
        left.loglog(widths, run[name], "o-", color=colour, label=f"{label}: {run[rate]:.2f} ± {error:.2f}")
    left.set(title="Distance", xlabel="width m", ylabel="root mean square")
    left.set_xticks(widths, [str(width) for width in widths])
    left.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    left.legend(loc="lower left")
    roots = np.array(widths) ** -0.5
    for scaling, style, shift in (("ip-llr", "finite-width", 0.0), ("hp", "infinite-width", 1e-3)):
        output = run.output.sel(scaling=scaling)
        error = output.std("network", ddof=1) / np.sqrt(output.sizes["network"])
        right.errorbar(roots + shift, output.mean("network"), error, fmt="o", color=theme.methods[style], label=scaling)
    right.plot(0.0, run.predicted, "D", color=theme.methods["small-angle"], clip_on=False, label="predicted")
    right.set(title="Mean output after the step", xlabel=r"$m^{-1/2}$", xlim=(0.0, None))
    right.legend()


def draw_several_steps(figure: Figure, theme: Theme) -> None:
    """Output over the steps at several widths and in the limit, and their distance."""
    left, right = figure.subplots(1, 2)
    x0, y0 = [[1.0, 1.0], [1.0, -1.0], [-1.0, 0.5]], [1.0, -1.0, 1.0]
    widths = (128, 256, 512, 1024, 2048, 4096)
    run = wa.parametrization.compare_training(
        *(3, x0, y0),
        n_steps=10,
        first_learning_rate=3.0,
        learning_rate=0.6,
        widths=widths,
        n_networks=200,
        seed=1,
    )
    shown = run.output.sel(scaling="ip-llr").isel(input=0)
    for width, style in zip((128, 512, 4096), ("small-angle", "finite-width-linear", "finite-width"), strict=True):
        values = shown.sel(width=width)
        middle, spread = values.mean("network"), values.std("network", ddof=1)
        left.plot(run.step, middle, label=f"m = {width}", **theme.line(style))
        left.fill_between(run.step, middle - spread, middle + spread, color=theme.methods[style], alpha=0.15, lw=0)
    limit, error = run.limit.isel(input=0), run.limit_error.isel(input=0)
    left.errorbar(run.step, limit, 5.0 * error, fmt="o", ms=4, color=theme.methods["infinite-width"], label="limit")
    left.axhline(1.0, color=theme.muted, linewidth=0.8)
    left.set(title="Output at the first sample, target 1", xlabel="steps")
    left.legend(loc="lower right")
    for step, style in zip((1, 3, 10), STYLES, strict=False):
        right.loglog(widths, run.gap.sel(step=step), "o", color=theme.methods[style], label=f"step {step}")
        through = run.gap.sel(step=step, width=widths[-1]).item()
        right.loglog(widths, through * np.sqrt(widths[-1] / np.array(widths)), **theme.line(style))
    right.set(title="Distance, and lines of slope -1/2", xlabel="width m", ylabel="root mean square")
    right.set_xticks(widths, [str(width) for width in widths])
    sizes = (0.02, 0.05, 0.1, 0.2)
    right.set_yticks(sizes, [str(size) for size in sizes])
    right.tick_params(which="minor", bottom=False, labelbottom=False, left=False, labelleft=False)
    right.legend()


FIGURES = {"first-step": draw_first_step, "several-steps": draw_several_steps, "first-step-widths": draw_widths}

if __name__ == "__main__":
    for name, draw in FIGURES.items():
        (IMAGES / f"{name}.svg").write_bytes(render(draw, size=(8.5, 3.2)))
