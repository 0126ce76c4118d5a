"""Features of modules, against forward passes written out; the module is left as it was."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import wideangle as wa
from wideangle.reference.features import extract_features

torch = pytest.importorskip("torch")
nn = torch.nn

X = np.random.default_rng(0).normal(size=(23, 6)).astype(np.float32)


def perceptron(*, bias: bool = True, inplace: bool = False) -> Any:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 8),
        nn.ReLU(inplace),
        nn.Linear(8, 5),
        nn.ReLU(inplace),
        nn.Dropout(0.5),
        nn.Linear(5, 3, bias=bias),
    )


class Convolutional(nn.Module):  # type: ignore[misc, name-defined]
    """Convolution, batch normalisation, pooling, readout; the blocks have names."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.unused = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.pool(self.body(x)).flatten(1))


def images(n: int = 7) -> Any:
    return np.random.default_rng(1).normal(loc=2.0, size=(n, 2, 6, 6)).astype(np.float32)


def by_hand(model: Any, x: Any = X) -> tuple[Any, Any]:
    """Return the two hidden layers in NumPy and float64."""
    w1, b1, w2, b2 = (p.detach().numpy().astype(np.float64) for p in list(model.parameters())[:4])
    hidden = np.maximum(x @ w1.T + b1, 0.0)
    return hidden, hidden @ w2.T + b2


def state(model: Any) -> tuple[Any, ...]:
    return (
        [part.training for part in model.modules()],
        {name: value.clone() for name, value in model.state_dict().items()},
        [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules()],
        [id(value) for value in model.state_dict(keep_vars=True).values()],
        [p.requires_grad for p in model.parameters()],
        torch.is_grad_enabled(),
        torch.get_num_threads(),
    )


def assert_unchanged(before: tuple[Any, ...], model: Any) -> None:
    after = state(model)
    for name, value in before[1].items():
        assert torch.equal(value, after[1][name]), name
    assert before[0] == after[0]
    assert before[2:] == after[2:]
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("batch_size", [1, 10, 23, 1000])
def test_last_hidden_layer_and_its_readout(batch_size: int) -> None:
    model = perceptron()
    dataset = extract_features(model, X, batch_size=batch_size)
    expected = np.maximum(by_hand(model)[1], 0.0)
    assert dataset.features.dims == ("sample", "neuron")
    assert dataset.features.dtype == np.float32
    np.testing.assert_allclose(dataset.features, expected, atol=1e-6)
    assert dataset.readout.dims == ("class", "neuron")
    assert dataset.bias.dims == ("class",)
    outputs = dataset.features.values @ dataset.readout.values.T + dataset.bias.values
    np.testing.assert_allclose(outputs, model.eval()(torch.tensor(X)).detach(), atol=1e-6)
    assert "targets" not in dataset
    assert dataset.attrs["readout_layer"] == "5"
    assert dataset.attrs["layer"] == "last"


def test_results_share_no_memory_with_the_module() -> None:
    model = perceptron()
    dataset = extract_features(model, X)
    before = dataset.copy(deep=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    xr.testing.assert_identical(dataset, before)


def test_no_bias_without_one() -> None:
    assert set(extract_features(perceptron(bias=False), X).data_vars) == {"features", "readout"}


@pytest.mark.parametrize("inplace", [False, True])
def test_named_layer_and_submodule(inplace: bool) -> None:
    # With layers that work in place, what left the layer is overwritten by the next.
    model = perceptron(inplace=inplace)
    for layer in ("2", model[2]):
        dataset = extract_features(model, X, layer)
        np.testing.assert_allclose(dataset.features, by_hand(model)[1], atol=1e-6)
        assert set(dataset.data_vars) == {"features"}
        assert dataset.attrs["layer"] == "2"
    np.testing.assert_allclose(extract_features(model, X, model).features, model.eval()(torch.tensor(X)).detach())


def test_a_submodule_called_last_is_given_itself() -> None:
    model = nn.Sequential()
    model.add_module("first", nn.Linear(6, 4))
    model.add_module("last", nn.Linear(4, 2))
    assert extract_features(model, X).sizes["neuron"] == 4
    assert extract_features(model, X, model.last).sizes["neuron"] == 2


def test_channels_of_pooled_maps_are_neurons() -> None:
    model, x = Convolutional(), images()
    pooled = extract_features(model, x, "pool")
    np.testing.assert_array_equal(pooled.features, extract_features(model, x).features)
    with torch.no_grad():
        expected = model.eval().body(torch.tensor(x)).mean(dim=(2, 3))
    np.testing.assert_allclose(pooled.features, expected, atol=1e-6)


def test_module_is_left_as_it_was() -> None:
    model, x = Convolutional(), images()
    model.train()
    model.unused.eval()
    before = state(model)
    extract_features(model, x)
    assert_unchanged(before, model)
    for wrong in ({"layer": "body"}, {"layer": "unused"}, {"data": x[:, :1]}):
        with pytest.raises(ValueError, match=r"layer|data"):
            extract_features(model, wrong.get("data", x), wrong.get("layer", "last"))
        assert_unchanged(before, model)
    # It can still be trained.
    model(torch.tensor(x)).sum().backward()


def test_hooks_of_the_user_stay() -> None:
    model, calls = perceptron(), []
    model[2].register_forward_hook(lambda *_: calls.append(1))
    extract_features(model, X, "2")
    model(torch.tensor(X))
    assert len(calls) == 2


def test_buffers_that_change_in_evaluation_mode_are_restored() -> None:
    class Counting(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 2)
            self.register_buffer("mean", torch.zeros(6))
            self.register_buffer("variance", torch.ones(6))
            self.count: Any
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x: Any) -> Any:
            self.count = self.count + 1
            return self.linear(nn.functional.batch_norm(x, self.mean, self.variance, training=True))

    model = Counting()
    before = state(model)
    extract_features(model, X)
    assert_unchanged(before, model)


def test_caches_made_in_the_call_can_be_trained_with() -> None:
    class Caching(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.cache = nn.Linear(6, 2), None

        def forward(self, x: Any) -> Any:
            if self.cache is None:
                self.cache = torch.ones(6)
            return self.linear(x) * (self.linear.weight * self.cache).sum()

    model = Caching()
    extract_features(model, X)
    model(torch.tensor(X)).sum().backward()


def test_modules_that_act_on_a_change_of_mode_hear_of_the_return() -> None:
    class Merging(nn.Linear):  # type: ignore[misc, name-defined]
        merged = False

        def train(self, mode: bool = True) -> Any:
            self.merged = not mode
            return super().train(mode)

    model = nn.Sequential(nn.Linear(6, 4), Merging(4, 2))
    extract_features(model, X)
    assert not model[1].merged


def test_labelled_data_by_part() -> None:
    x, y = np.random.default_rng(2).normal(size=(30, 6)), np.arange(30) % 3
    data = wa.data.LabelledData(x[:20], y[:20], x[20:], y[20:], name="noise")
    model = perceptron()
    for part, features, labels in (("test", data.x_test, y[20:]), ("train", data.x_train, y[:20])):
        dataset = extract_features(model, data, part=part)  # type: ignore[arg-type]
        np.testing.assert_array_equal(dataset.features, extract_features(model, features).features)
        np.testing.assert_array_equal(dataset.targets, labels)
        assert dataset.attrs["part"] == part
        assert dataset.attrs["data"] == "noise"
    assert extract_features(model, data).sizes["sample"] == 10


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.astype(np.float64),
        lambda x: x.astype(">f4"),
        lambda x: x.astype(">f8"),
        np.asfortranarray,
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        lambda x: x[::-1][::-1],
        lambda x: x.tolist(),
        lambda x: torch.tensor(x),
        lambda x: torch.tensor(x, dtype=torch.float64, requires_grad=True),
    ],
)
def test_kinds_of_data(change: Callable[[Any], Any]) -> None:
    model = perceptron()
    np.testing.assert_array_equal(extract_features(model, change(X)).features, extract_features(model, X).features)


def test_read_only_data_and_other_precisions() -> None:
    x = X.copy()
    x.flags.writeable = False
    model = perceptron()
    assert extract_features(model.double(), x).features.dtype == np.float64
    rough = extract_features(model.bfloat16(), x)
    assert rough.features.dtype == rough.readout.dtype == np.float32
    np.testing.assert_array_equal(
        extract_features(perceptron(), x.astype(np.float16)).features,
        extract_features(perceptron(), x.astype(np.float16).astype(np.float32)).features,
    )


def test_indices_stay_integers() -> None:
    model = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(8, 2))
    x = np.array([[1, 2], [3, 8], [0, 0]])
    expected = model[0].weight.detach().numpy()[x].reshape(3, 8)
    np.testing.assert_array_equal(extract_features(model, x).features, expected)


def test_values_that_are_not_finite_stay() -> None:
    x = X.copy()
    x[3] = np.nan
    features = extract_features(perceptron(), x).features.values
    np.testing.assert_array_equal(np.isnan(features).all(axis=1), np.arange(23) == 3)


def test_threads_during_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = perceptron(), []
    model.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    extract_features(model, X, n_threads=3)
    assert seen == [3]
    assert torch.get_num_threads() == before


def test_attributes_go_to_files(tmp_path: Path) -> None:
    dataset = extract_features(perceptron(), X)
    dataset.to_netcdf(tmp_path / "features.nc", engine="h5netcdf")
    assert dataset.attrs["function"] == "wideangle.representation.extract_features"


class Twice(nn.Module):  # type: ignore[misc, name-defined]
    """One layer in two places, a layer of two outputs, and a layer without use."""

    def __init__(self) -> None:
        super().__init__()
        self.square, self.lstm, self.unused = nn.Linear(6, 6), nn.LSTM(6, 4), nn.Linear(6, 6)
        self.count = nn.Identity()

    def forward(self, x: Any) -> Any:
        self.count(torch.ones(len(x), 2, dtype=torch.int64))
        return self.lstm(self.square(self.square(x)))[0]


class Switching(nn.Module):  # type: ignore[misc, name-defined]
    """Another readout for inputs of another sign."""

    def __init__(self) -> None:
        super().__init__()
        self.plus, self.minus = nn.Linear(6, 2), nn.Linear(6, 2)

    def forward(self, x: Any) -> Any:
        return self.plus(x) if x.sum() > 0 else self.minus(x)


@pytest.mark.parametrize(
    ("model", "layer", "error", "message"),
    [
        (Convolutional, "bodi", ValueError, "got 'bodi'; close to it are 'body'"),
        (Convolutional, "zzz", ValueError, "give one of 'body', 'body.0'"),
        (Convolutional, 3, TypeError, "must be the name of a submodule.*got 3"),
        (Convolutional, nn.Linear(1, 1), ValueError, "must be a submodule of module"),
        (Convolutional, "unused", ValueError, "'unused' must run in a forward pass"),
        (Convolutional, "body", ValueError, r"output of layer 'body'.*got \(7, 4, 4, 4\) for 7.*after pooling"),
        (lambda: nn.Conv2d(2, 1, 3), "last", ValueError, "module has none"),
        (lambda: nn.Linear(6, 2), "last", ValueError, r"input of the last Linear layer ''.*got \(7, 2, 6, 6\)"),
        (lambda: nn.LazyLinear(2), "last", ValueError, "must have values in all its parameters"),
        (lambda: nn.Linear(6, 2, device="meta"), "last", ValueError, "must have values in all its parameters"),
        (lambda: nn.Linear(5, 2), "last", ValueError, r"must take data of shape \(7, 2, 6, 6\).*failed with"),
        (lambda: "net", "last", TypeError, r"module must be a torch.nn.Module, got str"),
    ],
)
def test_errors_of_modules_and_layers(model: Any, layer: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        extract_features(model(), images(), layer)


@pytest.mark.parametrize(
    ("layer", "error", "message"),
    [
        ("square", ValueError, "'square' must run once in a forward pass, ran 2 times"),
        ("last", ValueError, "'square' must run once"),
        ("lstm", TypeError, "must be a tensor of floating-point numbers, got tuple"),
        ("count", TypeError, "got torch.int64"),
    ],
)
def test_errors_of_layers_that_ran(layer: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        extract_features(Twice(), X, layer)


def test_the_last_layer_is_one_for_all_samples() -> None:
    x = np.ones((4, 6), dtype=np.float32)
    x[2:] = -1.0
    with pytest.raises(ValueError, match="must be the same for all samples, was 'plus' and then 'minus'"):
        extract_features(Switching(), x, batch_size=2)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (X.astype(complex), TypeError, "must hold real numbers"),
        (torch.tensor(X.astype(np.complex64)), TypeError, "real numbers"),
        (torch.tensor(X).to_sparse(), TypeError, "dense tensor"),
        (["a"], TypeError, "must hold real numbers"),
        (None, TypeError, "must hold real numbers"),
        (X[:0], ValueError, "must not be empty"),
        (torch.tensor(X[:0]), ValueError, "must have a sample or more"),
        (1.0, ValueError, "dimension"),
        (X[:, :5], ValueError, r"must take data of shape \(23, 5\)"),
        (X[0], ValueError, r"got \(5,\) for 6"),
        (X.astype(np.int64), ValueError, "must take data.*int64, failed with.*floating-point"),
    ],
)
def test_errors_of_data(data: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        extract_features(perceptron(), data)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"part": "validation"}, ValueError, "part must be one of 'test', 'train'"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"batch_size": 2.5}, TypeError, "batch_size"),
        ({"n_threads": 0}, ValueError, "n_threads"),
        ({"n_threads": None}, TypeError, "n_threads"),
    ],
)
def test_errors_of_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        extract_features(perceptron(), X, **arguments)


def test_a_copy_of_the_module_gives_the_same() -> None:
    model = Convolutional()
    first = extract_features(model, images())
    xr.testing.assert_identical(first, extract_features(copy.deepcopy(model), images()))
