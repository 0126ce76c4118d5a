"""Claims of panels (d) and (e) of the reproduction of arXiv 2405.04074: spaces of features, and fragility."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from wideangle.papers.response_judging import REDUCED, claim_on, known
from wideangle.papers.response_panels import DESCENT, NOISY, SINGLE
from wideangle.reports import Claim

if TYPE_CHECKING:
    import xarray as xr

    from wideangle.papers.response import Measurements

BALANCED = 0.05  # Of the parts of a derived change, by which the measured one may differ.
SIZE_NAMES = {
    "kinks": "number of kinks",
    "active_units": "number of active units",
    "effective_rank": "effective rank",
    "participation_ratio": "participation ratio",
}
FRAGILE_NAMES = {
    "relative_worst_change": "worst change of the output, relative to outputs",
    "contradiction_mean": "change elsewhere by a contradicting sample, relative to that at it",
}


def rate(measurements: Measurements) -> float:
    """Return the learning rate whose networks are judged."""
    return float(measurements.features.attrs["learning_rate"])


def judged(measurements: Measurements) -> tuple[tuple[str, float], ...]:
    """Return the methods and learning rates that are judged: steps of single samples are unstable at the largest."""
    usual, largest = rate(measurements), float(measurements.features["learning_rate"].values[-1])
    return (SINGLE, usual), (NOISY, usual), (SINGLE, largest)


def size_claims(measurements: Measurements, loss: str) -> list[Claim]:
    """Judge whether stochastic training reduces the space of features more than gradient descent in the same time."""
    last = measurements.features.sel(loss_name=loss).isel(time=-1)
    here = last.sel(learning_rate=rate(measurements))
    claims = [
        claim
        for method, each in judged(measurements)
        for claim in _reductions(last.sel(learning_rate=each), f"{loss}, {method}, learning rate {each:g}", method)
    ]
    curvature = here["curvature"]
    claims.append(
        claim_on(
            f"Label noise lowers the curvature (derived for the squared loss; {loss}): ln of the mean K(x, x) is less"
            " than after gradient descent; the difference is negative.",
            np.log(curvature.sel(training=NOISY).values / curvature.sel(training=DESCENT).values),
            (-math.inf, 0.0),
        )
    )
    return claims


def _reductions(here: xr.Dataset, words: str, method: str) -> list[Claim]:
    claims = []
    for name, size in SIZE_NAMES.items():
        found, reference = (here[name].sel(training=each).values for each in (method, DESCENT))
        claims.append(
            claim_on(
                f"Stochastic training reduces the space of features ({words}): the {size}, relative to that after"
                f" gradient descent in the same time, changes by -{REDUCED:g} or less.",
                (found - reference) / reference.mean(),
                (-math.inf, -REDUCED),
                f"{found.mean():.2f} and {reference.mean():.2f}",
            )
        )
    return claims


def balance_claims(balance: xr.Dataset) -> list[Claim]:
    """Judge what is derived of the changes of units by steps, of gradient descent and with noise."""
    claims = []
    for loss in balance["loss_name"].values.tolist():
        for method in balance["training"].values.tolist():
            here = balance.sel(loss_name=loss, training=method)
            change = here.isel(time=-1) - here.isel(time=0)
            claims.append(
                claim_on(
                    f"Training moves the imbalance of units as derived ({loss}, {method}): the change of the sum of"
                    " a^2 - |w|^2 - b^2 differs from that which is expected of each step, by at most"
                    f" {BALANCED:g} of the sizes of its parts by descent, sampling and label noise.",
                    (change["imbalance"] - change["derived"]) / here["parts"].mean(),
                    (-BALANCED, BALANCED),
                    f"{change['imbalance'].mean().item():.3g}, derived {change['derived'].mean().item():.3g}",
                )
            )
    return claims


def fragility_claims(measurements: Measurements, loss: str) -> list[Claim]:
    """Judge whether stochastic training makes networks fragile, and those with fewer features more so."""
    claims = []
    for method, each in judged(measurements):
        here = measurements.features.sel(loss_name=loss, learning_rate=each)
        for name, words in FRAGILE_NAMES.items():
            found, reference = (here[name].sel(training=kind).values for kind in (method, DESCENT))
            claims.append(
                claim_on(
                    f"Stochastic training makes fragile ({loss}, {method}, learning rate {each:g}): the {words}, is"
                    " larger than after gradient descent; the difference is positive.",
                    found - reference,
                    (0.0, math.inf),
                    f"{np.nanmean(found):.3f} and {np.nanmean(reference):.3f}",
                )
            )
    pooled = measurements.relations.sel(loss_name=loss, pool="all")
    for size in ("active_units", "effective_rank"):
        for name, words in FRAGILE_NAMES.items():
            at = pooled.sel(feature_measure=size, fragility_measure=name)
            claims.append(
                Claim(
                    f"Reduction comes with fragility ({loss}, all methods and learning rates): the rank correlation"
                    f" between the {SIZE_NAMES[size]} and the {words}, is negative.",
                    at["correlation"].item(),
                    known(at["low"].item(), at["high"].item()),
                    (-1.0, 0.0),
                    f"95 % interval over initial states, {int(at['n_networks'])} networks",
                )
            )
    return claims
