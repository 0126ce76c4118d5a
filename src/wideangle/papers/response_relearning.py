"""The loss of plasticity by real training: how long networks take to learn other labels, by stage."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from wideangle.network import MLP
from wideangle.papers.response_panels import DESCENT, NOISY, WIDTH, Array, Case, geometric, samples, train
from wideangle.response import simulate_training

if TYPE_CHECKING:
    import xarray as xr

    from wideangle.papers.response import Job

RELEARNED = (
    Case("cross-entropy", DESCENT, "relu"),
    Case("cross-entropy", DESCENT, "tanh"),
    Case("cross-entropy", NOISY, "relu"),
)
LABELS = ("opposite", "new")
N_RELEARNING = 60
PARTS = (0.0, 1 / 512, 1 / 64, 1 / 8, 1.0)  # Of the steps of panels (a) to (c), after which labels change.
N_RECORDS = 96
LEARNED = 0.5 * math.log(2.0)  # Cross-entropy, half of that of outputs 0.


def turned(labels: str) -> Array:
    """Return the labels that are learned in the end, (sample,): the opposite ones, or those of a wave beside it."""
    x, y = samples()
    return -y if labels == "opposite" else np.sign(np.cos(2.0 * np.pi * x[:, 0] + 0.3))


def relearning(job: Job) -> xr.Dataset:
    """Train networks, change the labels at some stage, and train on by gradient descent.

    Returns
    -------
    xarray.Dataset
        On (case, labels, stage, network): ``relearning_time`` until the loss on the other labels is ``LEARNED``, and
        ``half_time`` until half of the samples have their sign; ``reached``, whether the loss got there in
        ``job.duration``, which the time is otherwise. Of the first networks only. ``stage_time(stage)``: before the
        labels change; at 0 the networks are untrained.
    """
    import xarray as xr

    steps = [round(part * job.n_steps) for part in PARTS]
    found = []
    for case in RELEARNED:
        n_networks = min(job.n_networks, N_RELEARNING)
        state = train(
            job,
            case,
            n_steps=job.n_steps,
            learning_rate=job.learning_rate,
            record=tuple(steps),
            n_networks=n_networks,
        )
        by_labels = []
        for labels in LABELS:
            each = [_relearn(job, case, state.isel(time=place), turned(labels)) for place in range(len(steps))]
            by_labels.append(xr.concat(each, "stage", combine_attrs="drop"))
        found.append(xr.concat(by_labels, xr.Variable("labels", list(LABELS)), combine_attrs="drop"))
    cases = xr.Variable("case", [case.name for case in RELEARNED])
    result: xr.Dataset = xr.concat(found, cases, combine_attrs="drop").assign_coords(
        stage_time=("stage", np.array(steps) * job.learning_rate)
    )
    return result


def _relearn(job: Job, case: Case, start: xr.Dataset, y: Array) -> xr.Dataset:
    import xarray as xr

    n_steps = round(job.duration / job.learning_rate)
    run = simulate_training(
        MLP((WIDTH,), activation=case.activation, bias_variance=1.0),
        (samples()[0], y),
        n_networks=start.sizes["network"],
        n_steps=n_steps,
        learning_rate=job.learning_rate,
        loss=case.loss,
        seed=job.seed,
        record=geometric(n_steps, N_RECORDS),
        initial=start,
        start_step=0,
        n_threads=job.n_threads,
    )
    time = np.maximum(run["time"].values, job.learning_rate)  # Ratios are taken.
    learned = (run["loss"] <= LEARNED).transpose("network", "time").values
    right = (run["outputs"] * y > 0.0).mean("sample").transpose("network", "time").values
    reached = learned.any(axis=1)
    return xr.Dataset(
        {
            "relearning_time": ("network", np.where(reached, time[learned.argmax(axis=1)], job.duration)),
            "half_time": (
                "network",
                np.where((right >= 0.5).any(axis=1), time[(right >= 0.5).argmax(axis=1)], job.duration),
            ),
            "reached": ("network", reached),
        }
    )
