"""The compiled ensemble beside PyTorch: the same training from the same weights, and real steps beside the kernel."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wideangle._checks import check_integer, check_memory, check_numbers, check_positive_real, check_samples
from wideangle._progress import progress_callback
from wideangle._provenance import provenance
from wideangle.activations import Activation
from wideangle.data import LabelledData
from wideangle.losses import Loss, parse_loss
from wideangle.network import MLP, NetworkWeights
from wideangle.reports.claims import Claim
from wideangle.response._state import States, read_state
from wideangle.response._training_arguments import MAX_STEPS, check_batch, check_data, check_records
from wideangle.response._training_results import samples_met
from wideangle.response.responses import training_response
from wideangle.response.simulation import simulate_training
from wideangle.response.tangent_kernels import tangent_kernel

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

SOURCE = "wideangle.response.simulate_training and training_response against PyTorch, in float64"
_FIRST_STEP, _STEPS = 0.01, 4
# Below so many times its own rounding, the difference of two outputs says nothing of how it depends on the step.
_ABOVE_ROUNDING = 100.0
_ORDER = (0.95, 1.05)
_LEAST_RESPONSE = 1e-3  # of the largest


def compare(
    network: MLP,
    data: tuple[ArrayLike, ArrayLike] | LabelledData,
    *,
    n_networks: int = 4,
    n_steps: int = 300,
    batch: str | int = 1,
    learning_rate: float,
    loss: str | Loss = "cross-entropy",
    activation: str | Activation | None = None,
    noise: float | None = None,
    seed: int = 0,
    record: int | tuple[int, ...] | None = None,
    replacement: bool = True,
    readout: str = "trained",
    biases: bool = True,
    parametrization: str = "standard",
    learning_rates: ArrayLike | None = None,
    n_examples: int = 8,
    tolerance: float = 1e-10,
    first_network: int = 0,
    n_threads: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    r"""Compare the compiled ensemble with PyTorch: whole runs of training, and single steps with the tangent kernel.

    Each network is trained twice in float64, from the same weights on the same samples with the same noisy labels: by
    :func:`simulate_training`, and by ``torch.optim.SGD`` with gradients from ``torch.autograd``. They differ by
    roundings, which training passes on, and makes larger where it is unstable. Then steps of decreasing learning rates
    are taken in PyTorch on single examples, from recorded networks. What they change, over the learning rate, differs
    from the response of :func:`training_response` in proportion to the learning rate; the order is fitted.

    Parameters
    ----------
    network, data, learning_rate, loss, activation, noise, record, replacement, readout, biases, parametrization
        As for :func:`simulate_training`; the start is recorded in any case.
    n_networks, n_steps, batch, seed, first_network
        Likewise, by default 4 networks, 300 steps on single samples, and 0.
    learning_rates
        Of the single steps, at least three different ones. Default 0.01 over the largest tangent kernel of an example
        with itself, then halved three times.
    n_examples
        How many samples, from the first on, are the examples (default 8, or all where there are fewer); all are probes.
    tolerance
        Largest difference of the two runs that ``training_verdict`` allows; default 1e-10.
    n_threads
        Threads of the compiled ensemble; default every processor available. PyTorch has one.
    progress
        Whether to show progress bars; default False.

    Returns
    -------
    xarray.Dataset
        - ``parameter_difference(network, time)``: largest difference of a parameter from PyTorch's, over the largest
          parameter; ``output_difference(network, time)``: the same for the outputs at all samples. NaN where the
          network has diverged;
        - ``training_difference``: the largest of both; ``growth``: exponent p of the largest parameter difference
          :math:`\propto t^p` in the number t of steps, by least squares, NaN with fewer than three records of
          differences: about 1 at most where roundings add up, more where training is unstable;
        - ``training_verdict``: ``"agrees"`` if ``training_difference`` is at most ``tolerance``, else ``"disagrees"``;
        - ``step_error(network, step_time, learning_rate)``, at the first and the last recorded time: median, over the
          pairs of example and probe with at least a thousandth of the largest response, of the size of the difference
          of step and kernel response, over the median size of the latter. NaN where it is lost in the rounding of the
          outputs, as it is where the output is linear in all that is trained, and where nothing responds;
        - ``order``, ``order_standard_error``: p of ``step_error`` :math:`\propto \eta^p`, with a factor of its own for
          each network and time, by least squares; ``order_verdict``: ``"agrees"`` if p, give or take two standard
          errors, lies in 0.95 to 1.05, ``"disagrees"`` if outside, else ``"not resolved"``;
        - ``rounding_error``: largest difference of the steps of ``training_response(kind="step")`` from PyTorch's,
          times the learning rate, over the largest output;
        - ``status(network)``, ``diverged_step(network)``, ``loss(network, time)``: of the compiled ensemble.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, before any work.
    ImportError
        If PyTorch is missing.

    Notes
    -----
    Medians are taken rather than maxima since the error of single probes is not of first order for activations with a
    kink: where a unit of a probe passes through it in the step, the error is as large as the response, and the share of
    such probes goes to zero in proportion to the step.

    References
    ----------
    Response as the limit of small steps: arXiv 2405.04074.

    Examples
    --------
    >>> import numpy as np
    >>> import wideangle as wa
    >>> x = np.linspace(-1, 1, 6)[:, None]
    >>> run = wa.response.compare(wa.MLP((20,)), (x, np.sign(x[:, 0])), learning_rate=0.1, n_networks=2)
    >>> bool(run.training_difference < 1e-10), round(float(run.order), 1)
    (True, 1.0)
    """
    from wideangle.reference._torch import require_torch

    require_torch()
    law = parse_loss(loss)
    data = check_data(data, law)
    n_networks = check_samples("n_networks", n_networks)
    n_steps = check_integer("n_steps", n_steps, low=0, high=MAX_STEPS, remedy="give the number of steps")
    n_examples, given_rates, limit = _check_steps(n_examples, learning_rates, tolerance)
    _check_memory(data[0], n_networks, n_steps, batch, n_examples, _STEPS if given_rates is None else len(given_rates))
    state = simulate_training(
        network,
        data,
        n_networks=n_networks,
        n_steps=n_steps,
        batch=batch,
        learning_rate=learning_rate,
        loss=law,
        activation=activation,
        noise=noise,
        seed=seed,
        record=tuple(sorted({0, *check_records(record, n_steps)})),
        replacement=replacement,
        readout=readout,
        biases=biases,
        parametrization=parametrization,
        first_network=first_network,
        n_threads=n_threads,
        progress=progress,
    )
    return _with_torch(state, n_examples, given_rates, limit, n_threads, progress)


def _check_steps(n_examples: Any, learning_rates: Any, tolerance: Any) -> tuple[int, Array | None, float]:
    """Return what single steps are taken with, and the largest difference of two runs that agree."""
    remedy = "give a number of examples, such as 8"
    n_examples = check_integer("n_examples", n_examples, low=1, high=10**6, remedy=remedy)
    limit = check_positive_real("tolerance", tolerance, remedy="give a positive number, such as 1e-10")
    return n_examples, _check_rates(learning_rates), limit


def _check_memory(x: Array, n_networks: int, n_steps: int, batch: Any, n_examples: int, n_rates: int) -> None:
    """Refuse what does not fit beside the ensemble: the samples of a network, and the responses to steps."""
    size = check_batch(batch, len(x)) or len(x)
    check_memory(
        16 * n_steps * size,
        f"the samples of n_steps = {n_steps} steps on {size} each need",
        remedy="take fewer steps or smaller batches",
    )
    pairs = min(n_examples, len(x)) * len(x)
    check_memory(
        16 * (n_rates + 3) * n_networks * pairs,
        f"the responses of n_networks = {n_networks} to steps on {min(n_examples, len(x))} examples need",
        remedy="take fewer networks or a smaller n_examples",
    )


def _check_rates(value: Any) -> Array | None:
    if value is None:
        return None
    remedy = "give at least three different learning rates, such as [1e-3, 5e-4, 2.5e-4]"
    rates = check_numbers("learning_rates", value, ndim=(1,), remedy=remedy)
    if np.any(rates <= 0.0) or np.unique(rates).size < max(3, rates.size):
        raise ValueError(f"learning_rates must be three different positive numbers or more, got {rates}; {remedy}")
    return rates


def _with_torch(
    state: xr.Dataset, n_examples: int, rates: Array | None, limit: float, n_threads: int | None, progress: bool
) -> xr.Dataset:
    """Return the comparison of a state with PyTorch: its training, and steps from its first and last record."""
    from wideangle.reference._torch import on_cpu, torch_threads

    ends = state.isel(time=[0, -1] if state.sizes["time"] > 1 else [0])
    examples = state["x"].values[:n_examples]
    rates = _default_rates(ends, examples) if rates is None else rates
    with on_cpu(), torch_threads(1):
        differences = _train_again(state, progress)
        steps = _take_steps(ends, examples, rates)
    dataset: xr.Dataset = state[["status", "diverged_step", "loss"]].assign(
        _of_training(differences, state, limit) | _of_steps(ends, examples, rates, steps, n_threads)
    )
    own = provenance("wideangle.response.compare", source=SOURCE, n_examples=len(examples), tolerance=limit)
    dataset.attrs = {name: value for name, value in state.attrs.items() if name not in ("function", "source")} | own
    return dataset


def _default_rates(ends: xr.Dataset, examples: Array) -> Array:
    kernel = tangent_kernel(ends, examples)["kernel"].values
    own = np.diagonal(kernel, axis1=-2, axis2=-1)
    largest = float(np.max(own, where=np.isfinite(own), initial=0.0))
    return np.asarray(_FIRST_STEP / (largest or 1.0) * 0.5 ** np.arange(_STEPS), np.float64)


def _weights(states: States, place: int) -> NetworkWeights:
    layers = states.layers
    return NetworkWeights(
        [weights[place] for weights, _ in layers],
        biases=[biases[place] for _, biases in layers],
        activation=states.activation,
    )


def _train_again(state: xr.Dataset, progress: bool) -> tuple[Array, Array]:
    """Return the relative differences (network, record) of parameters and outputs from PyTorch's."""
    from wideangle.reference.visits import Rates, Visits, train_on_visits

    states = read_state(state)
    rates = Rates(states.weight_rates, states.bias_rates).times(float(state.attrs["learning_rate"]))
    parameters = states.parameters.reshape(*states.shape, -1)
    outputs, x = state["outputs"].transpose("network", "time", "sample").values, state["x"].values
    differences = np.full((2, *states.shape), np.nan)
    n_records = states.shape[1]
    with progress_callback(len(parameters), progress, unit="network") as watch:
        for network in range(len(parameters)):
            samples, labels = samples_met(state.isel(network=[network]))
            found = train_on_visits(
                _weights(states, network * n_records),
                rates,
                state.attrs["loss"],
                x,
                Visits(samples[0], labels[0]),
                state["step"].values.tolist(),
            )
            for record, there in enumerate(found):
                for kind, pair in enumerate(
                    ((parameters[network, record], there.parameters), (outputs[network, record], there.outputs))
                ):
                    differences[kind, network, record] = _relative(*pair)
            if watch is not None:
                watch(network + 1)
    return differences[0], differences[1]


def _relative(here: Array, there: Array) -> float:
    if not np.isfinite(here).all():
        return math.nan
    size = np.abs(there).max()
    return float(np.abs(here - there).max() / size) if size > 0.0 else float(np.abs(here).max())


def _of_training(differences: tuple[Array, Array], state: xr.Dataset, limit: float) -> dict[str, Any]:
    largest = float(np.nanmax(differences))
    claim = Claim("The runs are the same up to rounding.", largest, (largest, largest), (0.0, limit))
    steps, worst = state["step"].values, np.max(differences[0], axis=0, initial=0.0, where=~np.isnan(differences[0]))
    used = (steps > 0) & (worst > 0.0)
    growth = math.nan
    if np.count_nonzero(used) >= 3:
        growth = float(np.polyfit(np.log(steps[used]), np.log(worst[used]), 1)[0])
    return {
        "parameter_difference": (("network", "time"), differences[0]),
        "output_difference": (("network", "time"), differences[1]),
        "training_difference": ((), largest),
        "growth": ((), growth),
        "training_verdict": ((), claim.verdict),
    }


def _take_steps(ends: xr.Dataset, examples: Array, rates: Array) -> Array:
    """Return the responses (learning rate, network, time, example, probe) by steps in PyTorch, NaN after divergence."""
    from wideangle.reference.visits import Rates, step_and_return

    states = read_state(ends)
    x, y = ends["x"].values, ends["y"].values
    own = Rates(states.weight_rates, states.bias_rates)
    found = np.full((len(rates), len(states), len(examples), len(x)), np.nan)
    for place in range(len(states)):
        if np.isfinite(states.parameters[place]).all():
            found[:, place] = step_and_return(
                _weights(states, place), own, ends.attrs["loss"], examples, y[: len(examples)], x, rates.tolist()
            )
    return found.reshape(len(rates), *states.shape, len(examples), len(x))


def _of_steps(ends: xr.Dataset, examples: Array, rates: Array, steps: Array, n_threads: int | None) -> dict[str, Any]:
    """Return errors of the kernel response, their order, and how far the two kinds of steps are apart."""
    import xarray as xr

    x, y = ends["x"].values, ends["y"].values[: len(examples)]
    response = training_response(ends, examples, x, y_train=y, n_threads=n_threads)["response"].values
    sizes = np.abs(response)
    silent = sizes < _LEAST_RESPONSE * sizes.max(axis=(-2, -1), keepdims=True)
    size = _median(sizes, silent)
    outputs = np.abs(ends["outputs"].transpose("network", "time", "sample").values).max(axis=-1)
    by_rate = rates[:, None, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        errors = np.stack([_median(np.abs(some - response), silent) / size for some in steps])
        rounding = np.finfo(float).eps * outputs / (by_rate * size)
        errors[~(errors > _ABOVE_ROUNDING * rounding)] = np.nan
    apart = 0.0
    for place, rate in enumerate(rates):
        compiled = training_response(
            ends, examples, x, kind="step", y_train=y, learning_rate=rate, n_threads=n_threads
        )["response"].values
        gap = rate * np.abs(compiled - steps[place]).max(axis=(-2, -1)) / outputs
        apart = max(apart, float(np.max(gap, where=~np.isnan(gap), initial=0.0)))
    order, uncertainty = _fit_order(rates, errors.reshape(len(rates), -1))
    verdict = "not resolved"
    if math.isfinite(order):
        ends_of_order = (order - 2.0 * uncertainty, order + 2.0 * uncertainty)
        verdict = Claim("The error is of first order.", order, ends_of_order, _ORDER).verdict
    times = ends["time"].values
    step_error = xr.DataArray(
        np.moveaxis(errors, 0, -1),
        {"network": ends["network"].values, "step_time": times, "learning_rate": rates},
        ("network", "step_time", "learning_rate"),
    )
    return {
        "step_error": step_error,
        "order": ((), order),
        "order_standard_error": ((), uncertainty),
        "order_verdict": ((), verdict),
        "rounding_error": ((), apart),
    }


def _median(values: Array, left_out: NDArray[np.bool_]) -> Array:
    """Return medians over the last two axes, NaN of nothing."""
    flat = np.where(left_out, np.nan, values).reshape(*values.shape[:-2], -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of nothing
        return np.asarray(np.nanmedian(flat, axis=-1), np.float64)


def _fit_order(rates: Array, errors: Array) -> tuple[float, float]:
    """Return the common slope of ln error (rate, run) against ln rate and its standard error; NaN of too few errors."""
    runs = [np.isfinite(column) for column in errors.T]
    pieces = [
        (np.log(rates[used]) - np.log(rates[used]).mean(), np.log(column[used]) - np.log(column[used]).mean())
        for used, column in zip(runs, errors.T, strict=True)
        if np.count_nonzero(used) >= 2
    ]
    if not pieces:
        return math.nan, math.nan
    x, y = (np.concatenate(side) for side in zip(*pieces, strict=True))
    freedom = x.size - len(pieces) - 1
    if freedom < 1:
        return math.nan, math.nan
    slope = float(x @ y / (x @ x))
    rest = y - slope * x
    return slope, float(np.sqrt(rest @ rest / freedom / (x @ x)))
