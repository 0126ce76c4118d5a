"""Claims on numbers with and without statistical error."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from wideangle.reports import Claim

STANDARD_ERRORS = 5.0  # To each side of an estimate, within which the number is taken to lie.
Bounds = tuple[float, float]


def exact_claim(statement: str, measured: float, allowed: Bounds, note: str = "") -> Claim:
    """Return a claim on a number without statistical error."""
    return Claim(statement, measured, (measured, measured), allowed, note)


def estimated_claim(statement: str, estimate: float, error: float, allowed: Bounds, note: str) -> Claim:
    """Return a claim on an estimate with this standard error."""
    half = STANDARD_ERRORS * error
    return Claim(statement, estimate, (estimate - half, estimate + half), allowed, note)


def mean_claim(statement: str, values: NDArray[np.float64], allowed: Bounds, note: str) -> Claim:
    """Return a claim on a mean over independent runs."""
    error = standard_error(values)
    return estimated_claim(
        statement, float(np.mean(values)), error, allowed, f"{note}; se {error:.2g}, {len(values)} runs"
    )


def standard_error(values: NDArray[np.float64]) -> float:
    """Return the standard error of the mean."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))
