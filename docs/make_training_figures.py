"""Draw the figures of docs/training-widths.md and fill in its tables: ``python docs/make_training_figures.py``.

Takes about four minutes on two cores.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import wideangle as wa
from wideangle.reports import Theme, render

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

DOCS = Path(__file__).parent
PAGE = DOCS / "training-widths.md"
N_HIDDEN, WIDTH, N_STEPS = 6, 256, 200
STYLES = {
    "mup": "infinite-width",
    "ntk": "finite-width-linear",
    "ip-llr": "finite-width",
    "ip-bias": "small-angle",
    "ip-non-centered": "expansion",
    "ip": "exact",
}
RATES: dict[str, dict[str, float]] = {
    "relu": {"mup": 0.1, "ntk": 1.0, "standard": 0.1, "ip-llr": 0.3, "hp": 0.3, "ip-bias": 0.3, "ip-non-centered": 0.3},
    "gelu": {
        "mup": 0.1,
        "ntk": 0.3,
        "standard": 0.03,
        "ip-llr": 0.03,
        "hp": 0.3,
        "ip-bias": 0.3,
        "ip-non-centered": 0.3,
    },
    "elu": {
        "mup": 0.3,
        "ntk": 1.0,
        "standard": 0.1,
        "ip-llr": 0.03,
        "hp": 0.03,
        "ip-bias": 0.3,
        "ip-non-centered": 0.3,
    },
    "tanh": {"mup": 1.0, "ntk": 3.0, "standard": 0.1, "ip-llr": 0.3, "hp": 0.3, "ip-bias": 0.3, "ip-non-centered": 1.0},
}
# Of ip-bias: what a calibrated first step changes there is constants, mostly.
FIRST_RATES = {"relu": 10.0, "gelu": 5.0, "elu": 10.0, "tanh": 10.0}
WIDTHS = (64, 128, 256, 512, 1024)
GRIDS = {
    "sgd": {"mup": (-3.0, 2.0), "standard": (-4.0, 2.0)},
    "adam": {"mup": (-5.0, -0.5), "standard": (-11.0, -4.0)},
}


@cache
def trained(activation: str) -> xr.Dataset:
    """Networks of six hidden layers under every scaling."""
    rates = RATES[activation] | {"ip": 1.0}
    runs = wa.parametrization.train_widths(
        list(rates),
        wa.data.load_digits(seed=1),
        widths=[WIDTH],
        n_hidden=N_HIDDEN,
        activation=activation,
        learning_rate=rates,
        first_learning_rate={"ip-bias": FIRST_RATES[activation]},
        n_steps=N_STEPS,
        record=[0, 1, N_STEPS],
        n_runs=3,
        n_threads=2,
        progress=True,
    )
    one_width: xr.Dataset = runs.isel(width=0)
    return one_width


@cache
def transfer(optimizer: str) -> xr.Dataset:
    """Losses for grids of learning rates."""
    grids = {name: 2.0 ** np.arange(low, high + 0.1, 0.5) for name, (low, high) in GRIDS[optimizer].items()}
    options: dict[str, Any] = {"sgd": {"n_steps": 30, "n_runs": 3}, "adam": {"n_steps": 25, "n_runs": 6}}[optimizer]
    return wa.parametrization.train_learning_rates(
        list(grids),
        wa.data.load_digits(seed=1),
        learning_rates=grids,
        widths=WIDTHS,
        optimizer=optimizer,  # type: ignore[arg-type]
        n_threads=2,
        progress=True,
        **options,
    )


def draw_curves(figure: Figure, theme: Theme) -> None:
    """Training losses of six hidden layers by scaling."""
    panels = figure.subplots(1, 2, sharey=True)
    for axes, activation in zip(panels, ("relu", "tanh"), strict=True):
        loss = trained(activation).loss
        for name, style in STYLES.items():
            axes.plot(loss.step, loss.sel(scaling=name).mean("run"), label=name, **theme.line(style))
        axes.set(title={"relu": "ReLU"}.get(activation, activation), xlabel="step", ylim=(0.0, 3.0))
    panels[0].set_ylabel("loss of the batch, mean of 3 runs")
    panels[0].legend(loc=(0.5, 0.2))


def draw_layers(figure: Figure, theme: Theme) -> None:
    """Diversity of neurons, dimension of what they span, and rank of updates, by layer."""
    titles = {"diversity": "Diversity", "dimension": "Dimension", "participation_rank": "Rank of the update"}
    last = trained("relu").sel(record=N_STEPS, layer=slice(1, N_HIDDEN)).mean("run")
    for axes, (variable, title) in zip(figure.subplots(1, 3), titles.items(), strict=True):
        for name, style in STYLES.items():
            if name == "ip" and variable == "participation_rank":
                continue  # Its updates are next to nothing.
            values = last[variable].sel(scaling=name)
            axes.plot(last.layer, values, "o", color=theme.methods[style], markersize=3.0)
            axes.plot(last.layer, values, label=name, **theme.line(style))
        axes.set(title=title, xlabel="hidden layer", ylim=(0.0, None))
        axes.set_xticks(last.layer.values)
    figure.axes[2].set_ylim(0.8, None)
    figure.axes[0].legend(loc=(0.02, 0.3))


def draw_transfer(figure: Figure, theme: Theme) -> None:
    """Losses against the learning rate by width, muP beside standard."""
    runs = transfer("sgd")
    colours = [theme.methods[name] for name in ("small-angle", "expansion", "finite-width-linear", "finite-width")]
    colours.append(theme.methods["infinite-width"])
    panels = figure.subplots(1, 2, sharey=True)
    for axes, name in zip(panels, ("mup", "standard"), strict=True):
        drift, low, high = (
            runs[variable].sel(scaling=name).item() for variable in ("drift", "drift_low", "drift_high")
        )
        for width, colour in zip(WIDTHS, colours, strict=True):
            one = runs.sel(scaling=name, width=width)
            loss = np.exp(np.log(one.loss).mean("run"))
            fine = np.isfinite(loss)
            axes.plot(loss.learning_rate[fine], loss[fine], "-o", color=colour, markersize=2.5, label=f"{width}")
            axes.plot(one.best, loss[fine].min(), "v", color=colour, markersize=7, clip_on=False)
        axes.set(title=f"{name}: slope {drift:.2f} ({low:.2f} to {high:.2f})", xlabel="learning rate")
        axes.set(xscale="log", yscale="log", ylim=(0.025, 1.2))
        axes.set_xscale("log", base=2)
    panels[0].set_ylabel("loss after 30 steps")
    panels[0].legend(title="width", ncols=2)


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    header = list(header)
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, ["---"] * len(header), *rows))


def final_losses() -> str:
    """Learning rates, training losses and test accuracies by scaling and activation."""
    rows = []
    for name in trained("relu").scaling.values:
        row = [f"`{name}`"]
        for activation in RATES:
            runs = trained(activation).sel(scaling=name, record=N_STEPS)
            loss, accuracy = runs.train_loss.median().item(), runs.test_accuracy.median().item()
            diverged = f", {int(runs.status.sum())} diverged" if runs.status.any() else ""
            # The median is of those that did not diverge.
            result = "diverged" if runs.status.all() else f"{loss:.2g}, {100.0 * accuracy:.0f} %{diverged}"
            row.append(f"{runs.learning_rate.item():g}: {result}")
        rows.append(row)
    return table(["scaling", *RATES], rows)


def optima() -> str:
    """Optimal learning rates by width, with limits, drift and verdict."""
    rows = []
    for optimizer in GRIDS:
        runs = transfer(optimizer)
        for name in runs.scaling.values:
            one = runs.sel(scaling=name)
            best = [f"{one.best[k]:.2g} ({one.best_low[k]:.2g} to {one.best_high[k]:.2g})" for k in range(len(WIDTHS))]
            drift = f"{one.drift:.2f} ({one.drift_low:.2f} to {one.drift_high:.2f})"
            rows.append([f"`{name}`, {optimizer}", *best, drift, str(one.verdict.values)])
    return table(["", *map(str, WIDTHS), "slope", "verdict"], rows)


def main() -> None:
    figures = {
        "training-scalings": (draw_curves, (8.5, 3.4)),
        "training-layers": (draw_layers, (8.5, 2.9)),
        "learning-rates": (draw_transfer, (8.5, 3.3)),
    }
    for name, (draw, size) in figures.items():
        (DOCS / "images" / f"{name}.svg").write_bytes(render(draw, size=size))
    page = PAGE.read_text(encoding="utf-8")
    for name, text in {"final losses": final_losses(), "optima": optima()}.items():
        before, mark, rest = page.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not (mark and end):
            raise ValueError(f"{PAGE.name} must have a place for the table {name!r}")
        page = f"{before}{mark}\n{text}\n\n{end}{after}"
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
