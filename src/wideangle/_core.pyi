"""Compiled kernels. Arguments are taken as checked; the public functions in wideangle check them."""

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

def cpu_paths() -> list[str]:
    """Instruction sets that this machine can run, the widest first."""

def simulate_angles(
    theta0: float,
    widths: list[int],
    weight_variance: float,
    *,
    seed: int,
    first_sample: int,
    n_samples: int,
    n_threads: int,
    cpu_path: str,
    keep_samples: bool,
    histogram: tuple[float, float, int] | None,
    progress: Callable[[int], object] | None,
) -> dict[str, NDArray[Any]]:
    """Ensemble of angle chains.

    ``log_sin2`` and ``log_norm2`` have rows count, mean and central sums of the second, third and fourth power, and a
    column a layer; ``collapsed`` and ``dead`` are cumulative counts by layer; ``histogram`` is flat over (layer, bin).
    """

def forward(
    weights: list[NDArray[Any]],
    biases: list[NDArray[Any] | None],
    x: NDArray[Any],
    *,
    activations: list[int],
    slopes: list[float],
    n_threads: int,
    cpu_path: str,
    keep_layers: bool,
    overlaps: bool,
) -> dict[str, Any]:
    """Inputs through networks with given weights: C-contiguous arrays of one type, float32 or float64.

    ``kept`` is a list of activations (network, input, unit), of all layers or the last; ``norms`` and ``active`` are
    arrays (network, layer, input); ``overlaps``, if asked for, (network, layer, input, input).
    """
