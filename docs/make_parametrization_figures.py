"""Draw the figure of docs/parametrization.md: ``python docs/make_parametrization_figures.py`` writes to docs/images."""

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
    run = wa.parametrization.compare(2, SAMPLE, SAMPLE, step=1.5, widths=widths, n_networks=48, seed=1)
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


if __name__ == "__main__":
    for name, draw in (("first-step", draw_first_step), ("first-step-widths", draw_widths)):
        (IMAGES / f"{name}.svg").write_bytes(render(draw, size=(8.5, 3.2)))
