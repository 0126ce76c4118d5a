"""The claims of arXiv 2110.15596, and of what follows from it, each with what was measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from wideangle.papers._verdicts import estimated_claim, exact_claim, width_exponent
from wideangle.papers.parametrization import N_HIDDEN
from wideangle.reports import Claim
from wideangle.reports.claims import AGREES, DISAGREES

if TYPE_CHECKING:
    import xarray as xr

    from wideangle.papers.parametrization import Measurements

VANISHES = -0.5  # Exponents in the width below which an update is taken to vanish, and
STAYS = -0.25  # above which it is taken to stay.
UNMOVED = 1e-3  # Of the cross-entropy, in nat.
LEARNT = 0.9  # Of training accuracies.
RATE = 0.1  # Around -1/2.
SAME = 0.3  # Diversity below which the neurons of a layer are taken to be the same function, and
NOT_SAME = 0.7  # above which they are not.
ALIKE, DIFFERENT = ("ip-bias", "ip-non-centered"), ("ip-llr", "mup")
LEARNING = ("ip-llr", "mup", "ntk", "ip-bias", "ip-non-centered")


def judge(measurements: Measurements) -> tuple[Claim, ...]:
    """Return all claims in the order of the panels."""
    return (
        *depth_claims(measurements.depths),
        *training_claims(measurements.curves),
        *hybrid_claims(measurements.hybrid, measurements.first_step),
        *diversity_claims(measurements.curves),
        *check_claims(measurements.checks),
    )


def depth_claims(depths: xr.Dataset) -> list[Claim]:
    """Judge the exponents of the output's update in integrable networks of several depths."""
    hidden = depths["depth"].values
    found, low, high, predicted = (
        output_exponents(depths, name) for name in ("change_exponent", "change_low", "change_high", "change_predicted")
    )
    text = ", ".join(f"{value:.2f} ({depth + 1})" for depth, value in zip(hidden, found, strict=True))

    def claim(statement: str, chosen: np.ndarray, pick: int, allowed: tuple[float, float]) -> Claim:
        place = np.flatnonzero(chosen)[pick]
        return Claim(statement, found[place], (low[place], high[place]), allowed, f"exponents by layers: {text}")

    deep, shallow = hidden > 3, hidden < 3
    last = int(np.argmax(np.where(deep, found, -np.inf)))
    first = int(np.argmin(np.where(shallow, found, np.inf)))
    worst = int(np.argmax(np.abs(found - predicted)))
    return [
        claim(
            "Integrable networks of more than four layers do not learn at infinite width: the update of the output"
            f" goes like a power of the width of at most {VANISHES:g}.",
            np.arange(len(hidden)) == last,
            0,
            (-math.inf, VANISHES),
        ),
        claim(
            f"With two and three layers they do: the power is at least {STAYS:g}.",
            np.arange(len(hidden)) == first,
            0,
            (STAYS, math.inf),
        ),
        claim(
            f"Four layers, which the paper's abstract leaves open, learn as well: the power is at least {STAYS:g}.",
            hidden == 3,
            0,
            (STAYS, math.inf),
        ),
        Claim(
            "The power is 2 - L for L > 1 hidden layers (derived): the largest difference is at most 0.25.",
            abs(found[worst] - predicted[worst]),
            (
                max(0.0, low[worst] - predicted[worst], predicted[worst] - high[worst]),
                max(abs(low[worst] - predicted[worst]), abs(high[worst] - predicted[worst])),
            ),
            (0.0, 0.25),
            f"at {hidden[worst] + 1} layers",
        ),
    ]


def output_exponents(checks: xr.Dataset, name: str) -> np.ndarray:
    """Return exponents of the output layer after the last step, by depth."""
    values = checks[name].isel(step=-1, activation=0)
    return np.array([values.sel(depth=depth, layer=depth + 1).item() for depth in checks["depth"].values])


def training_claims(curves: xr.Dataset) -> list[Claim]:
    """Judge who learns and who does not."""
    change = np.abs(curves["train_loss"].isel(record=-1) - curves["train_loss"].isel(record=0))
    unmoved = change.sel(scaling="ip")
    steps = int(curves["record"].values[-1])
    claims = [
        exact_claim(
            f"Integrable networks of seven layers stay where they start: over {steps} steps the training loss changes"
            f" by at most {UNMOVED:g}, with any activation.",
            float(unmoved.max()),
            (0.0, UNMOVED),
            f"{unmoved.size} networks",
        )
    ]
    words = {
        "ip-llr": "A large first step lets them learn",
        "mup": "Maximal-update networks learn",
        "ntk": "Networks in the kernel scaling learn",
        "ip-bias": "Biases that are not scaled let integrable networks learn",
        "ip-non-centered": "Initial weights of nonzero mean let integrable networks learn",
    }
    for name in LEARNING:
        accuracy = curves["train_accuracy"].isel(record=-1).sel(scaling=name).fillna(0.0).min("run")
        parts = ", ".join(f"{accuracy.sel(activation=kind).item():.2f} {kind}" for kind in curves["activation"].values)
        claims.append(
            exact_claim(
                f"{words[name]}: after {steps} steps the training accuracy of every network is at least {LEARNT:g}.",
                float(accuracy.min()),
                (LEARNT, math.inf),
                f"least: {parts}",
            )
        )
    return claims


def hybrid_claims(hybrid: xr.Dataset, first_step: xr.Dataset) -> list[Claim]:
    """Judge the limit after the first step, and that both scalings have the same."""
    limit_gap, hybrid_gap = first_step_gaps(first_step)
    claims = []
    for text, gap in (
        ("After a large first step outputs approach their closed-form limit", limit_gap),
        ("So do outputs under ip-llr and under the hybrid scaling approach each other", hybrid_gap),
    ):
        slope, error = width_exponent(gap)
        claims.append(
            estimated_claim(
                f"{text} like one over the root of the width: the power differs from -1/2 by at most {RATE:g}.",
                slope + 0.5,
                error,
                (-RATE, RATE),
                f"{first_step.sizes['network']} networks of three layers; se {error:.2g}",
            )
        )
    z = float(np.max(np.abs(first_step["z"])))
    claims.append(
        exact_claim(
            "Extrapolated to infinite width they meet the prediction: the largest difference is at most 3 standard"
            " errors.",
            z,
            (0.0, 3.0),
            f"{first_step['z'].size} outputs",
        )
    )
    for step in (1, int(hybrid["record"].values[-1])):
        slope, error = width_exponent(gap_by_width(hybrid).sel(record=step))
        claims.append(
            estimated_claim(
                "Seven-layer networks under ip-llr and under the hybrid scaling approach each other on real data: after"
                f" {step} step{'s' if step > 1 else ''} the gap between their outputs goes like a power of the width"
                " of at most -0.25.",
                slope,
                error,
                (-math.inf, -0.25),
                f"widths {hybrid['width'].values[0]} to {hybrid['width'].values[-1]}; se {error:.2g}",
            )
        )
    return claims


def first_step_gaps(first_step: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    """Return root mean squares over inputs of distances (width, network): from the limit, and between the scalings."""
    llr, hybrid = (first_step["output"].sel(scaling=name) for name in ("ip-llr", "hp"))
    return np.sqrt(((llr - first_step["predicted"]) ** 2).mean("input")), np.sqrt(((llr - hybrid) ** 2).mean("input"))


def gap_by_width(hybrid: xr.Dataset) -> xr.DataArray:
    """Return root mean squares, over test samples and classes, of differences of outputs (width, network, record)."""
    difference = hybrid["output"].sel(scaling="ip-llr") - hybrid["output"].sel(scaling="hp")
    gap: xr.DataArray = np.sqrt((difference**2).mean(("probe", "class"))).rename(run="network")
    return gap


def diversity_claims(curves: xr.Dataset) -> list[Claim]:
    """Judge what becomes of the neurons of a layer."""
    last = curves.isel(record=-1).sel(activation="relu")
    hidden = last["diversity"].isel(layer=slice(1, -1)).mean("layer")
    least = ", ".join(f"{name} {hidden.sel(scaling=name).min().item():.2f}" for name in DIFFERENT)
    most = ", ".join(f"{name} {hidden.sel(scaling=name).max().item():.2f}" for name in ALIKE)
    return [
        exact_claim(
            "Biases and weights of nonzero mean make the neurons of a layer the same function of the input: their"
            f" diversity is at most {SAME:g}.",
            float(hidden.sel(scaling=list(ALIKE)).max()),
            (-math.inf, SAME),
            f"ReLU, mean over layers 2 to {N_HIDDEN}, most diverse network: {most}",
        ),
        exact_claim(
            "After a large first step, and under maximal update, they remain different: their diversity is at least"
            f" {NOT_SAME:g}.",
            float(hidden.sel(scaling=list(DIFFERENT)).min()),
            (NOT_SAME, math.inf),
            f"least diverse network: {least}",
        ),
    ]


def check_claims(checks: xr.Dataset) -> list[Claim]:
    """Judge coordinate checks: those of the named scalings agree, and the wrong one is found out."""
    names = checks["check"].values.tolist()
    regimes = (checks["regime"] == checks["regime_expected"]).values[:-1]
    verdicts = checks["verdict"].values
    wrong = int(np.sum(verdicts[:-1] == DISAGREES))
    return [
        exact_claim(
            "Coordinate checks find the regime that the exponents of a scaling lead to: the number of scalings in"
            " another is 0.",
            int(np.sum(~regimes)),
            (0, 0),
            f"{len(regimes)} scalings",
        ),
        exact_claim(
            "No layer of theirs contradicts its exponent: the number of layers with that verdict is 0.",
            wrong,
            (0, 0),
            f"{int(np.sum(verdicts[:-1] == AGREES))} agree",
        ),
        exact_claim(
            f"A wrong scaling ({names[-1]}) is found out: the number of layers that contradict is at least 1.",
            int(np.sum(verdicts[-1] == DISAGREES)),
            (1, math.inf),
            "",
        ),
    ]
