"""Draw the figures of docs/dynamics.md: ``python docs/make_dynamics_figures.py`` writes SVG files to docs/images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import wideangle as wa
from wideangle.papers.dynamics_figures import draw_fates, draw_scalings
from wideangle.papers.dynamics_particles import particles
from wideangle.reports import Theme, render

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMAGES = Path(__file__).parent / "images"
STYLES = ("infinite-width", "finite-width-linear", "finite-width", "small-angle")


def draw_learning(figure: Figure, theme: Theme) -> None:
    """One mode: margin over time for four losses, and for cross-entropy at four depths."""
    left, right = figure.subplots(1, 2)
    time = np.linspace(0.0, 14.0, 300)
    for loss, style in zip(("cross-entropy", "hinge", "squared", "exponential"), STYLES, strict=True):
        left.plot(time, wa.dynamics.predict_margin(time, 1e-3, loss=loss), label=loss, **theme.line(style))
    left.set(title="From margin 0.001, depth 2", xlabel="time", ylabel="margin", ylim=(0.0, 3.0))
    left.legend()
    margin0 = np.geomspace(1e-6, 0.5, 200)
    for depth, style in zip((1, 2, 3, 4), STYLES, strict=True):
        times = wa.dynamics.predict_learning_time(1.0, margin0, depth=depth)
        right.loglog(margin0, times, label=f"depth {depth}", **theme.line(style))
    right.set(title="Time to margin 1, cross-entropy", xlabel="initial margin", ylabel="time", ylim=(0.8, 1e5))
    right.legend()


def draw_phases(figure: Figure, theme: Theme) -> None:
    """Phase diagram of neurons that learn a class, for two frequencies."""
    from matplotlib.colors import LogNorm

    grid = np.linspace(-2.0, 2.0, 200)
    norm = LogNorm(0.1, 50.0)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, frequency in zip(panels, (1.0, 0.2), strict=True):
        diagram = wa.dynamics.phase_diagram(grid, grid, frequency=frequency)
        image = draw_fates(axes, diagram, theme, norm)
        axes.set(title=f"p = {frequency:g}", xlabel="initial projection u")
    panels[0].set_ylabel("initial readout z")
    figure.colorbar(image, ax=list(panels), label="time to margin 1", extend="both", aspect=25, pad=0.01)


def draw_modes(figure: Figure, theme: Theme) -> None:
    """Expected accuracy of a network of modes; the law of starvation with its bounds."""
    left, right = figure.subplots(1, 2)
    time = np.geomspace(1.0, 1e4, 200)
    competing = {"apart": np.eye(2), "together": np.array([[1.0, 0.0], [1.0, 1.0]])}
    for style, (name, features) in zip(("-", "--"), competing.items(), strict=True):
        run = wa.dynamics.simulate_modes(features, [0.5, 0.5], [0.01, 0.01], time)
        for mode, method in enumerate(("finite-width", "infinite-width")):
            if name == "apart" and mode == 1:
                continue  # The same as the other, by symmetry.
            label = "m₁ = m₂, apart" if name == "apart" else f"m{'₁₂'[mode]}, together"
            left.plot(time, run.margins.sel(mode=mode), style, color=theme.methods[method], label=label)
    left.set(title="Two features, half of the samples each", xscale="log", xlabel="time", ylabel="margin")
    left.legend()

    time = np.geomspace(1.0, 1e12, 200)
    fractions, ends = [0.25, 0.5, 0.75], []
    run = wa.dynamics.simulate_modes([[1, 0], [1, 1]], [[1 - f, f] for f in fractions], [1e-3, 1e-3], time)
    law = wa.dynamics.predict_starvation(fractions, [1e-3, 1e-3], time)
    for k, (fraction, method) in enumerate(zip(fractions, STYLES, strict=False)):
        colour = theme.methods[method]
        bounds = law.isel(trajectory=k, mode=1)
        right.fill_between(time, bounds.lower_bound, bounds.margins, color=colour, alpha=0.25, linewidth=0)
        rarer = run.margins.isel(trajectory=k, mode=1)
        right.plot(time, rarer, color=colour, linewidth=1.4)
        ends.append((np.log10(rarer[-1].item()), f"λ = {fraction:g}", colour))
    right.set(title="Starvation, and its bounds", xscale="log", yscale="log", xlabel="time", xlim=(1.0, 1e12))
    right.set_ylim(5e-4, 20.0)
    for height, text, colour in ends:
        right.annotate(text, (1e12, 10.0**height), (6, 0), textcoords="offset points", va="center", color=colour)


def draw_networks(figure: Figure, theme: Theme) -> None:
    """Two-layer networks: losses under gradient flow and descent, and directions."""
    left, right = figure.subplots(1, 2)
    rng = np.random.default_rng(1)
    middle = np.array([1.0, 0.5])
    x = np.concatenate([middle + rng.uniform(-0.4, 0.4, (6, 2)), -middle + rng.uniform(-0.4, 0.4, (6, 2))])
    y = np.repeat([1, -1], 6)
    weights, readout = 0.1 * rng.standard_normal((20, 16, 2)), 0.1 * rng.standard_normal((20, 16))
    time = np.concatenate([[0.0], np.geomspace(0.1, 1e6, 200)])
    flow = wa.dynamics.simulate_two_layer(x, y, weights, readout, time)
    for number in range(20):
        left.plot(time[1:], flow.loss[number, 1:], color=theme.methods["finite-width"], alpha=0.35, linewidth=0.8)
    steps = 0.5 * np.arange(401)
    descent = wa.dynamics.simulate_two_layer(x, y, weights, readout, steps, learning_rate=0.5)
    line = theme.line("infinite-width")
    left.plot(steps[1:], descent.loss.mean("trajectory")[1:], **line, label="descent, step 0.5, mean")
    left.set(title="Twenty networks of 16 neurons", xscale="log", yscale="log", xlabel="time", ylabel="loss")
    left.set_ylim(1e-7, 2.0)
    left.legend(loc="lower left")
    for label, method in ((1, "finite-width"), (-1, "infinite-width")):
        angle = np.degrees(np.arccos(np.minimum(flow.alignment.sel({"class": label}), 1.0)))
        right.plot(time[1:], angle.median("trajectory")[1:], label=f"class {label}", **theme.line(method))
    right.set(title="Angle to the max-margin direction", xscale="log", xlabel="time", ylabel="degrees, median")
    right.legend()


def draw_particles(figure: Figure, theme: Theme) -> None:
    """Change of particles and kernels by width in both scalings, and particles in the plane."""
    draw_scalings(particles((64, 256, 1024, 4096, 16384), 32, seed=1), figure, theme)


def draw_training(figure: Figure, theme: Theme) -> None:
    """Modes, flow of the factors, and gradient descent."""
    left, right = figure.subplots(1, 2)
    time = np.geomspace(0.5, 50.0, 60)
    runs = wa.dynamics.compare_training([[1, 0], [1, 1]], [0.5, 0.5], [0.01, 0.01], time, learning_rates=RATES)
    for mode, method in enumerate(("finite-width", "infinite-width")):
        colour = theme.methods[method]
        left.plot(time, runs.modes.sel(mode=mode), color=colour, label=f"m{'₁₂'[mode]}, modes")
        shown = runs.trained.isel(learning_rate=0, time=slice(None, None, 4)).sel(mode=mode)
        left.plot(shown.time, shown, "o", color=colour, markersize=3.5, label=f"descent, step {RATES[0]:g}")
    left.set(title="A diagonal network of two features", xlabel="time", ylabel="margin")
    left.legend()
    right.loglog(runs.learning_rate, runs.training_error, "o", color=theme.ink, markersize=4.5)
    right.loglog(RATES, runs.training_error[-1].item() * np.array(RATES) / RATES[-1], color=theme.muted, linewidth=0.9)
    right.set_xticks(RATES, [f"{rate:g}" for rate in RATES])
    right.set_yticks(runs.training_error.values, [f"{error:.2g}" for error in runs.training_error.values])
    right.minorticks_off()
    right.set(title=f"Order {runs.order.item():.3f}", xlabel="learning rate", ylabel="largest relative error")


RATES = (0.4, 0.2, 0.1, 0.05)


def main() -> None:
    figures: dict[str, tuple[Callable[[Figure, Theme], None], tuple[float, float]]] = {
        "learning": (draw_learning, (8.5, 3.2)),
        "phases": (draw_phases, (8.5, 3.6)),
        "modes": (draw_modes, (8.5, 3.2)),
        "two-layer": (draw_networks, (8.5, 3.2)),
        "particles": (draw_particles, (8.5, 2.9)),
        "training": (draw_training, (8.5, 3.2)),
    }
    for name, (draw, size) in figures.items():
        (IMAGES / f"dynamics-{name}.svg").write_bytes(render(draw, size=size))


if __name__ == "__main__":
    main()
