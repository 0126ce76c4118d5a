"""Networks whose layers are recorded while they train. Imports PyTorch: only for import within functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch

from wideangle.activations import Activation
from wideangle.reference.coordinates import Layers, Optimizer, ScaledLayers
from wideangle.reference.modules import activation_of
from wideangle.reference.scaled import build_scaled_mlp, scaled_optimizer
from wideangle.reference.scaled_groups import apply_scaling, check_layers
from wideangle.scalings import Scaling

_GLOBAL_GENERATOR = Lock()
_EPSILON = 1e-19  # as in ScaledOptimizer
_WANTED = (
    "a torch.nn.Module to which the scaling is applied, (module, optimizer), or (module, parameter groups), which are "
    "trained as they are"
)


@dataclass(frozen=True)
class Rates:
    """What a network is trained with; ``learning_rate`` and ``first_learning_rate`` are those of the scaling."""

    optimizer: str
    learning_rate: float = 0.1
    first_learning_rate: float | None = None


Trial = Callable[[int, int, Rates], tuple[Layers, Optimizer]]
"""Makes a network and its optimizer, from width, seed and rates."""


def scaled_trial(scaling: Scaling, n_inputs: int, n_outputs: int, activation: Activation) -> Trial:
    """Return what makes fully connected networks under a scaling, in float64."""

    def trial(width: int, seed: int, rates: Rates) -> tuple[Layers, Optimizer]:
        sizes = {"n_inputs": n_inputs, "n_outputs": n_outputs}
        model = build_scaled_mlp(scaling, width, seed=seed, activation=activation, **sizes).double()
        steps = scaled_optimizer(
            model,
            learning_rate=rates.learning_rate,
            first_learning_rate=rates.first_learning_rate,
            optimizer=rates.optimizer,  # type: ignore[arg-type]
        )
        return ScaledLayers(model), steps

    return trial


class ModuleLayers:
    """The Linear and Conv2d layers of a module, which have to be called once each, in the order of registration."""

    def __init__(self, module: torch.nn.Module) -> None:
        found = check_layers(module)
        self.module, self.names, self.layers = module, [name for name, _ in found], [layer for _, layer in found]
        self.weights: Sequence[torch.Tensor] = [layer.weight for layer in self.layers]
        self.outputs: Sequence[torch.Tensor] = []
        self._left: list[torch.Tensor] = []
        self._entering: list[torch.Tensor] = []
        self._called: list[str] = []
        self._factor = 1.0
        for name, layer in found:
            layer.register_forward_hook(self._hook(name))

    def _hook(self, name: str) -> Callable[..., None]:
        def keep(layer: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            self._called.append(name)
            self._entering.append(inputs[0].detach())
            self._left.append(output.detach())

        return keep

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output, and keep what enters and leaves each layer."""
        self._left, self._entering, self._called = [], [], []
        output = self.module(x)
        if self._called != self.names:
            raise ValueError(
                f"module must call each of its layers once, in the order in which they are registered, {self.names}, "
                f"called {self._called}; give a module that is a chain of layers"
            )
        if not isinstance(output, torch.Tensor) or output.ndim != 2 or output.shape[0] != x.shape[0]:
            shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
            raise ValueError(f"module must map x (sample, feature) to outputs (sample, class), got {shape}")
        self._factor = self._multiplier(output.detach())
        self.outputs = [*self._left[:-1], self._left[-1] * self._factor]
        return output

    def _multiplier(self, output: torch.Tensor) -> float:
        """Return the number by which the last layer's outputs have become the module's; 1 if they have not by any."""
        last = self._left[-1]
        square = float(last.square().sum())
        if last.shape != output.shape or not 0.0 < square < float("inf"):
            return self._factor
        factor = float((last * output).sum()) / square
        return factor if torch.allclose(factor * last, output, rtol=1e-6, atol=0.0) else 1.0

    def apply(self, layer: int, weight: torch.Tensor) -> torch.Tensor:
        """Return what a layer of these weights and no bias makes of what entered it last."""
        part = self.layers[layer]
        changed = {"weight": weight}
        if part.bias is not None:
            changed["bias"] = torch.zeros_like(part.bias)
        hooks, part._forward_hooks = part._forward_hooks, type(part._forward_hooks)()
        try:
            result: torch.Tensor = torch.func.functional_call(part, changed, (self._entering[layer],))
        finally:
            part._forward_hooks = hooks
        return result * self._factor if layer == len(self.layers) - 1 else result

    def output_bias(self) -> Any:
        """Return what the bias of the last layer adds to it."""
        bias = self.layers[-1].bias
        if bias is None:
            return 0.0
        return bias.detach().reshape(-1, *(1,) * (self.layers[-1].weight.ndim - 2)) * self._factor


class GroupOptimizer:
    """Steps of gradient descent or Adam with the parameter groups of a scaling."""

    def __init__(self, groups: list[dict[str, Any]], kind: str, first_factor: float) -> None:
        plain = [{"params": group["params"], "lr": group["lr"]} for group in groups]
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.SGD(plain) if kind == "sgd" else torch.optim.Adam(plain, eps=_EPSILON)
        )
        self.rates = [float(group["lr"]) for group in groups]
        first = [float(group.get("first_lr", group["lr"])) for group in groups]
        for group, rate in zip(self.optimizer.param_groups, first, strict=True):
            group["lr"] = rate * first_factor

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self.optimizer.zero_grad()

    def step(self) -> None:
        """Take a step."""
        self.optimizer.step()
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate


@dataclass(frozen=True)
class FactoryFacts:
    """What one module of a factory tells: whether it brings its own optimizer, and what its layers are."""

    trained_as_is: bool
    brings_optimizer: bool
    names: tuple[str, ...]
    n_hidden: int
    biases: bool
    activations: tuple[Activation, ...]


def inspect_factory(
    factory: Callable[[int], Any], narrow: int, wide: int, n_features: int, n_classes: int
) -> FactoryFacts:
    """Build modules of two widths and look at them, or raise with what is wrong."""
    if not callable(factory) or isinstance(factory, torch.nn.Module):
        raise TypeError(
            f"module must be a function of the width that returns a new module, got {type(factory).__name__}; "
            "give lambda width: torch.nn.Sequential(...)"
        )
    module, training = _made(factory, narrow, 0)
    wider, wider_training = _made(factory, wide, 0)
    layers, wider_layers = check_layers(module), check_layers(wider)
    if (training is None) != (wider_training is None):
        raise TypeError(f"module must return the same for all widths, {_WANTED}")
    sizes = [sum(layer.weight.numel() for _, layer in some) for some in (layers, wider_layers)]
    if len(layers) >= 2 and sizes[0] >= sizes[1]:
        raise ValueError(
            f"module must be larger at width {wide} than at width {narrow}, got {sizes} weights; use the width that "
            "the function is called with"
        )
    if len(layers) < 2:
        raise ValueError(f"module must have at least two layers with weights, got {len(layers)}")
    _check_outputs(module, n_features, n_classes)
    found = (activation_of(part) for part in module.modules())
    return FactoryFacts(
        trained_as_is=training is not None,
        brings_optimizer=isinstance(training, torch.optim.Optimizer),
        names=tuple(name for name, _ in layers),
        n_hidden=len(layers) - 1,
        biases=any(layer.bias is not None for _, layer in layers),
        activations=tuple(phi for phi in found if phi is not None),
    )


def _check_outputs(module: torch.nn.Module, n_features: int, n_classes: int) -> None:
    """Raise if a module does not take samples, or has fewer outputs than there are classes."""
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            # Two samples, without which normalisations over the batch do not work.
            output = module.double()(torch.zeros(2, n_features, dtype=torch.float64))
    except Exception as error:
        raise ValueError(
            f"module must map x (sample, feature) with {n_features} features to outputs (sample, class), failed with "
            f"{error}; give its first layer as many inputs as the data has features"
        ) from error
    if isinstance(output, torch.Tensor) and output.ndim == 2 and output.shape[1] < n_classes:
        raise ValueError(
            f"module must have an output for each of the {n_classes} classes, got {output.shape[1]} outputs; give its "
            "last layer as many outputs as the data has classes"
        )


def factory_trial(factory: Callable[[int], Any], scaling: Scaling | None, base_width: int) -> Trial:
    """Return what makes networks from a factory, in float64, under a scaling unless they bring their own training."""
    base = _made(factory, base_width, 0)[0]
    shapes = {name: tuple(parameter.shape) for name, parameter in base.named_parameters()}

    def trial(width: int, seed: int, rates: Rates) -> tuple[Layers, Optimizer]:
        module, training = _made(factory, width, seed)
        module.double().train()
        layers = ModuleLayers(module)
        if isinstance(training, torch.optim.Optimizer):
            return layers, training
        if training is not None:
            return layers, GroupOptimizer(training, rates.optimizer, 1.0)
        assert scaling is not None
        groups = apply_scaling(
            module,
            scaling,
            base_shapes=shapes,
            learning_rate=rates.learning_rate,
            optimizer=rates.optimizer,  # type: ignore[arg-type]
        )
        first = rates.first_learning_rate
        return layers, GroupOptimizer(groups, rates.optimizer, 1.0 if first is None else first / rates.learning_rate)

    return trial


def _made(factory: Callable[[int], Any], width: int, seed: int) -> tuple[torch.nn.Module, Any]:
    """Return a module and what trains it, None if nothing does; the seed goes to PyTorch's generator for a while."""
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = factory(width)
    module, training = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"module must return {_WANTED}; at width {width} it returned {type(made).__name__}")
    if isinstance(made, tuple) and not isinstance(training, torch.optim.Optimizer):
        training = _check_groups(training, module, width)
    if isinstance(training, torch.optim.LBFGS):
        raise TypeError(
            f"module must not return LBFGS, which needs a closure, as it did at width {width}; give torch.optim.SGD or "
            "torch.optim.Adam"
        )
    trained = training.param_groups if isinstance(training, torch.optim.Optimizer) else training
    if trained is not None:
        own = {id(parameter) for parameter in module.parameters()}
        if not own & {id(parameter) for group in trained for parameter in group["params"]}:
            raise ValueError(f"module must return an optimizer of its parameters; at width {width} it holds none")
    return module, training


def _check_groups(groups: Any, module: torch.nn.Module, width: int) -> list[dict[str, Any]]:
    if isinstance(groups, (str, Mapping)) or not isinstance(groups, Iterable):
        raise TypeError(f"module must return {_WANTED}; at width {width} came {type(groups).__name__} beside a module")
    listed = list(groups)
    for group in listed:
        if not isinstance(group, Mapping) or not {"params", "lr"} <= set(group):
            raise TypeError(f"module must return parameter groups with params and lr, at width {width} came {group!r}")
    return [{**group, "params": _listed(group["params"])} for group in listed]


def _listed(params: Any) -> list[torch.Tensor]:
    return [params] if isinstance(params, torch.Tensor) else list(params)
