"""Networks of a coordinate check: what they are, with which learning rates they train, and what is recorded of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from wideangle.activations import Activation
from wideangle.parametrization._sizes import StepExponents, step_exponents
from wideangle.parametrization.regimes import Regime, classify
from wideangle.scalings import Scaling

if TYPE_CHECKING:
    from wideangle.reference.coordinate_modules import Rates, Trial

DEFAULT_RATES = {"sgd": 0.1, "adam": 0.01}
_GENTLE = 0.3  # change of the last hidden layer in a step, relative to its size, that leaves it in its leading order
_RAISED = 1.0  # size that takes the place of one which vanishes with the width
_TRIES = 24
_HALVINGS = 3
_ODD = ("linear", "tanh", "erf", "sin")
_BOUNDED = ("tanh", "erf", "sin")


@dataclass(frozen=True)
class Case:
    """Networks of one depth and activation.

    ``scaling`` is the one that they are made and trained with, None for those that bring their own training, and
    ``expected`` the one by which they are judged.
    """

    label: str
    n_hidden: int
    scaling: Scaling | None
    expected: Scaling
    optimizer: str
    activations: tuple[Activation, ...]
    trial: Trial

    def regime(self) -> Regime:
        """Return what is expected."""
        return classify(self.expected, optimizer=self.optimizer)  # type: ignore[arg-type]

    def predicted(self, n_steps: int) -> list[StepExponents]:
        """Return the exponents at the start and after each step."""
        steps: Iterator[StepExponents] = step_exponents(self.expected, self.optimizer)  # type: ignore[arg-type]
        return list(itertools.islice(steps, n_steps + 1))

    @property
    def has_prediction(self) -> bool:
        """Whether exponents for a generic activation hold.

        Not for one that is not zero at zero, as the sigmoid: layers then start from a constant. Not where a smooth one
        is linear, at vanishing arguments. Not for odd ones, whose mean is zero, under weights that are not centered,
        whose sums are then of the order of the root of their number; nor from two hidden layers on where initial
        weights are dropped. And not for bounded ones where the last hidden layer has to come from nothing in a large
        first step: they saturate.
        """
        if any(float(phi.value(0.0)) != 0.0 for phi in self.activations):
            return False
        s, initial = self.expected, self.regime().initial_activations
        if any(map(smooth_at_zero, self.activations)) and any(exponent < 0 for exponent in initial[1:-1]):
            return False
        if any(phi.name in _ODD for phi in self.activations) and (
            not s.centered or (s.drops_initial and s.n_hidden > 1)
        ):
            return False
        large = (s.drops_initial and s.n_hidden > 1) or (initial[-1] < 0 and s.c_first != s.c)
        return not (large and any(phi.name in _BOUNDED for phi in self.activations))


def smooth_at_zero(phi: Activation) -> bool:
    """Whether an activation has no kink at zero."""
    above, below = phi.slopes_at_zero
    return above == below


def choose_rates(
    case: Case,
    widths: tuple[int, ...],
    batch: tuple[Any, Any],
    n_steps: int,
    learning_rate: float | None,
    first_learning_rate: float | None,
    *,
    seed: int,
) -> Rates:
    """Return the base learning rates, those that are not given found by trying them, the same for all widths."""
    from wideangle.reference.coordinate_modules import Rates
    from wideangle.reference.coordinates import record_steps

    rates = Rates(case.optimizer, learning_rate or DEFAULT_RATES[case.optimizer], first_learning_rate)
    if case.scaling is None or (learning_rate is not None and first_learning_rate is not None):
        return rates
    s = case.scaling
    regime = classify(s, optimizer=case.optimizer)  # type: ignore[arg-type]
    vanishing = regime.initial_activations[-1] < 0 or (s.drops_initial and s.n_hidden > 1)
    own_first = case.optimizer == "adam" or s.drops_initial or s.c_first != s.c

    def last_hidden(tried: Rates, steps: int, quantity: int, width: int = widths[-1]) -> float:
        records = record_steps(*case.trial(width, seed, tried), *batch, steps)
        return float(records[quantity, -1, -2])

    if vanishing and regime.activation_updates[-1] == 0:
        # What starts at nothing has to get somewhere: in the first step if that has a learning rate of its own.
        if own_first and first_learning_rate is None:
            first = _climb(
                lambda rate: last_hidden(replace(rates, first_learning_rate=rate), 1, 0), rates.learning_rate, _RAISED
            )
            return replace(rates, first_learning_rate=first)
        if not own_first and learning_rate is None:
            # Where steps are alike the first of them are small, and lower orders of the width stay for long.
            rate = _climb(
                lambda rate: last_hidden(replace(rates, learning_rate=rate), n_steps, 0),
                rates.learning_rate,
                4.0 * _RAISED,
            )
            return replace(rates, learning_rate=rate)
    elif learning_rate is None and not vanishing:
        ends = {width: last_hidden(rates, 0, 0, width) for width in (widths[0], widths[-1])}
        for rate in (rates.learning_rate / 2.0**power for power in range(_TRIES)):
            tried = replace(rates, learning_rate=rate)
            if all(last_hidden(tried, 1, 1, width) <= _GENTLE * start for width, start in ends.items()):
                return tried
    return rates


def _climb(size: Callable[[float], float], start: float, wanted: float) -> float:
    """Return the first rate from the start on with a wanted size; the start itself if none has.

    Sizes may go like a power of the rate as high as the number of layers, and what is much too large dies.
    """
    for low in (start * 2.0**power for power in range(_TRIES)):
        if not size(2.0 * low) < wanted:
            break
    else:
        return start
    high = 2.0 * low
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if size(middle) < wanted else (low, middle)
    return high
