"""Optimal learning rates of networks of several widths: whether they stay the same from width to width."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from threading import Event
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wideangle._checks import check_flag, check_increasing
from wideangle._provenance import provenance
from wideangle.activations import Activation
from wideangle.data import LabelledData
from wideangle.parametrization._arguments import check_threads
from wideangle.parametrization._optima import BAND, N_BOOTSTRAP, find_optima
from wideangle.parametrization._trained import Comparison, check_comparison
from wideangle.reference import scaled_optimizer
from wideangle.reference._side_by_side import side_by_side
from wideangle.reference._steps import as_tensors
from wideangle.reference._torch import require_torch
from wideangle.reference.scaled_training import final_loss
from wideangle.scalings import Scaling

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

SOURCE = "transfer of learning rates between widths, Yang et al., arXiv 2203.03466; drift with an interval: derived"
_DRIFT = ("drift", "drift_low", "drift_high", "verdict")


def train_learning_rates(
    scalings: str | Scaling | Sequence[str | Scaling],
    data: LabelledData,
    *,
    learning_rates: ArrayLike | Mapping[str, ArrayLike],
    widths: Iterable[int] = (64, 128, 256, 512, 1024),
    n_hidden: int = 2,
    activation: str | Activation = "relu",
    weight_variance: float | None = None,
    optimizer: Literal["sgd", "adam"] = "sgd",
    n_steps: int = 50,
    batch_size: int | Literal["auto"] | None = "auto",
    n_runs: int = 3,
    seed: int = 0,
    n_threads: int = 1,
    progress: bool = False,
) -> xr.Dataset:
    r"""Train networks of several widths with several learning rates, and find the best for each width.

    Parameters
    ----------
    scalings, data, n_hidden, activation, weight_variance, optimizer, n_steps, batch_size, seed, n_threads, progress
        As for :func:`train_widths`; default two hidden layers and 50 steps. All learning rates begin with the same
        weights and take the samples in the same order. The first step has the same :math:`\eta` as the others, unless
        it has exponents of its own or drops initial weights: then it is calibrated, once.
    learning_rates
        :math:`\eta`, from three, increasing; in each scaling the optimum must lie within. One sequence for all
        scalings or a mapping from their names. The finer their spacing, the narrower are intervals: factors of
        :math:`\sqrt 2` are recommended.
    widths
        At least three, increasing; default 64, 128, 256, 512 and 1024.
    n_runs
        Networks of each scaling, width and learning rate, from 2; default 3.

    Returns
    -------
    xarray.Dataset
        - ``loss(scaling, width, learning_rate, run)``: mean cross-entropy of all training samples after the last
          step; infinite where training diverged, NaN where a learning rate was not asked for;
        - ``status``, on the same dimensions: 0 trained, 1 diverged, 2 not asked for;
        - ``best(scaling, width)``: the learning rate with the least loss, from the parabola in log2 of the learning
          rate through the least mean logarithm of the loss and its neighbours, where losses above ten times the
          least, and diverged ones, count as ten times; NaN if the least is at an end of the grid;
        - ``best_low``, ``best_high``: limits of 95%, by a bootstrap over runs, averaged over widths, with the variance
          of a uniform distribution over the grid's spacing added, as an optimum next to diverging runs is known no
          better;
        - ``drift(scaling)``, ``drift_low``, ``drift_high``: slope of log2 of ``best`` against log2 of the width;
        - ``verdict(scaling)``: ``"transfers"`` if these limits lie within -0.15 and 0.15, ``"does not transfer"`` if
          they lie beyond on one side, ``"unresolved"`` otherwise, or if an optimum is at an end of the grid.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, before any training.
    ImportError
        If PyTorch is missing.

    Notes
    -----
    Yang et al., arXiv 2203.03466, find optimal learning rates to be the same for all widths under ``"mup"``. There it
    is judged by eye; limits and verdict are not in the literature.

    Examples
    --------
    >>> import wideangle as wa
    >>> data = wa.data.load_digits(seed=1)
    >>> runs = wa.parametrization.train_learning_rates(
    ...     "mup", data, learning_rates=[0.25, 0.5, 1, 2, 4], widths=[16, 32, 64], n_hidden=1, n_runs=2, n_steps=20
    ... )
    >>> dict(runs.loss.sizes)
    {'scaling': 1, 'width': 3, 'learning_rate': 5, 'run': 2}
    """
    compared = check_comparison(
        scalings,
        data,
        widths=widths,
        least=3,
        n_hidden=n_hidden,
        activation=activation,
        weight_variance=weight_variance,
        optimizer=optimizer,
        n_steps=n_steps,
        batch_size=batch_size,
        n_runs=n_runs,
        seed=seed,
    )
    if compared.n_runs < 2:
        raise ValueError(f"n_runs must be at least 2, got {compared.n_runs}; intervals come from their scatter")
    grids = _check_grids(learning_rates, compared.scalings)
    n_threads = check_threads(n_threads)
    show = check_flag("progress", progress)
    require_torch()
    rates = np.unique(np.concatenate(list(grids.values())))
    losses = _train_all(compared, grids, rates, n_threads, show)
    return _dataset(compared, grids, rates, losses)


def _check_grids(value: Any, scalings: tuple[Scaling, ...]) -> dict[str, Array]:
    names = [scaling.name for scaling in scalings]
    if isinstance(value, Mapping):
        if set(value) != set(names):
            raise ValueError(
                f"learning_rates must be given for {names}, got those for {list(value)}; name every scaling"
            )
        return {name: _check_grid(f"learning_rates[{name!r}]", value[name]) for name in names}
    return dict.fromkeys(names, _check_grid("learning_rates", value))


def _check_grid(name: str, value: Any) -> Array:
    remedy = "give at least three increasing learning rates, such as [0.125, 0.25, 0.5]"
    grid = check_increasing(name, value, remedy=remedy)
    if len(grid) < 3 or grid[0] <= 0.0:
        raise ValueError(f"{name} must be at least three positive numbers, got {grid.tolist()}; {remedy}")
    return grid


def _train_all(compared: Comparison, grids: dict[str, Array], rates: Array, n_threads: int, show: bool) -> Array:
    """Return losses (scaling, width, rate, run): infinite if diverged, NaN where a rate was not asked for."""
    tensors = as_tensors(compared.data)
    first = [compared.calibrated(scaling) for scaling in compared.scalings]

    def train(place: tuple[int, int, int, int], stopped: Event) -> float:
        number, position, rate, run = place
        width = compared.widths[position]
        model = compared.build(compared.scalings[number], width, run)
        optimizer = scaled_optimizer(
            model,
            learning_rate=float(rates[rate]),
            optimizer=compared.optimizer,
            first_learning_rate=first[number],
        )
        return final_loss(
            model,
            optimizer,
            tensors,
            seed=compared.seeds(width, run)[1],
            n_steps=compared.n_steps,
            batch_size=compared.batch_size,
            stopped=stopped,
        )

    losses = np.full((len(compared.scalings), len(compared.widths), len(rates), compared.n_runs), np.nan)
    wanted = [np.isin(rates, grids[scaling.name]) for scaling in compared.scalings]
    networks = [place for place in np.ndindex(losses.shape) if wanted[place[0]][place[2]]]
    for place, loss in zip(networks, side_by_side(train, networks, n_threads=n_threads, progress=show), strict=True):
        losses[place] = loss
    return losses


def _dataset(compared: Comparison, grids: dict[str, Array], rates: Array, losses: Array) -> xr.Dataset:
    import xarray as xr

    widths = np.array(compared.widths, np.float64)
    optima = []
    for scaling, some in zip(compared.scalings, losses, strict=True):
        grid = grids[scaling.name]
        optima.append(find_optima(grid, some[:, np.isin(rates, grid)], widths, seed=compared.seed))
    over_widths, over_runs = ("scaling", "width"), ("scaling", "width", "learning_rate", "run")
    status = np.where(np.isnan(losses), 2, np.isinf(losses)).astype(np.int8)
    meanings = {"flag_values": [0, 1, 2], "flag_meanings": "trained diverged not_asked_for"}
    return xr.Dataset(
        {
            "loss": (over_runs, losses, {"units": "nat"}),
            "status": (over_runs, status, meanings),
            "best": (over_widths, [2.0**each.best for each in optima]),
            "best_low": (over_widths, [2.0**each.low for each in optima]),
            "best_high": (over_widths, [2.0**each.high for each in optima]),
            **{name: ("scaling", [getattr(each, name) for each in optima]) for name in _DRIFT},
        },
        {
            "scaling": list(grids),
            "width": list(compared.widths),
            "learning_rate": rates,
            "run": np.arange(compared.n_runs),
        },
        provenance(
            "wideangle.parametrization.train_learning_rates",
            source=SOURCE,
            band=BAND,
            n_bootstrap=N_BOOTSTRAP,
            **compared.attributes(),
        ),
    )
