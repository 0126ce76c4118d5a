"""Draw the figures of the documentation: ``python docs/make_figures.py`` writes the SVG files of docs/images."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

import wideangle as wa
from wideangle.reports import Theme, render
from wideangle.reports.figures import label_line_ends

if TYPE_CHECKING:
    import xarray as xr
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


def draw_outputs(figure: Figure, theme: Theme) -> None:
    """Density of one output of narrow and wide networks, and its excess kurtosis by width."""
    depth, widths = 4, (4, 8, 16, 32, 64, 128)
    left, right = figure.subplots(1, 2)
    edges = np.linspace(-5.0, 5.0, 101)
    middles = 0.5 * (edges[1:] + edges[:-1])
    kurtoses, errors = [], []
    for width in widths:
        net = wa.MLP((width,) * depth)
        ensemble = wa.propagation.simulate_outputs(net, np.ones((1, 8)), n_networks=200_000, seed=1)
        f = ensemble.outputs.values.ravel() / np.sqrt(2.0)
        parts = np.mean(f.reshape(50, -1) ** 4, axis=1) / np.mean(f.reshape(50, -1) ** 2, axis=1) ** 2 - 3.0
        kurtoses.append(parts.mean())
        errors.append(parts.std(ddof=1) / np.sqrt(parts.size))
        if width in (4, 128):
            name = "finite-width" if width == 4 else "small-angle"
            density = np.histogram(f, edges)[0] / (f.size * np.diff(edges))
            left.semilogy(middles, density, label=f"width {width}", **theme.line(name))
    left.semilogy(middles, np.exp(-0.5 * middles**2) / np.sqrt(2.0 * np.pi), label="infinite", color=theme.ink, lw=0.8)
    left.set(title=f"One output, {depth} layers", xlabel="f / standard deviation", ylabel="density", ylim=(1e-5, 2.0))
    left.legend()
    curve = np.geomspace(widths[0], widths[-1], 100)
    right.loglog(curve, 3.0 * ((1.0 + 5.0 / curve) ** depth - 1.0), label="exact", **theme.line("small-angle"))
    right.errorbar(widths, kurtoses, 2 * np.array(errors), fmt="o", color=theme.ink, markersize=3.5, label="simulated")
    right.set(title="Excess kurtosis", xlabel="width")
    right.legend()


def draw_gradients(figure: Figure, theme: Theme) -> None:
    """Logarithm of the squared gradient by layer, exact and simulated, for ReLU and for tanh."""
    left, right = figure.subplots(1, 2)
    net = wa.MLP((24,) * 24)
    norms = wa.propagation.gradient_norms(net, input_dim=24, n_samples=20_000, seed=1, ensemble="weights")
    norms = norms.sel(quantity="gradient")
    mean, sd = norms["mean"], np.sqrt(norms.variance)
    left.fill_between(norms.layer, mean - sd, mean + sd, color=theme.methods["small-angle"], alpha=0.15, linewidth=0)
    left.plot(norms.layer, mean, label="exact, ± sd", **theme.line("small-angle"))
    left.plot(norms.layer, norms.lognormal_mean, label="log-normal", **theme.line("finite-width-linear"))
    infinite = norms.infinite_width_log_first_moment
    left.plot(norms.layer, infinite, label="infinite width", **theme.line("infinite-width"))
    mark_ensemble(left, norms, theme)
    left.set(title="ReLU, width 24", xlabel="layer", ylabel=r"ln |∂f/∂z|²")
    left.legend(loc="lower right")
    for width, method in ((24, "finite-width-linear"), (200, "finite-width")):
        net = wa.MLP((width,) * 24, activation="tanh", weight_variance=1.3)
        norms = wa.propagation.gradient_norms(net, input_dim=width, n_samples=2000, seed=1).sel(quantity="gradient")
        right.plot(norms.layer, norms.ensemble_mean, label=f"width {width}", **theme.line(method))
    right.plot(
        norms.layer, norms.infinite_width_log_first_moment, label="infinite width", **theme.line("infinite-width")
    )
    right.set(title="tanh, weight variance 1.3", xlabel="layer")
    right.legend()


def mark_ensemble(axes: Axes, norms: xr.Dataset, theme: Theme) -> None:
    """Mark the simulated mean and one standard deviation to either side at every fourth layer."""
    shown = norms.isel(layer=slice(0, None, 4))
    sd = np.sqrt(shown.ensemble_variance)
    axes.errorbar(shown.layer, shown.ensemble_mean, sd, fmt="o", color=theme.ink, markersize=3.0, elinewidth=0.8)


def draw_kernel_fluctuations(figure: Figure, theme: Theme) -> None:
    """Second moment of the tangent kernel by depth; variance of Gram matrix entries by width."""
    left, right = figure.subplots(1, 2)
    # Deeper ones have tails that 40,000 networks do not reach.
    depths = {8: (1, 2, 4), 32: (1, 2, 4, 8, 16)}
    for width, method in ((8, "finite-width-linear"), (32, "finite-width")):
        law = wa.propagation.predict_tangent_diagonal(wa.MLP((width,) * 20), 1.0).sel(layer=slice(1, None))
        exponent = law.exponent
        left.plot(exponent, np.expm1(law.log_moment_ratio), label=f"exact, width {width}", **theme.line(method))
        points = []
        for depth in depths[width]:
            net = wa.MLP((width,) * depth)
            run = wa.propagation.simulate_outputs(net, np.ones((1, 4)), n_networks=40_000, seed=1, keep="tangent")
            theta = run.tangent_kernel.values.ravel()
            points.append(theta.var() / theta.mean() ** 2)
        left.plot(exponent.sel(layer=list(depths[width])), points, "o", color=theme.ink, markersize=3.0)
    curve = np.geomspace(0.15, 12.0, 50)
    left.loglog(curve, np.expm1(curve), label="exp(5 Σ 1/n) - 1", **theme.line("infinite-width"))
    left.set(title="Tangent kernel, one input", xlabel="5 Σ 1/n", ylim=(0.03, 3e3))
    left.set_ylabel("variance / squared mean")
    left.legend()

    gram0 = np.array([[1.0, 0.3], [0.3, 1.0]])
    x = np.sqrt(2.0) * np.linalg.cholesky(gram0)
    widths = (10, 20, 40, 80, 160, 320)
    for activation, method in (("relu", "finite-width"), ("gelu", "finite-width-linear"), ("tanh", "small-angle")):
        variance = 2.0 if activation == "relu" else 1.5
        predicted, simulated = [], []
        for width in widths:
            net = wa.MLP((width,) * 4, activation=activation, weight_variance=variance)
            law = wa.propagation.predict_gram(net, gram0)
            predicted.append(law.variance.sel(layer=4, input=0, input_=1).item())
            run = wa.propagation.simulate_outputs(net, x, n_networks=20_000, seed=1, keep="gram")
            simulated.append(run.gram.sel(layer=4, input=0, input_=1).var().item())
        right.loglog(widths, predicted, label=f"{activation}, first order", **theme.line(method))
        right.plot(widths, simulated, "o", color=theme.methods[method], markersize=3.5)
    right.set(title="Overlap of two inputs in layer 4", xlabel="width", ylabel="variance")
    right.legend()


def draw_forward(figure: Figure, theme: Theme) -> None:
    """Overlaps within and between classes of digits, and norms, by layer, before and after training."""
    data = wa.data.load_digits(seed=1)
    models = {"random": wa.reference.build_mlp((100,) * 12, n_inputs=64, n_outputs=10, seed=1)}
    models["trained"] = copy.deepcopy(models["random"])
    wa.reference.train_classifier(models["trained"], data, seed=1, epochs=30)
    x, y = data.x_test[:200], data.y_test[:200]
    pairs = {"same class": (y[:, None] == y) & ~np.eye(len(y), dtype=bool), "different classes": y[:, None] != y}
    left, right = figure.subplots(1, 2)
    for method, (state, model) in zip(("infinite-width", "finite-width"), models.items(), strict=True):
        sweep = wa.propagation.forward(model, x, overlaps=True)
        color = theme.methods[method]
        for style, (name, chosen) in zip(("-", "--"), pairs.items(), strict=True):
            overlap = sweep.overlaps.values[:, chosen].mean(axis=1)
            left.plot(sweep.layer, overlap, style, color=color, label=f"{state}, {name}")
        right.semilogy(sweep.layer, sweep.norms.mean("input"), color=color, label=state)
    left.set(title="Overlap", xlabel="layer", ylabel="mean cosine")
    right.set(title="Squared norm", xlabel="layer", ylabel="mean over inputs")
    left.legend(loc="lower center")
    right.legend()


def draw_gram(figure: Figure, theme: Theme) -> None:
    """Log-determinant and effective rank of ten digits by layer: three widths and infinite width."""
    data = wa.data.load_digits(seed=1)
    x = np.stack([data.x_train[data.y_train == digit][0] for digit in range(10)])
    gram0 = x @ x.T / x.shape[1]
    depth = 40
    colors = dict(zip((64, 256, 1024), theme.methods.values(), strict=False))
    left, right = figure.subplots(1, 2)
    for width, color in colors.items():
        net = wa.MLP((width,) * depth)
        ensemble = wa.propagation.simulate_gram(net, gram0, n_samples=2000, seed=1)
        volume = ensemble.log_determinant_mean - ensemble.log_norm2_mean.sum("input")
        left.plot(ensemble.layer, volume, color=color, label=f"width {width}")
        mean, spread = ensemble.effective_rank_mean, ensemble.effective_rank_variance**0.5
        right.plot(ensemble.layer, mean, color=color)
        right.fill_between(ensemble.layer, mean - spread, mean + spread, color=color, alpha=0.15, linewidth=0)
    limit = wa.propagation.predict_gram(wa.MLP((1024,) * depth), gram0, method="infinite-width").gram.values
    norm = np.einsum("lii->li", limit)
    left.plot(np.linalg.slogdet(limit)[1] - np.log(norm).sum(axis=1), "--", color=theme.ink, label="infinite width")
    right.plot(norm.sum(axis=1) ** 2 / np.square(limit).sum(axis=(1, 2)), "--", color=theme.ink)
    left.set(title="ln det of the correlations", xlabel="layer")
    right.set(title="Effective rank", xlabel="layer")
    left.legend()


def draw_integrators(figure: Figure, theme: Theme) -> None:
    """Time against error of starvation in SciPy, a Numba loop and here; error of each method against its steps."""
    sys.path.append(str(IMAGES.parents[1]))
    from bench import ode_peers
    from bench.timing import seconds

    left, right = figure.subplots(1, 2)
    runs = {
        "SciPy DOP853": (ode_peers.PEERS["SciPy DOP853"][0], 50, "infinite-width"),
        "SciPy LSODA": (ode_peers.PEERS["SciPy LSODA"][0], 50, "simulation"),
        "Numba loop, order 5": (ode_peers.numba_dp5, 20_000, "small-angle"),
        "tsit5": (ode_peers.OWN["wideangle tsit5"], 50_000, "finite-width-linear"),
        "dop853": (ode_peers.OWN["wideangle dop853"], 50_000, "finite-width"),
    }
    tolerances = 10.0 ** np.arange(-4.0, -13.0, -1.0)
    for label, (run, number, method) in runs.items():
        inputs = ode_peers.problem(number)
        run(*inputs, 1e-4)
        times = [min(seconds(partial(run, *inputs, rtol)) for _ in range(3)) / number for rtol in tolerances]
        errors = [ode_peers.relative_error(run, rtol) for rtol in tolerances]
        left.loglog(errors, 1e6 * np.array(times), "o-", label=label, markersize=3.0, color=theme.methods[method])
    left.set(title="Two modes to t = 1000", xlabel="relative error", ylabel="µs for a trajectory")
    left.legend(fontsize="small")
    for method, name in (("tsit5", "finite-width-linear"), ("rodas5p", "small-angle"), ("dop853", "finite-width")):
        steps, errors = free_top(method)
        right.loglog(steps, errors, "o", label=method, markersize=3.0, color=theme.methods[name])
    right.set(title="Free top to t = 20", xlabel="steps", ylabel="error")
    right.legend()


def free_top(method: str) -> tuple[list[int], list[float]]:
    """Return numbers of steps and errors at the end of Euler's equations, whose solution are elliptic functions."""

    def rhs(t, y, params, out):  # type: ignore[no-untyped-def]
        out[0], out[1], out[2] = y[1] * y[2], -y[0] * y[2], -0.51 * y[0] * y[1]

    steps, errors = [], []
    for rtol in 10.0 ** np.arange(-3.0, -13.0, -0.5):
        run = wa.integrators.integrate(rhs, [0.0, 1.0, 1.0], [0.0, 20.0], method=method, rtol=rtol, atol=rtol)
        steps.append(int(run.n_steps[0]))
        errors.append(float(np.abs(run.y[0, -1] - np.array(special.ellipj(20.0, 0.51)[:3])).max()))
    return steps, errors


def main() -> None:
    figures: dict[str, tuple[Callable[[Figure, Theme], None], tuple[float, float]]] = {
        "drift": (draw_drift, (8.0, 3.0)),
        "depth": (draw_depth, (9.5, 3.2)),
        "kernels": (draw_kernels, (10.5, 3.2)),
        "outputs": (draw_outputs, (8.0, 3.0)),
        "gradients": (draw_gradients, (8.0, 3.2)),
        "kernel-fluctuations": (draw_kernel_fluctuations, (8.0, 3.2)),
        "forward": (draw_forward, (8.5, 3.2)),
        "gram": (draw_gram, (8.5, 3.2)),
        "integrators": (draw_integrators, (9.0, 3.4)),
    }
    IMAGES.mkdir(exist_ok=True)
    for name, (draw, size) in figures.items():
        (IMAGES / f"{name}.svg").write_bytes(render(draw, size=size))


if __name__ == "__main__":
    main()
