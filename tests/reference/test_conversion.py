"""Weights to PyTorch and back: the same numbers, the same function, and a module that trains."""

from __future__ import annotations

import itertools
import pickle
import sys
from typing import Any

import numpy as np
import pytest

import wideangle as wa
from wideangle.activations import ACTIVATIONS

torch = pytest.importorskip("torch")
nn = torch.nn


def draw(*sizes: int, dtype: str = "float64", seed: int = 0) -> tuple[list[Any], list[Any]]:
    rng = np.random.default_rng(seed)
    weights = [rng.normal(size=(b, a)).astype(dtype) for a, b in itertools.pairwise(sizes)]
    return weights, [rng.normal(size=size).astype(dtype) for size in sizes[1:]]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [*ACTIVATIONS, "leaky_relu(0.3)"])
def test_module_computes_what_the_sweep_computes(name: str, dtype: str) -> None:
    weights, biases = draw(5, 20, 20, 3)
    model = wa.reference.to_torch(weights, biases=biases, activation=name, dtype=dtype)
    x = np.random.default_rng(1).normal(size=(7, 5)).astype(dtype)
    with torch.no_grad():
        expected = model(torch.tensor(x)).numpy()
    found = wa.propagation.forward(model, x).outputs.values
    # 60 roundings of sums of some hundred in size.
    np.testing.assert_allclose(found, expected, rtol=0, atol=6000 * float(np.finfo(dtype).eps))
    assert found.dtype == expected.dtype == dtype


@pytest.mark.parametrize("name", [*ACTIVATIONS, "leaky_relu(0.3)"])
def test_there_and_back(name: str) -> None:
    weights, biases = draw(5, 6, 3)
    for given in (biases, [None, biases[1]], None):
        network = wa.NetworkWeights(weights, biases=given, activation=name)
        back = wa.reference.from_torch(wa.reference.to_torch(network))
        assert back.activation == network.activation
        for matrix, matrix_back in zip(network.weights, back.weights, strict=True):
            np.testing.assert_array_equal(matrix, matrix_back)
        assert (back.biases is None) == (given is None)
        for vector, vector_back in zip(network.biases or (), back.biases or (), strict=True):
            np.testing.assert_array_equal(vector, vector_back)


def test_activations_by_layer_there_and_back() -> None:
    weights, _ = draw(5, 6, 3)
    for names in (("tanh", "relu"), ("linear", "abs")):
        network = wa.NetworkWeights(weights, activation=names)
        assert network.activation == names
        assert wa.reference.from_torch(wa.reference.to_torch(network)).activation == names


def test_parameters_are_copies_that_train() -> None:
    weights, biases = draw(3, 8, 1, dtype="float32")
    before = [array.copy() for array in (*weights, *biases)]
    state = torch.get_rng_state()
    model: Any = wa.reference.to_torch(weights, biases=biases, activation="gelu")
    assert torch.equal(torch.get_rng_state(), state)
    x = torch.linspace(-1, 1, 30).reshape(10, 3)
    target = x.sum(1, keepdim=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(50):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    for array, kept in zip((*weights, *biases), before, strict=True):
        np.testing.assert_array_equal(array, kept)
    # What is read shares the memory of the parameters.
    network = wa.reference.from_torch(model)
    expected = model(x).detach().numpy()
    np.testing.assert_allclose(wa.propagation.forward(network, x.numpy()).outputs, expected, atol=1e-5)
    with torch.no_grad():
        model[0].weight[0, 0] = 17.0
    assert network.weights[0][0, 0] == 17.0


@pytest.mark.parametrize("name", ["abs", "erf", "sin"])
def test_modules_can_be_pickled(name: str) -> None:
    weights, _ = draw(3, 4, 2)
    model = wa.reference.to_torch(weights, activation=name)
    again = pickle.loads(pickle.dumps(model))
    x = torch.ones(2, 3, dtype=torch.float64)
    assert torch.equal(model(x), again(x))


def test_forms_of_modules() -> None:
    linear = nn.Linear(3, 4)
    assert wa.reference.from_torch(linear).sizes == (3, 4)
    nested = nn.Sequential(
        nn.Flatten(), nn.Sequential(linear, nn.LeakyReLU(0.2)), nn.Identity(), nn.Dropout(0.5).eval(), nn.Linear(4, 2)
    )
    network = wa.reference.from_torch(nested)
    assert network.activation == "leaky_relu(0.2)"
    half = wa.reference.from_torch(nn.Linear(3, 4).to(torch.bfloat16))
    assert half.dtype == np.float32
    ending = wa.reference.from_torch(nn.Sequential(nn.Linear(3, 4), nn.Tanh()))
    assert ending.activation == ("tanh",)
    several = wa.reference.from_torch([nn.Linear(3, 4), nn.Linear(3, 4)])
    assert (several.n_networks, several.sizes) == (2, (3, 4))
    assert several.biases is not None
    assert several.biases[0] is not None
    assert several.biases[0].shape == (2, 4)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(nn.Linear(2, 3), nn.Softplus(), nn.Linear(3, 1)), r"module\[1\].*Softplus"),
        (nn.Sequential(nn.Linear(2, 3), nn.GELU(approximate="tanh")), r"module\[1\].*GELU"),
        (nn.Sequential(nn.Linear(2, 3), nn.ELU(alpha=2.0)), r"module\[1\].*ELU"),
        (nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.BatchNorm1d(3))), r"module\[1\]\[0\].*BatchNorm"),
        (nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5)), r"module\[1\].*Dropout"),
        (nn.Sequential(nn.ReLU(), nn.Linear(2, 3)), r"module\[0\].*after a Linear"),
        (nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Tanh()), r"module\[2\].*after a Linear"),
        (nn.Sequential(), "at least one Linear"),
        ([], "at least one module"),
        (3, "torch.nn.Module"),
        ([nn.Linear(2, 3), nn.Linear(2, 4)], r"modules\[1\] must be like modules\[0\]"),
        ([nn.Linear(2, 3), nn.Linear(2, 3, bias=False)], r"modules\[1\] must be like modules\[0\]"),
        (nn.Sequential(nn.Linear(2, 3), nn.Linear(2, 3)), r"weights\[1\]"),
    ],
)
def test_modules_that_cannot_be_read_are_named(module: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        wa.reference.from_torch(module)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": [np.ones((2, 3, 4))]}, "one network"),
        ({"weights": []}, "weights"),
        ({"dtype": "float16"}, "dtype"),
        ({"dtype": "nonsense"}, "dtype"),
        ({"activation": "softmax"}, "activation"),
        ({"biases": [np.ones(5)]}, "biases"),
        ({"weights": wa.NetworkWeights([np.ones((3, 2))]), "activation": "relu"}, "activation must be None"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        wa.reference.to_torch(**{"weights": [np.ones((3, 2))], **arguments})


def test_without_torch_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for call in (lambda: wa.reference.to_torch([np.ones((3, 2))]), lambda: wa.reference.from_torch(nn.Linear(2, 3))):
        with pytest.raises(ImportError, match=r'pip install "wideangle\[reference\]"'):
            call()
