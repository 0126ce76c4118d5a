"""What the accumulators share: reading samples, and sums of counts that must not wrap around."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Values worked on at once, so that memory does not grow with the samples: a few tens of MB. With fewer at a time the
# sketch spends longer on merging than on counting.
VALUES_AT_ONCE = 1 << 19

IntArray = NDArray[np.int64]


def read_samples(samples: ArrayLike, where: ArrayLike | None) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
    """Return samples (sample, ...) and which of them count, None if all do; NaN among those that count is refused."""
    given = np.asarray(samples)
    if given.dtype.kind not in "biuf":
        raise TypeError(f"samples must hold real numbers, got type {given.dtype}; give an array of shape (sample, ...)")
    x = given.astype(np.float64, copy=False)
    if x.ndim == 0:
        raise ValueError("samples must have at least one axis, got a scalar; give an array of shape (sample, ...)")
    chosen = None
    if where is not None:
        try:
            chosen = np.broadcast_to(np.asarray(where, dtype=bool), x.shape)
        except ValueError:
            raise ValueError(
                f"where must broadcast to the shape of samples, {x.shape}, got shape {np.shape(where)};"
                " give one boolean for each sample"
            ) from None
    return x, chosen


def blocks_of_samples(
    x: NDArray[np.float64], chosen: NDArray[np.bool_] | None, at_least: int = 0
) -> Iterator[tuple[NDArray[np.float64], IntArray]]:
    """Yield the samples some rows at a time as (row, element), and how many of each element do not count.

    Those that do not count are given as 0. NaN among those that count is refused. Blocks but for the last hold about
    ``at_least`` values or more.
    """
    n_elements = int(np.prod(x.shape[1:], dtype=np.int64))
    rows = max(1, max(VALUES_AT_ONCE, at_least) // max(1, n_elements))
    for first in range(0, len(x), rows):
        block = np.ascontiguousarray(x[first : first + rows])
        block = block.reshape(len(block), n_elements)
        left_out = np.zeros(n_elements, dtype=np.int64)
        if chosen is not None:
            kept = chosen[first : first + rows].reshape(block.shape)
            block = np.where(kept, block, 0.0)
            left_out = len(block) - np.count_nonzero(kept, axis=0)
        if np.isnan(block).any():
            raise ValueError("samples must not be NaN; leave those out with where=~np.isnan(samples)")
        yield block, left_out


def read_counts(name: str, values: Any) -> IntArray:
    """Return non-negative integers as int64, in an array of their own."""
    counts = np.asarray(values)
    if counts.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold integers, got dtype {counts.dtype}; give numbers of samples")
    # An unsigned count beyond 63 bits turns negative here, so that one test finds both mistakes.
    counts = counts.astype(np.int64)
    if np.any(counts < 0):
        raise ValueError(f"{name} must be non-negative and below 2**63, got {counts.min()}; give numbers of samples")
    return counts


def add_counts(name: str, first: IntArray, second: IntArray) -> IntArray:
    """Return the sum of non-negative counts, or refuse one that 64 bits do not hold."""
    total = np.asarray(first + second)
    if np.any(total < 0):
        raise OverflowError(f"{name} would exceed 2**63 - 1; merge fewer samples")
    return total


def check_same_shape(what: str, first: tuple[int, ...], second: tuple[int, ...]) -> None:
    """Refuse to merge what belongs to arrays of different shapes."""
    if first != second:
        raise ValueError(
            f"{what} must have equal shapes to merge, got {first} and {second}; merge quantities measured at the same "
            "places"
        )


def read_fields(kind: str, arrays: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return the named arrays, or say which of them is missing."""
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ValueError(f"arrays of {kind} must hold {', '.join(names)}, {', '.join(missing)} missing")
    return {name: np.asarray(arrays[name]) for name in names}
