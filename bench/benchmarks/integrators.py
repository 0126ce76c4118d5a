"""Batches of initial-value problems."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
from numba import njit

import wideangle as wa
from bench.ode_peers import END, problem, starvation


class Starvation:
    """Two modes to t = 1000, 100,000 trajectories at rtol 1e-8, compiled before."""

    params = ("auto", "tsit5", "dop853", "rodas5p")
    param_names = ("method",)
    number = 1
    timeout = 120

    def setup(self, method: str) -> None:
        self.y0, self.frequency = problem(100_000 if method != "rodas5p" else 5_000)
        wa.integrators.integrate(starvation, self.y0[:9], [0.0, END], params=self.frequency[:9], method=method)

    def time_end_only(self, method: str) -> None:
        wa.integrators.integrate(starvation, self.y0, [0.0, END], params=self.frequency, method=method)

    def time_hundred_outputs(self, method: str) -> None:
        """A tenth of the trajectories."""
        times = np.linspace(0.0, END, 101)
        wa.integrators.integrate(starvation, self.y0[::10], times, params=self.frequency[::10], method=method)


@njit(cache=True)
def branching(t, m, params, out):  # type: ignore[no-untyped-def]
    if m[0] < 0.0:
        out[0] = 0.0
    common, rare = 1.0 / (1.0 + math.exp(m[0])), 1.0 / (1.0 + math.exp(m[0] + m[1]))
    out[0] = 2.0 * m[0] * ((1.0 - params[0]) * common + params[0] * rare)
    out[1] = 2.0 * m[1] * params[0] * rare


class LaneByLane:
    """The same with a right-hand side that branches, 20,000 trajectories."""

    number = 1

    def setup(self) -> None:
        self.y0, self.frequency = problem(20_000)
        wa.integrators.integrate(branching, self.y0[:9], [0.0, END], params=self.frequency[:9])

    def time_end_only(self) -> None:
        wa.integrators.integrate(branching, self.y0, [0.0, END], params=self.frequency)


class FirstCall:
    """Seconds of the first call in a fresh process: with nothing kept on disk, and with all of it."""

    unit = "s"
    timeout = 600

    def setup_cache(self) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            return {name: self.first_call(folder) for name in ("empty", "full")}

    @staticmethod
    def first_call(folder: str) -> float:
        code = (
            "import time; begin = time.perf_counter(); import numpy as np, wideangle as wa; "
            "from bench.ode_peers import starvation; "
            "wa.integrators.integrate(starvation, [1e-3, 1e-3], [0.0, 1.0], params=[0.1]); "
            "print(time.perf_counter() - begin)"
        )
        environment = os.environ | {"NUMBA_CACHE_DIR": folder, "PYTHONPATH": os.pathsep.join(sys.path)}
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
        return float(run.stdout)

    def track_empty_cache(self, seconds: dict[str, float]) -> float:
        return seconds["empty"]

    def track_full_cache(self, seconds: dict[str, float]) -> float:
        return seconds["full"]

    def track_second_call(self, seconds: dict[str, float]) -> float:
        wa.integrators.integrate(starvation, [1e-3, 1e-3], [0.0, 1.0], params=[0.1])
        begin = time.perf_counter()
        wa.integrators.integrate(starvation, [1e-3, 1e-3], [0.0, 1.0], params=[0.1])
        return time.perf_counter() - begin
