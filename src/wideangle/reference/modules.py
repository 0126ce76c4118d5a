"""The activations as PyTorch modules. Imports PyTorch: only for import within functions."""

from __future__ import annotations

import torch

from wideangle.activations import Activation, parse_activation


class Abs(torch.nn.Module):
    """Absolute value."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.abs(x)


class Erf(torch.nn.Module):
    """Error function."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.erf(x)


class Sin(torch.nn.Module):
    """Sine."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(x)


_PLAIN: dict[str, type[torch.nn.Module]] = {
    "relu": torch.nn.ReLU,
    "abs": Abs,
    "erf": Erf,
    "tanh": torch.nn.Tanh,
    "gelu": torch.nn.GELU,
    "elu": torch.nn.ELU,
    "silu": torch.nn.SiLU,
    "sin": Sin,
    "sigmoid": torch.nn.Sigmoid,
}


def activation_module(phi: Activation) -> torch.nn.Module:
    """Return a module that applies ``phi``, which is not linear."""
    return torch.nn.LeakyReLU(phi.slope) if phi.name == "leaky_relu" else _PLAIN[phi.name]()


def activation_of(module: torch.nn.Module) -> Activation | None:
    """Return the activation that a module applies, or None if it is not one of ours."""
    if isinstance(module, torch.nn.LeakyReLU):
        return Activation("leaky_relu", module.negative_slope)
    if isinstance(module, torch.nn.GELU) and module.approximate != "none":
        return None
    if isinstance(module, torch.nn.ELU) and module.alpha != 1.0:
        return None
    # A class derived from one of these may do anything.
    names = [name for name, known in _PLAIN.items() if type(module) is known]
    return parse_activation(names[0]) if names else None


def passes_through(module: torch.nn.Module) -> bool:
    """Whether inputs (input, feature) leave a module as they are."""
    if isinstance(module, torch.nn.Flatten):
        return (module.start_dim, module.end_dim) == (1, -1)
    return isinstance(module, torch.nn.Identity) or (isinstance(module, torch.nn.Dropout) and not module.training)
