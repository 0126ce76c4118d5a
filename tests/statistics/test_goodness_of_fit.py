"""The Kolmogorov-Smirnov test against SciPy's with an analytic distribution, and by its error rates."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from wideangle.statistics import ks_against_density

GRID = np.linspace(-9.0, 9.0, 1201)
NORMAL = stats.norm.pdf(GRID)


@pytest.mark.parametrize("n", [1, 2, 10, 1000, 100_000])
def test_equals_the_test_with_the_analytic_distribution(n: int) -> None:
    samples = np.random.default_rng(n).normal(0.02, 1.0, size=n)
    ours = ks_against_density(samples, GRID, NORMAL)
    theirs = stats.kstest(samples, stats.norm.cdf, method="exact" if n < 10_000 else "auto")
    # Third order in the spacing of 0.015, times the largest second derivative of the density over 12.
    assert ours.statistic == pytest.approx(theirs.statistic, abs=3e-7)
    # dp/dD is at most about 1.7 sqrt(n), so that the error of the statistic enters p by this much.
    assert ours.p_value == pytest.approx(theirs.pvalue, abs=1.7 * np.sqrt(n) * 3e-7 + 1e-9)
    assert ours.n_samples == n


def test_uneven_grid_and_skewed_density() -> None:
    grid = np.geomspace(1e-6, 60.0, 4000)
    samples = np.random.default_rng(3).gamma(3.0, size=5000)
    ours = ks_against_density(samples, grid, stats.gamma(3.0).pdf(grid))
    assert ours.statistic == pytest.approx(stats.kstest(samples, stats.gamma(3.0).cdf).statistic, abs=1e-6)


def test_tails_that_underflow_do_no_harm() -> None:
    grid = np.linspace(-45.0, 45.0, 9001)
    samples = np.random.default_rng(4).standard_normal(100)
    ours = ks_against_density(samples, grid, stats.norm.pdf(grid))
    assert ours.statistic == pytest.approx(stats.kstest(samples, stats.norm.cdf).statistic, abs=1e-6)


def test_false_alarms_come_at_the_stated_rate() -> None:
    # 2,000 tests of true hypotheses: p is uniform, so the counts below a level are binomial.
    generator = np.random.default_rng(17)
    p = np.array([ks_against_density(generator.standard_normal(50), GRID, NORMAL).p_value for _ in range(2000)])
    for level in (0.01, 0.05, 0.5):
        sigma = np.sqrt(level * (1 - level) / 2000)
        assert abs(np.mean(p < level) - level) < 5 * sigma


def test_power_grows_as_it_should() -> None:
    # A shift by 0.2 displaces the distribution function by 0.2 * 0.399 = 0.08: far above 1.36 / sqrt(2000) = 0.030, so
    # nearly always seen; at n = 20 the threshold is 0.29 and it is nearly never seen.
    generator = np.random.default_rng(23)

    def rejected(n: int) -> float:
        draws = (generator.normal(0.2, 1.0, size=n) for _ in range(200))
        return float(np.mean([ks_against_density(draw, GRID, NORMAL).p_value < 0.05 for draw in draws]))

    assert rejected(2000) > 0.99
    assert rejected(20) < 0.4


def test_both_one_sided_distances_count() -> None:
    # Everything below the grid: F = 0 at every sample, D+ = 1. Everything above: D- = 1.
    for shift in (-20.0, 20.0):
        assert ks_against_density(np.full(5, shift), GRID, NORMAL).statistic == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    ("samples", "grid", "density", "message"),
    [
        ([np.nan], GRID, NORMAL, "samples must be finite"),
        ([], GRID, NORMAL, "samples must be a vector of at least 1"),
        ([0.0], GRID[::-1], NORMAL, "grid must increase strictly"),
        ([0.0], GRID, NORMAL[:-1], "density must have the shape of grid"),
        ([0.0], GRID, -NORMAL, "density must not be negative"),
        ([0.0], GRID, 2.0 * NORMAL, r"density must integrate to 1, got 2"),
        ([0.0], GRID[:600], NORMAL[:600], r"density must integrate to 1, got 0\.49"),
    ],
)
def test_bad_arguments_are_named(samples: object, grid: object, density: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ks_against_density(samples, grid, density)  # type: ignore[arg-type]
