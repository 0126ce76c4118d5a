"""Claims with numbers: what is allowed, what was measured, and the verdict that follows."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr

AGREES = "agrees"
DISAGREES = "disagrees"
NOT_RESOLVED = "not resolved"


@dataclass(frozen=True)
class Claim:
    """A statement that a number lies in a range, and a measurement of that number.

    Parameters
    ----------
    statement
        One sentence that says which number lies where.
    measured
        The best estimate; NaN if there is none.
    interval
        Range in which the number lies in view of its statistical error; (measured, measured) if it has none, and all
        numbers if nothing was measured.
    allowed
        Range in which the number lies if the statement is true; a bound may be infinite.
    note
        What else a reader needs to judge the number by, such as a z-score or a number of samples.

    Raises
    ------
    ValueError
        If the statement is empty or a range is reversed or holds NaN.

    Examples
    --------
    >>> Claim("The mean is 0 to 0.01.", 0.002, (-0.001, 0.005), (-0.01, 0.01)).verdict
    'agrees'
    >>> Claim("The mean is 0 to 0.01.", 0.009, (0.006, 0.012), (-0.01, 0.01)).verdict
    'not resolved'
    """

    statement: str
    measured: float
    interval: tuple[float, float]
    allowed: tuple[float, float]
    note: str = ""

    def __post_init__(self) -> None:
        if not self.statement:
            raise ValueError("statement must not be empty; say which number lies where")
        for name in ("interval", "allowed"):
            low, high = getattr(self, name)
            if not low <= high:
                raise ValueError(f"{name} must be (low, high) with low <= high, got {(low, high)}")

    @property
    def verdict(self) -> str:
        """``"agrees"`` if the interval lies inside the allowed range, ``"disagrees"`` if it lies outside.

        Otherwise ``"not resolved"``: the measurement is not sharp enough to tell.
        """
        (low, high), (allowed_low, allowed_high) = self.interval, self.allowed
        if allowed_low <= low and high <= allowed_high:
            return AGREES
        if high < allowed_low or low > allowed_high:
            return DISAGREES
        return NOT_RESOLVED

    @property
    def allowed_text(self) -> str:
        """The allowed range in words, such as ``"at least 0.1"`` or ``"-0.01 to 0.01"``."""
        low, high = self.allowed
        if math.isinf(high):
            return f"at least {_number(low)}"
        if math.isinf(low):
            return f"at most {_number(high)}"
        return f"{_number(low)} to {_number(high)}"

    @property
    def measured_text(self) -> str:
        """The measured number with its interval and note, such as ``"0.002 [-0.001, 0.005] (z = 0.7)"``.

        ``"not measured"`` in place of the number and the interval if there is none.
        """
        low, high = self.interval
        text = _number(self.measured)
        if math.isnan(self.measured):
            text = "not measured"
        elif low < high:
            text += f" [{_number(low)}, {_number(high)}]"
        return f"{text} ({self.note})" if self.note else text


def claims_table(claims: Sequence[Claim], *, width: int = 110) -> str:
    """Return claims as plain text, one row each with its verdict in front, wrapped to ``width`` columns.

    Examples
    --------
    >>> print(claims_table([Claim("The mean is positive.", 0.3, (0.1, 0.5), (0.0, math.inf))], width=80))
    VERDICT       CLAIM                     ALLOWED             MEASURED
    agrees        The mean is positive.     at least 0          0.3 [0.1, 0.5]
    """
    verdict_width, gap = 12, 2
    rest = max(width, 70) - verdict_width - 3 * gap
    widths = (verdict_width, rest * 2 // 5, rest * 3 // 10, rest * 3 // 10)
    rows = [("VERDICT", "CLAIM", "ALLOWED", "MEASURED")]
    rows += [(claim.verdict, claim.statement, claim.allowed_text, claim.measured_text) for claim in claims]
    lines: list[str] = []
    for row in rows:
        cells = [textwrap.wrap(cell, column) for cell, column in zip(row, widths, strict=True)]
        for i in range(max(map(len, cells))):
            parts = [
                (cell[i] if i < len(cell) else "").ljust(column) for cell, column in zip(cells, widths, strict=True)
            ]
            lines.append((" " * gap).join(parts).rstrip())
    return "\n".join(lines)


def claims_dataset(claims: Sequence[Claim]) -> xr.Dataset:
    """Return claims as a Dataset over the dimension ``claim``.

    Returns
    -------
    xarray.Dataset
        statement, verdict, note, measured, interval_low, interval_high, allowed_low, allowed_high, all (claim,).

    Examples
    --------
    >>> dataset = claims_dataset([Claim("The mean is positive.", 0.3, (0.1, 0.5), (0.0, math.inf))])
    >>> dataset.verdict.item(), dataset.measured.item()
    ('agrees', 0.3)
    """
    import numpy as np
    import xarray as xr

    texts = {name: np.array([getattr(claim, name) for claim in claims]) for name in ("statement", "verdict", "note")}
    numbers = {"measured": np.array([claim.measured for claim in claims])}
    for name in ("interval", "allowed"):
        for side, end in enumerate(("low", "high")):
            numbers[f"{name}_{end}"] = np.array([getattr(claim, name)[side] for claim in claims])
    return xr.Dataset({name: ("claim", values) for name, values in (texts | numbers).items()})


def _number(value: float) -> str:
    """Three significant digits, without an exponent where the number is of ordinary size."""
    if value != 0.0 and not 1e-4 <= abs(value) < 1e5:
        return f"{value:.2g}"
    return f"{value:.3g}"
