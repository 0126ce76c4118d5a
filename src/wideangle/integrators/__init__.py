"""Batches of initial-value problems: adaptive, with dense output and a status for every trajectory."""

from __future__ import annotations

from wideangle.integrators.integration import integrate

__all__ = ["integrate"]
