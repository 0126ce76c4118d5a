"""Draw the figures of the documentation: ``python docs/make_figures.py`` writes the SVG files of docs/images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import wideangle as wa
from wideangle.reports import Theme, render
from wideangle.reports.figures import label_line_ends

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

IMAGES = Path(__file__).parent / "images"
SMALL_ANGLE = 1e-12


def draw_drift(figure: Figure, theme: Theme) -> None:
    """Drift of ln sin^2(theta) in a layer at small angles: exact, and how far other rules are from it."""
    widths = np.unique(np.geomspace(8, 2000, 60).astype(int))
    exact = small_angle_drift(widths, "small-angle")
    rules = {
        "small-angle": ("exact law", exact),
        "finite-width-linear": (r"published, $\rho(n)$", small_angle_drift(widths, "finite-width-linear")),
        "infinite-width": ("leading order, 2/n", -2.0 / widths),
    }
    left, right = figure.subplots(1, 2)
    for method, (label, drift) in rules.items():
        left.loglog(widths, -drift, label=label, **theme.line(method))
        if method != "small-angle":
            right.loglog(widths, np.abs(drift / exact - 1.0), label=label, **theme.line(method))
    left.set(title="Drift per layer", xlabel="width n", ylabel="fall of ln sin² θ")
    right.set(title="Relative error of the drift", xlabel="width n")
    left.legend()
    right.legend()


def small_angle_drift(widths: NDArray[np.int64], method: str) -> NDArray[np.float64]:
    """Change of the mean of ln sin^2(theta) in one layer, at an angle so small that its own size plays no part."""

    def drift(width: int) -> float:
        prediction = wa.propagation.predict_angles(wa.MLP((width,)), SMALL_ANGLE, method=method)
        return float(prediction.log_sin2[1] - prediction.log_sin2[0])

    return np.array([drift(int(width)) for width in widths])


def draw_depth(figure: Figure, theme: Theme) -> None:
    """Mean of ln sin^2(theta) by layer: simulation and predictions for three widths."""
    names = {
        "infinite-width": "infinite width",
        "finite-width": "Theorem 1",
        "finite-width-linear": "Approx. 1",
        "small-angle": "small angles",
    }
    panels = figure.subplots(1, 3)
    for axes, width in zip(panels, (32, 100, 256), strict=True):
        net = wa.MLP((width,) * 32)
        result = wa.propagation.compare_angles(net, 0.1, n_samples=100_000, seed=1)
        ends = []
        for method, name in names.items():
            curve = result.log_sin2.sel(predictor=method)
            axes.plot(curve.layer, curve, **theme.line(method))
            ends.append((curve[-1].item(), name, theme.methods[method]))
        shown = result.ensemble_mean[::4]
        axes.plot(shown.layer, shown, "o", color=theme.ink, markersize=3.5)
        axes.set(title=f"width {width}", xlabel="layer")
        axes.margins(y=0.08)
        label_line_ends(axes, ends, x=33.0)
    panels[0].set_ylabel("mean of ln sin² θ")


def draw_kernels(figure: Figure, theme: Theme) -> None:
    """Tangent kernel against the angle, its error at small angles, and what infinitely wide networks learn."""
    left, middle, right = figure.subplots(1, 3)
    draw_tangent_kernels(left, theme)
    draw_errors(middle, theme)
    draw_regression(right, theme)


def draw_tangent_kernels(axes: Axes, theme: Theme) -> None:
    angle = np.linspace(0.0, np.pi, 200)
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    layers = wa.propagation.tangent_kernel(wa.MLP((1,) * 30), x[:1], x, keep="layers").kernel.isel(input=0)
    styles = zip((1, 3, 10, 30), ("finite-width", "infinite-width", "finite-width-linear", "small-angle"), strict=True)
    for depth, style in styles:
        kernel = layers.sel(layer=depth)
        axes.plot(angle, kernel / kernel[0], label=f"{depth} layer{'s' if depth > 1 else ''}", **theme.line(style))
    axes.axhline(0.25, color=theme.muted, linewidth=0.7)
    axes.set(title="Tangent kernel, ReLU", xlabel="angle between the inputs", ylabel="share of its value at 0")
    axes.legend()


def draw_errors(axes: Axes, theme: Theme) -> None:
    """Relative error of the tangent kernel of nearly parallel inputs, against 40 digits."""
    angle = np.geomspace(1e-12, 1e-2, 101)
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    here = wa.propagation.tangent_kernel(wa.MLP((1,) * 3), np.array([[1.0, 0.0]]), x).kernel.values[0]
    cosine = x[:, 0]
    textbook = cosine
    for _ in range(3):
        theta = np.arccos(cosine)
        cosine = (np.sin(theta) + (np.pi - theta) * cosine) / np.pi
        textbook = cosine + textbook * (np.pi - theta) / np.pi
    exact = exact_tangent_kernel(angle)
    for values, label, style in (
        (textbook, "angle from its cosine", "infinite-width"),
        (here, "wideangle", "finite-width"),
    ):
        error = np.maximum(np.abs(values / exact - 1.0), 1e-17)
        axes.loglog(angle, error, label=label, **theme.line(style))
    axes.set(title="Error, three layers", xlabel="angle between the inputs", ylim=(3e-18, 1e-6))
    axes.legend()


def exact_tangent_kernel(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of a ReLU network of three layers, with 40 digits."""
    import mpmath as mp

    values = []
    with mp.workdps(40):
        for angle in angles:
            theta = mp.atan2(mp.mpf(float(np.sin(angle))), mp.mpf(float(np.cos(angle))))
            tangent = mp.cos(theta)
            for _ in range(3):
                cosine = (mp.sin(theta) + (mp.pi - theta) * mp.cos(theta)) / mp.pi
                tangent = cosine + tangent * (mp.pi - theta) / mp.pi
                theta = mp.acos(cosine)
            values.append(float(tangent))
    return np.array(values)


def draw_regression(axes: Axes, theme: Theme) -> None:
    """Seven points of a wave on the circle, at three times of training."""
    angle = np.linspace(-np.pi, np.pi, 181)
    known = np.array([-2.6, -1.9, -1.5, -0.4, 0.3, 1.1, 2.2])

    def circle(at: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack([np.cos(at), np.sin(at)], axis=1)

    def target(at: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.sin(2.0 * at) + 0.5 * np.cos(at))

    result = wa.propagation.predict_mean_variance(
        (circle(known), target(known)),
        circle(angle),
        kernel=partial(wa.propagation.tangent_kernel, wa.MLP((1,) * 3)),
        time=[0.0, 0.3, 1e6],
    )
    for time, label, style in (
        (0.0, "t = 0", "simulation"),
        (0.3, "t = 0.3", "infinite-width"),
        (1e6, "t → ∞", "finite-width"),
    ):
        at = result.sel(time=time)
        deviation = np.sqrt(at["variance"])
        axes.fill_between(
            angle, at["mean"] - deviation, at["mean"] + deviation, color=theme.methods[style], alpha=0.18, linewidth=0.0
        )
        axes.plot(angle, at["mean"], label=label, **theme.line(style))
    axes.plot(known, target(known), "o", color=theme.ink, markersize=3.5)
    axes.set(title="Training on a circle", xlabel="angle of the input", ylim=(-1.8, 2.4))
    axes.legend(ncols=3, loc="upper center", columnspacing=1.0)


def main() -> None:
    figures: dict[str, tuple[Callable[[Figure, Theme], None], tuple[float, float]]] = {
        "drift": (draw_drift, (8.0, 3.0)),
        "depth": (draw_depth, (9.5, 3.2)),
        "kernels": (draw_kernels, (10.5, 3.2)),
    }
    IMAGES.mkdir(exist_ok=True)
    for name, (draw, size) in figures.items():
        (IMAGES / f"{name}.svg").write_bytes(render(draw, size=size))


if __name__ == "__main__":
    main()
