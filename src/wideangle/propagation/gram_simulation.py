"""Ensembles of random networks, seen through the Gram matrix of several inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wideangle import _core
from wideangle._checks import (
    check_choice,
    check_flag,
    check_memory,
    check_samples,
    check_seed,
    check_threads,
)
from wideangle._cpu import active_cpu_path, available_threads
from wideangle._progress import progress_callback
from wideangle._provenance import provenance
from wideangle.network import MLP
from wideangle.propagation._ensembles import check_index, moments_of
from wideangle.propagation._gram_matrix import check_gram
from wideangle.propagation._network import check_network

if TYPE_CHECKING:
    import xarray as xr

SOURCE = "exact Markov chain of the Gram matrix through random networks; derived"
RANK_TOLERANCE = 2.0**-40
"""Part of its diagonal entry below which a pivot counts as zero, as in cpp/kernels/gram_step.hpp."""


def simulate_gram(
    net: MLP,
    gram0: ArrayLike,
    *,
    n_samples: int,
    seed: int,
    keep: str = "moments",
    n_threads: int | None = None,
    progress: bool = False,
    first_sample: int = 0,
) -> xr.Dataset:
    r"""Simulate the Gram matrix of several inputs through an ensemble of random networks.

    :math:`Q^l_{ij} = \phi(z^l_i) \cdot \phi(z^l_j) / n_l` for inputs i and j; :math:`Q^0` is ``gram0``. Each sample is
    an independent network. Given :math:`Q^{l-1}`, the rows of pre-activations of layer :math:`l`, one for each neuron
    with an entry for each input, are independent normal vectors with covariance
    :math:`\sigma_b^2 11^T + \sigma_w^2 Q^{l-1}`. So a layer costs :math:`O(n_l m^2)` for m inputs and no weights, with
    the same law as a network of real weights.

    The matrices become singular with depth. They are kept in float64 with a power of two of their own, and factored by
    Cholesky's method with pivoting: pivots below 2**-40, about 1e-12, of their diagonal entry (m/16 times that for more
    than 16 inputs) count as zero, and their number is what the rank lacks. Pre-activations and activations are rounded
    to float32, which leaves larger pivots as they are to a percent or better. For two inputs, ReLU and no biases the
    chain is the one of the angle, as in :func:`simulate_angles`, whose determinant does not cancel; pairs that
    collapsed or died there go on as singular matrices.

    Parameters
    ----------
    net
        Network with any activation, with or without biases.
    gram0
        Gram matrix of the inputs, (input, input): ``x @ x.T / n_0`` for x of shape (input, n_0). Symmetric and positive
        semi-definite up to the rounding of its own type. It may be singular, and inputs may be zero.
    n_samples
        Number of independent networks.
    seed
        Non-negative integer below 2**64. Sample k depends on the seed, k, gram0 and the network alone: not on
        ``n_samples``, ``n_threads``, the processor's instruction set, or the order of the work. Equality across minor
        versions of the package is not promised.
    keep
        ``"moments"`` (default): reduced as the samples come, in memory that does not grow with their number.
        ``"samples"``: every sample.
    n_threads
        Threads; default every processor available. Results do not depend on it.
    progress
        Whether to show a progress bar.
    first_sample
        Index of the first sample, default 0, so that one ensemble can be computed in parts.

    Returns
    -------
    xarray.Dataset
        Over ``layer`` 0...L, 0 being the input. With ``keep="moments"``, of each quantity the mean, ``variance``,
        ``mean_standard_error`` and ``variance_standard_error``:

        - ``mean(layer, input, input_)`` and so on: the entries of Q, over all samples. Infinite or NaN where the
          numbers or their fourth powers exceed float64; the following do not.
        - ``log_norm2_mean(layer, input)`` and so on: :math:`\ln Q_{ii}`, over the samples in which input i is not
          mapped to zero.
        - ``log_determinant_mean(layer)`` and so on: :math:`\ln \det Q`, over the ``full_rank(layer)`` samples in which
          Q has full numerical rank.
        - ``effective_rank_mean(layer)`` and so on: the participation ratio
          :math:`(\operatorname{tr} Q)^2 / \operatorname{tr} Q^2`, between 1 and the number of inputs, over the samples
          in which Q is not zero.

        And counts of samples: ``full_rank(layer)``; ``rank_lost(layer)``, in which Q was singular at or before the
        layer; ``dead(layer, input)``, in which the input is mapped to zero. Rank comes back where a nonlinearity makes
        dependent inputs independent; what lies below the tolerance does not. Variances are unbiased, and NaN where too
        few samples count.

        With ``keep="samples"``: ``gram(sample, layer, input, input_)``, ``log_determinant(sample, layer)`` (-inf below
        full rank) and ``rank(sample, layer)``.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range, before any work.
    KeyboardInterrupt
        On Ctrl-C, within 0.2 s; nothing is left running.

    References
    ----------
    Derived: a row of pre-activations is a linear map of one row of weights, which is normal and independent of the
    others; its covariance is that of the definition of the network. The effective rank is R_0 of P. Bartlett, P. Long,
    G. Lugosi and A. Tsigler, arXiv 1906.11300, definition 3.

    Examples
    --------
    >>> import numpy as np
    >>> import wideangle as wa
    >>> gram0 = np.array([[1.0, 0.5, 0.5], [0.5, 1.0, 0.5], [0.5, 0.5, 1.0]])
    >>> ensemble = wa.propagation.simulate_gram(wa.MLP((100,) * 10), gram0, n_samples=2000, seed=1)
    >>> [round(float(ensemble.effective_rank_mean.sel(layer=layer)), 1) for layer in (0, 1, 5)]
    [2.0, 1.7, 1.3]
    >>> int(ensemble.rank_lost.sel(layer=10))
    0
    """
    check_network(net)
    gram = check_gram("gram0", gram0)
    n_samples = check_samples("n_samples", n_samples)
    seed = check_seed(seed)
    keep = check_choice("keep", keep, ("moments", "samples"))
    n_threads = check_threads(n_threads) or available_threads()
    progress = check_flag("progress", progress)
    first_sample = check_index("first_sample", first_sample, of="first sample")
    _check_memory(len(gram), net.depth, n_samples, n_threads, keep)
    raw = run_kernel(
        net,
        gram,
        n_samples=n_samples,
        seed=seed,
        first_sample=first_sample,
        n_threads=n_threads,
        keep_samples=keep == "samples",
        progress=progress,
    )
    dataset = _samples_dataset(raw, first_sample) if keep == "samples" else _moments_dataset(raw, net.depth + 1)
    dataset.attrs = provenance(
        "wideangle.propagation.simulate_gram",
        source=SOURCE,
        net=net,
        n_samples=n_samples,
        seed=seed,
        keep=keep,
        first_sample=first_sample,
    )
    return dataset


def run_kernel(
    net: MLP,
    gram: NDArray[np.float64],
    *,
    n_samples: int,
    seed: int,
    first_sample: int,
    n_threads: int,
    keep_samples: bool,
    progress: bool = False,
) -> dict[str, Any]:
    """Return what the kernel gives, of arguments that were checked."""
    # A diagonal entry that is 0, or negative by rounding, is an input of zeros.
    alive = gram.diagonal() > 0.0
    gram = np.where(alive[:, None] & alive, gram, 0.0)
    with progress_callback(n_samples, progress, unit="sample") as advance:
        return _core.simulate_gram(
            gram,
            list(net.widths),
            activation=net.phi.code,
            slope=net.phi.slope,
            weight_variance=net.weight_variance,
            bias_variance=net.bias_variance,
            theta0=_pair_angle(net, gram),
            seed=seed,
            first_sample=first_sample,
            n_samples=n_samples,
            n_threads=n_threads,
            cpu_path=active_cpu_path(),
            keep_samples=keep_samples,
            progress=advance,
        )


def moment_rows(raw: Mapping[str, NDArray[Any]], n_layers: int) -> dict[str, NDArray[np.float64]]:
    """Return the sums that the kernel gives of each quantity, (5, layer, ...), with both triangles of matrices."""
    n_inputs = raw["log_norm2"].shape[1] // n_layers
    row, column = np.indices((n_inputs, n_inputs))
    row, column = np.maximum(row, column), np.minimum(row, column)
    return {
        "gram": raw["gram"].reshape(5, n_layers, -1)[:, :, row * (row + 1) // 2 + column],
        "log_norm2": raw["log_norm2"].reshape(5, n_layers, n_inputs),
        "log_determinant": raw["log_determinant"],
        "effective_rank": raw["effective_rank"],
    }


def _pair_angle(net: MLP, gram: NDArray[np.float64]) -> float:
    """Return the angle between two inputs whose chain is that of the angle, else 0."""
    if len(gram) != 2 or net.activation != "relu" or net.bias_variance != 0.0 or not gram.diagonal().all():
        return 0.0
    first, overlap, second = (Fraction(float(entry)) for entry in (gram[0, 0], gram[1, 0], gram[1, 1]))
    sin2 = float(1 - overlap * overlap / (first * second))
    if sin2 <= RANK_TOLERANCE:
        return 0.0
    cosine = float(gram[1, 0]) / math.sqrt(gram[0, 0]) / math.sqrt(gram[1, 1])
    return math.atan2(math.sqrt(sin2), cosine)


def _moments_dataset(raw: dict[str, Any], n_layers: int) -> xr.Dataset:
    import xarray as xr

    rows = moment_rows(raw, n_layers)
    n_samples = int(raw["gram"][0, 0])
    variables = {
        **_statistics("", ("layer", "input", "input_"), rows["gram"]),
        **_statistics("log_norm2_", ("layer", "input"), rows["log_norm2"]),
        **_statistics("log_determinant_", ("layer",), rows["log_determinant"]),
        **_statistics("effective_rank_", ("layer",), rows["effective_rank"]),
        "full_rank": ("layer", raw["log_determinant"][0].astype(np.int64)),
        "rank_lost": ("layer", raw["rank_lost"].astype(np.int64)),
        "dead": (("layer", "input"), n_samples - rows["log_norm2"][0].astype(np.int64)),
    }
    inputs = np.arange(rows["log_norm2"].shape[2])
    return xr.Dataset(variables, {"layer": np.arange(n_layers), "input": inputs, "input_": inputs})


def _statistics(prefix: str, dims: tuple[str, ...], rows: NDArray[np.float64]) -> dict[str, Any]:
    # The powers may exceed float64 where the numbers themselves do not.
    with np.errstate(over="ignore", invalid="ignore"):
        moments = moments_of(rows)
        return {
            f"{prefix}mean": (dims, moments.mean),
            f"{prefix}variance": (dims, moments.variance),
            f"{prefix}mean_standard_error": (dims, moments.standard_error_mean),
            f"{prefix}variance_standard_error": (dims, moments.standard_error_variance),
        }


def _samples_dataset(raw: dict[str, Any], first_sample: int) -> xr.Dataset:
    import xarray as xr

    n_samples, n_layers, n_inputs, _ = raw["sample_gram"].shape
    inputs = np.arange(n_inputs)
    return xr.Dataset(
        {
            "gram": (("sample", "layer", "input", "input_"), raw["sample_gram"]),
            "log_determinant": (("sample", "layer"), raw["sample_log_determinant"]),
            "rank": (("sample", "layer"), raw["sample_rank"]),
        },
        {
            "sample": first_sample + np.arange(n_samples),
            "layer": np.arange(n_layers),
            "input": inputs,
            "input_": inputs,
        },
    )


def _check_memory(n_inputs: int, depth: int, n_samples: int, n_threads: int, keep: str) -> None:
    # Matrices of sixteen samples, their factors and the scratch of a factorisation; moments of a block and of the
    # whole, and the arrays of the result.
    threads = n_threads * n_inputs**2 * (16 * 8 * 3 + 20 * (depth + 1))
    check_memory(
        threads + n_inputs**2 * (depth + 1) * 80,
        f"gram0 with {n_inputs} inputs, {depth} layers and {n_threads} threads needs",
        remedy="give fewer inputs, or n_threads=1",
    )
    if keep == "samples":
        check_memory(
            threads + n_samples * (depth + 1) * (8 * n_inputs**2 + 12),
            f"n_samples = {n_samples} with keep='samples' needs",
            remedy="use keep='moments', or run parts of the ensemble with first_sample",
        )
