"""Gradient flow against SciPy's integrators, linear algebra, and descent in small steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.integrate import solve_ivp

import wideangle as wa
from wideangle.activations import parse_activation
from wideangle.losses import LOSSES

RNG = np.random.default_rng(17)
Array = np.ndarray[Any, Any]
X = RNG.normal(size=(9, 2))


def labels_for(loss: str) -> Array:
    return RNG.normal(size=9) if loss == "squared" else RNG.choice([-1.0, 1.0], size=9)


def flow(data: tuple[Array, Array], net: wa.MLP, **options: Any) -> xr.Dataset:
    arguments: dict[str, Any] = {"n_networks": 11, "n_steps": 40, "learning_rate": 0.1, "seed": 2} | options
    return wa.response.simulate_training(net, data, **({"method": "flow"} | arguments))


def one_hidden_layer(state: xr.Dataset) -> Array:
    return np.concatenate([state[name].values.ravel() for name in ("weights_1", "biases_1", "weights_2", "biases_2")])


def velocity(p: Array, y: Array, *, width: int, activation: str, loss: str, rates: Array) -> Array:
    """Minus the gradient of the mean loss of f = a phi(W x + b) + c, written out."""
    phi = parse_activation(activation)
    w, b, a, c = np.split(p, [2 * width, 3 * width, 4 * width])
    z = X @ w.reshape(width, 2).T + b
    h, f = phi.value(z), phi.value(z) @ a + c
    with np.errstate(over="ignore"):
        by_f = {
            "squared": f - y,
            "cross-entropy": -y / (1.0 + np.exp(y * f)),
            "exponential": -y * np.exp(-y * f),
            "hinge": np.where(y * f < 1.0, -y, 0.0),
        }[loss] / len(y)
    by_z = by_f[:, None] * a * phi.derivative(z)
    gradient: Array = np.concatenate([(by_z.T @ X).ravel(), by_z.sum(axis=0), h.T @ by_f, [by_f.sum()]])
    return -rates * gradient


@pytest.mark.parametrize("activation", ["tanh", "erf", "gelu", "sin"])
@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss != "hinge"])
@pytest.mark.parametrize("parametrization", ["standard", "ntk"])
def test_flow_is_that_of_scipy(activation: str, loss: str, parametrization: str) -> None:
    y, width = labels_for(loss), 6
    net = wa.MLP((width,), activation=activation, weight_variance=1.5, bias_variance=0.5)
    state = flow((X, y), net, loss=loss, parametrization=parametrization, rtol=1e-10, record=(0, 3, 40))
    np.testing.assert_allclose(state.time, [0, 0.3, 4.0], rtol=1e-14)
    factors = {"standard": (1.0, 1.0, 1.0), "ntk": (0.75, 0.25, 0.5)}[parametrization]
    rates = np.repeat([factors[0], factors[2], factors[1], factors[2]], [2 * width, width, width, 1])
    for k in (0, 8, 10):
        network = state.isel(network=k)
        exact = solve_ivp(
            lambda _, p: velocity(p, y, width=width, activation=activation, loss=loss, rates=rates),
            (0.0, 4.0),
            one_hidden_layer(network.isel(time=0)),
            method="DOP853",
            t_eval=[0.3, 4.0],
            rtol=1e-12,
            atol=1e-14,
        )
        for record, expected in zip((1, 2), exact.y.T, strict=True):
            found = one_hidden_layer(network.isel(time=record))
            np.testing.assert_allclose(found, expected, rtol=0, atol=2e-8 * np.linalg.norm(expected))


def test_errors_follow_the_tolerance() -> None:
    y, net = labels_for("squared"), wa.MLP((6,), activation="tanh", bias_variance=0.5)
    runs = [
        flow((X, y), net, loss="squared", rtol=rtol, record=(0, 40)).outputs.isel(time=1).values
        for rtol in (1e-12, 1e-8, 1e-4)
    ]
    fine, coarse = (np.abs(run - runs[0]).max() for run in runs[1:])
    assert 1e-11 < fine < 1e-6
    assert 1e-6 < coarse < 1e-2


@pytest.mark.parametrize("widths", [(5,), (6, 4)])
def test_descent_comes_nearer_to_flow_as_its_steps_get_smaller(widths: tuple[int, ...]) -> None:
    y, net = labels_for("cross-entropy"), wa.MLP(widths, activation="tanh", bias_variance=0.3)
    exact = flow((X, y), net, rtol=1e-11, record=(0, 40)).outputs.isel(time=1)
    errors = []
    for halvings in (4, 5, 6):
        n = 40 * 2**halvings
        steps = flow((X, y), net, method="descent", n_steps=n, learning_rate=4.0 / n, record=(0, n))
        errors.append(float(np.sqrt(((steps.outputs.isel(time=1) - exact) ** 2).mean())))
    # Order 1: the next order is smaller by the step, of which the coarsest is 1/160.
    np.testing.assert_allclose(np.log2(np.divide(errors[:-1], errors[1:])), 1.0, atol=0.05)


def test_a_fixed_kernel_decays_with_its_rates() -> None:
    # f = a (W x + b) + c with a and c fixed has the kernel |a|^2 (1 + x x'): f' = -K (f - y)/N, solved by its modes.
    y, net = labels_for("squared"), wa.MLP((5,), activation="linear", bias_variance=0.3)
    frozen = flow((X, y), net, n_networks=3, loss="squared", readout="frozen", rtol=1e-11, record=(0, 7, 40))
    for k in range(3):
        network = frozen.isel(network=k)
        a = network.weights_2.isel(time=0).values[0]
        kernel = (a @ a) * (1.0 + X @ X.T)
        values, vectors = np.linalg.eigh(kernel / len(y))
        start = network.outputs.isel(time=0).values - y
        for record in (1, 2):
            decay = np.exp(-values * float(network.time[record]))
            expected = y + vectors @ (decay * (vectors.T @ start))
            np.testing.assert_allclose(network.outputs.isel(time=record), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    ("activation", "loss", "rtol"),
    [
        ("relu", "cross-entropy", 1e-6), ("leaky_relu(0.2)", "squared", 1e-6), ("abs", "exponential", 1e-6),
        ("tanh", "hinge", 1e-6), ("linear", "squared", 1e-8), ("tanh", "cross-entropy", 1e-8),
    ],
)  # fmt: skip
def test_kinks_have_a_tolerance_of_their_own(activation: str, loss: str, rtol: float) -> None:
    net = wa.MLP((6,), activation=activation, bias_variance=0.3)
    state = flow((X, labels_for(loss)), net, loss=loss, n_networks=2, n_steps=10)
    assert state.attrs["rtol"] == rtol


def test_errors_at_kinks_go_with_the_tolerance() -> None:
    # Units that stay at kinks: the error is that of steps of the first order, and for the default 1e-4 of the norm.
    x = np.linspace(-1.0, 1.0, 8)[:, None]
    data = x, np.where(np.sin(2 * np.pi * x[:, 0] + 0.3) > 0, 1.0, -1.0)
    net, options = wa.MLP((20,), bias_variance=1.0), {"n_networks": 8, "n_steps": 200, "learning_rate": 0.05}
    runs = [
        np.concatenate([state[name].values.reshape(8, -1) for name in ("weights_1", "biases_1", "weights_2")], axis=1)
        for state in (flow(data, net, rtol=rtol, record=(200,), **options) for rtol in (1e-7, 1e-6, 1e-5))
    ]
    errors = [np.linalg.norm(run - runs[0], axis=1) / np.linalg.norm(runs[0], axis=1) for run in runs[1:]]
    assert np.median(errors[0]) < 1e-4
    assert 3.0 < np.median(errors[1]) / np.median(errors[0]) < 30.0


def test_relu_flow_agrees_with_small_steps() -> None:
    y, net = labels_for("cross-entropy"), wa.MLP((10,), bias_variance=0.3)
    exact = flow((X, y), net, record=(0, 40))
    steps = flow((X, y), net, method="descent", n_steps=40_000, learning_rate=1e-4, record=(0, 40_000))
    # Kinks that samples cross are met by shorter steps; descent errs by about its step.
    np.testing.assert_allclose(exact.outputs.isel(time=1), steps.outputs.isel(time=1), rtol=0, atol=2e-3)
    assert (exact.status == 0).all()


def test_same_bits_for_any_threads_and_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    y, net = labels_for("cross-entropy"), wa.MLP((6, 4), activation="erf", bias_variance=0.3)
    whole = flow((X, y), net, n_networks=40, n_threads=1)
    runs = [flow((X, y), net, n_networks=40, n_threads=2)]
    runs.append(
        xr.concat(
            [flow((X, y), net, n_networks=n, first_network=f) for f, n in ((0, 21), (21, 19))],
            "network",
        )
    )
    for path in ("avx2", "baseline"):
        monkeypatch.setenv("WIDEANGLE_CPU_PATH", path)
        try:
            runs.append(flow((X, y), net, n_networks=40))
        except ValueError:  # a machine without it
            continue
    for run in runs:
        for name in ("weights_1", "weights_3", "biases_2"):
            np.testing.assert_array_equal(whole[name], run[name])


def test_records_change_flow_within_its_tolerance_only() -> None:
    y, net = labels_for("cross-entropy"), wa.MLP((6,), activation="tanh")
    few, many = flow((X, y), net, record=(0, 40)), flow((X, y), net, record=1)
    np.testing.assert_allclose(few.outputs.isel(time=-1), many.outputs.isel(time=-1), rtol=0, atol=1e-6)


def test_a_network_without_gradient_stays(capsys: pytest.CaptureFixture[str]) -> None:
    # Hinge: all margins above 1 from the start, since the labels are those of a network with large outputs.
    net = wa.MLP((6,), weight_variance=1e5)
    f = flow((X, labels_for("hinge")), net, n_networks=1, n_steps=0).outputs.values[0, 0]
    assert np.abs(f).min() > 1.0
    state = flow((X, np.sign(f)), net, n_networks=1, loss="hinge", progress=True)
    np.testing.assert_array_equal(state.weights_1.isel(time=0), state.weights_1.isel(time=-1))
    assert "40.0/40.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 3}, "batch must be 'full' for method='flow', got 3; take method='descent'"),
        ({"noise": 0.1}, "noise must be None for method='flow', got 0.1"),
        ({"rtol": 1e-20}, r"rtol must lie in \[1e-14, 0.1\]"),
    ],
)
def test_what_flow_has_no_meaning_for(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        flow((X, labels_for("cross-entropy")), wa.MLP((3,)), **options)


def test_the_first_steps_of_a_long_run_are_short() -> None:
    # The loss falls fast first and slowly then; how short the first steps are says nothing about an end far away.
    net = wa.MLP((20,), weight_variance=100.0, activation="tanh")
    options: dict[str, Any] = {"learning_rate": 100.0, "rtol": 1e-4}
    state = flow((X, labels_for("cross-entropy")), net, n_steps=10**12, record=(0, 1, 10**12), **options)
    assert (state.status == 0).all()
    assert (state.loss[:, 2] < 1e-10 * state.loss[:, 1]).all()
