"""What the angle at initialisation says of training: many architectures, trained for equally long."""

from __future__ import annotations

import itertools
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import check_flag, check_integer, check_seed
from wideangle._provenance import provenance
from wideangle.data import LabelledData
from wideangle.network import MLP, check_widths
from wideangle.propagation.prediction import predict_angles
from wideangle.reference import build_mlp, train_classifier
from wideangle.reference._torch import require_torch
from wideangle.reference.training import TrainingOptions, check_training_options
from wideangle.statistics.rank_correlation import COEFFICIENTS, percentile_interval, rank_correlation

if TYPE_CHECKING:
    import xarray as xr

PREDICTORS = ("finite-width", "infinite-width")
SOURCE = "arXiv:2306.01513 (Jakub, Nica): accuracy after training against the predicted angle of orthogonal inputs"

_N_BOOTSTRAP = 2000


class Run(NamedTuple):
    """One network to train: its widths, seeds and options."""

    widths: tuple[int, ...]
    weight_seed: int
    batch_seed: int
    options: TrainingOptions


class Outcome(NamedTuple):
    """What a run came to: test accuracy, final training loss, status."""

    accuracy: float
    train_loss: float
    status: int


def train_architectures(
    list_of_widths: Iterable[Iterable[int]],
    data: LabelledData,
    *,
    n_runs: int,
    seed: int,
    learning_rate: float = 1e-3,
    batch_size: int = 100,
    epochs: int = 1,
    steps: int | None = None,
    n_workers: int = 1,
    progress: bool = False,
) -> xr.Dataset:
    r"""Train networks of many architectures and rank their accuracy against predicted angles.

    Parameters
    ----------
    list_of_widths
        Widths of the hidden layers of each architecture; no architecture twice.
    data
        Training and test set.
    n_runs
        Networks trained of each architecture, each with its own weights and order of the samples.
    seed
        0 <= seed < 2**64. A run is a pure function of the seed, its widths and its number: run k of 2 is run k of 10,
        whatever other architectures there are and whichever process it runs in. It may change with the machine and
        with the minor versions of NumPy and PyTorch.
    learning_rate, batch_size, epochs, steps
        As in `wideangle.reference.train_classifier`: Adam on the cross-entropy, by default 1e-3, 100, and one epoch.
        Time is counted in steps.
    n_workers
        Processes to train in, each with one thread; default 1, in this process. More are started afresh ("spawn"), so
        a script needs ``if __name__ == "__main__":`` around what it runs.
    progress
        Show a progress bar.

    Returns
    -------
    xarray.Dataset
        With coordinates ``architecture``, such as "85x2" for two layers of 85 and "20-8-40" for three unequal ones,
        with ``depth`` and ``n_parameters`` beside it; ``run`` from 0; and ``predictor``, "finite-width" and
        "infinite-width":

        - ``accuracy(architecture, run)`` on the test set, NaN if diverged;
          ``train_loss(architecture, run)``, the mean cross-entropy in nats over the last tenth of the steps;
          ``status(architecture, run)``, 0 trained, 1 diverged.
        - ``log_sin2(predictor, architecture)``, the predicted :math:`\ln \sin^2 \theta_L` of two orthogonal inputs
          (:math:`\theta_0 = \pi/2`).
        - ``spearman(predictor)`` and ``kendall(predictor)``, the rank correlation of the prediction with the accuracy,
          averaged over the runs, with bootstrap intervals of 95%, ``spearman_low``, ``spearman_high`` and so on, and
          ``spearman_difference``, finite minus infinite, with its own interval ``spearman_difference_low`` and
          ``spearman_difference_high``; for tau-b likewise. The intervals are percentiles of 2000 samples of
          architectures, each with the mean of its runs. ``n_ranked`` counts the architectures that could be ranked.

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    TypeError, ValueError
        If an argument is of the wrong type or out of range, or a layer has width 1, which leaves no angle.

    Examples
    --------
    >>> import wideangle as wa
    >>> data = wa.data.load_digits(seed=1)
    >>> trained = wa.propagation.train_architectures([(30,) * 2, (15,) * 30], data, n_runs=1, seed=1, steps=100)
    >>> trained["accuracy"].sel(architecture="30x2").item() > trained["accuracy"].sel(architecture="15x30").item()
    True

    Notes
    -----
    Source: Jakub and Nica, arXiv:2306.01513. At finite width the angle between inputs closes with depth faster than
    at infinite width, and where it has closed the network cannot tell its inputs apart.
    """
    architectures = _check_architectures(list_of_widths)
    options = check_training_options(
        data, learning_rate=learning_rate, batch_size=batch_size, epochs=epochs, steps=steps
    )
    check_integer(
        "n_runs", n_runs, low=1, high=10**6, remedy="give a number of networks of each architecture, such as 1"
    )
    check_integer("n_workers", n_workers, low=1, high=1024, remedy="give a number of processes, such as 1")
    check_seed(seed)
    check_flag("progress", progress)
    require_torch()
    import xarray as xr

    log_sin2 = [
        [float(predict_angles(MLP(widths), math.pi / 2, method=predictor)["log_sin2"][-1]) for widths in architectures]
        for predictor in PREDICTORS
    ]
    runs = [_plan(widths, number, seed, options) for widths in architectures for number in range(n_runs)]
    outcomes = np.array(_train_all(runs, data, n_workers=n_workers, progress=progress))
    by_run = outcomes.reshape(len(architectures), n_runs, 3)
    over_runs, over_predictors = ("architecture", "run"), ("predictor", "architecture")
    return xr.Dataset(
        {
            "accuracy": (over_runs, by_run[..., 0], {"long_name": "test accuracy"}),
            "train_loss": (over_runs, by_run[..., 1], {"long_name": "final training loss", "units": "nat"}),
            "status": (
                over_runs,
                by_run[..., 2].astype(np.int8),
                {"flag_values": [0, 1], "flag_meanings": "trained diverged"},
            ),
            "log_sin2": (over_predictors, log_sin2, {"long_name": "predicted ln sin^2 theta_L, orthogonal inputs"}),
            **_correlations(np.array(log_sin2), by_run[..., 0], seed),
        },
        coords={
            "architecture": [label(widths) for widths in architectures],
            "depth": ("architecture", [len(widths) for widths in architectures]),
            "n_parameters": ("architecture", [_count_parameters(widths, data) for widths in architectures]),
            "run": np.arange(n_runs),
            "predictor": list(PREDICTORS),
        },
        attrs=provenance(
            "wideangle.propagation.train_architectures",
            source=SOURCE,
            data=data.name,
            n_train=len(data.x_train),
            n_test=len(data.x_test),
            n_runs=n_runs,
            seed=seed,
            learning_rate=options.learning_rate,
            batch_size=options.batch_size,
            epochs=epochs if steps is None else None,
            steps=options.steps,
            n_bootstrap=_N_BOOTSTRAP,
        ),
    )


def label(widths: tuple[int, ...]) -> str:
    """Return a name for an architecture: "85x2" for constant widths, "20-8-40" for others."""
    return f"{widths[0]}x{len(widths)}" if len(set(widths)) == 1 else "-".join(map(str, widths))


def _check_architectures(list_of_widths: Any) -> list[tuple[int, ...]]:
    remedy = "give the widths of each architecture, such as [(85,) * 2, (50,) * 50]"
    if isinstance(list_of_widths, (str, bytes)) or not isinstance(list_of_widths, Iterable):
        raise TypeError(f"list_of_widths must be a sequence of sequences, got {list_of_widths!r}; {remedy}")
    architectures: dict[tuple[int, ...], None] = {}
    for position, entry in enumerate(list_of_widths):
        widths = check_widths(f"list_of_widths[{position}]", entry)
        if widths in architectures:
            raise ValueError(
                f"list_of_widths[{position}] must differ from the architectures before it, got {label(widths)} again; "
                f"for more networks of it raise n_runs"
            )
        architectures[widths] = None
    if not architectures:
        raise ValueError(f"list_of_widths must name at least one architecture, got none; {remedy}")
    return list(architectures)


def _plan(widths: tuple[int, ...], number: int, seed: int, options: TrainingOptions) -> Run:
    # The number of entries tells the depth, so no two pairs of widths and number share a key.
    key = np.random.SeedSequence(seed, spawn_key=(*widths, number))
    weight_seed, batch_seed = (int(value) for value in key.generate_state(2, np.uint64))
    return Run(widths, weight_seed, batch_seed, options)


def _train(run: Run, data: LabelledData) -> Outcome:
    model = build_mlp(run.widths, n_inputs=data.n_features, n_outputs=data.n_classes, seed=run.weight_seed)
    result = train_classifier(model, data, seed=run.batch_seed, **run.options._asdict())
    last = max(1, math.ceil(run.options.steps / 10))
    return Outcome(result.accuracy, float(result.train_loss[-last:].mean()), result.status)


def _train_all(runs: list[Run], data: LabelledData, *, n_workers: int, progress: bool) -> list[Outcome]:
    from tqdm import tqdm

    outcomes: dict[int, Outcome] = {}
    with tqdm(total=len(runs), desc="training", unit="network", disable=not progress) as bar:
        if n_workers == 1:
            for position, run in enumerate(runs):
                outcomes[position] = _train(run, data)
                bar.update()
        else:
            # The longest first, or one worker could begin it when the others have finished.
            order = sorted(range(len(runs)), key=lambda position: _work(runs[position], data), reverse=True)
            with _worker_pool(min(n_workers, len(runs)), data) as pool:
                positions = {pool.submit(_train_in_worker, runs[position]): position for position in order}
                for future in as_completed(positions):
                    outcomes[positions[future]] = future.result()
                    bar.update()
    return [outcomes[position] for position in range(len(runs))]


def _work(run: Run, data: LabelledData) -> int:
    """Return the time of a step in arbitrary units; the overhead of a layer is that of about 4,000 weights."""
    return _count_parameters(run.widths, data) + 4000 * len(run.widths)


@contextmanager
def _worker_pool(n_workers: int, data: LabelledData) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool whose workers end at once when the block is left by an exception, or when this process ends."""
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(n_workers, mp_context=context, initializer=_start_worker, initargs=(data, reader))
    try:
        yield pool
        pool.shutdown()
    finally:
        writer.close()
        pool.shutdown(wait=False, cancel_futures=True)
        reader.close()


_data_of_worker: LabelledData | None = None


def _start_worker(data: LabelledData, lifeline: Connection) -> None:
    global _data_of_worker
    _data_of_worker = data
    # Ctrl-C reaches every process of a terminal; the first one answers it and ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()


def _end_with_parent(lifeline: Connection) -> None:
    with suppress(EOFError, OSError):
        lifeline.recv_bytes()
    os._exit(1)


def _train_in_worker(run: Run) -> Outcome:
    assert _data_of_worker is not None
    return _train(run, _data_of_worker)


def _count_parameters(widths: tuple[int, ...], data: LabelledData) -> int:
    sizes = (data.n_features, *widths, data.n_classes)
    return sum(n_in * n_out for n_in, n_out in itertools.pairwise(sizes))


def _correlations(log_sin2: NDArray[np.float64], accuracy: NDArray[np.float64], seed: int) -> dict[str, Any]:
    variables: dict[str, Any] = {}
    for coefficient in COEFFICIENTS:
        found = rank_correlation(
            log_sin2,
            accuracy,
            seed=seed,
            coefficient=coefficient,
            n_bootstrap=_N_BOOTSTRAP,
            # The means carry the scatter of the runs already; drawing runs again would count it twice.
            resample_repetitions=False,
        )
        low, high = percentile_interval(found.replicates)
        variables[coefficient] = ("predictor", found.estimate)
        variables[f"{coefficient}_low"], variables[f"{coefficient}_high"] = ("predictor", low), ("predictor", high)
        low, high = percentile_interval(found.replicates[0] - found.replicates[1])
        variables[f"{coefficient}_difference"] = found.estimate[0] - found.estimate[1]
        variables[f"{coefficient}_difference_low"], variables[f"{coefficient}_difference_high"] = (
            float(low),
            float(high),
        )
        variables["n_ranked"] = found.n_items
    return variables
