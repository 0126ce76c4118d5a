"""Margins at given times: the flow of one mode inverted, stage by stage, by Newton's method within brackets.

Each stage has a coordinate in which the elapsed time, or a function of it, is nearly a straight line, so that a few
steps reach rounding and none is ever far off.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wideangle.dynamics._growth import Array, Growth, Index, Mask

_MAX_STEPS = 100


def hinge_margin(growth: Growth, margin0: Array, time: Array) -> Array:
    """Return the margin under a force of 1 up to 1, where it freezes."""
    result: Array = margin0.copy()
    moving = margin0 < 1.0
    part, start = growth[moving], margin0[moving]
    needed = part.free_time(start, np.ones(start.shape))
    reached = part.advance(start, np.minimum(time[moving], needed))
    result[moving] = np.where(time[moving] >= needed, 1.0, np.minimum(reached, 1.0))
    return result


def exponential_tail_margin(growth: Growth, margin0: Array, time: Array, log_time: Array, *, logistic: bool) -> Array:
    """Return the margin under the force 1/(1 + e^m), or e^-m if not ``logistic``; ``time`` may have overflowed."""
    current, left = margin0.copy(), time.copy()
    result = np.full(margin0.shape, np.nan)

    def elapsed(lo: Array, hi: Array, part: Growth, shift: Array) -> Array:
        total = part.exponential_time(lo, hi, shift)
        return total + np.exp(-shift) * part.free_time(lo, hi) if logistic else total

    def stage(end: float, solve: Callable[[Growth, Array, Array, Array], Array], chosen: Mask) -> None:
        """Solve for the modes that do not reach ``end``, take the others there."""
        index = np.flatnonzero(chosen & np.isnan(result) & (current < end))
        part, lo = growth[index], current[index]
        target = np.full(lo.shape, end)
        needed = elapsed(lo, target, part, np.zeros(lo.shape))
        stays = left[index] < needed
        result[index[stays]] = solve(part[stays], lo[stays], target[stays], left[index][stays])
        current[index[~stays]] = end
        left[index[~stays]] -= needed[~stays]

    def steady(part: Growth, lo: Array, hi: Array, target: Array) -> Array:
        """The force changes by a factor of 8 at most: the time is nearly straight in the time under a force of 1."""

        def line(u: Array, i: Index) -> tuple[Array, Array]:
            m = part[i].advance(lo[i], u)
            return elapsed(lo[i], np.maximum(m, lo[i]), part[i], np.zeros(u.shape)), np.exp(m) + logistic

        top = part.free_time(lo, hi)
        return part.advance(lo, newton(line, target, np.zeros(lo.shape), top, target / (np.exp(lo) + logistic)))

    def falling(part: Growth, lo: Array, hi: Array, log_target: Array) -> Array:
        """The force falls like e^-m: ln(1 + k time) is nearly straight in m, k being h e^-m at the lower end."""
        log_target = log_target + np.log(part.speed(lo)) - lo

        def line(m: Array, i: Index) -> tuple[Array, Array]:
            h, rise = part[i].speed(lo[i]), m - lo[i]
            scaled = h * elapsed(lo[i], m, part[i], m)  # times e^rise it is k time
            with np.errstate(divide="ignore"):
                value = np.where(rise < 40.0, np.log1p(np.exp(np.minimum(rise, 40.0)) * scaled), rise + np.log(scaled))
            return value, np.exp(rise - value) * h / part[i].speed(m) * (1.0 + logistic * np.exp(-m))

        target = np.where(log_target < 40.0, np.log1p(np.exp(np.minimum(log_target, 40.0))), log_target)
        # h grows like m^2 at most, so twice the straight line and 20 lie above the root.
        return newton(line, target, lo, np.minimum(hi, lo + 2.0 * target + 20.0), lo + target)

    everywhere = np.ones(margin0.shape, dtype=np.bool_)
    if not logistic:
        stage(-1.0, lambda part, lo, hi, t: falling(part, lo, hi, np.log(t)), everywhere)
    stage(1.0, steady, everywhere)
    rest = np.flatnonzero(np.isnan(result))
    with np.errstate(divide="ignore"):
        log_left = np.where(log_time[rest] < 690.0, np.log(left[rest]), log_time[rest])
    result[rest] = falling(growth[rest], current[rest], np.full(rest.shape, np.inf), log_left)
    return result


def squared_margin(growth: Growth, margin0: Array, time: Array) -> Array:
    """Return the margin under the force 1 - m; it approaches 1 from either side."""
    if growth.depth == 1:
        return margin0 - (1.0 - margin0) * np.expm1(-time)
    if growth.depth == 2:
        return _squared_margin_of_two(growth.imbalance, margin0, time)
    return _squared_margin_of_many(growth, margin0, time)


def _squared_margin_of_two(c: Array, margin0: Array, time: Array) -> Array:
    """(m0 R^2 + E)/(R^2 + E), E = P (cosh Rt - 1) + R S sinh Rt, R^2 = C^2 + 4, S = h(m0), P = C^2 + 4 m0 (derived:
    m is a Moebius function of sinh of the time, see Growth.linear_time)."""
    r, s, p = np.hypot(c, 2.0), np.hypot(c, 2.0 * margin0), c**2 + 4.0 * margin0
    decay, risen = np.exp(-r * time), -np.expm1(-r * time)
    # E = (e^(Rt) - 1)(up + down e^(-Rt))/2 with up, down = R S + P, R S - P, of which one is large and one small.
    large = r * s + np.abs(p)
    behind = p < 0.0
    with np.errstate(over="ignore", divide="ignore"):
        # large small = (2c(1 - m0))^2; for P < 0 all is divided by up e^(Rt) + 1, since up may underflow.
        log_small = 2.0 * np.log(2.0 * c * np.abs(1.0 - margin0)) - np.log(large)
        exponent = log_small + r * time
        up = np.where(behind, 1.0 / (1.0 + np.exp(-exponent)), large)
        start = np.where(behind, 1.0 / (1.0 + np.exp(exponent)), decay)
        down = np.where(behind, large, np.exp(log_small))
    e = 0.5 * risen * (up + down * start)
    # For P < 0 the numerator is nearly 0 until m crosses zero: m0 R^2 + down/2 as a product.
    q = np.where(behind, c**2 - 4.0 * margin0 - 2.0 * margin0 * c**2, 1.0)
    left = 2.0 * c**2 * (1.0 - margin0) * (1.0 + margin0 * (3.0 + c**2)) / (r * s + q)
    product = (left - 0.5 * down * decay) * start + 0.5 * risen * up
    top = np.where(behind & (decay < 0.5), product, margin0 * r**2 * start + e)
    result: Array = top / (r**2 * start + e)
    return result


def _squared_margin_of_many(growth: Growth, margin0: Array, time: Array) -> Array:
    result: Array = margin0.copy()
    left, depth, power = time.copy(), growth.depth, growth.power

    def stage(end: float, chosen: Mask, solve: Callable[[Growth, Array, Array], Array]) -> Mask:
        """Solve for chosen modes that do not reach ``end``; return which do, with their time reduced."""
        index = np.flatnonzero(chosen)
        start, target = result[index], np.full(index.shape, end)
        needed = growth[index].linear_time(np.minimum(start, target), np.maximum(start, target))
        stays = left[index] < needed
        result[index] = target
        result[index[stays]] = solve(growth[index[stays]], start[stays], left[index[stays]])
        left[index] -= needed
        going = np.zeros(chosen.shape, dtype=np.bool_)
        going[index[~stays]] = True
        return going

    def early(part: Growth, start: Array, target: Array) -> Array:
        def line(u: Array, i: Index) -> tuple[Array, Array]:
            m = np.maximum(part[i].advance(start[i], u), start[i])
            return part[i].linear_time(start[i], m), 1.0 / (1.0 - m)

        top = part.free_time(start, np.full(start.shape, 0.5))
        return part.advance(start, newton(line, target, np.zeros(start.shape), top, target * (1.0 - start)))

    def descent(part: Growth, start: Array, target: Array) -> Array:
        def line(y: Array, i: Index) -> tuple[Array, Array]:
            m = np.minimum(y ** (-1.0 / power), start[i])
            return part[i].linear_time(m, start[i]), m / ((m - 1.0) * depth * power)

        lo = start**-power
        y = newton(line, target, lo, np.full(lo.shape, 2.0**-power), lo + depth * power * target)
        result: Array = y ** (-1.0 / power)
        return result

    def late(part: Growth, start: Array, target: Array) -> Array:
        """Solve in the distance covered, of which 1 - e^(-D time) is nearly a linear function."""
        side = np.sign(1.0 - start)

        def line(x: Array, i: Index) -> tuple[Array, Array]:
            m = start[i] + side[i] * x
            total = part[i].linear_time(np.minimum(start[i], m), np.maximum(start[i], m))
            with np.errstate(divide="ignore", invalid="ignore"):
                slope = depth * np.exp(-depth * total) / (np.abs(1.0 - m) * part[i].speed(m))
            return -np.expm1(-depth * total), slope

        goal, top = -np.expm1(-depth * target), np.abs(1.0 - start)
        return start + side * newton(line, goal, np.zeros(start.shape), top, top * goal)

    rising = (margin0 < 1.0) & (margin0 > 0.0)
    going = stage(0.5, rising & (margin0 < 0.5), early) | (rising & (margin0 >= 0.5))
    going |= stage(2.0, margin0 > 2.0, descent) | ((margin0 > 1.0) & (margin0 <= 2.0))
    index = np.flatnonzero(going)
    result[index] = late(growth[index], result[index], left[index])
    return result


def newton(
    line: Callable[[Array, Index], tuple[Array, Array]], target: Array, lo: Array, hi: Array, start: Array
) -> Array:
    """Solve value(y) = target for an increasing function, element by element, with lo <= y <= hi.

    ``line`` gets points and the indices of their elements and returns values and slopes. An element rests once its step
    is below rounding, so that no result depends on what else is in the array.
    """
    lo, hi, y = lo.copy(), hi.copy(), np.clip(start, lo, hi)
    active = np.arange(y.size)
    for _ in range(_MAX_STEPS):
        if active.size == 0:
            break
        now = y[active]
        value, slope = line(now, active)
        miss = target[active] - value
        lo[active] = np.where(miss >= 0.0, now, lo[active])
        hi[active] = np.where(miss <= 0.0, now, hi[active])
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            after = now + miss / slope
        a, b = lo[active], hi[active]
        after = np.where((after >= a) & (after <= b), after, 0.5 * (a + b))
        y[active] = after
        active = active[np.abs(after - now) > 1e-15 * np.abs(after)]
    return y
