"""Claims on numbers with and without statistical error, and exponents in the width."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wideangle.reports import Claim

if TYPE_CHECKING:
    import xarray as xr

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


def root_mean_square(values: xr.DataArray) -> xr.DataArray:
    """Return the root mean square over networks."""
    result: xr.DataArray = np.sqrt((values**2).mean("network"))
    return result


def width_exponent(values: xr.DataArray) -> tuple[float, float]:
    """Return the slope of the logarithm of the root mean square over networks against ln width, and standard error.

    Networks of different width are independent, so that the errors of the points add up in squares.
    """
    squares = (values**2).transpose("width", "network").values
    errors = np.std(squares, axis=1, ddof=1) / math.sqrt(squares.shape[1]) / (2.0 * np.mean(squares, axis=1))
    x = np.log(values["width"].values)
    weights = (x - x.mean()) / np.sum((x - x.mean()) ** 2)
    slope = float(weights @ np.log(np.mean(squares, axis=1)) / 2.0)
    return slope, float(np.linalg.norm(weights * errors))
