"""The compiled scores of chunks against a loop in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import logsumexp

from wideangle import _core

SIZES = np.array([1, 2, 7, 30])

Problem = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


def problem(dtype: str, samples: int = 203, classes: int = 10) -> Problem:
    """Features, readout, bias, targets and orders of 30 of 40 neurons."""
    rng = np.random.default_rng(classes)
    features = np.maximum(rng.standard_normal((samples, 40)), 0).astype(dtype)
    readout, bias = rng.standard_normal((classes, 40)), rng.standard_normal(classes)
    targets = rng.integers(0, classes, samples)
    orders = np.array([rng.permutation(40)[:30] for _ in range(5)])
    return features, readout, bias, targets, orders


def loop(
    features: NDArray[Any],
    readout: NDArray[Any],
    bias: NDArray[Any],
    targets: NDArray[Any],
    orders: NDArray[Any],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    correct = np.zeros((len(orders), len(SIZES)), np.int64)
    loss = np.zeros(correct.shape)
    for k, order in enumerate(orders):
        for s, size in enumerate(SIZES):
            chunk = order[:size]
            logits = features[:, chunk].astype(np.float64) @ readout[:, chunk].T + bias
            correct[k, s] = np.sum(logits.argmax(1) == targets)
            loss[k, s] = np.sum(logsumexp(logits, axis=1) - logits[np.arange(len(targets)), targets])
    return correct, loss


@pytest.mark.parametrize("cpu_path", _core.cpu_paths())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("samples", "classes"), [(203, 10), (1, 2), (64, 3), (33, 26)])
def test_scores_are_those_of_a_loop(cpu_path: str, dtype: str, samples: int, classes: int) -> None:
    arguments = problem(dtype, samples, classes)
    correct, loss = _core.chunk_readout(*arguments, SIZES, n_threads=2, cpu_path=cpu_path, progress=None)
    expected_correct, expected_loss = loop(*arguments)
    assert correct.dtype == np.int64
    np.testing.assert_array_equal(correct, expected_correct)
    # Logits up to 30 from 31 terms of magnitude below 10, a few units in the last place each.
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-12, atol=1e-12 * samples)


def test_threads_leave_the_bits() -> None:
    arguments = problem("float32", 1000)
    one, many = (
        _core.chunk_readout(*arguments, SIZES, n_threads=n, cpu_path=_core.cpu_paths()[0], progress=None)
        for n in (1, 7)
    )
    np.testing.assert_array_equal(one[0], many[0])
    np.testing.assert_array_equal(one[1], many[1])


def test_progress_counts_samples_times_orders() -> None:
    seen: list[int] = []
    _core.chunk_readout(*problem("float64"), SIZES, n_threads=1, cpu_path=_core.cpu_paths()[0], progress=seen.append)
    assert seen[-1] == 203 * 5


def test_an_error_in_progress_comes_back() -> None:
    def fail(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _core.chunk_readout(*problem("float64"), SIZES, n_threads=2, cpu_path=_core.cpu_paths()[0], progress=fail)
