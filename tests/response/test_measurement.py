"""Responses of PyTorch modules against gradients taken one at a time, steps by hand, and the compiled ensemble."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import wideangle as wa
from wideangle.losses import LOSSES
from wideangle.response import measure

RANDOM = np.random.default_rng(5)
X, PROBES = RANDOM.normal(size=(5, 4)), RANDOM.normal(size=(7, 4))
SIGNS, CLASSES = np.array([1, -1, 1, 1, -1]), np.array([0, 2, 1, 1, 2])


def sgd(rate: float = 0.1) -> Callable[[Any], torch.optim.Optimizer]:
    return lambda parameters: torch.optim.SGD(parameters, lr=rate)


def dense(n_outputs: int = 1, n_inputs: int = 4) -> Any:
    torch.manual_seed(1)
    layers = [torch.nn.Linear(n_inputs, 20), torch.nn.Tanh(), torch.nn.Linear(20, n_outputs)]
    return torch.nn.Sequential(*layers).double()


def normalised() -> Any:
    torch.manual_seed(2)
    layers = [torch.nn.Linear(4, 8), torch.nn.LayerNorm(8), torch.nn.GELU(), torch.nn.Linear(8, 3)]
    return torch.nn.Sequential(*layers).double()


def convolutional() -> Any:
    torch.manual_seed(3)
    layers = [torch.nn.Conv1d(1, 5, 2), torch.nn.GroupNorm(1, 5), torch.nn.ReLU(), torch.nn.Conv1d(5, 3, 2)]
    return torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 4)), *layers, torch.nn.AdaptiveAvgPool1d(1), torch.nn.Flatten()
    ).double()


def gradients(module: Any, x: Any) -> list[list[list[Any]]]:
    """Gradients [sample][output][parameter], one at a time."""
    parameters = list(module.parameters())
    rows = [module(torch.tensor(sample)[None]).reshape(-1) for sample in x]
    return [[list(torch.autograd.grad(f, parameters, retain_graph=True)) for f in outputs] for outputs in rows]


def explicit(module: Any, x: Any, derivative: Any, n_readout: int) -> dict[str, Any]:
    """Response and factors at the probes from loops over samples, outputs and parameters."""
    at_x, at_probes = gradients(module, x), gradients(module, PROBES)
    n, m, c = len(x), len(PROBES), derivative.shape[1]

    def block(one: Any, other: Any, keep: Callable[[int], bool]) -> Any:
        places = [place for place in range(len(one[0])) if keep(place)]
        return np.array(
            [[sum(float((one[a][p] * other[b][p]).sum()) for p in places) for b in range(c)] for a in range(c)]
        )

    last = len(list(module.parameters())) - n_readout
    found = {
        "response": np.empty((n, m, c)),
        "readout_part": np.empty((n, m)),
        "hidden_part": np.empty((n, m)),
        "amplitude": np.empty(n),
    }
    for i, j in itertools.product(range(n), range(m)):
        size = np.linalg.norm(derivative[i])
        u = derivative[i] / size
        readout = block(at_probes[j], at_x[i], lambda place: place >= last)
        hidden = block(at_probes[j], at_x[i], lambda place: place < last)
        found["response"][i, j] = -(readout + hidden) @ derivative[i]
        found["readout_part"][i, j], found["hidden_part"][i, j] = u @ readout @ u, u @ hidden @ u
        found["amplitude"][i] = size * (u @ block(at_x[i], at_x[i], lambda _: True) @ u)
    found["kernel"] = found["readout_part"] + found["hidden_part"]
    found["shape"] = found["kernel"] * np.linalg.norm(derivative, axis=1)[:, None] / found["amplitude"][:, None]
    return found


@pytest.mark.parametrize("make", [lambda: dense(3), normalised, convolutional])
@pytest.mark.parametrize("loss", ["cross-entropy", "squared"])
def test_several_outputs_against_gradients_one_at_a_time(make: Callable[[], Any], loss: str) -> None:
    module = make()
    run = measure(module, X, PROBES, sgd(), [0, 3], y_train=CLASSES, loss=loss, in_place=True)
    outputs = module(torch.tensor(X)).detach().numpy()
    shares = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True) if loss == "cross-entropy" else outputs
    derivative = shares - np.eye(3)[CLASSES]
    after = run.isel(time=1)
    np.testing.assert_allclose(after.outputs, outputs, rtol=1e-13)
    np.testing.assert_allclose(after.loss_derivative, derivative, rtol=1e-12)
    for name, expected in explicit(module, X, derivative, 2).items():
        np.testing.assert_allclose(after[name], expected, rtol=1e-10, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("loss", LOSSES)
def test_one_output_by_central_differences(loss: str) -> None:
    module = dense()
    y = SIGNS if loss != "squared" else np.linspace(-2, 2, 5)
    values: dict[str, Callable[[Any], Any]] = {
        "cross-entropy": lambda f: np.log1p(np.exp(-y * f)),
        "hinge": lambda f: np.maximum(0.0, 1.0 - y * f),
        "squared": lambda f: (f - y) ** 2 / 2,
        "exponential": lambda f: np.exp(-y * f),
    }
    run = measure(module, X, PROBES, sgd(), [2], y_train=y, loss=loss, in_place=True).isel(time=0)
    f, h = run.outputs.values, 1e-5
    np.testing.assert_allclose(f, module(torch.tensor(X)).detach().numpy()[:, 0], rtol=1e-13)
    np.testing.assert_allclose(run.loss, values[loss](f).mean(), rtol=1e-12)
    slope = (values[loss](f + h) - values[loss](f - h)) / (2 * h)
    np.testing.assert_allclose(run.loss_derivative, slope, rtol=1e-8, atol=1e-9)
    flat = torch.nn.utils.parameters_to_vector(module.parameters()).detach()

    def outputs_at(parameters: Any, x: Any) -> Any:
        torch.nn.utils.vector_to_parameters(parameters, module.parameters())
        return module(torch.tensor(x)).detach().numpy()[:, 0]

    for i, row in enumerate(gradients(module, X)):
        along = torch.cat([part.reshape(-1) for part in row[0]]) * float(-slope[i])
        difference = outputs_at(flat + h * along, PROBES) - outputs_at(flat - h * along, PROBES)
        np.testing.assert_allclose(run.response[i], difference / (2 * h), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("loss", ["cross-entropy", "squared"])
def test_steps_are_taken_and_taken_back(loss: str) -> None:
    rate = 0.3
    for module, y in ((dense(), SIGNS), (dense(3), CLASSES)):
        run = measure(module, X, PROBES, sgd(), [0], y_train=y, loss=loss, kind="step", learning_rate=rate)
        criterion: Any = torch.nn.CrossEntropyLoss() if loss == "cross-entropy" else torch.nn.MSELoss(reduction="sum")
        for i, sample in enumerate(X):
            model = dense(1 if y is SIGNS else 3)
            optimizer = torch.optim.SGD(model.parameters(), lr=rate if loss == "cross-entropy" else rate / 2)
            before, own = (model(torch.tensor(x)).detach().numpy() for x in (PROBES, sample[None]))
            f, target = model(torch.tensor(sample[None])), torch.tensor(y[i : i + 1])
            if y is SIGNS:
                value = (
                    torch.log1p(torch.exp(-target * f)).sum() if loss == "cross-entropy" else criterion(f[0], target)
                )
            elif loss == "cross-entropy":
                value = criterion(f, target)
            else:
                value = criterion(f, torch.nn.functional.one_hot(target, 3).double())
            value.backward()
            optimizer.step()
            change = (model(torch.tensor(PROBES)).detach().numpy() - before) / rate
            at_own = (model(torch.tensor(sample[None])).detach().numpy() - own)[0] / rate
            response = run.response[0, i].values.reshape(change.shape)
            np.testing.assert_allclose(response, change, rtol=1e-10, atol=1e-13)
            derivative = run.loss_derivative[0, i].values.reshape(-1)
            u = derivative / np.linalg.norm(derivative)
            np.testing.assert_allclose(run.amplitude[0, i], abs(at_own @ u), rtol=1e-10)
            np.testing.assert_allclose(run["shape"][0, i], change @ u / (at_own @ u), rtol=1e-9)


def test_small_steps_respond_as_the_kernel() -> None:
    by_kernel = measure(dense(3), X, PROBES, sgd(), [0, 20], y_train=CLASSES)
    errors = []
    for rate in (1e-3, 1e-4):
        by_steps = measure(
            dense(3), X, PROBES, sgd(), [0, 20], y_train=CLASSES, kind="step", learning_rate=rate
        ).assign_coords(time=by_kernel.time)
        errors.append(
            np.array([abs(by_steps[name] - by_kernel[name]).max() for name in ("response", "amplitude", "shape")])
        )
        xr.testing.assert_equal(by_steps.kernel, by_kernel.kernel)
    np.testing.assert_allclose(errors[0] / errors[1], 10.0, rtol=0.05)


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
@pytest.mark.parametrize("kind", ["kernel", "step"])
def test_as_the_compiled_ensemble(activation: str, kind: str) -> None:
    net = wa.MLP((20,), activation=activation, bias_variance=0.5)
    x, probes = X[:, :2].copy(), PROBES[:, :2].copy()
    state = wa.response.simulate_training(
        net, (x, SIGNS), n_networks=1, n_steps=30, learning_rate=0.1, seed=3, record=(0, 10, 30)
    )
    of_ensemble = wa.response.training_response(state, x, probes, kind=kind, learning_rate=0.01).isel(network=0)
    start = state.isel(network=0, time=0)
    module = wa.reference.to_torch(
        [start.weights_1.values, start.weights_2.values],
        biases=[start.biases_1.values, start.biases_2.values],
        activation=activation,
    )
    run = measure(module, x, probes, sgd(), [0, 10, 30], y_train=SIGNS, kind=kind, learning_rate=0.01)
    np.testing.assert_array_equal(run.step, state.step)
    for name in ("response", "kernel", "readout_part", "hidden_part", "loss_derivative", "amplitude", "shape"):
        assert run[name].dims == of_ensemble[name].dims
        # The change of an output by a step of 0.01 loses two digits against that output, in the module.
        np.testing.assert_allclose(run[name], of_ensemble[name], rtol=1e-10, atol=1e-11, err_msg=name)
    np.testing.assert_allclose(run.loss, state.loss[0], rtol=1e-11)


@pytest.mark.parametrize(
    "factory",
    [
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-3),
        lambda p: torch.optim.Adam(p, lr=0.01),
    ],
)
def test_any_optimizer_trains(factory: Callable[[Any], torch.optim.Optimizer]) -> None:
    module, other = dense(3), dense(3)
    run = measure(module, X, PROBES, factory, [0, 7], y_train=CLASSES, in_place=True)
    optimizer = factory(list(other.parameters()))
    for _ in range(7):
        optimizer.zero_grad()
        torch.autograd.backward(torch.nn.functional.cross_entropy(other(torch.tensor(X)), torch.tensor(CLASSES)))
        optimizer.step()
    np.testing.assert_allclose(run.probe_outputs[1], other(torch.tensor(PROBES)).detach(), rtol=1e-12)
    np.testing.assert_allclose(run.time, run.step * optimizer.param_groups[0]["lr"])


def test_batches_meet_every_sample_once_in_an_epoch() -> None:
    # Orthogonal inputs: each weight is moved by one sample alone, a quarter of the way for each step that has it.
    module = torch.nn.Linear(6, 1, bias=False).double()
    torch.nn.init.zeros_(module.weight)
    x, y = np.eye(6), np.arange(1.0, 7.0)
    runs = [
        measure(module, x, x, sgd(0.5), range(7), y_train=y, loss="squared", batch=2, seed=seed) for seed in (0, 0, 1)
    ]
    outputs = runs[0].outputs.values
    np.testing.assert_allclose(outputs[3], 0.25 * y)
    np.testing.assert_allclose(outputs[6], (1 - 0.75**2) * y)
    assert [np.count_nonzero(row) for row in outputs[:4]] == [0, 2, 4, 6]
    np.testing.assert_array_equal(runs[1].outputs, outputs)
    assert np.any(runs[2].outputs != outputs)
    last = measure(module, x[:5], x, sgd(0.5), range(4), y_train=y[:5], loss="squared", batch=2)
    np.testing.assert_allclose(last.outputs[3] / y[:5], np.where(last.outputs[2] == 0, 0.5, 0.25))


def test_what_is_not_trained_is_no_part() -> None:
    whole = measure(dense(), X, PROBES, sgd(), [0], y_train=SIGNS)
    frozen = dense()
    frozen[2].requires_grad_(False)
    hidden = measure(frozen, X, PROBES, sgd(), [0], y_train=SIGNS)
    left_out = measure(dense(), X, PROBES, lambda p: torch.optim.SGD(p[2:], lr=0.1), [0], y_train=SIGNS)
    np.testing.assert_allclose(hidden.kernel, whole.hidden_part, rtol=1e-14)
    np.testing.assert_allclose(left_out.kernel, whole.readout_part, rtol=1e-14)
    assert float(abs(hidden.readout_part).max()) == 0.0
    assert float(abs(left_out.hidden_part).max()) == 0.0
    assert (whole.attrs["readout"], hidden.attrs["readout"]) == ("2.bias, 2.weight", "")
    assert (left_out.attrs["trained"], left_out.attrs["readout"]) == ("2.weight, 2.bias", "2.bias, 2.weight")


class Tied(torch.nn.Module):
    """f(x) = 1 W^T tanh(W x), one matrix for both layers, and a scale of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.first, self.second = torch.nn.Linear(4, 4, bias=False), torch.nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight
        self.scale = torch.nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Any) -> Any:
        return self.scale * self.second(torch.tanh(self.first(x))).sum(dim=-1)


def test_shared_parameters_count_once_and_the_readout_can_be_named() -> None:
    module = Tied().double()
    parameters = list(module.parameters())
    assert len(parameters) == 2
    rows = [torch.autograd.grad(module(torch.tensor(x)[None])[0], parameters) for x in (X[0], PROBES[0])]
    of_scale, of_weight = (float((one * other).sum()) for one, other in zip(*rows, strict=True))
    if tuple(parameters[0].shape) == (4, 4):
        of_scale, of_weight = of_weight, of_scale
    by_default = measure(module, X, PROBES, sgd(), [0], y_train=SIGNS).isel(time=0, train=0, probe=0)
    named = measure(module, X, PROBES, sgd(), [0], y_train=SIGNS, readout="scale").isel(time=0, train=0, probe=0)
    none = measure(module, X, PROBES, sgd(), [0], y_train=SIGNS, readout=()).isel(time=0, train=0, probe=0)
    for run, readout, hidden in (
        (by_default, of_weight, of_scale),
        (named, of_scale, of_weight),
        (none, 0.0, of_scale + of_weight),
    ):
        np.testing.assert_allclose([run.readout_part, run.hidden_part], [readout, hidden], rtol=1e-12)


def test_targets_of_several_outputs() -> None:
    targets = RANDOM.normal(size=(5, 3))
    run = measure(dense(3), X, PROBES, sgd(), [0], y_train=targets, loss="squared")
    np.testing.assert_allclose(run.loss_derivative, run.outputs - targets, rtol=1e-13)


def test_confident_classes_keep_their_digits() -> None:
    module = torch.nn.Linear(2, 2, bias=False).double()
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[50.0, 0.0], [0.0, 800.0]]))
    run = measure(module, np.eye(2), np.eye(2), sgd(), [0], y_train=[0, 1]).isel(time=0)
    np.testing.assert_allclose(run.loss_derivative[0], np.exp(-50.0) * np.array([-1, 1]), rtol=1e-12)
    np.testing.assert_allclose(run.kernel[0], [1.0, 0.0], rtol=1e-12)
    np.testing.assert_allclose(run.response[0], [[np.exp(-50.0), -np.exp(-50.0)], [0, 0]], rtol=1e-12)
    # Of the other sample nothing is left in float64, and so no direction.
    assert np.isnan(run.kernel[1]).all()
    np.testing.assert_array_equal(run.response[1], 0.0)
    assert float(run.amplitude[1]) == 0.0


def test_divergence_is_a_status() -> None:
    fine = measure(dense(), X, PROBES, sgd(), [0, 3], y_train=SIGNS, loss="squared")
    assert (int(fine.status), int(fine.diverged_step)) == (0, -1)
    with np.errstate(over="ignore"):
        run = measure(dense(), X, PROBES, sgd(1e6), [0, 10_000], y_train=SIGNS, loss="squared")
    assert int(run.status) == 1
    assert 0 < int(run.diverged_step) < 1000
    assert np.isfinite(run.response[0]).all()
    assert np.isnan(run.response[1]).all()
    assert np.isnan(run.loss[1])


def test_aging_of_a_fixed_kernel() -> None:
    # A linear model: K stays as it is, and the squared loss on one sample falls by the same factor in every step.
    module = torch.nn.Linear(2, 1, bias=False).double()
    run = measure(module, [[1.0, 2.0]], [[0.5, 0.5]], sgd(0.01), [0, 1, 10], y_train=[3.0], loss="squared")
    np.testing.assert_allclose(run.kernel[:, 0, 0], 1.5, rtol=1e-14)
    np.testing.assert_allclose(run.amplitude[:, 0] / run.amplitude[0, 0], 0.95 ** np.array([0, 1, 10]), rtol=1e-12)
    np.testing.assert_allclose(run["shape"][:, 0, 0], 0.3, rtol=1e-12)
