"""Many networks at many points: outputs, hidden activations, tangent kernels and real steps, compiled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wideangle import _core
from wideangle._checks import check_memory
from wideangle._cpu import active_cpu_path, available_threads
from wideangle._progress import progress_callback
from wideangle.propagation._inputs import check_inputs
from wideangle.response._state import Array, States

_BLOCK = 32  # points that the kernel takes at a time


def check_points(name: str, value: Any, states: States) -> Array:
    """Return points (input, feature) as finite float64, with as many features as the networks take."""
    x = check_inputs(name, value)
    if x.shape[1] != states.sizes[0]:
        raise ValueError(
            f"{name} must have the {states.sizes[0]} feature(s) that the networks take, got shape {x.shape}; give "
            "inputs as (input, feature)"
        )
    return x


def check_evaluation_memory(states: States, n_points: int, n_others: int, *, n_pairs: int, n_singles: int = 0) -> None:
    """Refuse results that do not fit: arrays (state, point, other) and numbers for each state and point."""
    results = len(states) * n_points * (n_pairs * n_others + n_singles)
    # Beside them, scalar products of the inputs, and what each thread knows of all other points.
    rows, columns = (-(-count // _BLOCK) * _BLOCK for count in (n_points, n_others))
    working = rows * columns + available_threads() * (columns + _BLOCK) * (3 * sum(states.sizes[1:-1]) + 1)
    check_memory(
        8 * (results + working),
        f"{len(states)} states at {n_points} x {n_others} points need",
        remedy="select fewer networks or times with isel, or give fewer points",
    )


def evaluate(
    states: States,
    x: Array,
    others: Array | None = None,
    *,
    keep: Sequence[str] = (),
    layers: Sequence[int] = (),
    loss_derivatives: Array | None = None,
    learning_rate: float = 1.0,
    n_threads: int = 0,
    progress: bool = False,
) -> dict[str, Array]:
    """Run the kernel on checked arguments: the arrays of :func:`wideangle._core.evaluate_networks`, state by state."""
    with progress_callback(len(states) * len(x), progress, unit="point") as advance:
        return _core.evaluate_networks(
            states.parameters,
            list(states.sizes),
            x,
            others,
            activation=states.activation.code,
            slope=states.activation.slope,
            weight_rates=list(states.weight_rates),
            bias_rates=list(states.bias_rates),
            keep=list(keep),
            layers=list(layers),
            loss_derivatives=loss_derivatives,
            learning_rate=learning_rate,
            n_threads=n_threads or available_threads(),
            cpu_path=active_cpu_path(),
            progress=advance,
        )
