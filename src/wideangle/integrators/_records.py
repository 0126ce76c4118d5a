"""What the drivers read and write: named tuples of arrays, which the compiled code turns into pointers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle.integrators._lanes import LANES

# Rows of Work.lane: one number a lane. The step is the one to try next, and what is tried of it may be cut at the end.
TIME, STEP, TRIED, NEXT_TIME, LOG_ERROR, OUTPUT, ACCEPTED, REJECTED, EVALUATIONS, STIFF, CALM, RETRY = (
    LANES * row for row in range(12)
)
LANE_ROWS = 12
# A step must stay this many units in the last place of the time.
SMALLEST = 16.0 * 2.0**-52


class Problem(NamedTuple):
    """What all threads read."""

    rhs: int
    jacobian: int  # 0: by differences
    number: int
    size: int
    n_params: int
    y0: Any
    own_y0: bool  # or all begin with the same
    params: Any
    own_params: bool
    times: Any
    n_times: int
    end: float
    rtol: float
    atol: Any
    max_steps: int
    watch_stiffness: bool
    hand: int  # how many trajectories are begun together


class Watch(NamedTuple):
    """The events: functions, each of one or several numbers, and where their zeros go.

    ``time`` is (trajectory, number, place), of which number e uses ``capacity[e]`` places; ``count`` counts on.
    """

    functions: int
    address: Any
    offset: Any
    size: int
    direction: Any
    terminal: Any
    capacity: Any
    places: int
    time: Any
    state: Any
    count: Any


class Result(NamedTuple):
    """What the threads fill in, a row a trajectory; ``next_*`` is where the stiff method takes over."""

    y: Any
    status: Any
    method: Any
    steps: Any
    rejected: Any
    evaluations: Any
    final_time: Any
    next_step: Any
    next_y: Any
    next_output: Any


class Shared(NamedTuple):
    """How the threads and their starter speak with each other."""

    next: Any  # the next trajectory to begin
    done: Any  # trajectories ended, by thread
    stop: Any  # not 0: stop at once


class Work(NamedTuple):
    """What one thread of the explicit driver works on. Blocks are [component][lane]."""

    thread: int
    size: int
    n_params: int
    y: Any
    points: Any  # the point of a stage, and the end of the step
    k: Any
    params: Any
    time: Any
    lane: Any
    dense: Any
    scratch: Any
    owner: Any  # the trajectory in each lane, or -1
    output: Any  # index of the next output time of each lane
    # The next trajectories, begun together.
    hand: Any  # [next place, number]
    hand_y: Any
    hand_k: Any
    hand_params: Any
    hand_step: Any
    hand_owner: Any
    # Events: numbers at the begin and end of the step by lane, and room for one lane.
    before: Any
    after: Any
    trial: Any
    zero: Any
    state: Any
    own_params: Any


def zeros(length: int) -> NDArray[np.float64]:
    """Allocate whole vectors on cache lines."""
    memory = np.zeros(length + 8)
    first = (-memory.ctypes.data // 8) % 8
    return memory[first : first + length]


def make_work(thread: int, size: int, n_params: int, stages: int, dense_rows: int, n_events: int) -> Work:
    """Allocate what one thread needs."""
    block = size * LANES
    return Work(
        thread,
        size,
        n_params,
        zeros(block),
        zeros(2 * block),
        zeros(stages * block),
        zeros(n_params * LANES),
        zeros(LANES),
        zeros(LANE_ROWS * LANES),
        zeros(dense_rows * block),
        zeros(2 * size + n_params),
        np.full(LANES, -1),
        np.zeros(LANES, dtype=np.int64),
        np.zeros(2, dtype=np.int64),
        zeros(block),
        zeros(block),
        zeros(n_params * LANES),
        zeros(LANES),
        np.full(LANES, -1),
        zeros(n_events * LANES),
        zeros(n_events * LANES),
        zeros(n_events),
        zeros(n_events),
        zeros(size),
        zeros(n_params),
    )
