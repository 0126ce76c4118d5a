"""Which networks the laws hold for."""

from __future__ import annotations

from typing import Any

from wideangle.network import MLP


def check_angle_network(net: Any) -> MLP:
    """Return ``net`` if it is a bias-free ReLU network, for which the angle is a Markov chain on its own."""
    check_network(net)
    if net.activation != "relu":
        raise ValueError(f"net.activation must be 'relu', got {net.activation!r}; angle laws are known for ReLU only")
    if net.bias_variance != 0.0:
        raise ValueError(
            f"net.bias_variance must be 0, got {net.bias_variance!r}; with biases the angle depends on the norms too"
        )
    return net


def check_network(net: Any) -> MLP:
    """Return ``net`` if it is a network."""
    if not isinstance(net, MLP):
        raise TypeError(f"net must be a wideangle.MLP, got {net!r} ({type(net).__name__}); give wa.MLP(widths)")
    return net


def check_homogeneous_network(net: Any, *, biases_allowed: bool) -> MLP:
    """Return ``net`` if its activation is homogeneous of degree 1, so that norms multiply from layer to layer."""
    check_network(net)
    if not net.phi.homogeneous:
        raise ValueError(
            f"net.activation must be homogeneous, got {net.activation!r}; the law is known for 'relu', 'leaky_relu', "
            "'abs' and 'linear'"
        )
    if net.bias_variance != 0.0 and not biases_allowed:
        raise ValueError(f"net.bias_variance must be 0, got {net.bias_variance!r}; the law is known without biases")
    return net
