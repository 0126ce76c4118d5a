"""The claims of arXiv 2405.04074 and 2204.07291, and of what follows from them, each with what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wideangle.papers.response_aging_claims import (
    aging_claims,
    dependence_claims,
    factor_claims,
    ideal_claims,
    prediction_claims,
    shape_claims,
    step_claims,
)
from wideangle.papers.response_feature_claims import balance_claims, fragility_claims, size_claims
from wideangle.papers.response_features import LOSSES
from wideangle.papers.response_model_claims import image_claims, model_claims, relearning_claims
from wideangle.reports import Claim

if TYPE_CHECKING:
    from wideangle.papers.response import Measurements


def judge(measurements: Measurements) -> tuple[Claim, ...]:
    """Return all claims in the order of the panels."""
    return (
        *step_claims(measurements),
        *shape_claims(measurements.kernels),
        *dependence_claims(measurements),
        *ideal_claims(measurements.ideal),
        *prediction_claims(measurements),
        *aging_claims(measurements),
        *factor_claims(measurements.aging),
        *(claim for loss in LOSSES for claim in size_claims(measurements, loss)),
        *balance_claims(measurements.balance),
        *(claim for loss in LOSSES for claim in fragility_claims(measurements, loss)),
        *image_claims(measurements),
        *model_claims(measurements),
        *relearning_claims(measurements.relearning),
    )
