"""Networks under a width scaling, and what trains them. Imports PyTorch: only for import within functions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch

from wideangle.scalings import Exponents, Scaling

_EPSILON = 1e-19


class ScaledMLP(torch.nn.Module):
    """A fully connected network of one width whose layers have the multipliers of a scaling.

    Attributes
    ----------
    scaling, width
        As given; width is that of all hidden layers.
    weights, biases
        Parameters of layers 1 to L + 1, without their multipliers; ``biases`` is empty if there are none.
    """

    def __init__(
        self,
        scaling: Scaling,
        width: int,
        weights: Sequence[torch.Tensor],
        biases: Sequence[torch.Tensor],
        activation: torch.nn.Module,
    ) -> None:
        super().__init__()
        self.scaling, self.width, self.activation = scaling, width, activation
        self.weights = torch.nn.ParameterList(weights)
        self.biases = torch.nn.ParameterList(biases)

    def preactivations(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Pre-activations (sample, unit) of layers 1 to L and the output, for x (sample, feature)."""
        values: list[torch.Tensor] = []
        for layer, weight in enumerate(self.weights):
            z = torch.nn.functional.linear(x, weight) * power(self.width, -self.scaling.a[layer])
            if len(self.biases) > 0:
                z = z + self.biases[layer] * power(self.width, -self.scaling.bias_a[layer])
            values.append(z)
            x = self.activation(z)
        return values

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.preactivations(x)[-1]


class ScaledOptimizer:
    """Steps with the learning rates of a scaling; the first may have rates of its own.

    Attributes
    ----------
    optimizer
        The optimizer of PyTorch, with one group for each parameter.
    n_steps
        Number of steps taken.
    """

    def __init__(
        self, model: ScaledMLP, kind: str, learning_rate: float, first_learning_rates: tuple[float, ...]
    ) -> None:
        self.model, self.kind, self.n_steps = model, kind, 0
        self.learning_rate, self.first_learning_rates = learning_rate, first_learning_rates
        groups: list[dict[str, Any]] = [{"params": [p]} for p in (*model.weights, *model.biases)]
        # Gradients may be as small as a power of the width, and next to nothing is to be added to their size. With
        # less, steps would have no bound where squares of gradients are too small for float32.
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.SGD(groups, lr=learning_rate)
            if kind == "sgd"
            else torch.optim.Adam(groups, lr=learning_rate, eps=_EPSILON)
        )
        self._starts = [w.detach().clone() for w in model.weights[1:-1]] if model.scaling.drops_initial else []

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self.optimizer.zero_grad()

    def learning_rates(self) -> list[float]:
        """Learning rates of the next step, of the weights of layers 1 to L + 1 and, if there are any, of the biases."""
        first = self.n_steps == 0
        bases = self.first_learning_rates if first else (self.learning_rate,) * len(self.model.weights)
        weights, biases = self.model.scaling.learning_rate_exponents(self.kind, first=first)  # type: ignore[arg-type]
        exponents: Exponents = (*weights, *biases) if len(self.model.biases) > 0 else weights
        return [base * power(self.model.width, -c) for base, c in zip(itertools.cycle(bases), exponents)]

    def step(self) -> None:
        """Take a step; after the first, drop initial weights if the scaling says so."""
        for group, rate in zip(self.optimizer.param_groups, self.learning_rates(), strict=True):
            group["lr"] = rate
        self.optimizer.step()
        if self.n_steps == 0 and self._starts:
            with torch.no_grad():
                for weight, start in zip(self.model.weights[1:-1], self._starts, strict=True):
                    weight -= start
            self._starts = []
        self.n_steps += 1


def power(width: int, exponent: Fraction) -> float:
    """Return the width to an exponent."""
    return float(float(width) ** float(exponent))
