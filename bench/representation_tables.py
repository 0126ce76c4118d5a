"""Tables of docs/performance.md on chunks of a layer, and what they claim."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

import wideangle as wa
from bench.tables import table
from bench.timing import in_pairs

N_SAMPLES = 10_000
N_NEURONS = 512
N_CLASSES = 10
N_CHUNKS = 40
N_READOUTS = 100
SIZES = tuple(2**power for power in range(10))
REGRESSION_CLAIM = 60.0
READOUT_CLAIM = 20.0
TURNS = 3  # Of what takes many seconds.

Array = NDArray[Any]


def layer() -> dict[str, Array]:
    """Noisy ReLU features of forty latents, with a readout and the labels that it gives to most samples."""
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((N_SAMPLES, 40))
    features = np.maximum(latents @ rng.standard_normal((40, N_NEURONS)), 0.0)
    features += 0.3 * rng.standard_normal(features.shape)
    readout = rng.standard_normal((N_CLASSES, N_NEURONS)) / np.sqrt(N_NEURONS)
    targets = (features @ readout.T + rng.standard_normal((N_SAMPLES, N_CLASSES))).argmax(axis=1)
    return {"features": features.astype(np.float32), "readout": readout.astype(np.float32), "targets": targets}


def regressions_table(pairs: int, missed: list[str]) -> str:
    """All chunks, against one chunk of each size with the published procedure, times the number of chunks."""
    features = layer()["features"].astype(np.float64)
    rng = np.random.default_rng(1)
    theirs, ours, ratio = in_pairs(
        partial(published_regressions, features, rng),
        partial(wa.representation.chunk_statistics, features, n_chunks=N_CHUNKS, seed=1),
        pairs=min(pairs, TURNS),
        repeat_second=10,
    )
    whole = ratio.scaled(N_CHUNKS)
    if whole.median < REGRESSION_CLAIM:
        missed.append(f"chunk_statistics: {whole.median:.0f} times, {REGRESSION_CLAIM:.0f} claimed")
    return (
        f"## Redundant representations\n\nRegressions of a layer of {N_NEURONS} neurons on chunks of 1 to {N_NEURONS}"
        f" of them, {len(SIZES)} sizes, {N_SAMPLES:,} samples: `chunk_statistics` of {N_CHUNKS} chunks of each size,"
        f" against the procedure of arXiv 2106.03485 with scikit-learn, measured for one chunk of each size and taken"
        f" {N_CHUNKS} times, in seconds.\n\n"
        + table(("peer", "peer, s", "wideangle, s", "times faster"), [("scikit-learn", theirs.scaled(N_CHUNKS), ours, whole)])
    )


def readouts_table(pairs: int, missed: list[str]) -> str:
    """Accuracy and loss of chunks, against the published loop in PyTorch."""
    given = layer()
    tensors = {name: torch.tensor(array) for name, array in given.items()}
    rng = np.random.default_rng(1)
    rows = []
    for threads in (1, torch.get_num_threads()):
        theirs, ours, ratio = in_pairs(
            partial(published_readouts, tensors, rng, threads),
            partial(our_readouts, given),
            pairs=min(pairs, 2 * TURNS),
            repeat_second=3,
        )
        rows.append((f"PyTorch, {threads} thread{'s' if threads > 1 else ''}", theirs, ours, ratio))
        if ratio.median < READOUT_CLAIM:
            missed.append(f"accuracy of chunks: {ratio.median:.1f} times, {READOUT_CLAIM:.0f} claimed")
    return (
        f"Accuracy and loss of the same chunks under the columns of a readout of {N_CLASSES} classes that belong to"
        f" them, {N_READOUTS} chunks of each size, float32 features, in seconds: running sums in float64 over random"
        " orders, against the published loop over sizes and chunks in float32.\n\n"
        + table(("peer", "peer, s", "wideangle, s", "times faster"), rows)
    )


def published_regressions(features: Array, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Fit the layer to one chunk of each size, sample by sample."""
    results = []
    for size in SIZES:
        chunk = features[:, rng.permutation(N_NEURONS)[:size]]
        prediction = Ridge(1e-8).fit(chunk, features).predict(chunk)
        covariance = np.cov((features - prediction).T)
        variance = np.diag(covariance)
        correlation = covariance / (np.sqrt(np.outer(variance, variance)) + 1e-8)
        below = np.tril_indices(N_NEURONS, -1)
        explained = r2_score(features, prediction, multioutput="variance_weighted")
        results.append((float(explained), float(np.abs(correlation[below]).mean())))
    return results


def published_readouts(tensors: dict[str, torch.Tensor], rng: np.random.Generator, threads: int) -> list[float]:
    """Read out every chunk from the features again."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    features, readout, targets = tensors["features"], tensors["readout"], tensors["targets"]
    results = []
    for size in SIZES:
        for _ in range(N_READOUTS):
            chunk = torch.tensor(rng.choice(N_NEURONS, size=size, replace=False))
            outputs = features[:, chunk] @ readout[:, chunk].T
            loss = torch.nn.functional.cross_entropy(outputs, targets).item()
            accuracy = (outputs.argmax(dim=1) == targets).double().mean().item()
            results += [loss, accuracy]
    torch.set_num_threads(before)
    return results


def our_readouts(given: dict[str, Array]) -> object:
    """The kernel alone: the public function computes the regressions besides."""
    from wideangle import _core
    from wideangle._cpu import active_cpu_path, available_threads

    rng = np.random.default_rng(1)
    return _core.chunk_readout(
        given["features"],
        given["readout"].astype(np.float64),
        np.zeros(N_CLASSES),
        given["targets"],
        np.array([rng.permutation(N_NEURONS) for _ in range(N_READOUTS)]),
        np.array(SIZES),
        n_threads=available_threads(),
        cpu_path=active_cpu_path(),
        progress=None,
    )
