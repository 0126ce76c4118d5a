"""The Gram matrix chain of ``simulate_gram`` in PyTorch: what a user would otherwise write, as fast as it would go.

Given the Gram matrix Q of a layer, the pre-activations of the next are rows of independent normals times a Cholesky
factor of weight_variance Q; no weight matrices are formed. Run as a script, this prints times in pairs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

import wideangle as wa
from bench.peers import _blocks, _shares, available_cores
from bench.timing import in_pairs

Array = npt.NDArray[np.float64]

# Samples a block, the fastest of 8, 32, 128 and 512 at 10 inputs and width 256.
TORCH_BLOCK = 32


def torch_gram(
    gram0: Array, widths: Sequence[int], n_samples: int, seed: int, *, rows: str = "float32", sums: str = "float32"
) -> Array:
    """Mean Gram matrix after each layer of random ReLU networks: one thread and one generator a core, in blocks.

    ``rows`` is the type of the normals and the activations, ``sums`` that of the products. The factors are always of
    float64 matrices: in float32 Cholesky's method fails after a few layers. Inputs come before neurons, which makes
    the products three times as fast as the other way round.
    """
    import torch

    row_type, sum_type = getattr(torch, rows), getattr(torch, sums)
    start = torch.from_numpy(gram0)

    def share(samples: int, stream: int) -> Any:
        generator = torch.Generator().manual_seed(stream)
        total = torch.zeros(len(widths), *gram0.shape, dtype=torch.float64)
        with torch.inference_mode():
            for block in _blocks(samples, TORCH_BLOCK):
                gram = start.expand(block, -1, -1)
                for layer, width in enumerate(widths):
                    factor = torch.linalg.cholesky_ex(2.0 * gram)[0].to(row_type)
                    normals = torch.empty(block, len(gram0), width, dtype=row_type).normal_(generator=generator)
                    values = torch.bmm(factor, normals).relu_().to(sum_type)
                    gram = torch.bmm(values, values.mT).to(torch.float64) / width
                    total[layer] += gram.sum(0)
        return total

    streams = [seed + 1_000_003 * core for core in range(available_cores())]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(len(streams)) as pool:
            totals = list(pool.map(share, _shares(n_samples), streams))
    finally:
        torch.set_num_threads(threads)
    return np.asarray(sum(totals) / n_samples)


def torch_gram_plain(gram0: Array, widths: Sequence[int], n_samples: int, seed: int) -> Array:
    """The same in float32 on whole tensors, with PyTorch's own threads."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    means = []
    with torch.inference_mode():
        gram = torch.from_numpy(gram0).expand(n_samples, -1, -1)
        for width in widths:
            factor = torch.linalg.cholesky_ex(2.0 * gram)[0].to(torch.float32)
            values = torch.relu(torch.randn(n_samples, width, len(gram0), generator=generator) @ factor.mT)
            gram = (values.mT @ values).to(torch.float64) / width
            means.append(gram.mean(0).numpy())
    return np.stack(means)


def wideangle_gram(gram0: Array, widths: Sequence[int], n_samples: int, seed: int) -> Array:
    """The same from ``simulate_gram``, which also gives variances, determinants and ranks."""
    return np.asarray(wa.propagation.simulate_gram(wa.MLP(widths), gram0, n_samples=n_samples, seed=seed)["mean"][1:])


PEERS: dict[str, Callable[[Array, Sequence[int], int, int], Array]] = {
    "PyTorch, float32, whole tensors, its own threads": torch_gram_plain,
    "PyTorch, float32, blocks, every core": torch_gram,
    "PyTorch, rows in float32 and products in float64 as here, blocks, every core": partial(torch_gram, sums="float64"),
    "PyTorch, float64, blocks, every core": partial(torch_gram, rows="float64", sums="float64"),
}


def inputs_at_random(n_inputs: int, dimension: int = 64) -> Array:
    """Return the Gram matrix of independent normal inputs."""
    x = np.random.default_rng(0).standard_normal((n_inputs, dimension))
    return np.asarray(x @ x.T / dimension, dtype=np.float64)


def main() -> None:
    """Print the times of every peer beside those of wideangle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--depth", type=int, default=10)
    parser.add_argument("--samples", type=int, default=8000)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    gram0 = inputs_at_random(options.inputs)
    widths = (options.width,) * options.depth
    work = options.samples * options.depth * options.width
    for name, peer in PEERS.items():
        run = partial(peer, gram0, widths, options.samples, 1)
        own = partial(wideangle_gram, gram0, widths, options.samples, 1)
        theirs, ours, ratio = in_pairs(run, own, pairs=options.pairs, repeat_second=3)
        times = f"{theirs.scaled(1e9 / work)} ns a neuron and sample; wideangle {ours.scaled(1e9 / work)} ns"
        print(f"{name}: {times}; {ratio} times faster")


if __name__ == "__main__":
    main()
