"""A width scaling on a module of one's own, against networks whose layers have the multipliers themselves."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from wideangle.parametrization import Scaling, scaling
from wideangle.reference import apply_scaling, scaled_optimizer

torch = pytest.importorskip("torch")

X = torch.tensor(np.random.default_rng(0).standard_normal((7, 5)), dtype=torch.float32)
Y = torch.tensor([0, 1, 2, 0, 1, 2, 1])


def mlp(width: int, hidden: int = 3, *, bias: bool = False) -> Any:
    sizes = [5, *[width] * hidden, 3]
    layers: list[Any] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [torch.nn.Linear(inputs, outputs, bias=bias), torch.nn.Tanh()]
    return torch.nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(
    ("name", "bias"),
    [(name, False) for name in ("standard", "ntk", "mup", "ip", "ip-llr", "ip-bias", "odd")]
    + [(name, True) for name in ("standard", "ntk", "mup", "ip-bias", "odd")],
)
def test_follows_the_network_with_multipliers(name: str, optimizer: Any, bias: bool) -> None:
    from wideangle.reference.scaled_modules import ScaledMLP

    odd = Scaling(
        ("1/4", "1/2", "3/4", "1/2"),
        ("1/8", "-1/4", 0, "1/4"),
        (-1, "-3/2", "-3/4", "-1/2"),
        c_first=("-1/2", "-5/4", -1, 0),
        bias_a=("1/4", "1/2", 0, "1/4"),
        bias_b=("-1/4", "-1/2", 0, "1/8"),
        bias_c=("-1/2", -1, "-1/4", 0),
        bias_c_first=("-3/4", "-1/2", 0, "1/4"),
        adam_c=("1/2", "1/4", 1, 0),
        adam_bias_c=(0, "1/2", "1/4", "1/8"),
        biases="random",
    )
    s = odd if name == "odd" else scaling(name, 3)
    torch.manual_seed(1)
    ratio, base, module = 4, mlp(6, bias=bias), mlp(24, bias=bias)
    # At the base width nothing is changed; here U is what the weights would be without the growth of their inputs.
    roots = (1.0, ratio**0.5, ratio**0.5, ratio**0.5)
    linear = [part for part in module if isinstance(part, torch.nn.Linear)]
    weights = [
        part.weight.detach() * root * ratio ** -float(b) for part, root, b in zip(linear, roots, s.b, strict=True)
    ]
    biases = [
        part.bias.detach() * root * ratio ** -float(b) * (s.biases != "zero")
        for part, root, b in zip(linear, roots, s.bias_b, strict=True)
        if bias
    ]
    twin = ScaledMLP(s, ratio, weights, biases, torch.nn.Tanh())
    groups = apply_scaling(module, s, base_shapes=base, learning_rate=0.02, optimizer=optimizer)
    assert [group["name"] for group in groups] == [name for name, _ in module.named_parameters()]
    own = torch.optim.SGD(groups) if optimizer == "sgd" else torch.optim.Adam(groups, eps=1e-30)
    theirs = scaled_optimizer(twin, learning_rate=0.02, optimizer=optimizer)
    for step in range(3):
        torch.testing.assert_close(module(X), twin(X), rtol=2e-4, atol=1e-5)
        for group in own.param_groups:
            group["now"], group["lr"] = group["lr"], group["first_lr"] if step == 0 else group["lr"]
        for model, stepper in ((module, own), (twin, theirs)):
            stepper.zero_grad()
            torch.nn.functional.cross_entropy(model(X), Y).backward()
            stepper.step()
        for group in own.param_groups:
            group["lr"] = group["now"]


def test_nothing_changes_at_the_base_width() -> None:
    module = mlp(6, bias=True)
    before = [parameter.detach().clone() for parameter in module.parameters()]
    groups = apply_scaling(module, "mup", base_shapes=mlp(6, bias=True), learning_rate=0.3)
    assert all(torch.equal(parameter, start) for parameter, start in zip(module.parameters(), before, strict=True))
    assert {group["lr"] for group in groups} == {group["first_lr"] for group in groups} == {0.3}


def convolutional(width: int, *, bias: bool = True) -> Any:
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, width, 3, bias=bias),
        torch.nn.ReLU(),
        torch.nn.Conv2d(width, 2 * width, 3, bias=bias),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(2 * width * 16, 10, bias=bias),
    )


def test_convolutions_and_rates_of_mup() -> None:
    torch.manual_seed(0)
    module = convolutional(32)
    sizes = [part.weight.std().item() for part in module if hasattr(part, "weight")]
    rates = {
        optimizer: [
            group["lr"]
            for group in apply_scaling(
                convolutional(32), "mup", base_shapes=convolutional(8), learning_rate=1.0, optimizer=optimizer
            )
        ]
        for optimizer in ("sgd", "adam")
    }
    # Weight and bias of each layer; Yang et al., arXiv 2203.03466, table 8, in its form without multipliers.
    assert rates["sgd"] == [4.0, 4.0, 1.0, 4.0, 0.25, 1.0]
    assert rates["adam"] == [1.0, 1.0, 0.25, 1.0, 0.25, 1.0]
    apply_scaling(module, "mup", base_shapes=convolutional(8), learning_rate=1.0)
    after = [part.weight.std().item() for part in module if hasattr(part, "weight")]
    np.testing.assert_allclose(np.array(after) / sizes, [1.0, 1.0, 0.5], rtol=1e-6)
    shapes = {name: tuple(parameter.shape) for name, parameter in convolutional(8).named_parameters()}
    groups = apply_scaling(convolutional(32), "mup", base_shapes=shapes, learning_rate=1.0)
    assert [group["lr"] for group in groups] == rates["sgd"]


def test_the_output_of_wide_modules_learns_under_mup_and_not_under_ip() -> None:
    changes = {}
    for name in ("mup", "ip"):
        for width in (32, 512):
            torch.manual_seed(2)
            module = mlp(width)
            groups = apply_scaling(module, name, base_shapes=mlp(32), learning_rate=0.5)
            before = module(X).detach()
            torch.nn.functional.cross_entropy(module(X), Y).backward()
            torch.optim.SGD(groups).step()
            changes[name, width] = (module(X).detach() - before).abs().mean().item()
    assert 0.5 < changes["mup", 512] / changes["mup", 32] < 2.0
    assert changes["ip", 512] / changes["ip", 32] < 0.15


def test_modules_that_are_refused_and_left_alone() -> None:
    def refused(module: Any, base: Any, message: str, name: Any = "mup", error: type[Exception] = ValueError) -> None:
        before = [parameter.detach().clone() for parameter in module.parameters()]
        with pytest.raises(error, match=message):
            apply_scaling(module, name, base_shapes=base, learning_rate=0.1)
        assert all(torch.equal(new, old) for new, old in zip(module.parameters(), before, strict=True))

    norm = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 2))
    refused(norm, norm, r"got 1: LayerNorm", error=TypeError)
    refused(mlp(8), mlp(4, bias=True), "base_shapes must have the parameters of module")
    refused(mlp(8), {"0.weight": (4, 5)}, "differs in 2.weight, 4.weight, 6.weight")
    refused(mlp(8), mlp(4), "scaling must be for 3 hidden layers", scaling("mup", 2))
    refused(mlp(8), mlp(4), "neither drop weights", "hp")
    refused(mlp(8), mlp(4), "neither drop weights", "ip-non-centered")
    refused(mlp(8, bias=True), mlp(4, bias=True), "scaling must say what biases do, as 0 has some", "ip")
    ip = scaling("ip", 3)
    named = Scaling(ip.a, ip.b, ip.c, name="mup")
    refused(mlp(8, bias=True), mlp(4, bias=True), "scaling must say what biases do, as 0 has some", named)
    shapes = {name: tuple(parameter.shape) for name, parameter in mlp(4, bias=True).named_parameters()}
    refused(mlp(8, bias=True), shapes | {"0.bias": None}, r"base_shapes\['0.bias'\] must be a shape", error=TypeError)
    refused(mlp(8, bias=True), shapes | {"0.bias": (5,)}, r"0.bias of shape \(4,\)")
    refused(mlp(8), mlp(4), "name must be", "mupp")
    refused(mlp(8), [1, 2], "base_shapes must be a module", error=TypeError)
    refused(torch.nn.Linear(2, 3), torch.nn.Linear(2, 3), "at least two layers")
    uneven = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Linear(8, 12), torch.nn.Linear(12, 3))
    even = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Linear(4, 4), torch.nn.Linear(4, 3))
    refused(uneven, even, "1 must have 2 times the inputs and 2 times the outputs of the base, got 2 and 3")
    more = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Linear(8, 6))
    refused(more, torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Linear(4, 3)), "1 times the outputs")
    grouped = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 3, groups=2), torch.nn.Conv2d(8, 2, 1))
    refused(grouped, grouped, "groups")
    tied = mlp(8)
    tied[4].weight = tied[2].weight
    refused(tied, mlp(4), "must not share parameters")
    with pytest.raises(TypeError, match=r"module must be a torch\.nn\.Module"):
        apply_scaling("net", "mup", base_shapes=mlp(4), learning_rate=0.1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="learning_rate"):
        apply_scaling(mlp(8), "mup", base_shapes=mlp(4), learning_rate=0.0)
