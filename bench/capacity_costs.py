"""What a sample costs: of each method, by width and depth, and by the statistics that are wanted."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import wideangle as wa
from bench.tables import table
from bench.timing import cpu_seconds
from wideangle.studies._blocks import reduce_block
from wideangle.studies.protocol import Wanted

THETA0 = 0.3
WIDTHS = (16, 64, 256, 1024, 4096)
DEPTHS = (4, 16, 64)
PLAIN = Wanted()

CELLS: dict[str, tuple[str, dict[str, Any]]] = {
    "simulate_angles": ("width 64, depth 8", {"width": 64, "depth": 8, "theta0": THETA0}),
    "simulate_gram": ("4 inputs, width 64, depth 8, `tanh`", {"width": 64, "depth": 8, "activation": "tanh"}),
    "simulate_modes": (
        "2 modes, 3 types, 3 times",
        {
            "features": [[1.0, 0.0], [1.0, 1.0], [0.5, 2.0]],
            "probabilities": [0.5, 0.3, 0.2],
            "margins0": [0.01, 0.02],
            "margins0_standard_deviation": 0.5,
            "times": [0.0, 1.0, 30.0],
        },
    ),
    "phase_diagram": (
        "by integration",
        {
            "readout": 0.1,
            "projection": 0.1,
            "readout_standard_deviation": 0.5,
            "projection_standard_deviation": 0.5,
        },
    ),
    "simulate_training": (
        "5 examples in batches of 2, width 8, depth 2, 100 steps",
        {
            "width": 8,
            "depth": 2,
            "data": {"x": [[-1.0, 0.5], [-0.2, 0.1], [0.3, -0.7], [0.9, 0.4], [0.1, 1.3]], "y": [-1, -1, 1, 1, 1]},
            "n_steps": 100,
            "batch": 2,
            "learning_rate": 0.1,
        },
    ),
    "chunk_statistics": (
        "256 neurons, 2,000 inputs, 4 sizes",
        {
            "n_inputs": 2000,
            "latent_dim": 5,
            "n_clones": 4,
            "width": 64,
            "noise": 0.5,
            "chunk_sizes": [4, 16, 64, 128],
        },
    ),
}
CELLS["simulate_gram"][1]["gram0"] = (0.5 * np.eye(4) + 0.5).tolist()

WANTED: dict[str, Wanted] = {
    "moments": PLAIN,
    "and a histogram of 100 bins of `log_sin2`": Wanted(histograms={"log_sin2": (-12.0, 0.0, 100)}),
    "and 3 quantiles": Wanted(quantiles=(0.05, 0.5, 0.95)),
    "and every sample kept": Wanted(samples=True),
}


@dataclass(frozen=True)
class Fit:
    """Seconds of a sample of ``simulate_angles``: ``layer * depth + neuron * sum of widths``."""

    layer: float
    neuron: float

    def seconds(self, widths: tuple[int, ...]) -> float:
        """Return what a sample costs."""
        return self.layer * len(widths) + self.neuron * sum(widths)


@dataclass(frozen=True)
class Costs:
    """What was measured."""

    fit: Fit
    text: str


def measure(turns: int, budget: float) -> Costs:
    """Measure, with about ``budget`` seconds for each figure and turn."""
    methods = _methods(turns, budget)
    grid, fit = _grid(turns, budget)
    return Costs(fit, "\n\n".join((methods, grid, _statistics(turns, budget))))


def sample_seconds(name: str, parameters: Mapping[str, Any], wanted: Wanted, turns: int, budget: float) -> float:
    """Return the seconds of a sample on one core, from blocks as studies compute and reduce them: the fastest turn."""
    method = wa.studies.METHODS[name]
    prepared = method.prepare(parameters)
    expected = method.cost(prepared) or 1e-3
    size = method.bytes_per_sample(prepared, wanted) or 0
    number = int(np.clip(budget / expected, 1, 2**26 / size if size else 2**40))

    with tempfile.TemporaryDirectory() as folder:

        def block(n_samples: int) -> None:
            found = method.run(prepared, 0, n_samples, 1, wanted)
            reduce_block(found, n_samples, wanted).to_bytes()
            if wanted.samples:
                arrays = {key: each.samples for key, each in found.variables.items() if each.samples is not None}
                np.savez(f"{folder}/samples.npz", **arrays)  # type: ignore[arg-type]

        block(max(number // 10, 1))
        return min(cpu_seconds(partial(block, number)) for _ in range(turns)) / number


def expected_seconds(name: str, parameters: Mapping[str, Any]) -> float:
    """Return what the method itself says of a sample."""
    method = wa.studies.METHODS[name]
    return method.cost(method.prepare(parameters)) or float("nan")


def _methods(turns: int, budget: float) -> str:
    rows = []
    for name, (text, parameters) in CELLS.items():
        if name not in wa.studies.METHODS:
            continue
        found = sample_seconds(name, parameters, PLAIN, turns, budget)
        expected = expected_seconds(name, parameters)
        rows.append((f"`{name}`", text, f"{1e6 * found:.3g}", f"{1e6 * expected:.3g}", f"{found / expected:.2f}"))
    heads = ("method", "cell", "µs a sample", "µs by the method's estimate", "measured / estimated")
    return (
        "Each method on one core (processor time, the least of the turns), from the call of a block to its bytes for "
        "the journal; `plan()` takes the estimate.\n\n" + table(heads, rows)
    )


def _grid(turns: int, budget: float) -> tuple[str, Fit]:
    rows, found = [], []
    for width in WIDTHS:
        row = [f"{width:,}"]
        for depth in DEPTHS:
            cell = {"width": width, "depth": depth, "theta0": THETA0}
            each = sample_seconds("simulate_angles", cell, PLAIN, turns, budget)
            found.append((width, depth, each))
            row.append(f"{1e6 * each:.3g} ({each / expected_seconds('simulate_angles', cell):.2f})")
        rows.append(row)
    fit = _fitted(np.array(found))
    misfit = [each / fit.seconds((int(width),) * int(depth)) for width, depth, each in found]
    heads = ("width", *(f"depth {depth}" for depth in DEPTHS))
    return (
        "`simulate_angles` by width and depth, in microseconds a sample on one core, with the ratio to the method's "
        "estimate in brackets.\n\n" + table(heads, rows) + "\n\nFitted to this table: "
        f"**{1e9 * fit.layer:.3g} ns a layer and {1e9 * fit.neuron:.3g} ns a neuron** of a sample; "
        f"the table lies between {min(misfit):.2f} and {max(misfit):.2f} times the fit."
    ), fit


def _fitted(found: NDArray[np.float64]) -> Fit:
    """Fit relative errors by least squares."""
    width, depth, each = found.T
    columns = np.stack([depth / each, width * depth / each], axis=1)
    layer, neuron = np.linalg.lstsq(columns, np.ones(len(each)), rcond=None)[0]
    return Fit(max(float(layer), 0.0), float(neuron))


def _statistics(turns: int, budget: float) -> str:
    rows = []
    for width, depth in ((16, 4), (64, 8), (256, 32)):
        cell = {"width": width, "depth": depth, "theta0": THETA0}
        each = [sample_seconds("simulate_angles", cell, wanted, turns, budget) for wanted in WANTED.values()]
        rows.append((f"{width} x {depth}", *(f"{1e6 * one:.3g}" for one in each)))
    heads = ("width x depth", *WANTED)
    return (
        "Statistics of two variables by layer, in microseconds a sample. Moments and histograms of `log_sin2` are "
        "found in the kernel; quantiles and kept samples need every sample in memory, block by block.\n\n"
        + table(heads, rows)
    )
