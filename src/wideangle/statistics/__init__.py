"""Statistics that merge, and that carry their errors."""

from __future__ import annotations

from wideangle.statistics.goodness_of_fit import KolmogorovSmirnov, ks_against_density
from wideangle.statistics.histograms import Histogram
from wideangle.statistics.moments import Moments
from wideangle.statistics.quantiles import QuantileSketch
from wideangle.statistics.rank_correlation import RankCorrelation, percentile_interval, rank_correlation
from wideangle.statistics.totals import Total

__all__ = [
    "Histogram",
    "KolmogorovSmirnov",
    "Moments",
    "QuantileSketch",
    "RankCorrelation",
    "Total",
    "ks_against_density",
    "percentile_interval",
    "rank_correlation",
]
