"""Scalings that are the same, and the regimes that they lead to, against a theorem and networks of finite width."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wideangle.parametrization import Scaling, classify, equivalent, scaling
from wideangle.scalings import SCALINGS

HALF = Fraction(1, 2)
quarters = st.integers(-8, 8).map(lambda n: Fraction(n, 4))


@pytest.mark.parametrize("name", SCALINGS)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_moving_size_from_weights_to_multipliers_makes_no_difference(name: str, data: Any) -> None:
    s = scaling(name, data.draw(st.integers(1, 5)))
    theta = data.draw(st.lists(quarters, min_size=len(s.a), max_size=len(s.a)))
    shifts = {"a": 1, "b": -1, "c": -2, "c_first": -2}
    moved: dict[str, Any] = {
        name: [exponent + factor * t for exponent, t in zip(getattr(s, name), theta, strict=True)]
        for name, factor in shifts.items()
    }
    kept = ("bias_a", "bias_b", "bias_c", "bias_c_first", "biases", "centered", "drops_initial")
    moved |= {name: getattr(s, name) for name in kept}
    assert equivalent(s, Scaling(**moved))
    field = data.draw(st.sampled_from(list(shifts)))
    place = data.draw(st.integers(0, s.n_hidden))
    moved[field][place] += Fraction(1, 4)
    other = Scaling(**moved)
    assert not equivalent(s, other)
    assert not equivalent(other, s)


def test_scalings_of_the_literature_that_are_the_same() -> None:
    one = (1, 1)
    ntk = Scaling(a=(0, 0, 0), b=(0, HALF, HALF), c=(0, *one))
    assert equivalent(scaling("ntk", 2), ntk)
    # With one hidden layer, mean-field networks and maximal updates are the same, and a large first step is not larger.
    assert equivalent(scaling("mup", 1), scaling("ip", 1))
    assert equivalent(scaling("ip", 1), scaling("ip-llr", 1))
    for pair in (("mup", "ip"), ("mup", "hp"), ("ip", "ip-llr"), ("ip", "ip-non-centered"), ("ntk", "standard")):
        assert not equivalent(*(scaling(name, 3) for name in pair))


def test_random_biases_are_not_none() -> None:
    random = Scaling((0, 1), (0, 0), (-1, -1), biases="random")
    assert not equivalent(Scaling((0, 1), (0, 0), (-1, -1)), random)
    assert not equivalent(Scaling((0, 1), (0, 0), (-1, -1), biases="zero"), random)


def test_biases_count_where_both_have_them() -> None:
    none, zero = Scaling((0, 1), (0, 0), (-1, -1)), Scaling((0, 1), (0, 0), (-1, -1), biases="zero")
    faster = Scaling((0, 1), (0, 0), (-1, -1), bias_c=(-1, 0), biases="zero")
    assert equivalent(none, zero)
    assert equivalent(none, faster)
    assert not equivalent(zero, faster)
    shifted = Scaling((0, 1), (0, 0), (-1, -1), bias_a=(HALF, 0), bias_c=(-2, 0), biases="zero")
    assert equivalent(faster, shifted)


@pytest.mark.parametrize("hidden", [1, 2, 3, 4, 7])
def test_regimes_of_the_named_scalings(hidden: int) -> None:
    regimes = {name: classify(scaling(name, hidden)).name for name in SCALINGS}
    assert regimes == {
        "standard": "unstable",
        "ntk": "kernel",
        "mup": "feature-learning",
        "ip": "feature-learning" if hidden <= 2 else "trivial",
        "ip-llr": "feature-learning",
        "ip-bias": "feature-learning",
        "ip-non-centered": "feature-learning",
        "hp": "feature-learning",
    }
    adam = {name: classify(scaling(name, hidden), optimizer="adam").name for name in SCALINGS}
    # A step of Adam is as large as its learning rate: from there no network is too deep.
    assert adam == regimes | {"ip": "feature-learning"}


def test_exponents_of_an_integrable_network() -> None:
    for hidden in (3, 4, 6):
        regime = classify(scaling("ip", hidden))
        assert regime.initial_activations == tuple(Fraction(1 - layer, 2) for layer in range(1, hidden + 1))
        assert regime.initial_output == Fraction(-hidden, 2)
        assert regime.output_update == 2 - hidden


def test_standard_networks_need_a_learning_rate_of_one_over_the_width() -> None:
    for hidden in (1, 3):
        layers = (0, *(HALF,) * hidden)
        assert classify(Scaling((0,) * (hidden + 1), layers, (1,) * (hidden + 1))).name == "kernel"
        assert classify(Scaling((0,) * (hidden + 1), layers, (HALF,) * (hidden + 1))).name == "unstable"
        assert classify(Scaling((0,) * (hidden + 1), layers, (2,) * (hidden + 1))).name == "trivial"


def yang_and_hu(a: list[Fraction], b: list[Fraction], c: Fraction) -> str:
    """Regime by Yang and Hu, arXiv 2011.14522, section 3, for one learning rate and activations of order one."""
    last = len(a) - 1
    smallest = min(2 * exponent + (1 if layer == 0 else 0) for layer, exponent in enumerate(a[:-1]))
    r = min(a[last] + b[last], 2 * a[last] + c) + c - 1 + smallest
    stable = a[last] + b[last] >= HALF and r >= 0 and 2 * a[last] + c >= 1 and a[last] + b[last] + r >= 1
    if not stable:
        return "unstable"
    if 2 * a[last] + c > 1 and a[last] + b[last] + r > 1:
        return "trivial"
    return "feature-learning" if r == 0 else "kernel"


@settings(max_examples=400, deadline=None)
@given(
    hidden=st.integers(1, 4),
    multipliers=st.lists(quarters, min_size=5, max_size=5),
    last=st.integers(0, 6).map(lambda n: Fraction(n, 4)),
    c=quarters,
)
def test_one_learning_rate_against_the_theorem(
    hidden: int, multipliers: list[Fraction], last: Fraction, c: Fraction
) -> None:
    a = multipliers[: hidden + 1]
    starts = [Fraction(0), *(HALF,) * (hidden - 1), last]
    b = [start - exponent for start, exponent in zip(starts, a, strict=True)]
    assert classify(Scaling(a, b, (c,) * (hidden + 1))).name == yang_and_hu(a, b, c)


def test_cases_of_the_theorem_occur() -> None:
    found = set()
    rng = np.random.default_rng(0)
    for _ in range(3000):
        a = [Fraction(int(n), 4) for n in rng.integers(-4, 5, 3)]
        b = [-a[0], HALF - a[1], Fraction(int(rng.integers(2, 6)), 4) - a[2]]
        found.add(yang_and_hu(a, b, Fraction(int(rng.integers(-4, 5)), 4)))
    assert found == {"unstable", "trivial", "kernel", "feature-learning"}


WIDTHS = (64, 256, 1024)
SEEDS, SEEDS_AT_START = 36, 100
# Without their initial weights layers 2 and 3 are left with small updates. What is lost with them knows nothing of the
# readout: the output changes by order one.
DROPPED = Scaling((0, HALF, HALF, HALF), (0,) * 4, (0,) * 4, drops_initial=True)


def log_sizes(values: Any) -> list[float]:
    return [float(np.log(np.sqrt(np.mean(np.square(z))))) for z in values]


def slopes(sizes: Any) -> tuple[Any, Any]:
    """Slopes, and standard errors, of logarithms (width, seed, layer) against that of the width."""
    x = np.log(WIDTHS) - np.mean(np.log(WIDTHS))
    weights, sizes = x / np.sum(x**2), np.asarray(sizes)
    error = np.tensordot(weights**2, sizes.var(axis=1, ddof=1) / sizes.shape[1], 1)
    return np.tensordot(weights, sizes.mean(axis=1), 1), np.sqrt(error)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "hidden", "n_steps"),
    [
        ("ntk", 3, 1),
        ("mup", 3, 1),
        ("hp", 3, 1),
        ("ip", 1, 1),
        ("ip", 2, 2),  # the first layer waits for the second
        ("ip", 3, 1),
        ("ip", 4, 1),
        ("ip-llr", 2, 1),
        ("ip-bias", 4, 1),
        ("ip-non-centered", 4, 1),
        ("dropped", 3, 1),
    ],
)
def test_exponents_against_networks_of_finite_width(
    name: str, hidden: int, n_steps: int, finite_network: Callable[..., Any]
) -> None:
    s = DROPPED if name == "dropped" else scaling(name, hidden)
    x = np.random.default_rng(3).standard_normal((4, 5)).astype(np.float32)
    # With the hybrid the first step has to outweigh the output that is lost with the initial weights.
    steps = np.array([0.25, 0.15, -0.1, 0.2], np.float32) * (8.0 if name == "hp" else 1.0)
    starts: list[Any] = [[] for _ in WIDTHS]
    changes: list[Any] = [[] for _ in WIDTHS]
    for place, width in enumerate(WIDTHS):
        for seed in range(SEEDS_AT_START):
            network = finite_network(s, width, 5, seed=100 * place + seed, mean=0.5)
            before = network.forward(x)
            starts[place].append(log_sizes(before))
            if seed < SEEDS:
                for _ in range(n_steps):
                    network.step(x, steps)
                after = network.forward(x)
                changes[place].append(log_sizes([z - start for z, start in zip(after, before, strict=True)]))
    regime = classify(s)
    for sizes, expected in (
        (starts, [*regime.initial_activations, regime.initial_output]),
        (changes, [*regime.activation_updates, regime.output_update]),
    ):
        slope, error = slopes(sizes)
        # Sizes differ from their power of the width by the order of its inverse root.
        tolerance = 5.0 * error + 0.1
        assert np.all(np.abs(slope - np.array(expected, float)) < tolerance)
        assert np.all(tolerance < 0.45)  # exponents are multiples of a half


def test_weights_that_are_dropped() -> None:
    regime = classify(DROPPED)
    assert regime.name == "feature-learning"
    assert [*regime.activation_updates, regime.output_update] == [-HALF, 0, 0, 0]
    # With one hidden layer there is nothing to drop.
    assert equivalent(scaling("hp", 1), scaling("mup", 1))


def test_sizes_that_grow_slowly_are_unstable() -> None:
    slow = Scaling((0, 1), (2, 2), ("-11/10", "-11/10"))
    assert classify(slow).name == "unstable"
    assert classify(Scaling((HALF, "3/4"), (1, "3/4"), ("-5/4", "-3/2"), c_first=("-5/4", "5/4"))).name == "unstable"
    endless = Scaling((0, 1), (2, 2), ("-100001/100000", "-100001/100000"))
    assert classify(endless).name == "unstable"


@pytest.mark.parametrize("value", ["mup", None, 3])
def test_something_that_is_no_scaling(value: Any) -> None:
    with pytest.raises(TypeError, match="must be a Scaling"):
        classify(value)
    with pytest.raises(TypeError, match="s2 must be a Scaling"):
        equivalent(scaling("mup", 2), value)
    with pytest.raises(ValueError, match="optimizer"):
        classify(scaling("mup", 2), optimizer="muon")  # type: ignore[arg-type]
