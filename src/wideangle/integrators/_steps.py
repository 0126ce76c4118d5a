"""Steps of the explicit pairs over lanes: stages, error, step control and the test for stiffness.

Error, step ratio and the test are those of E. Hairer, S. P. Norsett and G. Wanner, *Solving Ordinary Differential
Equations*: volume I, sections II.4 and II.10, and volume II, section IV.2.
"""

from __future__ import annotations

import math
from typing import Any

from wideangle.integrators._calls import call_rhs, kernel
from wideangle.integrators._lanes import LANES, lanes_abs, lanes_fma, lanes_sqrt, load, store, where_lanes
from wideangle.integrators._math import _lanes_exp, _lanes_log
from wideangle.integrators._records import (
    ACCEPTED,
    CALM,
    EVALUATIONS,
    LOG_ERROR,
    NEXT_TIME,
    REJECTED,
    RETRY,
    SMALLEST,
    STEP,
    STIFF,
    TIME,
    TRIED,
)

_SAFETY = 0.9
# Steps in a row that the stability bound has to limit, and as many without that before they are forgotten (DOP853).
_STIFF_STEPS, _CALM_STEPS = 15, 6


@kernel
def weighted(start: Any, place: Any, weight: Any, row: Any, k: Any, component: Any) -> Any:
    """Return the sum of slopes that a row of a sparse matrix gives for a component."""
    first = start[row]
    total = weight[first] * load(k, place[first] + component * LANES)
    for entry in range(first + 1, start[row + 1]):
        total = lanes_fma(weight[entry], load(k, place[entry] + component * LANES), total)
    return total


@kernel
def run_stages(problem: Any, tableau: Any, work: Any, first: Any, stop: Any, lanes: Any) -> None:
    """Evaluate stages of the step tried."""
    t, h = load(work.lane, TIME), load(work.lane, TRIED)
    for stage in range(first, stop):
        at = work.size * LANES if stage == tableau.last else 0
        for i in range(work.size):
            slope = weighted(tableau.start, tableau.place, tableau.weight, stage, work.k, i)
            store(work.points, at + i * LANES, lanes_fma(h, slope, load(work.y, i * LANES)))
        store(work.time, 0, lanes_fma(tableau.c[stage], h, t))
        call_rhs(
            problem.rhs,
            work.time,
            work.points,
            at,
            work.params,
            work.k,
            stage * work.size * LANES,
            work.size,
            work.n_params,
            lanes,
            work.scratch,
        )


@kernel
def step_error(problem: Any, tableau: Any, work: Any) -> Any:
    """Return the error of the step in units of the tolerance, NaN where anything is not finite."""
    n = work.size
    first = second = harm = load(work.lane, TIME) * 0.0
    for i in range(n):
        y, end = load(work.y, i * LANES), load(work.points, (n + i) * LANES)
        y_size, end_size = lanes_abs(y), lanes_abs(end)
        larger = where_lanes(y_size < end_size, end_size, y_size)
        inverse = 1.0 / lanes_fma(problem.rtol, larger, problem.atol[i])
        e = weighted(tableau.test_start, tableau.test_place, tableau.test_weight, 0, work.k, i) * inverse
        first = lanes_fma(e, e, first)
        if tableau.corrected:
            e = weighted(tableau.test_start, tableau.test_place, tableau.test_weight, 1, work.k, i) * inverse
            second = lanes_fma(e, e, second)
        # Zero times anything finite.
        harm = lanes_fma(end, 0.0, lanes_fma(load(work.k, (tableau.last * n + i) * LANES), 0.0, harm))
    h = load(work.lane, TRIED)
    if not tableau.corrected:
        return lanes_fma(h, lanes_sqrt(first / n), harm)
    divisor = lanes_sqrt(lanes_fma(0.01, second, first) * n)
    ratio = where_lanes(first == 0.0, first, first / divisor)
    return lanes_fma(h, ratio, harm)


@kernel
def looks_stiff(tableau: Any, work: Any, accepted: Any) -> Any:
    """Count the steps that stability limits, and return the lanes that have had enough of them."""
    n = work.size
    slopes = points = load(work.lane, TIME) * 0.0
    for i in range(n):
        end = load(work.k, (tableau.last * n + i) * LANES)
        difference = end - load(work.k, ((tableau.last - 1) * n + i) * LANES)
        slopes = lanes_fma(difference, difference, slopes)
        distance = weighted(tableau.test_start, tableau.test_place, tableau.test_weight, 2, work.k, i)
        points = lanes_fma(distance, distance, points)
    # |slopes| / |points| estimates h times the largest eigenvalue; points carry a factor 1/h.
    limited = points * (tableau.stability * tableau.stability) < slopes
    stiff, calm = load(work.lane, STIFF), load(work.lane, CALM)
    calm = where_lanes(limited, 0.0, calm + 1.0)
    stiff = where_lanes(limited, stiff + 1.0, where_lanes(calm < _CALM_STEPS, stiff, 0.0))
    store(work.lane, STIFF, where_lanes(accepted, stiff, load(work.lane, STIFF)))
    store(work.lane, CALM, where_lanes(accepted, calm, load(work.lane, CALM)))
    return (float(_STIFF_STEPS) <= stiff) & accepted


@kernel
def propose(problem: Any, work: Any) -> None:
    """Set the step to try and where it ends; the last one ends on the last output time."""
    t, h, end = load(work.lane, TIME), load(work.lane, STEP), problem.end
    h = max(h, SMALLEST * lanes_abs(t))
    is_last = end <= lanes_fma(1.01, h, t)
    store(work.lane, TRIED, where_lanes(is_last, end - t, h))
    store(work.lane, NEXT_TIME, where_lanes(is_last, end, t + h))


@kernel
def control(tableau: Any, work: Any, error: Any) -> None:
    """Set the next step from the error of the one tried, and count."""
    accepted = error <= 1.0
    log_error = _lanes_log(where_lanes(error < 1e-10, 1e-10, error))
    exponent = tableau.beta * load(work.lane, LOG_ERROR) - tableau.alpha * log_error
    ratio = _SAFETY * _lanes_exp(exponent)
    ratio = where_lanes(ratio < tableau.smallest_ratio, tableau.smallest_ratio, ratio)
    # No growth right after a rejection, and none without acceptance.
    retry = load(work.lane, RETRY) > 0.0
    largest = where_lanes(retry, 1.0, tableau.largest_ratio)
    ratio = where_lanes(ratio < largest, ratio, largest)
    ratio = where_lanes(error < math.inf, ratio, 0.1)
    store(work.lane, STEP, load(work.lane, TRIED) * ratio)
    kept = where_lanes(log_error < math.log(1e-4), math.log(1e-4), log_error)
    store(work.lane, LOG_ERROR, where_lanes(accepted, kept, load(work.lane, LOG_ERROR)))
    store(work.lane, RETRY, where_lanes(accepted, 0.0, 1.0))
    store(work.lane, ACCEPTED, load(work.lane, ACCEPTED) + where_lanes(accepted, 1.0, 0.0))
    store(work.lane, REJECTED, load(work.lane, REJECTED) + where_lanes(accepted, 0.0, 1.0))
    store(work.lane, EVALUATIONS, load(work.lane, EVALUATIONS) + tableau.last)


@kernel
def advance(tableau: Any, work: Any, accepted: Any) -> None:
    """Move the accepted lanes to the ends of their steps."""
    n = work.size
    for i in range(n):
        end, slope = load(work.points, (n + i) * LANES), load(work.k, (tableau.last * n + i) * LANES)
        store(work.y, i * LANES, where_lanes(accepted, end, load(work.y, i * LANES)))
        store(work.k, i * LANES, where_lanes(accepted, slope, load(work.k, i * LANES)))
    store(work.lane, TIME, where_lanes(accepted, load(work.lane, NEXT_TIME), load(work.lane, TIME)))
