"""Progress bars of the ensembles."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any


def progress_bar(total: int, shown: bool, *, unit: str) -> Any:
    """Return a context manager with a tqdm bar, or with nothing if none is to be shown."""
    if not shown:
        return nullcontext()
    from tqdm import tqdm

    return tqdm(total=total, unit=unit, unit_scale=True)
