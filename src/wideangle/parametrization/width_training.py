"""Networks of several widths and scalings, trained alike: whether they learn, and what becomes of their layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from threading import Event
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from wideangle._checks import check_flag, check_increasing_integers, check_integer
from wideangle._provenance import provenance
from wideangle.activations import Activation
from wideangle.data import LabelledData
from wideangle.parametrization._arguments import check_threads
from wideangle.parametrization._trained import Comparison, check_comparison, check_first_rates, check_rates
from wideangle.reference import scaled_optimizer
from wideangle.reference._side_by_side import side_by_side
from wideangle.reference._steps import PERFORMANCE, as_tensors
from wideangle.reference._torch import require_torch
from wideangle.reference.scaled_measures import RANKS
from wideangle.reference.scaled_training import Curves, train_scaled
from wideangle.scalings import Scaling

if TYPE_CHECKING:
    import xarray as xr

SOURCE = "arXiv 2110.15596 (Hajjar, Chizat, Giraud): training of networks under width scalings"


def train_widths(
    scalings: str | Scaling | Sequence[str | Scaling],
    data: LabelledData,
    *,
    widths: Iterable[int],
    n_hidden: int,
    learning_rate: float | Mapping[str, float],
    first_learning_rate: float | Sequence[float] | Mapping[str, float | Sequence[float]] | None = None,
    activation: str | Activation = "relu",
    weight_variance: float | None = None,
    optimizer: Literal["sgd", "adam"] = "sgd",
    n_steps: int = 200,
    batch_size: int | Literal["auto"] | None = "auto",
    record: Iterable[int] | None = None,
    n_probes: int = 16,
    n_runs: int = 1,
    seed: int = 0,
    n_threads: int = 1,
    progress: bool = False,
) -> xr.Dataset:
    r"""Train networks of several widths and scalings on the same samples.

    Parameters
    ----------
    scalings
        Names, as for :func:`scaling`, or :class:`Scaling` objects of ``n_hidden`` layers with different names; one or
        several.
    data
        Training and test set.
    widths
        Increasing, from 2.
    n_hidden
        Number L of hidden layers, from 1.
    learning_rate
        :math:`\eta`, one for all scalings or a mapping from their names.
    first_learning_rate
        That of the first step, one for all layers or one for each of the L + 1. A mapping may leave scalings out, which
        then have the default: for those whose first step has exponents of its own, or drops initial weights, one for
        each layer, which :func:`wideangle.reference.calibrate_first_step` finds at the largest width, in run 0, for
        updates that add 1 to pre-activations of hidden layers and 0.1 to outputs; for others ``learning_rate``. With
        ReLU and others that are positively homogeneous ``"hp"`` has those of ``"ip-llr"``, with which it has the same
        limit.
    activation, weight_variance
        As for :func:`wideangle.reference.build_scaled_mlp`.
    optimizer
        ``"sgd"`` (default) or ``"adam"``.
    n_steps
        Default 200.
    batch_size
        Default ``"auto"``: 128, or the whole training set if it has fewer samples; None for the whole training set. The
        last batch of an epoch is smaller if the sizes do not divide.
    record
        Numbers of steps, from 0 to ``n_steps``, after which networks are measured. Default 0, 1 and four quarters.
        Each takes a singular value decomposition of every layer's update, 0.1 s for a width of 512.
    n_probes
        Test samples, from the first on, whose outputs are recorded, or all if there are fewer; default 16.
    n_runs
        Networks of each scaling and width; default 1.
    seed
        From 0, default 0. Of the initial weights, which are a function of seed, width and run, and of the order of
        samples, of seed and run: whatever else is trained, and the same for all scalings up to powers of the width.
    n_threads
        Networks trained at the same time, with one thread of PyTorch each; default 1. It does not change results.
    progress
        Show progress; default False.

    Returns
    -------
    xarray.Dataset
        On (scaling, width, run) and, besides, ``layer``, 1 to L + 1, the output layer's last, and ``record``, the
        number of steps taken; NaN from where a network diverged.

        - ``loss(step)``: cross-entropy of the batch before each step;
        - ``train_loss(record)``, ``train_accuracy``, ``test_loss``, ``test_accuracy``: on all samples;
        - ``output(record, probe, class)``;
        - ``diversity(record, layer)``: how different the units of a layer are as functions of the input. With
          :math:`\tilde h_j(x)` for pre-activations minus their mean over the first 500 test samples,
          :math:`\left(\langle \mathrm{Var}_j \tilde h_j(x) \rangle_x / \langle \tilde h_j(x)^2 \rangle_{j,x}
          \right)^{1/2}`: 1 if their mean over units is zero, as for those that are unrelated, 0 if all units are the
          same function, but for a constant;
        - ``dimension(record, layer)``: :math:`(\operatorname{tr} C)^2 / \operatorname{tr} C^2` of the covariance C of
          units over samples; 1 if all are multiples of one function. Both are NaN where a layer does not depend on
          the input beyond the roundings of float32;
        - ``numerical_rank(record, layer)`` of the update :math:`\Delta W = W_t - W_0` of the weights: singular values
          above :math:`\epsilon\,(\max(n_1, n_2)\,\sigma_1 + \sqrt t\,(\sqrt{n_1} + \sqrt{n_2})\,w)`, with the machine
          epsilon of float32: the threshold of :func:`numpy.linalg.matrix_rank`, plus what roundings of weights add
          up to in t steps, w being the root mean square of initial weights;
        - ``participation_rank(record, layer)``: :math:`(\operatorname{tr} A)^2/\operatorname{tr} A^2` with
          :math:`A = \Delta W^\top \Delta W`;
        - ``norm_ratio(record, layer)``: Frobenius norm over spectral norm of the update; squared, the stable rank.
          Where updates are no more than roundings the numerical rank is 0 and the other two are NaN;
        - ``status``: 0 trained, 1 diverged: a loss or weight became infinite or NaN;
        - ``learning_rate(scaling)``, ``first_learning_rate(scaling, layer)``: as used.

        Inner layers of a scaling that drops their initial weights have as update their weights themselves, from the
        first step on.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, before any training.
    ImportError
        If PyTorch is missing.

    Notes
    -----
    Hajjar, Chizat and Giraud, arXiv 2110.15596, train six hidden layers of 1,024 neurons by gradient descent with
    :math:`\eta` = 0.01 on batches of 512, with a first step that is calibrated for each layer apart. The measures of
    diversity are not in the paper, which finds that biases and weights of nonzero mean lead integrable networks out of
    their stationary start at the price that neurons of a layer become the same.

    Examples
    --------
    >>> import wideangle as wa
    >>> data = wa.data.load_digits(seed=1)
    >>> runs = wa.parametrization.train_widths(
    ...     ["mup", "ip"], data, widths=[64], n_hidden=4, learning_rate=0.3, n_steps=60
    ... )
    >>> (runs.train_loss.isel(record=-1, width=0, run=0) < 1).values
    array([ True, False])
    """
    compared = check_comparison(
        scalings,
        data,
        widths=widths,
        least=1,
        n_hidden=n_hidden,
        activation=activation,
        weight_variance=weight_variance,
        optimizer=optimizer,
        n_steps=n_steps,
        batch_size=batch_size,
        n_runs=n_runs,
        seed=seed,
    )
    rates = check_rates("learning_rate", learning_rate, compared.scalings)
    given = check_first_rates("first_learning_rate", first_learning_rate, compared.scalings)
    remedy = "give a number of test samples, such as 16"
    n_probes = min(check_integer("n_probes", n_probes, low=0, high=10**9, remedy=remedy), len(compared.data.x_test))
    steps = _check_record(record, compared.n_steps)
    n_threads = check_threads(n_threads)
    show = check_flag("progress", progress)
    require_torch()
    first = _first_rates(compared, rates, given)
    curves = _train_all(compared, rates, first, steps, n_probes, n_threads, show)
    return _dataset(compared, rates, first, steps, curves)


def _check_record(value: Any, n_steps: int) -> tuple[int, ...]:
    remedy = f"give increasing numbers of steps from 0 to n_steps = {n_steps}, such as (0, 1, {n_steps})"
    if value is None:
        return tuple(sorted({0, 1, *(round(n_steps * quarter / 4) for quarter in range(1, 5))}))
    return check_increasing_integers("record", value, low=0, high=n_steps, remedy=remedy)


def _first_rates(
    compared: Comparison, rates: dict[str, float], given: dict[str, tuple[float, ...]]
) -> dict[str, tuple[float, ...]]:
    """Return the first learning rates of each scaling, calibrated where none is given and some are needed."""
    first = {}
    for scaling in compared.scalings:
        like = compared.steps_first_like(scaling)
        found = given.get(scaling.name, given.get(like.name) if like in compared.scalings else None)
        first[scaling.name] = found or compared.calibrated(scaling) or (rates[scaling.name],) * len(scaling.a)
    return first


def _train_all(
    compared: Comparison,
    rates: dict[str, float],
    first: dict[str, tuple[float, ...]],
    record: tuple[int, ...],
    n_probes: int,
    n_threads: int,
    show: bool,
) -> list[Curves]:
    """Train the networks of all (scaling, width, run), and return what they recorded in this order."""
    tensors = as_tensors(compared.data)

    def train(place: tuple[int, int, int], stopped: Event) -> Curves:
        number, position, run = place
        scaling, width = compared.scalings[number], compared.widths[position]
        model = compared.build(scaling, width, run)
        optimizer = scaled_optimizer(
            model,
            learning_rate=rates[scaling.name],
            optimizer=compared.optimizer,
            first_learning_rate=first[scaling.name],
        )
        return train_scaled(
            model,
            optimizer,
            tensors,
            seed=compared.seeds(width, run)[1],
            n_steps=compared.n_steps,
            batch_size=compared.batch_size,
            record=record,
            n_probes=n_probes,
            stopped=stopped,
        )

    networks = list(np.ndindex(len(compared.scalings), len(compared.widths), compared.n_runs))
    return side_by_side(train, networks, n_threads=n_threads, progress=show)


def _dataset(
    compared: Comparison,
    rates: dict[str, float],
    first: dict[str, tuple[float, ...]],
    record: tuple[int, ...],
    curves: list[Curves],
) -> xr.Dataset:
    import xarray as xr

    networks = ("scaling", "width", "run")
    shape = (len(compared.scalings), len(compared.widths), compared.n_runs)

    def stacked(field: str) -> np.ndarray[Any, Any]:
        values = np.array([getattr(each, field) for each in curves])
        return values.reshape(*shape, *values.shape[1:])

    performance, diversity, ranks = stacked("performance"), stacked("diversity"), stacked("ranks")
    layers = (*networks, "record", "layer")
    variables: dict[str, Any] = {
        "loss": ((*networks, "step"), stacked("loss"), {"units": "nat"}),
        **{name: ((*networks, "record"), performance[..., entry]) for entry, name in enumerate(PERFORMANCE)},
        "output": ((*networks, "record", "probe", "class"), stacked("outputs")),
        "diversity": (layers, diversity[..., 0, :]),
        "dimension": (layers, diversity[..., 1, :]),
        **{name: (layers, ranks[..., entry, :]) for entry, name in enumerate(RANKS)},
        "status": (
            networks,
            stacked("status").astype(np.int8),
            {"flag_values": [0, 1], "flag_meanings": "trained diverged"},
        ),
        "learning_rate": ("scaling", list(rates.values())),
        "first_learning_rate": (("scaling", "layer"), list(first.values())),
    }
    coordinates = {
        "scaling": [scaling.name for scaling in compared.scalings],
        "width": list(compared.widths),
        "run": np.arange(compared.n_runs),
        "step": np.arange(compared.n_steps),
        "record": list(record),
        "layer": np.arange(1, compared.n_hidden + 2),
        "probe": np.arange(curves[0].outputs.shape[1]),
        "class": np.arange(compared.data.n_classes),
    }
    return xr.Dataset(
        variables,
        coordinates,
        provenance("wideangle.parametrization.train_widths", source=SOURCE, **compared.attributes()),
    )
