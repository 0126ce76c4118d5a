"""A progress bar for kernels that report the work done so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


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
