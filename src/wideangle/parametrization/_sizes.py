"""Exponents of the sizes of activations, gradients and updates under a scaling, followed from step to step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, NamedTuple

from wideangle.scalings import Scaling

NONE = Fraction(-(10**9))  # the exponent of nothing: smaller than any that exponents of thousands of layers add up to
_HALF = Fraction(1, 2)


class StepExponents(NamedTuple):
    """Exponents after a step, each of layers 1 to L + 1, the output last; at most ``NONE`` of what there is none of.

    ``size`` is that of pre-activations, ``change`` that of their change since the start, and ``update`` that of the
    part of it which the layer's own weights contribute by their change. The output is taken without its own bias.
    """

    size: tuple[Fraction, ...]
    change: tuple[Fraction, ...]
    update: tuple[Fraction, ...]


def step_exponents(scaling: Scaling, optimizer: Literal["sgd", "adam"]) -> Iterator[StepExponents]:
    """Yield the exponents at the start, after the first step, after the second, and so on without end."""
    sizes = Sizes(scaling)
    nothing = (NONE,) * len(scaling.a)
    yield StepExponents(sizes.without_output_bias(), nothing, nothing)
    first = True
    while True:
        sizes.train(optimizer, first=first)
        first = False
        yield StepExponents(
            sizes.without_output_bias(), (*sizes.updates, sizes.output_update), tuple(sizes.own_updates())
        )


@dataclass(slots=True)
class Sizes:
    """Exponents of the sizes of all that a network consists of; its layers are counted from 0 here."""

    scaling: Scaling
    starts: list[Fraction] = field(init=False)  # of an initial weight
    weights: list[Fraction] = field(init=False)  # of the update of a weight
    biases: list[Fraction] = field(init=False)  # of a bias
    bias_updates: list[Fraction] = field(init=False)
    activations: list[Fraction] = field(init=False)
    aligned: list[Fraction] = field(init=False)  # of the updates of activations, in line with later layers
    lost: list[Fraction] = field(init=False)  # of what initial weights gave to them that are gone
    dropped: list[Fraction] = field(init=False)  # of an initial weight that is gone
    output: Fraction = field(init=False)
    output_update: Fraction = NONE

    def __post_init__(self) -> None:
        layers = len(self.scaling.a)
        self.starts = [-b for b in self.scaling.b]
        self.weights = [NONE] * layers
        self.biases = [-b if self.scaling.biases == "random" else NONE for b in self.scaling.bias_b]
        self.bias_updates = [NONE] * layers
        self.aligned = [NONE] * (layers - 1)
        self.lost = [NONE] * (layers - 1)
        self.dropped = [NONE] * layers
        *self.activations, self.output = self._forward()

    @property
    def updates(self) -> list[Fraction]:
        return [max(pair) for pair in zip(self.aligned, self.lost, strict=True)]

    def own_updates(self) -> Iterator[Fraction]:
        """Yield what the changes of the weights of each layer contribute to it, its inputs being as they are now."""
        for layer, a in enumerate(self.scaling.a):
            aligned, random = (Fraction(0), Fraction(0)) if layer == 0 else (Fraction(1), self._random_sum())
            entering = self.activations[layer - 1] if layer else Fraction(0)
            yield max(self.weights[layer] + aligned, self.dropped[layer] + random) + entering - a

    def state(self) -> object:
        parts = (self.weights, self.bias_updates, self.starts, self.aligned, self.lost, [self.output_update])
        return tuple(map(tuple, parts))

    def _random_sum(self) -> Fraction:
        return _HALF if self.scaling.centered else Fraction(1)

    def _forward(self) -> Iterator[Fraction]:
        entering = Fraction(0)
        for layer, bias_a in enumerate(self.scaling.bias_a):
            bias = max(self.biases[layer], self.bias_updates[layer]) - bias_a
            entering = max(self._sum(layer, entering), bias)
            yield entering

    def _sum(self, layer: int, entering: Fraction) -> Fraction:
        """Return what the weights of a layer make of what enters it."""
        random, aligned = (Fraction(0), Fraction(0)) if layer == 0 else (self._random_sum(), Fraction(1))
        terms = [self.starts[layer] + random + entering, self.weights[layer] + aligned + entering]
        if layer == len(self.scaling.a) - 1:
            terms.append(self.starts[layer] + aligned + self.aligned[-1])
            terms.append(self.starts[layer] + random + self.lost[-1])
        return max(terms) - self.scaling.a[layer]

    def without_output_bias(self) -> tuple[Fraction, ...]:
        """Return exponents of the pre-activations and of the output less its own bias."""
        return *self.activations, self._sum(len(self.scaling.a) - 1, self.activations[-1])

    def _gradients(self) -> list[Fraction]:
        """Exponents of the derivative of the output with respect to the pre-activations of each layer."""
        derivatives = [Fraction(0)]
        for layer in range(len(self.scaling.a) - 1, 0, -1):
            random, aligned = (self._random_sum(), Fraction(1)) if len(derivatives) > 1 else (Fraction(0), Fraction(0))
            size = max(self.starts[layer] + random, self.weights[layer] + aligned)
            derivatives.append(derivatives[-1] - self.scaling.a[layer] + size)
        return derivatives[::-1]

    def train(self, optimizer: Literal["sgd", "adam"], *, first: bool) -> None:
        rates, bias_rates = self.scaling.learning_rate_exponents(optimizer, first=first)
        derivatives = self._gradients()
        entering = [Fraction(0), *self.activations]
        for layer, derivative in enumerate(derivatives):
            step = derivative + entering[layer] - self.scaling.a[layer] if optimizer == "sgd" else Fraction(0)
            self.weights[layer] = max(self.weights[layer], step - rates[layer])
            if self.scaling.biases == "none":
                continue
            step = derivative - self.scaling.bias_a[layer] if optimizer == "sgd" else Fraction(0)
            self.bias_updates[layer] = max(self.bias_updates[layer], step - bias_rates[layer])
        kept = list(self.starts)
        if self.scaling.drops_initial and first:
            kept[1:-1] = [NONE] * (len(kept) - 2)
        self._follow(entering, kept)

    def _follow(self, entering: list[Fraction], kept: list[Fraction]) -> None:
        """Update the activations; initial weights that are not kept are gone, which is a change too."""
        gone = [start if start != after else NONE for start, after in zip(self.starts, kept, strict=True)]
        self.starts = kept
        self.dropped = [max(pair) for pair in zip(self.dropped, gone, strict=True)]
        changed = lost = NONE
        for layer, a in enumerate(self.scaling.a[:-1]):
            aligned, random = (Fraction(0), Fraction(0)) if layer == 0 else (Fraction(1), self._random_sum())
            now = max(entering[layer], changed) if layer else Fraction(0)
            terms = [self.weights[layer] + aligned + now, self.starts[layer] + random + changed]
            changed = max(max(terms) - a, self.bias_updates[layer] - self.scaling.bias_a[layer])
            lost = max(gone[layer] + entering[layer], self.starts[layer] + lost) + random - a
            # What came with the steps before stays.
            changed, lost = max(changed, self.aligned[layer]), max(lost, self.lost[layer])
            self.aligned[layer], self.lost[layer] = changed, lost
        *self.activations, self.output = self._forward()
        terms = [self.weights[-1] + 1 + self.activations[-1], self.starts[-1] + 1 + changed]
        terms.append(self.starts[-1] + self._random_sum() + lost)
        self.output_update = max(self.output_update, max(terms) - self.scaling.a[-1])
