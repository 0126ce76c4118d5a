"""Claims with verdicts, figures in one look, and the self-contained HTML page."""

from __future__ import annotations

from wideangle.reports.claims import Claim, claims_dataset, claims_table
from wideangle.reports.figures import DARK, LIGHT, Theme, render

__all__ = ["DARK", "LIGHT", "Claim", "Theme", "claims_dataset", "claims_table", "render"]
