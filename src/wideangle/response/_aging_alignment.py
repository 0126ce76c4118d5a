"""Responses of networks at common times in units of their own: a collapse of their curves."""

from __future__ import annotations

import numpy as np

from wideangle.response._aging_curves import LEAST_TIMES, Array, Index

_POINTS = 4
_AROUND = 2
_NOISE = 1e-4  # variance of logarithms that a curve may add
_MEDIAN = 0.6745  # of the magnitude of a standard normal number


def common_times(time: Array, units: Array) -> Array:
    """Return the times of the slowest network in its unit, from the first on that all networks have."""
    scaled = time / units.max()
    result = scaled[scaled * units.min() >= time[0]]
    if len(result) < LEAST_TIMES:
        raise ValueError(
            f"time_unit must leave {LEAST_TIMES} times at which all networks have responses, got {len(result)}, as "
            f"units run from {units.min():.3g} to {units.max():.3g}; record earlier times, or leave out networks"
        )
    return np.asarray(result)


def align(responses: Array, time: Array, units: Array, scaled: Array) -> tuple[Array, Array]:
    """Return responses (network, time) at times in units of each network, and the error of their mean (time).

    Logarithms are interpolated by a cubic through four neighbours, in t or in ln t, whichever is right where times are
    left out in turn. So exponentials are exact, at any spacing, and powers nearly. Where the sign changes the
    responses themselves are interpolated, and where a cubic would enlarge noise a line is taken. What the cubic
    differs from the parabola of the three nearest counts as the error. It is averaged over networks, whose noise goes
    from it like that of the mean, and then over neighbouring times, as it changes its sign.
    """
    size = float(np.abs(responses).max()) or 1.0
    responses = responses / size
    with np.errstate(divide="ignore"):
        logs = np.log(np.abs(responses))
    same_sign = np.sign(responses)
    first = time[time > 0.0][0]
    places = [time, np.log(time + (first if time[0] == 0.0 else 0.0))]
    tried = [_left_out(logs, same_sign, place) for place in places]
    chosen = int(np.argmin(tried))
    noise = tried[chosen]
    place, shift = places[chosen], first if time[0] == 0.0 else 0.0
    result, differences = np.empty((len(responses), len(scaled))), np.zeros(len(scaled))
    for k, unit in enumerate(units):
        # Rounding must not take the ends out of the range.
        own = np.clip(scaled * unit, time[0], time[-1])
        at = np.log(own + shift) if chosen else own
        result[k], rougher = _interpolate(responses[k], logs[k], place, at, noise)
        differences += result[k] - rougher
    squares = np.pad((differences / len(responses)) ** 2, _AROUND, mode="edge")
    error = np.sqrt(np.lib.stride_tricks.sliding_window_view(squares, 2 * _AROUND + 1).mean(axis=1))
    return result * size, error * size


def _interpolate(values: Array, logs: Array, place: Array, at: Array, noise: float) -> tuple[Array, Array]:
    """Return one response at other places by four and by three points, within its values at the two neighbours."""
    before = np.clip(np.searchsorted(place, at, side="right") - 1, 0, len(place) - 2)
    index = _stencil(before, len(place))
    x = place[index]
    signs = np.sign(values[index])
    usable = np.abs(signs.sum(axis=-1)) == _POINTS
    farthest = np.where(np.abs(x[:, 0] - at) > np.abs(x[:, -1] - at), 0, _POINTS - 1)

    def ends(quantity: Array) -> tuple[Array, Array]:
        pair = quantity[before], quantity[before + 1]
        return np.minimum(*pair), np.maximum(*pair)

    part = (at - place[before]) / (place[before + 1] - place[before])
    sides = np.stack([1.0 - part, part], axis=-1)
    lines = np.sum(sides[:, :, None] * (index[:, None, :] == before[:, None, None] + np.arange(2)[:, None]), axis=1)
    found = []
    for curved in (_weights(x, at), _weights(x, at, farthest)):
        # Where neighbours lie close together beside a gap curves would enlarge noise.
        enlarged = noise * (np.sum(curved**2, axis=-1, keepdims=True) - 1.0)
        weights = np.where(enlarged > _NOISE, lines, curved)
        power = np.sum(weights * np.where(usable[:, None], logs[index], 0.0), axis=-1)
        power = np.clip(power, *ends(logs))
        # The mean of noise over times is smaller for logarithms than for the responses.
        power += 0.5 * noise * (1.0 - np.sum(weights**2, axis=-1))
        direct = np.clip(np.sum(weights * values[index], axis=-1), *ends(values))
        found.append(np.where(usable, signs[:, 0] * np.exp(power), direct))
    return found[0], found[1]


def _stencil(before: Index, n_times: int) -> Index:
    """Return four neighbours (at, 4) of places after ``before``, fewer of them on the side of an end."""
    start = np.clip(before - 1, 0, n_times - _POINTS)
    return np.asarray(start[:, None] + np.arange(_POINTS))


def _weights(x: Array, at: Array, without: Index | None = None) -> Array:
    """Return the weights (at, 4) of Lagrange's polynomial through places (at, 4), or through all but one of them."""
    result = np.ones_like(x)
    for j in range(_POINTS):
        for k in range(_POINTS):
            if k != j:
                factor = (at - x[:, k]) / (x[:, j] - x[:, k])
                result[:, j] *= factor if without is None else np.where(without == k, 1.0, factor)
    if without is not None:
        result[np.arange(len(x)), without] = 0.0
    return result


def _left_out(logs: Array, signs: Array, place: Array) -> float:
    """Return the variance of logarithms that goes with their errors at times left out, where the sign does not change.

    It is that of the middle half of the errors, as logarithms of noise have long tails.
    """
    inner = np.arange(2, len(place) - 2)
    index = inner[:, None] + np.array([-2, -1, 1, 2])
    weights = _weights(place[index], place[inner])
    usable = np.abs(signs[:, index].sum(axis=-1) + signs[:, inner]) == _POINTS + 1
    if not np.any(usable):
        return 0.0
    with np.errstate(invalid="ignore"):
        errors = np.sum(weights * logs[:, index], axis=-1) - logs[:, inner]
    scaled = errors / np.sqrt(1.0 + np.sum(weights**2, axis=-1))
    return float(np.median(np.abs(scaled[usable])) / _MEDIAN) ** 2
