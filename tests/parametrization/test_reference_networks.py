"""Networks under a scaling in PyTorch, against the same in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from wideangle.parametrization import Scaling, scaling
from wideangle.reference import build_mlp, build_scaled_mlp, calibrate_first_step, scaled_optimizer
from wideangle.scalings import SCALINGS

torch = pytest.importorskip("torch")

X = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)
STEPS = np.array([0.2, -0.1, 0.15, 0.1, -0.05], np.float32)
# Every exponent its own.
ODD = Scaling(
    ("1/4", "3/4", "1/2"),
    (0, "-1/4", "1/4"),
    (-1, "-3/2", "-3/4"),
    c_first=("-1/2", "-5/4", -1),
    bias_a=("1/4", "1/2", 0),
    bias_b=("-1/4", "-1/2", 0),
    bias_c=("-1/2", -1, "-1/4"),
    bias_c_first=("-3/4", "-1/2", 0),
    biases="random",
)


def arrays(parameters: Any) -> list[np.ndarray[Any, Any]]:
    return [parameter.detach().numpy().copy() for parameter in parameters]


@pytest.mark.parametrize("name", [*SCALINGS, "odd"])
def test_forward_and_three_steps_against_numpy(name: str, finite_network: Callable[..., Any]) -> None:
    s = ODD if name == "odd" else scaling(name, 3)
    model = build_scaled_mlp(s, 40, n_inputs=6, n_outputs=1, seed=3)
    twin = finite_network(s, 40, 6)
    twin.weights = arrays(model.weights)
    twin.starts = arrays(model.weights)
    twin.biases = arrays(model.biases) or [np.zeros(1, np.float32)] * 4
    optimizer = scaled_optimizer(model, learning_rate=0.5, first_learning_rate=1.5)
    for step in range(3):
        for z, expected in zip(model.preactivations(torch.tensor(X)), twin.forward(X), strict=True):
            scale = np.abs(expected).max()
            np.testing.assert_allclose(z.detach().numpy(), expected, rtol=1e-4, atol=1e-5 * scale)
        optimizer.zero_grad()
        (-(torch.tensor(STEPS) * model(torch.tensor(X))[:, 0]).sum()).backward()
        optimizer.step()
        output_bias = twin.biases[-1]
        twin.step(X, STEPS * (1.5 if step == 0 else 0.5))
        if s.biases != "none":
            # The NumPy network leaves the output's own bias alone.
            exponent = float((s.bias_c_first if step == 0 else s.bias_c)[-1] + s.bias_a[-1])
            twin.biases[-1] = output_bias + STEPS.sum() * (1.5 if step == 0 else 0.5) * 40**-exponent
    assert optimizer.n_steps == 3


def test_initial_weights_have_their_variances() -> None:
    width, phi = 400, "gelu"
    for name, mean in (("mup", 0.0), ("ip-non-centered", 0.7)):
        s = scaling(name, 2)
        model = build_scaled_mlp(s, width, n_inputs=50, n_outputs=80, seed=1, activation=phi, weight_mean=0.7)
        for layer, (weight, variance) in enumerate(zip(arrays(model.weights), (4 / 50, 4.0, 1.0), strict=True)):
            u = weight * float(width) ** float(s.b[layer])
            expected = mean if layer > 0 else 0.0
            assert abs(u.mean() - expected) < 5.0 * np.sqrt(variance / u.size)
            assert abs(u.var() / variance - 1.0) < 5.0 * np.sqrt(2.0 / u.size)
    biases = arrays(build_scaled_mlp(scaling("ip-bias", 2), 4000, n_inputs=2, n_outputs=1, seed=1).biases)
    assert all(abs(bias.var() - 1.0) < 5.0 * np.sqrt(2.0 / bias.size) for bias in biases[:2])


def test_weights_depend_on_the_seed_alone_and_leave_the_global_generator() -> None:
    before = torch.get_rng_state()
    one, same, other = (
        arrays(build_scaled_mlp(scaling("mup", 2), 30, n_inputs=3, n_outputs=2, seed=seed).weights)
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    for a, b, c in zip(one, same, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.all(a != c)
    # The same U under another scaling.
    integrable = arrays(build_scaled_mlp(scaling("ip", 2), 30, n_inputs=3, n_outputs=2, seed=1).weights)
    for a, b in zip(one, integrable, strict=True):
        np.testing.assert_allclose(a * 30**0.5, b, rtol=1e-6)


def test_first_step_of_adam_is_as_large_as_its_learning_rate() -> None:
    s = scaling("mup", 3)
    model = build_scaled_mlp(s, 64, n_inputs=6, n_outputs=1, seed=3, activation="tanh")
    before = arrays(model.weights)
    optimizer = scaled_optimizer(model, learning_rate=0.01, optimizer="adam")
    model(torch.tensor(X)).sum().backward()
    optimizer.step()
    for layer, (start, end) in enumerate(zip(before, arrays(model.weights), strict=True)):
        expected = 0.01 * 64.0 ** -float(s.adam_c[layer])
        np.testing.assert_allclose(np.abs(end - start), expected, rtol=1e-3)


def test_adam_is_not_stopped_by_small_gradients() -> None:
    model = build_scaled_mlp(scaling("ip", 6), 512, n_inputs=6, n_outputs=1, seed=3)
    optimizer = scaled_optimizer(model, learning_rate=0.01, optimizer="adam")
    model(torch.tensor(X)).sum().backward()
    assert model.weights[3].grad.abs().max() < 1e-8
    before = arrays(model.weights)[3]
    optimizer.step()
    assert np.abs(arrays(model.weights)[3] - before).max() == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("size", [1e-12, 1e-17, 1e-19, 1e-21, 1e-24, 1e-30, 1e-40])
def test_steps_of_adam_are_bounded_however_small_gradients_are(size: float) -> None:
    model = build_scaled_mlp(scaling("ip", 3), 16, n_inputs=2, n_outputs=1, seed=0)
    optimizer = scaled_optimizer(model, learning_rate=0.01, optimizer="adam")
    before = arrays(model.weights)[1]
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, size)
    optimizer.step()
    change = np.abs(arrays(model.weights)[1] - before).max()
    assert change < 0.0101
    assert change > 0.0095 or size < 1e-18


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"scaling": "mup"}, TypeError, "scaling must be a Scaling"),
        ({"width": 0}, ValueError, "width"),
        ({"n_inputs": 0}, ValueError, "n_inputs"),
        ({"n_outputs": 1.5}, TypeError, "n_outputs"),
        ({"seed": -1}, ValueError, "seed"),
        ({"activation": "softmax"}, ValueError, "activation"),
        ({"weight_variance": -1.0}, ValueError, "weight_variance"),
        ({"weight_mean": "one"}, TypeError, "weight_mean"),
    ],
)
def test_arguments_of_a_network_that_are_wrong(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"scaling": scaling("mup", 2), "width": 8, "n_inputs": 2, "n_outputs": 1, "seed": 0}
    arguments |= change
    with pytest.raises(error, match=message):
        build_scaled_mlp(arguments.pop("scaling"), arguments.pop("width"), **arguments)


def test_arguments_of_an_optimizer_that_are_wrong() -> None:
    model = build_scaled_mlp(scaling("mup", 1), 8, n_inputs=2, n_outputs=1, seed=0)
    with pytest.raises(TypeError, match="build_scaled_mlp"):
        scaled_optimizer(build_mlp((3,), n_inputs=2, n_outputs=1, seed=0), learning_rate=0.1)  # type: ignore[arg-type]
    for name in ("learning_rate", "first_learning_rate"):
        rates: dict[str, Any] = {"learning_rate": 0.1} | {name: 0.0}
        with pytest.raises(ValueError, match=name):
            scaled_optimizer(model, **rates)
    with pytest.raises(ValueError, match="optimizer"):
        scaled_optimizer(model, learning_rate=0.1, optimizer="muon")  # type: ignore[arg-type]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("name", ["ip-llr", "mup", "hp", "ip-bias", "ntk"])
def test_calibrated_first_step_changes_activations_by_the_size(name: str, optimizer: Any) -> None:
    model = build_scaled_mlp(scaling(name, 3), 80, n_inputs=6, n_outputs=3, seed=3)
    x, labels = torch.tensor(X), torch.tensor([0, 1, 2, 1, 1])
    before = arrays([*model.weights, *model.biases])
    rate = calibrate_first_step(model, X, labels.numpy(), size=0.7, optimizer=optimizer)
    for start, parameter in zip(before, [*model.weights, *model.biases], strict=True):
        np.testing.assert_array_equal(parameter.detach(), start)
    twin = build_scaled_mlp(scaling(name, 3), 80, n_inputs=6, n_outputs=3, seed=3)
    if name == "hp":
        for weight in twin.weights[1:-1]:
            torch.nn.init.zeros_(weight)
    standing = twin.preactivations(x)[-2].detach()
    steps = scaled_optimizer(model, learning_rate=1.0, first_learning_rate=rate, optimizer=optimizer)
    torch.nn.functional.cross_entropy(model(x), labels).backward()
    steps.step()
    change = (model.preactivations(x)[-2].detach() - standing).square().mean().sqrt().item()
    assert change == pytest.approx(0.7, rel=2e-3)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("name", ["ip-llr", "mup", "hp", "ip-bias", "ntk"])
def test_first_step_calibrated_layer_by_layer(name: str, optimizer: Any) -> None:
    model = build_scaled_mlp(scaling(name, 3), 80, n_inputs=6, n_outputs=3, seed=3)
    labels = torch.tensor([0, 1, 2, 1, 1])
    sizes = (0.3, 0.7, 1.1, 0.1)
    start = [parameter.detach().clone() for parameter in [*model.weights, *model.biases]]
    rates = calibrate_first_step(model, X, labels.numpy(), size=sizes, optimizer=optimizer)
    for before, parameter in zip(start, [*model.weights, *model.biases], strict=True):
        np.testing.assert_array_equal(parameter.detach(), before)
    steps = scaled_optimizer(model, learning_rate=1.0, first_learning_rate=rates, optimizer=optimizer)
    torch.nn.functional.cross_entropy(model(torch.tensor(X)), labels).backward()
    steps.step()
    entering = X
    for layer, (weight, size) in enumerate(zip(model.weights, sizes, strict=True)):
        kept = 0.0 if name == "hp" and 0 < layer < 3 else start[layer]
        added = entering @ (weight.detach() - kept).numpy().T * 80.0 ** -float(model.scaling.a[layer])
        if len(model.biases) > 0:
            moved = (model.biases[layer].detach() - start[4 + layer]).numpy()
            added = added + moved * 80.0 ** -float(model.scaling.bias_a[layer])
        assert np.sqrt(np.mean(added**2)) == pytest.approx(size, rel=2e-3)
        entering = np.maximum(model.preactivations(torch.tensor(X))[layer].detach().numpy(), 0.0)


def test_arguments_of_the_calibration_that_are_wrong() -> None:
    model = build_scaled_mlp(scaling("mup", 1), 8, n_inputs=6, n_outputs=3, seed=0)
    labels = [0, 1, 2, 1, 1]
    with pytest.raises(TypeError, match="model must be a network from"):
        calibrate_first_step(torch.nn.Linear(6, 3), X, labels)
    with pytest.raises(ValueError, match="size must be positive"):
        calibrate_first_step(model, X, labels, size=0.0)
    scalar: Any = np.array(0.5)
    assert calibrate_first_step(model, X, labels, size=scalar) == calibrate_first_step(model, X, labels, size=0.5)
    rates = scaled_optimizer(model, learning_rate=1.0, first_learning_rate=scalar).learning_rates()
    assert rates == [0.5, 0.5]
    with pytest.raises(ValueError, match=r"size\[1\] must be positive"):
        calibrate_first_step(model, X, labels, size=(1.0, -1.0))
    with pytest.raises(ValueError, match="size must hold 2 numbers"):
        calibrate_first_step(model, X, labels, size=(1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="first_learning_rate must be a number or one for each of 2 layers"):
        scaled_optimizer(model, learning_rate=1.0, first_learning_rate=(1.0, 2.0, 3.0))
    with pytest.raises(ValueError, match="x must have the 6 features"):
        calibrate_first_step(model, X[:, :4], labels)
    for wrong in ([0, 1], [0, 1, 2, 3, 1], [0, -1, 2, 1, 1], [0.0, 1.0, 2.0, 1.0, 1.0]):
        with pytest.raises(ValueError, match="y must hold 5 integers from 0 to 2"):
            calibrate_first_step(model, X, wrong)
    with pytest.raises(ValueError, match="within reach"):
        calibrate_first_step(model, 0.0 * X, labels)
    with pytest.raises(ValueError, match=r"within reach of a step, got 1\.0 for layer 1"):
        calibrate_first_step(model, 0.0 * X, labels, size=(1.0, 1.0))
