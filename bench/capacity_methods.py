"""Methods of studies that take no time, so that what a study itself costs can be measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SECONDS = 100.0  # that a sample is said to take, so that each is a block and a task of its own


def nothing(*, values: int, first_sample: int, n_samples: int, seed: int) -> dict[str, NDArray[np.float64]]:
    """Return ``values`` numbers for each sample, in no time."""
    del first_sample, seed
    return {"x": np.ones((n_samples, values))}


def _cost(**parameters: object) -> float:
    return SECONDS


def _bytes_per_sample(*, values: int) -> int:
    return 8 * values


nothing.cost = _cost  # type: ignore[attr-defined]
nothing.bytes_per_sample = _bytes_per_sample  # type: ignore[attr-defined]
