"""What the ensembles share: progress, the index to start from, moments from the kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import MAX_SAMPLES, check_integer
from wideangle.statistics.moments import Moments


@contextmanager
def progress_callback(total: int, shown: bool, *, unit: str) -> Iterator[Callable[[int], object] | None]:
    """Give a function to call with the work done so far, which moves a tqdm bar, or None if none is to be shown."""
    if not shown:
        yield None
        return
    from tqdm import tqdm

    with tqdm(total=total, unit=unit, unit_scale=True) as bar:
        yield lambda done: bar.update(done - bar.n)
        # The last report may come before the last of the work.
        bar.update(total - bar.n)


def check_index(name: str, value: Any, *, of: str) -> int:
    """Return the index of a member of an ensemble."""
    return check_integer(name, value, low=0, high=MAX_SAMPLES, remedy=f"give the index of the {of}, 0 or more")


def moments_of(rows: NDArray[np.float64]) -> Moments:
    """Return moments from the kernels' rows count, mean and central sums of the second to fourth power."""
    count, mean, m2, m3, m4 = rows
    return Moments(count=count.astype(np.int64), mean=mean, m2=m2, m3=m3, m4=m4)
