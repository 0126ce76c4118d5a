"""Tables of docs/performance.md beyond the angle: many inputs, real networks, given weights, infinite width.

Each function times its job beside its peers turn by turn and returns Markdown; what falls short of a claim goes to
``missed``. The claims are for the rows in bold.
"""

from __future__ import annotations

from functools import partial

import numpy as np

import wideangle as wa
from bench import forward_peer, gram_peer, kernels_peer, network_peers
from bench.tables import table
from bench.timing import Spread, in_pairs

NETWORKS_CLAIM, GRAM_CLAIM, SMALL_NETWORKS_CLAIM, LARGE_NETWORK_CLAIM = 4.0, 10.0, 2.0, 1.0
GRAM_CLAIMED = ("PyTorch, float32, whole tensors, its own threads", "PyTorch, float64, blocks, every core")
KERNEL_NANOSECONDS_CLAIM = 5.0


def networks_table(pairs: int, missed: list[str]) -> str:
    """Ensembles of real networks."""
    rows = []
    for width, n_networks in ((256, 200), (64, 3000)):
        net = wa.MLP((width,) * 8)
        for n_inputs in (1, 10, 64):
            x = np.random.default_rng(0).normal(size=(n_inputs, width))
            own = partial(wa.propagation.simulate_outputs, net, x, n_networks=n_networks, seed=1)
            weights = n_networks * 8 * width**2
            for name, peer in network_peers.PEERS.items():
                theirs, ours, ratio = in_pairs(partial(peer, x, 8, n_networks), own, pairs=pairs, repeat_second=3)
                claimed = width == 256 and n_inputs < 64
                label = f"{width}, {n_inputs}"
                each = (theirs.scaled(1e9 / weights), ours.scaled(1e9 / weights))
                rows.append((name, label, *each, bold(ratio, claimed)))
                check(f"networks of width {label} inputs, {name}", ratio, NETWORKS_CLAIM if claimed else 0.0, missed)
    return "## Real networks\n\n`simulate_outputs`, 8 ReLU layers, in nanoseconds per weight.\n\n" + table(
        ("peer", "width, inputs", "peer, ns", "wideangle, ns", "times faster"), rows
    )


def gram_table(pairs: int, missed: list[str]) -> str:
    """Gram matrices of many inputs."""
    rows = []
    for n_inputs, n_samples in ((10, 2000), (32, 400)):
        gram0, widths = gram_peer.inputs_at_random(n_inputs), (256,) * 10
        work = n_samples * sum(widths)
        own = partial(gram_peer.wideangle_gram, gram0, widths, n_samples, 1)
        for name, peer in gram_peer.PEERS.items():
            theirs, ours, ratio = in_pairs(
                partial(peer, gram0, widths, n_samples, 1), own, pairs=pairs, repeat_second=3
            )
            claimed = n_inputs == 10 and name in GRAM_CLAIMED
            rows.append((name, str(n_inputs), theirs.scaled(1e9 / work), ours.scaled(1e9 / work), bold(ratio, claimed)))
            check(f"Gram matrices of {n_inputs} inputs, {name}", ratio, GRAM_CLAIM if claimed else 0.0, missed)
    return (
        "## Many inputs\n\n`simulate_gram`, 10 ReLU layers of width 256, in nanoseconds per neuron and network.\n\n"
        + table(("peer", "inputs", "peer, ns", "wideangle, ns", "times faster"), rows)
    )


def forward_table(pairs: int, missed: list[str]) -> str:
    """Networks with given weights."""
    rows = []
    for width, n_networks, group, claim in (
        (64, 1000, forward_peer.MANY, SMALL_NETWORKS_CLAIM),
        (1024, 1, forward_peer.ONE, LARGE_NETWORK_CLAIM),
    ):
        for n_inputs in (1, 10, 64, 512) if n_networks == 1 else (1, 10, 64):
            weights, x = forward_peer.draw(width, 8, n_networks, n_inputs)
            own = partial(wa.propagation.forward, weights, x)
            for name, peer in group.items():
                run = peer(weights, x)
                np.testing.assert_allclose(own().outputs, run(), rtol=0, atol=1e-3)
                theirs, ours, ratio = in_pairs(run, own, pairs=pairs, repeat_second=3)
                label = f"{n_networks:,} of width {width}, {n_inputs}"
                # With one input all wait for the weights to come from memory; vmap is within its noise of the claim.
                claimed = n_networks == 1 or (n_inputs > 1 and peer is not forward_peer.torch_vmap)
                rows.append((name, label, theirs.scaled(1e3), ours.scaled(1e3), bold(ratio, claimed)))
                check(f"given weights, {label} inputs, {name}", ratio, claim if claimed else 0.0, missed)
    return (
        "## Given weights\n\n`forward`, 8 ReLU layers, float32, in milliseconds; wideangle from the call to the"
        " finished Dataset, PyTorch without gradients from tensors to an array.\n\n"
        + table(("peer", "networks, inputs", "peer, ms", "wideangle, ms", "times faster"), rows)
    )


def kernels_table(pairs: int, missed: list[str]) -> str:
    """Kernels of infinitely wide networks."""
    x = np.random.default_rng(1).standard_normal((kernels_peer.INPUTS, kernels_peer.FEATURES))
    depth, scale = kernels_peer.DEPTH, 1e9 / kernels_peer.INPUTS**2 / kernels_peer.DEPTH
    rows = []
    for name, peer in kernels_peer.PEERS.items():
        theirs, ours, ratio = in_pairs(
            partial(peer, x, depth), partial(kernels_peer.ours, x, depth), pairs=pairs, repeat_second=3
        )
        rows.append((name, theirs.scaled(scale), ours.scaled(scale), ratio))
        if ours.median * scale > KERNEL_NANOSECONDS_CLAIM:
            missed.append(f"kernels take {ours.median * scale:.1f} ns an entry and layer")
    return (
        f"## Infinite width\n\n`tangent_kernel`, which is both kernels in one, of {kernels_peer.INPUTS:,} inputs and"
        f" {depth} ReLU layers, float64, in nanoseconds per entry and layer.\n\n"
        + table(("peer", "peer, ns", "wideangle, ns", "times faster"), rows)
    )


def bold(ratio: Spread, claimed: bool) -> str:
    """Return the cell of a ratio."""
    return f"**{ratio}**" if claimed else str(ratio)


def check(what: str, ratio: Spread, claim: float, missed: list[str]) -> None:
    """Note a ratio below what is claimed."""
    if ratio.median < claim:
        missed.append(f"{what}: {ratio.median:.2f} times, {claim:g} claimed")
