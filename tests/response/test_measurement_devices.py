"""Measurements on every device that there is, in every type, whatever PyTorch's default device and precision are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from wideangle.response import measure

DEVICES = ["cpu", *(f"cuda:{place}" for place in range(torch.cuda.device_count()))]
RANDOM = np.random.default_rng(5)
X, PROBES = RANDOM.normal(size=(6, 4)), RANDOM.normal(size=(9, 4))
SIGNS, CLASSES = np.array([1, -1, 1, 1, -1, -1]), np.array([0, 2, 1, 1, 2, 0])
MEASURED = ("response", "kernel", "readout_part", "hidden_part", "loss_derivative", "amplitude", "outputs")
# In units of the last place of the largest entry: of sums of some twenty products with roundings each, and of layers
# that are rounded to 16 bits once.
ROUNDINGS = {torch.float64: 100, torch.float32: 100, torch.float16: 5, torch.bfloat16: 5}


def sgd(rate: float = 0.1) -> Callable[[Any], torch.optim.Optimizer]:
    return lambda parameters: torch.optim.SGD(parameters, lr=rate)


def dense(n_outputs: int) -> Any:
    layers = [torch.nn.Linear(4, 20), torch.nn.Tanh(), torch.nn.LayerNorm(20), torch.nn.Linear(20, n_outputs)]
    return torch.nn.Sequential(*layers)


def convolutional(n_outputs: int) -> Any:
    return torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 2, 2)), torch.nn.Conv2d(1, 20, 2), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(20, n_outputs),
    )  # fmt: skip


def attention(n_outputs: int) -> Any:
    return torch.nn.Sequential(
        torch.nn.Unflatten(1, (2, 2)),
        torch.nn.TransformerEncoderLayer(2, 1, 8, dropout=0.0, batch_first=True),
        torch.nn.Flatten(),
        torch.nn.Linear(4, n_outputs),
    )


def made(make: Callable[[int], Any], n_outputs: int) -> Any:
    """Return the module in float64 on the CPU, its weights such that bfloat16 holds them."""
    torch.manual_seed(1)
    return make(n_outputs).to(torch.bfloat16).double()


def agree(run: xr.Dataset, expected: xr.Dataset, accuracy: float) -> None:
    for name in MEASURED:
        assert run[name].dtype == np.float64
        error = float(abs(run[name] - expected[name]).max())
        assert error <= accuracy * float(abs(expected[name]).max()), name


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ROUNDINGS)
@pytest.mark.parametrize("make", [dense, convolutional, attention])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_devices_and_types(device: str, dtype: torch.dtype, make: Callable[[int], Any], n_outputs: int) -> None:
    module = made(make, n_outputs)
    x, probes = (torch.tensor(points).to(torch.bfloat16) for points in (X, PROBES))
    y = torch.tensor(SIGNS if n_outputs == 1 else CLASSES)
    expected = measure(module, (x, y), probes, sgd(), [0])
    run = measure(module.to(dtype).to(device), (x.to(device), y.to(device)), probes, sgd(), [0])
    agree(run, expected, ROUNDINGS[dtype] * torch.finfo(dtype).eps)


@pytest.mark.parametrize("device", DEVICES)
def test_kernels_may_exceed_what_16_bits_hold(device: str) -> None:
    module = torch.nn.Linear(1, 1).half().to(device)
    torch.nn.init.zeros_(module.weight)
    torch.nn.init.zeros_(module.bias)
    run = measure(module, ([[400.0]], [1]), [[500.0]], sgd(), [0])
    assert float(run.kernel[0, 0, 0]) == 200_001.0
    assert float(run.amplitude[0, 0]) == 0.5 * 160_001.0


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["kernel", "step"])
@pytest.mark.parametrize("loss", ["cross-entropy", "squared"])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_training_on_devices(device: str, kind: str, loss: str, n_outputs: int) -> None:
    module, y = made(dense, n_outputs), SIGNS if n_outputs == 1 else CLASSES
    options: dict[str, Any] = {"loss": loss, "batch": 4, "kind": kind, "learning_rate": 0.01, "seed": 3}
    expected = measure(module, X, PROBES, sgd(), [0, 5], y_train=y, **options)
    data = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(y, device=device))
    moved = made(dense, n_outputs).to(device)
    generator = torch.random.get_rng_state() if device == "cpu" else torch.cuda.get_rng_state(device)
    run = measure(moved, data, torch.tensor(PROBES, device=device), sgd(), [0, 5], in_place=True, **options)
    # A step of 0.01 takes two digits more from a response that is the difference of two outputs.
    agree(run, expected, 1e-12 if kind == "kernel" else 1e-10)
    assert {str(value.device) for value in moved.parameters()} == {device}
    assert torch.equal(generator, torch.random.get_rng_state() if device == "cpu" else torch.cuda.get_rng_state(device))


@pytest.mark.parametrize("device", DEVICES)
def test_labels_in_any_type_on_any_device(device: str) -> None:
    expected = measure(made(dense, 1), X, PROBES, sgd(), [0], y_train=SIGNS)
    for dtype in (torch.int8, torch.float16, torch.bfloat16, torch.float64):
        y = torch.tensor(SIGNS, dtype=dtype, device=device, requires_grad=dtype.is_floating_point)
        xr.testing.assert_identical(measure(made(dense, 1), X, PROBES, sgd(), [0], y_train=y), expected)


@pytest.mark.parametrize("kind", ["kernel", "step"])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_the_default_device_does_not_matter(kind: str, n_outputs: int) -> None:
    """No values can be read from the device meta: whatever is made there instead of beside the module, fails."""
    y = SIGNS if n_outputs == 1 else CLASSES
    expected = measure(made(dense, n_outputs), X, PROBES, sgd(), [0, 5], y_train=y, kind=kind, batch=2)
    module = made(dense, n_outputs)
    with torch.device("meta"):
        run = measure(module, X, PROBES, sgd(), [0, 5], y_train=y, kind=kind, batch=2)
    xr.testing.assert_identical(run, expected)


class Watched(torch.nn.Module):
    """A linear layer that notes with which precisions of float32 it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
        self.seen: list[tuple[str, bool]] = []

    def forward(self, x: Any) -> Any:
        self.seen.append((torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32))
        return self.layer(x)


@pytest.mark.parametrize("kind", ["kernel", "step"])
def test_measured_in_full_float32_and_trained_as_the_user_likes(kind: str) -> None:
    module = Watched()
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.allow_tf32 = True
    try:
        measure(module, X, PROBES, sgd(), [0], y_train=SIGNS, kind=kind, in_place=True)
        assert set(module.seen) == {("highest", False)}
        measure(module, X, PROBES, sgd(), [0, 3], y_train=SIGNS, kind=kind, in_place=True)
        assert module.seen.count(("medium", True)) == 3
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == ("medium", True)
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
