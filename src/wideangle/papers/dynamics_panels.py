"""The numbers of panels (a) to (e): what is integrated, and what is predicted for it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle._provenance import provenance
from wideangle.dynamics import (
    compare_training,
    phase_diagram,
    predict_learning_time,
    predict_margin,
    predict_starvation,
    simulate_modes,
    simulate_two_layer,
)

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

SOURCE = "arXiv 1809.06848"
COPIES = (8, 4, 2, 1)  # Samples that show each feature, in panel (a).
NEURONS_PER_FEATURE = 8
INITIAL_SCALE = 0.01
PARALLEL_TIMES = np.concatenate([[0.0], np.geomspace(0.5, 2000.0, 160)])
SHARES = (1, 2, 4, 8, 16, 24)  # Samples of the class that is timed, in panel (c), among SAMPLES.
SAMPLES = 32
NORMS = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
GOAL = 1.0  # Margin up to which learning is timed.
LOSS_NAMES = ("cross-entropy", "hinge")
FRACTIONS = (0.1, 0.25, 0.5, 0.75)
SMALL_MARGIN = 1e-12  # So small that the rarer feature stays small up to LATE.
MODERATE_MARGIN = 1e-3
LATE = 1e12


class Modes(NamedTuple):
    """Margins of features at time 0 and their imbalances, of whatever shape."""

    margin: Array
    imbalance: Array


def collective_modes(projection: Array, readout: Array, norm: float | Array = 1.0) -> Modes:
    r"""Return the mode that neurons active on the same feature make up together; neurons are the last axis.

    Derived: all of them feel the same force, so in the time :math:`d\tau = p r g\,dt` every z + u grows and every z - u
    falls by the same factor :math:`e^{\pm\tau}`. Their common margin :math:`m = r\sum z u = r(A e^{2\tau} - B
    e^{-2\tau})`, with 4A and 4B the sums of :math:`(z \pm u)^2`, therefore obeys :math:`\dot m = p r g \sqrt{C^2 +
    4m^2}` with :math:`C = 4 r\sqrt{AB}`: the law of a single neuron. Neurons with z < -u are left out, since they die.
    """
    alive = (readout > -projection) & (projection > 0.0)
    plus, minus = (np.sum(np.where(alive, readout + sign * projection, 0.0) ** 2, axis=-1) / 4.0 for sign in (1, -1))
    return Modes(norm * (plus - minus), 4.0 * norm * np.sqrt(plus * minus))


def parallel(n_networks: int, seed: int) -> xr.Dataset:
    """Follow networks that learn four orthogonal features of different frequency, from small random weights.

    Returns
    -------
    xarray.Dataset
        ``simulated``, ``predicted`` (network, mode, time), margins of :func:`wideangle.dynamics.simulate_two_layer` and
        in closed form; ``margin0``, ``imbalance`` (network, mode), the initial values of :func:`collective_modes`;
        ``frequency(mode)``; ``status(network)``.
    """
    import xarray as xr

    rng = np.random.default_rng([seed, 1])
    modes = len(COPIES)
    own = np.repeat(np.arange(modes), NEURONS_PER_FEATURE)
    labels_of_modes = np.where(np.arange(modes) % 2 == 0, 1.0, -1.0)
    # Each neuron is active on one feature alone, and stays so since the others do not move it.
    size = INITIAL_SCALE * np.abs(rng.standard_normal((n_networks, own.size, modes)))
    weights = np.where(np.arange(modes) == own[:, None], size, -size)
    readout = INITIAL_SCALE * rng.standard_normal((n_networks, own.size))  # times the label of the feature
    shape = (n_networks, modes, NEURONS_PER_FEATURE)
    initial = collective_modes(np.max(weights, axis=-1).reshape(shape), readout.reshape(shape))
    frequency = np.array(COPIES) / sum(COPIES)
    with warnings.catch_warnings():
        # Two features of one class are orthogonal; that no neuron is active on both is what independence needs.
        warnings.filterwarnings("ignore", message="the data are not orthogonally separable")
        run = simulate_two_layer(
            np.repeat(np.eye(modes), COPIES, axis=0),
            np.repeat(labels_of_modes, COPIES),
            weights,
            readout * labels_of_modes[own],
            PARALLEL_TIMES,
        )
    first = np.concatenate([[0], np.cumsum(COPIES)[:-1]])
    predicted = predict_margin(
        PARALLEL_TIMES, initial.margin[..., None], rate=frequency[:, None], imbalance=initial.imbalance[..., None]
    )
    return xr.Dataset(
        {
            "simulated": (("network", "mode", "time"), run["margins"].values[..., first].swapaxes(1, 2)),
            "predicted": (("network", "mode", "time"), predicted),
            "margin0": (("network", "mode"), initial.margin),
            "imbalance": (("network", "mode"), initial.imbalance),
            "frequency": ("mode", frequency),
            "status": ("network", run["status"].values),
        },
        {"time": PARALLEL_TIMES},
        provenance("parallel", source=SOURCE, n_networks=n_networks, seed=seed, scale=INITIAL_SCALE),
    )


def trained(parallel: xr.Dataset, learning_rates: Sequence[float]) -> xr.Dataset:
    """Train the modes of the first network of :func:`parallel` in PyTorch: :func:`wideangle.dynamics.compare_training`.

    Each mode is one neuron with the margin and the imbalance of the neurons it stands for, which obeys the same law.
    """
    first = parallel.isel(network=0)
    # From a negative margin a single neuron learns with the larger of its factors below.
    signs = np.where(first["margin0"].values < 0.0, -1.0, 1.0)
    return compare_training(
        np.eye(first.sizes["mode"]),
        first["frequency"].values,
        first["margin0"].values,
        np.geomspace(1.0, 400.0, 60),
        imbalance=signs * first["imbalance"].values,
        architecture="relu",
        learning_rates=learning_rates,
    )


def phases(n_grid: int) -> xr.Dataset:
    """Find phases and convergence times on a grid of initial values, by integration and in closed form.

    Returns
    -------
    xarray.Dataset
        The variables of :func:`wideangle.dynamics.phase_diagram` with a dimension ``loss``, by integration; and in
        closed form with ``predicted_`` before the name. No point of the grid lies on a boundary.
    """
    import xarray as xr

    readout = np.linspace(-2.0, 2.0, n_grid)
    projection = readout + (readout[1] - readout[0]) / 3.0
    found = []
    for loss in LOSS_NAMES:
        simulated, predicted = (
            phase_diagram(readout, projection, loss=loss, method=method) for method in ("integrate", "closed-form")
        )
        names = ("phase", "convergence_time", "turning_time")
        found.append(simulated.assign({f"predicted_{name}": predicted[name] for name in names}))
    result: xr.Dataset = xr.concat(found, xr.DataArray(list(LOSS_NAMES), dims="loss", name="loss"), join="exact")
    result.attrs = provenance("phases", source=SOURCE, n_grid=n_grid)
    return result


def speed(n_networks: int, seed: int) -> xr.Dataset:
    """Time networks up to margin 1 at different frequencies and input norms, one of the two at a time.

    Returns
    -------
    xarray.Dataset
        ``simulated``, ``predicted`` (case, network): times by simulation and by
        :func:`wideangle.dynamics.predict_learning_time`; ``frequency``, ``input_norm`` and ``start`` (case). The start
        says what does not depend on the norm: the initial margins, as weights shrink with its square root, or the
        weights.
    """
    import xarray as xr

    rng = np.random.default_rng([seed, 2])
    projection = INITIAL_SCALE * np.abs(rng.standard_normal((n_networks, NEURONS_PER_FEATURE)))
    readout = INITIAL_SCALE * rng.standard_normal((n_networks, NEURONS_PER_FEATURE))
    cases = [("margins", count, 1.0) for count in SHARES]
    cases += [(start, SAMPLES // 2, norm) for start in ("margins", "weights") for norm in NORMS]
    simulated, predicted = [], []
    for start, count, norm in cases:
        scale = norm**-0.5 if start == "margins" else 1.0
        u, z, p = scale * projection, scale * readout, count / SAMPLES
        initial = collective_modes(u, z, norm)
        predicted.append(predict_learning_time(GOAL, initial.margin, rate=p * norm, imbalance=initial.imbalance))
        simulated.append(_times_to_goal(u, z, count, norm, 1.5 * float(np.max(predicted[-1]))))
    return xr.Dataset(
        {"simulated": (("case", "network"), simulated), "predicted": (("case", "network"), predicted)},
        {
            "start": ("case", [start for start, _, _ in cases]),
            "frequency": ("case", [count / SAMPLES for _, count, _ in cases]),
            "input_norm": ("case", [norm for _, _, norm in cases]),
        },
        provenance("speed", source=SOURCE, n_networks=n_networks, seed=seed, margin=GOAL),
    )


def _times_to_goal(projection: Array, readout: Array, count: int, norm: float, end: float) -> Array:
    """Return the times at which the margin of class 1, with ``count`` of all samples, reaches the goal."""
    from scipy.interpolate import CubicSpline

    x = np.repeat([[norm, 0.0], [0.0, 1.0]], [count, SAMPLES - count], axis=0)
    y = np.repeat([1.0, -1.0], [count, SAMPLES - count])
    # Off on the other class, which has no neurons of its own and is not learned.
    weights = np.stack([projection, -np.ones_like(projection)], axis=-1)
    times = np.linspace(0.0, end, 2000)
    margins = simulate_two_layer(x, y, weights, readout, times, rtol=1e-10)["margins"].values[..., 0]
    found = []
    for row in margins:
        near = slice(max(int(np.argmax(row > GOAL)) - 20, 0), int(np.argmax(row > GOAL)) + 20)
        found.append(float(CubicSpline(row[near], times[near])(GOAL)))
    return np.array(found)


def losses() -> xr.Dataset:
    """Follow one neuron of each of two classes under cross-entropy and hinge, up to t = 1e12.

    Returns
    -------
    xarray.Dataset
        ``simulated``, ``predicted`` (loss, time): margins of class 1; ``stop_time``, ``predicted_stop_time`` (case):
        when the margin of a neuron reaches 1 under the hinge, by integration and as ln(1/m0)/(2pr), for several
        ``margin0``, ``frequency`` and ``input_norm`` (case); ``drift``: largest change of a weight under the hinge from
        a moment after the stop to the end.
    """
    import xarray as xr

    start = 1e-4
    stop = float(np.log(1.0 / start) / (2.0 * 0.5))
    times = np.unique(np.concatenate([np.linspace(0.0, 3.0 * stop, 181), np.geomspace(0.1, LATE, 160)]))
    root = np.sqrt(start)
    curves, drift = [], np.nan
    for loss in LOSS_NAMES:
        run = simulate_two_layer(
            np.eye(2), [1, -1], [[root, -1.0], [-1.0, root]], [root, -root], times, loss=loss, rtol=1e-10
        )
        curves.append(run["margins"].values[:, 0])
        if loss == "hinge":
            later = run.sel(time=slice(1.005 * stop, None))
            drift = max(float(np.max(np.ptp(later[name].values, axis=0))) for name in ("weights", "readout"))
    predicted = [predict_margin(times, start, rate=0.5, loss=loss) for loss in LOSS_NAMES]

    cases = [(m, p, r) for m in (1e-8, 1e-4, 1e-1) for p, r in ((1.0, 1.0), (0.2, 1.0), (0.2, 3.0))]
    stops = []
    for m, p, r in cases:
        initial = [float(np.sqrt(m / r))]
        found = phase_diagram(initial, initial, frequency=p, input_norm=r, loss="hinge", rtol=1e-10)
        stops.append(found["convergence_time"].item())
    margins0, shares, norms = np.array(cases).T
    return xr.Dataset(
        {
            "simulated": (("loss", "time"), curves),
            "predicted": (("loss", "time"), predicted),
            "stop_time": ("case", stops),
            "predicted_stop_time": ("case", np.log(1.0 / margins0) / (2.0 * shares * norms)),
            "drift": ((), drift),
        },
        {
            "loss": list(LOSS_NAMES),
            "time": times,
            "margin0": ("case", margins0),
            "frequency": ("case", shares),
            "input_norm": ("case", norms),
        },
        provenance("losses", source=SOURCE, start=start, frequency=0.5, input_norm=1.0),
    )


def starvation() -> xr.Dataset:
    """Integrate two modes, one in all samples, one in a fraction of them, from tiny margins up to t = 1e12.

    Returns
    -------
    xarray.Dataset
        ``simulated``, ``predicted``, ``lower_bound`` (fraction, mode, time): margins of
        :func:`wideangle.dynamics.simulate_modes` and :func:`wideangle.dynamics.predict_starvation`.
    """
    times = np.concatenate([[0.0], np.geomspace(1.0, LATE, 240)])
    return _competing_modes(times, "cross-entropy", SMALL_MARGIN)


def hinge() -> xr.Dataset:
    """Integrate the same modes from moderate margins under both losses.

    Returns
    -------
    xarray.Dataset
        As :func:`starvation`, with ``loss`` as a dimension; and ``frozen_margin``, ``saturation_time`` (fraction):
        where and when the rarer mode stops under the hinge.
    """
    import xarray as xr

    times = np.unique(np.concatenate([[0.0], np.linspace(0.1, 40.0, 400), np.geomspace(40.0, 1e6, 80)]))
    runs = [_competing_modes(times, loss, MODERATE_MARGIN) for loss in LOSS_NAMES]
    frozen = {name: runs[1][name] for name in ("frozen_margin", "saturation_time")}
    result: xr.Dataset = xr.concat(
        [run.drop_vars(frozen, errors="ignore") for run in runs],
        xr.DataArray(list(LOSS_NAMES), dims="loss", name="loss"),
        join="exact",
    )
    result = result.assign(frozen)
    result.attrs = provenance("hinge", source=SOURCE, margin0=MODERATE_MARGIN)
    return result


def _competing_modes(times: Array, loss: str, start: float) -> xr.Dataset:
    import xarray as xr

    fractions, margins0 = np.array(FRACTIONS), np.array([start, start])
    shares = np.stack([1.0 - fractions, fractions], axis=1)
    run = simulate_modes([[1, 0], [1, 1]], shares, margins0, times, loss=loss, rtol=1e-10)
    law = predict_starvation(fractions, margins0, times, loss=loss)
    over = ("fraction", "mode", "time")
    variables: dict[str, Any] = {
        "simulated": (over, run["margins"].values),
        "predicted": (over, law["margins"].values),
        "lower_bound": (over, law["lower_bound"].values),
    }
    if loss == "hinge":
        variables |= {name: ("fraction", law[name].values) for name in ("frozen_margin", "saturation_time")}
    return xr.Dataset(
        variables,
        {"fraction": fractions, "mode": [0, 1], "time": times},
        provenance("starvation", source=SOURCE, loss=loss, margin0=start),
    )
