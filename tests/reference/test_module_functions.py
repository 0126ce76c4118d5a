"""Layers that torch.func cannot take, or that are no functions of one sample, are named before any training."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from wideangle.response import measure

X, Y = np.random.default_rng(0).normal(size=(4, 3)), [1, -1, 1, -1]


class Square(torch.autograd.Function):
    """An older style of function: what the forward pass keeps is kept within it."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return 2 * ctx.saved_tensors[0] * gradients[0]


class NewSquare(torch.autograd.Function):
    """The same as torch.func takes it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Any) -> Any:
        return x * x

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return 2 * ctx.saved_tensors[0] * gradients[0]


class Layer(torch.nn.Module):
    """Whatever a function makes of its inputs."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


class Counter(torch.nn.Module):
    """Counts how often it is called."""

    calls: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Any) -> Any:
        self.calls += 1
        return x


def value_dependent(x: Any) -> Any:
    return x if x.abs().max().item() >= 0 else 2 * x


def in_a_network(layer: Any) -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.Sequential(layer), torch.nn.Linear(6, 1))


def measured(module: Any, x: Any = X, steps: int = 2) -> Any:
    return measure(module, x, X, lambda p: torch.optim.SGD(p, lr=0.1), [0, steps], y_train=Y)


REFUSED: list[tuple[Any, str]] = [
    (torch.nn.BatchNorm1d(6), r"1\.0 \(BatchNorm1d\) normalises over the batch; take module\.eval\(\)"),
    (torch.nn.BatchNorm1d(6, track_running_stats=False).eval(), r"1\.0 \(BatchNorm1d\).*keeps no running statistics"),
    (torch.nn.Dropout(0.5), r"1\.0 \(Dropout\) in training mode is; take module\.eval\(\)"),
    (torch.nn.RReLU(), r"1\.0 \(RReLU\) in training mode is"),
    (Layer(lambda x: x + torch.rand_like(x)), r"1\.0 \(Layer\) draws random numbers"),
    (Layer(lambda x: torch.nn.functional.dropout(x, 0.1)), r"1\.0 \(Layer\) draws random numbers"),
    (Layer(lambda x: x - x.mean(dim=0)), "depend on the other samples of the batch"),
    (Layer(Square.apply), r"1\.0 \(Layer\) is no layer that can be measured: torch\.func .*setup_context"),
    (Layer(value_dependent), r"1\.0 \(Layer\) is no layer that can be measured: torch\.func .*\.item\(\)"),
    (Layer(lambda x: x[:, :5]), r"2 \(Linear\) is no layer that can be measured: it fails .*shapes"),
    (Counter(), r"1\.0 \(Counter\) changes 1\.0\.calls; take module\.eval\(\)"),
]


@pytest.mark.parametrize(("layer", "message"), REFUSED, ids=range(len(REFUSED)))
def test_refused(layer: Any, message: str) -> None:
    module = in_a_network(layer)
    before = copy.deepcopy(module.state_dict())
    called: list[int] = []
    with pytest.raises(ValueError, match=message):
        measure(module, X, X, lambda p: called.append(1), [0, 1], y_train=Y)
    assert called == []
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert not any(part._forward_hooks for part in module.modules())


def test_outputs_of_another_shape() -> None:
    sequence = torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.Unflatten(1, (2, 3)))
    with pytest.raises(ValueError, match=r"outputs \(sample,\) or \(sample, output\), got \(2, 2, 3\)"):
        measured(sequence)
    with pytest.raises(ValueError, match=r"got tuple for 2 samples"):
        measured(torch.nn.Sequential(torch.nn.Linear(3, 1), Layer(lambda x: (x,))))


def test_modules_without_what_is_needed() -> None:
    class Raw(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(3))

        def forward(self, x: Any) -> Any:
            return x @ self.w

    with pytest.raises(ValueError, match=r"readout=\(\)"):
        measured(Raw())
    run = measure(Raw(), X, X, lambda p: torch.optim.SGD(p, lr=0.1), [0], y_train=Y, readout="w")
    np.testing.assert_allclose(run.readout_part[0], X @ X.T, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="no shape yet; call module once"):
        measured(torch.nn.Sequential(torch.nn.LazyLinear(1)))
    mixed = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 1).double())
    with pytest.raises(ValueError, match="on one device in one type"):
        measured(mixed)
    kept = torch.nn.Linear(3, 1)
    kept.cache = kept(torch.ones(3))
    with pytest.raises(ValueError, match="deepcopy"):
        measured(kept)


ALLOWED: list[Any] = [
    torch.nn.BatchNorm1d(6).eval(),
    torch.nn.Dropout(0.5).eval(),
    torch.nn.Dropout(0.0),
    torch.nn.GroupNorm(2, 6),
    torch.nn.ReLU(inplace=True),
    Layer(NewSquare.apply),
    torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(6, 6)),
]


@pytest.mark.parametrize("layer", ALLOWED, ids=range(len(ALLOWED)))
def test_allowed(layer: Any) -> None:
    run = measured(in_a_network(layer))
    parameters = list(in_a_network(layer).parameters())
    assert parameters
    assert np.isfinite(run.response).all()
    # The amplitude comes from the gradients alone, the kernel from their products with the Jacobian.
    own = np.diagonal(run.kernel.values, axis1=1, axis2=2)
    np.testing.assert_allclose(run.amplitude, abs(run.loss_derivative) * own, rtol=1e-4)


def test_a_whole_block_of_attention() -> None:
    torch.manual_seed(1)
    module = torch.nn.Sequential(
        torch.nn.Unflatten(1, (3, 1)),
        torch.nn.Linear(1, 4),
        torch.nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True),
        torch.nn.Flatten(),
        torch.nn.Linear(12, 1),
    ).double()
    run = measured(module)
    by_steps = measure(
        module, X, X, lambda p: torch.optim.SGD(p, lr=0.1), [0, 2], y_train=Y, kind="step", learning_rate=1e-7
    )
    np.testing.assert_allclose(by_steps.response, run.response, rtol=1e-4, atol=1e-6)


def test_one_sample_is_enough() -> None:
    run = measure(in_a_network(torch.nn.Tanh()), X[:1], X[:1], lambda p: torch.optim.SGD(p, lr=0.1), [0], y_train=[1])
    np.testing.assert_allclose(run["shape"], 1.0, rtol=1e-5)


def test_many_parameters_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measured(in_a_network(torch.nn.Tanh()).double())
    monkeypatch.setattr("wideangle.reference.module_functions._ENTRIES_AT_ONCE", 4)
    chunks = measured(in_a_network(torch.nn.Tanh()).double())
    for name in ("response", "readout_part", "hidden_part", "amplitude"):
        np.testing.assert_allclose(chunks[name], whole[name], rtol=1e-12)
