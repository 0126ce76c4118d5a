from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import pytest

import wideangle as wa
from wideangle.activations import ACTIVATIONS, Activation, parse_activation

NAMES = (*ACTIVATIONS, "leaky_relu(0.2)", "leaky_relu(-0.5)")
POINTS = (-800.0, -30.0, -3.0, -0.7, -1e-9, 0.0, 1e-9, 0.4, 2.5, 30.0, 800.0)

EXACT = {
    "relu": lambda x: mpmath.mpf(max(x, 0)),
    "leaky_relu": lambda x: x if x > 0 else mpmath.mpf("0.01") * x,
    "leaky_relu(0.2)": lambda x: x if x > 0 else mpmath.mpf("0.2") * x,
    "leaky_relu(-0.5)": lambda x: x if x > 0 else -x / 2,
    "abs": abs,
    "linear": lambda x: x,
    "erf": mpmath.erf,
    "tanh": mpmath.tanh,
    "gelu": lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
    "elu": lambda x: x if x > 0 else mpmath.expm1(x),
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "sin": mpmath.sin,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
}


@pytest.mark.parametrize("name", NAMES)
def test_values_are_those_of_the_definition(name: str) -> None:
    activation = parse_activation(name)
    with mpmath.workdps(40):
        expected = [float(EXACT[name](mpmath.mpf(x))) for x in POINTS]
    np.testing.assert_allclose(activation.value(POINTS), expected, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("name", ["relu", "leaky_relu(0.2)", "abs", "linear", "erf", "tanh"])
def test_infinite_values(name: str) -> None:
    activation = parse_activation(name)
    limits = {"relu": (0.0, np.inf), "abs": (np.inf, np.inf), "erf": (-1.0, 1.0), "tanh": (-1.0, 1.0)}
    np.testing.assert_array_equal(activation.value([-np.inf, np.inf]), limits.get(name, (-np.inf, np.inf)))


@pytest.mark.parametrize("name", NAMES)
def test_derivatives_are_those_of_the_values(name: str) -> None:
    activation = parse_activation(name)
    points = [x for x in POINTS if x != 0.0]
    with mpmath.workdps(60):
        expected = [float(mpmath.diff(EXACT[name], mpmath.mpf(x), h=mpmath.mpf("1e-20"))) for x in points]
    np.testing.assert_allclose(activation.derivative(points), expected, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_homogeneous_ones_say_so(name: str) -> None:
    activation = parse_activation(name)
    x = np.array([-2.0, -0.3, 0.5, 3.0])
    scales = bool(np.allclose(activation.value(7.0 * x), 7.0 * activation.value(x), rtol=1e-12))
    assert scales == activation.homogeneous


@pytest.mark.parametrize("name", NAMES)
def test_a_network_keeps_the_name_that_parses_to_the_same(name: str) -> None:
    net = wa.MLP((4,), activation=name)
    assert parse_activation(net.activation) == parse_activation(name) == net.phi
    assert wa.MLP((4,), activation=net.phi) == net
    assert ACTIVATIONS[net.phi.code] == net.phi.name


def test_leaky_relu_has_a_default_slope_and_a_canonical_name() -> None:
    assert parse_activation("leaky_relu") == Activation("leaky_relu", 0.01)
    assert wa.MLP((4,), activation=" leaky_relu( slope = .20 ) ").activation == "leaky_relu(0.2)"


@pytest.mark.parametrize(
    "bad", ["Relu", "", "relu(0.1)", "leaky_relu()", "leaky_relu(x)", "leaky_relu(inf)", "leaky_relu(nan)"]
)
def test_bad_names_are_named(bad: str) -> None:
    with pytest.raises(ValueError, match=r"activation.*leaky_relu\(0.2\)"):
        parse_activation(bad)


@pytest.mark.parametrize("bad", [None, 1, math.tanh, ["relu"]])
def test_what_is_no_name_is_refused(bad: Any) -> None:
    with pytest.raises(TypeError, match="activation must be a string"):
        parse_activation(bad)
