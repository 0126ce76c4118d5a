"""The mean-field model of networks in training: where it is exact, its error, and which states will do."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import xarray as xr

import wideangle as wa
from wideangle.response._training_results import add_evaluations, training_dataset
from wideangle.response._training_run import TrainingRun

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(5)
X = RNG.normal(size=(9, 2))
PROBE = RNG.normal(size=(4, 2))
Y = np.where(RNG.random(9) < 0.5, -1.0, 1.0)
LABELS = {"squared": RNG.normal(size=9), "cross-entropy": Y, "hinge": Y, "exponential": Y}


def trained(**options: Any) -> xr.Dataset:
    arguments: dict[str, Any] = {"n_networks": 3, "n_steps": 4, "learning_rate": 0.1, "seed": 1} | options
    return wa.response.simulate_training(wa.MLP((5,)), (X, Y), **arguments)


# ---- Networks for which the model is exact


def assert_exact(state: xr.Dataset, probe: Array, **options: Any) -> None:
    result = wa.response.simulate_mean_field(None, kernel=state, probe=probe, **options)
    change = result.change.isel(time=-1).values
    assert np.all(change > 0.1)
    np.testing.assert_allclose(result.outputs, result.network_outputs, rtol=0, atol=1e-12 * change.max())
    outputs = state.outputs.values.reshape(result.network_outputs.shape)
    np.testing.assert_allclose(result.network_outputs, outputs, rtol=0, atol=1e-13 * change.max())
    np.testing.assert_allclose(result.probe_outputs, result.probe_network_outputs, rtol=0, atol=1e-12 * change.max())
    np.testing.assert_allclose(result.plasticity, result.plasticity.isel(time=[0] * result.sizes["time"]), rtol=1e-12)


CASES: list[dict[str, Any]] = [
    {"batch": 1, "loss": "cross-entropy"},
    {"batch": 1, "loss": "squared", "noise": 0.5},
    {"batch": 4, "loss": "hinge", "replacement": False, "noise": 0.2},
    {"batch": 4, "loss": "exponential", "noise": 0.1, "learning_rate": 0.004},
    {"batch": "full", "loss": "squared"},
    {"batch": "full", "loss": "cross-entropy", "noise": 0.1},
]


@pytest.mark.parametrize("case", CASES)
def test_a_network_linear_in_what_is_trained(case: dict[str, Any]) -> None:
    """Linear units below a frozen readout: the very samples and labels of the training, noise included."""
    net = wa.MLP((7,), activation="linear", bias_variance=0.5)
    state = wa.response.simulate_training(
        net, (X, LABELS[case["loss"]]), n_networks=20, n_steps=300, seed=3, readout="frozen", first_network=2,
        **({"learning_rate": 0.02} | case)
    )  # fmt: skip
    assert_exact(state, PROBE)
    # Any networks, out of order, and from a later record on.
    assert_exact(state.isel(network=[4, 5, 17, 1], time=slice(2, None)), PROBE)
    assert_exact(state.isel(network=3), PROBE)


@pytest.mark.parametrize("case", CASES[:4])
def test_a_network_with_frozen_features(case: dict[str, Any]) -> None:
    loss, noise = wa.losses.parse_loss(case["loss"]), case.get("noise", 0.0)
    order = "drawn" if case.get("replacement", True) else "permuted"
    run = TrainingRun(
        x=X, y=LABELS[loss.name], widths=(30, 20), activation=wa.activations.parse_activation("relu"), loss=loss,
        weight_rates=(0.0, 0.0, 0.5), bias_rates=(0.0, 0.0, 2.0), learning_rate=0.02, n_steps=200, records=(0, 10, 200),
        order=order, batch=case["batch"], seed=8, noise=noise,
    )  # fmt: skip
    parameters, diverged = run.train(RNG.normal(size=(3, 90 + 620 + 21)) / 3)
    state = training_dataset(run, parameters, diverged, 0)
    add_evaluations(state, run, parameters, (), n_threads=1)
    state.attrs = {
        "activation": "relu", "loss": loss.name, "weight_rates": [0.0, 0.0, 0.5], "bias_rates": [0.0, 0.0, 2.0],
        "learning_rate": 0.02, "batch": case["batch"], "replacement": str(order == "drawn"), "noise": noise, "seed": 8,
        "method": "descent",
    }  # fmt: skip
    assert_exact(state, PROBE)


# ---- Networks in general


def line_of_points(number: int) -> Array:
    return np.linspace(-1, 1, number)[:, None]


def test_the_plasticity_is_that_of_the_networks() -> None:
    x = line_of_points(8)
    state = wa.response.simulate_training(
        wa.MLP((20,), bias_variance=1.0), (x, np.sign(x[:, 0])), n_networks=4, n_steps=400, batch=1, learning_rate=0.1,
        seed=1, keep=("tangent_kernel",)
    )  # fmt: skip
    result = wa.response.simulate_mean_field((x, np.sign(x[:, 0])), kernel=state)
    diagonal = np.einsum("ktss->kts", state.tangent_kernel.values)
    alpha = (diagonal / diagonal[:, :1]).mean(axis=2)
    start = diagonal[:, :1].mean(axis=2)
    assert alpha.max() > 1.2
    np.testing.assert_allclose(result.plasticity, alpha * start, rtol=1e-12)
    constant = wa.response.simulate_mean_field(None, kernel=state, aging=1.0)
    np.testing.assert_allclose(constant.plasticity, np.broadcast_to(start, alpha.shape), rtol=1e-12)
    # What the aging is worth: networks whose kernels grow learn faster.
    assert float(result.error.isel(time=-1).median()) < 0.7 * float(constant.error.isel(time=-1).median())


def test_the_plasticity_is_linear_between_the_records() -> None:
    x = line_of_points(8)
    state = wa.response.simulate_training(
        wa.MLP((20,), bias_variance=1.0), (x, np.sign(x[:, 0])), n_networks=1, n_steps=100, batch=1, learning_rate=0.1,
        seed=1, record=(10, 25, 100)
    )  # fmt: skip
    result = wa.response.simulate_mean_field(None, kernel=state)
    plasticity = result.plasticity.values[0]
    assert abs(np.diff(plasticity)).min() > 0.01
    alpha = np.interp(np.arange(10, 100), [10, 25, 100], plasticity / plasticity[0])
    expected = wa.response.simulate_mean_field(None, kernel=state, aging=alpha)
    np.testing.assert_allclose(result.outputs, expected.outputs, rtol=1e-11)


def test_samples_without_influence_do_not_count() -> None:
    """One that no unit is active on, without biases that are trained, has a kernel of 0 with every other."""
    x, y = np.array([[-1.0], [1.0], [2.0]]), np.array([1.0, 1.0, -1.0])
    state = wa.response.simulate_training(
        wa.MLP((2,)), (x, y), n_networks=40, n_steps=50, learning_rate=0.05, seed=3, biases=False, batch=1
    )
    result = wa.response.simulate_mean_field(None, kernel=state)
    assert np.isfinite(result.outputs).all()
    weights = state.weights_1.isel(time=0).values[..., 0]
    dead = (weights > 0).all(axis=1)
    assert dead.any()
    np.testing.assert_array_equal(result.outputs[dead, :, 0], 0.0)


def test_the_error_is_of_first_order_in_the_change_of_the_kernels_shape() -> None:
    """Networks of other widths, whose kernels change by other amounts while they learn the same."""
    x, errors, changes = line_of_points(10), [], []
    for width in (20, 320):
        state = wa.response.simulate_training(
            wa.MLP((width,), bias_variance=1.0), (x, np.sign(np.sin(3 * x[:, 0]))), n_networks=40, n_steps=2000,
            batch=1, learning_rate=0.04 / width, seed=1, record=(0, 2000), keep=("tangent_kernel",)
        )  # fmt: skip
        result = wa.response.simulate_mean_field(None, kernel=state, probe=line_of_points(21)).isel(time=-1)
        errors.append(float((result.error / result.change).median()))
        kernel = state.tangent_kernel.values
        diagonal = np.einsum("ktss->kt", kernel)
        moved = kernel[:, 1] - (diagonal[:, 1] / diagonal[:, 0])[:, None, None] * kernel[:, 0]
        drift = np.linalg.norm(moved, axis=(1, 2)) / np.linalg.norm(kernel[:, 0], axis=(1, 2))
        changes.append(float(np.median(drift)))
    assert errors[0] > 50 * errors[1]
    assert math.log(errors[0] / errors[1]) / math.log(changes[0] / changes[1]) == pytest.approx(1.0, abs=0.15)


# ---- Which states will do


def without(state: xr.Dataset, attribute: str) -> xr.Dataset:
    result: xr.Dataset = state.copy()
    del result.attrs[attribute]
    return result


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda s: s.drop_vars("x"), {}, "must hold its loss and its training data x and y"),
        (lambda s: s.drop_vars("biases_2"), {}, "lacks biases_2"),
        (lambda s: without(s, "batch"), {}, r"lacks \['batch'\]"),
        (lambda s: s.isel(time=[0]), {}, "records of increasing steps"),
        (lambda s: s.isel(time=1), {}, "records of increasing steps"),
        (lambda s: s.isel(time=slice(None, None, -1)), {}, "records of increasing steps"),
        (lambda s: s.assign_attrs(method="flow"), {}, "method 'descent', got 'flow'"),
        (lambda s: s.where(s.status > 5), {}, "networks that have not diverged, got 3 that have; lower learning_rate"),
        (lambda s: xr.Dataset(), {}, "kernel must be a state of training .* got one of nothing; give what"),
        (
            lambda s: wa.response.tangent_kernel(s, X),
            {},
            r"kernel must be a state of training .* got one of kernel; .*, or a kernel as an array \(point, sample\)",
        ),
        (lambda s: without(s, "activation"), {}, "kernel must have the attributes .* lacks activation; give what"),
        (lambda s: without(s, "learning_rate"), {}, "with the attribute learning_rate, and lacks it; give what"),
        (lambda s: s.drop_attrs(), {}, "kernel must have the attributes"),
        (lambda s: s.drop_vars("step"), {}, "kernel must be a state with the coordinate step, and lacks it; give what"),
        (
            lambda s: s.expand_dims(run=2),
            {},
            "with the dimensions network and time only, got run, network, time; select one of run with isel",
        ),
        *(
            (lambda s, numbers=numbers: s.assign_coords(network=numbers), {}, f"whole numbers, .* got .*{numbers[1]}")
            for numbers in ([0.0, 0.5, 1.0], [0, -1, 2], ["a", "b", "c"], [0.0, np.nan, 1.0])
        ),
        (lambda s: s, {"n_steps": 4, "seed": 1}, "n_steps, seed must be left out"),
        (lambda s: s, {"data": (X, -Y)}, "data must be what the networks of kernel were trained on"),
    ],
)
def test_a_state_that_will_not_do_is_refused(change: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        wa.response.simulate_mean_field(**({"data": None, "kernel": change(trained())} | options))


def test_numbers_of_networks_may_have_become_floats() -> None:
    expected = wa.response.simulate_mean_field(None, kernel=trained(batch=1))
    found = wa.response.simulate_mean_field(None, kernel=trained(batch=1).assign_coords(network=[0.0, 1.0, 2.0]))
    xr.testing.assert_equal(found, expected)


def test_networks_that_have_diverged_are_left_out_and_counted() -> None:
    state = trained(n_networks=6, first_network=4)
    state["weights_1"][1, 3:] = np.nan
    result = wa.response.simulate_mean_field(None, kernel=state)
    assert result.attrs["dropped_networks"] == [5]
    assert result.network.values.tolist() == [4, 6, 7, 8, 9]
    whole = wa.response.simulate_mean_field(None, kernel=trained(n_networks=6, first_network=4))
    np.testing.assert_array_equal(result.outputs, whole.outputs.sel(network=result.network))


@pytest.mark.parametrize(
    ("selected", "match"),
    [
        (lambda state: state.isel(sample=slice(0, 4)), "all the samples that its networks were trained on"),
        (lambda state: state.isel(sample=slice(None, None, -1)), "in their order"),
        (lambda state: state.isel(network=[0]).drop_vars("network"), "must have the coordinate network"),
    ],
)
def test_states_whose_samples_cannot_be_drawn_again_are_refused(selected: Any, match: str) -> None:
    x = np.linspace(-1.0, 1.0, 6)[:, None]
    state = wa.response.simulate_training(
        wa.MLP((3,)), (x, np.sign(x[:, 0])), n_networks=2, n_steps=4, batch=1, learning_rate=0.01, seed=1
    )
    wa.response.simulate_mean_field(None, kernel=state)
    with pytest.raises(ValueError, match=match):
        wa.response.simulate_mean_field(None, kernel=selected(state))


def joined(begin: xr.Dataset, **options: Any) -> xr.Dataset:
    """What a run has recorded, and what another one does that goes on from there."""
    arguments = {"n_steps": 8, "record": 2, "initial": begin.isel(time=-1)} | options
    attributes = arguments.pop("combine_attrs", "override")
    after = trained(**arguments).isel(time=slice(1, None))
    result: xr.Dataset = xr.concat(
        [begin, after], "time", data_vars="minimal", coords="minimal", compat="override", combine_attrs=attributes
    )
    return result


@pytest.mark.parametrize(
    ("n_records", "then", "message"),
    [
        (5, {"batch": 1}, r"start_step \+ n_steps, here 0 to 8, got one of step 10; give the records of one run"),
        (5, {}, "here 0 to 8, got one of step 10"),
        # Within the steps of the first run: only its rate tells it apart.
        (3, {"n_steps": 4, "learning_rate": 0.01}, "of one learning rate, at times that increase .* give the records"),
        (3, {"n_steps": 4, "learning_rate": 0.11}, "of one learning rate, .*; give the records of one run"),
    ],
)
def test_records_of_several_runs_are_refused(n_records: int, then: dict[str, Any], message: str) -> None:
    begin = trained(n_steps=8, record=2).isel(time=slice(n_records))
    with pytest.raises(ValueError, match=message):
        wa.response.simulate_mean_field(None, kernel=joined(begin, **then))


@pytest.mark.parametrize("options", [{}, {"batch": 1, "noise": 0.2}])
def test_runs_of_the_same_arguments_may_be_joined(options: dict[str, Any]) -> None:
    begin = trained(n_steps=8, record=2, **options)
    found = wa.response.simulate_mean_field(None, kernel=joined(begin, combine_attrs="drop_conflicts", **options))
    expected = wa.response.simulate_mean_field(None, kernel=trained(n_steps=16, record=2, **options))
    xr.testing.assert_allclose(found, expected, rtol=1e-12)
    # Of other batches the attribute is lost, and that is seen.
    other = joined(begin, combine_attrs="drop_conflicts", batch=3)
    with pytest.raises(ValueError, match=r"lacks \['batch'"):
        wa.response.simulate_mean_field(None, kernel=other)


def test_a_part_of_a_run_that_went_on_is_one_of_that_run() -> None:
    begin = trained(n_steps=8, record=2)
    part = trained(n_steps=8, record=2, initial=begin.isel(time=-1)).isel(time=slice(1, 4))
    assert wa.response.simulate_mean_field(None, kernel=part).step.values.tolist() == [10, 12, 14]
