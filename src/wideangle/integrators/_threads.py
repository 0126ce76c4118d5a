"""Threads that run a compiled driver, watched by the one that started them."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

# Ctrl-C and the progress bar are served this often.
_SECONDS = 0.05


def run_threads(
    task: Callable[[int], object],
    n_threads: int,
    stop: NDArray[np.int64],
    report: Callable[[], object],
) -> None:
    """Run ``task(0)`` to ``task(n_threads - 1)`` side by side; on an interrupt, ``stop`` ends them all."""
    failures: list[BaseException] = []

    def guarded(thread: int) -> None:
        try:
            task(thread)
        except BaseException as error:
            failures.append(error)
            stop[0] = 1

    threads = [threading.Thread(target=guarded, args=(thread,), daemon=True) for thread in range(n_threads)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(_SECONDS)
                report()
    except BaseException:
        stop[0] = 1
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        raise
    if failures:
        raise failures[0]
