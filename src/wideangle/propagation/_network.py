"""Which networks the angle laws hold for."""

from __future__ import annotations

from typing import Any

from wideangle.network import MLP


def check_angle_network(net: Any) -> MLP:
    """Return ``net`` if it is a bias-free ReLU network, for which the angle is a Markov chain on its own."""
    if not isinstance(net, MLP):
        raise TypeError(f"net must be a wideangle.MLP, got {net!r} ({type(net).__name__}); give wa.MLP(widths)")
    if net.activation != "relu":
        raise ValueError(f"net.activation must be 'relu', got {net.activation!r}; angle laws are known for ReLU only")
    if net.bias_variance != 0.0:
        raise ValueError(
            f"net.bias_variance must be 0, got {net.bias_variance!r}; with biases the angle depends on the norms too"
        )
    return net
