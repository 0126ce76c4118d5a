"""Studies: what they add to the methods that they run."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import wideangle as wa


def study(n_cells: int, samples: int) -> wa.studies.Study:
    """A study of small networks with cells that differ in their angle."""
    return wa.studies.Study(
        "simulate_angles",
        samples=samples,
        seed=1,
        parameters={"width": 16, "depth": 4},
        grid={"theta0": {"linspace": [0.01, 3.0, n_cells]}},
    )


class Planning:
    """A study of 10,000 cells."""

    def time_description_and_plan(self) -> None:
        study(10_000, 10**8).plan()

    def time_identity(self) -> None:
        _ = study(10_000, 10**8).identity


class ManyCells:
    """100 cells of 16 samples, so that cells are all that costs."""

    timeout = 120

    def setup(self) -> None:
        self.time_run()

    def time_run(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            wa.studies.run(study(100, 16), Path(folder) / "study.zarr", progress=False)


class OneCell:
    """One cell of 10**6 samples, as a study and without one."""

    def setup(self) -> None:
        self.net = wa.MLP((16,) * 4)
        self.time_study()

    def time_study(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            wa.studies.run(study(1, 10**6), Path(folder) / "study.zarr", progress=False)

    def time_bare(self) -> None:
        wa.propagation.simulate_angles(self.net, 0.01, n_samples=10**6, seed=1)


class Accumulators:
    """4,000 samples of 33 values."""

    def setup(self) -> None:
        self.samples = np.random.default_rng(1).standard_normal((4_000, 33)) - 5.0
        self.sketch = wa.statistics.QuantileSketch.from_samples(self.samples)

    def time_moments(self) -> None:
        wa.statistics.Moments.from_samples(self.samples)

    def time_histogram(self) -> None:
        wa.statistics.Histogram.from_samples(self.samples, -12.0, 0.0, 400)

    def time_sketch(self) -> None:
        wa.statistics.QuantileSketch.from_samples(self.samples)

    def time_merge(self) -> None:
        self.sketch.merge(self.sketch)
