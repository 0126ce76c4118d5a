"""How networks learn under gradient flow: single modes, competing features, single neurons.

Source: Tachet des Combes, Pezeshki, Shabanian, Courville and Bengio, arXiv 1809.06848.
"""

from __future__ import annotations

from wideangle.dynamics._separability import SeparabilityWarning
from wideangle.dynamics.learning_time import predict_learning_time, predict_margin
from wideangle.dynamics.particles import simulate_particles
from wideangle.dynamics.two_layer import simulate_two_layer

__all__ = [
    "SeparabilityWarning",
    "predict_learning_time",
    "predict_margin",
    "simulate_particles",
    "simulate_two_layer",
]
