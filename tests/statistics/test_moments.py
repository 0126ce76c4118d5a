"""Moments against direct sums, exact rational arithmetic and repeated sampling."""

from __future__ import annotations

from fractions import Fraction
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from wideangle.statistics import Moments

SUMS = ("mean", "m2", "m3", "m4")
samples_of_any_length = arrays(
    np.float64, st.integers(0, 30), elements=st.floats(-1e3, 1e3, allow_subnormal=False, width=32)
)


def assert_close(actual: Moments, expected: Moments, *, scale: float) -> None:
    """Compare within rounding: the error of a power sum is bounded by count * scale**power * machine precision."""
    np.testing.assert_array_equal(actual.count, expected.count)
    for power, name in enumerate(SUMS, start=1):
        n = np.maximum(expected.count, 1)
        bound = 64 * np.finfo(float).eps * np.max(n) * max(scale, 1e-300) ** power
        np.testing.assert_allclose(getattr(actual, name), getattr(expected, name), rtol=0, atol=bound, err_msg=name)


@settings(deadline=None)
@given(samples_of_any_length, samples_of_any_length, samples_of_any_length)
def test_merge_is_associative_and_commutative_and_equals_the_union(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> None:
    union = np.concatenate([x, y, z])
    scale = 2 * float(np.max(np.abs(union), initial=0.0))
    a, b, c = (Moments.from_samples(part) for part in (x, y, z))
    whole = Moments.from_samples(union)
    assert_close(a.merge(b).merge(c), whole, scale=scale)
    assert_close(a.merge(b.merge(c)), whole, scale=scale)
    assert_close(c.merge(b).merge(a), whole, scale=scale)


def exact_sums(samples: np.ndarray) -> tuple[float, ...]:
    values = [Fraction(float(value)) for value in samples]
    mean = sum(values, Fraction(0)) / len(values)
    return tuple(float(s) for s in (mean, *(sum((v - mean) ** p for v in values) for p in (2, 3, 4))))


@pytest.mark.parametrize("n_parts", [1, 2, 37])
def test_badly_conditioned_samples_keep_their_digits(n_parts: int) -> None:
    # Mean 1e9 and standard deviation 1: a raw fourth moment would have no correct digit. The only loss allowed is the
    # rounding of each part's mean to its last place, 1e-7, which enters the merge through differences of the means.
    samples = 1e9 + np.random.default_rng(11).gamma(2.0, size=2000)
    parts = [Moments.from_samples(part) for part in np.array_split(samples, n_parts)]
    merged = reduce(Moments.merge, parts)
    mean, m2, m3, m4 = exact_sums(samples)
    assert abs(float(merged.mean) - mean) <= n_parts * np.spacing(1e9)
    tolerance = 1e-13 if n_parts == 1 else 1e-6
    np.testing.assert_allclose([merged.m2, merged.m3, merged.m4], [m2, m3, m4], rtol=tolerance)


def test_standard_errors_are_the_spread_of_repeated_estimates() -> None:
    # 20,000 repetitions of 200 exponential samples (kurtosis 9, so that the fourth moment matters). The scatter of the
    # estimates is known to 1/sqrt(2 * 20000) = 0.5 % for the mean, to about 2 % for the variance, whose own
    # distribution is skewed; the mean of the estimated error is low by terms of order kurtosis / n, hence squares.
    repeated = Moments.from_samples(np.random.default_rng(5).exponential(size=(200, 20_000)))
    spread = np.var(repeated.mean, ddof=1)
    assert np.mean(repeated.standard_error_mean**2) == pytest.approx(spread, rel=0.05)
    exact = (9.0 - (200 - 3) / (200 - 1)) / 200  # mu_4 = 9 and sigma = 1
    assert np.var(repeated.variance, ddof=1) == pytest.approx(exact, rel=0.06)
    assert np.mean(repeated.standard_error_variance**2) == pytest.approx(exact, rel=0.10)
    assert np.mean(repeated.variance) == pytest.approx(1.0, abs=5 * np.sqrt(exact / 20_000))


def test_too_few_samples_give_nan_without_warnings() -> None:
    where = np.array([[False, True, True], [False, False, True]])
    moments = Moments.from_samples([[1.0, 2.0, 3.0], [np.nan, np.inf, 7.0]], where=where)
    np.testing.assert_array_equal(moments.count, [0, 1, 2])
    np.testing.assert_array_equal(moments.mean, [np.nan, 2.0, 5.0])
    np.testing.assert_array_equal(moments.variance, [np.nan, np.nan, 8.0])
    np.testing.assert_array_equal(moments.standard_error_mean, [np.nan, np.nan, 2.0])
    assert np.isnan(moments.standard_error_variance[:2]).all()
    assert moments.standard_error_variance[2] == pytest.approx(np.sqrt((16 + 16) / 2))


def test_an_empty_set_is_neutral_even_with_a_stray_mean() -> None:
    empty = Moments(count=np.array([0]), mean=np.array([123.0]), m2=np.ones(1), m3=np.ones(1), m4=np.ones(1))
    some = Moments.from_samples([[1.0], [2.0], [5.0]])
    assert np.isnan(empty.mean[0])
    for merged in (empty.merge(some), some.merge(empty)):
        for name in ("count", *SUMS):
            np.testing.assert_array_equal(getattr(merged, name), getattr(some, name))
    assert empty.merge(empty).count[0] == 0


def test_unsigned_counts_of_any_size_merge() -> None:
    n = np.array([10**15], dtype=np.uint64)
    one = Moments(count=n, mean=np.array([0.0]), m2=n * 1.0, m3=np.zeros(1), m4=n * 3.0)  # type: ignore[arg-type]
    two = Moments(count=n, mean=np.array([1.0]), m2=n * 1.0, m3=np.zeros(1), m4=n * 3.0)  # type: ignore[arg-type]
    merged = one.merge(two)
    assert merged.count.dtype == np.int64
    # A mixture of N(0, 1) and N(1, 1): central moments 1 + 1/4, 0, and 3 + 6/4 + 1/16.
    np.testing.assert_allclose(merged.m2 / merged.count, 1.25)
    np.testing.assert_allclose(merged.m3 / merged.count, 0.0, atol=1e-15)
    np.testing.assert_allclose(merged.m4 / merged.count, 4.5625)


def test_bad_arguments_are_named() -> None:
    good = Moments.from_samples(np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"shapes to merge, got \(2,\) and \(3,\)"):
        good.merge(Moments.from_samples(np.zeros((3, 3))))
    with pytest.raises(ValueError, match="samples must be finite"):
        Moments.from_samples([1.0, np.nan])
    with pytest.raises(ValueError, match="samples must have at least one axis"):
        Moments.from_samples(1.0)
    with pytest.raises(ValueError, match="count must be non-negative, got -1"):
        Moments(count=np.array([-1]), mean=np.zeros(1), m2=np.zeros(1), m3=np.zeros(1), m4=np.zeros(1))
    with pytest.raises(TypeError, match="count must hold integers"):
        Moments(count=np.zeros(1), mean=np.zeros(1), m2=np.zeros(1), m3=np.zeros(1), m4=np.zeros(1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="m3 must have the shape of count"):
        Moments(count=np.array([1]), mean=np.zeros(1), m2=np.zeros(1), m3=np.zeros(2), m4=np.zeros(1))


def test_skewness_and_kurtosis_are_the_moment_estimators() -> None:
    samples = np.random.default_rng(7).gamma(2.0, size=(500, 3)) * [1.0, 1e-60, -1e40]
    moments = Moments.from_samples(samples)
    # Rounding: about count * precision * (1 + mean / deviation)**4, less than this.
    np.testing.assert_allclose(moments.skewness, stats.skew(samples, axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.excess_kurtosis, stats.kurtosis(samples, axis=0), rtol=1e-12)
    # Two values, as often: skewness 0, and the least kurtosis there is.
    coin = Moments.from_samples([-1.0, 1.0])
    assert float(coin.skewness) == 0.0
    assert float(coin.excess_kurtosis) == -2.0


def test_skewness_and_kurtosis_are_undefined_without_spread() -> None:
    one, none = Moments.from_samples([[0.1]]), Moments.from_samples(np.empty((0, 1)))
    # The means of equal samples differ in their last digit, by the order of summation.
    constant = Moments.from_samples(np.full((7, 1), 0.1)).merge(Moments.from_samples(np.full((3, 1), 0.1)))
    stray = constant.merge(Moments.from_samples(np.nextafter(np.full((2, 1), 0.1), 1.0)))
    underflowing = Moments.from_samples(np.array([[1.0], [2.0], [4.0]]) * 1e-80)
    for moments in (one, none, constant, stray, underflowing):
        assert np.isnan(moments.skewness).all()
        assert np.isnan(moments.excess_kurtosis).all()
