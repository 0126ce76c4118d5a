"""Exponents of power laws with noise, their intervals and verdicts; and predicted exponents step by step."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from wideangle.parametrization import Scaling, classify, scaling
from wideangle.parametrization._exponents import fit_exponents, judge
from wideangle.parametrization._sizes import NONE, step_exponents
from wideangle.scalings import SCALINGS

WIDTHS = np.array([64.0, 128.0, 256.0, 512.0, 1024.0])
HALF = Fraction(1, 2)


def power_law(exponents: Any, noise: Any) -> Any:
    """Sizes (width, seed, entry) with logarithmic noise."""
    return 3.0 * WIDTHS[:, None, None] ** np.asarray(exponents) * np.exp(noise)


def test_exponents_of_power_laws_are_exact_without_noise() -> None:
    exponents = np.array([-2.0, -0.5, 0.0, 0.25, 1.0])
    fit = fit_exponents(power_law(exponents, np.zeros((5, 3, 5))), WIDTHS, confidence=0.95, seed=0)
    for values in fit:
        np.testing.assert_allclose(values, exponents, atol=1e-12)


@pytest.mark.parametrize("n_seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("law", ["constant", "down with the width", "up with the width", "heavy tails"])
def test_intervals_cover_the_exponent_as_often_as_they_say(n_seeds: int, law: str) -> None:
    count, rng = 2000, np.random.default_rng(1)
    noise = rng.standard_t(5, (5, n_seeds, count)) if "tails" in law else rng.standard_normal((5, n_seeds, count))
    # Sets of networks are about as noisy at all widths; if not, then up to the root of the width either way.
    power = {"down with the width": -0.5, "up with the width": 0.5}.get(law, 0.0)
    noise *= 0.1 * ((WIDTHS / 256.0) ** power)[:, None, None]
    fit = fit_exponents(power_law(np.full(count, -0.5), noise), WIDTHS, confidence=0.9, seed=0)
    coverage = np.mean((fit.low <= -0.5) & (fit.high >= -0.5))
    # Two networks of each width tell little about their spread: their intervals may be too wide.
    assert 0.87 < coverage < (0.97 if n_seeds == 2 else 0.935)


def test_sizes_that_are_zero_infinite_or_missing() -> None:
    rng = np.random.default_rng(0)
    sizes = power_law(np.zeros(6), 0.01 * rng.standard_normal((5, 3, 6)))
    sizes[3:, :, 1] = np.inf  # diverges when wide
    sizes[..., 2] = np.inf  # diverges always
    sizes[..., 3] = 0.0  # never moves
    sizes[2, 1, 4] = 0.0  # once does not
    sizes[0, 0, 5] = np.nan
    fit = fit_exponents(sizes, WIDTHS, confidence=0.95, seed=0)
    predicted = np.zeros(6)
    verdicts = judge(fit.low, fit.high, predicted, 0.25)
    assert verdicts.tolist() == ["agrees", "disagrees", "not resolved", "disagrees", "not resolved", "not resolved"]
    assert fit.low[1] > 1.0
    assert fit.exponent[3] == -np.inf
    assert judge(fit.low[1:2], fit.high[1:2], np.ones(1), 0.25).item() == "agrees"


def test_verdicts() -> None:
    low, high = np.array([-0.2, -0.2, 0.3, 0.1, 0.1]), np.array([0.2, 0.3, 0.4, 5.0, 0.2])
    predicted = np.array([0.0, 0.0, 0.0, 1.0, np.nan])
    assert judge(low, high, predicted, 0.25).tolist() == ["agrees", "not resolved", "disagrees", "agrees", ""]
    assert judge(-high, -low, predicted, 0.25).tolist()[2:4] == ["disagrees", "disagrees"]


def exponents_after(s: Scaling, n_steps: int, optimizer: Any = "sgd") -> list[Any]:
    return [[list(part) for part in step] for step in itertools.islice(step_exponents(s, optimizer), n_steps + 1)]


def test_steps_by_hand() -> None:
    # Mean-field, two hidden layers. Pre-activations: x, then W x / m ~ m^(1/2 - 1), then m^(1/2 - 1) of that. In the
    # first step dW_2 ~ m^2 * (1/m) * (1/m) = 1 acts on m neurons, over m: order one. dW_1 ~ m * m^(1/2)/m^2 = m^(-1/2).
    # dW_3 ~ m * (1/m) x_2 = m^(-1/2) acts on x_2, by now of order one, over m times m: m^(-1/2).
    start, first, second = exponents_after(scaling("ip", 2), 2)
    assert start[0] == [0, -HALF, -1]
    assert first == [[0, 0, 0], [-HALF, 0, 0], [-HALF, 0, -HALF]]
    # In the second, the first layer sees dW_2 of order one and the readout activations of order one.
    assert second == [[0, 0, 0], [0, 0, 0], [0, 0, 0]]
    # Standard, one hidden layer: dW_1 ~ m^(-1/2), the readout changes by 1 for each of m neurons.
    start, first, second = exponents_after(scaling("standard", 1), 2)
    assert start[0] == [0, 0]
    assert first == [[0, 1], [-HALF, 1], [-HALF, 1]]
    # Then dW_1 sees the changed readout, of order one.
    assert second == [[0, 1], [0, 1], [0, 1]]
    # The tangent kernel: all that moves in hidden layers is of order m^(-1/2).
    for after in exponents_after(scaling("ntk", 2), 3)[1:]:
        assert after == [[0, 0, 0], [-HALF, -HALF, 0], [-HALF, -HALF, 0]]
    # Hybrid: dropping W_2 changes layer 2 by its size, and the output by its size at the start, m^(-1/2).
    assert exponents_after(scaling("hp", 2), 1)[1] == [[0, 0, 0]] * 3
    # Mean field with three hidden layers: dW_4 ~ m m^-1 x_3 ~ m^-1, acting on x_3 ~ m^-1.
    _, first = exponents_after(scaling("ip", 3), 1)
    assert first[1:] == [[-1, -HALF, -1, -1], [-1, -HALF, -1, -2]]
    # Adam: steps as large as the learning rate.
    _, first = exponents_after(scaling("standard", 2), 1, "adam")
    assert first[2] == [0, 1, 2]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("hidden", [1, 2, 3, 5])
@pytest.mark.parametrize("name", SCALINGS)
def test_steps_end_where_the_regime_says(name: str, hidden: int, optimizer: Any) -> None:
    s = scaling(name, hidden)
    regime = classify(s, optimizer=optimizer)
    steps = exponents_after(s, 2 * hidden + 4, optimizer)
    # Without the bias of the output, which is of order one under ip-bias.
    output = {"ip-bias": -HALF}.get(name, regime.initial_output)
    assert steps[0][0] == [*regime.initial_activations, output]
    assert steps[0][1] == [NONE] * (hidden + 1)
    if regime.name != "unstable":
        assert steps[-1][1] == [*regime.activation_updates, regime.output_update]
    for before, after in itertools.pairwise(steps):
        assert all(one <= other for one, other in zip(before[1], after[1], strict=True))
