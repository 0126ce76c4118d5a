"""The figure's ensemble without wideangle: what a user would otherwise write, as fast as it goes in each tool.

Every peer simulates ``n_samples`` random ReLU networks of the given widths at initialisation and returns the mean of
ln sin^2(theta) after each layer. None of them forms weight matrices: given the angle of the layer below, the
pre-activations of two inputs are correlated normal pairs, independent from neuron to neuron, so a layer of n neurons
needs 2n normals instead of n^2. NumPy and PyTorch come twice: in the form that one writes first, and in the fastest
form that was found, with one thread and one generator a core, in-place arithmetic and the samples cut into blocks.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Peer = Callable[[Sequence[int], float, int, int], Array]

# Samples a block, the fastest of 16, 64, 256 and 1250 at width 256.
NUMPY_BLOCK = 256
TORCH_BLOCK = 1250


def available_cores() -> int:
    """Number of cores this process may run on."""
    return len(os.sched_getaffinity(0))


def numpy_pairs(widths: Sequence[int], theta0: float, n_samples: int, seed: int) -> Array:
    """Two correlated normals a neuron in NumPy, double precision, every core."""

    def share(samples: int, stream: np.random.SeedSequence) -> Array:
        rng = np.random.default_rng(stream)
        total = np.zeros(len(widths))
        for block in _blocks(samples, NUMPY_BLOCK):
            cosine = np.full(block, math.cos(theta0))
            for layer, width in enumerate(widths):
                first, second = rng.standard_normal((2, block, width))
                second *= np.sqrt(1.0 - cosine**2)[:, None]
                second += cosine[:, None] * first
                np.maximum(first, 0.0, out=first)
                np.maximum(second, 0.0, out=second)
                norms = np.einsum("sn,sn->s", first, first) * np.einsum("sn,sn->s", second, second)
                cosine = np.einsum("sn,sn->s", first, second) / np.sqrt(norms)
                total[layer] += np.log1p(-(cosine**2)).sum()
        return total

    streams = np.random.SeedSequence(seed).spawn(available_cores())
    with ThreadPoolExecutor(len(streams)) as pool:
        totals: Array = np.sum(list(pool.map(share, _shares(n_samples), streams)), axis=0)
    return totals / n_samples


def numpy_plain(widths: Sequence[int], theta0: float, n_samples: int, seed: int) -> Array:
    """The same on whole arrays and one core."""
    rng = np.random.default_rng(seed)
    means = np.zeros(len(widths))
    cosine = np.full((n_samples, 1), math.cos(theta0))
    for layer, width in enumerate(widths):
        first, second = rng.standard_normal((2, n_samples, width))
        second = np.maximum(cosine * first + np.sqrt(1.0 - cosine**2) * second, 0.0)
        first = np.maximum(first, 0.0)
        norms = (first**2).sum(axis=1) * (second**2).sum(axis=1)
        cosine = ((first * second).sum(axis=1) / np.sqrt(norms))[:, None]
        means[layer] = np.log1p(-(cosine**2)).mean()
    return means


def torch_pairs(widths: Sequence[int], theta0: float, n_samples: int, seed: int) -> Array:
    """Two correlated normals a neuron in PyTorch, single precision, every core.

    ``torch.randn`` draws on one thread whatever ``torch.set_num_threads`` says; a generator for each of several
    threads uses every core. Single precision is enough for a theta that stays well above 3e-4, as it does here.
    """
    import torch

    def share(samples: int, stream: int) -> Array:
        generator = torch.Generator().manual_seed(stream)
        total = np.zeros(len(widths))
        with torch.inference_mode():
            for block in _blocks(samples, TORCH_BLOCK):
                cosine = torch.full((block, 1), math.cos(theta0))
                pair = torch.empty(2, block, max(widths))
                for layer, width in enumerate(widths):
                    first, second = pair[..., :width].normal_(generator=generator)
                    second.mul_(torch.sqrt(1.0 - cosine**2)).addcmul_(cosine, first)
                    first.relu_()
                    second.relu_()
                    norms = first.square().sum(1) * second.square().sum(1)
                    cosine = ((first * second).sum(1) / norms.sqrt())[:, None]
                    total[layer] += float(torch.log1p(-cosine.square()).sum())
        return total

    streams = [seed + 1_000_003 * core for core in range(available_cores())]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(len(streams)) as pool:
            totals: Array = np.sum(list(pool.map(share, _shares(n_samples), streams)), axis=0)
    finally:
        torch.set_num_threads(threads)
    return totals / n_samples


def torch_plain(widths: Sequence[int], theta0: float, n_samples: int, seed: int) -> Array:
    """The same on whole tensors, with PyTorch's own threads."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    means = np.zeros(len(widths))
    with torch.inference_mode():
        cosine = torch.full((n_samples, 1), math.cos(theta0))
        for layer, width in enumerate(widths):
            first, second = torch.randn(2, n_samples, width, generator=generator)
            second = torch.relu(cosine * first + torch.sqrt(1.0 - cosine**2) * second)
            first = torch.relu(first)
            norms = first.square().sum(1) * second.square().sum(1)
            cosine = ((first * second).sum(1) / norms.sqrt())[:, None]
            means[layer] = float(torch.log1p(-cosine.square()).mean())
    return means


def numba_recursion(widths: Sequence[int], theta0: float, n_samples: int, seed: int) -> Array:
    """The recursion that wideangle uses, as a loop over neurons in Numba, double precision, every core."""
    recursion = _compiled_recursion()
    layers = np.asarray(widths, dtype=np.int64)

    def share(samples: int, stream: np.random.SeedSequence) -> Array:
        total: Array = recursion(layers, theta0, samples, np.random.default_rng(stream))
        return total

    streams = np.random.SeedSequence(seed).spawn(available_cores())
    with ThreadPoolExecutor(len(streams)) as pool:
        totals: Array = np.sum(list(pool.map(share, _shares(n_samples), streams)), axis=0)
    return totals / n_samples


PEERS: dict[str, Peer] = {
    "NumPy, two normals a neuron, whole arrays, one core": numpy_plain,
    "NumPy, two normals a neuron, blocks, every core": numpy_pairs,
    "PyTorch, two normals a neuron, whole tensors, its own threads": torch_plain,
    "PyTorch, two normals a neuron, blocks, every core": torch_pairs,
    "Numba, wideangle's recursion as a loop over neurons, every core": numba_recursion,
}


def _shares(n_samples: int) -> list[int]:
    cores = available_cores()
    return [n_samples // cores + (core < n_samples % cores) for core in range(cores)]


def _blocks(samples: int, block: int) -> list[int]:
    whole, rest = divmod(samples, block)
    return [block] * whole + [rest] * (rest > 0)


_recursion_cache: list[Any] = []


def _compiled_recursion() -> Any:
    """Compile on first use, so that importing this module does not need Numba."""
    if not _recursion_cache:
        import numba

        _recursion_cache.append(numba.njit(nogil=True)(_recursion))
    return _recursion_cache[0]


def _recursion(widths: npt.NDArray[np.int64], theta0: float, n_samples: int, rng: np.random.Generator) -> Array:
    """Sum of ln sin^2(theta) by layer over the samples; no sample of the benchmark's widths dies or collapses.

    A neuron's pair of pre-activations is R (cos psi, cos(psi - theta)) with R^2 / 2 exponential and psi uniform. Both
    are positive on an arc of length pi - theta, and one alone on an arc of length theta each.
    """
    total = np.zeros(len(widths))
    for _ in range(n_samples):
        log_sin2 = 2.0 * np.log(np.sin(theta0))
        theta = theta0
        for layer in range(len(widths)):
            sum0, sum_cos, sum_sin, only_a, only_b = 0.0, 0.0, 0.0, 0.0, 0.0
            for _neuron in range(widths[layer]):
                place = 2.0 * np.pi * rng.random()
                if place < np.pi - theta:
                    energy = -np.log(1.0 - rng.random())
                    angle = 2.0 * place - (np.pi - theta)
                    sum0 += energy
                    sum_cos += energy * np.cos(angle)
                    sum_sin += energy * np.sin(angle)
                elif place < np.pi:
                    only_a += -2.0 * np.log(1.0 - rng.random()) * np.sin(place - (np.pi - theta)) ** 2
                elif place < np.pi + theta:
                    only_b += -2.0 * np.log(1.0 - rng.random()) * np.sin(place - np.pi) ** 2
            cosine, sine = np.cos(theta), np.sin(theta)
            both_a = sum0 + sum_cos * cosine - sum_sin * sine
            both_b = sum0 + sum_cos * cosine + sum_sin * sine
            one_sided = (only_a * both_b + only_b * both_a + only_a * only_b) / sine**2
            determinant = sum0**2 - sum_cos**2 - sum_sin**2 + one_sided
            log_sin2 += np.log(determinant / ((both_a + only_a) * (both_b + only_b)))
            theta = np.arcsin(np.exp(0.5 * log_sin2))
            total[layer] += log_sin2
    return total
