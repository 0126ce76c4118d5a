"""What the ensembles share: the index to start from, moments from the kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import MAX_SAMPLES, check_integer
from wideangle.statistics.moments import Moments


def check_index(name: str, value: Any, *, of: str) -> int:
    """Return the index of a member of an ensemble."""
    return check_integer(name, value, low=0, high=MAX_SAMPLES, remedy=f"give the index of the {of}, 0 or more")


def moments_of(rows: NDArray[np.float64]) -> Moments:
    """Return moments from the kernels' rows count, mean and central sums of the second to fourth power."""
    count, mean, m2, m3, m4 = rows
    return Moments(count=count.astype(np.int64), mean=mean, m2=m2, m3=m3, m4=m4)
