"""Whether networks with a smaller space of features are more fragile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import check_integer, check_real, check_seed
from wideangle._provenance import provenance
from wideangle.statistics import percentile_interval, rank_correlation

if TYPE_CHECKING:
    import xarray as xr

FEATURE_MEASURES = ("participation_ratio", "effective_rank", "active_units", "distinct_units")


def relate_fragility(
    features: xr.Dataset,
    fragility: xr.Dataset,
    *,
    seed: int,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    groups: str | None = None,
) -> xr.Dataset:
    r"""Correlate the ranks of networks by the size of their feature space with those by their fragility.

    Parameters
    ----------
    features
        What :func:`feature_space` returns, with a dimension ``network``.
    fragility
        What :func:`fragility` returns for the same networks, at the same times if there are times.
    seed
        Seed of the bootstrap, 0 <= seed < 2**64.
    n_bootstrap
        Bootstrap samples of networks, default 1000.
    confidence
        Level of the intervals, default 0.95.
    groups
        Name of a coordinate of ``features`` along ``network`` in which networks agree that are not independent, such
        as those of several methods that started alike; they are drawn together in the bootstrap. Default None.

    Returns
    -------
    xarray.Dataset
        ``correlation``, Spearman's, and the percentile interval ``low``, ``high``, over (``feature_measure``,
        ``fragility_measure``) and all common dimensions but ``network``; NaN where all networks agree in either;
        ``n_networks`` that have not diverged. A feature space that is smaller in more fragile networks is a negative
        correlation. Measures of fragility are means over probes or samples: ``worst_change``, that of ``lower``;
        ``relative_worst_change``, the same over the root mean square of the outputs, which the scale of the output
        does not change; ``flip_fraction``; and, where they were measured, ``contradiction_mean``,
        ``contradiction_largest`` and ``contradiction_flips``.

        A relation between methods of training, rather than among networks of one, needs both: concatenate them along
        ``network`` for the former, with ``groups`` if they started from the same weights, and keep them apart for the
        latter.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, a variable or dimension is missing, or the networks or times are not the
        same, which all coordinates tell that both have, those without a dimension too.

    Examples
    --------
    >>> import numpy as np
    >>> import wideangle as wa
    >>> random = np.random.default_rng(0)
    >>> nets = wa.NetworkWeights([random.normal(size=(30, 8, 1)), random.normal(size=(30, 1, 8))])
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> features, fragile = wa.response.feature_space(nets, x), wa.response.fragility(nets, x, radius=0.1)
    >>> found = wa.response.relate_fragility(features, fragile, seed=1)
    >>> found["correlation"].sel(feature_measure="effective_rank", fragility_measure="worst_change").shape
    ()

    Notes
    -----
    Bootstrap of networks: :func:`wideangle.statistics.rank_correlation`. The relation: arXiv 2405.04074.
    """
    import xarray as xr

    check_seed(seed)
    check_integer("n_bootstrap", n_bootstrap, low=2, high=10**7, remedy="give a number of samples, such as 1000")
    _check_confidence(confidence)
    labels = None if groups is None else _labels(features, groups)
    sizes = _gather("features", features, FEATURE_MEASURES)
    changes = _gather("fragility", _means(fragility), None)
    try:
        sizes, changes = xr.align(sizes, changes, join="exact", exclude=["measure"])
    except ValueError as error:
        raise ValueError(
            f"features and fragility must be of the same networks and times ({error}); measure both from one state"
        ) from None
    _check_coordinates(sizes, changes)
    rest = [dim for dim in sizes.dims if dim not in ("measure", "network")]
    if set(sizes.dims) != set(changes.dims):
        raise ValueError(
            f"features and fragility must have the same dimensions, got {sizes.dims} and {changes.dims}; measure both "
            "from one state"
        )
    x = sizes.transpose(*rest, "measure", "network").values
    y = changes.transpose(*rest, "measure", "network").values
    shape = x.shape[:-2]
    found = np.full((*shape, x.shape[-2], y.shape[-2], 3), np.nan)
    number = np.zeros(shape, dtype=np.int64)
    for place in np.ndindex(shape):
        for column, outcomes in enumerate(y[place]):
            ranks = rank_correlation(x[place], outcomes[:, None], seed=seed, n_bootstrap=n_bootstrap, groups=labels)
            low, high = percentile_interval(ranks.replicates, level=confidence)
            found[place][:, column] = np.stack([ranks.estimate, low, high], axis=-1)
            number[place] = ranks.n_items
    dims = (*rest, "feature_measure", "fragility_measure")
    return xr.Dataset(
        {name: (dims, found[..., k]) for k, name in enumerate(("correlation", "low", "high"))}
        | {"n_networks": (tuple(rest), number)},
        {"feature_measure": sizes["measure"].values, "fragility_measure": changes["measure"].values}
        | {name: coord for name, coord in sizes.coords.items() if set(coord.dims) <= set(rest) and name != "measure"},
        provenance(
            "wideangle.response.relate_fragility",
            source="Spearman's rank correlation over networks with percentile bootstrap intervals; arXiv 2405.04074",
            seed=seed,
            n_bootstrap=n_bootstrap,
            confidence=confidence,
            groups=groups,
        ),
    )


def _check_confidence(confidence: float) -> None:
    remedy = "give the level of the intervals, such as 0.95"
    if not 0.0 < check_real("confidence", confidence, remedy=remedy) < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence!r}; {remedy}")


def _check_coordinates(sizes: xr.DataArray, changes: xr.DataArray) -> None:
    """Refuse what differs in coordinates that are not aligned, such as one time each."""
    for name in sizes.coords:
        if name == "measure" or name not in changes.coords:
            continue
        one, other = sizes[name].variable, changes[name].variable
        # A dimension that only one of them has is refused as such.
        if one.dims == other.dims and not one.equals(other):
            got = f", got {one.values} and {other.values}" if not one.dims else ""
            raise ValueError(
                f"features and fragility must be of the same networks and times, and differ in their coordinate {name}"
                f"{got}; measure both from one state"
            )


def _labels(features: xr.Dataset, name: object) -> NDArray[np.generic]:
    if not isinstance(name, str) or name not in features.coords or features[name].dims != ("network",):
        raise ValueError(
            f"groups must be the name of a coordinate of features along network, got {name!r}; assign one, such as"
            " features.assign_coords(start=('network', numbers))"
        )
    labels: NDArray[np.generic] = features[name].values
    return labels


def _means(fragility: xr.Dataset) -> xr.Dataset:
    """Return the measures of fragility of each network."""
    import xarray as xr

    if not isinstance(fragility, xr.Dataset) or not {"lower", "output", "flip_fraction"} <= set(fragility):
        raise TypeError("fragility must be a Dataset with lower, output and flip_fraction; give what fragility returns")
    worst = fragility["lower"].mean("probe")
    scale = np.sqrt((fragility["output"] ** 2).mean("probe"))
    means = {"worst_change": worst, "relative_worst_change": worst / scale.where(scale > 0.0)}
    means["flip_fraction"] = fragility["flip_fraction"]
    for name in ("contradiction_mean", "contradiction_largest", "contradiction_flips"):
        if name in fragility:
            means[name] = fragility[name].mean("sample")
    return xr.Dataset(means)


def _gather(argument: str, values: xr.Dataset, names: tuple[str, ...] | None) -> xr.DataArray:
    import xarray as xr

    if not isinstance(values, xr.Dataset):
        raise TypeError(f"{argument} must be a Dataset, got {type(values).__name__}; give what feature_space returns")
    missing = [name for name in names or () if name not in values]
    if missing:
        raise ValueError(f"{argument} must hold {', '.join(missing)}; give what feature_space returns")
    gathered: xr.DataArray = values[list(names or values)].to_array("measure")
    if "network" not in gathered.dims:
        raise ValueError(f"{argument} must have a dimension network, got {gathered.dims}; measure several networks")
    return gathered
