"""Many inputs at once: the volume that they span, by layer, at finite and at infinite width."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from wideangle._provenance import provenance
from wideangle.network import MLP

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from wideangle.data import LabelledData

MOST_INPUTS, WIDTHS, DEPTH = 10, (64, 256), 32
NEARNESS = 1e-4  # Angles between the inputs of the small-angle law: vanishing to it, not to rounding behind 32 layers.
QUANTITIES = ("log_determinant", "effective_rank")
SOURCE = "law of the Gram matrix given the layer below; Bartlett's decomposition of its determinant at small angles"


def many_inputs(data: LabelledData, *, n_samples: int, seed: int) -> xr.Dataset:
    """Simulate and predict the Gram matrix of the :func:`chosen_inputs` of ``data``.

    Returns
    -------
    xarray.Dataset
        Over ``layer`` 0...32: ``log_determinant`` and ``effective_rank`` at infinite width; with ``_mean``,
        ``_variance`` and ``_standard_error`` over ``width``, 64 and 256, in simulated networks;
        ``near_log_determinant_mean`` and ``near_log_determinant_standard_error`` at width 256 for inputs within
        1e-4 radians, and ``near_law``, what is exact for angles that vanish.
    """
    import xarray as xr

    from wideangle.propagation import predict_gram, simulate_gram

    x = chosen_inputs(data)
    gram0 = x @ x.T / x.shape[1]
    infinite = predict_gram(MLP((WIDTHS[-1],) * DEPTH), gram0, method="infinite-width").gram.values
    variables: dict[str, tuple[str | tuple[str, ...], object]] = {
        "log_determinant": ("layer", np.linalg.slogdet(infinite)[1]),
        "effective_rank": ("layer", np.trace(infinite, axis1=1, axis2=2) ** 2 / (infinite**2).sum(axis=(1, 2))),
    }
    runs = [simulate_gram(MLP((width,) * DEPTH), gram0, n_samples=n_samples, seed=seed) for width in WIDTHS]
    for name in QUANTITIES:
        for part, source in (("mean",) * 2, ("variance",) * 2, ("standard_error", "mean_standard_error")):
            values = [run[f"{name}_{source}"].values for run in runs]
            variables[f"{name}_{part}"] = (("width", "layer"), values)

    # Each input turns by about 1e-4 into a direction of its own.
    near = x[:1] + NEARNESS * x
    gram0 = near @ near.T / x.shape[1]
    run = simulate_gram(MLP((WIDTHS[-1],) * DEPTH), gram0, n_samples=n_samples, seed=seed)
    start = run["log_determinant_mean"].values[0]
    variables["near_log_determinant_mean"] = ("layer", run["log_determinant_mean"].values)
    variables["near_log_determinant_standard_error"] = ("layer", run["log_determinant_mean_standard_error"].values)
    variables["near_law"] = ("layer", start + small_angle_drift(WIDTHS[-1], len(x)) * np.arange(DEPTH + 1))
    return xr.Dataset(
        variables,
        {"layer": np.arange(DEPTH + 1), "width": list(WIDTHS)},
        provenance("many_inputs", source=SOURCE, n_samples=n_samples, seed=seed, data=data.name, n_inputs=len(x)),
    )


def chosen_inputs(data: LabelledData) -> NDArray[np.float64]:
    """Return up to ten linearly independent training samples, the first of each class first, of unit mean square."""
    first = [int(np.flatnonzero(data.y_train == label)[0]) for label in np.unique(data.y_train)]
    others = [index for index in range(min(len(data.y_train), 100)) if index not in first]
    chosen: list[NDArray[np.float64]] = []
    for index in first + others:
        x = data.x_train[index].astype(np.float64)
        if len(chosen) == MOST_INPUTS or not np.any(x):
            continue
        candidates = [*chosen, x / np.sqrt(np.mean(x**2))]
        if len(candidates) <= x.size and np.linalg.svd(candidates, compute_uv=False)[-1] > 1e-3:
            chosen = candidates
    return np.array(chosen)


def small_angle_drift(width: int, n_inputs: int) -> float:
    r"""Return what a ReLU layer adds to ln det Q of nearly parallel inputs on average, weight variance 2.

    Derived: at vanishing angles the same K ~ Binomial(n, 1/2) neurons are active on all inputs, so that
    :math:`Q' = \frac2n \sum_K g g^T` with :math:`g \sim N(0, Q)`, a Wishart matrix, and Bartlett's decomposition gives
    :math:`\det Q' = \det Q\, (2/n)^m \prod_{i<m} \chi^2_{K-i}` with independent chi-squares.
    """
    from scipy.special import digamma
    from scipy.stats import binom

    active = np.arange(n_inputs, width + 1)
    weights = binom.pmf(active, width, 0.5)
    logs = sum(digamma(0.5 * (active - i)) for i in range(n_inputs)) + n_inputs * math.log(4.0 / width)
    return float(weights @ logs / weights.sum())
