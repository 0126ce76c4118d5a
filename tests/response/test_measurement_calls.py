"""What measure takes and leaves as it was: labels in any form, types, files, and what it refuses."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import wideangle as wa
from wideangle.response import measure

RANDOM = np.random.default_rng(5)
X, PROBES = RANDOM.normal(size=(5, 4)), RANDOM.normal(size=(7, 4))
SIGNS, CLASSES = np.array([1, -1, 1, 1, -1]), np.array([0, 2, 1, 1, 2])


def sgd(rate: float = 0.1) -> Callable[[Any], torch.optim.Optimizer]:
    return lambda parameters: torch.optim.SGD(parameters, lr=rate)


def dense(n_outputs: int = 1) -> Any:
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(4, 20), torch.nn.Tanh(), torch.nn.Linear(20, n_outputs)).double()


class Detached(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        return x.detach()


class WithoutGradient(torch.nn.Module):
    """Loses the gradient itself, after a part that keeps it."""

    def __init__(self, part: torch.nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Any) -> Any:
        return self.part(x).detach()


def labelled(y: Any) -> wa.data.LabelledData:
    return wa.data.LabelledData(X.astype("f4"), y, X.astype("f4"), y, name="points")


# ---- Labels


@pytest.mark.parametrize("make", [tuple, list, lambda pair: torch.utils.data.TensorDataset(*map(torch.tensor, pair))])
@pytest.mark.parametrize(("n_outputs", "loss"), [(1, "hinge"), (1, "squared"), (3, "cross-entropy"), (3, "squared")])
def test_labels_may_come_with_the_samples(make: Callable[[Any], Any], n_outputs: int, loss: str) -> None:
    y = SIGNS if n_outputs == 1 else CLASSES
    expected = measure(dense(n_outputs), X, PROBES, sgd(), [0, 3], y_train=y, loss=loss)
    xr.testing.assert_identical(measure(dense(n_outputs), make((X, y)), PROBES, sgd(), [0, 3], loss=loss), expected)
    if loss == "squared":
        targets = RANDOM.normal(size=(5, n_outputs))
        expected = measure(dense(n_outputs), X, PROBES, sgd(), [0, 3], y_train=targets, loss=loss)
        found = measure(dense(n_outputs), make((X, targets)), PROBES, sgd(), [0, 3], loss=loss)
        xr.testing.assert_identical(found, expected)


def test_labelled_data() -> None:
    x, signs = X.astype("f4"), np.array([0, 1, 1, 0, 0])
    one = measure(dense(), labelled(signs), PROBES, sgd(), [0, 3])
    xr.testing.assert_identical(one, measure(dense(), x, PROBES, sgd(), [0, 3], y_train=2 * signs - 1))
    assert one.y_train.values.tolist() == [-1, 1, 1, -1, -1]
    several = measure(dense(3), labelled(CLASSES), PROBES, sgd(), [0, 3])
    xr.testing.assert_identical(several, measure(dense(3), x, PROBES, sgd(), [0, 3], y_train=CLASSES))


def test_two_samples_are_no_pair() -> None:
    x = X[:2].tolist()
    expected = measure(dense(), X[:2], PROBES, sgd(), [0], y_train=[1, -1])
    xr.testing.assert_identical(measure(dense(), x, PROBES, sgd(), [0], y_train=[1, -1]), expected)
    xr.testing.assert_identical(measure(dense(), (x, [1, -1]), PROBES, sgd(), [0]), expected)
    torch.manual_seed(7)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 1)).double()
    squares = [sample.reshape(2, 2) for sample in X[:2]]
    found = measure(module, squares, PROBES.reshape(7, 2, 2), sgd(), [0], y_train=[1, -1])
    xr.testing.assert_identical(found, measure(module, (squares, [1, -1]), PROBES.reshape(7, 2, 2), sgd(), [0]))


TENSORS = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(SIGNS))
LABELS: list[tuple[Any, Any, str]] = [
    (X, None, r"y_train must be given where x_train holds no labels, got ndarray of shape \(5, 4\); give inputs as"),
    (X.tolist(), None, "y_train must be given where x_train holds no labels, got list"),
    (X[:2].tolist(), None, "y_train must be given"),
    ((X, SIGNS, SIGNS), None, "y_train must be given .* got tuple"),
    ((X, SIGNS), SIGNS, "y_train must be left out where x_train holds labels, got y_train and as x_train tuple"),
    (TENSORS, SIGNS, "y_train must be left out .* TensorDataset"),
    (labelled(CLASSES), CLASSES, "y_train must be left out .* LabelledData"),
    (
        torch.utils.data.TensorDataset(torch.tensor(X)),
        None,
        "x_train must be a TensorDataset of two tensors, got one of 1",
    ),
    (labelled(CLASSES), None, "x_train must have two classes for a module with one output, got 3"),
    ((X, SIGNS[:4]), None, r"x_train\[1\] must hold 5 labels, one for each sample of x_train, got 4"),
    ((X, CLASSES), None, r"x_train\[1\] must be -1 or 1 .* got x_train\[1\]\[0\] = 0"),
    ((X, ["a"] * 5), None, r"x_train\[1\] must hold real numbers"),
    (
        torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(CLASSES)),
        None,
        r"x_train.tensors\[1\] must be -1 or 1",
    ),
]


@pytest.mark.parametrize(("x_train", "y_train", "message"), LABELS)
def test_labels_that_are_missing_given_twice_or_wrong(x_train: Any, y_train: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        measure(dense(), x_train, PROBES, sgd(), [0], y_train=y_train)


# ---- Types, and what stays as it was


def test_types() -> None:
    double = measure(dense(3), X, PROBES, sgd(), [0, 5], y_train=CLASSES)
    single = measure(
        dense(3).float(), X.astype(">f4"), np.asfortranarray(PROBES), sgd(), [0, 5], y_train=CLASSES.astype(np.uint8)
    )
    from_tensors = measure(
        dense(3), torch.tensor(X), torch.tensor(PROBES), sgd(), [0, 5], y_train=torch.tensor(CLASSES)
    )
    xr.testing.assert_equal(double, from_tensors)
    for name in ("response", "kernel", "amplitude", "shape"):
        assert single[name].dtype == np.float64
        np.testing.assert_allclose(single[name], double[name], rtol=1e-4, atol=1e-5)
    one = measure(dense(), X, PROBES, sgd(), [0], y_train=SIGNS[:, None], loss="hinge")
    assert one.response.dims == ("time", "train", "probe")


def test_tokens() -> None:
    torch.manual_seed(6)
    module = torch.nn.Sequential(torch.nn.Embedding(9, 3), torch.nn.Flatten(), torch.nn.Linear(6, 2)).double()
    tokens = torch.tensor([[0, 1], [2, 3], [0, 3]])
    run = measure(module, tokens, tokens, sgd(), [0], y_train=[0, 1, 1]).isel(time=0)
    shared = {0: {0, 2}, 1: {1, 2}, 2: {0, 1, 2}}  # only samples with a token in common meet in the embedding
    for i, j in itertools.product(range(3), repeat=2):
        assert (float(run.hidden_part[i, j]) != 0.0) == (j in shared[i])


def test_module_and_generator_stay_as_they_were() -> None:
    module = dense(3)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = torch.get_rng_state()
    with torch.no_grad():
        measure(module, X, PROBES, sgd(), [0, 5], y_train=CLASSES, batch=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert all(value.grad is None for value in module.parameters())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    measure(module, X, PROBES, sgd(), [0, 5], y_train=CLASSES, batch=2, in_place=True)
    assert not torch.equal(before["0.weight"], module[0].weight)


def test_survives_a_file(tmp_path: Any) -> None:
    run = measure(dense(3), X, PROBES, sgd(), [0, 2], y_train=CLASSES, readout=())
    run.to_netcdf(tmp_path / "run.nc")
    with xr.open_dataset(tmp_path / "run.nc") as back:
        xr.testing.assert_equal(back, run)


# ---- What is refused


def test_nothing_is_trained_in_inference_mode() -> None:
    with torch.inference_mode(), pytest.raises(ValueError, match=r"call measure outside of it"):
        measure(dense(), X, PROBES, sgd(), [0], y_train=SIGNS)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"module": 3}, TypeError, "module must be"),
    ({"module": torch.nn.Tanh()}, ValueError, "requires_grad"),
    ({"x_train": [["a"]]}, TypeError, "x_train"),
    ({"x_train": np.empty((0, 4))}, ValueError, "x_train"),
    ({"x_train": np.full((5, 4), np.nan)}, ValueError, "x_train must be finite"),
    ({"x_train": torch.ones(5, 4, dtype=torch.complex64)}, TypeError, "x_train"),
    ({"x_train": X[:, 0]}, ValueError, "x_train"),
    ({"x_train": X[:, :3], "x_probe": PROBES[:, :3]}, ValueError, r"0 \(Linear\) is no layer.*shapes"),
    ({"x_probe": PROBES[:, :3]}, ValueError, "x_probe must have samples like"),
    (
        {"module": torch.nn.Sequential(torch.nn.ReLU(inplace=True), torch.nn.Linear(4, 1))},
        ValueError,
        "module must not change its inputs; take inplace=False",
    ),
    ({"optimizer_factory": 3}, TypeError, "optimizer_factory must be"),
    ({"optimizer_factory": lambda p: p}, TypeError, "optimizer_factory must return"),
    ({"optimizer_factory": torch.optim.LBFGS}, TypeError, "closure"),
    ({"optimizer_factory": lambda _: torch.optim.SGD(dense().parameters(), 0.1)}, ValueError, "others"),
    (
        {"optimizer_factory": lambda p: torch.optim.SGD([{"params": p[:2], "lr": 0.1}, {"params": p[2:], "lr": 0.2}])},
        ValueError,
        "learning_rate must be given",
    ),
    (
        {
            "module": torch.nn.Sequential(dense(), Detached(), torch.nn.Linear(1, 1).double()),
            "optimizer_factory": lambda p: torch.optim.SGD(p[:4], 0.1),
        },
        ValueError,
        "optimizer_factory must take parameters that the outputs .* got 0.0.weight, .*; let",
    ),
    ({"times": []}, ValueError, "times"),
    ({"times": [3, 1]}, ValueError, "times"),
    ({"times": [-1, 1]}, ValueError, "times"),
    ({"times": [0.5]}, TypeError, "times"),
    ({"y_train": [1, -1]}, ValueError, "y_train must hold 5"),
    ({"y_train": [0, 1, 0, 1, 0]}, ValueError, "2 \\* y - 1"),
    ({"y_train": [1, np.nan, 1, 1, 1], "loss": "squared"}, ValueError, "y_train"),
    ({"y_train": np.ones((5, 2))}, ValueError, "single output"),
    ({"module": dense(3)}, ValueError, "classes from 0 to 2"),
    ({"module": dense(3), "y_train": [0, 1, 2, 3, 0]}, ValueError, "classes from 0 to 2"),
    ({"module": dense(3), "y_train": [0, 1, 2, 0.5, 0]}, ValueError, "classes from 0 to 2"),
    ({"module": dense(3), "y_train": CLASSES, "loss": "hinge"}, ValueError, "loss must be 'cross-entropy'"),
    ({"module": dense(3), "y_train": np.ones((5, 3))}, ValueError, "y_train must hold one class"),
    ({"loss": "mse"}, ValueError, "loss must be one of"),
    ({"batch": 6}, ValueError, "batch"),
    ({"batch": "half"}, ValueError, "batch"),
    ({"kind": "adam"}, ValueError, "kind"),
    ({"learning_rate": 0.0}, ValueError, "learning_rate"),
    ({"readout": "head"}, ValueError, "readout must name parameters"),
    ({"readout": 3}, TypeError, "readout"),
    ({"seed": -1}, ValueError, "seed"),
    ({"in_place": 1}, TypeError, "in_place"),
]


FROZEN = torch.nn.Linear(1, 1).double().requires_grad_(False)
LOST = [
    (torch.nn.Sequential(dense(), Detached()), r"1 \(Detached\)"),
    (torch.nn.Sequential(dense(), torch.nn.Sequential(torch.nn.Tanh(), Detached()), FROZEN), r"1.1 \(Detached\)"),
    # Behind the first one there are parameters again.
    (torch.nn.Sequential(dense(), Detached(), WithoutGradient(torch.nn.Linear(1, 1).double())), r"2 \(WithoutGradient"),
    (WithoutGradient(torch.nn.Sequential(dense(), Detached(), torch.nn.Linear(1, 1).double())), r"module \(WithoutG"),
    (torch.nn.Sequential(dense(), *[Detached(), torch.nn.Linear(1, 1).double()] * 2, Detached()), r"5 \(Detached\)"),
]


@pytest.mark.parametrize(("module", "where"), LOST)
@pytest.mark.parametrize("times", [[0], [0, 2]])
def test_outputs_that_depend_on_no_parameter(module: torch.nn.Module, where: str, times: list[int]) -> None:
    made = []
    with pytest.raises(ValueError, match=f"module must have outputs that depend on its parameters, and {where}"):
        measure(module, X, PROBES, lambda p: made.append(p), times, y_train=SIGNS)
    assert not made


def test_a_gradient_that_is_stopped_on_the_way_only() -> None:
    """What comes before is not trained and no part of the kernel; torch.no_grad around the call is no loss."""
    readout = torch.nn.Linear(1, 1).double()
    module = torch.nn.Sequential(dense(), Detached(), readout)
    with torch.no_grad():
        found = measure(module, X, PROBES, sgd(), [0, 2], y_train=SIGNS)
        f, g = (module[0](torch.tensor(x)).numpy() for x in (X, PROBES))
    np.testing.assert_allclose(found.kernel, np.broadcast_to(f @ g.T + 1.0, (2, 5, 7)), rtol=1e-12)


@pytest.mark.parametrize(("change", "error", "message"), BAD)
def test_bad_input(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {
        "module": dense(),
        "x_train": X,
        "x_probe": PROBES,
        "optimizer_factory": sgd(),
        "times": [0, 1],
        "y_train": SIGNS,
    } | change
    positional = [arguments.pop(name) for name in ("module", "x_train", "x_probe", "optimizer_factory", "times")]
    with pytest.raises(error, match=message):
        measure(*positional, **arguments)
