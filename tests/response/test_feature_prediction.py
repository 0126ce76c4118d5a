"""What stochastic training does to imbalances and curvature: steps enumerated, limits, and simulated training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr

import wideangle as wa

Array = np.ndarray[Any, Any]
MakeState = Callable[..., xr.Dataset]
LayersOf = Callable[[xr.Dataset], list[tuple[Any, Any]]]

SLOPES = {"relu": 0.0, "leaky_relu(0.3)": 0.3, "abs": -1.0, "linear": 1.0}
DERIVATIVE: dict[str, Callable[[Array, Array], Array]] = {
    "squared": lambda f, y: f - y,
    "cross-entropy": lambda f, y: -y / (1 + np.exp(y * f)),
    "exponential": lambda f, y: -y * np.exp(-y * f),
    "hinge": lambda f, y: np.where(y * f < 1, -y, 0.0),
}

Network = tuple[Array, Array, Array, float]


def network_of(layers: list[tuple[Any, Any]]) -> Network:
    (w, b), (a, c) = layers
    return w, b, a[0], float(c[0])


def evaluate(net: Network, x: Array, slope: float) -> tuple[Array, Array, Array]:
    w, b, a, c = net
    z = x @ w.T + b
    phi = np.where(z > 0, z, slope * z)
    return phi @ a + c, phi, np.where(z > 0, 1.0, slope)


def step(net: Network, x: Array, y: Array, loss: str, slope: float, eta: float, rates: Any) -> Network:
    """One step of descent on a batch, written down unit by unit."""
    w, b, a, c = net
    f, phi, derivative = evaluate(net, x, slope)
    g = DERIVATIVE[loss](f, y) / len(x)
    (c_w, c_a), (c_b, c_c) = rates
    back = g[:, None] * a * derivative
    return (
        w - eta * c_w * back.T @ x,
        b - eta * c_b * back.sum(axis=0),
        a - eta * c_a * g @ phi,
        c - eta * c_c * float(g.sum()),
    )


def imbalance(net: Network, rates: Any) -> Array:
    w, b, a, _ = net
    (c_w, c_a), (c_b, _) = rates
    return np.asarray(a**2 / c_a - (w**2).sum(axis=1) / c_w - (b**2 / c_b if c_b else 0.0))


RATES = [((1.0, 1.0), (1.0, 1.0)), ((0.7, 0.4), (0.2, 0.0))]


@pytest.mark.parametrize("loss", DERIVATIVE)
@pytest.mark.parametrize("activation", SLOPES)
@pytest.mark.parametrize("rates", RATES)
@pytest.mark.parametrize(("batch", "replacement"), [(1, True), (2, True), (2, False), ("full", True)])
def test_one_step_is_the_mean_over_all_batches_and_labels(
    make_state: MakeState,
    layers_of: LayersOf,
    loss: str,
    activation: str,
    rates: Any,
    batch: Any,
    replacement: bool,
) -> None:
    state = make_state(
        (2, 4, 1), activation=activation, loss=loss, n_samples=3, n_networks=2, times=(0.0,), weight_rates=rates[0],
        bias_rates=rates[1],
    )  # fmt: skip
    noise, eta, slope = 0.3, 0.4, SLOPES[activation]
    found = wa.response.predict_feature_reduction(
        state, batch=batch, noise=noise, learning_rate=eta, replacement=replacement
    )
    x, y = state["x"].values, state["y"].values
    if batch == "full":
        batches: list[tuple[int, ...]] = [(0, 1, 2)]
    elif replacement:
        batches = list(itertools.product(range(3), repeat=batch))
    else:
        batches = list(itertools.combinations(range(3), batch))
    for k in range(2):
        net = network_of(layers_of(state.isel(network=k, time=0)))
        before = imbalance(net, rates)
        expected = np.zeros(4)
        for chosen in batches:
            rows = np.array(chosen)
            # Two values stand for normal noise: mean and variance are all that counts in a square.
            for signs in itertools.product([1, -1], repeat=len(chosen)):
                if loss == "squared":
                    labels, weight = y[rows] + noise * np.array(signs), 0.5 ** len(chosen)
                else:
                    labels = y[rows] * np.array(signs)
                    weight = float(np.prod([1 - noise if sign == 1 else noise for sign in signs]))
                after = imbalance(step(net, x[rows], labels, loss, slope, eta, rates), rates)
                expected += weight / len(batches) * (after - before)
        one = found.isel(network=k, time=0)
        np.testing.assert_allclose(one["imbalance"], before, rtol=1e-12)
        change = one["imbalance_change"].sum("part")
        np.testing.assert_allclose(change, expected, rtol=0, atol=1e-12 * (1 + np.abs(before).max()))
        assert float(np.abs(change).max()) > 1e-4  # what is compared is far above the tolerance


def test_parts_belong_to_what_they_are_called(make_state: MakeState) -> None:
    state = make_state((2, 4, 1), activation="relu", loss="squared")
    options: list[dict[str, Any]] = [{"batch": "full"}, {"batch": 2}, {"batch": 2, "noise": 0.5}]
    plain, sampled, noisy = (
        wa.response.predict_feature_reduction(state, **each)["imbalance_change"] for each in options
    )
    assert bool((plain.sel(part=["sampling", "label noise"]) == 0).all())
    assert bool((sampled.sel(part="label noise") == 0).all())
    np.testing.assert_allclose(sampled.sel(part="descent"), plain.sel(part="descent"))
    np.testing.assert_allclose(noisy.sel(part="sampling"), sampled.sel(part="sampling"))
    assert float(np.abs(noisy.sel(part="label noise")).max()) > 0
    half = wa.response.predict_feature_reduction(state, batch=2, noise=0.5, learning_rate=0.05)["imbalance_change"]
    np.testing.assert_allclose(half, noisy / 4)  # the state has a learning rate of 0.1
    whole = wa.response.predict_feature_reduction(state, batch=4, replacement=False)["imbalance_change"]
    np.testing.assert_allclose(whole, plain, atol=1e-16)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu(0.3)", "linear"])
@pytest.mark.parametrize("rates", RATES)
def test_curvature_and_its_rate_are_those_of_finite_differences(
    make_state: MakeState, layers_of: LayersOf, activation: str, rates: Any
) -> None:
    state = make_state(
        (2, 4, 1), activation=activation, loss="squared", n_samples=3, weight_rates=rates[0], bias_rates=rates[1]
    )
    noise, batch, eta, slope = 0.7, 2, 0.1, SLOPES[activation]
    found = wa.response.predict_feature_reduction(state, batch=batch, noise=noise)
    x = state["x"].values
    roots = np.sqrt(
        np.concatenate([np.full(8, rates[0][0]), np.full(4, rates[1][0]), np.full(4, rates[0][1]), [rates[1][1]]])
    )

    def outputs(theta: Array) -> Array:
        net = theta[:8].reshape(4, 2), theta[8:12], theta[12:16], float(theta[16])
        return evaluate(net, x, slope)[0]

    def differences(function: Callable[[Array], Array], theta: Array, h: float) -> Array:
        shifts = h * np.diag(roots)
        return np.stack([(function(theta + shift) - function(theta - shift)) / (2 * h) for shift in shifts], axis=-1)

    def curvature(theta: Array) -> Array:
        return np.asarray((differences(outputs, theta, 1e-4) ** 2).sum() / 3)

    for place in np.ndindex(3, 2):
        w, b, a, c = network_of(layers_of(state.isel(network=place[0], time=place[1])))
        theta = np.concatenate([w.ravel(), b, a, [c]])
        jacobian = differences(outputs, theta, 1e-4)
        gradient = differences(curvature, theta, 1e-4)
        free = gradient - np.linalg.pinv(jacobian, rcond=1e-6) @ (jacobian @ gradient)
        one = found.isel(network=place[0], time=place[1])
        assert float(one["curvature"]) == pytest.approx(float(curvature(theta)), rel=1e-7)
        expected = -eta * noise**2 / (4 * batch) * (free**2).sum()
        assert float(one["curvature_rate"]) == pytest.approx(expected, rel=1e-5)


def test_a_linear_chain_with_label_noise_decays_as_predicted() -> None:
    # f = a b x. The imbalance shrinks by 1 - eta^2 g^2 x^2 a step, with g^2 on average s^2 / (1 - eta K / 2).
    eta, noise, x, steps = 0.02, 0.4, 1.3, 6000
    state = wa.response.simulate_training(
        wa.MLP((1,), activation="linear", weight_variance=1.0),
        ([[x]], [1.0]),
        n_networks=500,
        n_steps=steps,
        batch=1,
        learning_rate=eta,
        loss="squared",
        noise=noise,
        seed=2,
        biases=False,
        record=(0, 1000, 2000, 3000, 4000, 5000, steps),
    ).isel(time=slice(1, None))
    found = wa.response.predict_feature_reduction(state, noise=noise)
    size = np.log(np.abs(found["imbalance"].isel(unit=0)))
    measured = -(size.isel(time=-1) - size.isel(time=0)) / (eta * (steps - 1000))
    # Without the remaining fluctuations of the residual, of which a state has one value, this is the rate of theory.
    rates = -(found["imbalance_change"].sel(part="label noise") / found["imbalance"]).isel(unit=0) / eta
    np.testing.assert_allclose(rates, eta * noise**2 * x**2, rtol=1e-9)
    predicted = (eta * noise**2 * x**2 / (1 - eta * found["curvature"] / 2)).mean("time")
    z = (measured - predicted) / float(measured.std(ddof=1))
    assert abs(float(z.mean())) < 5 / math.sqrt(500)
    # The test tells this from the limit of small steps.
    limit = (measured - eta * noise**2 * x**2) / float(measured.std(ddof=1))
    assert abs(float(limit.mean())) > 10 / math.sqrt(500)


@pytest.mark.slow
def test_curvature_falls_under_label_noise_as_predicted() -> None:
    # Many runs from one network of zero loss, in the linear regime of all its units: f = sum a w x, two units.
    eta, noise, runs, random = 0.01, 0.5, 4000, np.random.default_rng(7)
    w, a = np.tile([1.4, 0.3], (runs, 1)), np.tile([0.5, 1.0], (runs, 1))
    x, y = 1.0, 1.0
    records = []
    for k in range(3001):
        if k in (1000, 3000):
            records.append((w.copy(), a.copy()))
        g = ((a * w).sum(axis=1) * x - y - noise * random.normal(size=runs))[:, None]
        a, w = a - eta * g * w * x, w - eta * g * a * x
    curvatures = [((u**2 + v**2) * x**2).sum(axis=1) for u, v in records]
    change = (curvatures[1] - curvatures[0]) / (eta * 2000)
    rates = []
    for u, v in records:
        # What theory says of the networks on the way, their outputs being near the label.
        state = xr.Dataset(
            {
                "weights_1": (("network", "unit_1", "feature"), u[:, :, None]),
                "biases_1": (("network", "unit_1"), np.zeros((runs, 2))),
                "weights_2": (("network", "output", "unit_1"), v[:, None, :]),
                "biases_2": (("network", "output"), np.zeros((runs, 1))),
                "x": (("sample", "feature"), [[x]]),
                "y": ("sample", [y]),
            },
            attrs={
                "activation": "linear",
                "loss": "squared",
                "learning_rate": eta,
                "weight_rates": [1.0, 1.0],
                "bias_rates": [0.0, 0.0],
            },
        )
        rates.append(wa.response.predict_feature_reduction(state, noise=noise)["curvature_rate"].values)
    error = change.std(ddof=1) / math.sqrt(runs)
    # Rates decay nearly exponentially in between: the logarithmic mean; corrections are of the order of eta K / 2 = 2%.
    first, last = (abs(rate.mean()) for rate in rates)
    predicted = -(first - last) / math.log(first / last)
    assert abs(change.mean() - predicted) < 5 * error
    assert abs(predicted) > 50 * error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, "batch must lie"),
        ({"batch": "half"}, "batch must be an integer"),
        ({"batch": 5, "replacement": False}, "batch must lie between 1 and 4"),
        ({"noise": -0.1}, "noise must lie"),
        ({"noise": 1.1}, r"noise must lie in \[0, 1\]"),
        ({"learning_rate": 0.0}, "learning_rate must"),
    ],
)
def test_what_is_refused(make_state: MakeState, options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        wa.response.predict_feature_reduction(make_state((2, 5, 1), activation="relu"), **options)


def test_networks_without_the_law_are_refused(make_state: MakeState) -> None:
    for state, message in (
        (make_state((2, 5, 1), activation="tanh"), "homogeneous activation"),
        (make_state((2, 5, 5, 1), activation="relu"), "one hidden layer"),
        (make_state((2, 5, 1), activation="relu", weight_rates=(1.0, 0.0)), "trained weights in both layers"),
        (make_state((2, 5, 1), activation="relu", bias_rates=(0.0, 1.0)), "hidden biases that are not trained"),
    ):
        with pytest.raises(ValueError, match=message):
            wa.response.predict_feature_reduction(state)


def test_diverged_networks_are_marked(make_state: MakeState) -> None:
    state = make_state((2, 5, 1), activation="relu", loss="squared")
    state["weights_1"][1, 1] = np.nan
    found = wa.response.predict_feature_reduction(state, noise=0.1)
    for name in found:
        assert (
            int(found[name].isnull().any([dim for dim in found[name].dims if dim not in ("network", "time")]).sum())
            == 1
        )
