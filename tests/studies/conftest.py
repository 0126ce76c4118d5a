"""What the tests of methods of studies share: blocks of cells, and what they are compared with."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

from wideangle.statistics import Moments, Total
from wideangle.studies.methods import METHODS
from wideangle.studies.protocol import Block, Wanted

SAMPLES = Wanted(samples=True)


def _run(name: str, parameters: dict[str, Any], first: int, number: int, wanted: Wanted = SAMPLES) -> Block:
    """Return a block of a cell, from parameters that have been pickled, as on a worker."""
    method = METHODS[name]
    prepared = pickle.loads(pickle.dumps(method.prepare(parameters)))
    return method.run(prepared, first, number, 7, wanted)


def _joined(name: str, parameters: dict[str, Any], first: int, sizes: Iterable[int]) -> tuple[dict[str, Any], Any]:
    """Return the samples of blocks one after the other, and the sums of the totals."""
    samples: dict[str, list[Any]] = {}
    totals: dict[str, Total] = {}
    for size in sizes:
        for key, variable in _run(name, parameters, first, size).variables.items():
            if variable.samples is None:
                total = variable.reduced["total"]
                assert isinstance(total, Total)
                totals[key] = totals[key].merge(total) if key in totals else total
            else:
                assert len(variable.samples) == size
                samples.setdefault(key, []).append(variable.samples)
        first += size
    return {key: np.concatenate(parts) for key, parts in samples.items()}, totals


def _assert_pure(name: str, parameters: dict[str, Any], number: int, sizes: tuple[int, ...], first: int = 3) -> None:
    """Compare one block with many, bit by bit."""
    assert sum(sizes) == number
    whole, total = _joined(name, parameters, first, [number])
    parts, totals = _joined(name, parameters, first, sizes)
    assert whole.keys() == parts.keys()
    assert total.keys() == totals.keys()
    assert whole or total
    for key, values in whole.items():
        assert values.tobytes() == parts[key].tobytes(), key
    for key, each in total.items():
        np.testing.assert_array_equal(each.values, totals[key].values, err_msg=key)


def _assert_same_moments(found: Moments, samples: Any) -> None:
    """Compare with the moments of samples, to rounding: of the values, and of sums of powers of the deviations."""
    expected = Moments.from_samples(samples, where=np.isfinite(samples))
    np.testing.assert_array_equal(found.count, expected.count)
    # Deviations are known to a rounding of the values: that is what a sum of their powers can be off by.
    spread = np.sqrt(expected.m2 / np.maximum(expected.count, 1))
    rounding = 1e-13 * (np.abs(expected.mean) + spread)
    for power, field in enumerate(("mean", "m2", "m3", "m4"), start=1):
        counted = expected.count if power > 1 else 1
        # A fourth moment may be far above the square of the second.
        largest = (expected.m4 / np.maximum(expected.count, 1)) ** 0.25
        bound = power * rounding * (largest + rounding) ** (power - 1) * counted
        error = np.abs(getattr(found, field) - getattr(expected, field))
        assert np.all(error[expected.count > 0] <= bound[expected.count > 0]), field


@pytest.fixture
def run() -> Callable[..., Block]:
    """The function that returns a block of a cell."""
    return _run


@pytest.fixture
def assert_pure() -> Callable[..., None]:
    """The function that compares one block with many, bit by bit."""
    return _assert_pure


@pytest.fixture
def assert_same_moments() -> Callable[..., None]:
    """The function that compares moments with those of samples, to rounding."""
    return _assert_same_moments
