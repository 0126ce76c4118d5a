"""Dimension of the feature space and kinds of units: known answers, direct computation, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.special import erf, expit

import wideangle as wa

Array = np.ndarray[Any, Any]
MakeState = Callable[..., xr.Dataset]

PHI: dict[str, Callable[[Array], Array]] = {
    "relu": lambda z: z * (z > 0),
    "leaky_relu(0.2)": lambda z: z * np.where(z > 0, 1.0, 0.2),
    "tanh": np.tanh,
    "erf": erf,
    "sigmoid": expit,
    "sin": np.sin,
}


def one_layer(weights: Any, biases: Any, activation: str = "relu") -> wa.NetworkWeights:
    w = np.asarray(weights, dtype=float)
    return wa.NetworkWeights(
        [w, np.ones((1, len(w)))], biases=[np.asarray(biases, dtype=float), None], activation=activation
    )


def activations_of(state: xr.Dataset, place: tuple[int, int], x: Array, layer: int) -> Array:
    h, phi = x, PHI[state.attrs["activation"]]
    for number in range(1, layer + 1):
        weights, biases = (state[f"{kind}_{number}"].values[place] for kind in ("weights", "biases"))
        h = phi(h @ weights.T + biases)
    return h


# ---- Dimension


def test_spectrum_of_known_covariance() -> None:
    # Four corners of a rectangle around (5, -3): covariance diag(4, 1), means (5, -3).
    x = np.array([[7.0, -2.0], [3.0, -2.0], [7.0, -4.0], [3.0, -4.0]])
    net = one_layer(np.eye(2), [0, 0], "linear")
    found = wa.response.feature_space(net, x)
    np.testing.assert_allclose(found["singular_values"], [2.0, 1.0], rtol=1e-14)
    assert float(found["participation_ratio"]) == pytest.approx(25 / 17, rel=1e-14)
    entropy = -(2 / 3) * math.log(2 / 3) - (1 / 3) * math.log(1 / 3)
    assert float(found["effective_rank"]) == pytest.approx(math.exp(entropy), rel=1e-14)
    raw = wa.response.feature_space(net, x, centred=False)
    moment = np.array([[29.0, -15.0], [-15.0, 10.0]])
    assert float(raw["participation_ratio"]) == pytest.approx(np.trace(moment) ** 2 / (moment**2).sum(), rel=1e-14)


@pytest.mark.parametrize("activation", PHI)
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize(
    ("sizes", "layer", "n_points"), [((2, 7, 1), None, 30), ((3, 6, 9, 1), 2, 5), ((1, 8, 4, 1), 1, 9)]
)
def test_measures_are_those_of_singular_values(
    make_state: MakeState, activation: str, centred: bool, sizes: tuple[int, ...], layer: int | None, n_points: int
) -> None:
    state = make_state(sizes, activation=activation)
    x = np.random.default_rng(5).normal(size=(n_points, sizes[0]))
    found = wa.response.feature_space(state, x, layer=layer, centred=centred)
    for place in np.ndindex(3, 2):
        h = activations_of(state, place, x, layer or 1)
        if centred:
            h = h - h.mean(axis=0)
        s = np.linalg.svd(h, compute_uv=False) / math.sqrt(n_points)
        one = found.isel(network=place[0], time=place[1])
        # Values come from a product, which squares them.
        np.testing.assert_allclose(one["singular_values"], s, rtol=0, atol=3e-8 * s[0])
        assert float(one["participation_ratio"]) == pytest.approx((s**2).sum() ** 2 / (s**4).sum(), rel=1e-12)
        p = s[s > 1e-7 * s[0]] / s.sum()
        assert float(one["effective_rank"]) == pytest.approx(math.exp(-(p * np.log(p)).sum()), rel=1e-5)
        assert (s > 2e-7 * s[0]).sum() <= int(one["rank"]) <= (s > 1e-8 * s[0]).sum()


@pytest.mark.parametrize("scale", [1e-120, 1.0, 1e120])
def test_no_variation_is_no_dimension(scale: float) -> None:
    net = one_layer([[0.0], [0.0], [0.0]], [0.1 * scale, 0.7 * scale, -1.0])
    found = wa.response.feature_space(net, np.linspace(-1, 1, 13)[:, None])
    for name in ("participation_ratio", "effective_rank", "rank"):
        assert float(found[name]) == 0.0
    single = wa.response.feature_space(one_layer([[scale], [3 * scale]], [0, 0]), [[1.0], [2.0], [-1.0]])
    assert float(single["participation_ratio"]) == pytest.approx(1.0, rel=1e-12)
    assert float(single["effective_rank"]) == pytest.approx(1.0, rel=1e-12)
    assert int(single["rank"]) == 1


# ---- Kinds of units


def test_kinds_of_rectified_units() -> None:
    # On [-1, 1]: mixed, three times it, active everywhere, never active, its mirror, constant.
    net = one_layer([[1.0], [3.0], [1.0], [1.0], [-1.0], [0.0]], [0.5, 1.5, 2.0, -1.5, 0.5, 1.0])
    found = wa.response.feature_space(net, np.linspace(-1, 1, 21)[:, None])
    assert {name: int(found[name]) for name in found if found[name].ndim == 0 and str(name).endswith("units")} == {
        "active_units": 5,
        "dead_units": 1,
        "linear_units": 2,
        "distinct_units": 4,
        "duplicated_units": 1,
    }
    assert found["group"].values.tolist() == [0, 0, 2, -1, 4, 5]
    # Kinks at -1/2 (twice), 1/2; those at -2 and 3/2 are outside.
    assert int(found["kinks"]) == 2


def test_kinds_of_smooth_units() -> None:
    # Saturated at all inputs, linear for small inputs, generic, and its negative.
    net = one_layer([[1.0], [1e-3], [1.0], [-1.0]], [20.0, 0.0, 0.0, 0.0], "tanh")
    found = wa.response.feature_space(net, np.linspace(-1, 1, 21)[:, None])
    assert (int(found["dead_units"]), int(found["linear_units"]), int(found["duplicated_units"])) == (1, 1, 1)
    assert found["group"].values.tolist() == [-1, 1, 2, 2]
    assert "kinks" not in found


@pytest.mark.parametrize(("activation", "dead", "linear"), [("linear", 0, 2), ("abs", 0, 1), ("leaky_relu(0.1)", 0, 1)])
def test_units_with_two_slopes_are_linear_on_one_side(activation: str, dead: int, linear: int) -> None:
    found = wa.response.feature_space(one_layer([[1.0], [1.0]], [0.0, -5.0], activation), [[-1.0], [1.0]])
    assert (int(found["dead_units"]), int(found["linear_units"])) == (dead, linear)


def test_units_that_others_link_are_one_group() -> None:
    # Directions 0, 0.8, 1.6 and 3 degrees; the tolerance is one degree.
    degrees = np.deg2rad([0.0, 1.6, 0.8, 3.0])
    weights = np.stack([np.cos(degrees), np.sin(degrees)], axis=1)
    net = one_layer(weights, np.zeros(4), "linear")
    x = np.array([[1.0, 0.0], [0.0, 1.0]])
    found = wa.response.feature_space(net, x, tolerance=math.sin(math.radians(1.0)))
    assert found["group"].values.tolist() == [0, 0, 0, 3]


@pytest.mark.parametrize("sizes", [(1, 9, 1), (1, 6, 5, 1), (1, 4, 4, 4, 1)])
def test_kinks_are_those_of_the_units_on_a_fine_grid(make_state: MakeState, sizes: tuple[int, ...]) -> None:
    state = make_state(sizes, activation="relu", seed=4)
    x = np.linspace(-2, 2, 40_001)
    found = wa.response.feature_space(state, [[-2.0], [2.0]], tolerance=1e-6)
    for place in np.ndindex(3, 2):
        # A kink is where a unit of any layer changes its sign.
        patterns = [activations_of(state, place, x[:, None], layer) > 0 for layer in range(1, len(sizes) - 1)]
        changes = sum((pattern[1:] != pattern[:-1]).sum(axis=1) for pattern in patterns)
        assert int(found["kinks"].values[place]) == int((changes > 0).sum())


def test_order_of_units_does_not_matter_and_scale_only_for_dimension(make_state: MakeState) -> None:
    state = make_state((2, 8, 1), activation="relu")
    order = np.random.default_rng(2).permutation(8)
    permuted, rescaled = state.isel(unit_1=order), state.copy(deep=True)
    factors = xr.DataArray(np.geomspace(0.1, 10, 8), dims="unit_1")
    rescaled["weights_1"], rescaled["biases_1"] = state["weights_1"] * factors, state["biases_1"] * factors
    first, second, third = (wa.response.feature_space(one) for one in (state, permuted, rescaled))
    for name in first:
        if name != "group":
            np.testing.assert_allclose(first[name], second[name], rtol=1e-9, atol=1e-9)
        if str(name).endswith("units"):
            np.testing.assert_array_equal(first[name], third[name])
    assert not np.allclose(first["participation_ratio"], third["participation_ratio"], rtol=1e-3)


# ---- Datasets


def test_selections_and_diverged_networks(make_state: MakeState) -> None:
    state = make_state((2, 5, 1), activation="relu", times=(0.0, 0.5, 1.0))
    state["weights_1"][1, 2:] = np.nan
    found = wa.response.feature_space(state)
    assert found["participation_ratio"].dims == ("network", "time")
    assert found["singular_values"].dims == ("network", "time", "component")
    assert found["step"].dims == ("time",)
    assert np.isnan(found["participation_ratio"].values).sum() == 1
    assert np.isnan(found["active_units"].values[1, 2])
    assert (found["group"].values[1, 2] == -1).all()
    later = wa.response.feature_space(state.isel(time=1))
    xr.testing.assert_allclose(later, found.isel(time=1))
    one = wa.response.feature_space(state.isel(network=2, time=0))
    assert float(one["participation_ratio"]) == pytest.approx(float(found["participation_ratio"][2, 0]), rel=1e-14)


def test_stochastic_training_is_read_from_what_training_returns() -> None:
    x = np.random.default_rng(0).normal(size=(6, 2))
    state = wa.response.simulate_training(
        wa.MLP((20,), bias_variance=0.1), (x, np.sign(x[:, 0])), n_networks=40, n_steps=64, learning_rate=0.1, seed=1
    )
    found = wa.response.feature_space(state)
    assert dict(found["participation_ratio"].sizes) == {"network": 40, "time": state.sizes["time"]}
    assert bool((found["active_units"] + found["dead_units"] == 20).all())
    assert bool((found["rank"] <= 5).all())  # six samples around their mean


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": 0}, "layer must lie between 1 and 1"),
        ({"layer": 2}, "layer must lie between 1 and 1"),
        ({"tolerance": 0.0}, r"tolerance must lie in \[1e-6, 1\)"),
        ({"x": np.zeros((3, 1))}, "2 feature"),
        ({"x": np.zeros((0, 2))}, "x must"),
        ({"x": [[np.nan, 1.0]]}, "x must be finite"),
        ({"centred": 1}, "centred must be True or False"),
    ],
)
def test_what_is_refused(make_state: MakeState, options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        wa.response.feature_space(make_state((2, 5, 1)), **options)


def test_weights_need_inputs() -> None:
    with pytest.raises(ValueError, match="x must be given"):
        wa.response.feature_space(one_layer([[1.0]], [0.0]))


def test_networks_on_their_way_to_infinity_count_as_diverged() -> None:
    weights = np.random.default_rng(3).normal(size=(2, 6, 1))
    readout = np.random.default_rng(4).normal(size=(2, 1, 6))
    weights[1] *= 1e200
    x = np.linspace(-1.0, 1.0, 7)[:, None]
    nets = wa.NetworkWeights([weights, readout])
    found = wa.response.feature_space(nets, x)
    np.testing.assert_array_equal(np.isnan(found["participation_ratio"]), [False, True])
    fragile = wa.response.fragility(nets, x, radius=0.1)
    np.testing.assert_array_equal(np.isnan(fragile["lower"].values).all(axis=-1), [False, True])
