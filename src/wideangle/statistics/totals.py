"""Counts that add up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wideangle.statistics._samples import add_counts, check_same_shape, read_counts, read_fields


@dataclass(frozen=True, eq=False)
class Total:
    """Counts of events, for each element of an array on its own.

    Parameters
    ----------
    values
        Non-negative integers of any shape.

    Raises
    ------
    TypeError
        If ``values`` does not hold integers.
    ValueError
        If one of them is negative.

    Examples
    --------
    >>> from wideangle.statistics import Total
    >>> Total([1, 0]).merge(Total([2, 5])).values
    array([3, 5])
    """

    values: NDArray[np.int64]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", read_counts("values", self.values))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the quantities that are counted."""
        return self.values.shape

    def merge(self, other: Total) -> Total:
        """Return the sum, exact, whatever the order; zeros are the neutral element.

        Raises
        ------
        ValueError
            If the shapes differ.
        OverflowError
            If a sum does not fit into 64 bits.
        """
        check_same_shape("totals", self.shape, other.shape)
        return Total(add_counts("values", self.values, other.values))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the fields by name, as :meth:`from_arrays` takes them."""
        return {"values": self.values}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Total:
        """Return the total that :meth:`to_arrays` has written."""
        return cls(**read_fields("a total", arrays, ("values",)))
