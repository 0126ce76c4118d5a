"""Width scalings: exact exponents, and clear errors."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from wideangle.parametrization import Scaling, scaling

# Hajjar, Chizat and Giraud, arXiv 2110.15596, for L hidden layers: a, b, c of the first step and c afterwards, each for
# the first layer, layer l from 2 to L, and the output layer.
TABLE: dict[str, tuple[Any, ...]] = {
    "standard": ("0 0 0", "0 1/2 1/2", "0 0 0", "0 0 0"),
    "ntk": ("0 1/2 1/2", "0 0 0", "0 0 0", "0 0 0"),
    "mup": ("-1/2 0 1/2", "1/2 1/2 1/2", "0 0 0", "0 0 0"),
    "hp": ("-1/2 0 1/2", "1/2 1/2 1/2", "0 0 0", "0 0 0"),
    "ip": ("0 1 1", "0 0 0", "-1 -2 -1", "-1 -2 -1"),
    "ip-non-centered": ("0 1 1", "0 0 0", "-1 -2 -1", "-1 -2 -1"),
    "ip-llr": ("0 1 1", "0 0 0", lambda hidden, layer: (-(hidden + 1), -(hidden + 2), -(hidden + 1)), "-1 -2 -1"),
    "ip-bias": ("0 1 1", "0 0 0", lambda hidden, layer: (-(hidden + 1), -(hidden - layer + 4), -2), "-1 -2 -1"),
}


def row(entry: Any, hidden: int) -> tuple[Fraction, ...]:
    if isinstance(entry, str):
        first, inner, last = map(Fraction, entry.split())
        return (first, *(inner,) * (hidden - 1), last)
    halves = [entry(hidden, layer) for layer in range(1, hidden + 2)]
    numbers = (halves[0][0], *(halves[layer - 1][1] for layer in range(2, hidden + 1)), halves[0][2])
    return tuple(Fraction(number, 2) for number in numbers)


@pytest.mark.parametrize("hidden", [1, 2, 3, 6])
@pytest.mark.parametrize("name", TABLE)
def test_named_scalings_have_the_exponents_of_the_table(name: str, hidden: int) -> None:
    s = scaling(name, hidden)
    assert (s.a, s.b, s.c_first, s.c) == tuple(row(entry, hidden) for entry in TABLE[name])
    assert s.name == name
    assert s.n_hidden == hidden
    assert all(type(exponent) is Fraction for exponent in (*s.a, *s.b, *s.c, *s.c_first, *s.bias_c_first, *s.adam_c))
    assert s.centered == (name != "ip-non-centered")
    assert s.drops_initial == (name == "hp")


def test_exponents_of_the_biases() -> None:
    s = scaling("ip-bias", 4)
    assert [*s.bias_a, *s.bias_b] == [0] * 10
    assert [2 * c for c in s.bias_c_first] == [-5, -4, -3, -2, 0]
    assert [*s.bias_c] == [-1, -1, -1, -1, 0]
    assert s.biases == "random"
    assert scaling("ip", 4).biases == scaling("ip-llr", 4).biases == "none"


def test_learning_rates_by_optimizer_and_step() -> None:
    s = scaling("ip-llr", 2)
    assert s.learning_rate_exponents(first=True) == (s.c_first, s.bias_c_first)
    assert s.learning_rate_exponents("sgd") == (s.c, s.bias_c)
    assert [2 * c for c in scaling("mup", 3).learning_rate_exponents("adam")[0]] == [1, 2, 2, 1]
    with pytest.raises(ValueError, match="optimizer"):
        s.learning_rate_exponents("muon")  # type: ignore[arg-type]


def test_a_scaling_is_frozen_and_compares_by_value() -> None:
    one, other = scaling("mup", 3), scaling("mup", 3)
    assert one == other
    assert hash(one) == hash(other)
    assert one != scaling("hp", 3)
    with pytest.raises(AttributeError):
        one.a = (0, 0)  # type: ignore[misc, assignment]


@pytest.mark.parametrize("exponent", ["1/2", 0.5, Fraction(1, 2), np.float64(0.5), np.float32(0.5)])
def test_exponents_may_come_in_many_forms(exponent: Any) -> None:
    assert Scaling((exponent, 0), (0, np.int64(0)), (0, 0)).a == (Fraction(1, 2), Fraction(0))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (((0,), (0,), (0,)), ValueError, r"a must hold 2 to .* got 1"),
        (((0, 0), (0,), (0, 0)), ValueError, r"b must hold 2 exponents, as many as a, got 1"),
        (((0, 0), (0, 0), (0, 0, 0)), ValueError, r"c must hold 2 exponents, as many as a, got 3"),
        (("12", (0, 0), (0, 0)), TypeError, r"a must be a sequence"),
        ((0.5, (0, 0), (0, 0)), TypeError, r"a must be a sequence"),
        (((0, "half"), (0, 0), (0, 0)), ValueError, r"a\[1\] must be a finite number, got 'half'"),
        (((0, float("nan")), (0, 0), (0, 0)), ValueError, r"a\[1\] must be a finite number, got nan"),
        (((0, float("inf")), (0, 0), (0, 0)), ValueError, r"a\[1\] must be a finite number, got inf"),
        (((0, "1/0"), (0, 0), (0, 0)), ValueError, r"a\[1\] must be a finite number"),
        (((0, 1j), (0, 0), (0, 0)), TypeError, r"a\[1\] must be a number"),
        (((0, True), (0, 0), (0, 0)), TypeError, r"a\[1\] must be a number"),
    ],
)
def test_exponents_that_are_wrong(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Scaling(*arguments)


def test_other_arguments_that_are_wrong() -> None:
    zero = (0, 0)
    with pytest.raises(ValueError, match="c_first must hold 2"):
        Scaling(zero, zero, zero, c_first=(0,))
    with pytest.raises(ValueError, match="biases"):
        Scaling(zero, zero, zero, biases="some")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="centered"):
        Scaling(zero, zero, zero, centered="yes")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="name"):
        Scaling(zero, zero, zero, name=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("hidden", [0, -1, 10**6])
def test_numbers_of_hidden_layers_out_of_range(hidden: int) -> None:
    with pytest.raises(ValueError, match="n_hidden"):
        scaling("mup", hidden)


def test_wrong_names_and_types() -> None:
    with pytest.raises(ValueError, match=r"name must be .*mup"):
        scaling("muP2", 3)
    with pytest.raises(TypeError, match="n_hidden"):
        scaling("mup", 2.5)  # type: ignore[arg-type]
