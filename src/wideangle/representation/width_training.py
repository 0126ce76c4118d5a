"""Networks of several widths, trained to zero training error and beyond, and ensembles of narrow ones beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import check_flag, check_threads
from wideangle._cpu import available_threads
from wideangle._provenance import provenance
from wideangle.data import LabelledData
from wideangle.reference import build_mlp
from wideangle.reference._side_by_side import side_by_side
from wideangle.reference._steps import PERFORMANCE, as_tensors
from wideangle.reference._torch import require_torch
from wideangle.reference.epoch_training import EpochRun, LayerRecord, train_epochs
from wideangle.reference.training import DIVERGED
from wideangle.representation._training_plan import Network, Plan, check_plan

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

SOURCE = (
    "arXiv 2106.03485 (Doimo, Glielmo, Goldt, Laio): networks of several widths, trained with weight decay to zero "
    "training error"
)

_FLAGS = {"flag_values": [0, 1, 2], "flag_meanings": "trained diverged out_of_epochs"}


def train_widths(
    data: LabelledData,
    widths: Iterable[int],
    *,
    n_runs: int,
    until: str | int = "zero training error",
    weight_decay: float,
    seed: int,
    n_hidden: int = 2,
    learning_rate: float = 0.05,
    momentum: float = 0.9,
    batch_size: int = 128,
    max_epochs: int = 500,
    extra_epochs: int = 0,
    keep: str | Sequence[int | str] = "last",
    member_width: int | None = None,
    n_threads: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    r"""Train ReLU networks of several widths, and keep the activations of their last hidden layer.

    Parameters
    ----------
    data
        Training and test set, of two classes or more.
    widths
        Increasing, from 1. All hidden layers of a network have the same.
    n_runs
        Networks of each width.
    until
        ``"zero training error"`` (default): networks train until the first epoch at whose end they classify the whole
        training set correctly, and ``extra_epochs`` from there. Or a number of epochs, from 1, whatever the error.
    weight_decay
        :math:`\lambda \ge 0`: :math:`\lambda` times a weight or bias is added to its gradient.
    seed
        0 <= seed < 2**64. Initial weights and the order of samples are functions of seed, width and run: other widths
        and runs do not matter. They may change with the minor versions of NumPy and PyTorch.
    n_hidden
        Hidden layers, from 1; default 2.
    learning_rate, momentum, batch_size
        Of stochastic gradient descent on the cross-entropy, in a new order of samples every epoch; default 0.05, 0.9
        and 128. The rate does not change with the width or in time. The last batch of an epoch may be smaller.
    max_epochs
        Epochs, from 1, after which a network that has not come to zero training error is given up; default 500.
        Of no effect if ``until`` is a number.
    extra_epochs
        Epochs past zero training error, default 0. Only with ``until="zero training error"``.
    keep
        When activations are kept: ``"last"`` (default), at the end, which are kept always, or a sequence of numbers of
        epochs, 0 being initialisation, and of ``"zero training error"``, the first epoch without errors.
    member_width
        Width m of the members of ensembles, such as that of a clone; default None, no ensembles. A network of width
        k m is compared with the ensemble of k networks of width m.
    n_threads
        Networks trained at the same time, with one thread of PyTorch each; default every processor available. Results
        do not depend on it.
    progress
        Show a progress bar; default False.

    Returns
    -------
    xarray.Dataset
        - ``train_loss(width, run, epoch)``, ``train_error``, ``test_loss``, ``test_error``: mean cross-entropy in nats
          and share of wrong classes at the end of an epoch, epoch 0 being initialisation; NaN where a network has
          stopped. ``final_train_loss(width, run)`` and so on: their last values, NaN if the network diverged;
        - ``epochs_to_zero_training_error(width, run)``: the first epoch without errors, NaN if there was none;
        - ``status(width, run)``: 0 trained; 1 diverged, a loss at the end of an epoch was infinite or NaN; 2 out of
          epochs before zero training error;
        - ``train_features_256(run, kept, train_sample, neuron_256)``, ``test_features_256``, for width 256 and likewise
          for each: activations of the last hidden layer, samples in the order of ``data``;
          ``readout_256(run, kept, class, neuron_256)``, ``bias_256(run, kept, class)``: what the output layer makes
          of them, features @ readout.T + bias. float32; NaN where a network did not come so far, or diverged.
          ``kept_epoch(width, run, kept)``: their epoch. The labels of ``kept`` are strings, such as "10",
          "zero training error" and "last";
        - ``train_targets(train_sample)``, ``test_targets(test_sample)``.

        With ``member_width`` also, NaN where a width is no multiple of it or a member diverged:

        - ``n_members(width)``: k, or 0;
        - ``ensemble_test_error(width, run)``, ``ensemble_test_loss``: of the mean over members of softmax
          probabilities; ``logit_ensemble_test_error``, ``logit_ensemble_test_loss``: of the mean of their outputs
          before the softmax;
        - ``member_test_error(run, member)``, ``member_status``: of the members, each by itself.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or what is kept does not fit in memory, before any training.
    ImportError
        If PyTorch is missing.
    KeyboardInterrupt
        On Ctrl-C, within 0.2 s where a batch, and 1000 samples without gradients, take less.

    Notes
    -----
    Doimo, Glielmo, Goldt and Laio, arXiv 2106.03485, find that chunks of the last hidden layer become clones once the
    training error is zero, and only with regularisation. There, Wide-ResNets on CIFAR-10 have momentum 0.9, batches of
    128 and weight decay 5e-4 at learning rate 0.1, which falls along a cosine. Here the rate is constant, for there is
    no end to anneal to before the training error is zero. Networks are in PyTorch's parametrization, from
    :func:`wideangle.reference.build_mlp` with biases.

    Members are trained as all others are. Ensemble and wide network have the same number of neurons in each hidden
    layer, but the ensemble has k times fewer weights between them. The ensembles of different runs share no members.
    Those of one run are nested: that of k members consists of the first k, the first of which is the network of width m
    itself. So ``ensemble_test_error`` of different widths is correlated, and that of width m is ``final_test_error``.

    Examples
    --------
    >>> import wideangle as wa
    >>> data = wa.data.load_digits(seed=1)
    >>> trained = wa.representation.train_widths(
    ...     data, [16, 64], n_runs=2, weight_decay=3e-3, extra_epochs=20, member_width=16, seed=1
    ... )
    >>> trained.final_train_error.max().item(), trained.final_test_error.max().item() < 0.1
    (0.0, True)
    >>> wide = trained.sel(width=64).mean("run")
    >>> wide.ensemble_test_loss.item() < wide.final_test_loss.item()
    True
    >>> layer = trained.sel(run=0, kept="last")
    >>> chunks = wa.representation.chunk_statistics(
    ...     layer.test_features_64,
    ...     readout=layer.readout_64,
    ...     bias=layer.bias_64,
    ...     targets=layer.test_targets,
    ...     seed=1,
    ... )
    >>> [chunks.error_mean.sel(chunk_size=size).item() < 0.2 for size in (8, 64)]
    [False, True]
    """
    plan = check_plan(
        data,
        widths,
        n_runs=n_runs,
        until=until,
        weight_decay=weight_decay,
        seed=seed,
        n_hidden=n_hidden,
        learning_rate=learning_rate,
        momentum=momentum,
        batch_size=batch_size,
        max_epochs=max_epochs,
        extra_epochs=extra_epochs,
        keep=keep,
        member_width=member_width,
    )
    threads = check_threads(n_threads) or available_threads()
    show = check_flag("progress", progress)
    plan.check_memory(threads)
    require_torch()
    records = {width: _empty_record(plan, width) for width in plan.widths}
    runs = _train_all(plan, records, threads, show)
    return _dataset(plan, records, runs)


def _empty_record(plan: Plan, width: int) -> LayerRecord:
    """Return arrays for all runs of a width, whose first axis is the run."""
    runs, kept, classes = plan.n_runs, len(plan.keep), plan.data.n_classes

    def empty(*shape: int) -> NDArray[np.float32]:
        return np.full((runs, kept, *shape), np.nan, dtype=np.float32)

    return LayerRecord(
        epoch=np.full((runs, kept), np.nan),
        train_features=empty(len(plan.data.x_train), width),
        test_features=empty(len(plan.data.x_test), width),
        readout=empty(classes, width),
        bias=empty(classes),
    )


def _train_all(plan: Plan, records: dict[int, LayerRecord], threads: int, show: bool) -> dict[Network, EpochRun]:
    """Train all networks, and write what is kept of their layers into ``records``."""
    tensors = as_tensors(plan.data)

    def train(network: Network, stopped: Event) -> EpochRun:
        weight_seed, batch_seed = plan.seeds(network)
        model = build_mlp(
            (network.width,) * plan.n_hidden,
            n_inputs=plan.data.n_features,
            n_outputs=plan.data.n_classes,
            seed=weight_seed,
            bias=True,
        )
        record = records.get(network.width) if network.member == 0 else None
        return train_epochs(
            model,
            tensors,
            plan.descent,
            seed=batch_seed,
            keep=plan.keep,
            record=None if record is None else LayerRecord(*(each[network.run] for each in record)),
            stopped=stopped,
        )

    networks = plan.networks()
    runs = side_by_side(train, networks, n_threads=min(threads, len(networks)), progress=show)
    return dict(zip(networks, runs, strict=True))


def _dataset(plan: Plan, records: dict[int, LayerRecord], runs: dict[Network, EpochRun]) -> xr.Dataset:
    import xarray as xr

    variables = _curves(plan, runs)
    variables["kept_epoch"] = (("width", "run", "kept"), [records[width].epoch for width in plan.widths])
    for width, record in records.items():
        neuron = f"neuron_{width}"
        variables |= {
            f"train_features_{width}": (("run", "kept", "train_sample", neuron), record.train_features),
            f"test_features_{width}": (("run", "kept", "test_sample", neuron), record.test_features),
            f"readout_{width}": (("run", "kept", "class", neuron), record.readout),
            f"bias_{width}": (("run", "kept", "class"), record.bias),
        }
    # Copies, which unlike those of the data can be written to.
    variables["train_targets"] = ("train_sample", plan.data.y_train.copy())
    variables["test_targets"] = ("test_sample", plan.data.y_test.copy())
    if plan.member_width is not None:
        variables |= _ensembles(plan, plan.member_width, runs)
    coordinates = {"width": list(plan.widths), "run": np.arange(plan.n_runs), "kept": list(plan.keep)}
    coordinates["epoch"] = np.arange(variables["train_loss"][1].shape[-1])
    return xr.Dataset(
        variables, coordinates, provenance("wideangle.representation.train_widths", source=SOURCE, **plan.attributes())
    )


def _curves(plan: Plan, runs: dict[Network, EpochRun]) -> dict[str, Any]:
    """Return what networks recorded at the end of epochs, as variables."""
    over = ("width", "run")
    shape = (len(plan.widths), plan.n_runs)
    trained = [runs[Network(width, run)] for width in plan.widths for run in range(plan.n_runs)]
    curves = np.full((len(trained), max(1, *(len(each.performance) for each in trained)), len(PERFORMANCE)), np.nan)
    final = np.full((len(trained), len(PERFORMANCE)), np.nan)
    for place, each in enumerate(trained):
        curves[place, : len(each.performance)] = each.performance
        if each.status != DIVERGED:
            final[place] = each.performance[-1]
    variables: dict[str, Any] = {}
    for entry, name in enumerate(PERFORMANCE):
        is_loss = name.endswith("loss")
        through, last = ((values if is_loss else 1.0 - values) for values in (curves[..., entry], final[..., entry]))
        name = name.replace("accuracy", "error")
        attributes = {"units": "nat"} if is_loss else {}
        variables[name] = ((*over, "epoch"), through.reshape(*shape, -1), attributes)
        variables[f"final_{name}"] = (over, last.reshape(shape), attributes)
    zero_errors = [np.nan if each.zero_error is None else each.zero_error for each in trained]
    variables["epochs_to_zero_training_error"] = (over, np.reshape(zero_errors, shape))
    variables["status"] = (over, np.reshape([each.status for each in trained], shape).astype(np.int8), _FLAGS)
    return variables


def _ensembles(plan: Plan, member_width: int, runs: dict[Network, EpochRun]) -> dict[str, Any]:
    """Return how ensembles of narrow networks and their members classify the test set, as variables."""
    over = ("width", "run")
    sizes = plan.ensemble_sizes()
    members = [[runs[Network(member_width, run, k)] for k in range(max(sizes))] for run in range(plan.n_runs)]
    outputs = np.array([[each.test_outputs for each in row] for row in members])
    status = np.array([[each.status for each in row] for row in members], dtype=np.int8)
    found = np.full((len(sizes), plan.n_runs, 4), np.nan)
    for place, size in enumerate(sizes):
        for run in range(plan.n_runs if size else 0):
            found[place, run] = _ensemble_performance(outputs[run, :size], plan.data.y_test)
    single = [[_ensemble_performance(each[None], plan.data.y_test)[0] for each in row] for row in outputs]
    return {
        "n_members": ("width", sizes),
        "ensemble_test_error": (over, found[..., 0]),
        "ensemble_test_loss": (over, found[..., 1], {"units": "nat"}),
        "logit_ensemble_test_error": (over, found[..., 2]),
        "logit_ensemble_test_loss": (over, found[..., 3], {"units": "nat"}),
        "member_test_error": (("run", "member"), single),
        "member_status": (("run", "member"), status, _FLAGS),
    }


def _ensemble_performance(outputs: NDArray[np.float32], targets: NDArray[np.int64]) -> list[float]:
    """Return error and loss of the mean of softmax probabilities, and of that of outputs (member, sample, class)."""
    from scipy.special import log_softmax, logsumexp

    if not np.isfinite(outputs).all():
        return [np.nan] * 4
    logits = outputs.astype(np.float64)
    mean_probabilities = logsumexp(log_softmax(logits, axis=-1), axis=0) - np.log(len(logits))
    found = []
    for log_probabilities in (mean_probabilities, log_softmax(logits.mean(axis=0), axis=-1)):
        accuracy = (log_probabilities.argmax(axis=-1) == targets).mean()
        found += [1.0 - accuracy, -log_probabilities[np.arange(len(targets)), targets].mean()]
    return found
