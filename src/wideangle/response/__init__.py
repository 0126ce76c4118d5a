"""Training response: how a network answers one more example, and how that ages.

Source: arXiv 2405.04074 and 2204.07291.
"""

from __future__ import annotations

from wideangle.response.aging import fit_aging
from wideangle.response.feature_prediction import predict_feature_reduction
from wideangle.response.feature_space import feature_space
from wideangle.response.fragility import fragility
from wideangle.response.fragility_relation import relate_fragility
from wideangle.response.mean_field import simulate_mean_field
from wideangle.response.measurement import measure
from wideangle.response.responses import training_response
from wideangle.response.simulation import simulate_training
from wideangle.response.tangent_kernels import tangent_kernel

__all__ = [
    "feature_space",
    "fit_aging",
    "fragility",
    "measure",
    "predict_feature_reduction",
    "relate_fragility",
    "simulate_mean_field",
    "simulate_training",
    "tangent_kernel",
    "training_response",
]
