"""Random networks built in PyTorch, against the laws they are built to follow."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import wideangle as wa
from wideangle.reference._torch import BATCHES, WEIGHTS, generator

torch = pytest.importorskip("torch")

TABLES = json.loads((Path(__file__).parent / "angles.json").read_text())


def hidden_activations(model: Any, x: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Yield the activations of each hidden layer, in NumPy and float64, from the weights alone."""
    weights = [parameter.detach().numpy().astype(np.float64) for parameter in model.parameters()]
    for weight in weights[:-1]:
        x = np.maximum(x @ weight.T, 0.0)
        yield x


@pytest.mark.parametrize(
    ("table", "n_networks"), [(1, 1000), (2, 2000)], ids=["30x10 from 0.5 rad", "20-8-40-12 from a right angle"]
)
def test_angles_and_norms_follow_the_ensemble_in_the_table(table: int, n_networks: int) -> None:
    case = TABLES[table]
    widths, theta0 = case["widths"], case["theta0"]
    n_inputs = 6
    inputs = np.zeros((2, n_inputs))
    inputs[0, 0] = 1.0
    inputs[1, :2] = math.cos(theta0), math.sin(theta0)
    log_sin2 = np.full((n_networks, len(widths)), np.nan)
    log_norm2 = np.full((n_networks, len(widths)), np.nan)
    for sample in range(n_networks):
        model = wa.reference.build_mlp(widths, n_inputs=n_inputs, n_outputs=1, seed=sample)
        for layer, (width, both) in enumerate(zip(widths, hidden_activations(model, inputs), strict=True)):
            (a, c), (_, b) = both @ both.T
            # The smallest of these angles is some 1e-3, which leaves 1e-10 of the cancelling difference.
            if min(a, b) == 0.0 or a * b - c * c < 1e-14 * a * b:
                break
            log_sin2[sample, layer] = math.log((a * b - c * c) / (a * b))
            log_norm2[sample, layer] = math.log(a * (2.0 / width) / (2.0 / n_inputs))
    for layer, expected in enumerate(case["layers"]):
        x, norm = (values[:, layer][~np.isnan(values[:, layer])] for values in (log_sin2, log_norm2))
        lost = (expected["collapsed"] + expected["dead"]) / case["samples"]
        spread = math.sqrt(n_networks * lost * (1.0 - lost))
        assert abs(n_networks - len(x) - n_networks * lost) <= 5.0 * spread + 1.0
        error = math.hypot(x.std() / math.sqrt(len(x)), expected["mean_se"])
        assert abs(x.mean() - expected["mean"]) <= 5.0 * error
        deviation2 = (x - x.mean()) ** 2
        error = math.hypot(deviation2.std() / math.sqrt(len(x)), expected["var_se"])
        assert abs(deviation2.mean() - expected["var"]) <= 5.0 * error
        error = math.sqrt(expected["log_norm2_var"] * (1.0 / len(x) + 1.0 / expected["survivors"]))
        assert abs(norm.mean() - expected["log_norm2_mean"]) <= 5.0 * error


def test_biases_start_at_zero_and_leave_the_weights_as_they_are() -> None:
    sizes: dict[str, Any] = {"n_inputs": 3, "n_outputs": 5, "seed": 5}
    plain = list(wa.reference.build_mlp((6, 4), **sizes).parameters())
    biased = list(wa.reference.build_mlp((6, 4), **sizes, bias=True).parameters())
    assert [tuple(bias.shape) for bias in biased[1::2]] == [(6,), (4,), (5,)]
    assert all(torch.equal(bias, torch.zeros_like(bias)) for bias in biased[1::2])
    assert all(torch.equal(one, other) for one, other in zip(plain, biased[::2], strict=True))
    with pytest.raises(TypeError, match="bias must be True or False"):
        wa.reference.build_mlp((6, 4), **{**sizes, "bias": 1})


@pytest.mark.parametrize("weight_variance", [2.0, 0.5])
def test_weights_are_normal_with_the_stated_variance(weight_variance: float) -> None:
    from scipy.stats import kstest

    model = wa.reference.build_mlp((60, 90), n_inputs=50, n_outputs=70, seed=5, weight_variance=weight_variance)
    expected = {(60, 50): weight_variance / 50, (90, 60): weight_variance / 60, (70, 90): 1.0 / 90}
    assert [tuple(weight.shape) for weight in model.parameters()] == list(expected)
    for weight, variance in zip(model.parameters(), expected.values(), strict=True):
        assert weight.dtype == torch.float32
        # 1e-6: five standard errors, in terms of the test's own distribution.
        assert kstest(weight.detach().numpy().ravel(), "norm", args=(0.0, math.sqrt(variance))).pvalue > 1e-6


def test_layers_and_seeds_share_no_numbers() -> None:
    models = [wa.reference.build_mlp((40, 40, 40), n_inputs=40, n_outputs=40, seed=seed) for seed in (1, 2)]
    samples = [weight.detach().numpy().ravel() for model in models for weight in model.parameters()]
    correlation = np.corrcoef(samples) - np.eye(len(samples))
    assert abs(correlation).max() <= 5.0 / 40.0


def test_weights_and_batches_of_one_seed_share_no_numbers() -> None:
    weights, batches = generator(1, WEIGHTS), generator(1, BATCHES)
    assert weights.initial_seed() != batches.initial_seed()


def test_seed_fixes_the_weights_and_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    one, two = (wa.reference.build_mlp((20, 10), n_inputs=8, n_outputs=3, seed=2**64 - 1) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    for first, second in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(first, second)
        assert first.requires_grad


def test_network_is_linear_layers_with_relu_between() -> None:
    model = wa.reference.build_mlp((7, 6), n_inputs=5, n_outputs=4, seed=1)
    assert [type(layer).__name__ for layer in model] == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]
    x = np.random.default_rng(0).normal(size=(3, 5))
    *_, hidden = hidden_activations(model, x)
    expected = hidden @ list(model.parameters())[-1].detach().numpy().astype(np.float64).T
    found = model(torch.tensor(x, dtype=torch.float32)).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"widths": ()}, ValueError, "widths"),
        ({"widths": (3, 0)}, ValueError, r"widths\[1\]"),
        ({"n_inputs": 0}, ValueError, "n_inputs"),
        ({"n_outputs": 2.0}, TypeError, "n_outputs"),
        ({"seed": -1}, ValueError, "seed"),
        ({"weight_variance": 0.0}, ValueError, "weight_variance"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    good: dict[str, Any] = {"widths": (3,), "n_inputs": 2, "n_outputs": 2, "seed": 1}
    with pytest.raises(error, match=message):
        wa.reference.build_mlp(**{**good, **arguments})


def test_torch_is_imported_at_the_first_use() -> None:
    code = (
        "import sys, wideangle.reference, wideangle.propagation.training\n"
        "assert 'torch' not in sys.modules\n"
        "wideangle.reference.build_mlp((2,), n_inputs=2, n_outputs=2, seed=1)\n"
        "assert 'torch' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_without_torch_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    model = wa.reference.build_mlp((2,), n_inputs=64, n_outputs=10, seed=1)
    data = wa.data.load_digits(seed=1)
    monkeypatch.setitem(sys.modules, "torch", None)
    remedy = r'pip install "wideangle\[reference\]"'
    with pytest.raises(ImportError, match=remedy):
        wa.reference.build_mlp((2,), n_inputs=2, n_outputs=2, seed=1)
    with pytest.raises(ImportError, match=remedy):
        wa.reference.train_classifier(model, data, seed=1)
    with pytest.raises(ImportError, match=remedy):
        wa.propagation.train_architectures([(2,)], data, n_runs=1, seed=1)
