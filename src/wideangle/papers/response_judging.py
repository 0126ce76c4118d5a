"""How claims on the training response are judged: what counts as a change, and intervals over networks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wideangle.papers._verdicts import STANDARD_ERRORS, Bounds, estimated_claim, exact_claim, standard_error
from wideangle.reports import Claim

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

SIMILAR = 0.95  # Cosine from which on kernels are taken for the same up to a factor.
NOTICED = math.log(1.1)  # Difference of logarithms that counts.
MISSED = 0.2  # Of a response, that a law of aging may miss: what fit_aging takes for a law.
LARGEST_POWER = 10.0  # Beyond which a power is an exponential of networks with somewhat different rates.
REDUCED = 0.01  # Relative, from which on a space of features is smaller.


def claim_on(statement: str, values: xr.DataArray | Array, allowed: Bounds, note: str = "") -> Claim:
    """Return a claim on a mean over independent networks, without those where it is not defined."""
    found = finite(values)
    if len(found) < 2:
        return Claim(statement, math.nan, (-math.inf, math.inf), allowed, note)
    return estimated_claim(statement, float(np.mean(found)), standard_error(found), allowed, with_number(note, found))


def dependence_claim(statement: str, values: xr.DataArray | Array, noticed: float, note: str = "") -> Claim:
    """Return a claim that a mean over independent networks differs from 0 by at least so much, to either side.

    The interval is that of the size of the mean: if that of the mean itself holds 0 it begins at 0.
    """
    found = finite(values)
    allowed = (noticed, math.inf)
    if len(found) < 2:
        return Claim(statement, math.nan, (-math.inf, math.inf), allowed, note)
    mean, half = float(np.mean(found)), STANDARD_ERRORS * standard_error(found)
    interval = (max(abs(mean) - half, 0.0), abs(mean) + half)
    note = f"{note}; " if note else ""
    return Claim(statement, abs(mean), interval, allowed, with_number(f"{note}difference {mean:+.3g}", found))


def finite(values: xr.DataArray | Array) -> Array:
    """Return the finite ones of numbers."""
    numbers: Array = np.asarray(values, dtype=float)
    kept: Array = numbers[np.isfinite(numbers)]
    return kept


def with_number(note: str, found: Array) -> str:
    """Add the number of networks to a note."""
    return f"{note}; {len(found)} networks" if note else f"{len(found)} networks"


def law_claims(words: str, fit: xr.Dataset, note: str = "") -> list[Claim]:
    """Judge whether a response is a power law of time: whether the best one describes it, and is no other law.

    Parameters
    ----------
    words
        Which response.
    fit
        What :func:`wideangle.papers.response_panels.law` found in it.
    note
        What theory says.
    """
    gamma, low, high = (fit[name].item() for name in ("gamma", "gamma_low", "gamma_high"))
    note = f"; {note}" if note else ""
    # Of 1/gamma nothing is known where gamma may be 0.
    interval = (1.0 / high, 1.0 / low) if low * high > 0.0 else (-math.inf, math.inf)
    return [
        exact_claim(
            f"The response ages like a power ({words}): the best law (1 + t/tau)^-gamma misses it by at most"
            f" {MISSED:g} of it.",
            fit["misfit"].item(),
            (0.0, MISSED),
            f"fit_aging chooses {fit['chosen'].item()}{note}",
        ),
        Claim(
            f"The response ages like a power ({words}): its exponent gamma is above 0 and at most {LARGEST_POWER:g},"
            " beyond which the law is an exponential; 1/gamma is at least 0.1.",
            1.0 / gamma if gamma else math.nan,
            interval,
            (1.0 / LARGEST_POWER, math.inf),
            f"gamma {gamma:.2f}, from {low:.2f} to {high:.2f} with 95 %{note}",
        ),
    ]


def known(low: float, high: float) -> Bounds:
    """Return an interval, or all numbers where there is none."""
    return (low, high) if math.isfinite(low) and math.isfinite(high) else (-math.inf, math.inf)
