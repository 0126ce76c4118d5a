"""Margins at given times: the flow of one mode inverted, stage by stage, by Newton's method within brackets.

Each stage has a coordinate in which the elapsed time, or a function of it, is nearly a straight line, so that a few
steps reach rounding and none is ever far off.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wideangle.dynamics._growth import Array, Growth, Index, Mask

_MAX_STEPS = 100

Line = tuple[Array, Array, Array]


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

    def stage(end: float, solve: Callable[[Growth, Array, Array, Array], Array], log: bool) -> None:
        """Solve for the modes that do not reach ``end``, by the logarithm of the time left or the time itself."""
        index = np.flatnonzero(np.isnan(result) & (current < end))
        part, lo = growth[index], current[index]
        target = np.full(lo.shape, end)
        needed = elapsed(lo, target, part, np.zeros(lo.shape))
        stays = left[index] < needed
        inside = index[stays]
        goal = logarithm(inside) if log else left[inside]
        result[inside] = solve(part[stays], lo[stays], target[stays], goal)
        current[index[~stays]] = end
        left[index[~stays]] -= needed[~stays]

    def logarithm(index: Index) -> Array:
        """ln of the time left, also where the time has left the range of floats."""
        inside = (left[index] > 1e-300) & (left[index] < 1e300) | (left[index] < time[index])
        with np.errstate(divide="ignore"):
            return np.where(inside, np.log(left[index]), log_time[index])

    def steady(part: Growth, lo: Array, hi: Array, target: Array) -> Array:
        """The force changes by a factor of 8 at most: the time is nearly straight in the time under a force of 1."""

        def line(u: Array, i: Index) -> Line:
            m = np.maximum(part[i].advance(lo[i], u), lo[i])
            value = elapsed(lo[i], m, part[i], np.zeros(u.shape))
            return value, np.exp(m) + logistic, part[i].span(m)

        top = part.free_time(lo, hi)
        return part.advance(lo, newton(line, target, np.zeros(lo.shape), top, target / (np.exp(lo) + logistic)))

    def falling(part: Growth, lo: Array, hi: Array, log_target: Array) -> Array:
        """The force falls like e^-m: ln(1 + k time) is nearly straight in m, k being h e^-m at the lower end."""
        goal = log_target + np.log(part.speed(lo))
        rise = goal - lo  # ln(k time)
        far = rise > 40.0  # ln(1 + k time) is ln(k time); without k, the lower end does not cost digits

        def line(m: Array, i: Index) -> Line:
            h = part[i].speed(lo[i])
            scaled = h * elapsed(lo[i], m, part[i], m)  # times e^m it is h time
            with np.errstate(divide="ignore", over="ignore"):
                ratio = np.exp(m - lo[i]) * scaled
                value = np.where(far[i], m + np.log(scaled), np.log1p(ratio))
                slope = h / part[i].speed(m) / np.where(far[i], scaled, scaled + np.exp(lo[i] - m))
            return value, slope * (1.0 + np.exp(-m)) if logistic else slope, np.abs(m)

        target = np.where(far, goal, np.log1p(np.exp(np.minimum(rise, 40.0))))
        ahead = np.where(far, rise, target)
        # h grows like m^2 at most, so twice the straight line and 20 lie above the root.
        top = np.minimum(hi, lo + 2.0 * ahead + 20.0)
        return newton(line, target, lo, top, np.where(far, goal, lo + target))

    if not logistic:
        stage(-1.0, falling, True)
    stage(1.0, steady, False)
    rest = np.flatnonzero(np.isnan(result))
    result[rest] = falling(growth[rest], current[rest], np.full(rest.shape, np.inf), logarithm(rest))
    return result


def squared_margin(growth: Growth, margin0: Array, time: Array) -> Array:
    """Return the margin under the force 1 - m; it approaches 1 from either side."""
    if growth.depth == 1:
        return margin0 * np.exp(-time) - np.expm1(-time)
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
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        # large small = (2c(1 - m0))^2; for P < 0 all is divided by up e^(Rt) + 1, since up may underflow.
        log_small = 2.0 * np.log(2.0 * c * np.abs(1.0 - margin0)) - np.log(large)
        exponent = log_small + r * time
        up = np.where(behind, 1.0 / (1.0 + np.exp(-exponent)), large)
        start = np.where(behind, 1.0 / (1.0 + np.exp(exponent)), decay)
        down = np.where(behind, large, np.exp(log_small))
        e = 0.5 * risen * (up + down * start)
        # For P < 0 the numerator is nearly 0 until m crosses zero: m0 R^2 + down/2 as a product.
        q = np.where(behind, c**2 - 4.0 * margin0 - 2.0 * margin0 * c**2, 1.0)
        left = 2.0 * c * (c / (r * s + q)) * (1.0 - margin0) * (1.0 + margin0 * (3.0 + c**2))
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
        def line(u: Array, i: Index) -> Line:
            m = np.maximum(part[i].advance(start[i], u), start[i])
            return part[i].linear_time(start[i], m), 1.0 / (1.0 - m), part[i].span(m)

        top = part.free_time(start, np.full(start.shape, 0.5))
        return part.advance(start, newton(line, target, np.zeros(start.shape), top, target * (1.0 - start)))

    def descent(part: Growth, start: Array, target: Array) -> Array:
        def line(y: Array, i: Index) -> Line:
            m = np.minimum(y ** (-1.0 / power), start[i])
            return part[i].linear_time(m, start[i]), m / ((m - 1.0) * depth * power), power * y

        lo = start**-power
        y = newton(line, target, lo, np.full(lo.shape, 2.0**-power), lo + depth * power * target)
        result: Array = y ** (-1.0 / power)
        return result

    def late(part: Growth, start: Array, target: Array) -> Array:
        """Solve in the distance covered, of which 1 - e^(-D time) is nearly a linear function."""
        side = np.sign(1.0 - start)

        def line(x: Array, i: Index) -> Line:
            m = start[i] + side[i] * x
            total = part[i].linear_time(np.minimum(start[i], m), np.maximum(start[i], m))
            with np.errstate(divide="ignore", invalid="ignore"):
                slope = depth * np.exp(-depth * total) / (np.abs(1.0 - m) * part[i].speed(m))
            return -np.expm1(-depth * total), slope, m

        goal, top = -np.expm1(-depth * target), np.abs(1.0 - start)
        return start + side * newton(line, goal, np.zeros(start.shape), top, top * goal)

    rising = (margin0 < 1.0) & (margin0 > 0.0)
    going = stage(0.5, rising & (margin0 < 0.5), early) | (rising & (margin0 >= 0.5))
    going |= stage(2.0, margin0 > 2.0, descent) | ((margin0 > 1.0) & (margin0 <= 2.0))
    index = np.flatnonzero(going)
    result[index] = late(growth[index], result[index], left[index])
    return result


def newton(line: Callable[[Array, Index], Line], target: Array, lo: Array, hi: Array, start: Array) -> Array:
    """Solve value(y) = target for an increasing function, element by element, with lo <= y <= hi.

    ``line`` gets points and the indices of their elements and returns values, slopes, and by how much y changes when
    the margin changes by its own size. An element rests once its step or what it misses is down to rounding, of y or of
    the margin, so that no result depends on what else is in the array.
    """
    lo, hi, y = lo.copy(), hi.copy(), np.clip(start, lo, hi)
    active = np.arange(y.size)
    for _ in range(_MAX_STEPS):
        if active.size == 0:
            break
        now = y[active]
        value, slope, scale = line(now, active)
        miss = target[active] - value
        lo[active] = np.where(miss >= 0.0, now, lo[active])
        hi[active] = np.where(miss <= 0.0, now, hi[active])
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            after = now + miss / slope
        a, b = lo[active], hi[active]
        after = np.where((after >= a) & (after <= b), after, 0.5 * (a + b))
        met = np.abs(miss) <= 5e-16 * np.abs(target[active])
        y[active] = np.where(met, now, after)
        moving = np.abs(after - now) > np.maximum(1e-15 * np.abs(after), 3e-16 * scale)
        active = active[moving & ~met]
    return y
