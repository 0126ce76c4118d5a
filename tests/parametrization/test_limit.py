"""Training at infinite width: against the first step, networks of finite width, and more particles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from wideangle.activations import parse_activation
from wideangle.data import load_digits
from wideangle.parametrization import compare_training, predict_first_step, scaling, simulate_limit

Array = NDArray[Any]

DATA = np.random.default_rng(5).standard_normal((8, 4))
TARGETS = np.array([1.0, -1.0, 0.5, -0.5])


@pytest.mark.parametrize(
    ("name", "n_hidden", "n_samples", "step"),
    [
        ("relu", 1, 1, 2.0),
        ("relu", 2, 1, -1.5),
        ("relu", 3, 1, 2.0),
        ("relu", 4, 1, 3.0),
        ("relu", 3, 3, 2.0),
        ("leaky_relu(0.3)", 4, 2, 2.0),
        ("abs", 2, 1, 1.5),
        ("gelu", 2, 3, 1.0),
        ("tanh", 1, 2, 1.0),
    ],
)
def test_one_step_is_the_predicted_one(name: str, n_hidden: int, n_samples: int, step: float) -> None:
    x0, y0, x = DATA[:n_samples], TARGETS[:n_samples], DATA[4:7]
    sign = np.sign(step)
    run = simulate_limit(
        n_hidden, x0, sign * y0, x, n_steps=1, learning_rate=abs(step) * n_samples, activation=name, n_particles=2**10
    )
    steps = step * y0
    given = (x0[0], steps[0]) if n_samples == 1 else (x0, steps)
    predicted = predict_first_step(n_hidden, given[0], x, step=given[1], activation=name)
    error = np.hypot(run.output_error[1], predicted.output_error)
    assert np.all(np.abs(run.output[1] - predicted.output) < 5.0 * error)
    assert np.max(np.abs(predicted.output) / error) > 20.0
    np.testing.assert_array_equal(run.output[0], 0.0)


def finite_run(network: Any, x0: Array, y0: Array, x: Array, n_steps: int, rates: tuple[float, float]) -> Array:
    """Outputs (step, input) of a network in NumPy trained with the squared loss."""
    outputs = []
    for step in range(n_steps):
        current = network.forward(x0)[-1][:, 0]
        network.step(x0, (rates[min(step, 1)] * (y0 - current) / len(y0)).astype(np.float32))
        outputs.append(network.forward(x)[-1][:, 0])
    return np.array(outputs)


@pytest.mark.parametrize(
    ("name", "n_hidden", "hybrid", "rates"),
    [("relu", 2, False, (3.0, 1.0)), ("relu", 3, True, (4.0, 1.0)), ("tanh", 2, False, (3.0, 2.0))],
)
def test_networks_in_numpy_approach_it(
    name: str, n_hidden: int, hybrid: bool, rates: tuple[float, float], finite_network: Callable[..., Any]
) -> None:
    x0, y0, x, n_steps = DATA[:2].astype(np.float32), TARGETS[:2], DATA[3:6].astype(np.float32), 3
    first, rate = rates
    limit = simulate_limit(
        n_hidden, x0, y0, x, n_steps=n_steps, first_learning_rate=first, learning_rate=rate, activation=name
    )
    phi = parse_activation(name)
    options: dict[str, Any] = {"variance": limit.attrs["weight_variance"]}
    if not phi.homogeneous:
        options["phi"] = lambda z: phi.value(z).astype(np.float32)
        options["slope"] = lambda z: phi.derivative(z).astype(np.float32)
    means, errors = [], []
    for place, (width, seeds) in enumerate(((256, 64), (1024, 24))):
        outputs = []
        for seed in range(seeds):
            network = finite_network(
                scaling("hp" if hybrid else "ip-llr", n_hidden), width, 4, seed=1000 * place + seed, **options
            )
            outputs.append(finite_run(network, x0, y0, x, n_steps, rates))
        means.append(np.mean(outputs, axis=0))
        errors.append(np.std(outputs, axis=0, ddof=1) / np.sqrt(seeds))
    extrapolated = 2.0 * means[1] - means[0]
    error = np.sqrt(4.0 * errors[1] ** 2 + errors[0] ** 2 + limit.output_error[1:].values ** 2)
    rest = np.abs(means[1] - means[0]) / 4.0  # of the next order, 1/m
    difference = np.abs(extrapolated - limit.output[1:].values)
    assert np.all(difference < 5.0 * error + rest)
    # Steps after the first move outputs by more than what is tolerated.
    moved = np.abs(np.diff(limit.output[1:].values, axis=0))
    assert np.max(moved / (5.0 * error + rest)[1:]) > 2.0


@pytest.mark.parametrize(
    ("name", "n_hidden", "loss"),
    [
        ("relu", 1, "squared"),
        ("relu", 2, "squared"),
        ("relu", 3, "squared"),
        ("leaky_relu(0.3)", 3, "cross-entropy"),
        ("relu", 2, "exponential"),
    ],
)
def test_networks_of_several_widths_approach_it(name: str, n_hidden: int, loss: str) -> None:
    run = compare_training(
        n_hidden,
        DATA[:2],
        [1.0, -1.0],
        DATA[3:6],
        n_steps=3,
        learning_rate=0.4,
        first_learning_rate=2.0,
        loss=loss,
        activation=name,
        widths=(125, 250, 500, 1000),
        n_networks=256,
    )
    assert np.all(np.abs(run.z) < 5.0)
    assert np.max(np.abs(run.limit) / np.hypot(run.extrapolated_error, run.limit_error)) > 5.0
    # The limit of the step before is excluded.
    wrong = (run.extrapolated - run.limit.shift(step=1)) / run.extrapolated_error
    assert np.nanmax(np.abs(wrong)) > 5.0


@pytest.mark.parametrize(("n_hidden", "first"), [(2, 0.6), (3, 3.0)])
def test_classes_of_digits_against_pytorch(n_hidden: int, first: float) -> None:
    torch = pytest.importorskip("torch")
    from wideangle.reference import build_scaled_mlp, scaled_optimizer

    digits = load_digits(seed=1)
    kept = np.flatnonzero(digits.y_train < 3)[:12]
    x0, y0, n_steps = digits.x_train[kept], digits.y_train[kept], 4
    arguments: dict[str, Any] = {"learning_rate": 0.3, "first_learning_rate": first}
    limit = simulate_limit(n_hidden, x0, y0, n_steps=n_steps, loss="cross-entropy", n_outputs=3, **arguments)
    assert dict(limit.output.sizes) == {"step": n_steps + 1, "input": 12, "unit": 3}
    inputs, labels = torch.tensor(x0, dtype=torch.float32), torch.tensor(y0.astype(np.int64))
    means, errors, losses = [], [], []
    for width, seeds in ((512, 32), (2048, 12)):
        outputs = []
        for seed in range(seeds):
            model = build_scaled_mlp(
                scaling("ip-llr", n_hidden), width, n_inputs=64, n_outputs=3, seed=width * 100 + seed
            )
            optimizer = scaled_optimizer(model, **arguments)
            rows = []
            for _ in range(n_steps):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(inputs), labels).backward()
                optimizer.step()
                rows.append(model(inputs).detach().numpy())
            outputs.append(rows)
            losses.append(torch.nn.functional.cross_entropy(model(inputs), labels).item())
        means.append(np.mean(outputs, axis=0))
        errors.append(np.std(outputs, axis=0, ddof=1) / np.sqrt(seeds))
    extrapolated = 2.0 * means[1] - means[0]
    error = np.sqrt(4.0 * errors[1] ** 2 + errors[0] ** 2 + limit.output_error[1:].values ** 2)
    rest = np.abs(means[1] - means[0]) / 4.0
    expected = limit.output[1:].values
    assert np.all(np.abs(extrapolated - expected) < 5.0 * error + rest)
    assert np.max(np.abs(expected[-1] - expected[-2]) / (5.0 * error + rest)[-1]) > 1.2
    assert float(limit.loss[0]) == pytest.approx(np.log(3.0))
    assert abs(np.mean(losses[32:]) - float(limit.loss[-1])) < 0.1


@pytest.mark.parametrize(("name", "n_hidden"), [("relu", 2), ("relu", 3), ("tanh", 3)])
def test_errors_are_those_of_the_estimates(name: str, n_hidden: int) -> None:
    arguments: dict[str, Any] = {"n_steps": 4, "learning_rate": 0.6, "first_learning_rate": 3.0, "activation": name}
    x0, y0, x = DATA[:3], TARGETS[:3], DATA[4]
    exact = simulate_limit(n_hidden, x0, y0, x, **arguments, n_particles=2**14, seed=1000)
    z, biases = [], []
    for seed in range(60):
        run = simulate_limit(n_hidden, x0, y0, x, **arguments, n_particles=2**6, seed=seed)
        z.append(((run.output - exact.output) / np.hypot(run.output_error, exact.output_error))[2:])
        biases.append((run.loss - exact.loss)[2:])
    # Of Student's law with 15 degrees of freedom.
    spread = np.sqrt(np.mean(np.square(z), axis=0))
    assert np.all(spread > 0.7)
    assert np.all(spread < 1.4)
    assert np.all(np.abs(np.mean(z, axis=0)) < 5.0 * spread / np.sqrt(60))
    assert np.all(
        np.abs(np.mean(biases, axis=0)) < 5.0 * np.std(biases, axis=0) / np.sqrt(60) + 5.0 * exact.loss_error[2:]
    )
    assert np.all(exact.output_error < 0.01 * np.abs(exact.output).max())


def test_activations_smooth_at_zero_leave_the_start_with_the_second_step_or_never(
    finite_network: Callable[..., Any],
) -> None:
    limits = {}
    for n_hidden in (2, 3, 4, 5, 6):
        run = simulate_limit(
            n_hidden, DATA[0], 1.0, DATA[3:5], n_steps=3, learning_rate=0.5, first_learning_rate=1.0, activation="tanh"
        )
        limits[n_hidden] = np.abs(run.output.values).max(axis=1)
        assert (limits[n_hidden][1] > 0.05) == (n_hidden == 2)
        assert (limits[n_hidden][2] > 0.002) == (n_hidden < 5)
        if n_hidden > 2:
            assert limits[n_hidden][1] < 1e-8
        if n_hidden > 4:
            assert np.all(limits[n_hidden] < 1e-8)
    # One approaches the limit, the other falls faster than the inverse root of the width.
    assert smooth_sizes(finite_network, 3)[1] > 0.5 * limits[3][3]
    small, large = smooth_sizes(finite_network, 5)
    assert large < 0.2 * small


def smooth_sizes(finite_network: Callable[..., Any], n_hidden: int) -> list[float]:
    """Root mean square of outputs of tanh networks of widths 128 and 1024 after three steps."""
    phi, sizes = parse_activation("tanh"), []
    for width in (128, 1024):
        outputs = []
        for seed in range(6):
            network = finite_network(
                scaling("ip-llr", n_hidden),
                width,
                4,
                variance=1.0,
                seed=seed,
                phi=lambda z: phi.value(z).astype(np.float32),
                slope=lambda z: phi.derivative(z).astype(np.float32),
            )
            x0, x = DATA[:1].astype(np.float32), DATA[3:5].astype(np.float32)
            outputs.append(finite_run(network, x0, np.array([1.0]), x, 3, (1.0, 0.5)))
        sizes.append(float(np.sqrt(np.mean(np.square(outputs)[:, -1]))))
    return sizes


def test_a_repeated_sample_is_that_sample() -> None:
    arguments: dict[str, Any] = {"n_steps": 3, "learning_rate": 0.5, "first_learning_rate": 3.0}
    one = simulate_limit(3, DATA[0], 1.0, DATA[4:6], **arguments)
    same = simulate_limit(3, np.tile(DATA[0], (3, 1)), [1.0] * 3, DATA[4:6], **arguments)
    error = np.hypot(one.output_error, same.output_error)
    assert np.all(np.abs(one.output - same.output) <= 5.0 * error)
    assert np.all(np.abs(one["size"] - same["size"]) <= 5.0 * np.hypot(one.size_error, same.size_error))


def test_targets_of_one_output_may_be_a_column() -> None:
    arguments: dict[str, Any] = {"n_steps": 2, "learning_rate": 0.5, "n_particles": 64}
    one = simulate_limit(2, DATA[:2], [1.0, -1.0], **arguments)
    column = simulate_limit(2, DATA[:2], [[1.0], [-1.0]], **arguments)
    np.testing.assert_array_equal(column.output[..., 0], one.output)


def test_seeds_and_names() -> None:
    one, same, other = (
        simulate_limit(2, DATA[0], 1.0, n_steps=2, learning_rate=0.5, n_particles=64, n_replicas=3, seed=seed)
        for seed in (1, 1, 2)
    )
    assert one.identical(same)
    assert np.all(one.output[1:] != other.output[1:])
    assert one.output.dims == ("step",)
    assert one["size"].dims == ("step", "layer")
    assert one.step.values.tolist() == [0, 1, 2]
    assert one.layer.values.tolist() == [1, 2]
    assert one.attrs["n_particles"] == 64
    assert simulate_limit(2, DATA[0], 1.0, DATA[1:3], n_steps=1, learning_rate=1.0).output.dims == ("step", "input")
    targets = [[1.0, 0.0], [0.0, 1.0]]
    several = simulate_limit(2, DATA[:2], targets, DATA[4], n_steps=1, learning_rate=1.0, n_particles=64)
    assert several.output.dims == ("step", "unit")


def test_training_that_diverges_is_refused() -> None:
    with pytest.raises(ValueError, match="training diverges"):
        simulate_limit(3, DATA[:3], TARGETS[:3], n_steps=8, learning_rate=50.0, n_particles=64)
    # Away to 1e60 and back, which leaves nothing to trust.
    with pytest.raises(ValueError, match="training diverges"):
        simulate_limit(3, np.eye(2), [1.0, -1.0], n_steps=30, learning_rate=1e3, n_particles=16, n_replicas=2, seed=0)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"n_hidden": 0}, ValueError, "n_hidden"),
        ({"x0": [[np.nan, 1.0]]}, ValueError, "x0"),
        ({"x": [1.0, 2.0, 3.0]}, ValueError, "x must have the 2 features"),
        ({"y0": [1.0, -1.0, 1.0]}, ValueError, "y0 must have one entry for each of the 2 samples"),
        ({"y0": [1.0, np.inf]}, ValueError, "y0"),
        ({"y0": ["a", "b"]}, TypeError, "y0"),
        ({"loss": "cross-entropy", "y0": [0, 1]}, ValueError, "labels -1 and 1 .* got 0; .* n_outputs"),
        ({"loss": "hinge", "n_outputs": 3, "y0": [0, 1]}, ValueError, "loss must be one of"),
        ({"loss": "cross-entropy", "n_outputs": 2, "y0": [0.0, 1.0]}, TypeError, "integers"),
        ({"loss": "cross-entropy", "n_outputs": 2, "y0": [0, 2]}, ValueError, "classes from 0 to 1, got 0 to 2"),
        ({"n_outputs": 3}, ValueError, "n_outputs must be that of y0"),
        ({"loss": "huber"}, ValueError, "loss"),
        ({"n_steps": 0}, ValueError, "n_steps"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate"),
        ({"first_learning_rate": -1.0}, ValueError, "first_learning_rate"),
        ({"activation": "softmax"}, ValueError, "activation"),
        ({"weight_variance": 0.0}, ValueError, "weight_variance"),
        ({"n_particles": 1000}, ValueError, "power of two"),
        ({"n_particles": 2**30, "n_hidden": 50}, ValueError, "GiB"),
        ({"n_replicas": 1}, ValueError, "n_replicas"),
        ({"seed": -1}, ValueError, "seed"),
    ],
)
def test_arguments_that_are_wrong(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {
        "n_hidden": 2,
        "x0": [[1.0, 2.0], [0.5, 1.0]],
        "y0": [1.0, -1.0],
        "n_steps": 2,
        "learning_rate": 0.5,
    } | change
    with pytest.raises(error, match=message):
        simulate_limit(**arguments)
