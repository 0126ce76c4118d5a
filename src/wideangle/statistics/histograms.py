"""Histograms that merge: counts of samples in bins of equal width."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wideangle._checks import check_integer, check_real
from wideangle.statistics._samples import (
    add_counts,
    blocks_of_samples,
    check_same_shape,
    read_counts,
    read_fields,
    read_samples,
)

MAX_BINS = 10_000_000
FIELDS = ("low", "high", "counts", "underflow", "overflow")


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts in bins of equal width on [low, high), for each element of an array on its own.

    A bin contains its lower edge and not its upper one. The bin of a value ``x`` is the integer part of
    ``(x - low) * (n_bins / (high - low))``, rounded operation by operation and at most ``n_bins - 1``, as in
    :func:`wideangle.propagation.simulate_angles`: within rounding of an edge the value may fall on either side of it,
    always on the same.

    Parameters
    ----------
    low, high
        Range of the bins.
    counts
        Number of samples in each bin, non-negative integers of shape (..., bin).
    underflow, overflow
        Numbers of samples below ``low`` and at or above ``high``, shape of ``counts`` without its last axis.

    Raises
    ------
    TypeError, ValueError
        If the range is empty, not finite, or too wide or too narrow for floating point; if the shapes do not fit, or
        counts are not integers or negative.

    Examples
    --------
    >>> from wideangle.statistics import Histogram
    >>> found = Histogram.from_samples([0.0, 0.5, 0.6, 1.0, -7.0], 0.0, 1.0, 2)
    >>> found.counts, int(found.underflow), int(found.overflow)
    (array([1, 2]), 1, 1)
    >>> found.merge(found).counts
    array([2, 4])
    """

    low: float
    high: float
    counts: NDArray[np.int64]
    underflow: NDArray[np.int64]
    overflow: NDArray[np.int64]

    def __post_init__(self) -> None:
        counts = read_counts("counts", self.counts)
        if counts.ndim == 0:
            raise ValueError("counts must have at least one axis, got a scalar; give an array of shape (..., bin)")
        low, high = _check_range(self.low, self.high, counts.shape[-1])
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)
        object.__setattr__(self, "counts", counts)
        for name in ("underflow", "overflow"):
            values = read_counts(name, getattr(self, name))
            if values.shape != self.shape:
                raise ValueError(f"{name} must have the shape of counts without bins, {self.shape}, got {values.shape}")
            object.__setattr__(self, name, values)

    @classmethod
    def from_samples(
        cls, samples: ArrayLike, low: float, high: float, n_bins: int, *, where: ArrayLike | None = None
    ) -> Histogram:
        """Return the histogram over the first axis.

        Parameters
        ----------
        samples
            Array of shape (sample, ...). Infinite values count as underflow or overflow.
        low, high
            Range of the bins, low < high.
        n_bins
            Number of bins, 1 to 10,000,000.
        where
            Booleans that broadcast to the shape of ``samples``: which of them count. All by default.

        Returns
        -------
        Histogram
            ``counts`` of the shape of ``samples`` without its first axis, and then bins.

        Raises
        ------
        TypeError, ValueError
            If ``samples`` has no axis, a sample that counts is NaN, or the bins are out of range.

        Examples
        --------
        >>> Histogram.from_samples([[1.0, -1.0], [3.0, np.nan]], 0, 4, 4, where=[[True, True], [True, False]]).count
        array([2, 1])
        """
        bins = check_integer("n_bins", n_bins, low=1, high=MAX_BINS, remedy="give a number of bins, such as 100")
        lowest, highest = _check_range(low, high, bins)
        x, chosen = read_samples(samples, where)
        scale = bins / (highest - lowest)
        n_elements = int(np.prod(x.shape[1:], dtype=np.int64))
        # A row of a table holds the underflow, the bins and the overflow of an element.
        table = np.zeros(n_elements * (bins + 2), dtype=np.int64)
        first_cell = np.arange(n_elements, dtype=np.int64) * (bins + 2) + 1
        cell_of_zero = first_cell + _cells(np.zeros(1), lowest, highest, bins, scale)
        # A large table is not added up for every few samples.
        for block, left_out in blocks_of_samples(x, chosen, at_least=len(table) // 8):
            cells = _cells(block, lowest, highest, bins, scale)
            cells += first_cell
            table += np.bincount(cells.ravel(), minlength=len(table))
            table[cell_of_zero] -= left_out
        table = table.reshape(*x.shape[1:], bins + 2)
        return cls(lowest, highest, table[..., 1:-1], table[..., 0], table[..., -1])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the quantities, that of ``counts`` without its last axis."""
        return self.counts.shape[:-1]

    @property
    def count(self) -> NDArray[np.int64]:
        """Number of samples, inside the range and beyond it."""
        return np.asarray(self.counts.sum(axis=-1) + self.underflow + self.overflow)

    @property
    def edges(self) -> NDArray[np.float64]:
        """Edges of the bins, one more than there are bins."""
        return np.linspace(self.low, self.high, self.counts.shape[-1] + 1)

    def merge(self, other: Histogram) -> Histogram:
        """Return the histogram of both sets of samples together.

        Exact, whatever the order; a histogram of no samples is the neutral element.

        Raises
        ------
        ValueError
            If the shapes or the bins differ.
        OverflowError
            If a sum does not fit into 64 bits.
        """
        ours, theirs = (f"{h.counts.shape[-1]} bins on [{h.low!r}, {h.high!r})" for h in (self, other))
        if ours != theirs:
            raise ValueError(f"histograms must have the same bins to merge, got {ours} and {theirs}; use the same ones")
        check_same_shape("histograms", self.shape, other.shape)
        sums = {name: add_counts(name, getattr(self, name), getattr(other, name)) for name in FIELDS[2:]}
        return Histogram(self.low, self.high, **sums)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the fields by name, scalars as arrays without axes, as :meth:`from_arrays` takes them."""
        return {name: np.asarray(getattr(self, name)) for name in FIELDS}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Histogram:
        """Return the histogram that :meth:`to_arrays` has written."""
        fields = read_fields("a histogram", arrays, FIELDS)
        return cls(**{**fields, "low": fields["low"].item(), "high": fields["high"].item()})


def _check_range(low: Any, high: Any, n_bins: int) -> tuple[float, float]:
    remedy = "give a range that the values of interest lie in, low < high"
    lowest, highest = check_real("low", low, remedy=remedy), check_real("high", high, remedy=remedy)
    if not lowest < highest:
        raise ValueError(f"high must exceed low, got low={lowest!r} and high={highest!r}; {remedy}")
    if n_bins < 1:
        raise ValueError(f"counts must hold at least one bin, got {n_bins}; give an array of shape (..., bin)")
    check_width(lowest, highest, n_bins)
    return lowest, highest


def check_width(low: float, high: float, n_bins: int, *, prefix: str = "") -> None:
    """Refuse a range, low < high, whose bins floating point cannot tell apart; errors begin with ``prefix``."""
    width = high - low
    if not (math.isfinite(width) and width > 1e-300):
        raise ValueError(f"{prefix}high - low must lie between 1e-300 and 1e308, got {width!r}; scale the values")
    if width / n_bins <= np.spacing(max(abs(low), abs(high))):
        raise ValueError(f"{prefix}low={low!r} and high={high!r} are too close for {n_bins} bins; use fewer or scale")


def _cells(x: NDArray[np.float64], low: float, high: float, n_bins: int, scale: float) -> NDArray[np.int64]:
    """Return the bins of values, -1 below the range and ``n_bins`` above it."""
    # The order of operations is that of the kernel. Values beyond the range are moved to it, so that nothing overflows.
    scaled = np.clip(x, low, high)
    scaled -= low
    scaled *= scale
    cells: NDArray[np.int64] = scaled.astype(np.int64)
    np.minimum(cells, n_bins - 1, out=cells)
    cells[x >= high] = n_bins
    cells[x < low] = -1
    return cells
