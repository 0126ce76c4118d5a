"""Inputs through networks with given weights in PyTorch, in float32 and without gradients.

Each peer takes the weights, arrays (network, units, inputs), and inputs (input, feature), makes what PyTorch needs of
them, and returns a function to be timed: it sends the inputs through ReLU networks with a linear last layer and returns
the outputs (network, input, output). PyTorch uses the threads that it is set to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Peer = Callable[[Sequence[Array], Array], Callable[[], Array]]


def torch_bmm(weights: Sequence[Array], x: Array) -> Callable[[], Array]:
    """``torch.bmm`` for each layer; the fastest form found for many small networks."""
    import torch

    matrices = [torch.tensor(matrix).transpose(1, 2) for matrix in weights]
    inputs = torch.tensor(x).expand(len(weights[0]), *x.shape)

    @torch.inference_mode()
    def run() -> Any:
        h = inputs
        for matrix in matrices[:-1]:
            h = torch.bmm(h, matrix).relu_()
        return torch.bmm(h, matrices[-1]).numpy()

    return run


def torch_vmap(weights: Sequence[Array], x: Array) -> Callable[[], Array]:
    """``torch.vmap`` over ``torch.func.functional_call`` of one ``torch.nn.Sequential``."""
    import torch

    model = _sequential([matrix[0] for matrix in weights])
    parameters = {f"{2 * layer}.weight": torch.tensor(matrix) for layer, matrix in enumerate(weights)}
    inputs = torch.tensor(x)
    # One without gradients for both: vmap inside inference mode warns.
    call = torch.vmap(lambda some: torch.func.functional_call(model, some, (inputs,)))

    @torch.no_grad()
    def run() -> Any:
        return call(parameters).numpy()

    return run


def torch_modules(weights: Sequence[Array], x: Array) -> Callable[[], Array]:
    """A ``torch.nn.Sequential`` for each network, one after the other; for one network, the usual form."""
    import torch

    models = [_sequential(matrices) for matrices in zip(*weights, strict=True)]
    inputs = torch.tensor(x)

    @torch.inference_mode()
    def run() -> Any:
        return torch.stack([model(inputs) for model in models]).numpy()

    return run


def torch_matmul(weights: Sequence[Array], x: Array) -> Callable[[], Array]:
    """A loop of ``torch.matmul`` over the layers of one network."""
    import torch

    if len(weights[0]) != 1:
        raise ValueError(f"weights must be those of one network, got {len(weights[0])}")
    matrices = [torch.tensor(matrix[0]).T for matrix in weights]
    inputs = torch.tensor(x)

    @torch.inference_mode()
    def run() -> Any:
        h = inputs
        for matrix in matrices[:-1]:
            h = (h @ matrix).relu_()
        return (h @ matrices[-1])[None].numpy()

    return run


MANY: dict[str, Peer] = {
    "PyTorch, bmm": torch_bmm,
    "PyTorch, vmap of functional_call": torch_vmap,
    "PyTorch, a module for each network": torch_modules,
}
ONE: dict[str, Peer] = {"PyTorch, Sequential": torch_modules, "PyTorch, matmul": torch_matmul}


def draw(width: int, depth: int, n_networks: int, n_inputs: int) -> tuple[list[Array], Array]:
    """Weights of ``depth`` square layers and inputs for all of them."""
    rng = np.random.default_rng(0)
    scale = np.float32((2.0 / width) ** 0.5)
    weights = [rng.standard_normal((n_networks, width, width), dtype=np.float32) * scale for _ in range(depth)]
    return weights, rng.standard_normal((n_inputs, width), dtype=np.float32)


def _sequential(matrices: Sequence[Array]) -> Any:
    import torch

    layers: list[torch.nn.Module] = []
    for matrix in matrices:
        layer = torch.nn.Linear(matrix.shape[1], matrix.shape[0], bias=False, device="meta")
        layer.weight = torch.nn.Parameter(torch.tensor(matrix), requires_grad=False)
        layers += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])
