"""Infinite-width kernels without wideangle: the textbook recursion in NumPy.

neural-tangents, the library one would have used, is archived and fails at import on today's JAX; what it computed for a
fully connected ReLU network is this recursion, for whole matrices. Both forms take the angle from the cosine, so they
lose half the digits where inputs are nearly parallel, and the diagonal of the tangent kernel among them.

    python -m bench.kernels_peer [--pairs N]

prints nanoseconds per entry and layer of both and of wideangle, measured in turns.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import numpy.typing as npt

import wideangle as wa
from bench.peers import available_cores
from bench.timing import in_pairs

Array = npt.NDArray[np.float64]
Kernels = tuple[Array, Array]

INPUTS, FEATURES, DEPTH = 2_000, 64, 10
WEIGHT_VARIANCE = 2.0

# Rows a block, the fastest of 8, 16, 32, 64, 128, 250, 500 and 1000.
BLOCK = 500


def numpy_plain(x: Array, depth: int) -> Kernels:
    """NNGP and tangent kernel of a bias-free ReLU network, whole matrices, as one writes it first."""
    kernel = WEIGHT_VARIANCE * x @ x.T / x.shape[1]
    tangent = kernel
    for _ in range(depth):
        norms = np.sqrt(np.outer(np.diag(kernel), np.diag(kernel)))
        cosine = np.clip(kernel / norms, -1.0, 1.0)
        angle = np.arccos(cosine)
        kernel = WEIGHT_VARIANCE * norms / (2.0 * np.pi) * (np.sin(angle) + (np.pi - angle) * cosine)
        tangent = kernel + tangent * WEIGHT_VARIANCE * (np.pi - angle) / (2.0 * np.pi)
    return kernel, tangent


def numpy_blocks(x: Array, depth: int) -> Kernels:
    """The same for blocks of rows, in place, without sines, on every core."""
    squares = WEIGHT_VARIANCE * np.einsum("ij,ij->i", x, x) / x.shape[1]
    nngp, tangent = np.empty((2, len(x), len(x)))
    roots = np.sqrt(squares)

    def block(start: int) -> None:
        rows = slice(start, start + BLOCK)
        cosine = WEIGHT_VARIANCE / x.shape[1] * (x[rows] @ x.T)
        cosine /= roots
        cosine /= roots[rows, None]
        # The tangent kernel over the norms, which a weight variance of 2 keeps.
        part, rest = cosine.copy(), np.empty_like(cosine)
        for _ in range(depth):
            np.clip(cosine, -1.0, 1.0, out=cosine)
            angle = np.arccos(cosine)
            np.subtract(1.0, angle / np.pi, out=angle)
            np.multiply(cosine, cosine, out=rest)
            np.subtract(1.0, rest, out=rest)
            np.sqrt(rest, out=rest)
            rest /= np.pi
            cosine *= angle
            cosine += rest
            part *= angle
            part += cosine
        norms = roots[rows, None] * roots
        np.multiply(cosine, norms, out=nngp[rows])
        np.multiply(part, norms, out=tangent[rows])

    with ThreadPoolExecutor(available_cores()) as pool:
        list(pool.map(block, range(0, len(x), BLOCK)))
    return nngp, tangent


PEERS: dict[str, Callable[[Array, int], Kernels]] = {
    "NumPy, textbook recursion, whole matrices, one core": numpy_plain,
    "NumPy, textbook recursion, blocks, every core": numpy_blocks,
}


def ours(x: Array, depth: int) -> Kernels:
    """NNGP and tangent kernel from the call to the finished Dataset."""
    result = wa.propagation.tangent_kernel(wa.MLP((1,) * depth), x)
    return result.nngp.values, result.kernel.values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7, help="turns of every comparison (default 7)")
    arguments = parser.parse_args()
    x = np.random.default_rng(1).standard_normal((INPUTS, FEATURES))
    to_entry = 1e9 / INPUTS**2 / DEPTH
    print(f"{INPUTS} x {INPUTS} inputs of {FEATURES} features, {DEPTH} ReLU layers: ns per entry and layer")
    for name, peer in PEERS.items():
        for theirs, mine in zip(peer(x[:200], DEPTH), ours(x[:200], DEPTH), strict=True):
            np.testing.assert_allclose(theirs, mine, atol=1e-6)
        first, second, ratio = in_pairs(partial(peer, x, DEPTH), partial(ours, x, DEPTH), pairs=arguments.pairs)
        print(f"{name}: {first.scaled(to_entry)}, wideangle {second.scaled(to_entry)}, {ratio} times faster")


if __name__ == "__main__":
    main()
