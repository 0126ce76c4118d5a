"""From checked arguments to filled arrays: memory, threads, and the methods one after another."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wideangle.integrators import _status
from wideangle.integrators._compilation import Compiled
from wideangle.integrators._explicit import Problem, Result, Shared, make_work, run_explicit
from wideangle.integrators._lanes import LANES
from wideangle.integrators._tableaux import DOP853, TSIT5
from wideangle.integrators._threads import run_threads

_LOOSE = 1e-5


def run_batch(
    rhs: Compiled,
    y0: NDArray[np.float64],
    params: NDArray[np.float64],
    times: NDArray[np.float64],
    method: str,
    rtol: float,
    atol: NDArray[np.float64],
    max_steps: int,
    n_threads: int,
    progress: bool,
) -> Result:
    """Integrate all trajectories."""
    number, size = max(len(y0), len(params)), y0.shape[1]
    if method == "auto":
        name = "tsit5" if rtol >= _LOOSE else "dop853"
    else:
        name = method
    tableau = {"tsit5": TSIT5, "dop853": DOP853}[name].spread(size * LANES)
    # Trajectories are begun together, but not so many that a thread goes without.
    hand = max(1, min(LANES, number // (4 * n_threads)))
    n_threads = min(n_threads, -(-number // hand))
    problem = Problem(
        rhs.address,
        number,
        y0,
        len(y0) > 1,
        params,
        len(params) > 1,
        times,
        times.size,
        times[-1],
        rtol,
        atol,
        max_steps,
        False,
        hand,
    )
    result = Result(
        np.full((number, times.size, size), np.nan),
        np.full(number, _status.PENDING, dtype=np.int8),
        np.full(number, _status.METHODS.index(name), dtype=np.int8),
        *(np.zeros(number, dtype=np.int64) for _ in range(3)),
        np.full(number, times[0]),
        np.zeros(number),
        np.zeros((number, size)),
    )
    shared = Shared(np.zeros(1, dtype=np.int64), np.zeros(n_threads, dtype=np.int64), np.zeros(1, dtype=np.int64))

    def task(thread: int) -> Any:
        work = make_work(thread, size, params.shape[1], tableau.stages, tableau.dense_rows)
        return run_explicit(problem, tableau, work, result, shared)

    run_threads(task, n_threads, shared.stop, lambda: None)
    return result
