"""Parameters of cells: their names, networks among them, and what versions of methods hold for."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from functools import lru_cache, wraps
from typing import Any, NamedTuple, TypeVar

import numpy as np

from wideangle._checks import MAX_WIDTH, check_integer
from wideangle._version import __version__
from wideangle.network import MLP
from wideangle.statistics import Total
from wideangle.studies._cells import ReadOnly, ReadOnlyList
from wideangle.studies.protocol import Variable, unknown_parameter

NETWORK = ("width", "depth", "widths", "activation", "weight_variance", "bias_variance")
MAX_DEPTH = 1_000_000


T = TypeVar("T")


class Network(NamedTuple):
    """A checked network, as plain numbers."""

    widths: tuple[int, ...]
    activation: str
    weight_variance: float
    bias_variance: float

    @property
    def mlp(self) -> MLP:
        """The network."""
        return MLP(
            self.widths,
            activation=self.activation,
            weight_variance=self.weight_variance,
            bias_variance=self.bias_variance,
        )


def method_version(number: int) -> str:
    """Return the version of a method: random numbers change with minor versions of the package at most."""
    return f"{'.'.join(__version__.split('.')[:2])}/{number}"


def check_names(parameters: Mapping[str, Any], *, needed: tuple[str, ...], known: tuple[str, ...], of: str) -> None:
    """Refuse unknown names, and ask for those that are missing."""
    for name in parameters:
        if name not in known:
            raise unknown_parameter(str(name), known, of=f"method {of!r}")
    for name in needed:
        if name not in parameters:
            raise ValueError(f"method {of!r} needs the parameter {name!r}; give it in parameters, grid or cells")


def chosen(parameters: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return those of the names that are given."""
    return {name: parameters[name] for name in names if name in parameters}


def check_network(parameters: Mapping[str, Any], *, of: str) -> Network:
    """Return the network of ``width`` and ``depth``, or ``widths``, and what else :class:`wideangle.MLP` takes."""
    rest = chosen(parameters, NETWORK[3:])
    if "widths" in parameters:
        for name in ("width", "depth"):
            if name in parameters:
                raise ValueError(f"method {of!r} takes width and depth, or widths, got {name} and widths; give one")
        net = MLP(parameters["widths"], **rest)
        return Network(net.widths, net.activation, net.weight_variance, net.bias_variance)
    for name in ("width", "depth"):
        if name not in parameters:
            raise ValueError(f"method {of!r} needs the parameter {name!r}; give width and depth, or widths, a list")
    remedy = "give the number of neurons of a hidden layer, such as 256"
    width = check_integer("width", parameters["width"], low=1, high=MAX_WIDTH, remedy=remedy)
    remedy = "give the number of hidden layers, such as 32"
    depth = check_integer("depth", parameters["depth"], low=1, high=MAX_DEPTH, remedy=remedy)
    try:
        others = _others(**rest)
    except TypeError:  # what cannot be hashed is no number, and no name either
        others = _others.__wrapped__(**rest)
    return Network((width,) * depth, *others)


@lru_cache(maxsize=1024, typed=True)
def _others(**rest: Any) -> tuple[str, float, float]:
    net = MLP((1,), **rest)
    return net.activation, net.weight_variance, net.bias_variance


def by_value(size: int) -> Callable[[Callable[[Any], T]], Callable[[Any], T]]:
    """Remember what a function of one argument returns for the last so many values, lists and tables included.

    Cells share what they have in common, and planning many of them reads and checks it once.
    """

    def decorate(function: Callable[[Any], T]) -> Callable[[Any], T]:
        remembered = lru_cache(maxsize=size)(
            lambda key: function(json.loads(key) if isinstance(key, str) else pickle.loads(key))
        )

        @wraps(function)
        def called(value: Any) -> T:
            if isinstance(value, (ReadOnly, ReadOnlyList)):
                return remembered(value.text)  # which is made once, and not for each cell
            try:
                key = pickle.dumps(value)
            except (pickle.PicklingError, AttributeError, TypeError):
                return function(value)  # which refuses it
            return remembered(key)

        return called

    return decorate


def layer_sum(widths: tuple[int, ...], of_layer: float, of_neuron: float) -> float:
    """Return a cost that is linear in the width, summed over the layers."""
    return of_layer * len(widths) + of_neuron * sum(widths)


def count(values: Any, *dims: str) -> Variable:
    """Return counts of events as a variable."""
    return Variable(dims, reduced={"total": Total(np.asarray(values).astype(np.int64))})
