"""The claims of arXiv 2110.15596, and of what follows from it, each with what was measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from wideangle.papers._verdicts import STANDARD_ERRORS, estimated_claim, exact_claim, mean_claim, width_exponent
from wideangle.reports import Claim

if TYPE_CHECKING:
    import xarray as xr

    from wideangle.papers.parametrization import Measurements

VANISHES = -0.5  # Exponents in the width below which an update is taken to vanish, and
STAYS = -0.25  # above which it is taken to stay.
UNMOVED = 1e-3  # Of the cross-entropy, in nat.
LEARNT = 0.9  # Of training accuracies.
RATE = 0.1  # Around -1/2.
ALIKE = 0.3  # Diversity below which the neurons of a layer are taken to be the same function, and
UNLIKE = 0.7  # above which they are not.
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
        output_exponents(depths, name)
        for name in ("change_exponent", "change_low", "change_high", "change_predicted")
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
            "Four layers, which the paper's abstract leaves open, learn as well: the power is at least"
            f" {STAYS:g}.",
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
            f"Integrable networks of seven layers stay where they start: over {steps} steps the training loss changes by"
            f" at most {UNMOVED:g}, with any activation.",
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
        accuracy = curves["train_accuracy"].isel(record=-1).sel(scaling=name).mean("run")
        worst = accuracy["activation"].values[int(np.argmin(np.nan_to_num(accuracy.values)))]
        values = curves["train_accuracy"].isel(record=-1).sel(scaling=name, activation=worst).values
        each = ", ".join(f"{value:.2f} {kind}" for kind, value in zip(accuracy["activation"].values, accuracy.values, strict=True))
        claims.append(
            mean_claim(
                f"{words[name]}: after {steps} steps the training accuracy is at least {LEARNT:g}, with each activation.",
                np.nan_to_num(values),
                (LEARNT, math.inf),
                each,
            )
        )
    return claims


def hybrid_claims(hybrid: xr.Dataset, first_step: xr.Dataset) -> list[Claim]:
    """Judge the limit after the first step, and that both scalings have the same."""
    gaps = gap_by_width(hybrid)
    half = STANDARD_ERRORS
    claims = [
        Claim(
            f"{text}: the rate differs from -1/2 by at most {RATE:g}.",
            float(first_step[name]) + 0.5,
            (
                float(first_step[name]) + 0.5 - half * float(first_step[f"{name}_error"]),
                float(first_step[name]) + 0.5 + half * float(first_step[f"{name}_error"]),
            ),
            (-RATE, RATE),
            f"se {float(first_step[f'{name}_error']):.2g}",
        )
        for name, text in (
            ("rate", "After a large first step outputs approach their predicted limit like one over the root of the width"),
            ("hybrid_rate", "So do the outputs of a network under ip-llr and under the hybrid scaling approach each other"),
        )
    ]
    z = float(np.max(np.abs(first_step["z"])))
    claims.append(
        exact_claim(
            "Extrapolated to infinite width they meet the prediction: the largest difference is at most 3 standard errors.",
            z,
            (0.0, 3.0),
            f"{first_step['z'].size} outputs",
        )
    )
    for step in (1, int(hybrid["record"].values[-1])):
        slope, error = width_exponent(gaps.sel(record=step))
        claims.append(
            estimated_claim(
                "Seven-layer networks under ip-llr and under the hybrid scaling approach each other on real data: after"
                f" {step} step{'s' if step > 1 else ''} the gap between their outputs goes like a power of the width of at"
                " most -0.25.",
                slope,
                error,
                (-math.inf, -0.25),
                f"widths {hybrid['width'].values[0]} to {hybrid['width'].values[-1]}; se {error:.2g}",
            )
        )
    return claims


def gap_by_width(hybrid: xr.Dataset) -> xr.DataArray:
    """Return the root mean square, over test samples and classes, of the difference of outputs (width, network, record)."""
    difference = hybrid["output"].sel(scaling="ip-llr") - hybrid["output"].sel(scaling="hp")
    gap: xr.DataArray = np.sqrt((difference**2).mean(("probe", "class"))).rename(run="network")
    return gap


def diversity_claims(curves: xr.Dataset) -> list[Claim]:
    """Judge what becomes of the neurons of a layer."""
    last = curves.isel(record=-1).sel(activation="relu")
    hidden = last["diversity"].isel(layer=slice(1, -1)).mean("layer")
    claims = []
    for names, statement, allowed in (
        (
            ("ip-bias", "ip-non-centered"),
            f"Biases and nonzero means make the neurons of inner layers the same function: their diversity is at most {ALIKE:g}",
            (-math.inf, ALIKE),
        ),
        (
            ("ip-llr", "mup"),
            f"After a large first step, and under maximal update, neurons stay different: their diversity is at least {UNLIKE:g}",
            (UNLIKE, math.inf),
        ),
    ):
        claims += [
            mean_claim(f"{statement} ({name}).", hidden.sel(scaling=name).values, allowed, "ReLU, mean over layers 2 to 6")
            for name in names
        ]
    return claims


def check_claims(checks: xr.Dataset) -> list[Claim]:
    """Judge coordinate checks: those of the named scalings agree, and the wrong one is found out."""
    names = checks["check"].values.tolist()
    regimes = (checks["regime"] == checks["regime_expected"]).values[:-1]
    verdicts = checks["verdict"].isel(step=-1).values
    wrong = int(np.sum(verdicts[:-1] == "disagrees"))
    return [
        exact_claim(
            "Coordinate checks find the regime that the exponents of a scaling lead to: the number of scalings in another is 0.",
            int(np.sum(~regimes)),
            (0, 0),
            f"{len(regimes)} scalings",
        ),
        exact_claim(
            "No layer of theirs contradicts its exponent: the number of layers with that verdict is 0.",
            wrong,
            (0, 0),
            f"{int(np.sum(verdicts[:-1] == 'agrees'))} agree",
        ),
        exact_claim(
            f"A wrong scaling ({names[-1]}) is found out: the number of layers that contradict is at least 1.",
            int(np.sum(verdicts[-1] == "disagrees")),
            (1, math.inf),
            "",
        ),
    ]
