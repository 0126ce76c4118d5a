"""The first step at infinite width, against the formula for one sample, drawn neurons and networks of finite width."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray

from wideangle.activations import ACTIVATIONS, parse_activation
from wideangle.parametrization import predict_first_step, scaling
from wideangle.parametrization._first_step_particles import _covariances

Array = NDArray[np.float64]

RNG = np.random.default_rng(1)
SAMPLE = RNG.standard_normal(6)
POINTS = np.vstack([RNG.standard_normal((4, 6)), SAMPLE, -SAMPLE, 1e-3 * SAMPLE])


def relu_formula(n_hidden: int, x0: Array, x: Array, s: float) -> tuple[float, list[float]]:
    """Hajjar, Chizat and Giraud's first step in closed form, for ReLU and from two hidden layers on."""
    d = len(x0)
    q, c = 2 * x0 @ x0 / d, 2 * x0 @ x / d
    size = np.sqrt(2 * x @ x / d + (s * (x0 @ x)) ** 2)
    angle = np.arccos(np.clip(c / (np.sqrt(q) * size), -1, 1))
    alphas = [np.sqrt(q) * size * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)]
    for _ in range(2, n_hidden + 1):
        alphas.append(abs(s * alphas[-1]) * np.sqrt(q) / (2 * np.pi))
    return s * alphas[-2] / 4 + s * alphas[-1], alphas


@pytest.mark.parametrize("step", [1.0, -0.7, 30.0, 1e-3])
@pytest.mark.parametrize("n_hidden", [2, 3, 4, 9])
def test_relu_and_one_sample_against_the_formula(n_hidden: int, step: float) -> None:
    first = predict_first_step(n_hidden, SAMPLE, POINTS, step=step)
    for i, point in enumerate(POINTS):
        output, alphas = relu_formula(n_hidden, SAMPLE, point, step)
        # The formula's own angle is ill-conditioned at the sample and its negative.
        np.testing.assert_allclose(first.output[i], output, rtol=1e-7)
        np.testing.assert_allclose(first.alpha[:, i], alphas, rtol=1e-7)
    np.testing.assert_allclose(
        first.output[:4], [relu_formula(n_hidden, SAMPLE, x, step)[0] for x in POINTS[:4]], rtol=1e-12
    )


def brute_force(n_hidden: int, x0: Array, x: Array, s: float, name: str, variance: float) -> tuple[float, float]:
    """The same limit with neurons drawn at random; mean and standard error over groups of them."""
    rng = np.random.default_rng(7)
    groups = [one_group(n_hidden, x0, x, s, name, variance, rng) for _ in range(20)]
    return float(np.mean(groups)), float(np.std(groups, ddof=1) / np.sqrt(len(groups)))


def one_group(
    n_hidden: int, x0: Array, x: Array, s: float, name: str, variance: float, rng: np.random.Generator
) -> float:
    phi, count = parse_activation(name), 20_000
    step = 1e-7
    up, down = phi.value(step) / step, -phi.value(-step) / step
    ratio = variance * (up**2 + down**2) / 2
    matrix = rng.standard_normal((count, len(x0))) * np.sqrt(variance / len(x0))
    u, v = matrix @ x0, matrix @ x
    gradient = rng.standard_normal(count) * ratio ** ((n_hidden - 1) / 2)
    before, after = phi.value(u), phi.value(v + s * (x0 @ x) * phi.derivative(u) * gradient)
    q = variance * np.mean(before**2)
    for layer in range(2, n_hidden + 1):
        alpha = np.mean(before * after)
        h = rng.standard_normal(count) * np.sqrt(q)
        gradient = rng.standard_normal(count) * ratio ** ((n_hidden - layer) / 2)
        slope = np.where(h > 0, up, down)
        before, after = slope * h, phi.value(s * alpha * slope * gradient)
        q = variance * np.mean(before**2)
    return float(np.mean((gradient + s * before) * after))


def test_activations_that_are_not_zero_at_zero_are_refused_from_two_layers_on() -> None:
    with pytest.raises(ValueError, match=r"activation must be zero at zero with 2 hidden layers.*'sigmoid'.*'tanh'"):
        predict_first_step(2, SAMPLE, SAMPLE, step=1.0, activation="sigmoid")


@pytest.mark.parametrize(
    ("name", "n_hidden"),
    [
        (name, n_hidden)
        for name in (*ACTIVATIONS, "leaky_relu(0.5)", "leaky_relu(-0.3)")
        for n_hidden in (1, 2, 3)
        if name != "sigmoid" or n_hidden == 1
    ],
)
def test_every_activation_against_drawn_neurons(name: str, n_hidden: int) -> None:
    point, step = POINTS[1], -0.8
    first = predict_first_step(n_hidden, SAMPLE, point, step=step, activation=name)
    expected, error = brute_force(n_hidden, SAMPLE, point, step, name, first.attrs["weight_variance"])
    assert abs(float(first.output) - expected) < 5.0 * error
    assert float(first.output_error) < 1e-9 * max(1.0, abs(float(first.output)))


def test_another_weight_variance() -> None:
    for name, n_hidden in (("relu", 3), ("tanh", 2)):
        first = predict_first_step(n_hidden, SAMPLE, SAMPLE, step=1.0, activation=name, weight_variance=3.0)
        expected, error = brute_force(n_hidden, SAMPLE, SAMPLE, 1.0, name, 3.0)
        assert abs(float(first.output) - expected) < 5.0 * error
        assert abs(expected) > 30 * error


@pytest.mark.parametrize(
    ("name", "variance"),
    [("relu", 2.0), ("gelu", 4.0), ("tanh", 1.0), ("elu", 1.0), ("linear", 1.0), ("abs", 1.0), ("silu", 4.0)],
)
def test_default_variances_keep_the_size_of_gradients(name: str, variance: float) -> None:
    first = predict_first_step(2, SAMPLE, POINTS[0], step=1.0, activation=name)
    assert first.attrs["weight_variance"] == pytest.approx(variance, rel=1e-14)


def test_quadrature_against_a_closed_form() -> None:
    # E[sin(u) sin(v)] of Gaussians is exp(-(var u + var v)/2) sinh(cov), and with a slope that is 1 almost surely ...
    first = predict_first_step(2, SAMPLE, POINTS, step=1e-9, activation="sin")
    d = len(SAMPLE)
    for i, x in enumerate(POINTS):
        a, b, c = SAMPLE @ SAMPLE / d, x @ x / d, SAMPLE @ x / d
        expected = np.exp(-(a + b) / 2) * np.sinh(c)
        assert float(first.alpha[0, i]) == pytest.approx(expected, rel=1e-10, abs=1e-14)


@pytest.mark.parametrize("name", ["relu", "leaky_relu(0.3)", "tanh"])
@pytest.mark.parametrize("n_hidden", [1, 2, 3])
def test_a_batch_that_repeats_one_sample_is_that_sample(n_hidden: int, name: str) -> None:
    one = predict_first_step(n_hidden, SAMPLE, POINTS, step=1.5, activation=name)
    batch = predict_first_step(
        n_hidden, [SAMPLE, SAMPLE, SAMPLE], POINTS, step=[0.2, 0.3, 1.0], activation=name, n_particles=400_000
    )
    assert batch.alpha.dims == ("layer", "sample", "input")
    difference = np.abs(batch.output.values - one.output.values)
    assert np.all(difference < 5.0 * batch.output_error.values + 1e-12)
    assert np.all(batch.output_error.values[:4] < 0.02 * np.abs(one.output.values).max() + 1e-12)
    for sample in range(3):
        assert np.all(np.abs(batch.alpha[:, sample] - one.alpha) < 5.0 * batch.alpha_error[:, sample] + 1e-12)


def test_a_sample_without_weight_changes_nothing() -> None:
    other = np.roll(SAMPLE, 1)
    one = predict_first_step(3, SAMPLE, POINTS, step=1.5)
    both = predict_first_step(3, [SAMPLE, other], POINTS, step=[1.5, 0.0])
    assert np.all(np.abs(both.output - one.output) < 5.0 * both.output_error)


def test_a_batch_of_one_is_exact() -> None:
    one = predict_first_step(3, SAMPLE, POINTS, step=1.5)
    batch = predict_first_step(3, [SAMPLE], POINTS, step=[1.5])
    np.testing.assert_array_equal(batch.output, one.output)
    np.testing.assert_array_equal(batch.alpha[:, 0], one.alpha)


@pytest.mark.parametrize("name", ["relu", "leaky_relu(-0.5)", "tanh"])
def test_covariances_of_a_batch_against_a_network(name: str) -> None:
    phi, rng, width, depth, variance = parse_activation(name), np.random.default_rng(2), 1000, 4, 1.7
    samples = np.array([[1.0, 0.2, 0.0], [-0.3, 1.2, 0.4], [0.1, 0.0, 0.8]])
    slopes = {"relu": (1.0, 0.0), "leaky_relu(-0.5)": (1.0, -0.5), "tanh": (1.0, 1.0)}[name]
    empirical = []
    for _ in range(12):
        h = [samples @ rng.standard_normal((3, width)) * np.sqrt(variance / 3)]
        matrices = [rng.standard_normal((width, width)) * np.sqrt(variance / width) for _ in range(depth - 1)]
        x = phi.value(h[0])
        for matrix in matrices:
            h.append(x @ matrix)
            # Behind the first layer activations are infinitesimal: linear on either side of zero.
            x = np.where(h[-1] > 0, *(slope * h[-1] for slope in slopes))
        g = [np.tile(rng.standard_normal(width), (3, 1))]
        for matrix, z in zip(matrices[::-1], h[:0:-1], strict=True):
            g.append((g[-1] * np.where(z > 0, *slopes)) @ matrix.T)
        empirical.append([[z @ z.T / width for z in some] for some in (h, g[::-1])])
    mean = np.mean(empirical, axis=0)
    error = np.std(empirical, axis=0, ddof=1) / np.sqrt(len(empirical))
    predicted = np.array(_covariances(phi, variance, depth, samples))
    assert np.all(np.abs(predicted - mean) < 5.0 * error + 3.0 / width)


def test_seeds_of_a_batch() -> None:
    batch = [SAMPLE, np.roll(SAMPLE, 1)]

    def run(seed: int) -> Array:
        first = predict_first_step(2, batch, POINTS, step=1.0, n_particles=10_000, seed=seed)
        return np.asarray(first.output.values)

    np.testing.assert_array_equal(run(3), run(3))
    assert np.all(run(3) != run(4))


def smooth(name: str) -> dict[str, Any]:
    phi = parse_activation(name)
    return {
        "phi": lambda z: phi.value(z).astype(np.float32),
        "slope": lambda z: phi.derivative(z).astype(np.float32),
    }


@pytest.mark.parametrize(
    ("name", "n_hidden", "n_samples", "step"),
    [
        ("relu", 1, 1, 2.0),
        ("relu", 2, 1, 2.0),
        ("relu", 3, 1, -2.0),
        ("relu", 3, 2, 3.0),
        ("leaky_relu(0.3)", 2, 3, 1.0),
        ("tanh", 2, 1, 1.0),
        ("gelu", 1, 2, -1.0),
    ],
)
def test_networks_of_finite_width_approach_it(
    name: str, n_hidden: int, n_samples: int, step: float, finite_network: Callable[..., Any]
) -> None:
    x0, x = RNG_DATA[:n_samples], RNG_DATA[n_samples : n_samples + 3]
    predicted = predict_first_step(n_hidden, x0, x, step=step / n_samples, activation=name)
    widths, seeds = (256, 1024), 100 if n_hidden == 1 else 16
    means, errors = [], []
    for place, width in enumerate(widths):
        outputs = []
        for seed in range(seeds):
            network = finite_network(
                scaling("ip-llr", n_hidden),
                width,
                x.shape[1],
                variance=predicted.attrs["weight_variance"],
                seed=1000 * place + seed,
                **smooth(name),
            )
            network.step(x0.astype(np.float32), np.full(n_samples, step / n_samples, np.float32))
            outputs.append(network.forward(x.astype(np.float32))[-1][:, 0])
        means.append(np.mean(outputs, axis=0))
        errors.append(np.std(outputs, axis=0, ddof=1) / np.sqrt(seeds))
    # The mean differs from the limit by the order of the inverse root of the width.
    limit = 2.0 * means[1] - means[0]
    error = np.sqrt(4.0 * errors[1] ** 2 + errors[0] ** 2 + predicted.output_error.values**2)
    rest = np.abs(means[1] - means[0]) / 4.0  # of the next order, 1/m
    assert np.all(np.abs(limit - predicted.output.values) < 5.0 * error + rest)
    # That can fail: nothing, or twice the prediction, is excluded.
    assert np.max(np.abs(predicted.output.values) / (5.0 * error + rest)) > 1.0


RNG_DATA = np.random.default_rng(5).standard_normal((8, 4))


@pytest.mark.parametrize("name", ["tanh", "gelu", "elu", "linear"])
def test_deep_networks_with_an_activation_smooth_at_zero_stay_at_zero(
    name: str, finite_network: Callable[..., Any]
) -> None:
    first = predict_first_step(3, RNG_DATA[0], RNG_DATA[1:4], step=1.5, activation=name)
    np.testing.assert_array_equal(first.output, 0.0)
    np.testing.assert_array_equal(first.alpha[1:], 0.0)
    batch = predict_first_step(3, RNG_DATA[:2], RNG_DATA[2:4], step=1.5, activation=name)
    np.testing.assert_array_equal(batch.output, 0.0)
    sizes = []
    for width in (128, 2048):
        outputs = []
        for seed in range(4):
            options = {"variance": first.attrs["weight_variance"], "seed": seed} | smooth(name)
            network = finite_network(scaling("ip-llr", 3), width, 4, **options)
            network.step(RNG_DATA[:1].astype(np.float32), np.array([1.5], np.float32))
            outputs.append(network.forward(RNG_DATA[1:4].astype(np.float32))[-1])
        sizes.append(np.sqrt(np.mean(np.square(outputs))))
    # Like m^(-1/2), a factor of 4; the output of a ReLU network would stay.
    assert sizes[0] / sizes[1] > 2.0


def exact_relu(x0: Array, x: Array, step: float, slope: float) -> Any:
    """The output after the first step of two hidden layers of leaky ReLU, in sixty digits."""
    with mpmath.workdps(60):
        a, b, s = [mpmath.mpf(float(v)) for v in x0], [mpmath.mpf(float(v)) for v in x], mpmath.mpf(step)
        variance = 2 / (1 + mpmath.mpf(slope) ** 2)
        d = len(a)
        product = mpmath.fsum(p * q for p, q in zip(a, b, strict=True))
        q, r = (variance * mpmath.fsum(p * p for p in v) / d for v in (a, b))
        c = variance * product / d
        alpha = mpmath.mpf(0)
        for sign, own in ((1, mpmath.mpf(1)), (-1, mpmath.mpf(slope))):
            size = mpmath.sqrt(q * (r + (s * product * own) ** 2))
            angle = mpmath.acos(max(-1, min(1, sign * c / size))) if size else mpmath.mpf(0)
            ramp = size * (mpmath.sin(angle) + (mpmath.pi - angle) * mpmath.cos(angle)) / (2 * mpmath.pi)
            alpha += sign * own * (mpmath.mpf(slope) * sign * c / 2 + (1 - mpmath.mpf(slope)) * ramp)
        second = abs(s * alpha) * mpmath.sqrt(q * variance * (1 + mpmath.mpf(slope) ** 2) / 2) / (2 * mpmath.pi)
        second *= (1 - mpmath.mpf(slope)) * (1 - mpmath.mpf(slope) * abs(mpmath.mpf(slope)))
        return s * alpha * ((1 + mpmath.mpf(slope)) / 2) ** 2 + s * second


@pytest.mark.parametrize("slope", [0.0, 0.3, -1.0, 1.0, -50.0])
@pytest.mark.parametrize("step", [1e-6, 1.0, 1e4])
def test_the_error_covers_roundings(step: float, slope: float) -> None:
    rng = np.random.default_rng(11)
    near = -SAMPLE + 1e-6 * rng.standard_normal(6)
    across = np.array([SAMPLE[1], -SAMPLE[0], 0.0, 0.0, 0.0, 0.0])
    points = np.vstack([rng.standard_normal((6, 6)), near, across, -3.3 * SAMPLE, SAMPLE, 1e-9 * SAMPLE])
    first = predict_first_step(2, SAMPLE, points, step=step, activation=f"leaky_relu({slope})")
    for i, point in enumerate(points):
        exact = exact_relu(SAMPLE, point, step, slope)
        assert abs(float(mpmath.mpf(float(first.output[i])) - exact)) <= float(first.output_error[i])
    lengths = np.linalg.norm(points, axis=1)
    sizes = np.abs(first.output.values) + step * (1 + step) * lengths * 50.0 * max(1.0, slope**4)
    assert np.all(first.output_error < 1e-11 * sizes)


def test_a_batch_is_not_biased_where_an_overlap_vanishes() -> None:
    # Here alpha of the first layer is zero, and the second bends at zero.
    points = np.array([[np.cos(1.76), np.sin(1.76)]])
    z = []
    for seed in range(12):
        batch = predict_first_step(
            3,
            [[1.0, 0.0], [1.0, 0.0]],
            points,
            step=0.5,
            activation="leaky_relu(0.3)",
            n_particles=8000,
            seed=seed,
        )
        exact = predict_first_step(3, [1.0, 0.0], points, step=1.0, activation="leaky_relu(0.3)")
        z.append(float(batch.output[0] - exact.output[0]) / float(batch.output_error[0]))
    assert np.max(np.abs(z)) < 5.0


@pytest.mark.parametrize(
    "arguments",
    [
        {"x0": [1e60, 0.0]},
        {"step": 1e60},
        {"n_hidden": 5000, "step": 1e6},
        {"n_hidden": 2000, "weight_variance": 4.0},
        {"n_hidden": 200, "x0": [[1.0, 2.0], [0.5, 1.0]], "step": 1e6, "n_particles": 1000},
        {"weight_variance": 1e60},
    ],
)
def test_what_overflows_is_refused(arguments: dict[str, Any]) -> None:
    given: dict[str, Any] = {"n_hidden": 2, "x0": [1.0, 2.0], "x": [0.5, 1.0], "step": 1.0} | arguments
    with pytest.raises(ValueError, match=r"at most 1e\+50|overflow"):
        predict_first_step(**given)


def test_names_and_shapes() -> None:
    first = predict_first_step(3, SAMPLE, POINTS[0], step=1.0)
    assert first.output.dims == ()
    assert first.alpha.dims == ("layer",)
    assert first.layer.values.tolist() == [1, 2, 3]
    assert predict_first_step(3, SAMPLE, POINTS, step=1.0).alpha.dims == ("layer", "input")


def test_arrays_of_other_types() -> None:
    expected = predict_first_step(2, SAMPLE.astype(np.float32), POINTS, step=1)
    for array in (SAMPLE.astype(">f4"), SAMPLE.astype(np.float32)[::-1].copy()[::-1]):
        np.testing.assert_array_equal(predict_first_step(2, array, POINTS, step=np.float32(1)).output, expected.output)
    zero = predict_first_step(2, np.zeros(6), POINTS, step=1.0)
    np.testing.assert_array_equal(zero.output, 0.0)
    np.testing.assert_array_equal(predict_first_step(2, np.zeros(6), POINTS, step=1.0, activation="tanh").output, 0.0)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"n_hidden": 0}, ValueError, "n_hidden"),
        ({"n_hidden": 2.0}, TypeError, "n_hidden"),
        ({"x0": [[[1.0]]]}, ValueError, "x0"),
        ({"x0": [1.0, np.nan]}, ValueError, "x0"),
        ({"x0": []}, ValueError, "x0"),
        ({"x": [1.0, 2.0, 3.0]}, ValueError, "x must have the 2 features of x0"),
        ({"x": ["a", "b"]}, TypeError, "x must"),
        ({"step": 0.0}, ValueError, "step must not be zero"),
        ({"step": np.inf}, ValueError, "step"),
        ({"step": [1.0, 2.0]}, ValueError, "step must be one number or 1"),
        ({"activation": "softmax"}, ValueError, "activation"),
        ({"weight_variance": 0.0}, ValueError, "weight_variance"),
        ({"n_particles": 10}, ValueError, "n_particles"),
        ({"seed": -1}, ValueError, "seed"),
    ],
)
def test_arguments_that_are_wrong(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"n_hidden": 2, "x0": [1.0, 2.0], "x": [0.5, 1.0], "step": 1.0} | change
    with pytest.raises(error, match=message):
        predict_first_step(**arguments)
