"""From recorded sizes to fitted exponents, verdicts and regimes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wideangle.parametrization._coordinate_runs import Case
from wideangle.parametrization._exponents import Fit, fit_exponents, judge
from wideangle.parametrization._sizes import NONE
from wideangle.reports.claims import AGREES, DISAGREES, NOT_RESOLVED

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

QUANTITIES = ("size", "change", "update")
NO_PREDICTION = "no prediction"
_ENTRY = ("depth", "activation", "step", "layer")


def coordinate_dataset(
    cases: Sequence[Sequence[Case]],
    records: Array,
    widths: tuple[int, ...],
    *,
    confidence: float,
    tolerance: float,
    seed: int,
) -> xr.Dataset:
    """Return the result of a check from sizes (depth, activation, width, seed, quantity, step, layer), NaN beyond."""
    import xarray as xr

    n_steps = records.shape[-2] - 1
    places = np.moveaxis(records, (2, 3), (0, 1))  # (width, seed, depth, activation, quantity, step, layer)
    fit = fit_exponents(places, np.array(widths, np.float64), confidence=confidence, seed=seed)
    predicted = _predicted(cases, n_steps, records.shape[-1])
    absent = np.array(np.isnan(places).all(axis=(0, 1)))
    absent[:, :, 1:, 0] = True
    fit = Fit(*(np.where(absent, np.nan, values) for values in fit))
    verdicts = judge(fit.low, fit.high, np.where(absent, np.nan, predicted), tolerance)
    variables: dict[str, Any] = {}
    for place, name in enumerate(QUANTITIES):
        variables[name] = (("depth", "activation", "width", "seed", "step", "layer"), records[..., place, :, :])
        for end, values in zip(("exponent", "low", "high"), fit, strict=True):
            variables[f"{name}_{end}"] = (_ENTRY, values[:, :, place])
        variables[f"{name}_predicted"] = (_ENTRY, np.where(absent, np.nan, predicted)[:, :, place])
        variables[f"{name}_verdict"] = (_ENTRY, verdicts[:, :, place])
    pair = _ENTRY[:2]
    shape = predicted.shape[:2]
    judged, layer_verdicts = np.empty(shape, np.int64), np.full((*shape, records.shape[-1]), "", "U16")
    texts = {name: np.full(shape, "", "U24") for name in ("regime", "regime_expected", "overall")}
    for where in np.ndindex(shape):
        case = cases[where[0]][where[1]]
        step = judged[where] = judged_step(case, n_steps)
        layers = case.n_hidden + 1
        one = Fit(*(values[where][:, : step + 1, :layers] for values in fit))
        texts["regime_expected"][where] = case.regime().name if case.has_prediction else NO_PREDICTION
        texts["regime"][where] = measured_regime(one, tolerance)
        layer_verdicts[where][:layers] = _layer_verdicts(verdicts[where][:, :, :layers], step, case.has_prediction)
        texts["overall"][where] = _overall(
            layer_verdicts[where][:layers], str(texts["regime"][where]), str(texts["regime_expected"][where])
        )
    variables |= {name: (pair, values) for name, values in texts.items()}
    variables["verdict"] = ((*pair, "layer"), layer_verdicts)
    variables["judged_step"] = (pair, judged)
    variables["diverged"] = (
        ("depth", "activation", "width", "seed"),
        np.any(np.isinf(records), axis=(-1, -2, -3)),
    )
    coordinates = {
        "depth": [row[0].n_hidden for row in cases],
        "activation": [case.label for case in cases[0]],
        "width": list(widths),
        "step": np.arange(n_steps + 1),
        "layer": np.arange(1, records.shape[-1] + 1),
    }
    return xr.Dataset(variables, coordinates)


def judged_step(case: Case, n_steps: int) -> int:
    """Return the last step, or the first after which sizes grow: beyond it leading orders of the first are over."""
    for step, exponents in enumerate(case.predicted(n_steps)):
        if step > 0 and max(exponents.size) > 0:
            return step
    return n_steps


def _predicted(cases: Sequence[Sequence[Case]], n_steps: int, layers: int) -> Array:
    predicted = np.full((len(cases), len(cases[0]), len(QUANTITIES), n_steps + 1, layers), np.nan)
    for place in np.ndindex(predicted.shape[:2]):
        case = cases[place[0]][place[1]]
        if not case.has_prediction:
            continue
        for step, exponents in enumerate(case.predicted(n_steps)):
            for quantity, values in enumerate(exponents):
                row = [float(value) if value > NONE / 2 else -np.inf for value in values]
                predicted[place][quantity, step, : len(row)] = row
    return predicted


def measured_regime(fit: Fit, tolerance: float) -> str:
    """Return the regime that exponents (quantity, step, layer) up to the judged step tell."""
    sizes, changes = slice(0, 1), slice(1, 2)
    low, high = fit.low, fit.high
    if np.any(low[sizes] > tolerance) or np.any(low[changes, 1:] > tolerance):
        return "unstable"
    (feature_low, output_low), (feature_high, output_high) = low[1, -1, -2:], high[1, -1, -2:]
    if output_high < -tolerance:
        return "trivial"
    if not (output_low >= -tolerance and output_high <= tolerance):
        return NOT_RESOLVED
    if feature_high < -tolerance:
        return "kernel"
    return "feature-learning" if feature_low >= -tolerance and feature_high <= tolerance else NOT_RESOLVED


def _layer_verdicts(verdicts: NDArray[np.str_], step: int, predicted: bool) -> list[str]:
    """Return a verdict for each layer: of its size at the start, and of change and update at the judged step.

    The size after training follows from these, and its own exponent is blurred where both are of the same order.
    """
    if not predicted:
        return [NO_PREDICTION] * verdicts.shape[-1]
    return [_combine([verdicts[0, 0, layer], *verdicts[1:, step, layer]]) for layer in range(verdicts.shape[-1])]


def _combine(verdicts: Sequence[Any]) -> str:
    if DISAGREES in verdicts:
        return DISAGREES
    return AGREES if all(verdict == AGREES for verdict in verdicts) else NOT_RESOLVED


def _overall(verdicts: NDArray[np.str_], regime: str, expected: str) -> str:
    if expected == NO_PREDICTION:
        return NO_PREDICTION
    of_regime = AGREES if regime == expected else NOT_RESOLVED if regime == NOT_RESOLVED else DISAGREES
    return _combine([*verdicts, of_regime])
