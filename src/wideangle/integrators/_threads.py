"""Threads that run a compiled driver, watched by the one that started them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from wideangle.integrators._records import Shared

# Ctrl-C and the progress bar are served this often.
_SECONDS = 0.05


def run_threads(
    task: Callable[[int, Shared], Any], n_threads: int, done_before: int, advance: Callable[[int], object] | None
) -> None:
    """Run ``task(thread, shared)`` in threads side by side until they end; on an interrupt, stop them all."""
    shared = Shared(*(np.zeros(length, dtype=np.int64) for length in (1, n_threads, 1)))
    failures: list[BaseException] = []
    # Not join(): up to Python 3.12 an interrupted one makes a thread that runs on pass for one that has ended.
    ended = [threading.Event() for _ in range(n_threads)]

    def guarded(thread: int) -> None:
        try:
            task(thread, shared)
        except BaseException as error:
            failures.append(error)
            shared.stop[0] = 1
        finally:
            ended[thread].set()

    def report() -> None:
        if advance is not None:
            advance(done_before + int(shared.done.sum()))

    threads = [threading.Thread(target=guarded, args=(thread,), daemon=True) for thread in range(n_threads)]
    started = []
    try:
        for thread in threads:
            thread.start()
            started.append(thread)
        for event in ended:
            while not event.wait(_SECONDS):
                report()
    except BaseException:
        shared.stop[0] = 1
        raise
    finally:
        for thread, event in zip(started, ended, strict=False):
            event.wait()
            thread.join()
    # The threads may have ended before the first report.
    report()
    if failures:
        raise failures[0]
