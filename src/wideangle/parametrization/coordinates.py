"""Does training move each layer of a network as its width scaling says? Sizes against width, with verdicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from threading import Event
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import check_choice, check_flag, check_integer, check_memory, check_real, check_seed
from wideangle._provenance import provenance
from wideangle.activations import Activation
from wideangle.data import LabelledData
from wideangle.parametrization._arguments import check_labelled, check_threads, check_widths
from wideangle.parametrization._coordinate_cases import module_case, network_cases
from wideangle.parametrization._coordinate_runs import Case, choose_rates
from wideangle.parametrization._coordinate_tables import QUANTITIES, coordinate_dataset
from wideangle.scalings import Scaling

if TYPE_CHECKING:
    import xarray as xr

    from wideangle.reference.coordinate_modules import Rates

Array = NDArray[np.float64]

SOURCE = "Yang et al., arXiv 2203.03466; exponents as in wideangle.parametrization.classify"
BATCH = 64
_MOST_NETWORKS = 16  # that stand for one seed


def coordinate_check(
    scaling: Scaling | str | None,
    data: LabelledData,
    *,
    widths: Iterable[int] = (64, 128, 256, 512, 1024),
    depths: Iterable[int] | None = None,
    activations: Iterable[str | Activation] | None = None,
    n_steps: int = 4,
    n_seeds: int = 5,
    learning_rate: float | None = None,
    first_learning_rate: float | None = None,
    optimizer: Literal["sgd", "adam"] = "sgd",
    batch_size: int | None = None,
    expected: Scaling | str | None = None,
    module: Callable[[int], Any] | None = None,
    base_width: int | None = None,
    confidence: float = 0.95,
    tolerance: float = 0.25,
    seed: int = 0,
    n_threads: int = 1,
    progress: bool = False,
) -> xr.Dataset:
    r"""Train networks of several widths for a few steps, and judge whether each layer moves as its scaling says.

    The coordinate check that goes with maximal updates (Yang et al., arXiv 2203.03466, appendix D) is a picture of
    sizes against the width, flat lines being good. Here every line has an exponent with an interval, beside the exact
    one that the scaling leads to, and a verdict.

    Parameters
    ----------
    scaling
        A name, as for :func:`scaling`, or a :class:`Scaling`, which is for one depth. May be None if ``module`` brings
        its own training and ``expected`` is given.
    data
        Labelled data. One batch of its training set is trained on and looked at, in float64.
    widths
        At least three, increasing; default 64, 128, 256, 512 and 1024.
    depths
        Numbers L of hidden layers; default that of the scaling if it has one, else 3.
    activations
        Names of activations; default ReLU. Depths and activations are for networks without ``module``.
    n_steps
        Steps of training, default 4.
    n_seeds
        Sets of networks of each width, from 2; default 5. A set has 2 networks at the largest width, and at another
        width as many more as it is narrower, up to 16: networks vary the more the narrower they are, and so sets of
        all widths are about as noisy. What is recorded of a set is the root mean square over its networks.
    learning_rate, first_learning_rate
        :math:`\eta`, and that of the first step, the same for all widths. By default they are found by
        trying: 0.1 (0.01 for Adam), halved until the first step changes the last hidden layer by at most 0.3 of its
        size, at the smallest width and at the largest; where that layer vanishes at the start and the scaling makes it
        learn, raised until its size at the largest width is about 1 after the first step, if that may have its own
        rate, else about 4 after all steps.
    optimizer
        ``"sgd"`` (default) or ``"adam"``. Others, such as Muon, are not covered.
    batch_size
        Samples in the batch, default 64, or all if there are fewer.
    expected
        Scaling to judge by, if it is not ``scaling``.
    module
        A function of the width that returns a new module of Linear and Conv2d layers: alone, to train it under
        ``scaling`` by :func:`wideangle.reference.apply_scaling`; with an optimizer or with parameter groups for
        ``optimizer`` (``lr``, and ``first_lr`` for the first step) as a pair, to train it as it is. It maps x (sample,
        feature) to (sample, class), calls each layer once in the order of registration, and multiplies what leaves a
        layer, other than the last, within the layer if at all.
    base_width
        Width at which the module is as it comes, under ``scaling``; default the smallest.
    confidence
        Of the intervals, default 0.95.
    tolerance
        By how much an exponent may differ from the predicted one, default 0.25: exponents are multiples of a half.
    seed
        From 0, default 0.
    n_threads
        Networks trained at a time, each with one thread of PyTorch; default 1. The result does not depend on it.
    progress
        Show progress; default False.

    Returns
    -------
    xarray.Dataset
        - ``size(depth, activation, width, seed, step, layer)``: root mean square over networks, samples and units
          of the pre-activations of layers 1 to L, and of the output, which is layer L + 1; ``change``: of their
          change since the start; ``update``: of what the change of the layer's own weights contributes,
          :math:`(W_t - W_0)` times what enters it. The output is taken without its own bias. NaN where a network
          has no such layer, infinite from where one of the set diverges, see
          ``diverged(depth, activation, width, seed)``;
        - of each quantity ``*_exponent(depth, activation, step, layer)``, with the interval ``*_low`` to ``*_high``,
          ``*_predicted``, and ``*_verdict``: ``"agrees"`` if the interval lies within the tolerance of the prediction,
          ``"disagrees"`` if it lies outside, else ``"not resolved"``. What is predicted to grow only has to grow;
        - ``verdict(depth, activation, layer)``: of the size at the start, and of change and update at ``judged_step``,
          the last one, or the first after which sizes grow: all have to agree;
        - ``regime(depth, activation)`` as measured and ``regime_expected``, see :func:`classify`; ``overall``: the
          verdict of all layers and the regime;
        - ``learning_rate`` and ``first_learning_rate`` (depth, activation), if they are not the module's own.

        Verdicts are ``"no prediction"`` where exponents for a generic activation do not hold: smooth at zero, where the
        pre-activations of inner layers vanish at the start, as under ``"ip-llr"`` from three hidden layers on, see
        :func:`predict_first_step`; not zero at zero (sigmoid); odd (tanh, erf, sin, linear), under weights that are not
        centered, and under ``"hp"`` from two hidden layers on; bounded (tanh, erf, sin), under ``"ip-llr"``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or a module has other layers, which are named; before any training.
    ImportError
        If PyTorch is missing.

    Notes
    -----
    Exponents as in :func:`classify`, step by step; slopes, intervals and verdicts are derived here, not in the
    literature. Intervals are of a bootstrap over seeds, with corrections for their small number. Lower orders of the
    width, which a straight line does not know of, are left to the tolerance: they are large where learning rates are
    tiny, and where something of leading order vanishes by chance. The loss is logistic, of each output against all
    others: that of the softmax has gradients that sum to zero over outputs, by which the first step of
    ``"ip-non-centered"`` and of ``"ip-bias"`` on balanced classes is smaller than that of a generic loss.

    Examples
    --------
    >>> import wideangle as wa
    >>> data = wa.data.load_digits(seed=0)
    >>> check = wa.parametrization.coordinate_check("mup", data, widths=(32, 64, 128, 256), depths=(2,))
    >>> check.change_predicted.sel(step=4).values.ravel()
    array([0., 0., 0.])
    >>> wrong = wa.parametrization.coordinate_check(
    ...     "standard", data, widths=(32, 64, 128, 256), depths=(2,), expected="mup"
    ... )
    >>> wrong.overall.item(), wrong.regime.item()
    ('disagrees', 'unstable')
    """
    checked = check_labelled(data)
    sizes = check_widths(widths, least=3)
    n_steps = check_integer("n_steps", n_steps, low=1, high=10_000, remedy="give a few steps, such as 4")
    n_seeds = check_integer("n_seeds", n_seeds, low=2, high=10_000, remedy="give at least 2, such as 5")
    kind = check_choice("optimizer", optimizer, ("sgd", "adam"))
    seed, n_threads = check_seed(seed), check_threads(n_threads)
    progress = check_flag("progress", progress)
    rates = _rate("learning_rate", learning_rate), _rate("first_learning_rate", first_learning_rate)
    tolerance = _positive("tolerance", tolerance, "give half the distance of exponents to be told apart, such as 0.25")
    confidence = _positive("confidence", confidence, "give a number between 0 and 1, such as 0.95", below=1.0)
    from wideangle.reference._torch import require_torch, torch_threads

    require_torch()
    with torch_threads(1):
        if module is None:
            if base_width is not None:
                raise ValueError(f"base_width must be left out without a module, got {base_width!r}")
            cases = network_cases(scaling, expected, depths, activations, checked, kind)
            inputs = checked.n_features + (max(row[0].n_hidden for row in cases) - 1) * sizes[-1]
            # Weights, their start and their gradients, in float64.
            needed = 24 * n_threads * sizes[-1] * inputs
            check_memory(needed, f"networks of width {sizes[-1]} need", remedy="give smaller widths")
        else:
            case = module_case(
                module,
                scaling,
                expected,
                depths,
                activations,
                base_width=base_width,
                widths=sizes,
                optimizer=kind,
                learning_rates=rates,
                data=checked,
            )
            cases = [[case]]
        batch = _batch(checked, batch_size, seed)
        found = [[choose_rates(case, sizes, batch, n_steps, *rates, seed=seed) for case in row] for row in cases]
        records = _record(cases, found, batch, sizes, n_steps, n_seeds, seed, n_threads, progress)
    dataset = coordinate_dataset(cases, records, sizes, confidence=confidence, tolerance=tolerance, seed=seed)
    return _with_provenance(
        dataset,
        cases,
        found,
        data=checked.name,
        widths=sizes,
        n_steps=n_steps,
        n_seeds=n_seeds,
        optimizer=kind,
        batch_size=len(batch[0]),
        confidence=confidence,
        tolerance=tolerance,
        seed=seed,
    )


def _rate(name: str, value: Any) -> float | None:
    return None if value is None else _positive(name, value, "give a positive learning rate, such as 0.1")


def _positive(name: str, value: Any, remedy: str, *, below: float = np.inf) -> float:
    number = check_real(name, value, remedy=remedy)
    if not 0.0 < number < below:
        limit = "" if below == np.inf else f" and below {below:g}"
        raise ValueError(f"{name} must be positive{limit}, got {value!r}; {remedy}")
    return number


def _batch(data: LabelledData, size: Any, seed: int) -> tuple[Any, Any]:
    """Return samples drawn from the training set, in float64, and their labels."""
    from wideangle.reference.coordinates import as_batch

    count = len(data.x_train)
    chosen = min(BATCH, count)
    if size is not None:
        chosen = check_integer("batch_size", size, low=1, high=count, remedy=f"data has {count} training samples")
    drawn = np.random.Generator(np.random.Philox(seed)).permutation(count)[:chosen]
    return as_batch(data.x_train[drawn], data.y_train[drawn])


def _record(
    cases: Sequence[Sequence[Case]],
    rates: Sequence[Sequence[Rates]],
    batch: tuple[Any, Any],
    widths: tuple[int, ...],
    n_steps: int,
    n_seeds: int,
    seed: int,
    n_threads: int,
    progress: bool,
) -> Array:
    """Train all networks and return their sizes, NaN where a network has no layer."""
    from wideangle.reference._side_by_side import side_by_side
    from wideangle.reference.coordinates import record_steps

    layers = 1 + max(row[0].n_hidden for row in cases)
    shape = (len(cases), len(cases[0]), len(widths), n_seeds)
    records = np.zeros((*shape, len(QUANTITIES), n_steps + 1, layers))
    repeats = [networks_per_seed(width, widths[-1]) for width in widths]
    places = [(*place, k) for place in np.ndindex(shape) for k in range(repeats[place[2]])]
    drawn = np.random.SeedSequence(seed).generate_state(n_seeds * sum(repeats), np.uint64)
    starts = n_seeds * np.cumsum([0, *repeats])

    def train(place: tuple[int, ...], stopped: Event) -> Array:
        row, column, width, run, k = place
        case = cases[row][column]
        # PyTorch's own generators take seeds of 63 bits.
        own = int(drawn[starts[width] + run * repeats[width] + k] >> np.uint64(1))
        network, optimizer = case.trial(widths[width], own, rates[row][column])
        return record_steps(network, optimizer, *batch, 0 if stopped.is_set() else n_steps)

    trained = side_by_side(train, places, n_threads=n_threads, progress=progress)
    for place, found in zip(places, trained, strict=True):
        mean = records[place[:-1]]
        # Without squares of sizes, which may be beyond the range of floats where sizes are not.
        mean[..., : found.shape[-1]] = np.hypot(mean[..., : found.shape[-1]], found / math.sqrt(repeats[place[2]]))
        mean[..., found.shape[-1] :] = np.nan
    return records


def networks_per_seed(width: int, widest: int) -> int:
    """Return how many networks stand for one seed: the more the narrower, as their sizes vary the more.

    Two at the largest width, as what a few outputs, or random biases that are not scaled, add to the noise does not
    become less with the width.
    """
    return min(_MOST_NETWORKS, 2 * -(-widest // width))


def _with_provenance(
    dataset: xr.Dataset, cases: Sequence[Sequence[Case]], rates: Sequence[Sequence[Rates]], **arguments: Any
) -> xr.Dataset:
    own = cases[0][0].scaling
    if own is not None:
        for name in ("learning_rate", "first_learning_rate"):
            values = [[getattr(found, name) or found.learning_rate for found in row] for row in rates]
            dataset[name] = (("depth", "activation"), np.array(values))
    scaling = "as the module brings it" if own is None else own.name
    dataset.attrs = provenance(
        "wideangle.parametrization.coordinate_check",
        source=SOURCE,
        scaling=scaling,
        expected=cases[0][0].expected.name,
        **arguments,
    )
    return dataset
