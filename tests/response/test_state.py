"""What is read from a Dataset of trained networks, or from weights, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import wideangle as wa
from wideangle.response._state import check_trained, layer_slices, read_state

MakeState = Callable[..., xr.Dataset]


def test_the_order_of_parameters_by_hand() -> None:
    network = wa.NetworkWeights([[[1, 2], [3, 4], [5, 6]], [[10, 11, 12]]][:2], biases=[[7, 8, 9], [13]])
    states = read_state(network)
    assert states.parameters.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]]
    assert states.sizes == (2, 3, 1)
    assert (states.weight_rates, states.bias_rates) == ((1.0, 1.0), (1.0, 1.0))
    assert (states.dims, states.shape, states.coords) == ((), (), {})
    assert states.loss is None
    assert states.learning_rate is None
    assert states.x is None
    (first, first_bias), (last, last_bias) = states.layers
    assert first.tolist() == [[[1, 2], [3, 4], [5, 6]]]
    assert first_bias.tolist() == [[7, 8, 9]]
    assert last.tolist() == [[[10, 11, 12]]]
    assert last_bias.tolist() == [[13]]
    assert layer_slices((2, 3, 1))[1] == (slice(9, 12), slice(12, 13), (1, 3))


def test_several_networks_without_biases() -> None:
    matrices = [np.arange(24.0, dtype=np.float32).reshape(2, 4, 3), np.ones((2, 1, 4), np.float32)]
    states = read_state(wa.NetworkWeights(matrices, activation="leaky_relu(0.2)"))
    assert states.parameters.dtype == np.float64
    assert states.parameters.flags.c_contiguous
    assert (states.dims, states.shape, len(states)) == (("network",), (2,), 2)
    assert str(states.activation) == "leaky_relu(0.2)"
    assert np.array_equal(states.layers[0][0], matrices[0])
    assert not states.layers[0][1].any()


def test_a_dataset(make_state: MakeState) -> None:
    state = make_state((2, 5, 3, 1), weight_rates=(0.5, 0.25, 0.0), bias_rates=(1.0, 0.0, 0.0))
    states = read_state(state)
    assert states.sizes == (2, 5, 3, 1)
    assert (states.dims, states.shape, len(states)) == (("network", "time"), (3, 2), 6)
    assert (states.weight_rates, states.bias_rates) == ((0.5, 0.25, 0.0), (1.0, 0.0, 0.0))
    assert str(states.activation) == "tanh"
    assert set(states.coords) == {"network", "time", "step"}
    for layer, (weights, biases) in enumerate(states.layers, start=1):
        assert np.array_equal(weights[3], state[f"weights_{layer}"].values[1, 1])
        assert np.array_equal(biases[4], state[f"biases_{layer}"].values[2, 0])
    loss, x, y = check_trained(states)
    assert loss.name == "cross-entropy"
    assert states.learning_rate == 0.1
    assert np.array_equal(x, state.x)
    assert np.array_equal(y, state.y)
    result = xr.Dataset({"mean": states.variable(states.parameters.mean(axis=1))}, states.coords)
    assert result["mean"].dims == ("network", "time")
    assert result["mean"].sel(network=12, time=0.5) == states.parameters[5].mean()


@pytest.mark.parametrize(
    ("select", "dims", "rows"),
    [
        ({"time": 1}, ("network",), [1, 3, 5]),
        ({"network": 2}, ("time",), [4, 5]),
        ({"network": 1, "time": 0}, (), [2]),
        ({"network": [2, 0]}, ("network", "time"), [4, 5, 0, 1]),
        ({"time": slice(None, None, -1)}, ("network", "time"), [1, 0, 3, 2, 5, 4]),
    ],
)
def test_selections(make_state: MakeState, select: dict[str, Any], dims: tuple[str, ...], rows: list[int]) -> None:
    state = make_state()
    part = read_state(state.isel(select))
    assert part.dims == dims
    assert np.array_equal(part.parameters, read_state(state).parameters[rows])
    assert set(part.coords) == {"network", "time", "step"}


def test_order_types_and_files(make_state: MakeState, tmp_path: Path) -> None:
    state = make_state()
    parameters = read_state(state).parameters
    turned = state.transpose("unit_1", "feature", "sample", "output", "network", "time")
    assert np.array_equal(read_state(turned).parameters, parameters)
    state.to_netcdf(tmp_path / "state.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "state.nc", engine="h5netcdf") as stored:
        again = read_state(stored)
    assert np.array_equal(again.parameters, parameters)
    assert again.weight_rates == (1.0, 1.0)
    assert again.learning_rate == 0.1
    narrow = read_state(state.astype(">f4"))
    assert narrow.parameters.dtype == np.float64
    assert np.array_equal(narrow.parameters, parameters.astype(np.float32))
    state.attrs["learning_rate"] = state.attrs["loss"] = "None"
    assert read_state(state).learning_rate is None
    assert read_state(state).loss is None


def test_further_dimensions(make_state: MakeState) -> None:
    both = make_state(seed=1)
    for name in ("weights_1", "biases_1", "weights_2", "biases_2"):
        both[name] = xr.concat([both[name], make_state(seed=2)[name]], "run")
    states = read_state(both)
    assert states.dims == ("run", "network", "time")
    assert np.array_equal(states.parameters[6:], read_state(make_state(seed=2)).parameters)


def without(*names: str) -> Callable[[xr.Dataset], Any]:
    return lambda state: state.drop_vars(names)


def without_attributes(state: xr.Dataset) -> xr.Dataset:
    state.attrs = {}
    return state


def with_attribute(name: str, value: Any) -> Callable[[xr.Dataset], Any]:
    return lambda state: state.assign_attrs({name: value})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda state: state.x.values, TypeError, "state must be a Dataset .* got ndarray"),
        (lambda state: None, TypeError, "got NoneType"),
        (without("weights_2", "biases_2"), ValueError, "lacks weights_2, biases_2; give what .*simulate_training"),
        (without("biases_1"), ValueError, "lacks biases_1;"),
        (without("weights_1"), ValueError, "lacks weights_1"),
        (without_attributes, ValueError, "lacks activation, weight_rates, bias_rates"),
        (with_attribute("weight_rates", [1.0]), ValueError, "weight_rates of state must hold 2 numbers"),
        (with_attribute("bias_rates", [1.0, -1.0]), ValueError, "bias_rates of state must hold 2 numbers"),
        (with_attribute("bias_rates", "1, 1"), ValueError, "bias_rates of state must hold 2 numbers"),
        (with_attribute("activation", "swoosh"), ValueError, "attribute activation of state must be one of"),
        (with_attribute("loss", "absolute"), ValueError, "attribute loss of state must be one of"),
        (lambda state: state.mean("unit_1"), ValueError, "weights_1 of state must have dimensions"),
        (lambda state: state.assign(biases_1=state.biases_1[:, 0]), ValueError, "biases_1 of state must have dimen"),
        (lambda state: state.isel(network=[]), ValueError, "weights_1 of state must not be empty"),
        (lambda state: state.astype(complex), TypeError, "weights_1 of state must hold real numbers"),
        (lambda state: wa.NetworkWeights([np.ones((2, 3))]), ValueError, "one output, got a network 3-2"),
        (lambda state: wa.NetworkWeights([np.ones((1, 3))]), ValueError, "hidden layer, got a network 3-1"),
        (
            lambda state: wa.NetworkWeights([np.ones((2, 3)), np.ones((1, 2))], activation=("relu", "tanh")),
            ValueError,
            "a linear output",
        ),
    ],
)
def test_what_is_refused(
    make_state: MakeState, change: Callable[[xr.Dataset], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        read_state(change(make_state()))


def test_weights_have_no_training() -> None:
    with pytest.raises(ValueError, match="training data x and y, and lacks them"):
        check_trained(read_state(wa.NetworkWeights([np.ones((2, 3)), np.ones((1, 2))])))
