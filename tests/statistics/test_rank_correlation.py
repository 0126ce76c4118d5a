"""Rank correlations against SciPy, and the coverage of their intervals."""

from __future__ import annotations

import importlib
import math
import time
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import stats

from wideangle.statistics.rank_correlation import percentile_interval, rank_correlation

# The package offers the function under the name of its module.
module = importlib.import_module("wideangle.statistics.rank_correlation")

SCIPY = {"spearman": stats.spearmanr, "kendall": stats.kendalltau}


def by_scipy(coefficient: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(SCIPY[coefficient](x, y)[0])


@pytest.mark.parametrize("coefficient", ["spearman", "kendall"])
@settings(deadline=None)
@given(data=st.data(), n_items=st.integers(2, 12))
def test_coefficients_agree_with_scipy_ties_and_all(coefficient: str, data: st.DataObject, n_items: int) -> None:
    some = st.integers(-3, 3).map(float)
    x = data.draw(hnp.arrays(float, (2, n_items), elements=some))
    y = data.draw(hnp.arrays(float, (n_items, 2), elements=some))
    found = rank_correlation(x, y, seed=1, coefficient=coefficient, n_bootstrap=1)
    for row, estimate in zip(x, found.estimate, strict=True):
        np.testing.assert_allclose(estimate, by_scipy(coefficient, row, y.mean(axis=1)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("coefficient", ["spearman", "kendall"])
def test_replicates_are_coefficients_of_the_resampled_items(coefficient: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, (2, 9)).astype(float), rng.integers(0, 4, (9, 3)).astype(float)
    drawn: list[Any] = []
    mean_outcomes = module._mean_outcomes

    def recording(outcomes: Any, items: Any, rng: Any) -> Any:
        drawn.append((items, mean_outcomes(outcomes, items, rng)))
        return drawn[-1][1]

    monkeypatch.setattr(module, "_mean_outcomes", recording)
    monkeypatch.setattr(module, "_PAIRS_AT_ONCE", 700)
    found = rank_correlation(x, y, seed=1, coefficient=coefficient, n_bootstrap=20)
    assert [len(means) for _, means in drawn] == [8, 8, 4]
    items = np.concatenate([some for some, _ in drawn])
    means = np.concatenate([some for _, some in drawn])
    for replicate in range(20):
        for predictor in range(2):
            expected = by_scipy(coefficient, x[predictor, items[replicate]], means[replicate])
            np.testing.assert_allclose(found.replicates[predictor, replicate], expected, atol=1e-12)


def test_resampling_draws_items_and_the_valid_repetitions_within_them() -> None:
    outcomes = np.array([[0.0, 1.0, np.nan], [10.0, 10.0, 10.0], [20.0, np.nan, np.nan], [30.0, 32.0, 34.0]])
    n_samples = 20_000
    rng = np.random.default_rng(0)
    (drawn,) = module._draw_items(4, n_samples, rng)
    means = module._mean_outcomes(outcomes, drawn, rng)
    share = np.bincount(drawn.ravel(), minlength=4) / drawn.size
    np.testing.assert_allclose(share, 0.25, atol=5.0 * math.sqrt(0.25 * 0.75 / drawn.size))
    assert set(means[drawn == 0]) == {0.0, 0.5, 1.0}
    assert set(means[drawn == 1]) == {10.0}
    assert set(means[drawn == 2]) == {20.0}
    # The mean of three draws from three values has a third of their variance, 8/3.
    of_three = means[drawn == 3]
    assert abs(of_three.mean() - 32.0) <= 5.0 * math.sqrt(8.0 / 9.0 / of_three.size)
    assert abs(of_three.var() - 8.0 / 9.0) <= 5.0 * (8.0 / 9.0) * math.sqrt(2.0 / of_three.size)


def test_missing_and_infinite_values() -> None:
    x = np.array([[-np.inf, -3.0, -2.0, np.nan, -1.0], [5.0, 4.0, 3.0, 9.0, 2.0]])
    y = np.array([[0.1, np.nan], [0.2, 0.2], [0.3, 0.5], [0.0, 0.0], [np.nan, np.nan]])
    for coefficient in ("spearman", "kendall"):
        found = rank_correlation(x, y, seed=1, coefficient=coefficient, n_bootstrap=50)
        assert found.n_items == 3
        np.testing.assert_allclose(found.estimate, [1.0, -1.0])
        # Samples with one item three times cannot be ranked.
        lost = np.isnan(found.replicates)
        assert (lost[0] == lost[1]).all()
        assert 0 < lost[0].sum() < 25


@pytest.mark.parametrize("n_items", [0, 1])
def test_too_few_items_give_nan(n_items: int) -> None:
    found = rank_correlation(np.ones((2, n_items)), np.ones((n_items, 3)), seed=1)
    assert np.isnan(found.estimate).all()
    low, high = percentile_interval(found.replicates)
    assert np.isnan([low, high]).all()
    assert low.shape == (2,)


def test_seed_fixes_the_replicates() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1, 20)), rng.normal(size=(20, 2))
    one, again, other = (rank_correlation(x, y, seed=seed, n_bootstrap=100).replicates for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_a_predictor_differs_from_itself_by_nothing() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=20)
    found = rank_correlation([x, np.exp(x)], rng.normal(size=(20, 2)), seed=1, coefficient="kendall")
    np.testing.assert_array_equal(found.replicates[0], found.replicates[1])


@pytest.mark.slow
@pytest.mark.parametrize("coefficient", ["spearman", "kendall"])
def test_intervals_of_95_percent_cover_about_95_percent(coefficient: str) -> None:
    rng = np.random.default_rng(0)

    def sample(n_items: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        x = rng.normal(size=n_items)
        return x[None], (x + 0.5 * rng.normal(size=n_items))[:, None] + 0.2 * rng.normal(size=(n_items, 3))

    x, y = sample(100_000)
    truth = by_scipy(coefficient, x[0], y.mean(axis=1))
    n_trials = 500
    covered = 0
    for trial in range(n_trials):
        found = rank_correlation(*sample(45), seed=trial, coefficient=coefficient, n_bootstrap=500)
        (low,), (high,) = percentile_interval(found.replicates)
        covered += low <= truth <= high
    # Percentile intervals of 45 items are off by up to 2% in themselves; five standard errors of a share come on top.
    assert abs(covered / n_trials - 0.95) <= 0.02 + 5.0 * math.sqrt(0.95 * 0.05 / n_trials)


@pytest.mark.parametrize("coefficient", ["spearman", "kendall"])
def test_two_thousand_samples_of_45_items_take_less_than_a_second(coefficient: str) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 45)), rng.normal(size=(45, 10))
    start = time.process_time()
    rank_correlation(x, y, seed=1, coefficient=coefficient)
    # 0.06 s on a 2.6 GHz core.
    assert time.process_time() - start < 1.0


def test_interval_holds_the_middle_share_and_leaves_nan_out() -> None:
    values = np.array([np.arange(101.0), np.arange(101.0) + 100.0, np.full(101, np.nan)])
    values[1, 100] = np.nan
    low, high = percentile_interval(values, level=0.5)
    np.testing.assert_allclose(low, [25.0, 124.75, np.nan])
    np.testing.assert_allclose(high, [75.0, 174.25, np.nan])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"predictors": [1.0, 2.0]}, "predictors and outcomes must have shapes"),
        ({"outcomes": [[1.0], [2.0], [3.0]]}, "predictors and outcomes must have shapes"),
        ({"outcomes": np.empty((2, 0))}, "predictors and outcomes must have shapes"),
        ({"coefficient": "pearson"}, "coefficient must be one of 'spearman', 'kendall', got 'pearson'"),
        ({"n_bootstrap": 0}, "n_bootstrap"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"predictors": [[1.0, 2.0]], "outcomes": [[1.0], [2.0]], "seed": 1}
    with pytest.raises(ValueError, match=message):
        rank_correlation(**{**good, **arguments})


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0, 95.0, math.nan])
def test_bad_level_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match="level"):
        percentile_interval([1.0, 2.0], level=level)


def test_groups_are_drawn_together() -> None:
    """Copies of an item tell nothing new: in groups they leave the scatter of the items, each by itself far less."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(1, 40))
    y = 0.5 * x[0] + rng.normal(size=40)
    copied_x, copied_y, labels = np.repeat(x, 9, axis=1), np.repeat(y, 9)[:, None], np.repeat(np.arange(40), 9)
    once = rank_correlation(x, y[:, None], seed=1)
    together = rank_correlation(copied_x, copied_y, seed=2, groups=labels)
    apart = rank_correlation(copied_x, copied_y, seed=3)
    np.testing.assert_allclose(together.estimate, once.estimate, rtol=1e-12)
    spread, expected = together.replicates.std(), once.replicates.std()
    # Of standard deviations from 2,000 replicates each, which are nearly normal.
    assert abs(spread / expected - 1.0) < 5.0 * math.sqrt(2.0 / (2.0 * 2000))
    assert apart.replicates.std() < 0.5 * expected


def test_a_single_group_has_no_replicates() -> None:
    found = rank_correlation([[1.0, 2.0, 3.0]], [[1.0], [3.0], [2.0]], seed=1, groups=["a", "a", "a"])
    assert found.estimate[0] == pytest.approx(0.5)
    assert np.isnan(found.replicates).all()


def test_groups_need_a_label_for_each_item() -> None:
    with pytest.raises(ValueError, match="groups must hold one label for each of 3 items"):
        rank_correlation([[1.0, 2.0, 3.0]], [[1.0], [3.0], [2.0]], seed=1, groups=[1, 2])
