"""The claims of arXiv 2110.15596, and of what follows from it, each with what was measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from wideangle.papers._verdicts import estimated_claim, exact_claim, width_exponent
from wideangle.papers.parametrization import N_HIDDEN
from wideangle.reports import Claim
from wideangle.reports.claims import AGREES, DISAGREES, NOT_RESOLVED

if TYPE_CHECKING:
    import xarray as xr

    from wideangle.papers.parametrization import Measurements

VANISHES = -0.5  # Exponents in the width below which an update is taken to vanish, and
STAYS = -0.25  # above which it is taken to stay.
UNMOVED = 1e-3  # Of the cross-entropy, in nat.
BELOW_GUESS = 0.2  # Of the cross-entropy, by which networks that have begun to learn are better than a guess.
LEARNT = 0.9  # Of training accuracies.
RATE = 0.1  # Around -1/2.
SAME = 0.3  # Diversity below which the neurons of a layer are taken to be the same function,
SINGLE = 1.5  # and dimension or rank below which all are multiples of one.
LEAVING = {
    "ip-llr": "A large first step leads integrable networks",
    "ip-bias": "Biases that are not scaled lead integrable networks",
    "ip-non-centered": "Initial weights of nonzero mean lead integrable networks",
}


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

    def claim(statement: str, place: int, allowed: tuple[float, float]) -> Claim:
        return Claim(
            statement, found[place], (low[place], high[place]), allowed, f"the power at {hidden[place] + 1} layers"
        )

    deep, shallow = (np.flatnonzero(chosen) for chosen in (hidden > 3, hidden < 3))
    worst = int(np.argmax(np.abs(found - predicted)))
    return [
        claim(
            "Integrable networks of more than four layers do not learn at infinite width: the update of the output"
            f" goes like a power of the width of at most {VANISHES:g}.",
            deep[np.argmax(found[deep])],
            (-math.inf, VANISHES),
        ),
        claim(
            f"With two and three layers they do: the power is at least {STAYS:g}.",
            shallow[np.argmin(found[shallow])],
            (STAYS, math.inf),
        ),
        claim(
            f"Networks of four layers, which that leaves out, learn as well: the power is at least {STAYS:g}.",
            int(np.flatnonzero(hidden == 3)[0]),
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
    loss = curves["train_loss"]
    change = np.abs(loss.isel(record=-1) - loss.isel(record=0)).sel(scaling="ip")
    gain = (math.log(curves.sizes["class"]) - loss.isel(record=-1)).fillna(-np.inf)
    accuracy = curves["train_accuracy"].isel(record=-1).fillna(0.0)
    steps = int(curves["record"].values[-1])
    claims = [
        exact_claim(
            f"Integrable networks of seven layers stay where they start: over {steps} steps the training loss changes"
            f" by at most {UNMOVED:g}, with any activation.",
            float(change.max()),
            (0.0, UNMOVED),
            f"{change.size} networks",
        )
    ]
    for name, words in LEAVING.items():
        least = gain.sel(scaling=name).min("run")
        claims.append(
            exact_claim(
                f"{words} out of their start: the training loss of every network gets at least {BELOW_GUESS:g} below"
                " that of a guess.",
                float(least.min()),
                (BELOW_GUESS, math.inf),
                f"least: {by_activation(least)}",
            )
        )
    smooth = [name for name in curves["activation"].values.tolist() if name != "relu"]
    for name, activations, words in (
        ("mup", None, "Maximal-update networks learn, with any activation"),
        ("ntk", None, "So do networks in the kernel scaling"),
        ("ip-llr", smooth, "After a large first step integrable networks learn with smooth activations"),
        ("ip-llr", ["relu"], "They do with ReLU"),
    ):
        least = accuracy.sel(scaling=name).min("run")
        least = least if activations is None else least.sel(activation=activations)
        claims.append(
            exact_claim(
                f"{words}: the training accuracy of every network is at least {LEARNT:g}.",
                float(least.min()),
                (LEARNT, math.inf),
                f"least: {by_activation(least)}",
            )
        )
    return claims


def by_activation(values: xr.DataArray) -> str:
    """Return numbers with the names of activations."""
    return ", ".join(
        f"{values.sel(activation=name).item():.2f} {name}" for name in values["activation"].values.tolist()
    )


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
                "ReLU networks under ip-llr and under the hybrid scaling approach each other on real data: after"
                f" {step} step{'s' if step > 1 else ''} the gap between their outputs goes like a negative power of the"
                " width.",
                slope,
                error,
                (-math.inf, 0.0),
                f"{hybrid.sizes['layer']} layers, widths {hybrid['width'].values[0]} to {hybrid['width'].values[-1]};"
                f" se {error:.2g}",
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
    """Judge what becomes of the neurons of inner layers and of the updates of their weights."""
    inner = curves.isel(record=-1, layer=slice(1, -1)).sel(activation="relu").mean("layer")
    claims = [
        exact_claim(
            f"{words} make the neurons of a layer the same function of the input: their diversity is at most {SAME:g}.",
            float(inner["diversity"].sel(scaling=name).max()),
            (0.0, SAME),
            f"ReLU, mean over layers 2 to {N_HIDDEN}",
        )
        for name, words in (("ip-non-centered", "Initial weights of nonzero mean"), ("ip-bias", "Biases"))
    ]
    claims.append(
        exact_claim(
            "With biases they are multiples of one function, of both signs: the dimension of a layer is at most"
            f" {SINGLE:g}.",
            float(inner["dimension"].sel(scaling="ip-bias").max()),
            (0.0, SINGLE),
            f"ReLU, mean over layers 2 to {N_HIDDEN}",
        )
    )
    ranks = inner["participation_rank"]
    for names, words, allowed in (
        (["ip-non-centered"], "Nonzero means make the updates of inner weights rank one", (0.0, SINGLE)),
        (["ip-bias"], "So do biases", (0.0, SINGLE)),
        (["ip-llr", "mup"], "After a large first step, and under maximal update, they are not", (SINGLE, math.inf)),
    ):
        some = ranks.sel(scaling=names)
        bounded = allowed[0] == 0.0
        text = ", ".join(f"{name} {some.sel(scaling=name).mean().item():.2f}" for name in names)
        claims.append(
            exact_claim(
                f"{words}: their participation rank is at {'most' if bounded else 'least'} {SINGLE:g}.",
                float(some.max() if bounded else some.min()),
                allowed,
                f"means: {text}",
            )
        )
    return claims


def check_claims(checks: xr.Dataset) -> list[Claim]:
    """Judge coordinate checks: those of the named scalings agree, and the wrong one is found out."""
    *names, wrong = checks["check"].values.tolist()
    named = checks.sel(check=names)
    found, expected = named["regime"].values, named["regime_expected"].values
    others, unknown = np.sum((found != expected) & (found != NOT_RESOLVED)), np.sum(found == NOT_RESOLVED)
    layers = {verdict: int(np.sum(named["verdict"] == verdict)) for verdict in (AGREES, DISAGREES, NOT_RESOLVED)}
    return [
        counted_claim(
            "Coordinate checks find the regime that the exponents of a scaling lead to: the number of scalings in"
            " another is 0.",
            int(others),
            int(unknown),
            f"{len(names)} scalings",
        ),
        counted_claim(
            "No layer of theirs contradicts its exponent: the number of layers with that verdict is 0.",
            layers[DISAGREES],
            layers[NOT_RESOLVED],
            f"{layers[AGREES]} agree, {layers[NOT_RESOLVED]} are not resolved",
        ),
        exact_claim(
            f"A wrong scaling ({wrong}) is found out: the number of layers that contradict is at least 1.",
            int(np.sum(checks["verdict"].sel(check=wrong) == DISAGREES)),
            (1, math.inf),
            f"{checks.sizes['layer']} layers",
        ),
    ]


def counted_claim(statement: str, count: int, undecided: int, note: str) -> Claim:
    """Return a claim that a count is 0, which those that are not resolved might add to."""
    return Claim(statement, count, (count, count + undecided), (0, 0), note)
