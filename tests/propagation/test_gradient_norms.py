"""Laws of gradient norms against networks of real weights, 40-digit sums and integrals, and the ensemble."""

from __future__ import annotations

import math
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

import wideangle as wa
from wideangle.activations import parse_activation
from wideangle.propagation._log_gains import log_chi2_moments, log_gain_moments

SIGMA = 5.0


def squared_norms(vectors: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.stack([(vector**2).sum(axis=1) for vector in vectors])


@pytest.mark.parametrize(
    ("widths", "activation", "slope", "weight_variance", "bias_variance", "outputs"),
    [
        ((3, 5, 4), "relu", 0.0, 2.0, 0.0, 2),
        ((3, 5, 4), "relu", 0.0, 1.5, 0.7, 1),
        ((2,), "relu", 0.0, 2.0, 0.0, 3),
        ((4, 3), "leaky_relu(-0.4)", -0.4, 1.5, 0.0, 1),
        ((3, 4), "leaky_relu(2.5)", 2.5, 1.0, 0.2, 1),
        ((4, 3), "abs", -1.0, 1.5, 0.3, 2),
        ((4, 3), "linear", 1.0, 0.7, 0.0, 2),
    ],
)
def test_against_networks_of_real_weights(
    draw_networks: Any,
    widths: tuple[int, ...],
    activation: str,
    slope: float,
    weight_variance: float,
    bias_variance: float,
    outputs: int,
) -> None:
    n_networks, x, direction = 60_000, np.array([0.3, -1.2]), np.array([0.6, 0.8])
    networks = draw_networks(
        widths,
        x,
        slope=slope,
        weight_variance=weight_variance,
        bias_variance=bias_variance,
        outputs=outputs,
        n_networks=n_networks,
        seed=11,
    )
    norms2 = {"gradient": networks.backward(), "directional": networks.forward_derivative(direction)}
    net = wa.MLP(widths, activation=activation, weight_variance=weight_variance, bias_variance=bias_variance)
    law = wa.propagation.gradient_norms(net, input_dim=2, outputs=outputs)
    for quantity, vectors in norms2.items():
        fixed = len(widths) + 1 if quantity == "gradient" else 0
        for layer, samples in enumerate(squared_norms(vectors)):
            at = law.sel(quantity=quantity, layer=layer)
            if layer == fixed:
                assert_allclose(samples, 1.0, rtol=1e-14)
                assert (float(at["mean"]), float(at.variance), float(at.survival_probability)) == (0.0, 0.0, 1.0)
                continue
            alive = samples[samples > 0.0]
            probability = float(at.survival_probability)
            error = math.sqrt(probability * (1 - probability) / n_networks)
            assert abs(alive.size / n_networks - probability) <= SIGMA * error
            logs = np.log(alive)
            deviations2 = (logs - logs.mean()) ** 2
            assert abs(logs.mean() - float(at["mean"])) < SIGMA * logs.std() / math.sqrt(alive.size)
            error = deviations2.std() / math.sqrt(alive.size)
            assert abs(deviations2.mean() - float(at.variance)) < SIGMA * error
            for power, name in ((1, "log_first_moment"), (2, "log_second_moment")):
                error = float((samples**power).std()) / math.sqrt(n_networks)
                assert abs((samples**power).mean() - math.exp(float(at[name]))) < SIGMA * error


@pytest.mark.parametrize("width", [1, 2, 10, 100, 512, 513, 600])
def test_relu_gain_against_40_digits(width: int) -> None:
    with mp.workdps(40):
        weights = [mp.binomial(width, k) / (mp.mpf(2) ** width - 1) for k in range(1, width + 1)]
        means = [mp.psi(0, mp.mpf(k) / 2) - mp.log(mp.mpf(width) / 4) for k in range(1, width + 1)]
        mean = mp.fdot(weights, means)
        spread = [mp.psi(1, mp.mpf(k) / 2) + (value - mean) ** 2 for k, value in enumerate(means, start=1)]
        computed = log_gain_moments(parse_activation("relu"), width)
        # A mean of -5/(2n), with the rounding of numbers of order 1.
        assert abs(computed[0] / mean - 1) < 1e-15 * (1 + width / 10)
        assert abs(computed[1] / mp.fdot(weights, spread) - 1) < 1e-14


@pytest.mark.parametrize("slope", [0.01, 0.3, -0.5, 3.0])
@pytest.mark.parametrize("width", [1, 3, 100, 1000])
def test_leaky_relu_gain_against_30_digits(slope: float, width: int) -> None:
    """E ln Y and E ln^2 Y from the Laplace transform of Y itself, with the exponential as the reference law."""
    with mp.workdps(30):
        a2 = mp.mpf(slope) ** 2
        unit = 2 / (width * (1 + a2) / 2)

        def excess(u: Any) -> Any:
            t = mp.exp(u)
            laplace = ((1 / mp.sqrt(1 + unit * t) + 1 / mp.sqrt(1 + unit * a2 * t)) / 2) ** width
            return mp.exp(-t) - laplace

        knots = [*range(-40, 20, 2), *range(20, 60 + 160 // width, 20)]
        i0, i1 = mp.quad(excess, knots), mp.quad(lambda u: u * excess(u), knots)
        variance = -2 * i1 - 2 * mp.euler * i0 - i0**2
        computed = log_gain_moments(parse_activation(f"leaky_relu({slope})"), width)
        tolerance = 1e-13 if width == 1 else 5e-14 if width == 3 else 1e-15
        assert abs(computed[0] - i0) < tolerance
        assert abs(computed[1] - variance) < tolerance


@pytest.mark.parametrize(
    ("activation", "rate"), [("relu", 5.0), ("abs", 2.0), ("linear", 2.0), ("leaky_relu(0.5)", 3.08)]
)
@pytest.mark.parametrize("width", [10**5, 2**31])
def test_wide_layers_reach_the_lognormal_limit(activation: str, rate: float, width: int) -> None:
    mean, variance = log_gain_moments(parse_activation(activation), width)
    # The next order is about 4/n of the first; the rounding of the sums is 1e-16 next to 1/n.
    assert_allclose([mean, variance], [-0.5 * rate / width, rate / width], rtol=20 / width + 1e-15 * width)


def test_lognormal_columns() -> None:
    net = wa.MLP((100, 200), weight_variance=3.0)
    law = wa.propagation.gradient_norms(net, input_dim=50, outputs=7)
    rate = 5 / 100 + 5 / 200
    for quantity, layer, degrees in (("gradient", 0, 50), ("directional", 3, 7)):
        at = law.sel(quantity=quantity, layer=layer)
        end = log_chi2_moments(degrees)
        scale = 3 * math.log(3.0) - 2 * math.log(2.0) + (math.log(7 / 50) if layer == 3 else 0.0)
        assert_allclose(float(at.lognormal_mean), scale - rate / 2 + end[0], rtol=1e-12)
        assert_allclose(float(at.lognormal_variance), rate + end[1], rtol=1e-12)
        assert abs(float(at["mean"]) - float(at.lognormal_mean)) < 10 / 100**2
        assert abs(float(at.variance) - float(at.lognormal_variance)) < 40 / 100**2


@pytest.mark.parametrize("bias_variance", [0.0, 1.0])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu(0.3)", "abs"])
def test_ensemble_follows_the_law(activation: str, bias_variance: float) -> None:
    net = wa.MLP((3, 6, 4), activation=activation, bias_variance=bias_variance)
    n_samples = 30_000
    both = wa.propagation.gradient_norms(net, input_dim=5, outputs=2, n_samples=n_samples, seed=3)
    for name in ("mean", "variance"):
        error = both[f"ensemble_{name}_standard_error"]
        assert (abs(both[f"ensemble_{name}"] - both[name]) <= SIGMA * error + 1e-15).all()
    probability = both.survival_probability
    error = np.sqrt(probability * (1 - probability) / n_samples)
    assert (abs(both.survivors / n_samples - probability) <= SIGMA * error + 1e-12).all()
    assert both.ensemble_mean.dims == ("quantity", "layer")


def test_a_sample_does_not_depend_on_how_many_there_are() -> None:
    """Adding one sample to 600 moves the sum of squares by what its own value says, if the 600 stay the same."""
    net = wa.MLP((5, 5), activation="abs")

    def moments(n_samples: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        data = wa.propagation.gradient_norms(net, input_dim=3, n_samples=n_samples, seed=9)
        data = data.sel(layer=[1, 2])
        return data.ensemble_mean.values, data.ensemble_variance.values * (n_samples - 1)

    for n_samples in (600, 1024):
        mean, squares = moments(n_samples)
        next_mean, next_squares = moments(n_samples + 1)
        sample = (n_samples + 1) * next_mean - n_samples * mean
        expected = squares + (sample - mean) ** 2 * n_samples / (n_samples + 1)
        assert_allclose(next_squares, expected, rtol=1e-11)
    other = wa.propagation.gradient_norms(net, input_dim=3, n_samples=600, seed=10)
    assert not np.isclose(other.ensemble_mean.sel(layer=1).values, moments(600)[0][:, 0]).any()


def test_ten_thousand_layers() -> None:
    net = wa.MLP((30,) * 10_000, weight_variance=256.0)
    law = wa.propagation.gradient_norms(net, input_dim=4, n_samples=100, seed=0)
    for name, values in law.data_vars.items():
        assert np.isfinite(values).all(), name
    at = law.sel(quantity="gradient", layer=0)
    assert_allclose(float(at.log_first_moment), math.log(256.0) + 10_000 * math.log(128.0), rtol=1e-12)
    assert abs(float(at.ensemble_mean - at["mean"])) < SIGMA * float(at.ensemble_mean_standard_error)


def test_one_neuron_layers_die_at_once() -> None:
    law = wa.propagation.gradient_norms(wa.MLP((1,) * 2000), input_dim=4, n_samples=10, seed=0)
    at = law.sel(quantity="gradient", layer=0)
    assert float(at.survival_probability) == 0.0
    assert int(at.survivors) == 0
    assert np.isnan(float(at.ensemble_mean))
    assert_allclose(float(at.log_first_moment), math.log(2.0), rtol=1e-9)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"input_dim": 0}, ValueError, r"^input_dim must lie between 1 and"),
        ({"input_dim": 2.0}, TypeError, r"^input_dim must be an integer"),
        ({"input_dim": 2, "outputs": 0}, ValueError, r"^outputs must lie between 1 and"),
        ({"input_dim": 2, "n_samples": 10}, ValueError, r"^n_samples and seed must be given together, got 10 and None"),
        ({"input_dim": 2, "seed": 10}, ValueError, r"^n_samples and seed must be given together"),
        ({"input_dim": 2, "n_samples": 0, "seed": 1}, ValueError, r"^n_samples must lie between"),
        ({"input_dim": 2, "n_samples": 1, "seed": -1}, ValueError, r"^seed must lie between"),
    ],
)
def test_bad_arguments(keywords: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        wa.propagation.gradient_norms(wa.MLP((4,)), **keywords)


def test_bad_networks() -> None:
    with pytest.raises(TypeError, match=r"^net must be a wideangle\.MLP"):
        wa.propagation.gradient_norms((4,), input_dim=2)  # type: ignore[arg-type]


@pytest.mark.parametrize("activation", ["relu", "leaky_relu(-0.4)", "abs"])
def test_networks_of_the_kernel_follow_the_law(activation: str) -> None:
    net = wa.MLP((6, 20, 4), activation=activation, weight_variance=1.7, bias_variance=0.4)
    found = wa.propagation.gradient_norms(
        net, input_dim=5, outputs=3, n_samples=200_000, seed=5, ensemble="weights", norm2=0.3
    )
    for quantity, layers in (("gradient", slice(0, 3)), ("directional", slice(1, 4))):
        here = found.sel(quantity=quantity, layer=layers)
        assert (abs(here.ensemble_mean - here["mean"]) < SIGMA * here.ensemble_mean_standard_error).all()
        assert (abs(here.ensemble_variance - here.variance) < SIGMA * here.ensemble_variance_standard_error).all()
        error = np.sqrt(200_000 * here.survival_probability * (1.0 - here.survival_probability))
        assert (abs(here.survivors - 200_000 * here.survival_probability) <= SIGMA * error).all()


@pytest.mark.parametrize("activation", ["erf", "tanh", "gelu", "elu", "silu", "sin", "sigmoid"])
def test_wide_networks_approach_the_infinite_one(activation: str) -> None:
    # ln E|J|^2 of wide layers differs from its limit by a multiple of 1/n, which halves from one width to the next.
    means = []
    for width in (200, 400):
        net = wa.MLP((width,) * 3, activation=activation, weight_variance=1.3, bias_variance=0.2)
        norms = wa.propagation.gradient_norms(net, input_dim=width, n_samples=3000, seed=3, norm2=1.5)
        assert "mean" not in norms
        norms = norms.sel(quantity="gradient", layer=[0, 1, 2])
        # Log-normal to the order that matters here.
        log_mean = norms.ensemble_mean + 0.5 * norms.ensemble_variance
        means.append((log_mean - norms.infinite_width_log_first_moment).values)
    error = SIGMA * np.sqrt(5.0 * norms.ensemble_variance.values / 3000)
    assert (abs(2.0 * means[1] - means[0]) < error).all()
    assert (abs(means[1]) < 0.02 + error).all()


def test_weights_ensemble_continues() -> None:
    net = wa.MLP((6, 5), activation="tanh")
    few = wa.propagation.gradient_norms(net, input_dim=3, n_samples=1, seed=9)
    again = wa.propagation.gradient_norms(net, input_dim=3, n_samples=1, seed=9, n_threads=1)
    assert_allclose(few.ensemble_mean, again.ensemble_mean, rtol=0)
    x, step = np.array([math.sqrt(3.0), 0.0, 0.0]), 1e-4
    network = wa.propagation.materialize(net, 3, 0, seed=9)

    def output(at: NDArray[np.float64]) -> float:
        for matrix in network.weights[:-1]:
            at = np.tanh(matrix.astype(np.float64) @ at)
        return float(network.weights[-1].astype(np.float64)[0] @ at)

    slopes = [(output(x + step * unit) - output(x - step * unit)) / (2 * step) for unit in np.eye(3)]
    gradient = few.ensemble_mean.sel(quantity="gradient", layer=0).item()
    assert_allclose(gradient, math.log(np.square(slopes).sum()), atol=1e-5)
    directional = few.ensemble_mean.sel(quantity="directional", layer=3).item()
    assert_allclose(directional, 2.0 * math.log(abs(slopes[2])), atol=1e-5)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"ensemble": "law"}, "ensemble must be 'weights'"),
        ({"ensemble": "chi"}, "ensemble must be one of"),
        ({"norm2": 0.0}, "norm2 must be positive"),
        ({"norm2": math.nan}, "norm2 must be finite"),
        ({"n_threads": 0}, "n_threads"),
    ],
)
def test_bad_ensembles(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wa.propagation.gradient_norms(wa.MLP((4,), activation="tanh"), **keywords)
