"""Measure wideangle beside its peers and write the tables of docs/performance.md.

    python -m bench.make_performance_page [--pairs N] [--check] [--only PART]

Needs the package with its extra ``reference`` (``pip install -c constraints.txt ".[all]"``), and a machine with
nothing else to do for about five minutes. Everything between the two markers of the page is replaced. ``--check`` also
fails if a ratio falls short of what the page claims.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import platform
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

import wideangle as wa
from bench import (
    dynamics_tables,
    engine_tables,
    parametrization_tables,
    peers,
    representation_tables,
    response_kernel_tables,
    response_tables,
)
from bench.tables import cpu_model, replaced, table
from bench.timing import by_path, in_pairs
from wideangle._cpu import active_cpu_path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

THETA0 = 0.1
FIGURE = wa.MLP((256,) * 32)
FIGURE_SAMPLES = 5_000
NARROW = wa.MLP((64,) * 10)

# The least ratios that are claimed, against the fastest form of each peer.
CLAIMS: dict[peers.Peer, float] = {peers.numpy_pairs: 40.0, peers.torch_pairs: 12.0}
CLAIMED_SPEEDUP = 1.8
CLAIMED_MEGABYTES = 150.0


def ours(*, n_samples: int = FIGURE_SAMPLES, n_threads: int | None = None) -> object:
    """The figure's ensemble, from the call to the finished Dataset."""
    return wa.propagation.simulate_angles(FIGURE, THETA0, n_samples=n_samples, seed=1, n_threads=n_threads)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=15, help="turns of every comparison (default 15)")
    parser.add_argument("--check", action="store_true", help="fail if a claimed ratio is missed")
    parser.add_argument("--only", choices=sorted(PARTS), help="measure one part and leave the others as they are")
    arguments = parser.parse_args()

    missed: list[str] = []
    page = PAGE.read_text(encoding="utf-8")
    head, rest = page.split(BEGIN)
    kept, tail = rest.split(END)
    chosen = PARTS if arguments.only is None else {arguments.only: PARTS[arguments.only]}
    for name, tables in chosen.items():
        text = "\n\n".join(make(arguments.pairs, missed) for make in tables)
        print(text)
        kept = replaced(kept, name, text)
    PAGE.write_text(head + BEGIN + kept + END + tail, encoding="utf-8")
    for miss in missed:
        print(f"missed: {miss}", file=sys.stderr)
    return 1 if arguments.check and missed else 0


def machine(pairs: int, missed: list[str]) -> str:
    """CPU, cores and versions."""
    names = ["numpy", "scipy", "torch", "numba"]
    if importlib.util.find_spec("diffrax"):
        names += ["diffrax", "jax"]
    others = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    return (
        f"Measured on {cpu_model()}, {peers.available_cores()} cores, instruction set `{active_cpu_path()}`; "
        f"wideangle {wa.__version__}, Python {platform.python_version()}, {others}. Every figure is the median of the "
        "turns, with the smallest and largest in brackets."
    )


def peer_table(pairs: int, missed: list[str]) -> str:
    """Every peer against wideangle, turn by turn."""
    rows = []
    for name, peer in peers.PEERS.items():
        check_mean(name, peer(FIGURE.widths, THETA0, FIGURE_SAMPLES, 2))
        run_peer = partial(peer, FIGURE.widths, THETA0, FIGURE_SAMPLES, 1)
        theirs, our_time, ratio = in_pairs(run_peer, ours, pairs=pairs, repeat_second=5)
        rows.append((name, theirs.scaled(1e3), our_time.scaled(1e3), ratio))
        if ratio.median < CLAIMS.get(peer, 0.0):
            missed.append(f"{name}: {ratio.median:.1f} times, {CLAIMS[peer]:.0f} claimed")
    job = f"Figure ensemble: {FIGURE_SAMPLES:,} networks, {FIGURE.depth} layers of width 256, theta0 = {THETA0}"
    return f"{job}.\n\n" + table(("peer", "peer, ms", "wideangle, ms", "times faster"), rows)


def check_mean(name: str, means: peers.Array) -> None:
    """Stop unless the peer computes the same thing: its mean at every layer lies within five standard errors."""
    entry = json.loads((ROOT / "tests" / "reference" / "angles.json").read_text(encoding="utf-8"))[0]
    if tuple(entry["widths"]) != FIGURE.widths or entry["theta0"] != THETA0:
        raise RuntimeError("the first reference table is not the figure's ensemble")
    expected = np.array([layer["mean"] for layer in entry["layers"]])
    error = np.sqrt([layer["var"] / FIGURE_SAMPLES + layer["mean_se"] ** 2 for layer in entry["layers"]])
    z = float(np.max(np.abs(means - expected) / error))
    if not z < 5.0:
        raise RuntimeError(f"{name} is off by {z:.1f} standard errors")


def thread_table(pairs: int, missed: list[str]) -> str:
    """One thread against two (and every core), and the time a neuron takes."""
    rows = []
    for n_samples in (FIGURE_SAMPLES, 20 * FIGURE_SAMPLES):
        active = n_samples * sum(FIGURE.widths) / 2
        for threads in sorted({2, peers.available_cores()}):
            one, many, ratio = in_pairs(
                partial(ours, n_samples=n_samples, n_threads=1),
                partial(ours, n_samples=n_samples, n_threads=threads),
                pairs=pairs,
            )
            each = (one.scaled(1e9 / active), many.scaled(1e9 * threads / active))
            rows.append((f"{n_samples:,}", str(threads), *each, ratio))
            if threads == 2 and ratio.median < CLAIMED_SPEEDUP:
                missed.append(f"two threads, {n_samples:,} networks: {ratio.median:.2f} times one")
    heads = ("networks", "threads", "ns a neuron, one thread", "ns a neuron and thread", "times faster than one thread")
    return "Threads, in nanoseconds per *active* neuron (half of all: the others contribute nothing).\n\n" + table(
        heads, rows
    )


def path_table(pairs: int, missed: list[str]) -> str:
    """The same ensemble with each instruction set that this processor has."""
    active = FIGURE_SAMPLES * sum(FIGURE.widths) / 2
    times = by_path(partial(ours, n_threads=1), turns=pairs)
    rows = [(f"`{path}`", time.scaled(1e9 / active)) for path, time in times.items()]
    return "Instruction sets, one thread; the results are the same bit for bit.\n\n" + table(
        ("path", "ns per active neuron"), rows
    )


def memory_line(pairs: int, missed: list[str]) -> str:
    """Peak memory of a long run in a fresh process."""
    n_samples = 10**6
    before, after = peak_megabytes(0), peak_megabytes(n_samples)
    if after > CLAIMED_MEGABYTES:
        missed.append(f"peak memory {after:.0f} MB")
    return (
        f"Peak memory of a fresh process that simulates {n_samples:,} networks of {NARROW.depth} layers of width 64: "
        f"{after:.0f} MB, of which {before:.0f} MB are there for one network already (Python, NumPy, xarray)."
    )


def peak_megabytes(n_samples: int) -> float:
    """Peak resident memory of a fresh process, from the kernel's own high-water mark.

    ``ru_maxrss`` would not do: a child process inherits that of its parent.
    """
    code = f"""
import wideangle as wa
wa.propagation.simulate_angles(wa.MLP({NARROW.widths}), {THETA0}, n_samples={max(n_samples, 1)}, seed=1)
for line in open("/proc/self/status"):
    if line.startswith("VmHWM"):
        print(line.split()[1])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout) * 1024 / 1e6


PARTS: dict[str, tuple[Callable[[int, list[str]], str], ...]] = {
    "angles": (machine, peer_table, thread_table, path_table, memory_line),
    "engine": (
        engine_tables.gram_table,
        engine_tables.networks_table,
        engine_tables.forward_table,
        engine_tables.kernels_table,
    ),
    "dynamics": (
        dynamics_tables.starvation_table,
        dynamics_tables.modes_and_phases_table,
        dynamics_tables.first_call_line,
    ),
    "parametrization": (parametrization_tables.predictions_table, parametrization_tables.checks_table),
    "representation": (representation_tables.regressions_table, representation_tables.readouts_table),
    "response": (response_tables.training_table, response_tables.path_table, response_kernel_tables.kernels_table),
}


if __name__ == "__main__":
    sys.exit(main())
