"""Tables of the reproduction of arXiv 2405.04074 and 2204.07291."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from wideangle.papers.response_aging_claims import step_orders
from wideangle.papers.response_feature_claims import SIZE_NAMES, rate
from wideangle.papers.response_features import FRAGILE, LOSSES
from wideangle.papers.response_panels import ACTIVATIONS, FACTORS, METHODS
from wideangle.reports import html

if TYPE_CHECKING:
    import xarray as xr

    from wideangle.papers.response import Measurements


def shown(value: Any, digits: int = 2) -> str:
    """Return a number as text, or a dash where there is none."""
    number = float(value)
    return f"{number:.{digits}f}" if np.isfinite(number) else "-"


def kernels_table(measurements: Measurements) -> str:
    """Return what the response kernels are like by activation and stage."""
    means = measurements.kernels.mean("network")
    rows = [
        (
            f"{name}, {stage}",
            shown(np.exp(means["growth"].sel(activation=name, stage=stage))),
            shown(means["similarity"].sel(activation=name, stage=stage), 3),
            shown(means["fall"].sel(activation=name, stage=stage)),
            shown(np.mean(step_orders(measurements.steps, name)), 3) if stage == "start" else "",
        )
        for name in ACTIVATIONS
        for stage in means["stage"].values.tolist()
    ]
    header = ("Activation, stage", "K(x, x) to start", "Cosine", "Correlation with distance", "Order of steps")
    return html.numbers(header, rows, caption="Means over networks (of K(x, x), geometric)", folded="All kernels")


def aging_table(measurements: Measurements) -> str:
    """Return exponents and chosen laws."""
    aging, fits, predictions = measurements.aging, measurements.fits, measurements.predictions
    rows = []
    for name in aging["case"].values.tolist():
        here = aging.sel(case=name)
        laws = [_law(fits.sel(case=name, factor=factor)) for factor in FACTORS]
        laws.append(_law(predictions.sel(case=name)) if name in predictions["case"].values else "")
        names = ("response", "constant_kernel", "loss_derivative", "kernel")
        exponents = [shown(here[f"{each}_exponent"].mean()) for each in names]
        rows.append((name, *exponents, *laws))
    header = (
        "Loss, method, activation",
        "Exponent",
        "constant kernel",
        "loss derivative",
        "kernel",
        "Law of the response",
        "of the loss derivative",
        "of the kernel",
        "derived, constant kernel",
    )
    return html.numbers(header, rows, caption="Late exponents and fitted laws", folded="All kinds of training")


def _law(fit: xr.Dataset) -> str:
    text = str(fit["chosen"].item())
    if text != "power law":
        return text
    return f"power {shown(fit['gamma'])} ({shown(fit['gamma_low'])} to {shown(fit['gamma_high'])})"


def features_table(measurements: Measurements) -> str:
    """Return sizes of the space of features for all learning rates."""
    last = measurements.features.isel(time=-1)
    names = (*SIZE_NAMES, "distinct_units", "participation_ratio_raw", "curvature", "loss")
    rows = []
    for loss in LOSSES:
        for method in METHODS:
            for each in last["learning_rate"].values.tolist():
                here = last.sel(loss_name=loss, training=method, learning_rate=each)
                rows.append((f"{loss}, {method}, {each:g}", *(shown(here[name].mean()) for name in names)))
    header = (
        "Loss, method, learning rate",
        "Kinks",
        "Active units",
        "Effective rank",
        "Participation ratio",
        "Distinct units",
        "Participation with mean",
        "Mean K(x, x)",
        "Loss",
    )
    return html.numbers(header, rows, caption="Means over networks at the end", folded="All learning rates")


def fragility_table(measurements: Measurements) -> str:
    """Return fragility by method, and rank correlations within methods."""
    last = measurements.features.sel(learning_rate=rate(measurements))
    rows = []
    for loss in LOSSES:
        for method in METHODS:
            here = last.sel(loss_name=loss, training=method)
            relation = measurements.relations.sel(loss_name=loss, pool=method, feature_measure="effective_rank")
            names = ("worst_change", *FRAGILE)
            within = [relation.sel(fragility_measure=name) for name in ("relative_worst_change", "contradiction_mean")]
            intervals = [
                f"{shown(each['correlation'])} ({shown(each['low'])} to {shown(each['high'])})" for each in within
            ]
            rows.append((f"{loss}, {method}", *(shown(here[name].mean(), 3) for name in names), *intervals))
    header = (
        "Loss, method",
        "Worst change",
        "relative",
        "Flips",
        "Contradiction",
        "Flips",
        "Correlation of effective rank with worst change",
        "with contradiction",
    )
    caption = f"Means over networks at learning rate {rate(measurements):g}; correlations within a method"
    return html.numbers(header, rows, caption=caption, folded="Fragility by method")
