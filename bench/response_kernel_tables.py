"""Table of docs/performance.md on tangent kernels and responses of many small networks, and what it claims."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import wideangle as wa
from bench.tables import table
from bench.timing import in_pairs, seconds

N_NETWORKS = 1000
N_UNITS = 20
SIDE = 200
SECONDS_CLAIM = 2.0
AT_ONCE = 100  # Networks whose Jacobians torch.func makes at a time; more of them are not faster.
TURNS = 5

Array = NDArray[np.float64]


def networks() -> tuple[wa.NetworkWeights, Array]:
    """ReLU networks of two inputs, and a grid of inputs."""
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((N_NETWORKS, N_UNITS, 2)), rng.standard_normal((N_NETWORKS, 1, N_UNITS))]
    biases = [rng.standard_normal((N_NETWORKS, N_UNITS)), rng.standard_normal((N_NETWORKS, 1))]
    return wa.NetworkWeights(weights, biases=biases), rng.standard_normal((SIDE, 2))


def kernels_table(pairs: int, missed: list[str]) -> str:
    """Tangent kernels of an ensemble, against Jacobians of torch.func and against their factors by hand."""
    network, x = networks()
    tensors = [torch.tensor(part) for layer in range(2) for part in (network.weights[layer], network.biases[layer])]  # type: ignore[index]
    points = torch.tensor(x)
    rows = []
    for name, peer in (
        ("`torch.func`: `vmap` of `grad`, Jacobians times Jacobians", partial(jacobian_kernels, tensors, points)),
        ("PyTorch, derivatives by hand, three batched products", partial(factor_kernels, tensors, points)),
    ):
        theirs, ours, ratio = in_pairs(
            peer, partial(wa.response.tangent_kernel, network, x), pairs=min(pairs, TURNS), repeat_second=3
        )
        rows.append((name, theirs, ours, ratio))
        if ours.median > SECONDS_CLAIM:
            missed.append(f"tangent kernels: {ours.median:.2f} s, {SECONDS_CLAIM:g} claimed")
    steps = {activation: step_seconds(activation) for activation in ("relu", "tanh")}
    return (
        f"## Training response\n\nTangent kernels of {N_NETWORKS:,} networks 2-{N_UNITS}-1 with ReLU at {SIDE} x {SIDE}"
        " points in float64, in seconds, every core, results included.\n\n"
        + table(("peer", "peer, s", "wideangle, s", "times faster"), rows)
        + f'\n\n`training_response` of them with `kind="step"`, a real step for each network and point seen by all'
        f" points, which is {N_NETWORKS * SIDE:,} steps, with the kernels and what they are made of: "
        + ", ".join(f"{taken:.2g} s with {name}" for name, taken in steps.items())
        + "."
    )


def jacobian_kernels(tensors: list[torch.Tensor], points: torch.Tensor) -> torch.Tensor:
    """Gradients of every network at every point, and their products."""
    per_point = torch.func.vmap(torch.func.grad(output), (None, 0))
    per_network = torch.func.vmap(per_point, (0, None))
    kernels = []
    for first in range(0, N_NETWORKS, AT_ONCE):
        jacobians = per_network([tensor[first : first + AT_ONCE] for tensor in tensors], points)
        flat = torch.cat([part.reshape(AT_ONCE, SIDE, -1) for part in jacobians], dim=2)
        kernels.append(flat @ flat.mT)
    return torch.cat(kernels)


def output(parameters: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The output of one network at one point."""
    weights, biases, readout, offset = parameters
    return (readout @ torch.relu(weights @ x + biases) + offset)[0]


def factor_kernels(tensors: list[torch.Tensor], points: torch.Tensor) -> torch.Tensor:
    """The closed form for one hidden layer, in place where that saves memory."""
    weights, biases, readout, _ = tensors
    z = points @ weights.mT + biases[:, None]
    h, slopes = torch.relu(z), (z > 0) * readout
    kernels = slopes @ slopes.mT
    kernels *= points @ points.T + 1.0
    return torch.baddbmm(kernels, h, h.mT).add_(1.0)


def step_seconds(activation: str) -> float:
    """Time of the real steps of the whole ensemble."""
    network, x = networks()
    state = as_state(network, x, activation)
    return seconds(partial(wa.response.training_response, state, x, x, kind="step", learning_rate=0.01))


def as_state(network: wa.NetworkWeights, x: Array, activation: str) -> Any:
    """What training would return."""
    import xarray as xr

    state = xr.Dataset(
        {"x": (("sample", "feature"), x), "y": ("sample", np.sign(x[:, 0]))},
        attrs={
            "activation": activation,
            "loss": "cross-entropy",
            "weight_rates": [1.0, 1.0],
            "bias_rates": [1.0, 1.0],
        },
    )
    for layer, (below, here) in enumerate((("feature", "unit_1"), ("unit_1", "output")), start=1):
        state[f"weights_{layer}"] = (("network", here, below), network.weights[layer - 1])
        state[f"biases_{layer}"] = (("network", here), network.biases[layer - 1])  # type: ignore[index]
    return state
