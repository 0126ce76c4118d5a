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

def kernel_matrix(
    x1: NDArray[Any],
    x2: NDArray[Any] | None,
    *,
    slope: float,
    weight_variance: float,
    bias_variance: float,
    depth: int,
    every_layer: bool,
    tangent: bool,
    n_threads: int,
    cpu_path: str,
) -> dict[str, NDArray[Any]]:
    """Kernels of networks of piecewise linear activations: ``nngp`` and, if asked for, ``tangent``."""

def kernel_gaps(x1: NDArray[Any], x2: NDArray[Any] | None, *, n_threads: int, cpu_path: str) -> NDArray[Any]:
    """1 - cos of the angle of every pair where that is at most 1, else -(1 + cos), -0.0 included."""

def squared_norms(x: NDArray[Any]) -> NDArray[Any]:
    """Squared length of every row."""

def hermite_product(
    gaps: NDArray[Any],
    slopes: NDArray[Any],
    *,
    rows: NDArray[Any],
    columns: NDArray[Any],
    first_column: int,
    degree: NDArray[Any],
    weight: NDArray[Any],
    jump: NDArray[Any],
    odd: bool,
    cpu_path: str,
) -> None:
    """Gaps of the normalised expectation of a product of activations, in place, and its slopes.

    ``rows`` are (input, coefficient), ``columns`` (coefficient, input) with 32 more columns than are used.
    """
