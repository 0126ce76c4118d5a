"""Fill in the tables of docs/accuracy.md and draw its figure: ``python docs/make_accuracy_page.py``.

The ensembles are those of tests/reference/angles_one_layer.json, which tools/generate_angle_ensembles.py writes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import wideangle as wa
from wideangle.reports import Theme, render

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

DOCS = Path(__file__).parent
PAGE = DOCS / "accuracy.md"
FIGURE = DOCS / "images" / "accuracy.svg"
ENSEMBLES = json.loads((DOCS.parent / "tests" / "reference" / "angles_one_layer.json").read_text(encoding="utf-8"))
ONE_LAYER, CHAIN = ENSEMBLES[:-1], ENSEMBLES[-1]
METHODS: tuple[tuple[str, str, int | None], ...] = (
    ("expansion, order 3", "expansion", 3),
    ("order 2", "expansion", 2),
    ("order 1", "expansion", 1),
    ("Theorem 1", "finite-width", None),
    ("Approx. 1, 2", "finite-width-linear", None),
    ("small angles", "small-angle", None),
    ("infinite width", "infinite-width", None),
)


def moments(widths: Iterable[int], theta0: float, method: str, order: int | None = None) -> NDArray[np.float64]:
    """Return mean and variance of X after each layer, shape (2, n_layers)."""
    angles = wa.propagation.predict_angles(wa.MLP(widths), theta0, method=method, order=order)
    return np.stack([angles.log_sin2.values[1:], angles.variance.values[1:]])


def angle_name(theta0: float) -> str:
    return "π/2" if theta0 == math.pi / 2 else f"{theta0:g}".replace("1e-06", "10⁻⁶")


def markdown(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float) -> str:
    return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e+").replace("e+0", "")


def against_ensembles() -> str:
    rows = []
    for entry in ONE_LAYER:
        mean, variance = moments(entry["widths"], entry["theta0"], "exact")[:, 0]
        z = [
            (exact - entry[name][0]) / entry[f"{name}_se"][0]
            for exact, name in ((mean, "mean"), (variance, "variance"))
        ]
        label = [angle_name(entry["theta0"]), str(entry["widths"][0])]
        rows.append([*label, f"{mean:.10g}", f"{z[0]:+.1f}", f"{variance:.10g}", f"{z[1]:+.1f}"])
    return markdown(["θ", "n", "mean", "z", "variance", "z"], rows)


def errors(which: int, scale: bool) -> str:
    rows = []
    for entry in ONE_LAYER:
        exact = moments(entry["widths"], entry["theta0"], "exact")[which, 0]
        row = [angle_name(entry["theta0"]), str(entry["widths"][0])]
        for _, method, order in METHODS:
            error = moments(entry["widths"], entry["theta0"], method, order)[which, 0] - exact
            row.append(number(error / abs(exact) if scale else error))
        rows.append(row)
    return markdown(["θ", "n", *(name for name, _, _ in METHODS)], rows)


def chain() -> str:
    exact = moments(CHAIN["widths"], CHAIN["theta0"], "exact")
    z = [(exact[i] - CHAIN[name]) / CHAIN[f"{name}_se"] for i, name in enumerate(("mean", "variance"))]
    rows = []
    for layer, (mean, variance) in enumerate(exact.T):
        row = [f"{mean:.8f}", f"{z[0][layer]:+.1f}", f"{variance:.8f}", f"{z[1][layer]:+.1f}"]
        rows.append([str(layer + 1), *row])
    return markdown(["layer", "mean", "z", "variance", "z"], rows)


def chain_errors() -> str:
    exact = moments(CHAIN["widths"], CHAIN["theta0"], "exact")[:, -1]
    rows = []
    for name, method, order in METHODS:
        mean, variance = moments(CHAIN["widths"], CHAIN["theta0"], method, order)[:, -1] - exact
        rows.append([name, f"{mean:+.5f}", f"{variance / exact[1]:+.2%}"])
    return markdown(["method", "error of the mean", "of the variance"], rows)


def draw(figure: Figure, theme: Theme) -> None:
    """Errors of one layer's mean against width, and of the chain's mean by layer."""
    left, right = figure.subplots(1, 2)
    widths = np.unique(np.geomspace(8, 512, 25).astype(int))
    exact = np.array([moments([int(n)], 1.0, "exact")[0, 0] for n in widths])
    for name, method, order in METHODS[:5]:
        error = np.array([moments([int(n)], 1.0, method, order)[0, 0] for n in widths]) - exact
        style = theme.line(method) | ({"linestyle": [":", "--", "-"][order - 1]} if order else {})
        left.loglog(widths, np.abs(error), label=name, **style)
    left.set(title="One layer, θ = 1", xlabel="width n", ylabel="error of the mean of ln sin² θ")
    left.legend()
    layers = np.arange(1, len(CHAIN["widths"]) + 1)
    reference = moments(CHAIN["widths"], CHAIN["theta0"], "exact")[0]
    for name, method, order in (METHODS[0], METHODS[1], METHODS[3]):
        error = moments(CHAIN["widths"], CHAIN["theta0"], method, order)[0] - reference
        style = theme.line(method) | ({"linestyle": [":", "--", "-"][order - 1]} if order else {})
        right.semilogy(layers, np.abs(error), label=name, **style)
    difference = np.abs(np.array(CHAIN["mean"]) - reference)
    right.semilogy(layers, difference, "o", color=theme.ink, markersize=3.5, label="ensemble of 10⁸")
    right.semilogy(layers, CHAIN["mean_se"], color=theme.muted, linewidth=1.0, label="its standard error")
    right.set(title="Ten layers of width 30, θ₀ = 0.5", xlabel="layer", ylabel="difference of the mean from exact")
    right.set_ylim(bottom=1e-9)
    right.legend(loc="lower left", ncols=2)


def main() -> None:
    blocks = {
        "ensembles": against_ensembles(),
        "means": errors(0, scale=False),
        "variances": errors(1, scale=True),
        "chain": chain(),
        "chain errors": chain_errors(),
    }
    page = PAGE.read_text(encoding="utf-8")
    for name, table in blocks.items():
        before, mark, rest = page.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not (mark and end):
            raise ValueError(f"{PAGE.name} must have a place for the table {name!r}")
        page = f"{before}{mark}\n{table}\n\n{end}{after}"
    PAGE.write_text(page, encoding="utf-8")
    FIGURE.write_bytes(render(draw, size=(9.5, 3.6)))


if __name__ == "__main__":
    main()
