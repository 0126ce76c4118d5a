"""PyTorch networks to compare the theory with: built from widths or from weights, trained on labelled data.

PyTorch is imported at the first use, not with this module, and comes with ``pip install "wideangle[reference]"``.
"""

from __future__ import annotations

from wideangle.reference.calibration import calibrate_first_step
from wideangle.reference.conversion import from_torch, to_torch
from wideangle.reference.gradient_descent import train_full_batch
from wideangle.reference.networks import build_mlp
from wideangle.reference.scaled import build_scaled_mlp, scaled_optimizer
from wideangle.reference.scaled_groups import apply_scaling
from wideangle.reference.training import TrainingResult, train_classifier

__all__ = [
    "TrainingResult",
    "apply_scaling",
    "build_mlp",
    "build_scaled_mlp",
    "calibrate_first_step",
    "from_torch",
    "scaled_optimizer",
    "to_torch",
    "train_classifier",
    "train_full_batch",
]
