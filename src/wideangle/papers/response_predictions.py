"""What is derived of the training response, for panels (b) to (d), and the compiled training beside PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wideangle.network import MLP
from wideangle.papers.response_panels import (
    CASES,
    DESCENT,
    METHODS,
    NOISE,
    NOISY,
    SINGLE,
    WIDTH,
    Case,
    geometric,
    late_exponent,
    law,
    samples,
    train,
)
from wideangle.response import compare, predict_aging, predict_feature_reduction, tangent_kernel

if TYPE_CHECKING:
    import xarray as xr

    from wideangle.papers.response import Job

PREDICTED = tuple(case for case in CASES if case.method == DESCENT)
COMPARED = ("relu", "tanh")
N_COMPARED, COMPARED_STEPS = 4, 200
BALANCED = (DESCENT, SINGLE, NOISY)
BALANCED_LOSSES = ("squared", "cross-entropy")
N_BALANCED, DENSE_STEPS, N_SUMS = 40, 200, 1000
SHOWN = 24  # Times at which imbalances are kept.


def predictions(job: Job, aging: xr.Dataset) -> xr.Dataset:
    """Derive how responses age in gradient flow if the kernel stays what it is at the start.

    Returns
    -------
    xarray.Dataset
        For gradient descent on (case, network, time), means of sizes over the samples: ``response`` and ``force``, as
        :func:`wideangle.response.predict_aging` gives them; on (case, network) the late ``exponent``; on (case) what
        :func:`wideangle.papers.response_panels.law` finds in the responses. For the first networks only.
    """
    import xarray as xr

    x, y = samples()
    time = aging["time"].values
    found = []
    for case in PREDICTED:
        start = train(
            job,
            case,
            n_steps=0,
            learning_rate=job.learning_rate,
            record=(0,),
            n_networks=min(job.n_networks, job.n_predicted),
        ).isel(time=0)
        kernels = tangent_kernel(start, x, n_threads=job.n_threads)["kernel"].values
        each = [
            predict_aging(case.loss, time, kernel=kernel, labels=y, margin=y * outputs)
            for kernel, outputs in zip(kernels, start["outputs"].values, strict=True)
        ]
        curves = {
            name: (("network", "time"), np.array([abs(one[name]).mean("sample").values for one in each]))
            for name in ("response", "force")
        }
        one = xr.Dataset(curves, {"time": time})
        found.append(one.assign({"exponent": late_exponent(one["response"]), **law(one["response"])}))
    result: xr.Dataset = xr.concat(found, xr.Variable("case", [case.name for case in PREDICTED]), combine_attrs="drop")
    return result


def checks(job: Job) -> xr.Dataset:
    """Train small networks with single samples by the compiled loop and by PyTorch, and take steps in both.

    Returns
    -------
    xarray.Dataset
        On (activation): ``training_difference``, ``order`` and ``order_standard_error`` of
        :func:`wideangle.response.compare`.
    """
    import xarray as xr

    found = [
        compare(
            MLP((WIDTH,), activation=activation, bias_variance=1.0),
            samples(),
            n_networks=N_COMPARED,
            n_steps=COMPARED_STEPS,
            learning_rate=job.learning_rate,
            seed=job.seed,
            n_threads=job.n_threads,
        )[["training_difference", "order", "order_standard_error"]]
        for activation in COMPARED
    ]
    result: xr.Dataset = xr.concat(found, xr.Variable("activation", list(COMPARED)), combine_attrs="drop")
    return result


def balance(job: Job) -> xr.Dataset:
    """Follow the imbalance of units that gradient flow conserves, and the sum of its derived changes.

    With the smallest of the learning rates, at which single samples are stable.

    Returns
    -------
    xarray.Dataset
        On (loss_name, training, network, time): ``imbalance``, the sum of a^2 - |w|^2 - b^2 over units, and
        ``derived``, the same at the start plus what :func:`wideangle.response.predict_feature_reduction` expects of
        each step, from the states that are recorded. On (loss_name, training, network): ``parts``, the sum of the
        sizes of these changes by gradient descent, sampling and label noise.
    """
    import xarray as xr

    by_loss = []
    for loss in BALANCED_LOSSES:
        found = [_balance(job, Case(loss, method, "relu")) for method in BALANCED]
        by_loss.append(xr.concat(found, xr.Variable("training", list(BALANCED)), combine_attrs="drop"))
    result: xr.Dataset = xr.concat(by_loss, xr.Variable("loss_name", list(BALANCED_LOSSES)), combine_attrs="drop")
    return result


def _balance(job: Job, case: Case) -> xr.Dataset:
    import xarray as xr

    rate = min(job.learning_rates)
    n_steps = round(job.duration / rate)
    # All steps at first, when losses fall fast, then so many that what is between them is as what is there.
    stride = max(1, n_steps // N_SUMS)
    some = (*range(DENSE_STEPS), *range(DENSE_STEPS, n_steps // 10, max(1, stride // 10)), *range(0, n_steps, stride))
    shown = geometric(n_steps, SHOWN)
    record = tuple(sorted(step for step in {*some, *shown} if step <= n_steps))
    n_networks = min(job.n_networks, N_BALANCED)
    state = train(job, case, n_steps=n_steps, learning_rate=rate, record=record, n_networks=n_networks)
    predicted = predict_feature_reduction(
        state, batch=METHODS[case.method], noise=NOISE[case.loss] if case.method == NOISY else None
    )
    imbalance = predicted["imbalance"].sum("unit").transpose("network", "time").values
    changes = predicted["imbalance_change"].sum("unit").transpose("network", "time", "part").values
    moved = changes[:, :-1] * np.diff(record)[:, None]
    derived = imbalance[:, :1] + np.cumsum(np.pad(moved.sum(axis=2), ((0, 0), (1, 0))), axis=1)
    kept = np.searchsorted(record, shown)
    over = ("network", "time")
    return xr.Dataset(
        {
            "imbalance": (over, imbalance[:, kept]),
            "derived": (over, derived[:, kept]),
            "parts": ("network", np.abs(moved.sum(axis=1)).sum(axis=1)),
        },
        {"time": np.array(record)[kept] * rate},
    )
