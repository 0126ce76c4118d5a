"""Which networks the laws hold for."""

from __future__ import annotations

from typing import Any

from wideangle.network import MLP


def check_network(net: Any) -> MLP:
    """Return ``net`` if it is a network."""
    if isinstance(net, MLP):
        return net
    raise TypeError(f"net must be a wideangle.MLP, got {net!r} ({type(net).__name__}); give wa.MLP(widths)")


def check_angle_network(net: Any) -> MLP:
    """Return ``net`` if it is a bias-free ReLU network, for which the angle is a Markov chain on its own."""
    network = check_network(net)
    if network.activation != "relu":
        raise ValueError(
            f"net.activation must be 'relu', got {network.activation!r}; angle laws are known for ReLU only"
        )
    if network.bias_variance != 0.0:
        raise ValueError(
            f"net.bias_variance must be 0, got {network.bias_variance!r}; with biases the angle depends on the norms "
            "too"
        )
    return network


def check_homogeneous_network(net: Any, *, biases_allowed: bool) -> MLP:
    """Return ``net`` if its activation is homogeneous of degree 1, so that norms multiply from layer to layer."""
    network = check_network(net)
    if not network.phi.homogeneous:
        raise ValueError(
            f"net.activation must be 'relu', 'leaky_relu', 'abs' or 'linear', got {network.activation!r}; "
            "the law is known for these only"
        )
    if network.bias_variance != 0.0 and not biases_allowed:
        raise ValueError(
            f"net.bias_variance must be 0, got {network.bias_variance!r}; the law is known without biases only"
        )
    return network
