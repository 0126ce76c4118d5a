"""Worst changes of the output: known answers, dense grids, random search, certified bounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.special import erf, expit, ndtr

import wideangle as wa
from wideangle.activations import ACTIVATIONS, parse_activation
from wideangle.response._change_bounds import change_bound, slope_range
from wideangle.response._state import read_state

Array = np.ndarray[Any, Any]
MakeState = Callable[..., xr.Dataset]
LayersOf = Callable[[xr.Dataset], list[tuple[Any, Any]]]

PIECEWISE = ("relu", "leaky_relu(0.2)", "leaky_relu(-0.5)", "abs", "linear")
PHI: dict[str, Callable[[Array], Array]] = {
    "relu": lambda z: z * (z > 0),
    "leaky_relu": lambda z: z * np.where(z > 0, 1.0, 0.01),
    "leaky_relu(0.2)": lambda z: z * np.where(z > 0, 1.0, 0.2),
    "leaky_relu(-0.5)": lambda z: z * np.where(z > 0, 1.0, -0.5),
    "abs": np.abs,
    "linear": lambda z: z,
    "tanh": np.tanh,
    "erf": erf,
    "sigmoid": expit,
    "sin": np.sin,
    "gelu": lambda z: z * ndtr(z),
    "silu": lambda z: z * expit(z),
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
}


def evaluate(layers: list[tuple[Any, Any]], activation: str, x: Array) -> Array:
    h = x
    for weights, biases in layers[:-1]:
        h = PHI[activation](h @ weights.T + biases)
    weights, biases = layers[-1]
    return np.asarray((h @ weights.T + biases)[..., 0])


def network(weights: Any, readout: Any, biases: Any = None, activation: str = "relu") -> wa.NetworkWeights:
    hidden = None if biases is None else [np.asarray(biases, dtype=float), None]
    return wa.NetworkWeights(
        [np.asarray(weights, float), np.asarray([readout], float)], biases=hidden, activation=activation
    )


def ball(n_points: int, n_features: int, radius: float, norm: str, seed: int = 0) -> Array:
    """Points of the ball, the surface well covered."""
    random = np.random.default_rng(seed)
    if norm == "linf":
        points = random.uniform(-radius, radius, size=(n_points, n_features))
        pushed = random.uniform(size=points.shape) < 0.5
        return np.where(pushed, np.sign(points) * radius, points)
    points = random.normal(size=(n_points, n_features))
    lengths = radius * np.minimum(1.0, 1.5 * random.uniform(size=(n_points, 1)) ** (1 / n_features))
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True) * lengths)


def in_ball(direction: Array, radius: float, norm: str) -> bool:
    order = 2 if norm == "l2" else np.inf
    return bool((np.linalg.norm(direction, order, axis=-1) <= radius * (1 + 1e-12)).all())


# ---- Known answers


@pytest.mark.parametrize(
    ("readout", "x", "norm", "rise"),
    [
        # |x| + |y| from the origin: largest on the diagonals, within an arc between two kinks, or at a corner.
        ([1, 1], (0.0, 0.0), "l2", math.sqrt(2.0)),
        ([1, 1], (0.0, 0.0), "linf", 2.0),
        # -|x| - |y|: the largest change is the fall away from the crossing of two kinks.
        ([-1, -1], (0.0, 0.0), "l2", math.sqrt(2.0)),
        # |x| - 3 |y|: the fall along y wins over the rise along x, and x stays where |x| has its kink.
        ([1, -3], (0.0, 0.5), "linf", 4.5 - 1.5),
    ],
)
def test_answers_in_two_dimensions(readout: list[float], x: tuple[float, float], norm: str, rise: float) -> None:
    found = wa.response.fragility(network(np.eye(2), readout, activation="abs"), [x], radius=1.0, norm=norm)
    assert float(found["lower"][0]) == pytest.approx(rise, rel=1e-14)
    assert bool(found["exact"].all())


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_peak_inside_the_ball_is_found(norm: str) -> None:
    # g(x) + g(y) with g rising by 5 from -1/2 to 0, and falling gently from there: the peak is where two kinks cross.
    weights = [[-1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, -1.0], [0.0, 1.0]]
    net = network(weights, [-5.0, 5.0, -1.0] * 2, [0.0, -0.5, 0.0] * 2)
    found = wa.response.fragility(net, [[-0.4, -0.4]], radius=0.7, norm=norm)
    assert float(found["lower"][0]) == pytest.approx(4.0, rel=1e-14)
    np.testing.assert_allclose(found["direction"][0], [0.4, 0.4], rtol=1e-14)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_ridge_inside_the_ball_is_found(norm: str) -> None:
    # Rises with slope 5 from 0 to 1 and falls with slope 1 from there, whatever the second coordinate.
    net = network([[1.0, 0.0], [1.0, 0.0]], [5.0, -6.0], [0.0, -1.0])
    found = wa.response.fragility(net, [[0.2, 7.0]], radius=1.5, norm=norm)
    assert float(found["lower"][0]) == pytest.approx(4.0, rel=1e-14)
    assert float(found["direction"][0, 0]) == pytest.approx(0.8, rel=1e-14)


@pytest.mark.parametrize(("norm", "length"), [("l2", 5.0), ("linf", 7.0)])
def test_a_linear_network_is_exact_in_any_dimension(norm: str, length: float) -> None:
    net = network([[3.0, 0.0, 4.0, 0.0]], [2.0], activation="linear")
    found = wa.response.fragility(net, np.zeros((1, 4)), radius=0.5, norm=norm)
    assert float(found["lower"][0]) == pytest.approx(length, rel=1e-12)
    assert bool(found["exact"][0])


def test_signs_that_can_change() -> None:
    line = network([[1.0]], [2.0], activation="linear")
    found = wa.response.fragility(line, [[-0.5], [-0.1], [0.0], [0.2], [0.4]], radius=0.3)
    assert found["flipped"].values.tolist() == [False, True, True, True, False]
    assert found["certified"].values.tolist() == [True, False, False, False, True]
    assert float(found["flip_fraction"]) == pytest.approx(0.6)
    # The worst change is a rise, the sign changes by the smaller fall.
    bend = network([[1.0], [-1.0]], [3.0, -1.0])
    assert bool(wa.response.fragility(bend, [[0.1]], radius=0.2)["flipped"][0])
    # Here it rises by more than its value, and cannot fall at all.
    rise = wa.response.fragility(network([[3.0], [0.0]], [1.0, 0.3], [0.0, 1.0]), [[0.0]], radius=0.2)
    assert float(rise["lower"][0]) == pytest.approx(0.6)
    assert not bool(rise["flipped"][0])


# ---- Brute force


@pytest.mark.parametrize("activation", PIECEWISE)
@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 9, 1), (1, 6, 5, 1), (1, 4, 4, 4, 1)])
def test_exact_on_the_line_is_the_limit_of_grids(
    make_state: MakeState, layers_of: LayersOf, sizes: tuple[int, ...], activation: str
) -> None:
    state, radius = make_state(sizes, activation=activation, seed=3), 0.7
    probes = np.linspace(-1.5, 1.5, 5)[:, None]
    found = wa.response.fragility(state, probes, radius=radius, contradiction=False)
    assert bool(found["exact"].all())
    assert in_ball(found["direction"].values, radius, "l2")
    for place in np.ndindex(3, 2):
        layers = layers_of(state.isel(network=place[0], time=place[1]))
        for k, probe in enumerate(probes):
            before = evaluate(layers, activation, probe[None])[0]
            errors = []
            for n in (401, 4001):
                f = evaluate(layers, activation, probe + np.linspace(-radius, radius, n)[:, None])
                change = np.abs(f - before).max()
                steepest = np.abs(np.diff(f)).max()
                lower = found["lower"].values[place][k]
                assert change <= lower * (1 + 1e-12) + 1e-14
                assert lower - change <= steepest * (1 + 1e-9) + 1e-14
                errors.append(lower - change)
            reached = evaluate(layers, activation, (probe + found["direction"].values[place][k])[None])[0]
            assert abs(reached - before) == pytest.approx(lower, rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu(-0.5)", "abs"])
@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("radius", [0.05, 0.5, 3.0])
def test_exact_in_the_plane_is_the_limit_of_grids(
    make_state: MakeState, layers_of: LayersOf, norm: str, radius: float, activation: str
) -> None:
    state = make_state((2, 7, 1), activation=activation, seed=8, times=(0.0,), n_networks=4)
    probes = np.array([[0.0, 0.0], [0.4, -1.0], [-1.3, 0.2]])
    found = wa.response.fragility(state, probes, radius=radius, norm=norm, contradiction=False)
    side = np.linspace(-1, 1, 201)
    if norm == "l2":
        angle, length = np.meshgrid(np.linspace(0, 2 * np.pi, 721), np.linspace(0, 1, 121))
        grid, spacing = np.stack([length * np.cos(angle), length * np.sin(angle)], -1).reshape(-1, 2), 0.0061
    else:
        grid, spacing = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2), 0.0071
    grid = np.concatenate([radius * grid, ball(4000, 2, radius, norm)])
    for place in np.ndindex(4, 1):
        layers = layers_of(state.isel(network=place[0], time=place[1]))
        steepest = np.abs(layers[1][0][0]) @ np.linalg.norm(layers[0][0], axis=1)
        for k, probe in enumerate(probes):
            before = evaluate(layers, activation, probe[None])[0]
            change = np.abs(evaluate(layers, activation, probe + grid) - before).max()
            lower, direction = found["lower"].values[place][k], found["direction"].values[place][k]
            assert change <= lower * (1 + 1e-12)
            # The nearest point of the grid is at most half its diagonal away.
            assert lower - change <= steepest * spacing * radius
            assert in_ball(direction, radius, norm)
            reached = evaluate(layers, activation, (probe + direction)[None])[0]
            assert abs(reached - before) == pytest.approx(lower, rel=1e-12)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("sizes", [(3, 1, 1), (2, 6, 1), (3, 6, 5, 1)])
def test_nothing_exceeds_the_upper_bound(
    make_state: MakeState, layers_of: LayersOf, norm: str, activation: str, sizes: tuple[int, ...]
) -> None:
    name = str(parse_activation(activation))
    state = make_state(sizes, activation=name, seed=5, times=(0.0,), n_networks=2)
    state["weights_1"] *= 3.0
    probes = np.random.default_rng(1).normal(size=(4, sizes[0]))
    for radius in (0.002, 0.6, 4.0):
        found = wa.response.fragility(
            state, probes, radius=radius, norm=norm, method="gradient", n_starts=4, n_steps=20, contradiction=False
        )
        assert in_ball(found["direction"].values, radius, norm)
        states = read_state(state)
        # Differences of outputs of size 1 carry their rounding.
        bounds = change_bound(states.layers, states.activation, probes, radius, norm) + 1e-14
        assert bool((found["lower"].values[:, 0] <= bounds).all())
        displacements = ball(4000, sizes[0], radius, norm)
        for number in range(2):
            layers = layers_of(state.isel(network=number, time=0))
            for k, probe in enumerate(probes):
                f = evaluate(layers, activation, probe + displacements)
                before = evaluate(layers, activation, probe[None])[0]
                assert np.abs(f - before).max() <= bounds[number, k]
                reached = evaluate(layers, activation, (probe + found["direction"].values[number, 0, k])[None])[0]
                assert abs(reached - before) == pytest.approx(float(found["lower"][number, 0, k]), rel=1e-12, abs=1e-14)
        # In a small ball a network is nearly linear, and the bound sees that.
        if radius == 0.002:
            assert float((found["upper"] / found["lower"]).mean()) < 1.1


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_slopes_lie_within_their_bounds(activation: str) -> None:
    phi = parse_activation(activation)
    random = np.random.default_rng(0)
    low, width = random.uniform(-8, 8, size=500), random.exponential(1.5, size=500)
    least, largest = slope_range(phi, low, low + width)
    z = low + width * np.linspace(0, 1, 4001)[:, None]
    slopes = phi.derivative(z)
    assert (slopes >= least - 1e-12).all()
    assert (slopes <= largest + 1e-12).all()
    # As the grid gets fine, they are reached.
    if not phi.homogeneous:
        np.testing.assert_allclose(slopes.min(axis=0), least, atol=2e-5)
        np.testing.assert_allclose(slopes.max(axis=0), largest, atol=2e-5)


@pytest.mark.parametrize(("norm", "sizes"), [("l2", (2, 8, 1)), ("linf", (2, 8, 1)), ("l2", (1, 5, 5, 1))])
def test_gradients_find_no_more_than_there_is_and_mostly_that(
    make_state: MakeState, norm: str, sizes: tuple[int, ...]
) -> None:
    state = make_state(sizes, activation="relu", n_networks=20)
    probes = np.random.default_rng(3).normal(size=(10, sizes[0]))
    exact, searched = (
        wa.response.fragility(state, probes, radius=0.5, norm=norm, method=method, contradiction=False)
        for method in ("exact", "gradient")
    )
    assert bool((searched["lower"] <= exact["lower"] * (1 + 1e-12)).all())
    assert float((searched["lower"] > exact["lower"] * (1 - 1e-6)).mean()) > 0.85
    assert bool((searched["upper"] >= exact["lower"]).all())
    assert not bool((searched["flipped"] & ~exact["flipped"]).any())
    assert not bool((searched["certified"] & exact["flipped"]).any())


CURVATURE = {"sigmoid": 1.0 / (6.0 * math.sqrt(3.0)), "tanh": 4.0 / (3.0 * math.sqrt(3.0)), "sin": 1.0}


@pytest.mark.parametrize("activation", CURVATURE)
def test_on_a_line_the_largest_change_is_found_at_any_radius(activation: str) -> None:
    """Against a grid 50 times finer: what the 401 places may miss, the curvature bounds."""
    random, radius = np.random.default_rng(4), 5.0
    weights, readout = 2.0 * random.normal(size=(60, 20, 1)), random.normal(size=(60, 1, 20))
    biases = random.normal(size=(60, 20))
    nets = wa.NetworkWeights([weights, readout], biases=[biases, np.zeros((60, 1))], activation=activation)
    probes = np.linspace(-1.0, 1.0, 4)[:, None]
    found = wa.response.fragility(nets, probes, radius=radius)
    assert found.attrs["method"] == "gradient"
    curvature = CURVATURE[activation] * (abs(readout) * weights.swapaxes(1, 2) ** 2).sum(axis=(1, 2))
    fine = radius * np.linspace(-1.0, 1.0, 20_001)[:, None]
    for k in range(60):
        layers = [(weights[k], biases[k]), (readout[k], np.zeros(1))]
        f = evaluate(layers, activation, probes)
        largest = np.array(
            [abs(evaluate(layers, activation, x + fine) - at).max() for x, at in zip(probes, f, strict=True)]
        )
        lower = found["lower"].values[k]
        assert np.all(lower >= largest - curvature[k] * (radius / 200.0) ** 2 / 8.0)
        assert np.all(lower <= largest + curvature[k] * (radius / 10_000.0) ** 2 / 8.0 + 1e-12)
        # Around the best of them the places are finer than this grid.
        assert np.mean(lower >= largest - curvature[k] * (radius / 10_000.0) ** 2 / 8.0) > 0.7
        moved = evaluate(layers, activation, probes + found["direction"].values[k])
        np.testing.assert_allclose(abs(moved - f), lower, rtol=0.0, atol=1e-13 * abs(readout[k]).sum())
        assert np.all(abs(found["direction"].values[k]) <= radius)


# ---- Properties


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("sizes", [(2, 8, 1), (1, 8, 1), (4, 8, 1)])
def test_units_may_be_permuted_and_rescaled(make_state: MakeState, norm: str, sizes: tuple[int, ...]) -> None:
    state = make_state(sizes, activation="relu")
    permuted, rescaled = state.isel(unit_1=np.random.default_rng(2).permutation(8)), state.copy()
    factors = xr.DataArray(2.0 ** np.arange(-4, 4), dims="unit_1")
    for name, power in (("weights_1", 1), ("biases_1", 1), ("weights_2", -1)):
        rescaled[name] = state[name] * factors**power
    first, *others = (
        wa.response.fragility(one, radius=0.3, norm=norm, contradiction=False) for one in (state, permuted, rescaled)
    )
    for other in others:
        np.testing.assert_allclose(other["lower"], first["lower"], rtol=1e-9)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("sizes", [(2, 8, 1), (1, 5, 5, 1)])
def test_a_larger_ball_allows_no_smaller_change(make_state: MakeState, norm: str, sizes: tuple[int, ...]) -> None:
    state = make_state(sizes, activation="relu")
    found = [
        wa.response.fragility(state, radius=radius, norm=norm, contradiction=False)["lower"].values
        for radius in (0.01, 0.1, 0.3, 1.0, 3.0)
    ]
    assert (np.diff(found, axis=0) >= -1e-12).all()
    # Next to a point the change is the radius times the dual norm of the gradient, which is positive here.
    assert (found[0] > 0).all()


def test_a_square_holds_a_disc_and_is_held_by_one(make_state: MakeState) -> None:
    state = make_state((2, 8, 1), activation="relu", n_networks=10)
    inner, square, outer = (
        wa.response.fragility(state, radius=radius, norm=norm, contradiction=False)["lower"]
        for radius, norm in ((0.5, "l2"), (0.5, "linf"), (0.5 * math.sqrt(2), "l2"))
    )
    assert bool((inner <= square * (1 + 1e-12)).all())
    assert bool((square <= outer * (1 + 1e-12)).all())


def test_parallel_and_absent_kinks_do_no_harm() -> None:
    weights = [[1.0, 0.0], [2.0, 0.0], [0.0, 0.0], [1.0, 1e-14]]
    net = network(weights, [1.0, -1.0, 2.0, 1.0], [0.0, 1.0, 1.0, 0.0])
    for norm in ("l2", "linf"):
        found = wa.response.fragility(net, [[0.1, 0.2], [50.0, -30.0]], radius=0.5, norm=norm)
        assert bool((found["lower"] > 0).all())
    flat = wa.response.fragility(network([[0.0, 0.0]], [1.0], [1.0]), [[0.0, 1.0]], radius=0.5)
    assert float(flat["lower"][0]) == 0.0


# ---- Datasets


def test_selections_and_diverged_networks(make_state: MakeState) -> None:
    state = make_state((2, 5, 1), activation="relu", times=(0.0, 0.5, 1.0))
    state["weights_2"][1, 2:] = np.nan
    found = wa.response.fragility(state, radius=0.2)
    assert found["lower"].dims == ("network", "time", "probe")
    assert found["direction"].dims == ("network", "time", "probe", "feature")
    assert found["flip_fraction"].dims == ("network", "time")
    assert np.isnan(found["lower"].values[1, 2]).all()
    assert not found["exact"].values[1, 2].any()
    assert int(np.isnan(found["flip_fraction"]).sum()) == 1
    xr.testing.assert_allclose(
        wa.response.fragility(state.isel(time=1, network=0), radius=0.2), found.isel(time=1, network=0)
    )


def test_starts_depend_on_the_seed_alone(make_state: MakeState) -> None:
    state = make_state((5, 5, 1), n_networks=4)
    first, again = (wa.response.fragility(state, radius=0.5, seed=3, n_steps=5) for _ in range(2))
    xr.testing.assert_identical(first, again)
    part = wa.response.fragility(state.isel(network=[2, 3]), radius=0.5, seed=3, n_steps=5)
    np.testing.assert_allclose(part["lower"], first["lower"][2:], rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": 0.0}, r"radius must lie in \(0, 1e100\]"),
        ({"radius": -1.0}, "radius must lie"),
        ({"radius": math.nan}, "radius must be finite"),
        ({"norm": "l1"}, "norm must be one of 'l2', 'linf'"),
        ({"method": "exact"}, "method='exact' needs a piecewise linear activation"),
        ({"method": "fast"}, "method must be one of"),
        ({"n_starts": 0}, "n_starts must lie"),
        ({"n_steps": 1.5}, "n_steps must be an integer"),
        ({"seed": -1}, "seed must lie"),
        ({"x": np.zeros((2, 3))}, "2 feature"),
    ],
)
def test_what_is_refused(make_state: MakeState, options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        wa.response.fragility(make_state((2, 5, 1)), **({"radius": 0.1} | options))
