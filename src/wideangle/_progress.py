"""A progress bar for kernels that report the work done so far, and a way to end them from another thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_thread = threading.local()


class Stopped(BaseException):
    """Work was ended from another thread. No error, so that what handles errors lets it pass."""


@contextmanager
def stopped_by(event: threading.Event) -> Iterator[None]:
    """End the kernels that this thread runs, where they report their progress, once an event is set.

    Ctrl-C reaches the main thread only, and a kernel in another one would run to its end.
    """
    _thread.event = event
    try:
        yield
    finally:
        _thread.event = None


@contextmanager
def progress_callback(total: int, shown: bool, *, unit: str) -> Iterator[Callable[[int], object] | None]:
    """Give a function to call with the work done so far, which moves a tqdm bar, or None if there is nothing to do."""
    event = _event()
    if not shown:
        yield None if event is None else lambda done: _check(event)
        return
    from tqdm import tqdm

    with tqdm(total=total, unit=unit, unit_scale=True) as bar:
        yield lambda done: bar.update(done - bar.n)
        # The last report may come before the last of the work.
        bar.update(total - bar.n)


def end_if_stopped() -> None:
    """End the work of this thread if that was asked for, see :func:`stopped_by`."""
    event = _event()
    if event is not None:
        _check(event)


def _event() -> threading.Event | None:
    return getattr(_thread, "event", None)


def _check(event: threading.Event) -> None:
    if event.is_set():
        raise Stopped


@contextmanager
def steady_bar(total: int, before: int, shown: bool) -> Iterator[Any]:
    """Give a tqdm bar of samples whose rates come from a clock that is never set."""
    from tqdm import tqdm

    with tqdm(total=total, initial=before, unit="sample", unit_scale=True, disable=not shown) as bar:
        if shown:
            bar._time = time.monotonic
            bar.start_t = bar.last_print_t = time.monotonic()
        yield bar
