"""Batches of initial-value problems: adaptive, with dense output and a status for every trajectory."""

from __future__ import annotations

import importlib
from types import ModuleType

from wideangle.integrators.events import Event
from wideangle.integrators.integration import integrate

__all__ = ["Event", "integrate"]


def __getattr__(name: str) -> ModuleType:
    # It imports Numba.
    if name == "elementwise":
        return importlib.import_module("wideangle.integrators.elementwise")
    raise AttributeError(f"module 'wideangle.integrators' has no attribute {name!r}")
