"""Calls of the mean-field model: what results may not depend on, laws of aging, bad input, files and Ctrl-C."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr

import wideangle as wa

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(5)
X = RNG.normal(size=(9, 2))
PROBE = RNG.normal(size=(4, 2))
Y = np.where(RNG.random(9) < 0.5, -1.0, 1.0)
LABELS = {"squared": RNG.normal(size=9), "cross-entropy": Y, "hinge": Y, "exponential": Y}


def bell(points: Array, samples: Array) -> Array:
    return np.asarray(np.exp(-((points[:, None] - samples[None]) ** 2).sum(axis=2)))


def simulate(data: Any = (X, Y), **options: Any) -> xr.Dataset:
    arguments: dict[str, Any] = {"kernel": bell, "learning_rate": 0.3, "n_steps": 20} | options
    return wa.response.simulate_mean_field(data, **arguments)


def points_of(result: xr.Dataset) -> Array:
    parts = [result[name].values for name in ("outputs", "probe_outputs") if name in result]
    return np.concatenate(parts, axis=-1)


# ---- What results may not depend on


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch": 4, "order": "permuted", "noise": 0.2},
        {"batch": "full", "noise": 0.1},
        {"order": np.arange(60).reshape(30, 2) % 9, "noise": 0.3},
    ],
)
def test_same_bits_for_any_threads_number_of_runs_and_records(options: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"n_runs": 40, "n_steps": 30, "probe": PROBE, "seed": 6, "record": (3, 30)} | options
    whole = simulate(**arguments, n_threads=1)
    for other in ({"n_threads": 3}, {"n_runs": 5, "n_threads": 2}, {"record": (3, 10, 11, 30), "n_threads": 2}):
        part = simulate(**(arguments | other)).sel(step=[3, 30])
        np.testing.assert_array_equal(points_of(part), points_of(whole)[: part.sizes["run"]])
    assert not np.array_equal(*points_of(whole)[:2, -1]) or options.get("batch") == "full"


def test_the_blocks_of_steps_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, Any] = {"n_runs": 3, "batch": 2, "order": "permuted", "noise": 0.2, "record": 7, "n_steps": 50}
    whole = simulate(**arguments)
    monkeypatch.setattr("wideangle.response._mean_field_running._VISITS", 50)
    np.testing.assert_array_equal(points_of(simulate(**arguments)), points_of(whole))


@pytest.mark.parametrize("options", [{}, {"batch": 4, "order": "permuted"}, {"batch": 2, "noise": 0.2}])
def test_a_run_goes_on_where_it_ended(options: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {
        "n_runs": 3, "probe": PROBE, "aging": lambda time: np.exp(-time), "seed": 4, **options
    }  # fmt: skip
    whole = simulate(n_steps=30, **arguments)
    first = simulate(n_steps=13, **arguments)
    second = simulate(n_steps=17, start_step=13, initial=points_of(first)[:, -1], **arguments)
    np.testing.assert_array_equal(points_of(second)[:, -1], points_of(whole)[:, -1])
    assert second.step.values[[0, -1]].tolist() == [13, 30]
    assert second.time[-1] == whole.time[-1]


def test_a_run_that_diverges_is_marked_and_the_others_go_on() -> None:
    start = np.zeros((3, 9))
    start[1, 2] = -800.0 * Y[2]
    order = np.full(20, 2)
    result = simulate(loss="exponential", initial=start, n_runs=3, order=order, record=1)
    assert result.status.values.tolist() == [0, 1, 0]
    assert result.diverged_step.values.tolist() == [-1, 1, -1]
    assert np.isnan(result.outputs.values[1, 1:]).all()
    assert np.isfinite(result.outputs.values[1, 0]).all()
    alone = simulate(loss="exponential", initial=start[::2], n_runs=2, order=order, record=1)
    np.testing.assert_array_equal(result.outputs[::2], alone.outputs)
    np.testing.assert_array_equal(np.isnan(result.loss), np.isnan(result.outputs[..., 0]))
    np.testing.assert_array_equal(np.isnan(result.plasticity), np.isnan(result.outputs[..., 0]))


def test_steps_that_are_too_large_end_in_nan() -> None:
    result = simulate((X, LABELS["squared"]), loss="squared", learning_rate=1e30, n_steps=100, n_runs=4)
    assert np.all(result.status == 1)
    assert np.all(result.diverged_step > 0)
    assert not np.isfinite(result.outputs.isel(time=-1)).any()


@pytest.mark.parametrize("change", [lambda a: a.astype(">f8"), np.asfortranarray, lambda a: np.repeat(a, 2, 0)[::2]])
def test_any_layout_gives_the_same(change: Callable[[Array], Array]) -> None:
    kernel, start = bell(np.concatenate([X, PROBE]), X), RNG.normal(size=(2, 13))
    arguments = [X, Y, kernel, start, PROBE]
    expected, actual = (
        points_of(simulate((x, y), kernel=k, initial=s, probe=p, n_runs=2, noise=0.1))
        for x, y, k, s, p in (arguments, map(change, arguments))
    )
    np.testing.assert_array_equal(actual, expected)


def test_arrays_are_neither_written_to_nor_need_to_be_writable() -> None:
    arrays = [X.copy(), Y.copy(), bell(X, X), np.ones(9), np.ones(20), np.arange(20) % 9]
    for array in arrays:
        array.flags.writeable = False
    x, y, kernel, start, alpha, order = arrays
    for options in ({"order": order}, {"batch": "full"}):
        result = simulate((x, y), kernel=kernel, initial=start, aging=alpha, **options)
        assert np.isfinite(result.outputs).all()


def test_small_types_are_taken_as_they_are() -> None:
    kernel = np.eye(9, dtype="f2") * 2
    plain = simulate(kernel=kernel.astype(float), initial=1.0, order=np.arange(20) % 9)
    small = simulate((X, Y.astype("i1")), kernel=kernel, initial=np.int8(1), order=(np.arange(20) % 9).astype("u1"))
    np.testing.assert_array_equal(small.outputs, plain.outputs)


# ---- Aging


def fit(chosen: str, scale: float = 1.0, **dims: Any) -> xr.Dataset:
    laws = ["constant", "exponential", "power law"]
    result: xr.Dataset = xr.Dataset(
        {
            "tau": ("law", [np.nan, 2.0 * scale, 3.0 * scale]),
            "gamma": ("law", [np.nan, np.nan, 0.5]),
            "chosen": ((), chosen),
        },
        {"law": laws},
    ).expand_dims(**dims)
    return result


@pytest.mark.parametrize(
    ("chosen", "law"),
    [
        ("constant", lambda t: np.ones_like(t)),
        ("exponential", lambda t: np.exp(-t / 2)),
        ("power law", lambda t: (1 + t / 3) ** -0.5),
    ],
)
def test_the_law_of_a_fit(chosen: str, law: Callable[[Array], Array]) -> None:
    expected = simulate(aging=law, start_step=5)
    for aging in (fit(chosen), fit(chosen, factor=["response", "kernel"]).assign_attrs(time_unit="None")):
        result = simulate(aging=aging, start_step=5)
        np.testing.assert_allclose(result.outputs, expected.outputs, rtol=1e-13)
        np.testing.assert_allclose(result.plasticity[0], law(result.time.values), rtol=1e-13)


# ---- What is refused


BAD: list[tuple[dict[str, Any], str]] = [
    ({"kernel": np.eye(8)}, r"kernel must have shape \(9, 9\), got \(8, 8\)"),
    ({"kernel": np.eye(9), "probe": PROBE}, r"kernel must have shape \(13, 9\)"),
    ({"kernel": np.ones(9)}, "kernel must have 2 dimension"),
    ({"kernel": np.full((9, 9), np.nan)}, r"kernel must be finite, got kernel\[0, 0\] = nan"),
    ({"kernel": "bell"}, "kernel must hold real numbers"),
    ({"kernel": np.eye(9) * 1j}, "kernel must hold real numbers"),
    ({"kernel": lambda a, b: np.ones(len(a))}, r"kernel\(points, samples\) must have 2 dimension"),
    ({"kernel": lambda a, b: np.ones((9, 8))}, r"kernel\(points, samples\) must have shape \(9, 9\), got \(9, 8\)"),
    ({"kernel": lambda a, b: np.full((9, 9), np.inf)}, r"kernel\(points, samples\) must be finite"),
    ({"aging": -0.1}, "aging must not be negative, got -0.1"),
    ({"aging": math.nan}, "aging must be finite"),
    ({"aging": "slow"}, "aging must"),
    ({"aging": np.ones(19)}, r"aging must hold one number of each step, shape \(20,\), got \(19,\)"),
    ({"aging": np.r_[np.ones(19), -1]}, "aging must not be negative, got -1 at place 19"),
    ({"aging": np.r_[np.ones(19), np.nan]}, r"aging must be finite, got aging\[19\] = nan"),
    ({"aging": lambda time: 1.0}, r"aging\(time\) must have 1 dimension"),
    ({"aging": lambda time: time[1:]}, r"aging\(time\) must hold one number of each time, shape \(21,\), got \(20,\)"),
    ({"aging": lambda time: -time}, r"aging\(time\) must not be negative, got -0.3 at place 1"),
    ({"aging": fit("undecided")}, "aging must have chosen a law, got 'undecided'"),
    ({"aging": fit("none")}, "aging must have chosen a law, got 'none': none fits the responses"),
    ({"aging": fit("exponential").assign_attrs(time_unit="given")}, "aging must be a law of gradient-flow time"),
    ({"aging": fit("exponential", scale=-1e-3)}, r"aging\(time\) must be finite"),
    ({"aging": fit("power law", scale=-1e-3)}, r"aging\(time\) must be finite"),
    ({"aging": fit("power law", factor=["response"])}, "aging must hold the factor 'kernel'"),
    ({"aging": fit("power law", network=[0, 1])}, "aging must be of one response"),
    ({"aging": xr.Dataset()}, "aging must hold chosen, tau and gamma, and lacks"),
    ({"loss": "linear"}, "loss must be one of"),
    ({"learning_rate": 0.0}, "learning_rate must be positive"),
    ({"learning_rate": None}, "learning_rate must be given"),
    ({"n_steps": None}, "n_steps must be given"),
    ({"n_steps": -1}, "n_steps must lie between"),
    ({"n_steps": 2.5}, "n_steps must be an integer"),
    ({"n_runs": 0}, "n_runs must lie between"),
    ({"probe": np.ones((3, 3))}, r"probe must have the 2 feature\(s\) of the data"),
    ({"probe": np.ones(3)}, "probe must have shape"),
    ({"initial": np.ones(8)}, r"initial must have shape \(9,\) or \(1, 9\), got \(1, 8\)"),
    ({"initial": np.full(9, np.inf)}, "initial must be finite"),
    ({"initial": 1e200}, "initial must be finite and at most 1e[+]100"),
    ({"batch": 10}, "batch must lie between 1 and 9"),
    ({"batch": "half"}, "batch must be 'full' or an integer"),
    ({"order": "random"}, r"order must be None, .* 'permuted', or an array of integers .*, got 'random'"),
    ({"order": np.zeros(19, int)}, r"order must have 20 step\(s\) and 1 run\(s\), or no axis .*, got shape \(19,\)"),
    ({"order": np.zeros((2, 20, 1), int)}, r"order must have 20 step\(s\) and 1 run\(s\)"),
    ({"order": np.full(20, 9)}, "order must hold samples from 0 to 8"),
    ({"order": np.full((20, 2), -1)}, "order must hold samples from 0 to 8, and -1 only to fill up a batch"),
    ({"order": np.tile([0, -1, 1], (20, 1))}, "-1 only to fill up a batch"),
    ({"order": np.zeros(20)}, "order must hold integers"),
    ({"order": np.zeros(20, int), "batch": 1}, "batch must be left out"),
    ({"seed": -1}, "seed must lie between"),
    ({"noise": 1.5}, "noise must be between 0 and 1"),
    ({"start_step": -1}, "start_step must lie between"),
    ({"record": (0, 21)}, r"record\[1\] must lie between 0 and 20"),
    ({"n_threads": 0}, "n_threads must lie between"),
    ({"progress": 1}, "progress must be True or False"),
    ({"data": (X, Y[:-1])}, "y must hold one label for each of the 9 rows"),
    ({"data": (X, Y * 2)}, "y must be -1 or 1"),
    ({"data": None}, "data must be a pair"),
    ({"n_steps": 10**12, "aging": np.cos}, "aging at each of 1000000000000 steps needs"),
    ({"n_steps": 10**12, "record": 1}, "record = 1 makes 1000000000001 records, which need"),
    ({"n_runs": 10**9, "n_steps": 64}, "n_runs = 1000000000 with 8 records needs"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_input_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        simulate(**options)


def trained(**options: Any) -> xr.Dataset:
    arguments: dict[str, Any] = {"n_networks": 3, "n_steps": 4, "learning_rate": 0.1, "seed": 1} | options
    return wa.response.simulate_training(wa.MLP((5,)), (X, Y), **arguments)


# ---- Files, progress and Ctrl-C


@pytest.mark.parametrize("probe", [None, PROBE])
def test_results_survive_a_file(tmp_path: Any, probe: Array | None) -> None:
    result = wa.response.simulate_mean_field(None, kernel=trained(), probe=probe)
    result.to_netcdf(tmp_path / "result.nc")
    with xr.open_dataset(tmp_path / "result.nc") as again:
        xr.testing.assert_equal(again.load(), result)


def test_progress_counts_steps_of_runs(capsys: pytest.CaptureFixture[str]) -> None:
    simulate(progress=True, n_runs=10, n_steps=100)
    assert "1.00k/1.00k" in capsys.readouterr().err


def test_ctrl_c_leaves_the_process_usable(interrupt: Callable[[str, str, str], str]) -> None:
    setup = "import numpy as np, wideangle as wa; x, y, k = np.eye(3), np.array([1, -1, 1]), np.eye(3)"
    call = "wa.response.simulate_mean_field((x, y), kernel=k, n_runs=3, n_steps={}, learning_rate=0.1, batch={})"
    for batch in ("1", "'full'"):
        compiled = f"; {call.format(3, batch)}"
        after = f"print({call.format(3, batch)}.sizes['time'])"
        assert interrupt(setup + compiled, call.format(10**12, batch), after) == "4\n"
