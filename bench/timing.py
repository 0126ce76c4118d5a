"""Timing in pairs: two things measured turn by turn, so that a change of the machine's speed hits both alike."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from wideangle._cpu import CPU_PATH_VARIABLE, cpu_paths


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of repeated measurements."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Summarise ``values``."""
        return cls(statistics.median(values), min(values), max(values))

    def scaled(self, factor: float) -> Spread:
        """The same in another unit."""
        return Spread(self.median * factor, self.low * factor, self.high * factor)

    def __str__(self) -> str:
        return f"{_three_figures(self.median)} ({_three_figures(self.low)} to {_three_figures(self.high)})"


def seconds(action: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def cpu_seconds(action: Callable[[], object]) -> float:
    """Processor time of one call: that of all threads of this process, whatever else the machine does meanwhile."""
    start = time.process_time()
    action()
    return time.process_time() - start


def in_pairs(
    first: Callable[[], object], second: Callable[[], object], *, pairs: int, repeat_second: int = 1
) -> tuple[Spread, Spread, Spread]:
    """Time ``first`` and ``second`` in turn; return both and the ratio first / second of each turn.

    Both run once before anything is measured. Where ``second`` is much shorter, its time in a turn is the median of
    ``repeat_second`` calls.
    """
    first()
    second()
    one, two = [], []
    for _ in range(pairs):
        one.append(seconds(first))
        two.append(statistics.median(seconds(second) for _ in range(repeat_second)))
    return Spread.of(one), Spread.of(two), Spread.of([a / b for a, b in zip(one, two, strict=True)])


def by_path(action: Callable[[], object], *, turns: int) -> dict[str, Spread]:
    """Time ``action`` on each instruction set of this processor, in turns."""
    kept = os.environ.get(CPU_PATH_VARIABLE)
    times: dict[str, list[float]] = {path: [] for path in cpu_paths()}
    try:
        for _ in range(turns + 1):
            for path, found in times.items():
                os.environ[CPU_PATH_VARIABLE] = path
                found.append(seconds(action))
    finally:
        if kept is None:
            del os.environ[CPU_PATH_VARIABLE]
        else:
            os.environ[CPU_PATH_VARIABLE] = kept
    return {path: Spread.of(found[1:]) for path, found in times.items()}


def _three_figures(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
