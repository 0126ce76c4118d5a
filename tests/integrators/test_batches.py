"""Batches: what trajectories do not do to each other, statuses, layouts."""

from __future__ import annotations

import bisect
import math

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wideangle.integrators import Event, integrate

numba = pytest.importorskip("numba")
Floats = NDArray[np.float64]


@numba.njit
def starvation(t, m, params, out):  # type: ignore[no-untyped-def]
    common, rare = 1.0 / (1.0 + math.exp(m[0])), 1.0 / (1.0 + math.exp(m[0] + m[1]))
    out[0] = 2.0 * m[0] * ((1.0 - params[0]) * common + params[0] * rare)
    out[1] = 2.0 * m[1] * params[0] * rare


@numba.njit
def branching(t, m, params, out):  # type: ignore[no-untyped-def]
    if t < 0.0:
        out[0] = 0.0
    common, rare = 1.0 / (1.0 + math.exp(m[0])), 1.0 / (1.0 + math.exp(m[0] + m[1]))
    out[0] = 2.0 * m[0] * ((1.0 - params[0]) * common + params[0] * rare)
    out[1] = 2.0 * m[1] * params[0] * rare


@numba.njit
def unit_margin(t, m, params):  # type: ignore[no-untyped-def]
    return m[0] - 1.0


@numba.njit
def van_der_pol(t, y, params, out):  # type: ignore[no-untyped-def]
    out[0], out[1] = y[1], params[0] * (1.0 - y[0] ** 2) * y[1] - y[0]


def random_batch(number: int) -> tuple[Floats, Floats]:
    generator = np.random.default_rng(7)
    draws = generator.random((number, 3))
    return 1e-3 * 10.0 ** draws[:, :2], 0.05 + 0.45 * draws[:, 2:]


TIMES = np.array([0.0, 1.0, 30.0, 31.0, 1000.0])


@pytest.mark.parametrize("method", ["tsit5", "dop853", "rodas5p"])
@pytest.mark.parametrize("rhs", [starvation, branching])
def test_same_bits_whatever_the_neighbours(rhs, method: str) -> None:  # type: ignore[no-untyped-def]
    """Threads, batch sizes, order and lanes leave no trace in a trajectory."""
    y0, params = random_batch(250)
    event = Event(unit_margin)
    whole = integrate(rhs, y0, TIMES, params=params, method=method, events=event, n_threads=1)
    assert whole.attrs["rhs_in_lanes"] == str(rhs is starvation)
    threads = integrate(rhs, y0, TIMES, params=params, method=method, events=event, n_threads=3)
    xr.testing.assert_identical(whole, threads)
    backwards = integrate(rhs, y0[::-1], TIMES, params=params[::-1], method=method, events=event, n_threads=2)
    for name in whole.data_vars:
        np.testing.assert_array_equal(whole[name], backwards[name][::-1], err_msg=str(name))
    for k in (0, 1, 16, 17, 100, 249):
        alone = integrate(rhs, y0[k], TIMES, params=params[k], method=method, events=event).isel(trajectory=0)
        for name in whole.data_vars:
            np.testing.assert_array_equal(whole[name][k], alone[name], err_msg=str(name))
    few = integrate(rhs, y0[:19], TIMES, params=params[:19], method=method, events=event)
    xr.testing.assert_identical(few, whole.isel(trajectory=slice(0, 19)))


def test_stiff_and_failing_neighbours_leave_no_trace() -> None:
    strength = np.array([0.5, 1e4, 1e300, 3.0, 1e6, 2.0, 1e-3, 0.0])
    many = np.resize(strength, 50)[:, None]
    run = integrate(van_der_pol, [2.0, 0.0], [0.0, 3.0, 7.0], params=many, max_steps=20_000)
    again = integrate(van_der_pol, [2.0, 0.0], [0.0, 3.0, 7.0], params=many[::-1], max_steps=20_000, n_threads=2)
    for name in run.data_vars:
        np.testing.assert_array_equal(run[name], again[name][::-1], err_msg=str(name))
        np.testing.assert_array_equal(run[name][:8], run[name][8:16], err_msg=str(name))
    assert set(np.unique(run.method)) == {1, 2}
    assert (run.status[[0, 1, 3, 5, 6, 7]] == 0).all()


@pytest.mark.parametrize("number", [1, 2, 15, 16, 17, 33])
@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_every_trajectory_is_integrated_once(number: int, n_threads: int) -> None:
    rates = np.linspace(0.1, 2.0, number)[:, None]
    run = integrate(decay, [1.0], [0.0, 1.0, 2.0], params=rates, n_threads=n_threads)
    np.testing.assert_allclose(run.y[:, :, 0], np.exp(-rates * np.array([0.0, 1.0, 2.0])), rtol=1e-7)
    assert (run.status == 0).all()
    assert (run.final_time == 2.0).all()


@numba.njit
def decay(t, y, params, out):  # type: ignore[no-untyped-def]
    out[0] = -params[0] * y[0]


def test_first_time_holds_the_start() -> None:
    y0, params = random_batch(20)
    run = integrate(starvation, y0, [3.0, 4.0], params=params)
    np.testing.assert_array_equal(run.y.sel(time=3.0), y0)
    assert list(run.time.values) == [3.0, 4.0]


def test_layouts_and_types() -> None:
    """Arrays of any layout, byte order and number type give what their values say."""
    y0, params = random_batch(6)
    y0, params = y0.astype(np.float16), np.full((6, 1), 0.25)
    truth = integrate(starvation, y0.astype(np.float64), [0.0, 5.0], params=params)
    forms = [y0, np.asfortranarray(y0), y0.astype(">f4"), np.repeat(y0, 2, axis=0)[::2]]
    read_only = y0.astype(np.float64)
    read_only.flags.writeable = False
    for form in (*forms, read_only):
        run = integrate(starvation, form, np.array([0, 5], dtype=np.int32), params=params.astype(np.float16))
        np.testing.assert_array_equal(run.y, truth.y)


def test_arguments_are_left_alone() -> None:
    y0, params = random_batch(5)
    kept = y0.copy(), params.copy()
    integrate(starvation, y0, TIMES, params=params)
    np.testing.assert_array_equal(y0, kept[0])
    np.testing.assert_array_equal(params, kept[1])


def test_a_function_may_change_its_arguments() -> None:
    """What it writes into y and params is lost, and reaches no other evaluation."""

    @numba.njit
    def careless(t, y, params, out):  # type: ignore[no-untyped-def]
        out[0] = -params[0] * y[0]
        y[0] = 1e300
        params[0] = -5.0

    run = integrate(careless, [1.0], [0.0, 1.0], params=[[1.0], [2.0]])
    np.testing.assert_allclose(run.y[:, 1, 0], np.exp([-1.0, -2.0]), rtol=1e-8)


def test_broadcasting() -> None:
    rates = np.array([[1.0], [2.0]])
    assert integrate(decay, [1.0], [0, 1], params=[1.0]).y.dims == ("trajectory", "time", "component")
    for y0, params in (([1.0], rates), ([[1.0]], rates), ([[1.0], [1.0]], rates)):
        run = integrate(decay, y0, [0, 1], params=params)
        np.testing.assert_allclose(run.y[:, 1, 0], np.exp([-1.0, -2.0]), rtol=1e-8)
    run = integrate(decay, [[1.0], [3.0]], [0, 1], params=[1.0])
    np.testing.assert_allclose(run.y[:, 1, 0], np.exp(-1.0) * np.array([1.0, 3.0]), rtol=1e-8)


@pytest.mark.parametrize("method", ["tsit5", "dop853", "rodas5p"])
def test_blow_up_in_finite_time(method: str) -> None:
    """y' = y^2 ends at t = 1 / y0: the step gets too small there, and the others go on."""

    @numba.njit
    def square(t, y, params, out):  # type: ignore[no-untyped-def]
        out[0] = y[0] * y[0]

    run = integrate(square, [[1.0], [0.1], [2.0]], [0.0, 0.25, 0.75, 3.0], method=method)
    assert set(run.status.values[[0, 2]]) <= {2, 4}
    assert int(run.status[1]) == 0
    np.testing.assert_allclose(run.final_time[[0, 2]], [1.0, 0.5], rtol=1e-6)
    np.testing.assert_array_equal(np.isnan(run.y[:, :, 0]), [[0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 1]])
    np.testing.assert_allclose(run.y[1, :, 0], 1.0 / (10.0 - run.time), rtol=1e-6)


@pytest.mark.parametrize("method", ["tsit5", "dop853", "rodas5p"])
def test_not_finite(method: str) -> None:
    """A slope that stops being a number, raises, or is not written ends that trajectory alone."""

    @numba.njit
    def root(t, y, params, out):  # type: ignore[no-untyped-def]
        out[0] = -math.sqrt(params[0] - t)

    @numba.njit
    def raising(t, y, params, out):  # type: ignore[no-untyped-def]
        if t > params[0]:
            raise ValueError("too late")
        out[0] = -1.0

    @numba.njit
    def dividing(t, y, params, out):  # type: ignore[no-untyped-def]
        out[0] = 1 // int(math.floor(params[0] - t) + 1.0)

    for rhs in (root, raising, dividing):
        run = integrate(rhs, [0.0], [0.0, 0.5, 2.0], params=[[1.0], [9.0], [1.0]], method=method)
        assert run.status.values.tolist() == [4, 0, 4], rhs
        assert np.isfinite(run.y[:, 1]).all()
        assert np.isnan(run.y[[0, 2], 2]).all()
        np.testing.assert_allclose(run.final_time, [1.0, 2.0, 1.0], atol=1e-6)

    @numba.njit
    def forgetful(t, y, params, out):  # type: ignore[no-untyped-def]
        if params[0] > 5.0:
            out[0] = 1.0
        out[1] = 1.0

    run = integrate(forgetful, [0.0, 0.0], [0.0, 0.5], params=[[1.0], [9.0]], method=method)
    assert run.status.values.tolist() == [4, 0]

    @numba.njit
    def forgetful_in_lanes(t, y, params, out):  # type: ignore[no-untyped-def]
        out[1] = 1.0

    # Memory that holds slopes of an earlier call.
    integrate(starvation, [1e-3, 1e-3], [0.0, 1.0], params=[0.5], method=method)
    assert int(integrate(forgetful_in_lanes, [0.0, 0.0], [0.0, 0.5], method=method).status[0]) == 4


def test_overflow_is_not_accepted() -> None:
    @numba.njit
    def fast(t, y, params, out):  # type: ignore[no-untyped-def]
        out[0] = params[0] * y[0]

    run = integrate(fast, [1.0], [0.0, 1.0, 100.0], params=[[1.0], [100.0]])
    assert int(run.status[0]) == 0
    assert int(run.status[1]) in (2, 4)
    assert np.isnan(run.y[1, 2, 0])
    assert 7.0 < float(run.final_time[1]) < 7.11


@pytest.mark.parametrize("method", ["tsit5", "dop853", "rodas5p"])
def test_overflow_without_an_error_estimate(method: str) -> None:
    """A constant slope has no error at all, and the end of a step can still be infinite."""

    @numba.njit
    def constant(t, y, params, out):  # type: ignore[no-untyped-def]
        out[0] = params[0]

    run = integrate(constant, [0.0], [0.0, 1.0, 1e4], params=[[1e305], [1.0]], method=method)
    assert int(run.status[0]) in (2, 4)
    assert int(run.status[1]) == 0
    assert 1000.0 < float(run.final_time[0]) < 1798.0
    assert np.isnan(run.y[0, 2, 0])


@pytest.mark.parametrize("method", ["tsit5", "dop853", "rodas5p"])
def test_edge_of_a_domain(method: str) -> None:
    """The slope of y' = -sqrt(y) ends at y = 0, t = 2: no step ends where the slope is not a number."""

    @numba.njit
    def draining(t, y, params, out):  # type: ignore[no-untyped-def]
        out[0] = -math.sqrt(y[0])

    times = np.append(np.linspace(0.0, 1.99, 50), 3.0)
    run = integrate(draining, [1.0], times, method=method).isel(trajectory=0)
    assert int(run.status) in (2, 4)
    np.testing.assert_allclose(run.y[:50, 0], (1.0 - times[:50] / 2.0) ** 2, atol=1e-7)
    assert float(run.final_time) == pytest.approx(2.0, abs=1e-3)


def test_too_many_steps() -> None:
    run = integrate(decay, [1.0], [0.0, 1.0, 1e6], params=[[1.0], [1e-9]], max_steps=50, method="tsit5")
    assert run.status.values.tolist() == [3, 0]
    assert int(run.n_steps[0] + run.n_rejected[0]) == 50
    np.testing.assert_allclose(run.y[0, 1, 0], np.exp(-1.0), rtol=1e-8)


def test_counts() -> None:
    """Twelve evaluations a step, two to begin, three more where an output lies inside."""
    run = integrate(decay, [1.0], [0.0, 1.0], params=[1.0], method="dop853").isel(trajectory=0)
    assert int(run.n_evaluations) == 2 + 12 * int(run.n_steps + run.n_rejected)
    run = integrate(decay, [1.0], [0.0, 1e-7, 1.0], params=[1.0], method="dop853").isel(trajectory=0)
    assert int(run.n_evaluations) == 2 + 12 * int(run.n_steps + run.n_rejected) + 3


def test_counts_go_on_where_the_stiff_method_takes_over() -> None:
    """Of the steps allowed, the last one is the first of rodas5p: it adds to all that the explicit method counted."""

    def run(steps: int) -> xr.Dataset:
        batch = integrate(van_der_pol, [2.0, 0.0], [0.0, 20.0], params=[1e4], max_steps=steps)
        alone: xr.Dataset = batch.isel(trajectory=0)
        return alone

    first = bisect.bisect_left(range(1, 100), 2, key=lambda steps: int(run(steps).method)) + 1
    before, after = run(first - 1), run(first)
    assert (int(before.method), int(after.method)) == (1, 2)
    assert int(after.n_steps + after.n_rejected) == first == int(before.n_steps + before.n_rejected) + 1
    assert int(after.n_rejected) >= int(before.n_rejected) > 0
    assert int(after.n_steps) >= int(before.n_steps)
    # Stages, Jacobian and slope at the start of one step.
    assert 5 <= int(after.n_evaluations - before.n_evaluations) <= 20


def test_attributes_and_netcdf(tmp_path) -> None:  # type: ignore[no-untyped-def]
    run = integrate(decay, [[1.0]], [0.0, 1.0], params=[1.0])
    assert run.status.attrs["flag_meanings"].split() == [
        "finished",
        "event",
        "step_too_small",
        "too_many_steps",
        "non_finite",
    ]
    assert run.attrs["rhs"] == "decay"
    run.to_netcdf(tmp_path / "run.nc", engine="h5netcdf")
    xr.testing.assert_identical(xr.load_dataset(tmp_path / "run.nc", engine="h5netcdf"), run)


@settings(max_examples=60, deadline=None)
@given(
    rate=st.floats(-3.0, 3.0),
    start=st.floats(1e-3, 1e3),
    times=st.lists(st.floats(0.0, 5.0), min_size=2, max_size=12, unique=True),
    method=st.sampled_from(["tsit5", "dop853", "rodas5p"]),
)
def test_exponential(rate: float, start: float, times: list[float], method: str) -> None:
    """Any output times, however close together or uneven."""
    ordered = np.sort(times)
    run = integrate(decay, [start], ordered, params=[rate], method=method, rtol=1e-9).isel(trajectory=0)
    np.testing.assert_allclose(run.y[:, 0], start * np.exp(-rate * (ordered - ordered[0])), rtol=1e-6)
