"""How the angle between two inputs vanishes with depth: predicted, simulated, compared, and what it says of training.

Sources: Jakub and Nica, arXiv 2302.09712 (the theory) and arXiv 2306.01513 (what it predicts about training).
"""

from __future__ import annotations

from wideangle.propagation.comparison import compare_angles
from wideangle.propagation.density import predict_angle_density
from wideangle.propagation.finite_width_kernels import predict_gram
from wideangle.propagation.gaussian_moments import mixed_moment
from wideangle.propagation.gradient_norms import gradient_norms
from wideangle.propagation.gram_simulation import simulate_gram
from wideangle.propagation.kernel_regression import predict_mean_variance
from wideangle.propagation.kernels import nngp_kernel, tangent_kernel
from wideangle.propagation.network_simulation import materialize, simulate_outputs
from wideangle.propagation.prediction import predict_angles
from wideangle.propagation.simulation import simulate_angles
from wideangle.propagation.sweep import forward
from wideangle.propagation.tangent_moments import predict_tangent_diagonal
from wideangle.propagation.training import train_architectures

__all__ = [
    "compare_angles",
    "forward",
    "gradient_norms",
    "materialize",
    "mixed_moment",
    "nngp_kernel",
    "predict_angle_density",
    "predict_angles",
    "predict_gram",
    "predict_mean_variance",
    "predict_tangent_diagonal",
    "simulate_angles",
    "simulate_gram",
    "simulate_outputs",
    "tangent_kernel",
    "train_architectures",
]
