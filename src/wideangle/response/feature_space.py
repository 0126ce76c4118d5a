"""The space of hidden activations of trained networks: its dimension, and what its units are good for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wideangle._checks import check_flag, check_integer, check_real
from wideangle._progress import progress_callback
from wideangle._provenance import provenance
from wideangle.response._breakpoints import breakpoints, count_kinks
from wideangle.response._feature_spectra import dead_and_linear, duplicate_groups, second_moments, spectrum_measures
from wideangle.response._network_functions import Layers, blocks, check_points_or_training, preactivations, select
from wideangle.response._state import States, read_state

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]


def feature_space(
    states: Any,
    x: ArrayLike | None = None,
    *,
    layer: int | None = None,
    centred: bool = True,
    tolerance: float = 1e-3,
    progress: bool = False,
) -> xr.Dataset:
    r"""Measure the space that the activations of a hidden layer span over given inputs.

    With the activations H (input, unit) of N inputs, their means over inputs taken off, :math:`\Sigma = H^\top H/N`
    has the eigenvalues :math:`\sigma_k^2`.

    Parameters
    ----------
    states
        What :func:`simulate_training` returns, any selection of it, or :class:`wideangle.NetworkWeights`.
    x
        Inputs, shape (point, feature); default those of the training.
    layer
        Hidden layer, from 1; default the last.
    centred
        Whether means are taken off, default True: the covariance tells in how many directions activations differ
        between inputs. Activations of ReLU are never negative, so that their common mean is by far the largest
        direction of the raw moments :math:`H^\top H/N`, which those measure first; they are the ones that the part of
        the tangent kernel from the readout is made of.
    tolerance
        What counts as no difference, default 1e-3, at least 1e-6: of slopes :math:`\phi'`, of the sine of the angle
        between the activations of two units, and of places of kinks over the range of inputs.
    progress
        Show a progress bar; default False.

    Returns
    -------
    xarray.Dataset
        With the dimensions of the state, such as ``network`` and ``time``; NaN for networks that have diverged, -1 in
        ``group``:

        - ``participation_ratio``: :math:`(\mathrm{tr}\,\Sigma)^2 / \mathrm{tr}\,\Sigma^2`;
        - ``effective_rank``: :math:`e^S` with the entropy S of :math:`\sigma_k / \sum \sigma`;
        - ``rank``: number of :math:`\sigma_k^2` above rounding; both others and this are 0 without any variation;
        - ``singular_values(component)``: :math:`\sigma_k`, largest first, those that cannot be told from rounding
          (below about 1e-7 of the largest) 0;
        - ``active_units`` and ``dead_units``: a unit is dead if :math:`|\phi'|` is at most the tolerance at every
          input: a ReLU that is never active, a sigmoid that is saturated everywhere;
        - ``linear_units``: active ones with the same slope at every input: ReLU that are active on all of them;
        - ``distinct_units``: groups of active units of which one is a multiple of the other on the inputs (a positive
          one for ReLU), and ``duplicated_units``, which is ``active_units`` less these. A unit belongs to a group if
          it is a multiple of any in it;
        - ``group(unit)``: the first unit of the group of each, -1 for dead ones;
        - ``kinks``, for one input feature and a piecewise linear activation: places strictly between the smallest and
          the largest input at which a unit of this or a lower layer has its kink.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    Effective rank: O. Roy and M. Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007.
    Reduction of the feature space by stochastic training: arXiv 2405.04074.

    Examples
    --------
    Two of four units are the same up to a factor, and one is never active:

    >>> import wideangle as wa
    >>> net = wa.NetworkWeights([[[1.0], [2.0], [-1.0], [1.0]], [[1.0, 1.0, 1.0, 1.0]]], biases=[[0, 0, 0, -9], [0]])
    >>> found = wa.response.feature_space(net, [[-1.0], [0.5], [2.0]])
    >>> int(found["active_units"]), int(found["distinct_units"]), int(found["rank"]), found["group"].values.tolist()
    (3, 2, 2, [0, 0, 2, -1])
    """
    import xarray as xr

    networks = read_state(states, name="states")
    points = check_points_or_training(x, networks)
    chosen = len(networks.sizes) - 2 if layer is None else _check_layer(layer, networks)
    remedy = "give what counts as no difference, such as 1e-3"
    least = check_real("tolerance", tolerance, remedy=remedy)
    if not 1e-6 <= least < 1.0:
        raise ValueError(f"tolerance must lie in [1e-6, 1), got {tolerance!r}; {remedy}")
    around_mean = check_flag("centred", centred)

    layers = networks.layers[:chosen]
    finite = networks.usable
    values = _allocate(len(networks), networks.sizes[chosen], len(points), _has_kinks(networks))
    widest = max(networks.sizes[1 : chosen + 1])
    numbers = max(widest * len(points), networks.sizes[chosen] ** 2)
    with progress_callback(len(networks), check_flag("progress", progress), unit="network") as report:
        for block in blocks(len(networks), numbers):
            rows = np.arange(len(networks))[block][finite[block]]
            if len(rows):
                measured = _measure(select(layers, rows), networks, points, centred=around_mean, tolerance=least)
                for name, found in measured.items():
                    values[name][rows] = found
            if report is not None:
                report(min(block.stop, len(networks)))
    trailing = {"singular_values": ("component",), "group": ("unit",)}
    return xr.Dataset(
        {name: networks.variable(array, *trailing.get(name, ())) for name, array in values.items()},
        networks.coords,
        provenance(
            "wideangle.response.feature_space",
            source="participation ratio, effective rank (Roy, Vetterli 2007), kinds of units; arXiv 2405.04074",
            activation=str(networks.activation),
            layer=chosen,
            centred=around_mean,
            tolerance=least,
            n_inputs=len(points),
        ),
    )


def _check_layer(layer: int, states: States) -> int:
    return check_integer(
        "layer", layer, low=1, high=len(states.sizes) - 2, remedy="give a hidden layer of the network, from 1"
    )


def _has_kinks(states: States) -> bool:
    return states.sizes[0] == 1 and states.activation.homogeneous


def _allocate(n_states: int, n_units: int, n_points: int, kinks: bool) -> dict[str, NDArray[Any]]:
    names = ["participation_ratio", "effective_rank", "rank", "singular_values", "active_units", "dead_units"]
    names += ["linear_units", "distinct_units", "duplicated_units", *(["kinks"] if kinks else [])]
    values: dict[str, NDArray[Any]] = {name: np.full(n_states, math.nan) for name in names}
    values["singular_values"] = np.full((n_states, min(n_units, n_points)), math.nan)
    values["group"] = np.full((n_states, n_units), -1, dtype=np.int64)
    return values


def _measure(
    layers: Layers, states: States, points: Array, *, centred: bool, tolerance: float
) -> dict[str, NDArray[Any]]:
    """Return every measure of the last of these layers for a block of networks."""
    z = preactivations(layers, states.activation, points)[-1]
    dead, linear = dead_and_linear(z, states.activation, tolerance)
    moments = second_moments(states.activation.value(z), centred=centred)
    groups = duplicate_groups(moments.raw, dead, tolerance)
    total = np.einsum("sii->s", moments.raw)
    values: dict[str, NDArray[Any]] = {**spectrum_measures(moments.smaller, total)}
    active = (~dead).sum(axis=1)
    distinct = (groups == np.arange(groups.shape[1])).sum(axis=1)
    values |= {
        "active_units": active,
        "dead_units": dead.sum(axis=1),
        "linear_units": linear.sum(axis=1),
        "distinct_units": distinct,
        "duplicated_units": active - distinct,
        "group": groups,
    }
    if _has_kinks(states):
        low, high = float(points.min()), float(points.max())
        values["kinks"] = count_kinks(breakpoints(layers, states.activation, low, high), tolerance * (high - low))
    return values
