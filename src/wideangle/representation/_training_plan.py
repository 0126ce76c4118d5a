"""Which networks to train to study representations by width, and how: arguments, checked, and seeds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from wideangle._checks import MAX_WIDTH, check_increasing_integers, check_integer, check_memory, check_real, check_seed
from wideangle.data import LabelledData
from wideangle.reference.epoch_training import AT_ZERO_ERROR, LAST, Descent
from wideangle.reference.training import check_training_options

MAX_EPOCHS = 10**7


class Network(NamedTuple):
    """A network of a width and a run; further members of ensembles have numbers from 1."""

    width: int
    run: int
    member: int = 0


@dataclass(frozen=True)
class Plan:
    """Checked arguments; ``keep`` are labels, in order."""

    data: LabelledData
    widths: tuple[int, ...]
    n_runs: int
    n_hidden: int
    seed: int
    descent: Descent
    keep: tuple[str, ...]
    member_width: int | None

    def ensemble_sizes(self) -> list[int]:
        """Return the number of members of the ensemble as wide as each width, 0 where there is none."""
        m = self.member_width
        return [0 if m is None or width % m else width // m for width in self.widths]

    def networks(self) -> list[Network]:
        """Return all networks, the longest to train first."""
        wide = [Network(width, run) for width in self.widths for run in range(self.n_runs)]
        narrow = (
            [
                Network(self.member_width, run, k)
                for run in range(self.n_runs)
                for k in range(max(self.ensemble_sizes()))
            ]
            if self.member_width is not None
            else []
        )
        return sorted({*wide, *narrow}, key=lambda network: (-network.width, network.run, network.member))

    def seeds(self, network: Network) -> tuple[int, int]:
        """Return the seeds of initial weights and of the order of samples, which no other network shares."""
        weights, batches = np.random.SeedSequence(self.seed, spawn_key=network).generate_state(2, np.uint64)
        return int(weights), int(batches)

    def check_memory(self, threads: int) -> None:
        """Refuse to keep more than the machine holds."""
        data, widest = self.data, max(self.widths)
        n_samples = len(data.x_train) + len(data.x_test)
        kept = sum(width * (n_samples + data.n_classes) + data.n_classes for width in self.widths)
        parameters = widest * (data.n_features + (self.n_hidden - 1) * widest + data.n_classes)
        outputs = (len(self.widths) + max(self.ensemble_sizes())) * len(data.x_test) * data.n_classes
        # Weights, gradients, momenta and the step; the data once more, as tensors.
        working = 4 * threads * parameters + n_samples * data.n_features
        needed = 4 * (self.n_runs * (kept * len(self.keep) + outputs) + working)
        check_memory(
            needed,
            f"layers of {self.n_runs} run(s) of widths up to {widest}, kept {len(self.keep)} time(s), need",
            remedy="keep fewer epochs, or give fewer runs, widths or samples",
        )

    def attributes(self) -> dict[str, Any]:
        """Return the arguments for the provenance of a result."""
        descent = self.descent
        return {
            "data": self.data.name,
            "widths": self.widths,
            "n_runs": self.n_runs,
            "until": AT_ZERO_ERROR if descent.to_zero_error else descent.max_epochs,
            "weight_decay": descent.weight_decay,
            "seed": self.seed,
            "n_hidden": self.n_hidden,
            "learning_rate": descent.learning_rate,
            "momentum": descent.momentum,
            "batch_size": descent.batch_size,
            "max_epochs": descent.max_epochs,
            "extra_epochs": descent.extra_epochs,
            "keep": self.keep,
            "member_width": self.member_width,
        }


def check_plan(
    data: Any,
    widths: Any,
    *,
    n_runs: Any,
    until: Any,
    weight_decay: Any,
    seed: Any,
    n_hidden: Any,
    learning_rate: Any,
    momentum: Any,
    batch_size: Any,
    max_epochs: Any,
    extra_epochs: Any,
    keep: Any,
    member_width: Any,
) -> Plan:
    """Return checked arguments, or raise."""
    options = check_training_options(data, learning_rate=learning_rate, batch_size=batch_size, epochs=1, steps=None)
    if data.n_classes < 2:
        raise ValueError(f"data must have labels of at least 2 classes, got {data!r}; give others")
    remedy = "give increasing widths of the hidden layers, such as (16, 32, 64)"
    widths = check_increasing_integers("widths", widths, low=1, high=MAX_WIDTH, remedy=remedy)
    to_zero_error, epochs = _check_until(until, max_epochs)
    remedy = f"give a number of epochs past zero training error, such as 100, with until={AT_ZERO_ERROR!r}"
    extra_epochs = check_integer(
        "extra_epochs", extra_epochs, low=0, high=MAX_EPOCHS if to_zero_error else 0, remedy=remedy
    )
    descent = Descent(
        learning_rate=options.learning_rate,
        momentum=_check_part("momentum", momentum, below=1.0, remedy="give a number from 0 to below 1, such as 0.9"),
        weight_decay=_check_part("weight_decay", weight_decay, below=np.inf, remedy="give 0 or more, such as 3e-3"),
        batch_size=options.batch_size,
        max_epochs=epochs,
        extra_epochs=extra_epochs,
        to_zero_error=to_zero_error,
    )
    return Plan(
        data=data,
        widths=widths,
        n_runs=check_integer("n_runs", n_runs, low=1, high=10**6, remedy="give a number of networks, such as 3"),
        n_hidden=check_integer("n_hidden", n_hidden, low=1, high=1000, remedy="give a number of layers, such as 2"),
        seed=check_seed(seed),
        descent=descent,
        keep=_check_keep(keep, epochs + extra_epochs),
        member_width=None if member_width is None else _check_member_width(member_width, widths),
    )


def _check_until(until: Any, max_epochs: Any) -> tuple[bool, int]:
    """Return whether to stop at zero training error, and the largest number of epochs up to there."""
    remedy = "give a number of epochs, such as 500"
    longest = check_integer("max_epochs", max_epochs, low=1, high=MAX_EPOCHS, remedy=remedy)
    remedy = f"give {AT_ZERO_ERROR!r} or a number of epochs, such as 200"
    if isinstance(until, str):
        if until != AT_ZERO_ERROR:
            raise ValueError(f"until must be {AT_ZERO_ERROR!r} or an integer, got {until!r}; {remedy}")
        return True, longest
    return False, check_integer("until", until, low=1, high=MAX_EPOCHS, remedy=remedy)


def _check_part(name: str, value: Any, *, below: float, remedy: str) -> float:
    result = check_real(name, value, remedy=remedy)
    if not 0.0 <= result < below:
        raise ValueError(f"{name} must lie in [0, {below:g}), got {value!r}; {remedy}")
    return result


def _check_keep(value: Any, longest: int) -> tuple[str, ...]:
    """Return labels of when to keep: increasing epochs, then zero training error, then the end."""
    remedy = (
        f"give {LAST!r} or a sequence of epochs from 0 to {longest} and of {AT_ZERO_ERROR!r}, such as [0, {LAST!r}]"
    )
    if isinstance(value, bytes) or not isinstance(value, Iterable):
        raise TypeError(f"keep must be {LAST!r} or a sequence, got {value!r} ({type(value).__name__}); {remedy}")
    items = [value] if isinstance(value, str) else list(value)
    named = [item for item in items if isinstance(item, str)]
    for item in named:
        if item not in (AT_ZERO_ERROR, LAST):
            raise ValueError(f"keep must hold {LAST!r}, {AT_ZERO_ERROR!r} or integers, got {item!r}; {remedy}")
    epochs = [
        check_integer(f"keep[{place}]", item, low=0, high=longest, remedy=remedy)
        for place, item in enumerate(items)
        if not isinstance(item, str)
    ]
    if len(set(epochs)) + len(set(named)) < len(items):
        raise ValueError(f"keep must not hold anything twice, got {items!r}; {remedy}")
    zero_error = (AT_ZERO_ERROR,) if AT_ZERO_ERROR in named else ()
    return (*map(str, sorted(epochs)), *zero_error, LAST)


def _check_member_width(value: Any, widths: tuple[int, ...]) -> int:
    remedy = f"give a number of neurons that divides one of the widths {list(widths)}, such as {widths[0]}"
    width = check_integer("member_width", value, low=1, high=widths[-1], remedy=remedy)
    if not any(wide % width == 0 for wide in widths):
        raise ValueError(f"member_width must divide one of the widths, got {width}; {remedy}")
    return width
