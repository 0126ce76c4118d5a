"""Compiled kernels. Arguments are taken as checked; the public functions in wideangle check them."""

from collections.abc import Callable
from typing import Any

import numpy as np
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

def simulate_gram(
    gram0: NDArray[np.float64],
    widths: list[int],
    *,
    activation: int,
    slope: float,
    weight_variance: float,
    bias_variance: float,
    theta0: float,
    seed: int,
    first_sample: int,
    n_samples: int,
    n_threads: int,
    cpu_path: str,
    keep_samples: bool,
    progress: Callable[[int], object] | None,
) -> dict[str, NDArray[Any]]:
    """Ensemble of Gram matrix chains; of angle chains if ``theta0``, the angle between two inputs, is positive.

    ``gram`` and ``log_norm2`` have rows count, mean and central sums of the second, third and fourth power, and a
    column for each layer and, fastest, each entry of the lower triangle by rows, or each input; ``log_determinant``
    and ``effective_rank`` a column a layer. ``rank_lost`` is a cumulative count by layer.
    """

def simulate_networks(
    x: NDArray[np.float64],
    tangent: NDArray[np.float64] | None,
    widths: list[int],
    *,
    outputs: int,
    activation: int,
    slope: float,
    weight_variance: float,
    bias_variance: float,
    seed: int,
    first_network: int,
    n_networks: int,
    n_threads: int,
    cpu_path: str,
    keep: list[str],
    progress: Callable[[int], object] | None,
) -> dict[str, Any]:
    """Ensemble of random networks with real weights, for inputs (input, feature).

    ``keep`` names what is returned: ``outputs`` (network, input, output), ``gram`` (network, layer, input, input),
    ``layers``, a list of float32 arrays (network, input, unit), and logarithms of squared norms (network, layer, input)
    for layers 0 to L+1: ``log_gradient2`` of the first output's gradient with respect to the input and to each layer's
    pre-activations, ``log_tangent2`` of what ``tangent``, one for each input, becomes in each layer's post-activations.
    ``tangent_kernel`` (network, input, input) is that of the first output, for standard normal weights and biases.
    """

def network_weights(
    input_dim: int,
    widths: list[int],
    *,
    outputs: int,
    weight_variance: float,
    bias_variance: float,
    seed: int,
    network: int,
    cpu_path: str,
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return weights (unit, input) and biases (unit) of each layer of one network, the readout last."""

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

def scatter_matrix(
    features: NDArray[Any], *, n_threads: int, cpu_path: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means of neurons, and sums over samples of products of deviations from them, (neuron, neuron)."""

def chunk_regression(
    products: NDArray[np.float64],
    *,
    n_samples: int,
    orders: NDArray[np.int64],
    sizes: NDArray[np.int64],
    ridge: float,
    ridge_matters: bool,
    offset: float,
    n_threads: int,
    cpu_path: str,
    progress: Callable[[int], object] | None,
) -> dict[str, NDArray[np.float64]]:
    """Regression of all neurons on the first ones of each order, from their scatter matrix.

    ``unexplained`` and ``correlation``, with ``_outside`` over neurons outside the chunk, as (order, size); progress
    counts orders.
    """

def group_search(
    covariance: NDArray[np.float64],
    *,
    orders: NDArray[np.int64],
    size: int,
    n_threads: int,
    cpu_path: str,
    progress: Callable[[int], object] | None,
) -> dict[str, NDArray[np.int64]]:
    """Groups of ``size`` neurons with large determinants of their covariance, which is that in units of noise.

    ``greedy`` and, after exchanges of neurons, ``group``, as (order, neuron), -1 for neurons left over; ``n_swaps`` as
    (order). Progress counts orders.
    """

def chunk_readout(
    features: NDArray[Any],
    readout: NDArray[np.float64],
    bias: NDArray[np.float64],
    targets: NDArray[np.int64],
    orders: NDArray[np.int64],
    sizes: NDArray[np.int64],
    *,
    n_threads: int,
    cpu_path: str,
    progress: Callable[[int], object] | None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Correct samples and summed cross-entropy, both (order, size), of chunks of neurons under a linear readout.

    ``features`` (sample, neuron) are C-contiguous float32 or float64, ``readout`` is (class, neuron). A chunk is the
    first ``sizes[s]`` neurons of a row of ``orders``, whose rows are at least as long as the last of the increasing
    ``sizes``. Of equal largest logits the first counts. Sums are in float64 and do not depend on ``n_threads``.
    ``progress`` is called with the pairs of a sample and an order that are done.
    """

def evaluate_networks(
    parameters: NDArray[np.float64],
    sizes: list[int],
    x: NDArray[np.float64],
    others: NDArray[np.float64] | None,
    *,
    activation: int,
    slope: float,
    weight_rates: list[float],
    bias_rates: list[float],
    keep: list[str],
    layers: list[int],
    loss_derivatives: NDArray[np.float64] | None,
    learning_rate: float,
    n_threads: int,
    cpu_path: str,
    progress: Callable[[int], object] | None,
) -> dict[str, NDArray[np.float64]]:
    """Networks of one shape with a linear scalar output, one a row of ``parameters``, at the same points.

    ``sizes`` are the features, the hidden layers and 1; a row has the weights of a layer row by row, its biases, and
    then the next layer. ``keep`` names what is returned: ``outputs`` and ``diagonal`` (network, point), ``kernel``,
    ``readout_part`` and ``hidden_part`` (network, point, other), the points themselves where ``others`` is None.
    ``layers`` are hidden layers, from 1, that come as ``activations_1`` ... (network, point, unit). With
    ``loss_derivatives`` (network, point) there are ``response`` (network, point, other) and ``own_response``
    (network, point): the change of the output by a step of gradient descent on a point, over ``learning_rate``.
    ``progress`` counts points of networks. The results are the same bits for any ``n_threads`` and ``cpu_path``.
    """

def train_networks(
    initial: NDArray[np.float64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    *,
    widths: list[int],
    activation: int,
    slope: float,
    loss: int,
    weight_rates: list[float],
    bias_rates: list[float],
    learning_rate: float,
    tolerance: float,
    first_step: int = 0,
    n_steps: int,
    records: list[int],
    order: str,
    batch: int,
    given: NDArray[np.uint32] | None,
    noise: float,
    flips: bool,
    seed: int,
    first_network: int,
    n_threads: int,
    cpu_path: str,
    progress: Callable[[int], object] | None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Networks of one linear output in training, from parameters (network, parameter).

    A row of parameters holds for each layer the weights (unit, input) and then the biases. ``order`` is "full",
    "drawn", "permuted" or "given", by ``given`` (step, batch). Returned are the parameters (network, record,
    parameter), NaN from the step on in which a network diverges, and that step (network), or -1. With a ``tolerance``
    above 0, gradient flow up to the times of the records takes the place of descent. Progress counts steps of networks.
    """

def training_order(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    *,
    first_step: int = 0,
    n_steps: int,
    order: str,
    batch: int,
    given: NDArray[np.uint32] | None,
    noise: float,
    flips: bool,
    seed: int,
    first_network: int,
    n_networks: int,
    cpu_path: str,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Samples and noisy labels of steps of training, (network, step, batch); -1 and NaN where a batch is smaller."""

def initial_parameters(
    input_dim: int,
    widths: list[int],
    *,
    weight_variance: float,
    bias_variance: float,
    seed: int,
    first_network: int,
    n_networks: int,
    cpu_path: str,
) -> NDArray[np.float64]:
    """Parameters (network, parameter) of networks of ``simulate_networks`` with one output."""
