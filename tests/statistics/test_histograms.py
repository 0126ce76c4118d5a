"""Histograms against the definition, and against the kernel of simulated angles."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import wideangle as wa
from wideangle.statistics import Histogram

NET = wa.MLP(widths=(3, 5, 4))
RANGES = [(-7.0, 0.0, 30), (-math.pi, -0.1, 7), (-1 / 3, 0.7, 1), (-2.0, -1.0, 1000), (5.0, 6.0, 3), (-1e6, 1e-3, 12)]


def kernel_counts(bins: tuple[float, float, int], **options: Any) -> tuple[Any, Any, Any]:
    found = wa.propagation.simulate_angles(NET, 1.0, seed=5, n_threads=1, histogram=bins, **options)
    return found["histogram"].values, found["underflow"].values, found["overflow"].values


def log_sin2(n_samples: int) -> Any:
    """Samples (sample, layer); those of pairs that have collapsed or died are not finite and not binned."""
    return wa.propagation.simulate_angles(NET, 1.0, n_samples=n_samples, seed=5, keep="samples")["log_sin2"].values


def assert_equal(histogram: Histogram, counts: Any, underflow: Any, overflow: Any) -> None:
    np.testing.assert_array_equal(histogram.counts, counts)
    np.testing.assert_array_equal(histogram.underflow, underflow)
    np.testing.assert_array_equal(histogram.overflow, overflow)


@pytest.mark.parametrize("bins", RANGES)
def test_bins_are_those_of_the_kernel(bins: tuple[float, float, int]) -> None:
    x = log_sin2(5000)
    assert_equal(Histogram.from_samples(x, *bins, where=np.isfinite(x)), *kernel_counts(bins, n_samples=5000))


def test_every_sample_at_an_edge_falls_where_the_kernel_puts_it() -> None:
    # The edges themselves are samples: the lower or the upper end of the range, or an inner edge up to rounding.
    x = log_sin2(40)
    where = np.isfinite(x)
    for k in range(40):
        value = float(x[k, 1])
        if not math.isfinite(value):
            continue
        ranges = [(value, value + 0.7, 9), (value - 0.7, value, 9), (value - 0.3, value + 0.4, 7)]
        ranges += [(math.nextafter(value, 0.0), 1.0, 3), (-99.0, math.nextafter(value, 0.0), 3)]
        for bins in ranges:
            expected = kernel_counts(bins, n_samples=1, first_sample=k)
            assert_equal(Histogram.from_samples(x[k : k + 1], *bins, where=where[k : k + 1]), *expected)


def test_inner_edges_are_rounded_as_in_the_kernel() -> None:
    # Ranges with a sample at an inner edge, where rounding in another order would put it into another bin.
    rng = np.random.default_rng(6)
    x = log_sin2(20)
    where = np.isfinite(x)
    n_ranges = 0
    for k in np.flatnonzero(where[:, 1]).tolist():
        value = float(x[k, 1])
        for n_bins, part, width in zip(rng.integers(2, 50, 40), rng.random(40), rng.uniform(0.1, 9.0, 40), strict=True):
            low = value - width / n_bins * math.floor(part * n_bins)
            high = low + width
            place, other = (value - low) * (n_bins / (high - low)), (value - low) / ((high - low) / n_bins)
            if math.floor(place) != math.floor(other):
                n_ranges += 1
                bins = (low, high, int(n_bins))
                expected = kernel_counts(bins, n_samples=1, first_sample=k)
                assert_equal(Histogram.from_samples(x[k : k + 1], *bins, where=where[k : k + 1]), *expected)
    assert n_ranges > 10


@settings(deadline=None, max_examples=200)
@given(
    arrays(np.float64, st.integers(0, 20), elements=st.floats(allow_nan=False)),
    st.floats(-1e9, 1e9),
    st.floats(1e-3, 1e9),
    st.integers(1, 50),
    st.integers(0, 50),
)
def test_counts_follow_the_definition(x: Any, low: float, width: float, n_bins: int, edge: int) -> None:
    high = low + width
    assume(low < high and (high - low) / n_bins > 2 * np.spacing(max(abs(low), abs(high))))
    x = np.concatenate([x, [low, high, low + (high - low) * edge / n_bins, np.inf, -np.inf]])
    histogram = Histogram.from_samples(x, low, high, n_bins)
    assert histogram.count == len(x)
    assert histogram.underflow == sum(v < low for v in x.tolist())
    assert histogram.overflow == sum(v >= high for v in x.tolist())
    # The exact place in units of bins; three roundings move it by no more than this.
    for value in x[(x >= low) & (x < high)].tolist():
        place = (Fraction(value) - Fraction(low)) * n_bins / (Fraction(high) - Fraction(low))
        slack = Fraction(4 * n_bins * 2.0**-53)
        bins = {min(max(math.floor(place + s), 0), n_bins - 1) for s in (-slack, 0, slack)}
        (found,) = np.flatnonzero(Histogram.from_samples([value], low, high, n_bins).counts)
        assert found in bins


def test_edges_count_and_shape() -> None:
    histogram = Histogram.from_samples(np.zeros((5, 2, 3)), -1.0, 1.0, 4)
    np.testing.assert_array_equal(histogram.edges, [-1.0, -0.5, 0.0, 0.5, 1.0])
    assert histogram.shape == (2, 3)
    np.testing.assert_array_equal(histogram.count, np.full((2, 3), 5))
    np.testing.assert_array_equal(histogram.counts[..., 2], 5)
    assert Histogram.from_samples(np.zeros((0, 2)), 0, 1, 3).count.tolist() == [0, 0]


def test_bad_arguments_are_named() -> None:
    good = Histogram.from_samples([0.5], 0.0, 1.0, 2)
    for bins in ((0.0, 1.0, 3), (0.0, 2.0, 2), (-1.0, 1.0, 2)):
        with pytest.raises(ValueError, match=r"same bins to merge, got 2 bins on \[0.0, 1.0\) and"):
            good.merge(Histogram.from_samples([0.5], *bins))
    for low, high, n_bins, message in (
        (1.0, 1.0, 2, "high must exceed low, got low=1.0 and high=1.0"),
        (2.0, 1.0, 2, "high must exceed low"),
        (np.nan, 1.0, 2, "low must be finite, got nan"),
        (0.0, np.inf, 2, "high must be finite, got inf"),
        (-1.7e308, 1.7e308, 2, "high - low must lie between 1e-300 and 1e308, got inf"),
        (0.0, 5e-324, 2, "high - low must lie between"),
        (1.0, 1.0 + 1e-15, 10, "too close for 10 bins"),
        (0.0, 1.0, 0, "n_bins must lie between 1"),
    ):
        with pytest.raises(ValueError, match=message):
            Histogram.from_samples([0.5], low, high, n_bins)
    with pytest.raises(TypeError, match=r"n_bins must be an integer, got 2\.5"):
        Histogram.from_samples([0.5], 0.0, 1.0, 2.5)  # type: ignore[arg-type]
    none: Any = np.array(0)
    with pytest.raises(ValueError, match=r"underflow must have the shape of counts without bins, \(\), got \(1,\)"):
        Histogram(0.0, 1.0, np.array([1, 2]), np.array([0]), none)
    with pytest.raises(ValueError, match="counts must have at least one axis"):
        Histogram(0.0, 1.0, none, none, none)
    with pytest.raises(ValueError, match="counts must hold at least one bin"):
        Histogram(0.0, 1.0, np.zeros(0, dtype=np.int64), none, none)
    with pytest.raises(TypeError, match="overflow must hold integers, got dtype float64"):
        Histogram(0.0, 1.0, np.array([1]), none, np.array(0.0))
