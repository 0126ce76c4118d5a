"""Statistics that carry their standard errors."""

from __future__ import annotations

from wideangle.statistics.goodness_of_fit import KolmogorovSmirnov, ks_against_density
from wideangle.statistics.moments import Moments
from wideangle.statistics.rank_correlation import RankCorrelation, percentile_interval, rank_correlation

__all__ = [
    "KolmogorovSmirnov",
    "Moments",
    "RankCorrelation",
    "ks_against_density",
    "percentile_interval",
    "rank_correlation",
]
