"""From checked arguments to filled arrays: memory, threads, and the methods one after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle._progress import progress_callback
from wideangle.integrators import _status
from wideangle.integrators._compilation import Compiled, compile_event
from wideangle.integrators._explicit import run_explicit
from wideangle.integrators._lanes import LANES
from wideangle.integrators._records import Problem, Result, Shared, Watch, make_work
from wideangle.integrators._rosenbrock import make_rosenbrock, run_rosenbrock
from wideangle.integrators._tableaux import DOP853, TSIT5
from wideangle.integrators._threads import run_threads
from wideangle.integrators.events import Event

# With looser tolerances the fifth-order pair needs fewer evaluations.
_LOOSE = 1e-4
_EXPLICIT = {"tsit5": TSIT5, "dop853": DOP853}


def make_watch(events: Sequence[Event], number: int, size: int) -> Watch:
    """Compile the event functions and allocate what they find."""
    compiled = [compile_event(f"events[{k}].function", event.function, event.size) for k, event in enumerate(events)]
    sizes = [event.size or 1 for event in events]

    def spread(values: Sequence[int], dtype: type) -> NDArray[Any]:
        return np.repeat(np.array(values, dtype=dtype), sizes)

    capacity = spread([event.places for event in events], np.int64)
    n_events, places = sum(sizes), max(capacity, default=0)
    return Watch(
        len(events),
        np.array([one.address for one in compiled], dtype=np.int64),
        np.cumsum([0, *sizes])[:-1].astype(np.int64),
        n_events,
        spread([event.direction for event in events], np.int64),
        spread([event.terminal for event in events], np.int64),
        capacity,
        int(places),
        np.full((number, n_events, places), np.nan),
        np.full((number, n_events, places, size), np.nan),
        np.zeros((number, n_events), dtype=np.int64),
    )


def make_result(number: int, n_times: int, size: int, start: float, method: str) -> Result:
    """Allocate what the trajectories give."""
    return Result(
        y=np.full((number, n_times, size), np.nan),
        status=np.full(number, _status.PENDING, dtype=np.int8),
        method=np.full(number, _status.METHODS.index(method), dtype=np.int8),
        steps=np.zeros(number, dtype=np.int64),
        rejected=np.zeros(number, dtype=np.int64),
        evaluations=np.zeros(number, dtype=np.int64),
        final_time=np.full(number, start),
        next_step=np.zeros(number),
        next_y=np.zeros((number, size)),
        next_output=np.zeros(number, dtype=np.int64),
    )


class Batch(NamedTuple):
    """A checked call of ``integrate``."""

    rhs: Compiled
    jacobian: Compiled | None
    y0: NDArray[np.float64]
    params: NDArray[np.float64]
    times: NDArray[np.float64]
    method: str
    rtol: float
    atol: NDArray[np.float64]
    max_steps: int
    events: Sequence[Event]
    n_threads: int
    progress: bool


def run_batch(batch: Batch) -> tuple[Result, Watch]:
    """Integrate all trajectories."""
    number, (size, n_params) = max(len(batch.y0), len(batch.params)), (batch.y0.shape[1], batch.params.shape[1])
    stiff_too = batch.method == "auto"
    first = batch.method
    if stiff_too:
        first = "tsit5" if batch.rtol >= _LOOSE else "dop853"
    # Trajectories are begun together, but not so many that a thread goes without.
    hand = max(1, min(LANES, number // (4 * batch.n_threads)))
    problem = Problem(
        batch.rhs.address,
        batch.jacobian.address if batch.jacobian else 0,
        number,
        size,
        n_params,
        batch.y0,
        len(batch.y0) > 1,
        batch.params,
        len(batch.params) > 1,
        batch.times,
        batch.times.size,
        batch.times[-1],
        batch.rtol,
        batch.atol,
        batch.max_steps,
        stiff_too,
        hand,
    )
    result = make_result(number, batch.times.size, size, batch.times[0], first)
    watch = make_watch(batch.events, number, size)
    with progress_callback(number, batch.progress, unit="trajectory") as advance:
        if first in _EXPLICIT:
            n_threads = min(batch.n_threads, -(-number // hand))
            tableau = _EXPLICIT[first].spread(size * LANES)

            def explicit(thread: int, shared: Shared) -> Any:
                work = make_work(thread, size, n_params, tableau.stages, tableau.dense_rows, watch.size)
                return run_explicit(problem, tableau, watch, work, result, shared)

            run_threads(explicit, n_threads, 0, advance)
        todo = np.flatnonzero((result.status == _status.PENDING) | (result.status == _status.STIFF))
        if todo.size:

            def stiff(thread: int, shared: Shared) -> Any:
                work = make_work(thread, size, n_params, 1, 4, watch.size)
                return run_rosenbrock(problem, watch, work, make_rosenbrock(size, todo), result, shared)

            run_threads(stiff, min(batch.n_threads, todo.size), number - todo.size, advance)
    return result, watch
