"""Which instruction set the kernels use, and how many threads."""

from __future__ import annotations

import os

from wideangle import _core
from wideangle._checks import check_choice

CPU_PATH_VARIABLE = "WIDEANGLE_CPU_PATH"


def cpu_paths() -> tuple[str, ...]:
    """Return the instruction sets that this machine can run, the widest first. All give the same bits."""
    return tuple(_core.cpu_paths())


def active_cpu_path() -> str:
    """Return the instruction set in use: the widest, or the one that WIDEANGLE_CPU_PATH names."""
    chosen = os.environ.get(CPU_PATH_VARIABLE)
    return check_choice(CPU_PATH_VARIABLE, chosen, cpu_paths()) if chosen else cpu_paths()[0]


def available_threads() -> int:
    """Return the number of processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
