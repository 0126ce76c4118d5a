"""The training response of a user's own PyTorch module."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wideangle._checks import (
    check_choice,
    check_flag,
    check_increasing_integers,
    check_memory,
    check_seed,
)
from wideangle._progress import progress_callback
from wideangle._provenance import provenance
from wideangle.losses import Loss, parse_loss
from wideangle.response._module_data import read_training_data
from wideangle.response._module_labels import check_labels, derivative, mean_loss
from wideangle.response._training_arguments import check_batch, check_learning_rate

if TYPE_CHECKING:
    import xarray as xr

    from wideangle.reference.module_responses import PreparedModule, Responses

Array = NDArray[np.float64]

SOURCE = "training response of arXiv 2405.04074, by torch.func"
KINDS = ("kernel", "step")


def measure(
    module: Any,
    x_train: Any,
    x_probe: Any,
    optimizer_factory: Callable[[list[Any]], Any],
    times: Iterable[int],
    *,
    y_train: ArrayLike | None = None,
    loss: str | Loss = "cross-entropy",
    batch: str | int = "full",
    kind: str = "kernel",
    learning_rate: float | None = None,
    readout: str | tuple[str, ...] | None = None,
    seed: int = 0,
    in_place: bool = False,
    progress: bool = False,
) -> xr.Dataset:
    r"""Train a PyTorch module and measure on the way how its outputs at probes answer to each training sample.

    The response at x' to the sample x is what a step of plain gradient descent on the loss of that sample alone would
    change at x', over the learning rate: :math:`-\sum_{c'} K_{cc'}(x', x)\, \partial\ell/\partial f_{c'}(x)` for output
    c, with the tangent kernel :math:`K_{cc'}(x', x) = \nabla f_c(x') \cdot \nabla f_{c'}(x)` of all parameters that
    are trained. It is the plain step also where the optimizer that trains takes others.

    Parameters
    ----------
    module
        Maps x (sample, ...) to outputs (sample,), (sample, 1) or (sample, C), each sample by itself, without random
        numbers and without changing its buffers. A copy of it is trained, in the mode (training or evaluation) in which
        it is, on its own device; parameters with ``requires_grad=False`` are frozen and no part of K. Its type may be
        any: of 16 bits the sums over parameters are taken in float32. Where training makes do with TF32, measurements
        do not.
    x_train
        Samples (sample, ...), with labels as ``y_train``. Or both together: a pair (x, y),
        :class:`wideangle.data.LabelledData`, of which the training part is taken, for a module with one output with
        labels -1 and 1 for its two classes, or a ``torch.utils.data.TensorDataset`` of samples and labels. Arrays
        become the type of the parameters, on their device; a tensor of integers, such as tokens, stays one.
    x_probe
        Probes (probe, ...), samples of the same shape and type.
    optimizer_factory
        Makes the optimizer from the list of parameters, such as ``lambda p: torch.optim.SGD(p, lr=0.1)``. What it does
        not take is not trained, and no part of K.
    times
        Steps after which to measure, increasing from 0 on; the last ends the training.
    y_train
        Labels (sample,) where ``x_train`` holds none. For one output -1 and 1, or any numbers with the squared loss;
        for C outputs classes 0 to C-1, or with the squared loss also targets (sample, C).
    loss
        For one output as in :mod:`wideangle.losses`; for several ``"cross-entropy"`` (default) of the softmax, or
        ``"squared"``, half the squared distance from the class's one-hot vector. Steps take the mean of a batch.
    batch
        ``"full"`` (default), or samples of a step; they are shuffled in every epoch.
    kind
        ``"kernel"`` (default): response by the kernel. ``"step"``: by a real step on each sample, taken back
        afterwards. Where float32 is not enough for small steps give ``module.double()``.
    learning_rate
        Of the real steps, and of the unit of time. Default that of the optimizer.
    readout
        Name of the parameter or submodule that is the readout, or several. Default the Linear or convolutional layer
        that is called last. A parameter that it shares with others belongs to it.
    seed
        Of the order of the samples, from 0, default 0. PyTorch's global generator is neither used nor advanced.
    in_place
        Whether to train ``module`` itself instead of a copy; default False.
    progress
        Whether to show a progress bar; default False.

    Returns
    -------
    xarray.Dataset
        Dimensions time, train, probe, and output if there are several. With u the direction of
        :math:`\partial\ell/\partial f(x)`, of length 1, and 1 for a single output:

        - ``response(time, train, probe[, output])``;
        - ``loss_derivative(time, train[, output])``, :math:`\partial\ell/\partial f(x)`;
        - ``kernel(time, train, probe)``, :math:`u^T K(x', x)\, u`: the response along u over
          :math:`-|\partial\ell/\partial f|`; ``readout_part`` and ``hidden_part``, its sum over the parameters of the
          readout and over all others. NaN where the loss derivative of several outputs vanishes;
        - ``amplitude(time, train)``: size of the response along u at the sample itself, by the kernel
          :math:`|\partial\ell/\partial f|\, u^T K(x, x)\, u`; ``shape(time, train, probe)``: response along u at x'
          over that at x, NaN where that is 0. Both by real steps with ``kind="step"``;
        - ``outputs(time, train[, output])``, ``probe_outputs(time, probe[, output])``, ``loss(time)``, the mean;
        - ``status``: 0, or 1 if training diverged, in step ``diverged_step`` (else -1); NaN from there on.

        Coordinates: ``time``, learning rate times steps, which is that of gradient flow only for plain gradient
        descent, and ``step``. Several modules make an ensemble with ``xarray.concat(runs, "network")``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, labels are missing or given twice, or a layer is random (Dropout), mixes
        samples (BatchNorm in training mode), cannot be differentiated by ``torch.func``, or is one behind which the
        outputs depend on no parameter (``detach``), which the message names; before training.
    ImportError
        If PyTorch is missing.

    References
    ----------
    Response and factors: arXiv 2405.04074. The direction u for several outputs, with which their factors become those
    of one output, is chosen here.

    Examples
    --------
    >>> import torch
    >>> import wideangle as wa
    >>> module = wa.reference.build_mlp((20,), n_inputs=1, n_outputs=1, seed=1)
    >>> x, y, probes = [[-0.5], [0.5]], [-1, 1], [[-0.4], [0.0], [0.4]]
    >>> def descent(parameters):
    ...     return torch.optim.SGD(parameters, lr=0.1)
    >>> run = wa.response.measure(module, (x, y), probes, descent, [0, 10, 100])
    >>> dict(run.response.sizes)
    {'time': 3, 'train': 2, 'probe': 3}
    >>> bool(run.amplitude[-1].mean() < run.amplitude[0].mean())
    True
    """
    law = parse_loss(loss)
    steps = check_increasing_integers(
        "times", times, low=0, high=10**9, remedy="give numbers of steps, such as [0, 10, 100]"
    )
    kind = check_choice("kind", kind, KINDS)
    seed = check_seed(seed)
    in_place, progress = check_flag("in_place", in_place), check_flag("progress", progress)
    rate = None if learning_rate is None else check_learning_rate(learning_rate)
    data = read_training_data(x_train, y_train)
    prepared = _prepare(module, data.x, x_probe, optimizer_factory, readout, in_place)
    labels = check_labels(data, len(prepared.x_train), prepared.function.n_outputs, law)
    size = check_batch(batch, len(prepared.x_train))
    rate = _common_rate(prepared) if rate is None else rate
    _check_memory(prepared, len(steps))

    status, diverged_step, variables = _train(prepared, law, labels, size, seed, steps, kind, rate, progress)
    variables |= {"status": ((), status), "diverged_step": ((), diverged_step)}
    dataset = _dataset(variables, steps, rate, labels)
    dataset.attrs = provenance(
        "wideangle.response.measure",
        source=SOURCE,
        module=type(module).__name__,
        optimizer=type(prepared.optimizer).__name__,
        loss=law.name,
        batch=batch,
        kind=kind,
        learning_rate=rate,
        readout=", ".join(sorted(prepared.function.readout)),
        trained=", ".join(prepared.function.names),
        seed=seed,
    )
    return dataset


def _prepare(
    module: Any, x_train: Any, x_probe: Any, optimizer_factory: Any, readout: Any, in_place: bool
) -> PreparedModule:
    from wideangle.reference._torch import require_torch

    require_torch()
    from wideangle.reference.module_responses import PreparedModule

    return PreparedModule(module, x_train, x_probe, optimizer_factory, readout=readout, in_place=in_place)


def _common_rate(prepared: PreparedModule) -> float:
    rates = prepared.learning_rates
    if len(rates) != 1:
        raise ValueError(
            f"learning_rate must be given where the groups of the optimizer have not one, got {sorted(rates)}"
        )
    return check_learning_rate(rates.pop())


def _check_memory(prepared: PreparedModule, n_times: int) -> None:
    n_train, n_probe = len(prepared.x_train), len(prepared.x_probe)
    check_memory(
        8 * n_times * n_train * n_probe * (prepared.function.n_outputs + 4),
        f"{n_times} times with {n_train} samples and {n_probe} probes take",
        remedy="give fewer times, samples or probes",
    )


def _dataset(variables: dict[str, Any], steps: tuple[int, ...], rate: float, labels: NDArray[Any]) -> xr.Dataset:
    import xarray as xr

    counts = np.array(steps, np.int64)
    dataset = xr.Dataset(variables, {"time": rate * counts, "step": ("time", counts)})
    for dim in set(dataset.sizes) - {"time"}:
        dataset.coords[dim] = np.arange(dataset.sizes[dim])
    if labels.ndim == 1:
        dataset.coords["y_train"] = ("train", labels)
    return dataset


def _train(
    prepared: PreparedModule,
    loss: Loss,
    labels: NDArray[Any],
    batch: int | None,
    seed: int,
    steps: tuple[int, ...],
    kind: str,
    rate: float,
    progress: bool,
) -> tuple[int, int, dict[str, Any]]:
    """Return status, step of divergence and variables, NaN from there on."""
    from wideangle.reference.module_responses import Training

    n_outputs = prepared.function.n_outputs
    lengths = {"time": len(steps), "train": len(prepared.x_train), "probe": len(prepared.x_probe), "output": n_outputs}
    dims = _dims(n_outputs)
    arrays = {name: np.full([lengths[dim] for dim in own], np.nan) for name, own in dims.items()}

    def keep(place: int) -> None:
        found = prepared.measure(lambda outputs: derivative(loss, outputs, labels), rate if kind == "step" else None)
        for name, values in _variables(found, loss, labels).items():
            arrays[name][place] = np.reshape(values, arrays[name][place].shape)

    with progress_callback(steps[-1], progress, unit="step") as watch:
        status, step = prepared.train(labels, Training(loss.name, batch, seed, steps), keep, watch)
    return status, step, {name: (own, arrays[name]) for name, own in dims.items()}


def _variables(found: Responses, loss: Loss, labels: NDArray[Any]) -> dict[str, Array | float]:
    """Return the variables of one time, with an axis of outputs where there may be several."""
    direction = found.directions
    size = (found.derivative * direction).sum(axis=1)
    readout, hidden = (np.einsum("tpc,tc->tp", values, direction) for values in (found.readout, found.hidden))
    if found.steps is None or found.own_steps is None:
        response = -size[:, None, None] * (found.readout + found.hidden)
        along, own, amplitude = readout + hidden, found.own, np.abs(size) * found.own
    else:
        response, along = found.steps, np.einsum("tpc,tc->tp", found.steps, direction)
        own = (found.own_steps * direction).sum(axis=1)
        amplitude = np.abs(own)
    lost = ~direction.any(axis=1)
    readout[lost], hidden[lost] = np.nan, np.nan
    return {
        "response": response,
        "kernel": readout + hidden,
        "readout_part": readout,
        "hidden_part": hidden,
        "loss_derivative": found.derivative,
        "amplitude": amplitude,
        "shape": along / np.where(own == 0.0, np.nan, own)[:, None],
        "outputs": found.outputs,
        "probe_outputs": found.probe_outputs,
        "loss": mean_loss(loss, found.outputs, labels),
    }


def _dims(n_outputs: int) -> dict[str, tuple[str, ...]]:
    last = ("output",) if n_outputs > 1 else ()
    pair = ("time", "train", "probe")
    return {
        "response": (*pair, *last),
        "kernel": pair,
        "readout_part": pair,
        "hidden_part": pair,
        "loss_derivative": ("time", "train", *last),
        "amplitude": ("time", "train"),
        "shape": pair,
        "outputs": ("time", "train", *last),
        "probe_outputs": ("time", "probe", *last),
        "loss": ("time",),
    }
