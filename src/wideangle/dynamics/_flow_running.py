"""Ensembles of two-layer networks: memory, threads, and one trajectory after another."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle.dynamics._flow import STOPPED, apart, descend, follow, make_work
from wideangle.dynamics._flow_field import (
    CROSS_ENTROPY,
    EVALUATIONS,
    EVENTS,
    EXPONENTIAL,
    HINGE,
    OUTPUT,
    REJECTED,
    SQUARED,
    STEPS,
    Flow,
)
from wideangle.dynamics._network_arguments import Control
from wideangle.integrators._records import Shared
from wideangle.integrators._tableaux import DOP853, TSIT5
from wideangle.integrators._threads import run_threads

Array = NDArray[np.float64]
_LOSSES = {"cross-entropy": CROSS_ENTROPY, "hinge": HINGE, "squared": SQUARED, "exponential": EXPONENTIAL}
# With looser tolerances the fifth-order pair needs fewer evaluations.
_LOOSE = 1e-5
_SLIDES_MEMORY = 2**22


class Flows(NamedTuple):
    """States (trajectory, time, number) and statistics (trajectory)."""

    states: Array
    status: NDArray[np.int8]
    final_time: Array
    events: NDArray[np.int64]
    steps: NDArray[np.int64]
    rejected: NDArray[np.int64]
    evaluations: NDArray[np.int64]


def run_networks(
    x: Array,
    y: Array,
    weights: Array,
    states: Array,
    times: Array,
    *,
    loss: str,
    control: Control,
    descent: tuple[float, NDArray[np.int64]] | None,
    n_threads: int,
    progress: bool,
    scale: float = 1.0,
    speed: float = 1.0,
    stepped: bool = False,
) -> Flows:
    """Follow s sum_i z_i relu(w_i . x) from each of the states, on samples with weights.

    s is the scale, and all velocities are multiplied by the speed.
    """
    stepped = stepped or descent is not None
    neurons = states.shape[1] // (x.shape[1] + 1)
    flow = _make_flow(x, y, weights, neurons, times, loss, scale, speed, control, stepped)
    if not progress:
        return _run(flow, states, n_threads, None, descent)
    from tqdm import tqdm

    with tqdm(total=len(states) * times.size, unit="time", unit_scale=True) as bar:
        result = _run(flow, states, n_threads, lambda done: bar.update(done - bar.n), descent)
        bar.update(bar.total - bar.n)
    return result


def _make_flow(
    x: Array,
    y: Array,
    weights: Array,
    neurons: int,
    times: Array,
    loss: str,
    scale: float,
    speed: float,
    control: Control,
    stepped: bool,
) -> Flow:
    samples, features = x.shape
    gram = x @ x.T
    capacity = 0 if stepped else min(neurons * min(features, samples), max(256, _SLIDES_MEMORY // features))
    return Flow(
        neurons,
        samples,
        features,
        neurons * (features + 1),
        apart(x.T),
        apart(x),
        apart(gram),
        apart(np.sqrt(np.einsum("nd,nd->n", x, x))),
        apart(y),
        scale,
        apart(scale * speed * weights),
        _LOSSES[loss],
        stepped,
        *control,
        apart(times),
        times.size,
        capacity,
    )


def _run(
    flow: Flow,
    states: Array,
    n_threads: int,
    advance: Callable[[int], object] | None,
    descent: tuple[float, NDArray[np.int64]] | None,
) -> Flows:
    number = len(states)
    n_threads = min(n_threads, number)
    tableau = (TSIT5 if flow.rtol >= _LOOSE else DOP853).spread(flow.size)
    result = Flows(
        np.full((number, flow.n_times, flow.size), np.nan),
        np.zeros(number, dtype=np.int8),
        np.zeros(number),
        *(np.zeros(number, dtype=np.int64) for _ in range(4)),
    )
    queue = itertools.count()
    works = [make_work(flow, tableau.stages, tableau.dense_rows) for _ in range(n_threads)]
    done = np.zeros(n_threads, dtype=np.int64)

    def task(thread: int, shared: Shared) -> None:
        work = works[thread]
        while (index := next(queue)) < number:
            work.count[:] = 0
            work.y[: flow.size] = states[index]
            out = result.states[index].reshape(-1)
            if descent is None:
                time, status, _ = follow(tableau, flow, work, out, shared.stop)
            else:
                time, status, _ = descend(flow, work, out, shared.stop, *descent)
            if status == STOPPED:
                return
            result.final_time[index], result.status[index] = time, status
            for values, place in (
                (result.events, EVENTS),
                (result.steps, STEPS),
                (result.rejected, REJECTED),
                (result.evaluations, EVALUATIONS),
            ):
                values[index] = work.count[place]
            work.count[OUTPUT] = 0
            done[thread] += flow.n_times

    def report(_: int) -> None:
        if advance is not None:
            advance(int(done.sum()) + sum(int(work.count[OUTPUT]) for work in works))

    run_threads(task, n_threads, 0, report)
    return result
