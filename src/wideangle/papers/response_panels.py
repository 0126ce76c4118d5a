"""Panels (a) to (c) of the reproduction of arXiv 2405.04074 and 2204.07291: responses and their aging."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle._progress import progress_callback
from wideangle.network import MLP
from wideangle.response import (
    fit_aging,
    predict_aging,
    simulate_mean_field,
    simulate_training,
    training_response,
)

if TYPE_CHECKING:
    import xarray as xr

    from wideangle.papers.response import Job

Array = NDArray[np.float64]

ACTIVATIONS = ("relu", "tanh", "erf", "sigmoid", "linear")
WIDTH = 20
DESCENT, BATCHES, SINGLE, NOISY = "gradient descent", "batches of 2", "single samples", "label noise"
METHODS: dict[str, Literal["full"] | int] = {DESCENT: "full", BATCHES: 2, SINGLE: 1, NOISY: 1}
NOISE = {"squared": 0.5, "cross-entropy": 0.05, "hinge": 0.05}  # Standard deviation, or probability of a wrong sign.
STAGES = ("start", "early", "late")
EARLY, LATE = 50.0, 1000.0  # Times of the stages.
STEP_RATES = (1e-2, 1e-3, 1e-4, 1e-5)
FACTORS = ("response", "loss_derivative", "kernel")
LATEST = 4.0  # Exponents are measured over the time from a part of 1/4 to the whole.
N_RECORDS = 36
IDEAL_STEPS, IDEAL_NETWORKS = 400_000, 10


class Case(NamedTuple):
    """A kind of training."""

    loss: str
    method: str
    activation: str

    @property
    def name(self) -> str:
        """What it is called in tables and figures."""
        return ", ".join(self)


CASES = (
    *(Case(loss, method, "relu") for loss in NOISE for method in (DESCENT, SINGLE, NOISY)),
    *(Case("cross-entropy", DESCENT, activation) for activation in ACTIVATIONS[1:]),
)


def samples() -> tuple[Array, Array]:
    """Return eight inputs in [-1, 1] with labels whose sign changes four times."""
    x = np.linspace(-1.0, 1.0, 8)[:, None]
    return x, np.sign(np.sin(2.0 * np.pi * x[:, 0] + 0.3))


def points() -> Array:
    """Return the inputs at which outputs and hidden units are looked at."""
    return np.linspace(-1.0, 1.0, 41)[:, None]


def train(
    job: Job, case: Case, *, n_steps: int, learning_rate: float, record: tuple[int, ...], n_networks: int | None = None
) -> xr.Dataset:
    """Train small networks, the same at the start for all cases of one activation."""
    return simulate_training(
        MLP((WIDTH,), activation=case.activation, bias_variance=1.0),
        samples(),
        n_networks=n_networks or job.n_networks,
        n_steps=n_steps,
        batch=METHODS[case.method],
        noise=NOISE[case.loss] if case.method == NOISY else None,
        learning_rate=learning_rate,
        loss=case.loss,
        seed=job.seed,
        record=record,
        n_threads=job.n_threads,
    )


def geometric(n_steps: int, number: int, first: int = 1) -> tuple[int, ...]:
    """Return 0 and about so many steps, equally far apart in the logarithm, the last included."""
    steps = np.unique(np.round(np.geomspace(first, n_steps, number - 1)).astype(int))
    return (0, *steps.tolist())


def kernels(job: Job) -> xr.Dataset:
    """Compute tangent kernels between samples and points at three stages of gradient descent on the cross-entropy.

    Returns
    -------
    xarray.Dataset
        On (activation, stage, train, probe): ``shape`` and ``kernel``, means over networks, and ``readout_part``. On
        (activation, network): ``similarity(stage)``, the cosine between the kernel and that at the start, ``growth``,
        the logarithm of the diagonal over that at the start, and ``fall(stage)``, the rank correlation of the shape
        with the distance between sample and point, a mean over samples.
    """
    import xarray as xr

    x, _ = samples()
    rate = job.learning_rate
    record = (0, round(EARLY / rate), round(LATE / rate))
    found = []
    for activation in ACTIVATIONS:
        case = Case("cross-entropy", DESCENT, activation)
        state = train(job, case, n_steps=record[-1], learning_rate=rate, record=record)
        response = training_response(state, x, points(), n_threads=job.n_threads)
        means = response[["shape", "kernel", "readout_part"]].mean("network")
        kernel = response["kernel"].values.reshape(job.n_networks, len(STAGES), -1)
        norms = np.linalg.norm(kernel, axis=2)
        own = (response["amplitude"] / np.abs(response["loss_derivative"])).mean("train").values
        each = {
            "similarity": np.einsum("nsk,nk->ns", kernel, kernel[:, 0]) / (norms * norms[:, :1]),
            "growth": np.log(own / own[:, :1]),
            "fall": distance_correlation(response["shape"].values, np.abs(x - points()[:, 0])),
        }
        one = means.drop_vars(["step", "time"], errors="ignore").rename(time="stage")
        found.append(one.assign({name: (("network", "stage"), values) for name, values in each.items()}))
    result: xr.Dataset = xr.concat(
        found, xr.Variable("activation", list(ACTIVATIONS)), combine_attrs="drop"
    ).assign_coords(stage=list(STAGES))
    return result


def distance_correlation(shape: Array, distances: Array) -> Array:
    """Return rank correlations of shapes (..., train, probe) with distances (train, probe), means over samples."""
    from scipy.stats import rankdata

    ranks = (rankdata(values, axis=-1) for values in (shape, distances))
    centred = [values - values.mean(axis=-1, keepdims=True) for values in ranks]
    scale = np.linalg.norm(centred[0], axis=-1) * np.linalg.norm(centred[1], axis=-1)
    result: Array = ((centred[0] * centred[1]).sum(axis=-1) / scale).mean(axis=-1)
    return result


def steps(job: Job) -> xr.Dataset:
    """Compare real steps of several sizes with responses by the kernel, at the start of training.

    Returns
    -------
    xarray.Dataset
        ``error(activation, network, learning_rate)``: root mean square of the difference over that of the response.
    """
    import xarray as xr

    x, _ = samples()
    errors = np.empty((len(ACTIVATIONS), job.n_networks, len(STEP_RATES)))
    for place, activation in enumerate(ACTIVATIONS):
        state = train(
            job, Case("cross-entropy", DESCENT, activation), n_steps=0, learning_rate=job.learning_rate, record=(0,)
        )
        limit = training_response(state, x, points(), n_threads=job.n_threads)["response"]
        size = np.sqrt((limit**2).mean(("time", "train", "probe")))
        for column, rate in enumerate(STEP_RATES):
            step = training_response(state, x, points(), kind="step", learning_rate=rate, n_threads=job.n_threads)[
                "response"
            ]
            errors[place, :, column] = np.sqrt(((step - limit) ** 2).mean(("time", "train", "probe"))) / size
    coordinates = {"activation": list(ACTIVATIONS), "learning_rate": list(STEP_RATES)}
    return xr.Dataset({"error": (("activation", "network", "learning_rate"), errors)}, coordinates)


def ideal(job: Job) -> xr.Dataset:
    """Train networks whose kernel cannot change: linear units, of which only the hidden weights learn.

    Two samples at -1 and 1 do not touch each other's outputs then: K(x', x) = (1 + x x') sum a^2.

    Returns
    -------
    xarray.Dataset
        ``response(loss, network, time)``. For each network ``rate``, that of the exponential which the kernel predicts
        for the squared loss, ``fitted_rate``, that of a fit to the network alone, ``exponent``, the late one for the
        cross-entropy, see :func:`late_exponent`, and ``derived_exponent``, that of
        :func:`wideangle.response.predict_aging` with the kernel.
    """
    import xarray as xr

    learning_rate = 0.1 * job.learning_rate
    found = _train_ideal(job, learning_rate)
    # Each sample is one of two in the mean; steps of a finite size are a little faster than the flow.
    kernel = found["kernel"].sel(loss="squared", drop=True).isel(time=0, drop=True)
    decay = -np.log1p(-learning_rate * kernel / 2.0) / learning_rate
    fitted = np.empty(IDEAL_NETWORKS)
    for network, curve in enumerate(found["response"].sel(loss="squared").transpose("network", "time").values):
        # What is left of the response must be more than rounding.
        kept = curve > 1e-6 * curve[0]
        fit = fit_aging(curve[kept], found["time"].values[kept], laws=("exponential",))
        fitted[network] = fit["rate"].sel(law="exponential").item()
    answers = found.sel(loss="cross-entropy", drop=True)
    first = answers.isel(time=0)
    derived = [
        predict_aging("cross-entropy", found["time"].values, kernel=float(own) / 2.0, margin=float(margin))["force"]
        for own, margin in zip(first["kernel"].values, first["margin"].values, strict=True)
    ]
    result: xr.Dataset = found.drop_vars(["kernel", "margin"]).assign(
        rate=decay,
        fitted_rate=("network", fitted),
        exponent=late_exponent(answers["response"]),
        derived_exponent=late_exponent(xr.concat(derived, "network")),
    )
    return result


def _train_ideal(job: Job, learning_rate: float) -> xr.Dataset:
    """Return ``response``, ``kernel`` and ``margin`` of one sample on (loss, network, time)."""
    import xarray as xr

    x, y = np.array([[-1.0], [1.0]]), np.array([-1.0, 1.0])
    curves = []
    for loss in NOISE:
        state = simulate_training(
            MLP((WIDTH,), activation="linear", bias_variance=1.0),
            (x, y),
            n_networks=IDEAL_NETWORKS,
            n_steps=IDEAL_STEPS,
            learning_rate=learning_rate,
            loss=loss,
            seed=job.seed,
            record=geometric(IDEAL_STEPS, N_RECORDS),
            readout="frozen",
            n_threads=job.n_threads,
        )
        response = training_response(state, x, x, n_threads=job.n_threads)
        kernel = response["kernel"].isel(train=0, probe=0).drop_vars(["train", "probe"])
        curve = xr.Dataset(
            {
                "response": response["amplitude"].isel(train=1, drop=True),
                "kernel": kernel,
                "margin": state["outputs"].isel(sample=1, drop=True),
            }
        )
        curves.append(curve.drop_vars(["x_train", "y_train"], errors="ignore"))
    found: xr.Dataset = xr.concat(curves, xr.Variable("loss", list(NOISE)), combine_attrs="drop")
    return found


def aging(job: Job, progress: bool) -> xr.Dataset:
    """Follow the response to samples of the training set, and its factors, in all kinds of training.

    Returns
    -------
    xarray.Dataset
        On (case, network, time), means over the samples: ``response``, that at the sample itself, its factors
        ``loss_derivative`` (magnitude), ``kernel``, ``readout_part`` and ``hidden_part``, the ``loss``, and
        ``contradiction``, the response if the label were the other one. ``constant_kernel`` is the response of networks
        whose kernel remains what it was at the start, with the same samples. ``undo`` is the time that it would take
        to bring the output at a sample to the other label's side, |f| over the response to that label. On (case,
        network): ``exponent``, ``constant_kernel_exponent`` and those of the factors, minus the slope in log-log over
        the last part of the time. Coordinates ``loss_name``, ``training`` and ``activation`` of each case.
    """
    import xarray as xr

    found = []
    record = tuple(sorted({*geometric(job.n_steps, N_RECORDS), round(job.n_steps / LATEST)}))
    with progress_callback(len(CASES), progress, unit="case") as report:
        for number, case in enumerate(CASES):
            state = train(job, case, n_steps=job.n_steps, learning_rate=job.learning_rate, record=record)
            found.append(_factors(job, state))
            if report is not None:
                report(number + 1)
    names = [case.name for case in CASES]
    cases = xr.concat(found, xr.Variable("case", names), combine_attrs="drop")
    columns = zip(("loss_name", "training", "activation"), zip(*CASES, strict=True), strict=True)
    result: xr.Dataset = cases.assign_coords({name: ("case", list(values)) for name, values in columns})
    return result


def _factors(job: Job, state: xr.Dataset) -> xr.Dataset:
    import xarray as xr

    x, y = samples()
    own = training_response(state, x, x, n_threads=job.n_threads)
    parts = {name: _diagonal(own[name]) for name in ("kernel", "readout_part", "hidden_part")}
    values: dict[str, xr.DataArray] = {
        "response": own["amplitude"],
        "loss_derivative": abs(own["loss_derivative"]),
        **parts,
    }
    if state.attrs["loss"] != "squared":
        other = training_response(state, x, x[:1], y_train=-y, n_threads=job.n_threads)
        values["contradiction"] = other["amplitude"]
        values["undo"] = abs(state["outputs"]).rename(sample="train") / other["amplitude"]
    means = {name: each.mean("train") for name, each in values.items()}
    frozen = simulate_mean_field(None, kernel=state, aging=1.0, n_threads=job.n_threads)
    means["constant_kernel"] = frozen["response"]
    dataset = xr.Dataset({name: each.reset_coords(drop=True) for name, each in means.items()})
    dataset = dataset.assign(loss=state["loss"].reset_coords(drop=True)).assign_coords(time=state["time"])
    for name in ("response", "loss_derivative", "kernel", "constant_kernel"):
        dataset[f"{name}_exponent"] = late_exponent(dataset[name])
    result: xr.Dataset = dataset.reset_coords("step", drop=True)
    return result


def _diagonal(values: xr.DataArray) -> xr.DataArray:
    """Return what is between a sample and itself, (..., train)."""
    found: xr.DataArray = values.isel(probe=values["train"].variable).reset_coords(drop=True)
    return found


def late_exponent(values: xr.DataArray) -> xr.DataArray:
    """Return minus the slope of the logarithm over that of the time, in the last part of it; NaN where it is 0."""
    last = values["time"].values[-1]
    first = values.sel(time=last / LATEST, method="nearest")
    end = values.isel(time=-1)
    ratio = (first / end).where((first > 0.0) & (end > 0.0))
    slope = np.log(ratio) / math.log(last / float(first["time"]))
    found: xr.DataArray = slope.reset_coords(drop=True)
    return found


def fits(aging: xr.Dataset) -> xr.Dataset:
    """Fit laws of aging to the response and its factors: :func:`law` on (case, factor)."""
    import xarray as xr

    cases = []
    for name in aging["case"].values.tolist():
        here = aging.sel(case=name)
        each = [xr.Dataset(law(here[factor])) for factor in FACTORS]
        cases.append(xr.concat(each, xr.Variable("factor", list(FACTORS)), combine_attrs="drop"))
    result: xr.Dataset = xr.concat(cases, xr.Variable("case", aging["case"].values), combine_attrs="drop")
    return result


def law(values: xr.DataArray) -> dict[str, xr.DataArray]:
    """Return what :func:`wideangle.response.fit_aging` chooses for networks (or runs), and its power law.

    ``chosen``, ``misfit``, and ``gamma`` and ``tau`` with their intervals.
    """
    own = next(dim for dim in values.dims if dim != "time")
    fit = fit_aging(values.transpose(own, "time").values, values["time"].values).sel(law="power law", drop=True)
    names = (f"{name}{end}" for name in ("gamma", "tau") for end in ("", "_low", "_high"))
    return {name: fit[name] for name in ("chosen", "misfit", *names)}
