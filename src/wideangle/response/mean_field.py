"""The mean-field model: outputs alone, under the response to each sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wideangle._checks import (
    check_choice,
    check_flag,
    check_integer,
    check_memory,
    check_samples,
    check_seed,
    check_threads,
)
from wideangle._cpu import available_threads
from wideangle._provenance import provenance
from wideangle.data import LabelledData
from wideangle.losses import Loss, parse_loss
from wideangle.response._mean_field_arguments import check_aging, check_initial, check_kernel, check_order, check_probe
from wideangle.response._mean_field_networks import TrainedNetworks, read_networks
from wideangle.response._mean_field_order import SampleOrder
from wideangle.response._mean_field_results import add_networks, mean_field_dataset
from wideangle.response._mean_field_running import MeanFieldRun
from wideangle.response._training_arguments import (
    MAX_STEPS,
    check_batch,
    check_data,
    check_learning_rate,
    check_noise,
    check_records,
)

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

SOURCE = "response to single samples with a fixed kernel and a plasticity that ages; arXiv 2204.07291 and 2405.04074"


def simulate_mean_field(
    data: tuple[ArrayLike, ArrayLike] | LabelledData | None,
    *,
    kernel: ArrayLike | Callable[..., Any] | xr.Dataset,
    aging: float | ArrayLike | Callable[..., Any] | xr.Dataset | None = None,
    loss: str | Loss | None = None,
    learning_rate: float | None = None,
    n_steps: int | None = None,
    probe: ArrayLike | None = None,
    initial: ArrayLike | None = None,
    batch: str | int | None = None,
    order: str | ArrayLike | None = None,
    n_runs: int | None = None,
    seed: int | None = None,
    noise: float | None = None,
    start_step: int | None = None,
    record: int | tuple[int, ...] | None = None,
    n_threads: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    r"""Follow the outputs of a network in training as if its responses kept their shape and only their size aged.

    A step on samples :math:`x_s` with labels :math:`y_s` changes the output at every point :math:`x'` by

    .. math:: f_{t+1}(x') = f_t(x') - \eta\,\alpha(t)\,\frac1B \sum_s \ell'(f_t(x_s), y_s)\, k(x', x_s),

    with the tangent kernel of a network, to first order in the learning rate, in the place of
    :math:`\alpha(t) k(x', x)`: a fixed kernel times a plasticity. Where the kernel is local, the responses to samples
    compete and split the space of inputs into domains of one sign each; as the plasticity ages, it takes longer and
    longer to learn anew. The model is exact for networks linear in their trained parameters.

    Parameters
    ----------
    data
        Pair (x, y) of inputs (sample, feature) and labels (sample,), or :class:`wideangle.data.LabelledData` of two
        classes, of which the training part is taken, with labels -1 and 1. The squared loss takes any labels, the
        others -1 and 1. None for the data of a state.
    kernel
        One of

        - an array (point, sample), where the points are the samples and then the probes;
        - a function of two arrays (point, feature) and (sample, feature) that returns such an array;
        - what :func:`wideangle.response.simulate_training` returns, or a part of its networks and records: each run
          is one of the networks, with its tangent kernel at the first record, its outputs there, and the samples and
          labels that it was trained on, up to the last record. Then ``loss``, ``learning_rate``, ``n_steps``,
          ``initial``, ``batch``, ``order``, ``n_runs``, ``seed``, ``noise``, ``start_step`` and ``record`` are those of
          the training and must be left out. Networks that have diverged are left out, too.
    aging
        Plasticity :math:`\alpha`, a factor of the kernel: None (default) for 1, or for networks, as below; a number; a
        function of an array of times; an array (step); or what :func:`wideangle.response.fit_aging` returns, whose
        chosen law is taken relative to its value at time 0 (that of the factor ``kernel`` if there are several).
    loss
        ``"cross-entropy"`` (default), ``"hinge"``, ``"squared"``, :math:`(f-y)^2/2`, or ``"exponential"``; see
        :mod:`wideangle.losses`.
    learning_rate
        :math:`\eta > 0`.
    n_steps
        Number of steps.
    probe
        More points (probe, feature) to follow outputs at; default None.
    initial
        Outputs at the beginning: a number, default 0, or an array (point,) or (run, point).
    batch
        Number B of samples of a step, default 1, or ``"full"`` for all.
    order
        None (default): samples are drawn independently in every step. ``"permuted"``: each batch continues a
        permutation of the data, drawn anew for each run and epoch. Or an array of integers (step,), (step, batch) or
        (run, step, batch), in which -1 may fill up a batch.
    n_runs
        Number of runs, default 1.
    seed
        Non-negative integer below 2**64, default 0. The samples of a step are a function of the seed, the run and the
        step alone. Equality across minor versions of the package is not promised.
    noise
        Label noise, drawn anew in every visit: for the squared loss the standard deviation of a normal number added to
        y, for the others the probability that y changes its sign. Default None, no noise.
    start_step
        Number of the first step, default 0; the plasticity and the samples are those of the steps from there on. With
        the last outputs of a run as ``initial`` the run goes on, with other labels if they are given.
    record
        Steps to record, counted from the first: None (default) for 0, the powers of two and ``n_steps``; an interval in
        steps, start and end included; or increasing steps from 0 to ``n_steps``.
    n_threads
        Threads; default every processor available. Results do not depend on it.
    progress
        Whether to show a progress bar.

    Returns
    -------
    xarray.Dataset
        Dimensions run, time, sample, probe, feature.

        - ``outputs(run, time, sample)`` and with probes ``probe_outputs(run, time, probe)``;
        - ``loss(run, time)``, the mean over the samples, with the labels as given;
        - ``plasticity(run, time)``: mean of :math:`\alpha(t) k(x, x)` over the samples;
        - ``response(run, time)``: mean of :math:`|\ell'|\,\alpha(t) k(x, x)`, the amplitude of the response;
        - ``n_domains(run, time)``, for inputs of one feature: number of intervals of one sign of the output along the
          points, samples and probes; outputs of 0 count to either sign; -1 after divergence;
        - ``status(run)``: 0, or 1 where a run has diverged; ``diverged_step(run)``: the step in which an output
          exceeded 1e100 in size, or -1. Later records of that run are NaN; the others go on.

        Coordinates: ``time``, :math:`\eta` times the step, that of gradient flow; ``step``; ``run``; the data,
        ``x(sample, feature)`` and ``y(sample)``, and ``probe_x(probe, feature)`` if there are probes.

        For networks the dimension run is called network, the plasticity :math:`\alpha` at the records is the mean over
        the samples of :math:`K_t(x, x)/K_0(x, x)`, K the tangent kernel and 0 the first record, linear in between, and
        there are

        - ``network_outputs(network, time, sample)`` and with probes ``probe_network_outputs(network, time, probe)``;
        - ``error(network, time)``: root mean square of the model's outputs less those of the network, over all points;
        - ``change(network, time)``: root mean square of the change of the network's outputs since the first record.

        The attribute ``dropped_networks`` lists those that have diverged.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range, the labels do not fit the loss, a function returns the
        wrong shape, or aging is undecided, before any work.
    KeyboardInterrupt
        On Ctrl-C, within 0.2 s; nothing is left running.

    References
    ----------
    The model of the outputs under the law of response is that of arXiv 2204.07291. To read the plasticity of a network
    off the diagonal of its kernel is this package's choice. Of networks the error of the model relative to their change
    is of first order in how much the shape of their kernels changes (measured; not in the literature).

    Examples
    --------
    Labels that alternate split the interval, and later ones are learnt more slowly:

    >>> import numpy as np
    >>> import wideangle as wa
    >>> x, y = np.linspace(-1, 1, 8)[:, None], np.array([1.0, -1.0] * 4)
    >>> def near(a, b):
    ...     return np.exp(-10 * np.abs(a - b.T))
    >>> run = wa.response.simulate_mean_field(
    ...     (x, y), kernel=near, aging=lambda time: 1 / (1 + time / 20), initial=1.0, learning_rate=0.1, n_steps=1000,
    ...     n_runs=3
    ... )
    >>> run.n_domains.isel(time=[0, -1]).values.tolist()
    [[1, 8], [1, 8], [1, 8]]
    >>> again = wa.response.simulate_mean_field(
    ...     (x, -y), kernel=near, aging=lambda time: 1 / (1 + time / 20), initial=run.outputs[:, -1],
    ...     learning_rate=0.1, n_steps=1000, n_runs=3, start_step=1000
    ... )
    >>> bool((again.loss[:, -1] > run.loss[:, -1]).all())
    True
    """
    n_threads = check_threads(n_threads) or available_threads()
    progress = check_flag("progress", progress)
    given = {
        "loss": loss,
        "learning_rate": learning_rate,
        "n_steps": n_steps,
        "initial": initial,
        "batch": batch,
        "order": order,
        "n_runs": n_runs,
        "seed": seed,
        "noise": noise,
        "start_step": start_step,
        "record": record,
    }
    networks = None
    if _is_dataset(kernel):
        networks = _read_networks(kernel, data, given)
        probe = check_probe(probe, networks.x.shape[1])
        points = np.concatenate([networks.x, probe])
        network_outputs = networks.outputs(points)
        run = _run_of_networks(networks, points, network_outputs, aging)
    else:
        run, probe = _run_of_arguments(data, kernel, aging, probe, given)
    outputs, diverged_step = run.run(n_threads=n_threads, progress=progress)
    dataset = mean_field_dataset(run, outputs, diverged_step, probe, "run" if networks is None else "network")
    if networks is not None:
        add_networks(dataset, outputs, network_outputs)
    samples = run.order
    dataset.attrs = provenance(
        "wideangle.response.simulate_mean_field",
        source=SOURCE,
        kernel=_describe(kernel),
        aging=_describe(aging),
        loss=str(run.loss),
        learning_rate=run.learning_rate,
        n_steps=run.n_steps,
        batch=samples.batch,
        order=samples.kind,
        seed=samples.seed,
        noise=samples.noise,
        start_step=run.first_step,
        dropped_networks=networks.dropped if networks is not None else [],
    )
    return dataset


def _is_dataset(value: Any) -> bool:
    import xarray as xr

    return isinstance(value, xr.Dataset)


def _describe(value: Any) -> str | float:
    if value is None or callable(value):
        return "None" if value is None else "function"
    if _is_dataset(value):
        return str(value.attrs.get("function", "Dataset"))
    return float(value) if np.ndim(value) == 0 else f"array {np.shape(value)}"


def _read_networks(state: Any, data: Any, given: dict[str, Any]) -> TrainedNetworks:
    superfluous = [name for name, value in given.items() if value is not None]
    if superfluous:
        raise ValueError(
            f"{', '.join(superfluous)} must be left out when kernel is a state of training, which brings its own; to "
            "depart from it, give the tangent kernel as an array"
        )
    networks = read_networks(state)
    if data is not None:
        x, y = check_data(data, networks.loss)
        if not (np.array_equal(x, networks.x) and np.array_equal(y, networks.y)):
            raise ValueError(
                "data must be what the networks of kernel were trained on; give None to take that, or the tangent "
                "kernel as an array for other data"
            )
    return networks


def _run_of_networks(networks: TrainedNetworks, points: Array, outputs: Array, aging: Any) -> MeanFieldRun:
    steps = networks.steps
    first_step, n_steps = int(steps[0]), int(steps[-1] - steps[0])
    if aging is None:
        knots, plasticity = steps, networks.plasticity()
    else:
        knots, plasticity = check_aging(aging, first_step, n_steps, networks.learning_rate)
    return MeanFieldRun(
        order=networks.order(),
        loss=networks.loss,
        learning_rate=networks.learning_rate,
        columns=networks.columns(points),
        knots=knots,
        plasticity=plasticity,
        initial=outputs[:, 0],
        numbers=networks.numbers,
        first_step=first_step,
        n_steps=n_steps,
        records=steps,
    )


def _run_of_arguments(
    data: Any, kernel: Any, aging: Any, probe: Any, given: dict[str, Any]
) -> tuple[MeanFieldRun, Array]:
    for name in ("learning_rate", "n_steps"):
        if given[name] is None:
            raise TypeError(f"{name} must be given, unless kernel is a state of training")
    loss = parse_loss("cross-entropy" if given["loss"] is None else given["loss"])
    x, y = check_data(data, loss)
    learning_rate = check_learning_rate(given["learning_rate"])
    n_steps = check_integer("n_steps", given["n_steps"], low=0, high=MAX_STEPS, remedy="give the number of steps")
    start_step = 0 if given["start_step"] is None else given["start_step"]
    start_step = check_integer("start_step", start_step, low=0, high=MAX_STEPS, remedy="give the first step, 0 or more")
    n_runs = 1 if given["n_runs"] is None else check_samples("n_runs", given["n_runs"])
    records = check_records(given["record"], n_steps)
    probe = check_probe(probe, x.shape[1])
    n_points = len(x) + len(probe)
    initial = check_initial(0.0 if given["initial"] is None else given["initial"], n_runs, n_points)
    check_memory(
        16 * n_runs * len(records) * n_points,
        f"n_runs = {n_runs} with {len(records)} records needs",
        remedy="record fewer steps or take fewer runs",
    )
    order = _order_of_arguments(x, y, loss, given, n_runs=n_runs, n_steps=n_steps, first_step=start_step)
    knots, plasticity = check_aging(aging, start_step, n_steps, learning_rate)
    run = MeanFieldRun(
        order=order,
        loss=loss,
        learning_rate=learning_rate,
        columns=check_kernel(kernel, x, probe),
        knots=knots,
        plasticity=plasticity,
        initial=initial,
        numbers=np.arange(n_runs),
        first_step=start_step,
        n_steps=n_steps,
        records=start_step + np.array(records, dtype=np.int64),
    )
    return run, probe


def _order_of_arguments(
    x: Array, y: Array, loss: Loss, given: dict[str, Any], *, n_runs: int, n_steps: int, first_step: int
) -> SampleOrder:
    order, samples = given["order"], None
    if order is None or isinstance(order, str):
        size = check_batch(1 if given["batch"] is None else given["batch"], len(x))
        if order is not None:
            check_choice("order", order, ("permuted",))
        kind = "full" if size is None else "drawn" if order is None else "permuted"
        size = size or len(x)
    else:
        if given["batch"] is not None:
            raise ValueError("batch must be left out when order is an array, which has batches of its own")
        samples = check_order(order, n_runs=n_runs, n_steps=n_steps, n_samples=len(x))
        kind, size = "given", samples.shape[2]
    return SampleOrder(
        x=x,
        # The compiled loop tells arrays apart that may not be written to.
        y=y.copy(),
        kind=kind,
        batch=size,
        seed=check_seed(0 if given["seed"] is None else given["seed"]),
        noise=check_noise(given["noise"], loss),
        flips=loss.name != "squared",
        given=samples,
        first_step=first_step,
    )
