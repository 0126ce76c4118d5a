"""Ensembles of random networks with real weights in PyTorch: ``torch.randn`` and ``torch.bmm``.

Each peer sends inputs (input, feature) through ``n_networks`` bias-free ReLU networks of ``depth`` layers as
wide as the input and a linear readout, in float32, and returns the outputs (network, input).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.peers import available_cores

Outputs = npt.NDArray[np.float32]
Peer = Callable[[npt.NDArray[Any], int, int], Outputs]

# Weights a block, the fastest of 2^16, 2^18, 2^20 and 2^22.
BLOCK_WEIGHTS = 2**18


def torch_plain(x: npt.NDArray[Any], depth: int, n_networks: int) -> Outputs:
    """PyTorch's own threads."""
    import torch

    return _run(x, depth, n_networks, torch.Generator().manual_seed(1))


def torch_blocks(x: npt.NDArray[Any], depth: int, n_networks: int) -> Outputs:
    """A thread with a generator of its own for each core; ``torch.randn`` by itself draws on one."""
    import torch

    cores = available_cores()
    shares = [n_networks // cores + (core < n_networks % cores) for core in range(cores)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(cores) as pool:
            generators = [torch.Generator().manual_seed(core) for core in range(cores)]
            parts = list(pool.map(lambda share, generator: _run(x, depth, share, generator), shares, generators))
    finally:
        torch.set_num_threads(threads)
    return np.concatenate(parts)


def _run(x: npt.NDArray[Any], depth: int, n_networks: int, generator: Any) -> Outputs:
    import torch

    width = x.shape[1]
    start = torch.as_tensor(x.T.copy(), dtype=torch.float32)
    scale = (2.0 / width) ** 0.5
    block = max(BLOCK_WEIGHTS // width**2, 1)
    outputs = []
    with torch.inference_mode():
        for first in range(0, n_networks, block):
            networks = min(block, n_networks - first)
            values = start.expand(networks, -1, -1)
            for _ in range(depth):
                weights = torch.randn(networks, width, width, generator=generator)
                values = torch.bmm(weights, values).mul_(scale).relu_()
            readout = torch.randn(networks, 1, width, generator=generator)
            outputs.append(torch.bmm(readout, values)[:, 0].mul_(scale))
    return torch.cat(outputs).numpy()


PEERS: dict[str, Peer] = {
    "PyTorch, randn and bmm, its own threads": torch_plain,
    "PyTorch, randn and bmm, a generator for each core": torch_blocks,
}
