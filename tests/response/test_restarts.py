"""Runs that go on from networks that another has left, or that the user gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

import wideangle as wa
from wideangle.response._training_results import samples_met

RNG = np.random.default_rng(23)
X = RNG.normal(size=(10, 2))
Y = RNG.choice([-1.0, 1.0], size=10)
NET = wa.MLP((6,), activation="tanh", bias_variance=0.4)
RUNS: list[dict[str, Any]] = [
    {"batch": 1},
    {"batch": 1, "noise": 0.3, "loss": "squared"},
    {"batch": 4, "replacement": False, "noise": 0.2},
    {"batch": 3},
    {"batch": "full"},
    {"batch": "full", "network": wa.MLP((5, 4), bias_variance=0.3)},
    {"batch": 1, "readout": "frozen", "parametrization": "ntk", "biases": "hidden"},
]


def simulate(**options: Any) -> xr.Dataset:
    arguments: dict[str, Any] = {
        "network": NET, "data": (X, Y), "n_networks": 19, "n_steps": 30, "learning_rate": 0.1, "seed": 5
    }  # fmt: skip
    return wa.response.simulate_training(**(arguments | options))


@pytest.mark.parametrize("options", RUNS, ids=str)
@pytest.mark.parametrize("middle", [7, 16])
def test_two_runs_one_after_the_other_are_one(options: dict[str, Any], middle: int) -> None:
    whole = simulate(record=(0, middle, 30), first_network=2, **options)
    begin = simulate(n_steps=middle, record=(middle,), first_network=2, **options)
    end = simulate(
        initial=begin.isel(time=-1), n_steps=30 - middle, record=(0, 30 - middle), first_network=2, **options
    )
    for name in whole.data_vars:
        if "time" in whole[name].dims:
            np.testing.assert_array_equal(end[name], whole[name].isel(time=[1, 2]), err_msg=str(name))
    np.testing.assert_array_equal(end.step, [middle, 30])
    np.testing.assert_array_equal(end.time, whole.time[1:])
    met, labels = samples_met(whole)
    for one, other in zip(samples_met(end), (met, labels), strict=True):
        np.testing.assert_array_equal(one, other[:, middle:])


def test_flow_goes_on_within_its_tolerance() -> None:
    whole = simulate(method="flow", record=(0, 30))
    begin = simulate(method="flow", n_steps=11)
    end = simulate(method="flow", n_steps=19, initial=begin.isel(time=-1))
    np.testing.assert_allclose(end.weights_1[:, -1], whole.weights_1[:, -1], rtol=0, atol=1e-6)
    np.testing.assert_allclose(end.time[-1], whole.time[-1], rtol=1e-15)


def test_the_model_follows_networks_that_go_on() -> None:
    # A linear readout alone learns, with a kernel that stays: the model is the network.
    fixed: dict[str, Any] = {"network": wa.MLP((6,), activation="linear"), "readout": "frozen", "batch": 1}
    begin = simulate(**fixed)
    state = simulate(initial=begin.isel(time=-1), n_steps=50, record=5, data=(X, -Y), **fixed)
    model = wa.response.simulate_mean_field(None, kernel=state)
    np.testing.assert_allclose(model.outputs, state.outputs, rtol=0, atol=1e-12)


def test_the_model_follows_networks_that_go_on_at_another_rate() -> None:
    fixed: dict[str, Any] = {"network": wa.MLP((6,), activation="linear"), "readout": "frozen", "batch": 1}
    begin = simulate(**fixed)
    state = simulate(initial=begin.isel(time=-1), n_steps=50, record=5, learning_rate=0.03, **fixed)
    met: list[np.ndarray[Any, Any]] = []

    def aging(time: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        met.append(time)
        return np.ones_like(time)

    model = wa.response.simulate_mean_field(None, kernel=state, aging=aging)
    np.testing.assert_allclose(model.outputs, state.outputs, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(model.time, state.time)
    np.testing.assert_allclose(met[0][[0, -1]], [3.0, 4.5], rtol=1e-12)


def test_another_number_of_the_first_step_meets_other_samples() -> None:
    begin = simulate(batch=1).isel(time=-1)
    same = simulate(batch=1, initial=begin, start_step=0)
    np.testing.assert_array_equal(samples_met(same)[0], samples_met(simulate(batch=1))[0])
    assert not np.array_equal(samples_met(simulate(batch=1, initial=begin))[0], samples_met(same)[0])


def test_one_network_for_all_and_weights_of_ones_own() -> None:
    begin = simulate(n_networks=1)
    many = simulate(initial=begin.isel(network=0, time=-1), batch=1)
    for name in ("weights_1", "biases_1", "weights_2", "biases_2"):
        assert (many[name].isel(time=0) == begin[name].isel(network=0, time=-1)).all()
    assert (many.weights_1.isel(time=-1).std("network") > 0).all()
    weights = wa.propagation.materialize(NET, 2, 0, seed=5)
    own = simulate(initial=weights, n_networks=1, n_steps=5)
    np.testing.assert_array_equal(own.weights_1[0], simulate(n_networks=1, n_steps=5).weights_1[0])


def test_the_readout_alone_can_be_without_a_bias() -> None:
    state = simulate(biases="hidden", keep=("tangent_kernel",))
    assert (state.biases_2 == 0).all()
    assert (state.biases_1 != 0).all()
    hidden = np.tanh(X @ state.weights_1.values[:, -1].transpose(0, 2, 1) + state.biases_1.values[:, -1, None, :])
    slopes = state.weights_2.values[:, -1] * (1 - hidden**2)
    # f = sum_i a_i phi(w_i x + b_i): no 1 in the part of the readout.
    kernel = hidden @ hidden.transpose(0, 2, 1) + (1 + X @ X.T) * (slopes @ slopes.transpose(0, 2, 1))
    np.testing.assert_allclose(state.tangent_kernel[:, -1], kernel, rtol=1e-12)
    response = wa.response.training_response(state.isel(time=-1), X, X)
    np.testing.assert_allclose(response.readout_part, hidden @ hidden.transpose(0, 2, 1), rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda s: s, {}, r"initial must hold networks at one time, got dimensions .*time.*isel\(time=-1\)"),
        (lambda s: s.isel(time=0), {"n_networks": 3}, "initial must hold n_networks = 3 networks, or one.*got 19"),
        (lambda s: s.isel(time=0), {"first_network": 1}, r"first_network = 1 on.*drop_vars\('network'\)"),
        (lambda s: s.isel(time=0), {"network": wa.MLP((5,))}, "must hold networks 2-5-1, .* got 2-6-1"),
        (lambda s: s.isel(time=0), {"data": (X[:, :1], Y)}, "must hold networks 1-6-1, .* got 2-6-1"),
        (lambda s: s.isel(time=0), {"activation": "relu"}, "the activation relu, got tanh; give activation='tanh'"),
        (lambda s: s.isel(time=0), {"biases": False}, "initial must have biases of 0 where there are to be none"),
        (lambda s: s.isel(time=0), {"biases": "hidden"}, "initial must have biases of 0 where there are to be none"),
        (lambda s: s.isel(time=0), {"start_step": -1}, "start_step must lie between 0"),
        (lambda s: s.isel(time=0), {"start_step": 10**12}, "start_step must lie between 0"),
        (lambda s: s.weights_1, {}, "initial must be a Dataset of trained networks"),
        (lambda s: s.drop_vars("biases_2").isel(time=0), {}, "initial must hold .* lacks biases_2"),
    ],
)
def test_what_runs_cannot_start_from(change: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        simulate(initial=change(simulate()), **options)


def test_time_goes_on_at_another_rate() -> None:
    begin = simulate(n_steps=40)
    end = simulate(initial=begin.isel(time=-1), learning_rate=0.01, n_steps=20, record=10)
    np.testing.assert_array_equal(end.step, [40, 50, 60])
    np.testing.assert_allclose(end.time, [4.0, 4.1, 4.2], rtol=1e-15)
    third = simulate(initial=end.isel(time=-1), learning_rate=0.2, n_steps=1)
    np.testing.assert_allclose(third.time, [4.2, 4.4], rtol=1e-15)
    anew = simulate(initial=begin.isel(time=-1), learning_rate=0.01, n_steps=20, record=10, start_step=0)
    np.testing.assert_allclose(anew.time, [0.0, 0.1, 0.2], rtol=1e-15)


def test_attributes_tell_what_a_run_started_from() -> None:
    begin = simulate()
    runs = [simulate(), *(simulate(initial=begin.isel(time=at), start_step=0) for at in (0, -1))]
    assert len({run.attrs["initial"] for run in runs}) == 3
    assert runs[1].attrs["initial"] == simulate(initial=begin.isel(time=0), n_steps=2).attrs["initial"]


def test_one_network_goes_on_with_its_own_samples() -> None:
    whole = simulate(batch=1)
    half = simulate(batch=1, n_steps=16).isel(network=5, time=-1)
    with pytest.raises(ValueError, match=r"first_network = 0 on.*got \[5\]; give first_network"):
        simulate(batch=1, initial=half, n_networks=1)
    alone = simulate(batch=1, initial=half, n_networks=1, n_steps=14, first_network=5)
    np.testing.assert_array_equal(alone.outputs[0, -1], whole.outputs[5, -1])


def test_weights_of_ones_own_have_no_numbers() -> None:
    weights = wa.NetworkWeights([np.ones((2, 6, 2)), np.ones((2, 1, 6))], activation="tanh")
    run = simulate(initial=weights, n_networks=2, first_network=4, batch=1)
    np.testing.assert_array_equal(run.network, [4, 5])
    assert (run.weights_1.isel(time=-1).std("network") > 0).any()


def test_networks_can_be_numbered_anew() -> None:
    begin = simulate().isel(time=-1, network=[3, 5])
    run = simulate(initial=begin.drop_vars("network"), n_networks=2, batch=1)
    np.testing.assert_array_equal(run.weights_1[:, 0], begin.weights_1)
    np.testing.assert_array_equal(run.network, [0, 1])
