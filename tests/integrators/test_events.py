"""Events against closed forms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import wideangle as wa
from wideangle.integrators import Event, integrate

numba = pytest.importorskip("numba")
METHODS = ("tsit5", "dop853", "rodas5p")


@numba.njit
def circle(t, y, params, out):  # type: ignore[no-untyped-def]
    out[0], out[1] = params[0] * y[1], -params[0] * y[0]


@numba.njit
def height(t, y, params):  # type: ignore[no-untyped-def]
    return y[0] - params[1]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("direction", [-1, 0, 1])
def test_zeros_of_a_sine(method: str, direction: int) -> None:
    """y0 = sin(w t): zeros at k pi / w, rising for even k; the one at the start does not count."""
    event = Event(height, direction=direction)
    run = integrate(circle, [0.0, 1.0], [0.0, 10.0], params=[2.0, 0.0], method=method, rtol=1e-11, events=event).isel(
        trajectory=0
    )
    k = np.arange(1, 7)
    expected = k[(direction == 0) | ((-1) ** k == direction)] * np.pi / 2.0
    assert int(run.n_events[0]) == len(expected)
    np.testing.assert_allclose(run.event_time[0, : len(expected)], expected, rtol=1e-9)
    assert np.isnan(run.event_time[0, len(expected) :]).all()
    # On the dense output the zero is exact to rounding, whatever the error of the trajectory.
    height_there = run.event_y[0, : len(expected), 0]
    assert abs(height_there).max() < 1e-14
    # And the sign there is already the new one.
    assert (height_there * run.event_y[0, : len(expected), 1] >= 0.0).all()
    assert int(run.status) == 0


@pytest.mark.parametrize("method", METHODS)
def test_terminal_event_ends_its_trajectory_alone(method: str) -> None:
    frequencies = np.array([1.0, 2.0, 0.05])
    params = np.stack([frequencies, np.full(3, 0.5)], axis=1)
    times = np.linspace(0.0, 6.0, 61)
    run = integrate(
        circle, [0.0, 1.0], times, params=params, method=method, rtol=1e-10, events=Event(height, terminal=True)
    )
    crossing = np.arcsin(0.5) / frequencies
    assert run.status.values.tolist() == [1, 1, 0]
    np.testing.assert_allclose(run.event_time[:2, 0, 0], crossing[:2], rtol=1e-9)
    assert np.isnan(run.event_time[2]).all()
    np.testing.assert_array_equal(run.final_time[:2], run.event_time[:2, 0, 0])
    assert float(run.final_time[2]) == 6.0
    assert run.n_events[:, 0].values.tolist() == [1, 1, 0]
    for k in range(3):
        past = times > float(run.final_time[k])
        assert np.isnan(run.y[k, past]).all()
        np.testing.assert_allclose(run.y[k, ~past, 0], np.sin(frequencies[k] * times[~past]), atol=1e-8)


@numba.njit
def several(t, y, params, out):  # type: ignore[no-untyped-def]
    for k in range(len(out)):
        out[k] = y[0] - 0.1 * (k + 1)


def test_events_of_one_step_come_in_their_order() -> None:
    """Nine levels, all passed within the first steps; the fifth and the last are made terminal by further events."""

    @numba.njit
    def fall(t, y, params, out):  # type: ignore[no-untyped-def]
        out[0] = -1.0

    @numba.njit
    def middle(t, y, params):  # type: ignore[no-untyped-def]
        return y[0] - 0.55

    run = integrate(
        fall, [1.0], [0.0, 100.0], events=[Event(several, size=9), Event(middle, terminal=True)], rtol=1e-3
    ).isel(trajectory=0)
    assert int(run.n_steps) < 20
    assert int(run.status) == 1
    assert float(run.final_time) == pytest.approx(0.45, rel=1e-14)
    assert run.n_events.values.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
    np.testing.assert_allclose(run.event_time[5:9, 0], [0.4, 0.3, 0.2, 0.1], rtol=1e-14)


@pytest.mark.parametrize("exponent", [1, 3, 5])
@pytest.mark.parametrize("method", METHODS)
def test_flat_zeros_are_found(exponent: int, method: str) -> None:
    @numba.njit
    def clock(t, y, params, out):  # type: ignore[no-untyped-def]
        out[0] = 1.0

    @numba.njit
    def flat(t, y, params):  # type: ignore[no-untyped-def]
        return (y[0] - 1.0 / 3.0) ** exponent

    run = integrate(clock, [0.0], [0.0, 1.0], events=Event(flat), method=method).isel(trajectory=0)
    assert float(run.event_time[0, 0]) == pytest.approx(1.0 / 3.0, rel=1e-14)


def test_time_events_far_from_zero() -> None:
    @numba.njit
    def clock(t, y, params, out):  # type: ignore[no-untyped-def]
        out[0] = 1.0

    @numba.njit
    def alarm(t, y, params):  # type: ignore[no-untyped-def]
        return t - 1e12 - 3.7

    run = integrate(clock, [0.0], [1e12, 1e12 + 10.0], events=Event(alarm, terminal=True)).isel(trajectory=0)
    assert abs(float(run.final_time) - (1e12 + 3.7)) <= 2.0 * np.spacing(1e12)


def test_more_zeros_than_places_are_counted_and_said() -> None:
    event = Event(height, max_count=3)
    with pytest.warns(UserWarning, match=r"event 0 had up to 6 zeros.*first 3 were kept; raise max_count"):
        run = integrate(circle, [0.0, 1.0], [0.0, 10.0], params=[2.0, 0.0], events=event).isel(trajectory=0)
    assert run.event_time.shape == (1, 3)
    np.testing.assert_allclose(run.event_time[0], np.arange(1, 4) * np.pi / 2.0, rtol=1e-8)
    assert int(run.n_events[0]) == 6


def test_an_event_that_is_not_a_number_ends_its_trajectory() -> None:
    @numba.njit
    def logarithm(t, y, params):  # type: ignore[no-untyped-def]
        return math.log(y[0] - params[1])

    @numba.njit
    def refuses(t, y, params):  # type: ignore[no-untyped-def]
        if y[0] < params[1]:
            raise ValueError("below")
        return 1.0

    for function in (logarithm, refuses):
        run = integrate(circle, [1.0, 0.0], [0.0, 1.0, 2.0], params=[[1.0, -2.0], [1.0, 0.0]], events=Event(function))
        assert run.status.values.tolist() == [0, 4]
        assert np.isfinite(run.y[0]).all()
        assert np.isnan(run.y[1, 2]).all()
        assert 0.0 < float(run.final_time[1]) < np.pi / 2.0


def test_dimensions() -> None:
    run = integrate(
        circle,
        np.tile([0.0, 1.0], (5, 1)),
        [0.0, 1.0, 2.0],
        params=[2.0, 0.0],
        events=[Event(height), Event(several, size=2, max_count=7)],
    )
    assert dict(run.event_y.sizes) == {"trajectory": 5, "event": 3, "occurrence": 64, "component": 2}
    assert run.n_events.dims == ("trajectory", "event")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"function": 3}, "function must be a function, got 3"),
        ({"function": height, "terminal": 1}, "terminal must be True or False"),
        ({"function": height, "direction": 2}, "direction must lie between -1 and 1, got 2; give 1 for rising"),
        ({"function": height, "size": 0}, "size must lie between 1 and"),
        ({"function": height, "max_count": 0}, "max_count must lie between 1 and"),
    ],
)
def test_bad_events(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Event(**arguments)


def test_events_of_the_wrong_kind() -> None:
    options: dict[str, Any] = {"params": [1.0, 0.0]}
    with pytest.raises(TypeError, match=r"events must be an Event or a list of them, got .* give Event\(g"):
        integrate(circle, [0.0, 1.0], [0.0, 1.0], events=height, **options)
    with pytest.raises(TypeError, match=r"events\[0\].function must take the arguments \(t, y, params, out\)"):
        integrate(circle, [0.0, 1.0], [0.0, 1.0], events=Event(height, size=2), **options)
    text = Event(lambda t, y, params: "no number")
    with pytest.raises(TypeError, match=r"events\[1\].function could not be compiled by Numba"):
        integrate(circle, [0.0, 1.0], [0.0, 1.0], events=[Event(height), text], **options)


def test_public_names() -> None:
    assert wa.integrators.Event is Event
