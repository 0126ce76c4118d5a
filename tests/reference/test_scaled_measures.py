"""Ranks of known matrices and diversity of known layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from wideangle.reference.scaled_measures import diversity_of_units, ranks_of_update  # noqa: E402

EPSILON = float(np.finfo(np.float32).eps)


def matrix(singular: list[float], rows: int = 60, columns: int = 40) -> Any:
    """A matrix with these singular values."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.standard_normal((size, len(singular))))[0] for size in (rows, columns))
    return torch.tensor((left * singular) @ right.T, dtype=torch.float32)


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_ranks_of_matrices_with_known_singular_values(scale: float) -> None:
    singular = [3.0, 2.0, 1.0, 1e-3]
    squares = np.square(singular)
    rank, participation, ratio = ranks_of_update(scale * matrix(singular), 0.0, 1)
    assert rank == 4
    assert participation == pytest.approx(squares.sum() ** 2 / np.sum(squares**2), rel=1e-5)
    assert ratio == pytest.approx(np.linalg.norm(singular) / 3.0, rel=1e-6)


def test_equal_singular_values_and_rank_one() -> None:
    for count in (1, 7):
        found = ranks_of_update(matrix([2.0] * count), 0.0, 1)
        np.testing.assert_allclose(found, (count, count, math.sqrt(count)), rtol=1e-5)


def test_threshold_is_that_of_numpy_where_nothing_was_rounded() -> None:
    threshold = 60 * EPSILON * 3.0
    singular = [3.0, 2.0, 5.0 * threshold, 0.2 * threshold]
    assert ranks_of_update(matrix(singular), 0.0, 1)[0] == 3
    assert np.linalg.matrix_rank(matrix(singular).numpy()) == 3


@pytest.mark.parametrize("steps", [1, 100])
def test_roundings_of_large_weights_have_no_rank(steps: int) -> None:
    rng = np.random.default_rng(1)
    start = torch.tensor(rng.standard_normal((200, 200)), dtype=torch.float32)
    lengths = rng.standard_normal(steps)
    for size, expected in ((1e-7, 0), (1e-2, 2)):
        weight = start.clone()
        for length in lengths / np.abs(lengths).max():
            weight += float(size * length) * matrix([1.0, 0.9], 200, 200)
        assert ranks_of_update(weight - start, 1.0, steps)[0] == expected
        # Without the roundings' share of the threshold they would count.
        assert ranks_of_update(weight - start, 0.0, steps)[0] > 5


def test_no_update_and_only_roundings() -> None:
    assert ranks_of_update(torch.zeros(5, 4), 1.0, 3)[0] == 0
    for update in (torch.zeros(5, 4), torch.full((5, 4), 1e-12)):
        rank, participation, ratio = ranks_of_update(update, 1.0, 3)
        assert rank == 0
        assert math.isnan(participation)
        assert math.isnan(ratio)


def test_updates_that_are_not_finite() -> None:
    for wrong in (math.inf, -math.inf, math.nan):
        update = torch.ones(3, 3)
        update[1, 2] = wrong
        assert all(math.isnan(value) for value in ranks_of_update(update, 1.0, 1))


def layer(functions: Any, constants: Any = 0.0) -> Any:
    return torch.tensor(functions + constants, dtype=torch.float32)


def test_diversity_of_one_function_and_of_unrelated_ones() -> None:
    rng = np.random.default_rng(2)
    one = rng.standard_normal((50, 1))
    same = np.repeat(one, 400, axis=1)
    # A constant for each unit makes no difference, and neither does a common factor.
    for constants in (0.0, rng.standard_normal(400)):
        diversity, dimension = diversity_of_units(layer(1e3 * same, constants))
        assert diversity < 1e-3
        assert dimension == pytest.approx(1.0, abs=1e-4)
    unrelated = rng.standard_normal((50, 400))
    diversity, dimension = diversity_of_units(layer(unrelated))
    assert diversity == pytest.approx(1.0, abs=0.01)
    # Of 49 equal eigenvalues, up to the noise of 400 units: (tr C)^2 / tr C^2 = 49 / (1 + 49/400).
    assert dimension == pytest.approx(49.0 / (1.0 + 49.0 / 400.0), rel=0.03)


def test_diversity_of_multiples_of_one_function() -> None:
    rng = np.random.default_rng(3)
    amplitudes = rng.standard_normal(1000) + 2.0
    diversity, dimension = diversity_of_units(layer(rng.standard_normal((40, 1)) * amplitudes))
    assert diversity == pytest.approx(amplitudes.std() / np.sqrt(np.mean(amplitudes**2)), rel=1e-4)
    assert dimension == pytest.approx(1.0, abs=1e-5)


def test_dimension_of_two_independent_functions() -> None:
    t = np.linspace(0.0, 2.0 * np.pi, 64, endpoint=False)
    values = np.stack([np.sin(t)] * 3 + [np.cos(t)] * 3, axis=1)
    assert diversity_of_units(layer(values))[1] == pytest.approx(2.0, rel=1e-5)


def test_layers_that_do_not_depend_on_the_input() -> None:
    rng = np.random.default_rng(4)
    constants = rng.standard_normal(30)
    noise = 1e-8 * rng.standard_normal((20, 30))
    for values in (np.zeros((20, 30)), np.zeros((20, 30)) + constants, noise + constants):
        assert all(math.isnan(value) for value in diversity_of_units(layer(values)))
    tiny = 1e-30 * rng.standard_normal((20, 30))
    assert diversity_of_units(layer(tiny))[0] == pytest.approx(1.0, abs=0.1)
