"""The coordinate check of modules of one's own, under a scaling or with training of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import wideangle as wa
from wideangle.parametrization import Scaling, coordinate_check, coordinate_table, scaling

torch = pytest.importorskip("torch")

DATA = wa.data.load_digits(seed=0)
WIDTHS = (64, 128, 256, 512)


def mlp(width: int, bias: bool = True) -> Any:
    return torch.nn.Sequential(
        torch.nn.Linear(64, width, bias=bias),
        torch.nn.ReLU(),
        torch.nn.Linear(width, width, bias=bias),
        torch.nn.ReLU(),
        torch.nn.Linear(width, 10, bias=bias),
    )


def convolutional(width: int) -> Any:
    return torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 8, 8)),
        torch.nn.Conv2d(1, width, 3, stride=2),
        torch.nn.ReLU(),
        torch.nn.Conv2d(width, width, 2),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(4 * width, 10),
    )


class Readout(torch.nn.Linear):  # type: ignore[misc,name-defined]
    """A readout with its multiplier inside, as implementations of maximal updates have it."""

    multiplier = 1.0

    def forward(self, x: Any) -> Any:
        return super().forward(self.multiplier * x)


class Network(torch.nn.Module):  # type: ignore[misc,name-defined]
    """A readout that is divided by the width outside of it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body, self.width = mlp(width, bias=False), width

    def forward(self, x: Any) -> Any:
        return self.body(x) / self.width


def maximal_updates(width: int, optimizer: str = "adam", readout_exponent: float = -1.0) -> Any:
    """Written by hand: readout of size 1/m, rates of Yang et al., arXiv 2203.03466, table 3."""
    module = mlp(width)
    torch.nn.init.normal_(module[4].weight, std=width**readout_exponent)
    powers = {
        "adam": {"weight": (0.0, -1.0, -1.0), "bias": (0.0, 0.0, 0.0)},
        "sgd": {"weight": (1.0, 0.0, -1.0), "bias": (1.0, 1.0, 0.0)},
    }[optimizer]
    rate = {"adam": 0.003, "sgd": 0.1}[optimizer]
    groups = [
        {"params": getattr(module[place], part), "lr": rate * (width / 64) ** power}
        for part, exponents in powers.items()
        for place, power in zip((0, 2, 4), exponents, strict=True)
    ]
    return module, groups


def check(**options: Any) -> Any:
    arguments: dict[str, Any] = {"widths": WIDTHS, "n_seeds": 6} | options
    return coordinate_check(arguments.pop("scaling", "mup"), DATA, **arguments)


CONVOLUTIONAL = pytest.param(convolutional, marks=pytest.mark.slow)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("factory", [mlp, CONVOLUTIONAL])
def test_modules_under_a_scaling(factory: Any, optimizer: Any) -> None:
    result = check(module=factory, optimizer=optimizer)
    assert result.regime.item() == "feature-learning", coordinate_table(result)
    assert "disagrees" not in result.verdict.values, coordinate_table(result)
    assert result.depth.values.tolist() == [2]
    assert result.activation.values.tolist() == ["relu"]


def test_convolutions_that_are_small_enough_to_be_fast() -> None:
    result = check(module=convolutional, widths=(8, 16, 32, 64), n_seeds=2, n_steps=2, batch_size=16)
    assert result.verdict.sizes["layer"] == 3
    against = check(module=convolutional, widths=(8, 16, 32, 64), expected="standard", scaling="mup", batch_size=16)
    assert against.overall.item() == "disagrees"


@pytest.mark.parametrize("factory", [mlp, CONVOLUTIONAL])
def test_modules_under_the_tangent_kernels_scaling(factory: Any) -> None:
    result = check(scaling="ntk", module=factory, learning_rate=0.02)
    assert result.regime.item() == "kernel", coordinate_table(result)
    assert "disagrees" not in result.verdict.values, coordinate_table(result)
    against = check(scaling="ntk", expected="mup", module=factory, learning_rate=0.02)
    assert against.overall.item() == "disagrees"


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_maximal_updates_by_hand(optimizer: Any) -> None:
    result = check(module=lambda width: maximal_updates(width, optimizer), optimizer=optimizer)
    assert result.regime.item() == "feature-learning", coordinate_table(result)
    assert "disagrees" not in result.verdict.values, coordinate_table(result)
    assert "learning_rate" not in result
    assert result.attrs["scaling"] == "as the module brings it"


def test_readout_of_the_wrong_size_is_caught() -> None:
    def factory(width: int) -> Any:
        return maximal_updates(width, "sgd", readout_exponent=-0.5)

    result = check(module=factory)
    assert result.overall.item() == "disagrees"
    assert result.size_verdict.sel(step=0, layer=3).item() == "disagrees"
    assert result.size_exponent.sel(step=0, layer=3).item() == pytest.approx(0.0, abs=0.2)


def test_pytorch_as_it_comes_is_no_maximal_update() -> None:
    def factory(width: int) -> Any:
        module = mlp(width)
        return module, torch.optim.Adam(module.parameters(), lr=1e-3)

    result = coordinate_check(None, DATA, widths=WIDTHS, module=factory, expected="mup")
    assert result.overall.item() == "disagrees"
    assert result.regime.item() == "unstable"


def test_multipliers_of_the_readout_are_seen_inside_and_outside() -> None:
    def inside(width: int) -> Any:
        module = mlp(width, bias=False)
        before, module[4] = module[4], Readout(width, 10, bias=False)
        module[4].weight, module[4].multiplier = before.weight, 1.0 / width
        return module, torch.optim.SGD(module.parameters(), lr=0.1)

    def outside(width: int) -> Any:
        module = Network(width)
        return module, torch.optim.SGD(module.parameters(), lr=0.1)

    one, other = (check(module=factory, n_seeds=2, widths=(16, 32, 64)) for factory in (inside, outside))
    for name in ("size", "change", "update"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-9)
    assert other["size"].sel(layer=3, step=0).max() < 0.1


def test_groups_have_a_first_step_of_their_own() -> None:
    def factory(width: int, first: float = 0.0) -> Any:
        module = mlp(width, bias=False)
        return module, [{"params": module.parameters(), "lr": 0.1, "first_lr": first}]

    result = check(module=factory, n_seeds=2, widths=(16, 32, 64))
    assert (result.change.sel(step=1) == 0.0).all()
    assert (result.change.sel(step=2) > 0.0).all()


def test_a_frozen_layer_is_caught() -> None:
    def factory(width: int) -> Any:
        module, groups = maximal_updates(width, "sgd")
        return module, groups[:1] + groups[2:4] + groups[5:]

    result = check(module=factory)
    assert result.update_exponent.sel(layer=2, step=4).item() == -np.inf
    assert result.verdict.sel(layer=2).item() == "disagrees"


def norm(width: int) -> Any:
    return torch.nn.Sequential(torch.nn.Linear(64, width), torch.nn.LayerNorm(width), torch.nn.Linear(width, 10))


class Backwards(torch.nn.Module):  # type: ignore[misc,name-defined]
    """Calls its layers in another order than that of their registration."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.last, self.first = torch.nn.Linear(width, 10), torch.nn.Linear(64, width)

    def forward(self, x: Any) -> Any:
        return self.last(self.first(x))


def backwards(width: int) -> Any:
    module = Backwards(width)
    return module, torch.optim.SGD(module.parameters(), lr=0.1)


def sized(width: int, inputs: int, outputs: int) -> Any:
    return torch.nn.Sequential(torch.nn.Linear(inputs, width), torch.nn.ReLU(), torch.nn.Linear(width, outputs))


def lbfgs(width: int) -> Any:
    module = mlp(width)
    return module, torch.optim.LBFGS(module.parameters())


def lazy(width: int) -> Any:
    return torch.nn.Sequential(torch.nn.LazyLinear(width), torch.nn.ReLU(), torch.nn.Linear(width, 10))


IP = scaling("ip", 2)


def with_optimizer(width: int, of: Any = None) -> Any:
    module = mlp(width)
    return module, torch.optim.SGD((of or module).parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"module": norm}, TypeError, r"got 1: LayerNorm"),
        ({"module": lambda width: torch.nn.Linear(64, 10)}, ValueError, "at least two layers"),
        ({"module": lambda width: 3}, TypeError, "at width 64 it returned int"),
        ({"module": lambda width: (mlp(width), 0.1)}, TypeError, "came float beside a module"),
        ({"module": lambda width: (mlp(width), [0.1])}, TypeError, "parameter groups with params and lr"),
        ({"module": lambda width: (mlp(width), mlp(width), 3)}, TypeError, "it returned tuple"),
        ({"module": lambda width: with_optimizer(width, of=mlp(width))}, ValueError, "at width 64 it holds none"),
        ({"module": lambda width: mlp(64)}, ValueError, "must be larger at width 512 than at width 64"),
        ({"module": lambda width: backwards(width)}, ValueError, "call each of its layers once"),
        ({"module": lambda width: torch.nn.Sequential(mlp(width), torch.nn.Unflatten(1, (2, 5)))}, ValueError, "class"),
        ({"module": lambda width: mlp(width) if width < 512 else with_optimizer(width)}, TypeError, "same for all"),
        ({"module": lambda width: sized(width, 63, 10)}, ValueError, "module must map x .* with 64 features"),
        ({"module": lambda width: sized(width, 64, 9)}, ValueError, "module must have an output for each of the 10"),
        ({"module": lambda width: lbfgs(width)}, TypeError, "must not return LBFGS"),
        ({"module": lambda width: lazy(width)}, TypeError, "must not have lazy layers, got 0"),
        ({"module": mlp, "scaling": Scaling(IP.a, IP.b, IP.c, name="mup")}, ValueError, "what biases do"),
        ({"module": mlp, "depths": (3,)}, ValueError, "which has 2 hidden layers"),
        ({"module": mlp, "scaling": scaling("mup", 3)}, ValueError, "for 2 hidden layers, got one for 3"),
        ({"module": mlp, "activations": ("relu",)}, ValueError, "activations must be left out"),
        ({"module": mlp, "scaling": "hp"}, ValueError, "neither drop weights"),
        ({"module": mlp, "scaling": None}, TypeError, "what the module is to be judged by"),
        ({"module": mlp, "scaling": None, "expected": "mup"}, TypeError, "or let module return"),
        ({"module": with_optimizer, "learning_rate": 0.1}, ValueError, "as it is trained with those"),
        ({"module": with_optimizer, "base_width": 64}, ValueError, "as it is trained with those"),
        ({"module": mlp, "base_width": 0}, ValueError, "base_width"),
    ],
)
def test_modules_that_are_refused(change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check(**change)
