"""The quantile sketch against sorted samples: its error never exceeds the stated bound, not by rounding either."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from wideangle.statistics import QuantileSketch
from wideangle.statistics import quantiles as module

NORMAL_MIN = 2.0**-1022
TINY = 5e-324
ERRORS = [0.5, 0.02, 1e-3, 1e-6]
LEVELS = np.concatenate([np.linspace(0.0, 1.0, 101), [1e-300, 1e-9, 1 - 1e-9, np.nextafter(0.5, 1.0)]])


def assert_within_bound(sketch: QuantileSketch, samples: NDArray[np.float64], levels: Any) -> None:
    """Compare with the order statistics, with no allowance: differences of such close numbers are exact."""
    exact = np.asarray(np.quantile(samples, levels, axis=0, method="inverted_cdf"))
    found = sketch.quantile(levels)
    assert found.shape == exact.shape
    finite = np.isfinite(exact)
    np.testing.assert_array_equal(found[~finite], exact[~finite])
    np.testing.assert_array_equal(found[exact == 0.0], 0.0)
    error = np.abs(found[finite] - exact[finite])
    assert np.all(error <= sketch.error_bound * np.maximum(np.abs(exact[finite]), NORMAL_MIN))


def adversaries() -> dict[str, NDArray[np.float64]]:
    rng = np.random.default_rng(8)
    n = 3000
    magnitude = 10.0 ** rng.uniform(-300, 300, n)
    edges = np.array([2.0**e * (1 + m / 512) for e in (-1022, -1, 0, 1, 700) for m in range(512)])
    signs = rng.choice([-1.0, 1.0], n)
    special = np.array([0.0, -0.0, np.inf, -np.inf, TINY, -TINY, NORMAL_MIN, np.finfo(float).max, np.finfo(float).min])
    return {
        "range of 600 decades": magnitude,
        "both signs": magnitude * signs,
        "sorted": np.sort(magnitude * signs),
        "reversed": np.sort(magnitude * signs)[::-1],
        "ties": rng.integers(-3, 4, n) * 0.1,
        "two far clusters": np.where(signs > 0, 1e-12, 1e12) * (1 + 1e-5 * rng.standard_normal(n)),
        "a cluster far from zero": 1e9 + rng.standard_normal(n),
        "constant": np.full(n, math.pi),
        "zeros": np.zeros(n),
        "subnormal": rng.integers(-(2**40), 2**40, n) * TINY,
        "around the least normal": NORMAL_MIN * rng.uniform(0.0, 4.0, n),
        "infinities": np.where(rng.random(n) < 0.3, np.inf * signs, rng.standard_normal(n)),
        "only infinite": np.array([np.inf, -np.inf, np.inf]),
        "edges": edges,
        "below edges": np.nextafter(edges, -np.inf),
        "above edges": np.nextafter(-edges, -np.inf),
        "special": special,
        "heavy tail": rng.standard_cauchy(n) ** 5,
        "one": np.array([-0.3]),
        "two": np.array([1e-200, -1e200]),
        "largest": np.full(2, np.finfo(float).max),
    }


@pytest.mark.parametrize("relative_error", ERRORS)
@pytest.mark.parametrize("name", adversaries())
def test_error_on_adversarial_samples(name: str, relative_error: float) -> None:
    samples = adversaries()[name]
    sketch = QuantileSketch.from_samples(samples, relative_error=relative_error)
    ranks = np.arange(len(samples) + 1) / len(samples)
    assert_within_bound(sketch, samples, np.concatenate([LEVELS, ranks]))
    assert sketch.count == len(samples)


@settings(deadline=None, max_examples=200)
@given(
    arrays(np.float64, st.tuples(st.integers(1, 30), st.integers(1, 3)), elements=st.floats(allow_nan=False)),
    st.sampled_from(ERRORS),
    arrays(np.float64, st.integers(0, 5), elements=st.floats(0.0, 1.0)),
)
def test_error_on_any_samples(samples: Any, relative_error: float, levels: Any) -> None:
    sketch = QuantileSketch.from_samples(samples, relative_error=relative_error)
    assert_within_bound(sketch, samples, levels)
    np.testing.assert_array_equal(sketch.count, len(samples))


@settings(deadline=None, max_examples=200)
@given(st.floats(1e-6, 0.5))
def test_precision_is_the_smallest_that_keeps_the_error(relative_error: float) -> None:
    bound = QuantileSketch.from_samples([1.0], relative_error=relative_error).error_bound
    assert bound <= relative_error < 2.0 * bound or bound == relative_error == 0.5


def test_the_bound_is_attained_and_buckets_are_as_many_as_stated() -> None:
    octave = np.linspace(1.0, 2.0, 4096, endpoint=False)
    for relative_error in (0.5, 0.25, 0.01, 1e-3):
        sketch = QuantileSketch.from_samples(octave, relative_error=relative_error)
        assert len(sketch.key) == 2**sketch.precision
        assert sketch.quantile(0.0) - 1.0 == sketch.error_bound


@settings(deadline=None, max_examples=200)
@given(st.floats(allow_nan=False), st.floats(allow_nan=False), st.sampled_from(ERRORS))
def test_keys_keep_the_order_and_the_mirror_image(x: float, y: float, relative_error: float) -> None:
    precision = module._precision(relative_error)
    (low, high, mirrored) = module._keys(np.array([min(x, y), max(x, y), -max(x, y)]), precision)
    assert low <= high
    assert mirrored == -high
    assert (high == 0) == (max(x, y) == 0.0)
    if low == high:
        assert math.isfinite(x) == math.isfinite(y)


@pytest.mark.parametrize("cells_per_value", [0, 10**9])
@settings(deadline=None, max_examples=60)
@given(
    arrays(
        np.float64,
        st.tuples(st.integers(0, 20), st.integers(0, 4)),
        elements=st.one_of(st.floats(-1e3, -1e-3), st.floats(1e-3, 1e3), st.just(0.0)),
    )
)
def test_both_ways_of_counting_agree_with_a_dictionary(cells_per_value: int, samples: Any) -> None:
    expected: dict[tuple[int, int], int] = {}
    for row in module._keys(samples, 9).tolist():
        for element, key in enumerate(row):
            expected[element, key] = expected.get((element, key), 0) + 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CELLS_PER_VALUE", cells_per_value)
        sketch = QuantileSketch.from_samples(samples)
    found = zip(sketch.element.tolist(), sketch.key.tolist(), sketch.counts.tolist(), strict=True)
    assert [((e, k), n) for e, k, n in found] == sorted(expected.items())


def test_shapes_of_quantiles_and_elements_without_samples() -> None:
    x = np.random.default_rng(2).standard_normal((50, 2, 3))
    where = np.ones((2, 3), dtype=bool)
    where[1, 0] = False
    sketch = QuantileSketch.from_samples(x, where=where)
    assert sketch.quantile(0.5).shape == (2, 3)
    assert sketch.quantile(np.full((4, 1), 0.5)).shape == (4, 1, 2, 3)
    np.testing.assert_array_equal(np.isnan(sketch.quantile([0.0, 1.0])), np.broadcast_to(~where, (2, 2, 3)))
    assert np.isnan(QuantileSketch.from_samples(np.empty((0, 2))).quantile(0.5)).all()
    assert QuantileSketch.from_samples(np.empty((5, 0))).quantile([0.1, 0.2]).shape == (2, 0)


def test_memory_is_that_of_the_buckets_in_use() -> None:
    x = np.random.default_rng(5).uniform(1.0, 4.0, size=(100_000, 2))
    sketch = QuantileSketch.from_samples(x)
    assert len(sketch.key) == 2 * 2 * 512
    assert sum(values.nbytes for values in (sketch.element, sketch.key, sketch.counts)) == 24 * len(sketch.key)
    for _ in range(5):
        sketch = sketch.merge(sketch)
    assert len(sketch.key) == 2 * 2 * 512
    assert sketch.count.tolist() == [3_200_000, 3_200_000]


def test_counts_of_ten_to_the_fifteen_samples() -> None:
    half = QuantileSketch((), 9, np.array([0, 0]), np.array([-3, 10]), np.array([5 * 10**14, 5 * 10**14]))
    both = half.merge(half)
    assert both.count == 2 * 10**15
    low, high = both.quantile([0.5, np.nextafter(0.5, 1.0)])
    assert low < 0.0 < high


def test_bad_arguments_are_named() -> None:
    good = QuantileSketch.from_samples(np.ones((3, 2)))
    with pytest.raises(
        ValueError, match="equal precision to merge, got 9 and 6; make both with the same relative_error"
    ):
        good.merge(QuantileSketch.from_samples(np.ones((3, 2)), relative_error=0.01))
    for wrong in (0.6, 0.0, 1e-7):
        with pytest.raises(ValueError, match=r"relative_error must lie between 1e-6 and 0\.5, got"):
            QuantileSketch.from_samples([1.0], relative_error=wrong)
    with pytest.raises(TypeError, match="relative_error must be a real number, got '1%'"):
        QuantileSketch.from_samples([1.0], relative_error="1%")  # type: ignore[arg-type]
    for level in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match="p must lie between 0 and 1, got"):
            good.quantile(level)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": [9, 5]}, "buckets must be sorted by element and key"),
        ({"key": [5, 5]}, "buckets must be sorted by element and key"),
        ({"key": [5, 0x7FF * 512 + 2]}, "element or key out of range"),
        ({"element": [0, 1]}, "element or key out of range"),
        ({"element": [-1, 0]}, "element or key out of range"),
        ({"counts": [0, 1]}, "counts must be positive, got 0"),
        ({"counts": [-1, 1]}, "counts must be non-negative"),
        ({"counts": [1]}, "must be vectors of one length"),
        ({"counts": [[1, 1]]}, "must be vectors of one length"),
        ({"shape": (-1,)}, "shape must lie between 0"),
        ({"shape": (2**20, 2**20)}, r"shape must hold at most 2\*\*31 elements"),
        ({"precision": 20}, "precision must lie between 0 and 19"),
    ],
)
def test_damaged_buckets_are_refused(change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"shape": (), "precision": 9, "element": [0, 0], "key": [5, 9], "counts": [1, 1]}
    QuantileSketch(**good)
    with pytest.raises(ValueError, match=message):
        QuantileSketch(**{**good, **change})
    with pytest.raises(TypeError, match="key must hold integers, got dtype float64"):
        QuantileSketch(**{**good, "key": [5.0, 9.0]})
