"""Training responses: the factors, real steps against repeated training and many digits, labels, bad arguments."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import wideangle as wa

Array = NDArray[Any]
MakeState = Callable[..., xr.Dataset]
ACTIVATIONS = ("relu", "leaky_relu(0.2)", "abs", "linear", "erf", "tanh", "gelu", "elu", "silu", "sin", "sigmoid")
PROBES = np.random.default_rng(8).normal(size=(40, 2))


def functions(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """An activation and its derivative for numbers of mpmath."""
    mp = pytest.importorskip("mpmath").mp

    def sigmoid(z: Any) -> Any:
        return 1 / (1 + mp.exp(-z))

    result: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
        "relu": (lambda z: max(z, 0), lambda z: int(z > 0)),
        "leaky_relu(0.2)": (lambda z: z if z > 0 else 0.2 * z, lambda z: 1 if z > 0 else mp.mpf(0.2)),
        "abs": (abs, lambda z: 1 if z > 0 else -1),
        "linear": (lambda z: z, lambda z: 1),
        "erf": (mp.erf, lambda z: 2 / mp.sqrt(mp.pi) * mp.exp(-z * z)),
        "tanh": (mp.tanh, lambda z: mp.sech(z) ** 2),
        "gelu": (lambda z: z * mp.ncdf(z), lambda z: mp.ncdf(z) + z * mp.npdf(z)),
        "elu": (lambda z: z if z > 0 else mp.expm1(z), lambda z: 1 if z > 0 else mp.exp(z)),
        "silu": (lambda z: z * sigmoid(z), lambda z: sigmoid(z) * (1 + z * (1 - sigmoid(z)))),
        "sin": (mp.sin, mp.cos),
        "sigmoid": (sigmoid, lambda z: sigmoid(z) * sigmoid(-z)),
    }
    return result[name]


class Digits:
    """A network in sixty digits, with one step of descent written out for it."""

    def __init__(self, layers: list[tuple[Array, Array]], activation: str) -> None:
        self.mp = pytest.importorskip("mpmath").mp
        self.mp.dps = 60
        self.phi, self.slope = functions(activation)
        self.layers = [([list(map(self.mp.mpf, row)) for row in w], list(map(self.mp.mpf, b))) for w, b in layers]

    def forward(self, x: Array) -> tuple[list[list[Any]], list[list[Any]]]:
        """Pre-activations and activations, the output the last of the former."""
        zs, hs = [], [list(map(self.mp.mpf, x))]
        for weights, biases in self.layers:
            zs.append(
                [
                    sum(w * h for w, h in zip(row, hs[-1], strict=True)) + b
                    for row, b in zip(weights, biases, strict=True)
                ]
            )
            hs.append([self.phi(z) for z in zs[-1]])
        return zs, hs

    def step(self, x: Array, factor: Any, weight_rates: Any, bias_rates: Any) -> None:
        """Subtract factor times df/dw times the rate from each parameter w."""
        zs, hs = self.forward(x)
        derivatives = [self.mp.mpf(1)]
        for layer in range(len(self.layers) - 1, -1, -1):
            weights, biases = self.layers[layer]
            below = [
                sum(d * row[k] for d, row in zip(derivatives, weights, strict=True)) * self.slope(z)
                for k, z in enumerate(zs[layer - 1])
            ]
            for unit, derivative in enumerate(derivatives):
                for k, h in enumerate(hs[layer]):
                    weights[unit][k] -= factor * weight_rates[layer] * derivative * h
                biases[unit] -= factor * bias_rates[layer] * derivative
            derivatives = below


@pytest.mark.parametrize("learning_rate", [1e-12, 1e-3, 0.04, 3.0])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_steps_in_many_digits(
    make_state: MakeState, layers_of: Callable[..., Any], activation: str, learning_rate: float
) -> None:
    rates = {"weight_rates": (0.7, 1.3, 0.9), "bias_rates": (1.0, 0.0, 0.5)}
    state = make_state((2, 4, 3, 1), activation=activation, n_networks=1, times=(0.0,), loss="squared", **rates)
    state = state.isel(network=0, time=0)
    x, probe = state.x.values[:2], PROBES[:4]
    found = wa.response.training_response(state, x, probe, kind="step", learning_rate=learning_rate)
    for train in range(2):
        network, point = Digits(layers_of(state), activation), [*probe, x[train]]
        before = [network.forward(at)[0][-1][0] for at in point]
        factor = network.mp.mpf(learning_rate) * (before[-1] - state.y.values[train])
        network.step(x[train], factor, rates["weight_rates"], rates["bias_rates"])
        after = [network.forward(at)[0][-1][0] for at in point]
        changes = [float((b - a) / network.mp.mpf(learning_rate)) for a, b in zip(before, after, strict=True)]
        scale = np.abs(changes).max()
        np.testing.assert_allclose(found.response[train], changes[:-1], rtol=0, atol=3e-14 * scale)
        np.testing.assert_allclose(found.amplitude[train], abs(changes[-1]), rtol=0, atol=3e-14 * scale)
        np.testing.assert_allclose(found["shape"][train], np.array(changes[:-1]) / changes[-1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("sizes", [(2, 20, 1), (2, 9, 7, 1)])
@pytest.mark.parametrize("activation", ["tanh", "erf", "sin", "gelu"])
def test_steps_tend_to_the_kernel_with_the_first_order(
    make_state: MakeState, activation: str, sizes: tuple[int, ...]
) -> None:
    state = make_state(sizes, activation=activation)
    x = state.x.values
    kernel = wa.response.training_response(state, x, PROBES)
    # The limit of steps too small for any difference of outputs, of which 5 digits would be left at best.
    tiny = wa.response.training_response(state, x, PROBES, kind="step", learning_rate=1e-13)
    for name in ("response", "amplitude", "shape"):
        largest = np.abs(kernel[name]).max()
        np.testing.assert_allclose(tiny[name], kernel[name], rtol=0, atol=1e-11 * largest)
    rates = np.array([1e-3, 5e-4, 2.5e-4])
    errors = []
    for rate in rates:
        step = wa.response.training_response(state, x, PROBES, kind="step", learning_rate=rate)
        errors.append(np.sqrt(((step.response - kernel.response) ** 2).mean()))
    order = np.polyfit(np.log(rates), np.log(errors), 1)[0]
    assert order == pytest.approx(1.0, abs=0.02)
    assert errors[0] > 1e-7


def test_a_step_repeated_in_training(make_state: MakeState) -> None:
    x = np.array([[-1.0, 0.5], [0.3, 1.0], [2.0, -1.0]])
    y = np.array([1.0, -1.0, 1.0])
    arguments: dict[str, Any] = {"n_networks": 5, "learning_rate": 0.05, "seed": 3, "batch": "full"}
    net = wa.MLP((20,), bias_variance=0.2)
    for index in range(3):
        # A batch of one sample: what the run does to the outputs is the response to it.
        run = wa.response.simulate_training(
            net, (x[[index]], y[[index]]), n_steps=1, record=(0, 1), parametrization="ntk", **arguments
        )
        state = run.isel(time=0)
        response = wa.response.training_response(state, x[[index]], x, kind="step")
        before, after = (wa.propagation.forward(weights_of(run.isel(time=time)), x) for time in (0, 1))
        change = (after.outputs - before.outputs).values[..., 0] / 0.05
        np.testing.assert_allclose(response.response[:, 0], change, rtol=0, atol=1e-12 * np.abs(change).max() / 0.05)


def weights_of(state: xr.Dataset) -> wa.NetworkWeights:
    return wa.NetworkWeights(
        [state[f"weights_{layer}"].values for layer in (1, 2)],
        biases=[state[f"biases_{layer}"].values for layer in (1, 2)],
        activation=state.attrs["activation"],
    )


@pytest.mark.parametrize("loss", ["cross-entropy", "hinge", "squared", "exponential"])
def test_the_factors(make_state: MakeState, loss: str) -> None:
    state = make_state(loss=loss, n_samples=6)
    x, y = state.x.values, state.y.values
    result = wa.response.training_response(state, x, PROBES)
    assert result.response.dims == ("network", "time", "train", "probe")
    kernel = wa.response.tangent_kernel(state, x, PROBES, parts=True)
    own = wa.response.tangent_kernel(state, x).kernel.values
    own = np.diagonal(own, axis1=-2, axis2=-1)
    for name in ("kernel", "readout_part", "hidden_part"):
        assert np.array_equal(result[name], kernel[name])
    h = np.tanh(np.einsum("ktuf,sf->ktsu", state.weights_1, x) + state.biases_1.values[:, :, None])
    f = np.einsum("ktou,ktsu->kts", state.weights_2, h) + state.biases_2.values
    derivative = {
        "cross-entropy": -y / (1.0 + np.exp(y * f)),
        "hinge": -y * (y * f < 1.0),
        "squared": f - y,
        "exponential": -y * np.exp(-y * f),
    }[loss]
    np.testing.assert_allclose(result.loss_derivative, derivative, rtol=1e-13, atol=1e-14)
    expected = -derivative[..., None] * kernel.kernel.values
    np.testing.assert_allclose(result.response, expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(result.amplitude, np.abs(derivative) * own, rtol=1e-12)
    np.testing.assert_allclose(result["shape"], kernel.kernel.values / own[..., None], rtol=1e-14)
    again = wa.response.training_response(state, x, x)
    assert np.all(np.diagonal(again["shape"].values, axis1=-2, axis2=-1) == 1.0)
    np.testing.assert_array_equal(np.abs(np.diagonal(again.response, axis1=-2, axis2=-1)), again.amplitude)
    assert np.array_equal(result.y_train, y)
    assert np.array_equal(result.x_probe, PROBES)
    assert result.attrs["kind"] == "kernel"


def test_a_hinge_that_is_not_active(make_state: MakeState) -> None:
    state = make_state((2, 3, 1), loss="hinge", n_networks=1, times=(0.0,)).isel(network=0, time=0)
    state.biases_2[:] = 100.0
    for kind in ("kernel", "step"):
        result = wa.response.training_response(state, [[1.0, 2.0]], PROBES, kind=kind, y_train=[1.0])
        assert not result.response.values.any()
        assert not result.amplitude.values.any()
        assert bool(np.isnan(result["shape"]).all()) == (kind == "step")
        assert (result.kernel != 0.0).all()


def test_frozen_readout_and_one_frozen_network(make_state: MakeState) -> None:
    frozen = make_state((2, 6, 1), weight_rates=(1.0, 0.0), bias_rates=(1.0, 0.0))
    trained = make_state((2, 6, 1))
    x = frozen.x.values
    for kind in ("kernel", "step"):
        result = wa.response.training_response(frozen, x, PROBES, kind=kind, learning_rate=1e-9)
        assert not result.readout_part.values.any()
        assert np.array_equal(result.kernel, result.hidden_part)
        whole = wa.response.training_response(trained, x, PROBES, kind=kind)
        assert np.array_equal(result.hidden_part, whole.hidden_part)
        expected = -result.loss_derivative * result.hidden_part
        np.testing.assert_allclose(result.response, expected, rtol=0, atol=1e-7)
    nothing = make_state((2, 6, 1), weight_rates=(0.0, 0.0), bias_rates=(0.0, 0.0))
    result = wa.response.training_response(nothing, x, PROBES, kind="step")
    assert not result.response.values.any()
    assert np.isnan(result["shape"]).all()


def test_labels_are_looked_up(make_state: MakeState) -> None:
    state = make_state(n_samples=4)
    state["x"][1] = [0.0, -0.0]
    state["y"][:] = [1.0, -1.0, -1.0, 1.0]
    x = state.x.values[[3, 1, 1]]
    x[1] = [-0.0, 0.0]
    assert wa.response.training_response(state, x, PROBES).y_train.values.tolist() == [1.0, -1.0, -1.0]
    with pytest.raises(ValueError, match=r"x_train\[1\] is not among the training data .* give the labels as y_train"):
        wa.response.training_response(state, [x[0], [7.0, 7.0]], PROBES)
    state["x"][2] = state.x[3]
    with pytest.raises(ValueError, match=r"x_train\[0\] is there with labels \[-1.0, 1.0\]"):
        wa.response.training_response(state, x, PROBES)
    given = wa.response.training_response(state, x, PROBES, y_train=[-1, 1, 1])
    assert given.y_train.values.tolist() == [-1.0, 1.0, 1.0]


@pytest.mark.parametrize("kind", ["f4", "f2"])
def test_labels_are_looked_up_after_rounding(make_state: MakeState, tmp_path: Any, kind: str) -> None:
    state = make_state((2, 5, 1), n_samples=50)
    x, y = state.x.values, state.y.values
    rounded = state.astype(kind)
    if kind == "f4":
        encoding = {str(name): {"dtype": kind} for name, values in state.variables.items() if values.dtype == "f8"}
        state.to_netcdf(tmp_path / "state.nc", encoding=encoding)
        with xr.open_dataset(tmp_path / "state.nc") as file:
            rounded = file.load()
    assert rounded.x.dtype == kind
    assert not np.array_equal(rounded.x, x)
    for known, given in ((state, x.astype(kind)), (rounded, x), (rounded, rounded.x), (rounded, x.astype(kind))):
        found = wa.response.training_response(known.isel(network=0, time=0), given, PROBES)
        np.testing.assert_array_equal(found.y_train, y)
    # What has been rounded is not taken for the same where both come with all their digits.
    with pytest.raises(ValueError, match=r"x_train\[0\] is not among the training data"):
        wa.response.training_response(state, x.astype(kind).astype(float), PROBES)


def test_labels_that_rounding_makes_ambiguous(make_state: MakeState) -> None:
    state = make_state((2, 5, 1), n_samples=2)
    state["x"][:] = [[1.0, 0.0], [1.0, 1e-8]]
    state["y"][:] = [1.0, -1.0]
    found = wa.response.training_response(state, state.x, PROBES)
    assert found.y_train.values.tolist() == [1.0, -1.0]
    shifted = state.x.values.astype("f4") + np.array([0.0, 1e-7], "f4")
    with pytest.raises(ValueError, match=r"x_train\[0\] is there with labels \[-1.0, 1.0\]"):
        wa.response.training_response(state, shifted, PROBES)


def test_a_diverged_network_leaves_the_others(make_state: MakeState) -> None:
    for loss in ("hinge", "cross-entropy"):
        state = make_state(loss=loss)
        x = state.x.values
        whole = {kind: wa.response.training_response(state, x, PROBES, kind=kind) for kind in ("kernel", "step")}
        for name in ("weights_1", "biases_1", "weights_2", "biases_2"):
            state[name][1, 1] = np.nan
        for kind, expected in whole.items():
            result = wa.response.training_response(state, x, PROBES, kind=kind)
            for part, values in result.items():
                assert np.isnan(values[1, 1]).all()
                np.testing.assert_array_equal(values[::2], expected[part][::2])


def test_one_network_at_one_time(make_state: MakeState) -> None:
    state = make_state()
    x = state.x.values
    for kind in ("kernel", "step"):
        whole = wa.response.training_response(state, x, PROBES, kind=kind)
        one = wa.response.training_response(state.isel(network=2, time=1), x[:1], PROBES[-33:], kind=kind, n_threads=1)
        assert one.response.dims == ("train", "probe")
        assert np.array_equal(one.response[0], whole.response[2, 1, 0, -33:])
        assert np.array_equal(one["shape"][0], whole["shape"][2, 1, 0, -33:])
        assert float(one.time) == 0.5
        assert whole.amplitude.dims == ("network", "time", "train")
    assert whole.attrs["step_learning_rate"] == whole.attrs["learning_rate"] == 0.1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kind": "both"}, ValueError, "kind must be one of 'kernel', 'step'"),
        ({"kind": None}, TypeError, "kind must be a string"),
        ({"x_train": [[1.0]]}, ValueError, "x_train must have the 2 feature"),
        ({"x_probe": np.zeros((3, 2, 1))}, ValueError, "x_probe must have shape"),
        ({"x_probe": [[math.inf, 0.0]]}, ValueError, "x_probe must be finite"),
        ({"y_train": [1.0]}, ValueError, r"y_train must have 4 label\(s\), got 1"),
        ({"y_train": [1.0, -1.0, 0.0, 1.0]}, ValueError, r"y_train must be -1 or 1 .* y_train\[2\] = 0"),
        ({"y_train": ["a"] * 4}, TypeError, "y_train must hold real numbers"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate must be positive"),
        ({"learning_rate": "small"}, TypeError, "learning_rate must be a real number"),
        ({"n_threads": -1}, ValueError, "n_threads must lie between"),
        ({"progress": 1}, TypeError, "progress must be True or False"),
        ({"state": wa.NetworkWeights([np.ones((3, 2)), np.ones((1, 3))])}, ValueError, "lacks them"),
        ({"state": "state"}, TypeError, "state must be a Dataset"),
    ],
)
def test_bad_arguments(make_state: MakeState, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    state = make_state()
    with pytest.raises(error, match=message):
        wa.response.training_response(**({"state": state, "x_train": state.x, "x_probe": PROBES} | arguments))


def test_what_does_not_fit_into_memory(make_state: MakeState, monkeypatch: pytest.MonkeyPatch) -> None:
    state = make_state()
    monkeypatch.setattr("wideangle._checks.os.sysconf", lambda name: 1024)
    with pytest.raises(ValueError, match=r"6 states at 4 x 4000 points need .* GiB"):
        wa.response.training_response(state, state.x, np.zeros((4000, 2)))


def test_a_state_without_learning_rate(make_state: MakeState) -> None:
    state = make_state()
    del state.attrs["learning_rate"]
    wa.response.training_response(state, state.x, PROBES)
    with pytest.raises(ValueError, match="learning_rate must be given for kind='step'"):
        wa.response.training_response(state, state.x, PROBES, kind="step")
    wa.response.training_response(state, state.x, PROBES, kind="step", learning_rate=0.5)
