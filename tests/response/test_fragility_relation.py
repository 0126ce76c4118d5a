"""Rank correlations between the feature space and the fragility of networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.stats import spearmanr

import wideangle as wa

MakeState = Callable[..., xr.Dataset]


def measured(make_state: MakeState, **options: Any) -> tuple[xr.Dataset, xr.Dataset]:
    state = make_state((2, 6, 1), activation="relu", n_networks=30, **options)
    return wa.response.feature_space(state), wa.response.fragility(state, radius=0.2)


def test_correlations_are_those_of_ranks_at_each_time(make_state: MakeState) -> None:
    features, fragile = measured(make_state)
    found = wa.response.relate_fragility(features, fragile, seed=1, n_bootstrap=100)
    assert found["correlation"].dims == ("time", "feature_measure", "fragility_measure")
    assert found["n_networks"].values.tolist() == [30, 30]
    worst = fragile["lower"].mean("probe")
    scale = np.sqrt((fragile["output"] ** 2).mean("probe"))
    outcomes = {
        "worst_change": worst,
        "relative_worst_change": worst / scale,
        "flip_fraction": fragile["flip_fraction"],
        "contradiction_mean": fragile["contradiction_mean"].mean("sample"),
        "contradiction_largest": fragile["contradiction_largest"].mean("sample"),
    }
    for measure in ("participation_ratio", "effective_rank", "active_units", "distinct_units"):
        for name, outcome in outcomes.items():
            for k in range(2):
                expected = spearmanr(features[measure][:, k], outcome[:, k]).statistic
                one = found.sel(feature_measure=measure, fragility_measure=name).isel(time=k)
                assert float(one["correlation"]) == pytest.approx(expected, abs=1e-12)
                assert float(one["low"]) <= expected + 0.1
                assert float(one["high"]) >= expected - 0.1


@pytest.mark.parametrize("sign", [1, -1])
def test_a_monotone_relation_is_found(make_state: MakeState, sign: int) -> None:
    features, fragile = measured(make_state)
    fragile["lower"] = np.exp(sign * features["effective_rank"]) * xr.ones_like(fragile["lower"])
    found = wa.response.relate_fragility(features, fragile, seed=1, n_bootstrap=50)
    one = found.sel(feature_measure="effective_rank", fragility_measure="worst_change")
    for name in ("correlation", "low", "high"):
        np.testing.assert_allclose(one[name], sign)


def test_diverged_networks_are_left_out(make_state: MakeState) -> None:
    features, fragile = measured(make_state)
    for one in (features, fragile):
        one["participation_ratio" if one is features else "lower"][3, 1] = np.nan
    found = wa.response.relate_fragility(features, fragile, seed=1, n_bootstrap=50)
    assert found["n_networks"].values.tolist() == [30, 29]
    assert bool(np.isfinite(found["correlation"].sel(fragility_measure="worst_change")).all())


def test_one_time_and_no_training(make_state: MakeState) -> None:
    state = make_state((2, 6, 1), activation="relu", n_networks=30).isel(time=1)
    x = np.random.default_rng(0).normal(size=(7, 2))
    features, fragile = (
        wa.response.feature_space(state, x),
        wa.response.fragility(state, x, radius=0.2, contradiction=False),
    )
    found = wa.response.relate_fragility(features, fragile, seed=1, n_bootstrap=50)
    assert found["correlation"].dims == ("feature_measure", "fragility_measure")
    assert list(found["fragility_measure"].values) == ["worst_change", "relative_worst_change", "flip_fraction"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f, g: (f.isel(network=slice(5)), g), "same networks and times"),
        (lambda f, g: (f.isel(time=0), g), "same dimensions"),
        (lambda f, g: (f.isel(time=0), g.isel(time=-1)), r"same networks and times.* coordinate (time|step), got 0"),
        (
            lambda f, g: (f.drop_vars("time").isel(time=0), g.drop_vars("time").isel(time=-1)),
            "same networks and times.* coordinate step, got 0 and 5; measure",
        ),
        (
            lambda f, g: [
                each.drop_vars("network").assign_coords(start=("network", np.roll(np.arange(30), shift)))
                for shift, each in enumerate((f, g))
            ],
            "coordinate start; measure",
        ),
        (lambda f, g: (f.assign_coords(method="flow"), g.assign_coords(method="descent")), "coordinate method"),
        (lambda f, g: (f.isel(network=0), g.isel(network=0)), "dimension network"),
        (lambda f, g: (g, g), "features must hold participation_ratio"),
        (lambda f, g: (f, f), "fragility must be a Dataset with lower"),
        (lambda f, g: (f["rank"], g), "features must be a Dataset"),
    ],
)
def test_what_is_refused(make_state: MakeState, change: Callable[..., Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        wa.response.relate_fragility(*change(*measured(make_state)), seed=1, n_bootstrap=10)


@pytest.mark.parametrize("confidence", [1.5, 0.0, np.nan])
def test_the_confidence_is_called_by_its_name(make_state: MakeState, confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence must"):
        wa.response.relate_fragility(*measured(make_state), seed=1, n_bootstrap=10, confidence=confidence)


def test_networks_that_began_alike_are_no_new_evidence(make_state: MakeState) -> None:
    features, fragile = measured(make_state)
    last = {"time": -1}
    once = wa.response.relate_fragility(features.isel(last), fragile.isel(last), seed=1)
    copies = np.repeat(np.arange(30), 8)
    many, many_fragile = (
        each.isel(last).isel(network=copies).drop_vars("network").assign_coords(start=("network", copies))
        for each in (features, fragile)
    )
    together = wa.response.relate_fragility(many, many_fragile.drop_vars("start"), seed=2, groups="start")
    apart = wa.response.relate_fragility(many, many_fragile, seed=2)
    at = {"feature_measure": "effective_rank", "fragility_measure": "worst_change"}
    widths = [float((each["high"] - each["low"]).sel(at)) for each in (once, together, apart)]
    # An end of a 95 % interval is known to 0.084 standard deviations from 1,000 replicates: a width to 3 %.
    assert abs(widths[1] / widths[0] - 1.0) < 5.0 * 0.03 * np.sqrt(2.0)
    assert widths[2] < 0.5 * widths[0]
    with pytest.raises(ValueError, match="groups must be the name of a coordinate of features along network"):
        wa.response.relate_fragility(many, many_fragile, seed=2, groups="seed")
