"""Which neurons of a layer form groups that carry the same information, up to independent noise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wideangle import _core
from wideangle._checks import check_flag, check_integer, check_memory, check_seed, check_threads
from wideangle._cpu import active_cpu_path, available_threads
from wideangle._progress import progress_callback
from wideangle._provenance import provenance
from wideangle.representation._factor_model import in_units_of
from wideangle.representation._factors import SIGNIFICANCE, Factors, find_related, fit_factors
from wideangle.representation._layer import check_layer

if TYPE_CHECKING:
    import xarray as xr

SOURCE = (
    "clones as in arXiv 2106.03485 (Doimo, Glielmo, Goldt, Laio); groups by greedy selection and exchanges of neurons,"
    " derived"
)

# Part of its variance that counts as noise of a neuron at least. With less, any group of enough neurons would tell
# nearly everything, however unequal the signals in it, and all partitions were nearly equal.
RESOLUTION = 0.25
# No noise is added beyond that of the neuron, except this, which keeps determinants away from zero.
_ADDED_NOISE = 1e-6
# Squares of what is smaller underflow.
_LEAST_SCATTER = 1e-250

# What random numbers are for.
_ORDERS, _ROTATIONS = range(2)

Array = NDArray[np.float64]
Groups = NDArray[np.int64]


def find_clones(
    features: ArrayLike,
    *,
    size: int | None = None,
    n_starts: int = 10,
    seed: int,
    missing: Literal["raise", "drop"] = "raise",
    n_threads: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    r"""Divide the neurons of a layer into groups of which each carries the signals of the whole layer.

    Signals are what neurons share, noise is what each has for itself. A group is sufficient if it carries all signals
    of the layer, and minimal if it has no more neurons than there are signals. Groups grow greedily, one after the
    other, each by the neuron of which the group so far knows least; then neurons are exchanged between groups, and
    with those left over, as long as this raises the information that the groups carry. A group that lacks a signal is
    dissolved.

    In a layer of clones this gives the clones. In a layer of generic mixtures of the signals any group of enough
    neurons is sufficient, and which of them are found depends on the start; ``stability`` tells one from the other.

    Parameters
    ----------
    features
        Activations of a layer, shape (sample, neuron), with more samples than neurons. float32 and float64 in C order
        are used where they are, others are copied.
    size
        Neurons of a group, from 1 to half of the neurons, such as the critical width of ``fit_clones``; groups then
        need not carry all signals. Default: the number of signals.
    n_starts
        Random starts, at least 2, default 10.
    seed
        Seed, 0 <= seed < 2**64. Where start k begins depends on it and k alone (but may change with NumPy's minor
        version).
    missing
        What to do with samples that have NaN or infinite activations: ``"raise"`` (default) or ``"drop"``.
    n_threads
        Threads; default every processor available. Results do not depend on it.
    progress
        Show a progress bar; default False.

    Returns
    -------
    xarray.Dataset
        - ``membership(neuron)``: the group of each neuron in the start that found most information, numbered from 0 in
          the order of their first neurons; -1 for neurons in no group, as are those that are constant or unrelated to
          others;
        - ``membership_of_start(start, neuron)``: the same for each start; ``n_groups_of_start(start)``;
          ``information(start)`` of all groups about the signals, in nats;
        - ``stability``: mean adjusted Rand index of two starts, 1 for equal groups, 0 on average for groups by chance,
          over neurons that are in a group in either of them; NaN where no groups were looked for.
          ``stability_of_mixtures(mixture)``: the same for layers with the same spectrum, in which each neuron is a
          generic mixture of all signals and noises;
        - ``n_signals``; ``n_groups``; ``n_insufficient``, the groups that were dissolved; ``noise(neuron)``, the share
          of a neuron's variance that is noise (NaN if it is constant);
        - ``r2_outside(group)``, ``residual_correlation_outside(group)``: how much of the variance of the neurons
          outside it the group explains, and the mean size of the correlations it leaves there, as in
          ``chunk_statistics`` without a ridge and an offset;
        - ``weakest_signal(group)``: squared correlation with the outside of what the two share least of;
        - ``consistency(group)``: largest Jaccard index with a group of another start, mean over other starts.

        The attribute ``verdict`` is ``"no clones"`` if there are fewer than two groups; ``"stable"`` if ``stability``
        is above that of all mixtures and closer to 1 than to their mean; else ``"arbitrary"``, which in a layer of a
        dozen neurons, where mixtures are stable as well, only says that it is too small to tell.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, before any work.
    KeyboardInterrupt
        On Ctrl-C; within 0.2 s in the search.

    Notes
    -----
    The notion of a clone is that of arXiv 2106.03485, which does not say which neurons belong to which; the method is
    derived, and none of it but forward selection, factor analysis and tests is in the literature. With the factor model
    :math:`C = L L^\top + \Psi` of the correlations, a group c knows
    :math:`I_c = \tfrac12 \log\det(\Psi_{cc}^{-1/2} C_{cc} \Psi_{cc}^{-1/2})` of Gaussian signals. By the chain rule
    neuron j adds :math:`\tfrac12 \log(A_{jj} / \Psi_j)`, A being the covariance of the residuals that the group leaves:
    the next neuron is the one with the largest residual in units of its noise. Of a partition the sum of :math:`I_c`
    is maximised, since one group can gain at the cost of the others. The noise in it is at least 0.25 of a neuron's
    variance: without noise all groups of enough neurons would be equal.

    Neurons of which the others tell nothing, by an F test at 0.001 for all of them, are left out from the beginning.
    The number of signals is that of eigenvalues above what noise gives at these sample sizes; the more samples, the
    weaker are the signals that count. A group is sufficient if its smallest canonical correlation with the other
    neurons is not zero by Bartlett's test, with Lawley's correction, at 0.001. All three take noise for Gaussian.

    Starts differ where there are many clones of few neurons: they end in optima that are no clones, and the verdict is
    ``"arbitrary"``, on synthetic clones with 8 of 16 or 16 of 32 neurons, not with 8 of 32. More starts may find them.

    Correlations are all that is used: a neuron's scale and mean do not matter, but for its weight in ``r2_outside``.
    The search takes about 6 (swaps + neurons/4) size neurons multiplications a start.

    Examples
    --------
    >>> import wideangle as wa
    >>> layer = wa.representation.synthetic_clones(4000, 8, 4, 32, 0.3, seed=1)
    >>> found = wa.representation.find_clones(layer.features, seed=1)
    >>> found.verdict, int(found.n_signals), int(found.n_groups), float(found.stability)
    ('stable', 32, 4, 1.0)
    >>> of_first = layer.clone[found.membership == found.membership[0]]
    >>> bool((of_first == layer.clone[0]).all())
    True
    """
    layer = check_layer(features, None, missing)
    remedy = "give a number of random starts to compare, such as 10"
    n_starts = check_integer("n_starts", n_starts, low=2, high=10**6, remedy=remedy)
    seed = check_seed(seed)
    threads = check_threads(n_threads) or available_threads()
    show = check_flag("progress", progress)
    n_samples, n_neurons = layer.features.shape
    size = _check_size(size, n_samples, int(np.count_nonzero(layer.varying)))
    needed = 8 * n_neurons * ((8 + min(threads, n_starts)) * n_neurons + 3 * n_starts)
    check_memory(needed, f"groups of {n_neurons} neurons need", remedy="use fewer threads or neurons")

    _, products = _core.scatter_matrix(layer.features, n_threads=threads, cpu_path=active_cpu_path())
    varying = np.flatnonzero(layer.varying & (np.diag(products) > _LEAST_SCATTER))
    spread = np.sqrt(np.diag(products)[varying])
    correlation = products[np.ix_(varying, varying)] / np.outer(spread, spread)
    related = find_related(correlation, n_samples)
    signals = fit_factors(correlation[np.ix_(related, related)], n_samples)
    noise = np.full(n_neurons, np.nan)
    noise[varying], noise[varying[related]] = 1.0, signals.noise
    neurons = varying[related]
    width = signals.number if size is None else size
    found = _find_groups(signals, width, _random_orders(len(neurons), n_starts, seed), seed, threads, show)
    starts = np.full((n_starts, n_neurons), -1)
    for start, groups in zip(starts, found.groups, strict=True):
        start[neurons] = _renumber(groups if size else _drop_insufficient(groups, signals, n_samples))
    n_found = int(found.groups.max(initial=-1)) + 1
    stability = _stability(starts) if n_found else math.nan
    best = starts[np.argmax(found.information)]
    variables = {
        "membership": ("neuron", best),
        "membership_of_start": (("start", "neuron"), starts),
        "n_groups_of_start": ("start", starts.max(axis=1) + 1),
        "information": ("start", found.information, {"units": "nat"}),
        "stability": stability,
        "stability_of_mixtures": ("mixture", found.of_mixtures),
        "n_groups": int(best.max()) + 1,
        "n_insufficient": n_found - int(best.max()) - 1,
        "n_signals": signals.number,
        "noise": ("neuron", noise),
        **_describe(best, starts, products, n_samples, threads),
        "weakest_signal": ("group", _weakest_signals(best[neurons], signals)),
    }

    import xarray as xr

    attributes = provenance(
        "wideangle.representation.find_clones",
        source=SOURCE,
        verdict=_verdict(best, stability, found.of_mixtures),
        n_samples=n_samples,
        n_neurons=n_neurons,
        n_constant=n_neurons - len(varying),
        n_dropped=layer.n_dropped,
        size=size,
        n_starts=n_starts,
        seed=seed,
        missing=missing,
    )
    return xr.Dataset(variables, attrs=attributes)


def _check_size(size: int | None, n_samples: int, n_varying: int) -> int | None:
    """Return the size of groups, if one is given that the neurons that vary are enough for."""
    if n_samples <= n_varying + 1:
        raise ValueError(
            f"features must have at least 2 samples more than neurons that vary, got {n_samples} samples of {n_varying}"
            f" neurons: each is then a function of the others, without noise; give more samples or fewer neurons"
        )
    if size is not None:
        remedy = f"give at most half of the {n_varying} neurons that vary, or None for the number of signals"
        size = check_integer("size", size, low=1, high=n_varying // 2, remedy=remedy)
    return size


def _generator(seed: int, *purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=purpose)))


def _random_orders(n_neurons: int, n_starts: int, seed: int) -> NDArray[np.int64]:
    return np.array([_generator(seed, _ORDERS, start).permutation(n_neurons) for start in range(n_starts)])


class _Search(NamedTuple):
    """A search for groups, to be called with a covariance of neurons and the number of searches before."""

    orders: NDArray[np.int64]
    width: int
    threads: int
    advance: Callable[[int], object] | None

    def __call__(self, covariance: Array, before: int) -> Groups:
        advance, n_starts = self.advance, len(self.orders)
        return _core.group_search(
            covariance,
            orders=self.orders,
            size=self.width,
            n_threads=self.threads,
            cpu_path=active_cpu_path(),
            progress=None if advance is None else lambda done: advance(before * n_starts + done),
        )["group"]


class _Found(NamedTuple):
    """Groups of each start, (start, neuron), their information, and the stability of those in mixtures of neurons."""

    groups: Groups
    information: Array
    of_mixtures: Array


def _find_groups(
    signals: Factors, width: int, orders: NDArray[np.int64], seed: int, threads: int, show: bool
) -> _Found:
    """Look for groups of some width in the neurons of a factor model, and in mixtures of them."""
    n_starts, n_neurons = orders.shape
    if not 1 <= width <= n_neurons // 2:
        return _Found(np.full(orders.shape, -1), np.zeros(n_starts), np.empty(0))
    covariance = _in_units_of_noise(signals)
    # The smaller the layer, the more one mixture differs from another.
    n_mixtures = min(max(1000 // n_neurons, 1), 20)
    with progress_callback((1 + n_mixtures) * n_starts, show, unit="start") as advance:
        search = _Search(orders, width, threads, advance)
        groups = search(covariance, 0)
        mixtures = [search(_mix(covariance, seed, k), k + 1) for k in range(n_mixtures)]
    information = np.array([_information(covariance, each) for each in groups])
    return _Found(groups, information, np.array([_stability(each) for each in mixtures]))


def _in_units_of_noise(signals: Factors) -> Array:
    """Return the covariance of neurons whose noise has variance 1 and is no less than the resolution."""
    added = np.maximum(RESOLUTION - signals.noise, _ADDED_NOISE)
    return in_units_of(signals.noise + added, signals.correlation + np.diag(added))


def _mix(covariance: Array, seed: int, k: int) -> Array:
    """Rotate the neurons: signals and noise keep their strengths, and every neuron gets a random share of each."""
    from scipy.fft import dct

    # Cosine transforms of random signs, twice: nearly as good as a uniform rotation, and much faster to draw and apply.
    for signs in _generator(seed, _ROTATIONS, k).choice([-1.0, 1.0], size=(2, len(covariance))):
        covariance = dct(dct(np.outer(signs, signs) * covariance, axis=0, norm="ortho"), axis=1, norm="ortho")
    return np.ascontiguousarray(covariance)


def _members(group: Groups) -> list[NDArray[np.intp]]:
    return [np.flatnonzero(group == a) for a in range(int(group.max(initial=-1)) + 1)]


def _information(covariance: Array, group: Groups) -> float:
    return sum(0.5 * float(np.linalg.slogdet(covariance[np.ix_(c, c)])[1]) for c in _members(group))


def _unshared(members: NDArray[np.intp], signals: Factors) -> Array:
    """Return 1 - squared canonical correlations of a group and the other neurons, increasing.

    With the inverse Q of the covariance S, Q_cc is that of the residuals on the others, so these are the inverse
    eigenvalues of S_cc Q_cc.
    """
    square = np.ix_(members, members)
    factor = np.linalg.cholesky(signals.correlation[square])
    return 1.0 / np.maximum(np.linalg.eigvalsh(factor.T @ signals.precision[square] @ factor)[::-1], 1.0)


def _weakest_signals(group: Groups, signals: Factors) -> Array:
    return np.array([1.0 - _unshared(members, signals)[-1] for members in _members(group)])


def _drop_insufficient(group: Groups, signals: Factors, n_samples: int) -> Groups:
    """Dissolve the groups whose smallest canonical correlation with the other neurons may be zero."""
    from scipy.stats import chi2

    kept: Groups = group.copy()
    for members in _members(group):
        unshared = _unshared(members, signals)
        shared, width, outside = 1.0 - unshared, len(members), len(group) - len(members)
        if shared[-1] > 0.0:
            # Lawley, Biometrika 46 (1959) 59: the larger correlations are estimated too.
            factor = n_samples - width - 0.5 * (len(group) + 1) + (1.0 / shared[:-1]).sum()
            statistic = -factor * math.log(max(unshared[-1], np.finfo(float).tiny))
        else:
            statistic = 0.0
        if statistic < chi2.isf(SIGNIFICANCE, outside - width + 1):
            kept[members] = -1
    return kept


def _renumber(group: Groups) -> Groups:
    """Number groups from 0 in the order of their first neurons."""
    labels, first = np.unique(group[group >= 0], return_index=True)
    numbers = np.full(int(group.max(initial=-1)) + 2, -1)
    numbers[labels[np.argsort(first)]] = np.arange(len(labels))
    renumbered: Groups = numbers.astype(np.int64)[group]
    return renumbered


def _stability(starts: Groups) -> float:
    """Return the mean adjusted Rand index of two starts, neurons in no group being groups of their own."""
    from sklearn.metrics import adjusted_rand_score

    neurons = np.arange(starts.shape[1])
    labels = np.where(starts < 0, starts.shape[1] + neurons, starts)
    indices = []
    for a, b in itertools.combinations(range(len(starts)), 2):
        either = (starts[a] >= 0) | (starts[b] >= 0)
        indices.append(adjusted_rand_score(labels[a, either], labels[b, either]) if either.any() else 1.0)
    return float(np.mean(indices))


def _describe(best: Groups, starts: Groups, products: Array, n_samples: int, threads: int) -> dict[str, Any]:
    """Return what each group leaves of the neurons outside it, and how well other starts find it."""
    groups = _members(best)
    values: dict[str, Any] = {name: [] for name in ("r2_outside", "residual_correlation_outside", "consistency")}
    source = int(np.argmax((starts == best).all(axis=1)))
    for members in groups:
        outside = np.setdiff1d(np.arange(len(best)), members)
        raw = _core.chunk_regression(
            products,
            n_samples=n_samples,
            orders=np.concatenate([members, outside])[None],
            sizes=np.array([len(members)]),
            ridge=0.0,
            ridge_matters=False,
            offset=np.finfo(np.float64).tiny,
            n_threads=threads,
            cpu_path=active_cpu_path(),
            progress=None,
        )
        values["r2_outside"].append(1.0 - float(raw["unexplained_outside"][0, 0]))
        values["residual_correlation_outside"].append(float(raw["correlation_outside"][0, 0]))
        values["consistency"].append(np.mean([_jaccard(members, other) for other in np.delete(starts, source, axis=0)]))
    return {name: ("group", np.array(each, dtype=np.float64)) for name, each in values.items()}


def _jaccard(members: NDArray[np.intp], group: Groups) -> float:
    """Return the largest Jaccard index of a group with those of another start."""
    inside = group[members]
    shared = np.bincount(inside[inside >= 0], minlength=1)
    sizes = np.bincount(group[group >= 0], minlength=len(shared))[: len(shared)]
    return float((shared / (len(members) + sizes - shared)).max())


def _verdict(group: Groups, stability: float, of_mixtures: Array) -> str:
    members = _members(group)
    if len(members) < 2:
        return "no clones"
    # There is one way only to make groups of one neuron.
    if len(members[0]) == 1:
        return "stable"
    return "stable" if stability > max(of_mixtures.max(), 0.5 * (1.0 + of_mixtures.mean())) else "arbitrary"
