"""Tables of docs/performance.md on ensembles in training, and what they claim."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

import wideangle as wa
from bench.tables import table
from bench.timing import by_path, in_pairs
from bench.training_peer import RATE, WIDTH, Array, eager_steps, vmap_steps

N_NETWORKS = 1000
N_STEPS = 20_000
PEER_STEPS = {"eager": 500, "vmap": 100}
CLAIMED_MICROSECONDS = 0.5


def data() -> tuple[Array, Array]:
    """A hundred points of the plane with the labels of two half-planes."""
    x = np.random.default_rng(0).standard_normal((100, 2))
    return x, np.sign(x[:, 0])


def ours(n_threads: int | None = None) -> object:
    """The ensemble from the call to the finished Dataset."""
    return wa.response.simulate_training(
        wa.MLP((WIDTH,), bias_variance=1.0), data(), n_networks=N_NETWORKS, n_steps=N_STEPS, batch=1,
        learning_rate=RATE, seed=1, record=(0, N_STEPS), n_threads=n_threads,
    )  # fmt: skip


def training_table(pairs: int, missed: list[str]) -> str:
    """One step on a single sample, per network, against PyTorch with one network and with all of them."""
    x, y = data()
    steps = PEER_STEPS["vmap"]
    peers = {
        "PyTorch eager, one network": (partial(eager_steps, x, y, PEER_STEPS["eager"]), PEER_STEPS["eager"]),
        "torch.func.vmap, float64": (partial(vmap_steps, x, y, steps, N_NETWORKS), steps * N_NETWORKS),
        "torch.func.vmap, float32": (
            partial(vmap_steps, x, y, steps, N_NETWORKS, dtype=torch.float32),
            steps * N_NETWORKS,
        ),
    }
    rows = []
    each = 1e6 / (N_STEPS * N_NETWORKS)
    for name, (peer, work) in peers.items():
        theirs, our_time, ratio = in_pairs(peer, ours, pairs=pairs)
        rows.append((name, theirs.scaled(1e6 / work), our_time.scaled(each), ratio.scaled(1e6 / work / each)))
        if our_time.median * each > CLAIMED_MICROSECONDS:
            missed.append(f"simulate_training: {our_time.median * each:.2g} us a step, {CLAIMED_MICROSECONDS} claimed")
    one, all_threads, ratio = in_pairs(partial(ours, n_threads=1), ours, pairs=pairs)
    rows.append(("wideangle, one thread", one.scaled(each), all_threads.scaled(each), ratio))
    return (
        f"## Training ensembles\n\nOne step of SGD on a single sample of a 2-{WIDTH}-1 ReLU network with cross-entropy,"
        f" per network: `simulate_training` of {N_NETWORKS:,} networks for {N_STEPS:,} steps in float64, every core,"
        " from the call to the finished Dataset, in microseconds.\n\n"
        + table(("peer", "peer, us a step", "wideangle, us a step", "times faster"), rows)
    )


def path_table(pairs: int, missed: list[str]) -> str:
    """The same ensemble with each instruction set that this processor has."""
    times = by_path(partial(ours, n_threads=1), turns=pairs)
    rows = [(f"`{path}`", time.scaled(1e9 / (N_STEPS * N_NETWORKS))) for path, time in times.items()]
    return "The same on one thread by instruction set; the results are the same bit for bit.\n\n" + table(
        ("path", "ns a step"), rows
    )
