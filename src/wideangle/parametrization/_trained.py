"""What is trained where several scalings are compared: its arguments, its networks, and their first learning rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import numpy as np

from wideangle._checks import check_choice, check_integer, check_seed
from wideangle.activations import Activation, parse_activation
from wideangle.data import LabelledData
from wideangle.parametrization._arguments import check_labelled, check_widths
from wideangle.reference import build_scaled_mlp, calibrate_first_step
from wideangle.reference._torch import torch_threads
from wideangle.reference.scaled import check_layer_rates, check_rate, check_variance
from wideangle.reference.scaled_training import first_batch
from wideangle.scalings import MAX_HIDDEN, SCALINGS, Scaling, named_scaling

if TYPE_CHECKING:
    from wideangle.reference.scaled_modules import ScaledMLP

Optimizer = Literal["sgd", "adam"]

USUAL_BATCH = 128
OUTPUT_SIZE = 0.1  # Of the output layer's first update, where first steps are calibrated; those of hidden layers are 1.


class Comparison(NamedTuple):
    """Checked arguments of a comparison of scalings by training."""

    scalings: tuple[Scaling, ...]
    data: LabelledData
    widths: tuple[int, ...]
    n_hidden: int
    activation: Activation
    weight_variance: float | None
    optimizer: Optimizer
    n_steps: int
    batch_size: int
    n_runs: int
    seed: int

    def seeds(self, width: int, run: int) -> tuple[int, int]:
        """Return the seed of the initial weights, for a width and run, and that of the order of samples, for a run."""
        weights = np.random.SeedSequence(self.seed, spawn_key=(run, width)).generate_state(1, np.uint64)
        order = np.random.SeedSequence(self.seed, spawn_key=(run,)).generate_state(1, np.uint64)
        return int(weights[0]), int(order[0])

    def build(self, scaling: Scaling, width: int, run: int) -> ScaledMLP:
        """Return the network of a run before training; those of all scalings begin with the same U."""
        return build_scaled_mlp(
            scaling,
            width,
            n_inputs=self.data.n_features,
            n_outputs=self.data.n_classes,
            seed=self.seeds(width, run)[0],
            activation=self.activation,
            weight_variance=self.weight_variance,
        )

    def steps_first_like(self, scaling: Scaling) -> Scaling:
        """Return the scaling whose first learning rates a scaling has: itself, or its twin.

        ``"hp"`` and ``"ip-llr"`` have the same limit with the same first step, and if the activation is homogeneous.
        """
        is_twin = scaling == named_scaling("hp", self.n_hidden) and self.activation.homogeneous
        return named_scaling("ip-llr", self.n_hidden) if is_twin and self.optimizer == "sgd" else scaling

    def calibrated(self, scaling: Scaling) -> tuple[float, ...] | None:
        """Return first learning rates, of each layer, of a scaling whose first step is not like the others.

        They are those of a network of the largest width.
        """
        exponents = (scaling.learning_rate_exponents(self.optimizer, first=first) for first in (True, False))
        drops = scaling.drops_initial and self.n_hidden > 1
        if next(exponents) == next(exponents) and not drops:
            return None
        width = self.widths[-1]
        model = self.build(self.steps_first_like(scaling), width, 0)
        batch = first_batch(self.data, seed=self.seeds(width, 0)[1], batch_size=self.batch_size)
        sizes = (1.0,) * self.n_hidden + (OUTPUT_SIZE,)
        try:
            with torch_threads(1):
                return calibrate_first_step(model, *batch, size=sizes, optimizer=self.optimizer)
        except ValueError as error:
            raise ValueError(
                f"the first step of {scaling.name!r} cannot be calibrated at width {width}, where a layer has no"
                f" gradient to step along ({error}); give larger widths or its first_learning_rate"
            ) from None

    def attributes(self) -> dict[str, Any]:
        """Return the arguments for the provenance of a result."""
        return {
            "data": self.data.name,
            "n_hidden": self.n_hidden,
            "widths": self.widths,
            "activation": str(self.activation),
            "weight_variance": self.weight_variance or self.activation.gradient_preserving_variance,
            "optimizer": self.optimizer,
            "n_steps": self.n_steps,
            "batch_size": self.batch_size,
            "n_runs": self.n_runs,
            "seed": self.seed,
        }


def check_comparison(
    scalings: Any,
    data: Any,
    *,
    widths: Any,
    least: int,
    n_hidden: Any,
    activation: Any,
    weight_variance: Any,
    optimizer: Any,
    n_steps: Any,
    batch_size: Any,
    n_runs: Any,
    seed: Any,
) -> Comparison:
    """Return checked arguments, or raise."""
    labelled = check_labelled(data)
    remedy = "give the number of hidden layers, such as 3"
    n_hidden = check_integer("n_hidden", n_hidden, low=1, high=MAX_HIDDEN, remedy=remedy)
    n_train = len(labelled.x_train)
    if batch_size is None or batch_size == "auto":
        batch_size = n_train if batch_size is None else min(USUAL_BATCH, n_train)
    remedy = f"give at most the {n_train} training samples, or None for all of them"
    if weight_variance is not None:
        weight_variance = check_variance(weight_variance)
    return Comparison(
        scalings=check_scalings(scalings, n_hidden),
        data=labelled,
        widths=check_widths(widths, least=least),
        n_hidden=n_hidden,
        activation=parse_activation(activation),
        weight_variance=weight_variance,
        optimizer=cast(Optimizer, check_choice("optimizer", optimizer, ("sgd", "adam"))),
        n_steps=check_integer("n_steps", n_steps, low=1, high=10**7, remedy="give a number of steps, such as 200"),
        batch_size=check_integer("batch_size", batch_size, low=1, high=n_train, remedy=remedy),
        n_runs=check_integer("n_runs", n_runs, low=1, high=10**6, remedy="give a number of networks, such as 3"),
        seed=check_seed(seed),
    )


def check_scalings(value: Any, n_hidden: int) -> tuple[Scaling, ...]:
    """Return scalings of one number of hidden layers and with different names, from one of them or several."""
    remedy = f"give names such as ['mup', 'ntk'], or Scalings of {n_hidden} hidden layers"
    items = [value] if isinstance(value, (str, Scaling)) else value
    if isinstance(items, bytes) or not isinstance(items, Iterable):
        raise TypeError(f"scalings must be a sequence of scalings, got {value!r} ({type(value).__name__}); {remedy}")
    found: dict[str, Scaling] = {}
    for place, item in enumerate(items):
        if isinstance(item, str):
            check_choice(f"scalings[{place}]", item, SCALINGS)
            item = named_scaling(item, n_hidden)
        if not isinstance(item, Scaling):
            raise TypeError(
                f"scalings[{place}] must be a name or a Scaling, got {item!r} ({type(item).__name__}); {remedy}"
            )
        if item.n_hidden != n_hidden:
            raise ValueError(
                f"scalings[{place}] must have {n_hidden} hidden layers, as n_hidden says, got {item.n_hidden}; {remedy}"
            )
        if item.name in found:
            raise ValueError(f"scalings must have names of their own, got {item.name!r} twice; set their name")
        found[item.name] = item
    if not found:
        raise ValueError(f"scalings must not be empty; {remedy}")
    return tuple(found.values())


def check_rates(name: str, value: Any, scalings: tuple[Scaling, ...]) -> dict[str, float]:
    """Return the learning rate of each scaling from one number or a mapping, which has to name all of them."""
    names = [scaling.name for scaling in scalings]
    if not isinstance(value, Mapping):
        return dict.fromkeys(names, check_rate(name, value))
    _check_names(name, value, names)
    missing = [key for key in names if key not in value]
    if missing:
        raise ValueError(
            f"{name} must have a number for every scaling, got none for {missing}; give learning rates for {names}"
        )
    return {key: check_rate(f"{name}[{key!r}]", rate) for key, rate in value.items()}


def check_first_rates(name: str, value: Any, scalings: tuple[Scaling, ...]) -> dict[str, tuple[float, ...]]:
    """Return learning rates of all layers, given one or one for each, of all scalings or of those in a mapping."""
    names, count = [scaling.name for scaling in scalings], len(scalings[0].a)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        return dict.fromkeys(names, check_layer_rates(name, value, count))
    _check_names(name, value, names)
    return {key: check_layer_rates(f"{name}[{key!r}]", rate, count) for key, rate in value.items()}


def _check_names(name: str, value: Mapping[Any, Any], names: list[str]) -> None:
    for key in value:
        if key not in names:
            raise ValueError(
                f"{name} must have the names of scalings, got {key!r}; give learning rates for some or all of {names}"
            )
