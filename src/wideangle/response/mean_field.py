"""The mean-field model: outputs alone, under the response to each sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from wideangle._checks import check_flag, check_threads
from wideangle._cpu import available_threads
from wideangle._provenance import provenance
from wideangle.data import LabelledData
from wideangle.losses import Loss
from wideangle.response._mean_field_preparation import prepare

if TYPE_CHECKING:
    import xarray as xr

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
        chosen law is taken relative to its value at time 0 (that of the factor ``kernel`` if there are several;
        a fit with ``time_unit`` is refused, as its times are not those of the flow).
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
        wrong shape, the records of networks are of several runs that differ, or aging is undecided, before any work.
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
    model = prepare(data, kernel, aging, probe, given)
    outputs, diverged_step = model.run.run(n_threads=n_threads, progress=progress)
    dataset = model.dataset(outputs, diverged_step)
    run, samples = model.run, model.run.order
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
        dropped_networks=model.dropped,
    )
    return dataset


def _describe(value: Any) -> str | float:
    import xarray as xr

    if value is None or callable(value):
        return "None" if value is None else "function"
    if isinstance(value, xr.Dataset):
        return str(value.attrs.get("function", "Dataset"))
    return float(value) if np.ndim(value) == 0 else f"array {np.shape(value)}"
