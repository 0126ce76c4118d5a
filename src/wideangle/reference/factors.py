"""Networks whose features do not mix, in PyTorch. Imports PyTorch: only for import within functions."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


class DiagonalNetwork(torch.nn.Module):
    """A chain of factors for each feature: f(x) = sum over k of x_k times the product of its factors."""

    def __init__(self, factors: NDArray[np.float64]) -> None:
        """Take factors (factor, mode)."""
        super().__init__()
        self.factors = torch.nn.Parameter(torch.tensor(factors, dtype=torch.float64))

    def modes(self) -> torch.Tensor:
        """Product of the factors of each mode."""
        return self.factors.prod(dim=0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.modes()


class TwoLayerNetwork(torch.nn.Module):
    """One hidden ReLU layer without biases: f(x) = sum over i of z_i relu(w_i x)."""

    def __init__(self, weights: NDArray[np.float64], readout: NDArray[np.float64]) -> None:
        """Take weights (neuron, feature) and readout (neuron)."""
        super().__init__()
        self.weights = torch.nn.Parameter(torch.tensor(weights, dtype=torch.float64))
        self.readout = torch.nn.Parameter(torch.tensor(readout, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x @ self.weights.T) @ self.readout
