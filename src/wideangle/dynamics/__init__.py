"""How networks learn under gradient flow: single modes, competing features, single neurons, whole networks.

Source: Tachet des Combes, Pezeshki, Shabanian, Courville and Bengio, arXiv 1809.06848.
"""

from __future__ import annotations

from wideangle.dynamics.learning_time import predict_learning_time, predict_margin
from wideangle.dynamics.modes import simulate_modes
from wideangle.dynamics.phases import phase_diagram
from wideangle.dynamics.starvation import predict_starvation
from wideangle.dynamics.training import compare_training
from wideangle.dynamics.two_layer import simulate_two_layer

__all__ = [
    "compare_training",
    "phase_diagram",
    "predict_learning_time",
    "predict_margin",
    "predict_starvation",
    "simulate_modes",
    "simulate_two_layer",
]
