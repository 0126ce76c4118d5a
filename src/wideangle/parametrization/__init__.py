"""How width enters a network and its training: scalings, the regimes they lead to, and their limits.

Source: Hajjar, Chizat and Giraud, arXiv 2110.15596.
"""

from __future__ import annotations

from wideangle.parametrization.comparison import compare
from wideangle.parametrization.coordinate_report import coordinate_table, write_coordinate_report
from wideangle.parametrization.coordinates import coordinate_check
from wideangle.parametrization.first_step import predict_first_step
from wideangle.parametrization.learning_rates import train_learning_rates
from wideangle.parametrization.limit import simulate_limit
from wideangle.parametrization.limit_comparison import compare_training
from wideangle.parametrization.regimes import Regime, classify, equivalent, scaling
from wideangle.parametrization.width_training import train_widths
from wideangle.scalings import Scaling

__all__ = [
    "Regime",
    "Scaling",
    "classify",
    "compare",
    "compare_training",
    "coordinate_check",
    "coordinate_table",
    "equivalent",
    "predict_first_step",
    "scaling",
    "simulate_limit",
    "train_learning_rates",
    "train_widths",
    "write_coordinate_report",
]
