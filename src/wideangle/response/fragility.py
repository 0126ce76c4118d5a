"""How far a small change of an input, or one contradicting sample, moves the output of trained networks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wideangle._checks import check_choice, check_flag, check_integer, check_real, check_seed
from wideangle._progress import progress_callback
from wideangle._provenance import provenance
from wideangle.response._change_bounds import change_bound
from wideangle.response._contradiction import contradiction_measures, step_on_contradictions
from wideangle.response._gradient_search import GRID, draw_starts, search_extremes, search_grid
from wideangle.response._network_functions import blocks, check_points_or_training, outputs, select
from wideangle.response._state import States, read_state
from wideangle.response._worst_case import Extremes, count_candidates, exact_extremes, has_exact

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

NORMS = ("l2", "linf")
METHODS = ("auto", "exact", "gradient")

# Relative distance of the bounds below which they are one.
_MEETING = 1e-9


class _Search(NamedTuple):
    radius: float
    norm: str
    exact: bool
    starts: Array
    n_steps: int


def fragility(
    states: Any,
    x: ArrayLike | None = None,
    *,
    radius: float,
    norm: str = "l2",
    method: str = "auto",
    n_starts: int = 10,
    n_steps: int = 40,
    seed: int = 0,
    contradiction: bool | None = None,
    progress: bool = False,
) -> xr.Dataset:
    r"""Find the worst change of the output under a small change of the input, and after one contradicting sample.

    Parameters
    ----------
    states
        What :func:`simulate_training` returns, any selection of it, or :class:`wideangle.NetworkWeights`.
    x
        Inputs, shape (probe, feature); default those of the training.
    radius
        Size of the perturbation, above 0, in the units of the inputs.
    norm
        ``"l2"`` (default), the Euclidean length, or ``"linf"``, the largest component.
    method
        ``"exact"`` for piecewise linear activations and one input feature, or two and one hidden layer: the extremes
        of a piecewise linear function lie at the corners of its pieces, on a circle also where the radius is along
        the gradient of a piece, and all these places are tried; in two dimensions at a cost that grows with the square
        of the units for each probe, and with their cube for each network. ``"gradient"``: projected gradients, upward
        and downward, in steps that shrink from the diameter of the ball to a thousandth of its radius; a lower bound.
        For one input feature, 401 places on the interval before, and finer ones around the best.
        ``"auto"`` (default): exact where that is possible.
    n_starts, n_steps
        Starts of the gradients at each probe, default 10, the probe itself among them, and their steps, default 40.
    seed
        Seed of the other starts, which are the same displacements for every network and probe; default 0.
    contradiction
        Whether to measure the steps on contradicting samples, which needs a state with its training; default (None)
        if it has that, and two samples or more.
    progress
        Show a progress bar; default False.

    Returns
    -------
    xarray.Dataset
        With the dimensions of the state, such as ``network`` and ``time``, and the coordinate ``x_probe``; NaN for
        networks that have diverged:

        - ``lower(probe)``, ``upper(probe)``: bounds on the largest :math:`|f(x+d) - f(x)|` with
          :math:`\lVert d \rVert \le` radius. The lower is attained at ``direction(probe, feature)``. The upper is
          certified, from linear bounds of the activations or the product of the norms of the layers; up to rounding;
        - ``exact(probe)``: whether it is exact, or the bounds meet to 1e-9; the two are the same then but for that;
        - ``output(probe)``; ``flipped(probe)``: whether a perturbation was found that changes the sign of the output;
          ``certified(probe)``: whether none can; ``flip_fraction``: share of the probes that flip;
        - ``contradiction_own(sample)``: change of the output at a training sample by one step of descent on it alone
          with its label's sign changed, at the learning rate of the state; ``contradiction_mean(sample)`` and
          ``contradiction_largest(sample)``: mean and largest size of the changes at the other samples relative to
          that; ``contradiction_flips(sample)``: share of the others whose output changes its sign.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or ``method="exact"`` cannot be had.

    Notes
    -----
    Fragility of trained networks: arXiv 2405.04074. Exact extremes and bounds: derived; the bound is of the kind of
    H. Zhang et al., "Efficient neural network robustness certification with general activation functions", 2018.
    Projected gradients: A. Madry et al., arXiv 1706.06083.

    Examples
    --------
    The output rises with slope 2 up to a kink at 1 and falls with slope -1 from there:

    >>> import wideangle as wa
    >>> tent = wa.NetworkWeights([[[1.0], [1.0]], [[2.0, -3.0]]], biases=[[0.0, -1.0], [0.0]])
    >>> found = wa.response.fragility(tent, [[0.25], [3.0]], radius=1.0)
    >>> found["lower"].values.tolist(), found["direction"].values[:, 0].tolist(), bool(found["exact"].all())
    ([1.5, 1.0], [0.75, -1.0], True)
    """
    import xarray as xr

    networks = read_state(states, name="states")
    points = check_points_or_training(x, networks)
    search = _check_search(networks, radius, norm, method, n_starts, n_steps, seed)
    with_training = _check_contradiction(contradiction, networks)

    finite = networks.usable
    values = _allocate(networks, len(points), with_training)
    numbers = len(points) * _numbers_at_a_point(networks, search)
    if with_training and networks.x is not None:
        at_once = max(networks.parameters.shape[1], len(networks.x) * max(networks.sizes))
        numbers = max(numbers, len(networks.x) * at_once)
    with progress_callback(len(networks), check_flag("progress", progress), unit="network") as report:
        for block in blocks(len(networks), numbers):
            rows = np.arange(len(networks))[block][finite[block]]
            if len(rows):
                for piece in blocks(len(points), len(rows) * _numbers_at_a_point(networks, search)):
                    for name, array in _worst_changes(networks, rows, points[piece], search).items():
                        values[name][rows, piece] = array
                values["flip_fraction"][rows] = values["flipped"][rows].mean(axis=1)
                if with_training:
                    for name, array in contradiction_measures(*step_on_contradictions(networks, rows)).items():
                        values[name][rows] = array
            if report is not None:
                report(min(block.stop, len(networks)))
    return xr.Dataset(
        {name: networks.variable(array, *_DIMS.get(name, ("probe",))) for name, array in values.items()},
        {**networks.coords, "x_probe": (("probe", "feature"), points)},
        provenance(
            "wideangle.response.fragility",
            source="worst changes by corners of pieces, grids or projected gradients, derived bounds; arXiv 2405.04074",
            activation=str(networks.activation),
            radius=search.radius,
            norm=search.norm,
            method="exact" if search.exact else "gradient",
            n_starts=n_starts,
            n_steps=n_steps,
            seed=seed,
            contradiction=with_training,
            learning_rate=networks.learning_rate,
            loss=None if networks.loss is None else str(networks.loss),
        ),
    )


_DIMS = {
    "direction": ("probe", "feature"),
    "flip_fraction": (),
    **{f"contradiction_{name}": ("sample",) for name in ("own", "mean", "largest", "flips")},
}


def _check_search(
    states: States, radius: float, norm: str, method: str, n_starts: int, n_steps: int, seed: int
) -> _Search:
    remedy = "give the size of the perturbation in the units of the inputs"
    size = check_real("radius", radius, remedy=remedy)
    if not 0.0 < size <= 1e100:
        raise ValueError(f"radius must lie in (0, 1e100], got {radius!r}; {remedy}")
    check_choice("norm", norm, NORMS)
    check_choice("method", method, METHODS)
    possible = has_exact(states.sizes, states.activation)
    if method == "exact" and not possible:
        raise ValueError(
            f"method='exact' needs a piecewise linear activation and one input feature, or two and one hidden layer, "
            f"got {states.activation} in a network {'-'.join(map(str, states.sizes))}; use method='auto'"
        )
    check_integer("n_starts", n_starts, low=1, high=10**6, remedy="give a number of starts, such as 10")
    check_integer("n_steps", n_steps, low=1, high=10**6, remedy="give a number of steps, such as 40")
    starts = draw_starts(n_starts, states.sizes[0], size, norm, check_seed(seed))
    return _Search(size, norm, possible and method != "gradient", starts, n_steps)


def _check_contradiction(value: bool | None, states: States) -> bool:
    complete = None not in (states.loss, states.learning_rate) and states.x is not None and states.y is not None
    possible = complete and states.x is not None and len(states.x) > 1
    if value is None or not check_flag("contradiction", value):
        return possible and value is None
    if not possible:
        raise ValueError(
            "contradiction=True needs a state with its loss, its learning rate and two training samples or more; give "
            "what wideangle.response.simulate_training returns, or contradiction=False"
        )
    return True


def _allocate(states: States, n_points: int, with_training: bool) -> dict[str, NDArray[Any]]:
    number = len(states)
    names = ("lower", "upper", "output")
    values: dict[str, NDArray[Any]] = {name: np.full((number, n_points), math.nan) for name in names}
    values |= {name: np.zeros((number, n_points), dtype=np.bool_) for name in ("exact", "flipped", "certified")}
    values["direction"] = np.full((number, n_points, states.sizes[0]), math.nan)
    values["flip_fraction"] = np.full(number, math.nan)
    if with_training and states.y is not None:
        for name in ("own", "mean", "largest", "flips"):
            values[f"contradiction_{name}"] = np.full((number, len(states.y)), math.nan)
    return values


def _numbers_at_a_point(states: States, search: _Search) -> int:
    """Return about how many numbers there are at a time for each network and point."""
    each = count_candidates(states.sizes) if search.exact else max(2 * len(search.starts) * max(states.sizes), GRID)
    return max(each, max(states.sizes) * states.sizes[0])


def _worst_changes(states: States, rows: NDArray[Any], points: Array, search: _Search) -> dict[str, NDArray[Any]]:
    layers, activation = select(states.layers, rows), states.activation
    f = outputs(layers, activation, points)
    if search.exact:
        extremes = exact_extremes(layers, activation, points, search.radius, search.norm)
    else:
        extremes = Extremes.none(len(rows), *points.shape)
        if points.shape[1] == 1:
            search_grid(extremes, states, rows, points, search.radius)
        search_extremes(extremes, layers, activation, points, search.radius, search.norm, search.starts, search.n_steps)
    upward = extremes.rise >= -extremes.fall
    lower = np.where(upward, extremes.rise, -extremes.fall)
    upper = lower if search.exact else change_bound(layers, activation, points, search.radius, search.norm)
    # What rounding of the outputs may add to a change is not certified.
    upper = np.maximum(upper, lower)
    flipped = np.where(f >= 0.0, f + extremes.fall < 0.0, f + extremes.rise >= 0.0)
    return {
        "lower": lower,
        "upper": upper,
        "exact": (upper - lower <= _MEETING * upper) if not search.exact else np.ones_like(upward),
        "output": f,
        "flipped": flipped,
        "certified": upper < np.abs(f),
        "direction": np.where(upward[..., None], extremes.rise_at, extremes.fall_at),
    }
