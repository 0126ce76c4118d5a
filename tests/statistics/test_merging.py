"""The laws of merging, and storage as arrays, for all accumulators alike."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from wideangle.statistics import Histogram, Moments, QuantileSketch, Total
from wideangle.statistics import _samples as samples_module

KINDS: dict[str, Callable[[NDArray[np.float64]], Any]] = {
    "moments": lambda x: Moments.from_samples(x, where=np.isfinite(x)),
    "histogram": lambda x: Histogram.from_samples(x, -3.0, 7.0, 9),
    "quantiles": lambda x: QuantileSketch.from_samples(x, relative_error=0.01),
    "total": lambda x: Total(np.count_nonzero(x > 0.0, axis=0)),
}
EXACT = [kind for kind in KINDS if kind != "moments"]
anything = st.one_of(st.floats(allow_nan=False), st.floats(-10.0, 10.0), st.sampled_from([0.0, -0.0, 1.0, -3.0, 7.0]))
parts = st.integers(0, 12).flatmap(lambda n: arrays(np.float64, (n, 2), elements=anything))
fast = settings(deadline=None, max_examples=60)


def assert_same(actual: Any, expected: Any) -> None:
    """Compare bit for bit."""
    ours, theirs = actual.to_arrays(), expected.to_arrays()
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        assert values.dtype == theirs[name].dtype
        assert values.shape == theirs[name].shape
        assert values.tobytes() == theirs[name].tobytes(), name


@pytest.mark.parametrize("kind", EXACT)
@fast
@given(parts, parts, parts)
def test_counts_obey_the_laws_of_merging_exactly(kind: str, x: Any, y: Any, z: Any) -> None:
    make = KINDS[kind]
    a, b, c = make(x), make(y), make(z)
    whole = make(np.concatenate([x, y, z]))
    nothing = make(np.empty((0, 2)))
    assert_same(a.merge(b), b.merge(a))
    assert_same(a.merge(b).merge(c), whole)
    assert_same(a.merge(b.merge(c)), whole)
    assert_same(nothing.merge(a), a)
    assert_same(a.merge(nothing), a)


@fast
@given(arrays(np.float64, st.tuples(st.integers(0, 12), st.just(2)), elements=st.floats(-1e30, 1e30)))
def test_moments_of_no_samples_are_neutral(x: Any) -> None:
    some, nothing = KINDS["moments"](x), KINDS["moments"](np.empty((0, 2)))
    assert_same(nothing.merge(some), some)
    assert_same(some.merge(nothing), some)


def merged_in_any_order(accumulators: list[Any], rng: np.random.Generator) -> Any:
    """Merge neighbours or strangers, either first, until one is left."""
    left = list(accumulators)
    while len(left) > 1:
        first, second = rng.choice(len(left), size=2, replace=False)
        left.append(left[first].merge(left[second]))
        for place in sorted((first, second), reverse=True):
            left.pop(place)
    return left[0]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", KINDS)
def test_any_tree_of_merges_equals_the_single_pass(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_t(5, size=(20_000, 3)) * [1.0, 1e-3, 1e5] + [0.0, 0.1, -3e5]
    cuts = np.sort(rng.integers(0, len(x), size=40))
    merged = merged_in_any_order([KINDS[kind](part) for part in np.split(x, cuts)], rng)
    whole = KINDS[kind](x)
    if kind != "moments":
        assert_same(merged, whole)
        return
    np.testing.assert_array_equal(merged.count, whole.count)
    # A power sum moves by p |x| sum |d|**(p - 1) if the samples move by a relative 1: its conditioning.
    deviation = np.abs(x - x.mean(axis=0))
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=0, atol=1e-12 * np.abs(x).mean(axis=0).max())
    for power, name in enumerate(("m2", "m3", "m4"), start=2):
        condition = np.sum(deviation**power + power * deviation ** (power - 1) * np.abs(x), axis=0)
        assert np.all(np.abs(getattr(merged, name) - getattr(whole, name)) <= 1e-12 * condition), name
    for name, bound in (("variance", 1e-12), ("skewness", 1e-11), ("excess_kurtosis", 1e-10)):
        # The mean is at most three standard deviations, or 100 of the second quantity, away from zero.
        np.testing.assert_allclose(getattr(merged, name), getattr(whole, name), rtol=bound, atol=bound)


@pytest.mark.parametrize("shape", [(), (3,), (2, 1, 2), (0,)])
@pytest.mark.parametrize("kind", KINDS)
def test_arrays_restore_every_bit(kind: str, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(3).standard_normal((17, *shape))
    for samples in (x, x[:0]):
        accumulator = KINDS[kind](samples)
        stored = accumulator.to_arrays()
        assert all(isinstance(values, np.ndarray) for values in stored.values())
        restored = type(accumulator).from_arrays(stored)
        assert_same(restored, accumulator)
        assert restored.shape == accumulator.shape == shape
        assert_same(restored.merge(accumulator), accumulator.merge(accumulator))


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_and_partners_that_do_not_fit_are_named(kind: str) -> None:
    accumulator = KINDS[kind](np.ones((4, 2)))
    stored = accumulator.to_arrays()
    name = list(stored)[-1]
    with pytest.raises(ValueError, match=f"must hold .*{name}.*, {name} missing"):
        type(accumulator).from_arrays({key: values for key, values in stored.items() if key != name})
    with pytest.raises(ValueError, match=r"equal shapes to merge, got \(2,\) and \(3,\)"):
        accumulator.merge(KINDS[kind](np.ones((4, 3))))


@pytest.mark.parametrize("values_at_once", [1, 7, 50])
@pytest.mark.parametrize("kind", ["histogram", "quantiles"])
def test_blocks_of_samples_and_those_left_out(kind: str, values_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(60, 3))
    x[rng.random(x.shape) < 0.2] = 0.0
    where = rng.random(x.shape) < 0.7
    where[:, 2] = False
    spoiled = np.where(where, x, np.nan)
    make: Any = {
        "histogram": lambda samples, **options: Histogram.from_samples(samples, -1.0, 1.0, 4, **options),
        "quantiles": QuantileSketch.from_samples,
    }[kind]
    columns = [make(x[where[:, k], k]) for k in range(3)]
    monkeypatch.setattr(samples_module, "VALUES_AT_ONCE", values_at_once)
    whole = make(spoiled, where=where)
    np.testing.assert_array_equal(whole.count, where.sum(axis=0))
    for k, column in enumerate(columns):
        assert_same(make(spoiled, where=where & (np.arange(3) == k)).merge(make(x[:0])), _placed(column, k))
    assert_same(reduce(lambda a, b: a.merge(b), (_placed(column, k) for k, column in enumerate(columns))), whole)


def _placed(column: Any, k: int) -> Any:
    """Return the accumulator of three quantities of which only the k-th has samples."""
    if isinstance(column, QuantileSketch):
        return QuantileSketch((3,), column.precision, np.full_like(column.key, k), column.key, column.counts)
    chosen = np.arange(3) == k
    counts, underflow, overflow = chosen[:, None] * column.counts, chosen * column.underflow, chosen * column.overflow
    return Histogram(column.low, column.high, counts, underflow, overflow)


@pytest.mark.parametrize(
    "make", [lambda x, **o: Histogram.from_samples(x, 0.0, 1.0, 2, **o), QuantileSketch.from_samples]
)
def test_bad_samples_are_named(make: Any) -> None:
    with pytest.raises(ValueError, match=r"samples must not be NaN; leave those out"):
        make([1.0, np.nan])
    with pytest.raises(ValueError, match="samples must have at least one axis"):
        make(1.0)
    with pytest.raises(TypeError, match="samples must hold real numbers, got type complex128"):
        make([1.0j])
    with pytest.raises(TypeError, match="samples must hold real numbers, got type <U1"):
        make(["a"])
    with pytest.raises(ValueError, match=r"where must broadcast to the shape of samples, \(3,\), got shape \(2,\)"):
        make(np.zeros(3), where=[True, False])


def test_totals() -> None:
    total = Total(np.array([[1, 2], [3, 4]], dtype=np.uint8))
    assert total.values.dtype == np.int64
    assert total.shape == (2, 2)
    np.testing.assert_array_equal(total.merge(total).values, [[2, 4], [6, 8]])
    with pytest.raises(TypeError, match="values must hold integers, got dtype float64"):
        Total([1.0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="values must be non-negative and below"):
        Total([2, -1])  # type: ignore[arg-type]


def test_counts_beyond_64_bits_are_refused() -> None:
    many = np.array([2**62])
    with pytest.raises(OverflowError, match="values would exceed"):
        Total(many).merge(Total(many))
    histogram = Histogram(0.0, 1.0, many, np.array(0), np.array(0))
    with pytest.raises(OverflowError, match="counts would exceed"):
        histogram.merge(histogram)
    sketch = QuantileSketch((), 9, np.array([0]), np.array([5]), many // 2)
    with pytest.raises(OverflowError, match="counts of all elements together would exceed"):
        sketch.merge(sketch)
