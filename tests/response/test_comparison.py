"""The compiled ensemble against PyTorch, and that the comparison finds what is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

import wideangle as wa
from wideangle.losses import LOSSES
from wideangle.reference.visits import Rates, Visits, step_and_return, train_on_visits
from wideangle.response import comparison
from wideangle.response._training_results import samples_met

torch = pytest.importorskip("torch")

X = np.linspace(-1, 1, 10)[:, None]
DATA = X, np.where(np.sin(7 * X[:, 0]) > 0, 1.0, -1.0)
NET = wa.MLP((20,), bias_variance=0.5)

RUNS: list[dict[str, Any]] = [
    *({"loss": loss, "activation": "tanh"} for loss in LOSSES),
    *({"activation": name} for name in ("relu", "leaky_relu", "abs", "erf", "gelu", "elu", "silu", "sigmoid", "sin")),
    {"batch": "full"},
    {"batch": 4, "replacement": False, "noise": 0.2},
    {"loss": "squared", "noise": 0.3, "parametrization": "ntk", "learning_rate": 0.3},
    {"network": wa.MLP((12, 8), bias_variance=0.5), "activation": "erf", "batch": 3},
    {"network": wa.MLP((20,)), "biases": False, "activation": "tanh"},
    # Margins of -50 and below, where softplus as PyTorch has it is a straight line.
    {"network": wa.MLP((20,), weight_variance=300.0), "learning_rate": 1e-4, "batch": "full"},
]


def compared(**changes: Any) -> xr.Dataset:
    arguments: dict[str, Any] = {
        "network": NET,
        "data": DATA,
        "learning_rate": 0.05,
        "n_networks": 2,
        "n_steps": 200,
    } | changes
    result: xr.Dataset = wa.response.compare(arguments.pop("network"), arguments.pop("data"), **arguments)
    return result


@pytest.mark.parametrize("change", RUNS, ids=str)
def test_runs_are_the_same_and_steps_respond_as_the_kernel(change: dict[str, Any]) -> None:
    run = compared(**change)
    assert int(run.status.max()) == 0
    assert float(run.training_difference) < 1e-12
    assert run.training_verdict.item() == "agrees"
    assert float(run.rounding_error) < 1e-13
    assert abs(float(run.order) - 1.0) < 0.05
    assert run.order_verdict.item() in ("agrees", "not resolved")
    # Of first order, and not only by the fit: half the step, half the error.
    ratios = run.step_error.isel(learning_rate=0) / run.step_error.isel(learning_rate=1)
    np.testing.assert_allclose(ratios.values[np.isfinite(ratios)], 2.0, rtol=0.1)


def test_an_order_is_fitted_with_its_error() -> None:
    assert compared(activation="tanh").order_verdict.item() == "agrees"
    rates = np.array([0.4, 0.2, 0.1])
    order, uncertainty = comparison._fit_order(rates, np.stack([3 * rates**2, 5 * rates**2], axis=1))
    np.testing.assert_allclose(order, 2.0, rtol=1e-12)
    assert uncertainty < 1e-12
    noisy = rates**2 * np.array([1.1, 1.0, 1.1])
    expected, covariance = np.polyfit(np.log(rates), np.log(noisy), 1, cov="unscaled")
    residuals = np.log(noisy) - np.polyval(expected, np.log(rates))
    order, uncertainty = comparison._fit_order(rates, noisy[:, None])
    np.testing.assert_allclose(order, expected[0], rtol=1e-12)
    np.testing.assert_allclose(uncertainty, np.sqrt(covariance[0, 0] * (residuals @ residuals)), rtol=1e-12)
    # Runs with factors of their own and gaps.
    errors = np.array([[4.0, np.nan, np.nan], [2.0, 20.0, np.nan], [1.0, 10.0, 7.0]])
    np.testing.assert_allclose(comparison._fit_order(rates, errors)[0], 1.0, rtol=1e-12)
    assert np.isnan(comparison._fit_order(rates, errors[:, 1:])).all()


def test_a_wrong_kernel_disagrees(monkeypatch: pytest.MonkeyPatch) -> None:
    right = wa.response.training_response

    def wrong(*args: Any, **kwargs: Any) -> xr.Dataset:
        found = right(*args, **kwargs)
        return found if kwargs.get("kind") == "step" else found * 1.01

    monkeypatch.setattr(comparison, "training_response", wrong)
    run = compared(n_steps=20)
    assert run.order_verdict.item() == "disagrees"
    assert abs(float(run.order)) < 0.2
    assert run.training_verdict.item() == "agrees"


@pytest.mark.parametrize("what", ["samples", "labels", "rates"])
def test_another_training_disagrees(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    right = samples_met

    def wrong(state: xr.Dataset) -> Any:
        samples, labels = right(state)
        if what == "samples":
            samples[0, 5] = (samples[0, 5] + 1) % len(X)
        if what == "labels":
            labels[0, 5] *= 1 + 1e-6
        return samples, labels

    monkeypatch.setattr(comparison, "samples_met", wrong)
    if what == "rates":
        monkeypatch.setattr(Rates, "times", lambda self, factor: Rates([factor * (1 + 1e-7)] * 2, [factor] * 2))
    run = compared(n_steps=20, loss="squared")
    assert run.training_verdict.item() == "disagrees"
    assert float(run.training_difference) > 1e-9


def test_unstable_training_makes_roundings_larger() -> None:
    # At the edge of stability roundings are multiplied; far below it they add up, at most in proportion to the steps.
    calm = compared(loss="squared", activation="tanh", batch="full", learning_rate=0.01, n_steps=500)
    assert float(calm.growth) < 1.1
    unstable = compared(loss="squared", activation="tanh", batch="full", learning_rate=0.4, n_steps=500, n_networks=4)
    assert float(unstable.training_difference) > 10 * float(calm.training_difference)
    assert float(unstable.growth) > float(calm.growth)


def test_a_linear_output_has_no_error_of_steps() -> None:
    run = compared(activation="linear", readout="frozen", loss="squared")
    assert np.isnan(run.step_error).all()
    assert np.isnan(run.order)
    assert run.order_verdict.item() == "not resolved"
    assert float(run.rounding_error) < 1e-13


def test_divergence_is_left_out() -> None:
    run = compared(loss="squared", learning_rate=50.0)
    assert int(run.status.min()) == 1
    assert np.isnan(run.output_difference[:, -1]).all()
    assert np.isnan(run.step_error[:, 1]).all()
    assert float(run.output_difference[:, 0].max()) < 1e-14


def test_what_is_recorded_and_where(tmp_path: Any) -> None:
    run = compared(record=(50, 200), learning_rates=[1e-3, 1e-4, 1e-5], n_examples=3, first_network=7)
    assert run.step.values.tolist() == [0, 50, 200]
    assert run.network.values.tolist() == [7, 8]
    assert run.step_error.dims == ("network", "step_time", "learning_rate")
    np.testing.assert_allclose(run.step_time, [0.0, 10.0])
    np.testing.assert_array_equal(run.learning_rate, [1e-3, 1e-4, 1e-5])
    assert (run.attrs["n_examples"], run.attrs["n_steps"], run.attrs["function"]) == (
        3,
        200,
        "wideangle.response.compare",
    )
    run.to_netcdf(tmp_path / "run.nc")
    whole = compared(n_networks=9, n_steps=10)
    np.testing.assert_array_equal(whole.loss.sel(network=[7, 8], time=0), run.loss.sel(time=0))
    assert compared(n_steps=0).sizes["time"] == 1


def test_the_default_device_does_not_matter() -> None:
    expected = compared(n_steps=20)
    with torch.device("meta"):
        xr.testing.assert_identical(compared(n_steps=20), expected)


def test_steps_and_training_by_hand() -> None:
    # f = a relu(w x): everything can be written down.
    network = wa.NetworkWeights([[[2.0]], [[3.0]]], biases=[[0.0], [0.0]])
    rates, x = Rates([0.5, 1.0], [0.0, 0.0]), np.array([[1.0], [-1.0]])
    eta, w, a = 0.1, 2.0, 3.0
    found = step_and_return(network, rates, "squared", x[:1], np.array([5.0]), x, [eta])
    slope = w * a - 5.0
    after = (w - eta * 0.5 * slope * a) * (a - eta * slope * w)
    np.testing.assert_allclose(found[0, 0], [(after - w * a) / eta, 0.0], rtol=1e-13)
    visits = Visits(np.array([[0, -1], [1, 0]]), np.array([[5.0, np.nan], [0.0, 5.0]]))
    first, second, third = train_on_visits(network, rates.times(eta), "squared", x, visits, [0, 1, 2])
    np.testing.assert_array_equal(first.parameters, [2.0, 0.0, 3.0, 0.0])
    np.testing.assert_allclose(second.outputs, [after, 0.0], rtol=1e-14)
    w, a = w - eta * 0.5 * slope * a, a - eta * slope * w
    slope = (w * a - 5.0) / 2
    expected = [w - eta * 0.5 * slope * a, 0.0, a - eta * slope * w, 0.0]
    np.testing.assert_allclose(third.parameters, expected, rtol=1e-14)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"network": 3}, TypeError, "network"),
    ({"data": (X, np.arange(10))}, ValueError, "y must be -1 or 1"),
    ({"n_steps": -1}, ValueError, "n_steps"),
    ({"n_networks": 0}, ValueError, "n_networks"),
    ({"record": (5, 300)}, ValueError, "record"),
    ({"learning_rates": [0.1, 0.1, 0.2]}, ValueError, "learning_rates"),
    ({"learning_rates": [0.1, 0.2]}, ValueError, "learning_rates"),
    ({"learning_rates": [0.1, 0.2, -0.1]}, ValueError, "learning_rates"),
    ({"n_examples": 0}, ValueError, "n_examples"),
    ({"tolerance": 0.0}, ValueError, "tolerance"),
    ({"loss": "mse"}, ValueError, "loss"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD)
def test_bad_input(change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        compared(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_steps": 10**12, "record": (0,)}, r"the samples of n_steps = 1000000000000 steps on 1 each need .* GiB"),
        ({"n_steps": 10**12, "record": (0,), "batch": "full"}, "steps on 10 each need .*; take fewer steps"),
        ({"n_networks": 10**12}, "the responses of n_networks = 1000000000000 to steps on 8 examples need"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(comparison, "simulate_training", lambda *_, **__: pytest.fail("has begun to work"))
    with pytest.raises(ValueError, match=message):
        compared(**change)
