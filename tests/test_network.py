"""What an MLP accepts, and what it says when it does not."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wideangle as wa


@given(widths=st.lists(st.integers(1, 2**31), min_size=1, max_size=20), variance=st.floats(1e-6, 1e6))
def test_valid_networks(widths: list[int], variance: float) -> None:
    net = wa.MLP(widths, weight_variance=variance, bias_variance=variance)
    assert net.widths == tuple(widths)
    assert net.depth == len(widths)
    assert (net.activation, net.weight_variance, net.bias_variance) == ("relu", variance, variance)
    assert net == wa.MLP(np.array(widths), weight_variance=variance, bias_variance=variance)
    assert hash(net) == hash(wa.MLP(tuple(widths), weight_variance=variance, bias_variance=variance))
    with pytest.raises(dataclasses.FrozenInstanceError):
        net.widths = (1,)  # type: ignore[misc]


@pytest.mark.parametrize(
    "widths", [(), (0,), (4, -1), (2**31 + 1,), (2.5,), (4.0,), ("8",), "88", 8, None, (True,), (None,), ((4,),)]
)
def test_bad_widths_are_named(widths: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"widths.*give the widths"):
        wa.MLP(widths)


@pytest.mark.parametrize("name", ["weight_variance", "bias_variance"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), "2", None, True, 10**400])
def test_bad_variances_are_named(name: str, value: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=f"{name}.*give a"):
        wa.MLP((4,), **{name: value})


def test_weight_variance_must_be_positive() -> None:
    assert wa.MLP((4,), bias_variance=0).bias_variance == 0.0
    with pytest.raises(ValueError, match="weight_variance must be positive"):
        wa.MLP((4,), weight_variance=0)


@pytest.mark.parametrize("activation", ["Relu", "softplus", "", None, 1])
def test_bad_activation_is_named(activation: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"activation.*relu"):
        wa.MLP((4,), activation=activation)


def test_weights_take_the_widest_float_type_and_say_what_they_are() -> None:
    weights = [np.ones((4, 3), np.float16), np.ones((2, 4), np.float32)]
    network = wa.NetworkWeights(weights, biases=[[0, 0, 0, 0], None])
    assert network.dtype == np.float32
    assert (network.sizes, network.n_networks) == ((3, 4, 2), None)
    assert network.biases is not None
    assert network.biases[1] is None
    assert repr(network) == "NetworkWeights(3-4-2, relu, float32)"
    assert wa.NetworkWeights([*weights, [[1.0, 1.0]]]).dtype == np.float64
    assert wa.NetworkWeights([[[1, 2]]]).dtype == np.float64
    stack = wa.NetworkWeights([np.ones((5, 4, 3))], biases=[np.ones((5, 4))], activation=["tanh"])
    assert repr(stack) == "NetworkWeights(5 networks, 3-4, ('tanh',), float64)"
    with pytest.raises(dataclasses.FrozenInstanceError):
        network.biases = None  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given_name", "kept", "by_layer"),
    [
        ("leaky_relu", "leaky_relu(0.01)", ("leaky_relu(0.01)", "linear")),
        (["tanh", "linear"], "tanh", ("tanh", "linear")),
        (["tanh", "relu"], ("tanh", "relu"), ("tanh", "relu")),
        ("linear", "linear", ("linear", "linear")),
    ],
)
def test_activations_of_weights(given_name: Any, kept: Any, by_layer: tuple[str, ...]) -> None:
    network = wa.NetworkWeights([np.ones((4, 3)), np.ones((2, 4))], activation=given_name)
    assert network.activation == kept
    assert tuple(map(str, network.activations)) == by_layer
    assert wa.NetworkWeights(network.weights, activation=network.activation).activation == kept


def test_no_biases_are_none() -> None:
    assert wa.NetworkWeights([np.ones((4, 3))], biases=[None]).biases is None
