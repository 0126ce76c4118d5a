"""How much random chunks of a layer's neurons know of the whole layer, and how well they classify by themselves."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wideangle import _core
from wideangle._checks import (
    MAX_SAMPLES,
    check_flag,
    check_increasing_integers,
    check_integer,
    check_memory,
    check_real,
    check_seed,
    check_threads,
)
from wideangle._cpu import active_cpu_path, available_threads
from wideangle._progress import progress_callback
from wideangle._provenance import provenance
from wideangle.representation._layer import Layer, Readout, check_layer, check_readout

if TYPE_CHECKING:
    import xarray as xr

SOURCE = "arXiv 2106.03485 (Doimo, Glielmo, Goldt, Laio): regressions on random chunks of the last hidden layer"
CORRELATION_OFFSET = 1e-8  # In the denominator of the published residual correlations, in squared units of features.

# What a ridge may change in a residual correlation before regressions take it into account.
_NEGLIGIBLE_CHANGE = 1e-9

Array = NDArray[np.float64]


def chunk_statistics(
    features: ArrayLike,
    *,
    chunk_sizes: Iterable[int] | None = None,
    n_chunks: int = 40,
    seed: int,
    readout: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    targets: ArrayLike | None = None,
    ridge: float = 1e-8,
    missing: Literal["raise", "drop"] = "raise",
    first_chunk: int = 0,
    n_threads: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    r"""Measure random chunks of a layer: what they tell of the whole layer, and how they classify.

    Parameters
    ----------
    features
        Activations of a layer, shape (sample, neuron), at least 3 by 2. float32 and float64 in C order are used where
        they are, others are copied.
    chunk_sizes
        Numbers of neurons of a chunk, increasing, from 1 to the width. Default: powers of two up to the width.
    n_chunks
        Chunks of each size, default 40.
    seed
        Seed, 0 <= seed < 2**64. Chunk k of w neurons is the first w of a random order of all neurons, which depends on
        the seed, k and the width alone (but may change with NumPy's minor version).
    readout
        Weights of the next layer, shape (class, neuron), as ``torch.nn.Linear`` holds them. Needs ``targets``.
    bias
        Biases of the next layer, shape (class,); default zeros.
    targets
        Label of each sample, integers from 0.
    ridge
        Penalty :math:`\lambda \ge 0` of the squared coefficients beside the sum of squared residuals over samples;
        default 1e-8, as published. The intercept is not penalised. With 0, least squares of least norm.
    missing
        What to do with samples that have NaN or infinite activations: ``"raise"`` (default) or ``"drop"``.
    first_chunk
        Index of the first chunk, default 0, so that one set of chunks can be measured in parts.
    n_threads
        Threads; default every processor available. Results do not depend on it.
    progress
        Show progress bars; default False.

    Returns
    -------
    xarray.Dataset
        On (chunk_size, chunk):

        - ``r2``: share of the layer's variance that the ridge regression of all neurons on the chunk explains,
          :math:`1 - \operatorname{tr} R / \operatorname{tr} C`, with the covariances C of neurons and R of residuals;
        - ``residual_correlation``: mean over all pairs of neurons of
          :math:`|R_{ij}| / (\sqrt{R_{ii} R_{jj}} + 10^{-8})`;
        - ``r2_outside``, ``residual_correlation_outside``: the same over neurons that are not in the chunk. The chunk
          explains itself, which adds w/P to ``r2`` in a layer of P unrelated neurons, and takes pairs from
          ``residual_correlation``. NaN where there is no neuron, or pair, outside;
        - with a readout also ``accuracy``, ``error`` = 1 - accuracy, and ``loss``, the mean cross-entropy in nats, of
          the chunk read out by its own columns of the readout, and the bias.

        For each of them ``..._mean(chunk_size)`` over chunks and ``..._standard_error(chunk_size)``, NaN for a single
        chunk. ``order(chunk, neuron)``: the orders of neurons. ``covariance(neuron, other_neuron)``: C, and
        ``eigenvalue(neuron)`` of it, decreasing.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, before any work.
    KeyboardInterrupt
        On Ctrl-C, within 0.2 s.

    Warns
    -----
    UserWarning
        If there are no more samples than neurons: a chunk of as many neurons then explains all samples, whatever they
        are.

    Notes
    -----
    Doimo, Glielmo, Goldt and Laio, arXiv 2106.03485, whose procedure fits each chunk to all samples. Here all chunks
    come from the scatter matrix S of the features, computed once: eliminating neurons in a random order leaves after
    w of them :math:`A = S - S_{:c} S_{cc}^{-1} S_{c:}`, the residuals of least squares, for all sizes in one pass. A
    ridge adds :math:`Z^\top Z`, :math:`Z = \lambda U (S_{cc} + \lambda)^{-1} U^{-1} X`, where
    :math:`U^\top U = S_{cc}` and :math:`X = U^{-\top} S_{c:}` (derived: the part of the prediction that shrinks lies in
    the span of the chunk). It is left out where it cannot change a residual correlation by 1e-9. Neurons of which
    others explain all but 1e-13 of the variance count as explained in full.

    Examples
    --------
    >>> import numpy as np
    >>> import wideangle as wa
    >>> rng = np.random.default_rng(1)
    >>> latent = rng.standard_normal((1000, 4))
    >>> features = latent @ rng.standard_normal((4, 64)) + 0.1 * rng.standard_normal((1000, 64))
    >>> statistics = wa.representation.chunk_statistics(features, seed=1)
    >>> statistics.r2_mean.sel(chunk_size=[1, 16]).round(2).values
    array([0.25, 1.  ])
    """
    layer = check_layer(features, targets, missing)
    head = check_readout(readout, bias, layer)
    n_samples, n_neurons = layer.features.shape
    sizes = check_sizes(chunk_sizes, n_neurons)
    remedy = "give a number of random chunks, such as 40"
    n_chunks = check_integer("n_chunks", n_chunks, low=1, high=10**9, remedy=remedy)
    seed = check_seed(seed)
    remedy = "give the penalty of squared coefficients, 0 or more, such as 1e-8"
    ridge = check_real("ridge", ridge, remedy=remedy)
    if not 0.0 <= ridge <= 1e100:
        raise ValueError(f"ridge must lie in [0, 1e100], got {ridge!r}; {remedy}")
    first_chunk = check_integer(
        "first_chunk", first_chunk, low=0, high=MAX_SAMPLES, remedy="give the index of the first chunk, 0 or more"
    )
    threads = check_threads(n_threads) or available_threads()
    show = check_flag("progress", progress)
    needed = 8 * n_neurons * ((4 * min(threads, n_chunks) + 2) * n_neurons + n_chunks)
    check_memory(needed, f"regressions of {n_neurons} neurons in {n_chunks} chunks need", remedy="use fewer threads")
    if n_samples <= n_neurons:
        warnings.warn(
            f"features have {n_samples} samples of {n_neurons} neurons: chunks of {n_samples - 1} neurons explain all"
            f" samples, whatever they are; regressions are regularised by the ridge alone, so give more samples",
            UserWarning,
            stacklevel=2,
        )

    orders = random_orders(n_neurons, n_chunks, seed, first_chunk)
    scatter = find_scatter(layer, ridge, threads)
    values = regress(scatter, orders, sizes, seed, threads, show)
    if head is not None:
        values |= read_out(layer, head, orders, sizes, threads, show)
    dataset = _dataset(values, orders, sizes, scatter, first_chunk)
    dataset.attrs = provenance(
        "wideangle.representation.chunk_statistics",
        source=SOURCE,
        n_samples=n_samples,
        n_neurons=n_neurons,
        n_constant=int(np.count_nonzero(~layer.varying)),
        n_dropped=layer.n_dropped,
        n_chunks=n_chunks,
        seed=seed,
        ridge=ridge,
        missing=missing,
        first_chunk=first_chunk,
    )
    return dataset


def powers_of_two(n_neurons: int) -> NDArray[np.int64]:
    """Return the powers of two up to the width, the sizes of chunks by default."""
    return np.array([2**power for power in range(int(math.log2(n_neurons)) + 1)])


class Scatter(NamedTuple):
    """Sums of products of deviations of neurons, what regressions on chunks start from.

    ``eigenvalues`` are decreasing; ``ridge_matters`` says whether the ridge can change a residual correlation.
    """

    products: Array
    eigenvalues: Array
    n_samples: int
    ridge: float
    ridge_matters: bool


def check_sizes(value: Iterable[int] | None, n_neurons: int) -> NDArray[np.int64]:
    if value is None:
        return powers_of_two(n_neurons)
    remedy = f"give increasing numbers from 1 to the {n_neurons} neurons of features, or None for powers of two"
    return np.array(check_increasing_integers("chunk_sizes", value, low=1, high=n_neurons, remedy=remedy))


def random_orders(n_neurons: int, n_chunks: int, seed: int, first_chunk: int = 0) -> NDArray[np.int64]:
    """Return one permutation of the neurons a chunk, each from a generator of its own."""
    orders = np.empty((n_chunks, n_neurons), dtype=np.int64)
    for chunk in range(n_chunks):
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=(first_chunk + chunk,))))
        orders[chunk] = rng.permutation(n_neurons)
    return orders


def find_scatter(layer: Layer, ridge: float, threads: int) -> Scatter:
    """Return the scatter matrix of a layer."""
    n_samples = len(layer.features)
    _, products = _core.scatter_matrix(layer.features, n_threads=threads, cpu_path=active_cpu_path())
    # The mean of equal numbers is off by a rounding, which is no variance.
    products[~layer.varying] = products[:, ~layer.varying] = 0.0
    eigenvalues = np.maximum(np.linalg.eigvalsh(products)[::-1], 0.0)
    ridge_matters = _ridge_matters(ridge, products, eigenvalues[np.count_nonzero(layer.varying) - 1], n_samples)
    return Scatter(products, eigenvalues, n_samples, ridge, ridge_matters)


def regress(
    scatter: Scatter, orders: NDArray[np.int64], sizes: NDArray[np.int64], seed: int, threads: int, show: bool
) -> dict[str, Array]:
    """Return statistics of regressions as (chunk, size); ``seed`` is that of the orders."""
    n_neurons = len(scatter.products)

    def along(of: NDArray[np.int64], on: NDArray[np.int64]) -> dict[str, Array]:
        with progress_callback(len(of), show and len(of) > 1, unit="chunk") as advance:
            return _core.chunk_regression(
                scatter.products,
                n_samples=scatter.n_samples,
                orders=of,
                sizes=on,
                ridge=scatter.ridge,
                ridge_matters=scatter.ridge_matters,
                offset=CORRELATION_OFFSET,
                n_threads=threads,
                cpu_path=active_cpu_path(),
                progress=advance,
            )

    # Chunks of all neurons are all the same: in the order of chunk 0, whichever chunks are asked for.
    proper = sizes[sizes < n_neurons]
    parts = [along(orders, proper)] if len(proper) else []
    if len(proper) < len(sizes):
        whole = along(random_orders(n_neurons, 1, seed), sizes[-1:])
        parts.append({name: np.repeat(each, len(orders), axis=0) for name, each in whole.items()})
    raw = {name: np.hstack([part[name] for part in parts]) for name in parts[0]}
    return {
        "r2": 1.0 - raw["unexplained"],
        "residual_correlation": raw["correlation"],
        "r2_outside": 1.0 - raw["unexplained_outside"],
        "residual_correlation_outside": raw["correlation_outside"],
    }


def _ridge_matters(ridge: float, products: Array, smallest: float, n_samples: int) -> bool:
    """Whether a ridge can change a residual correlation.

    Residuals change by at most ridge / (smallest eigenvalue of any chunk's scatter matrix, which is no less than that
    of the whole) in units of the predictions, so that a product of two of them over the offset bounds the change.
    """
    if ridge == 0.0:
        return False
    largest_variance = float(np.max(np.diag(products))) / (n_samples - 1)
    if smallest <= max(1e-13 * float(np.max(np.diag(products))), 1e-290):
        return True
    change = ridge / smallest
    return change**2 * largest_variance / CORRELATION_OFFSET > _NEGLIGIBLE_CHANGE


def read_out(
    layer: Layer, head: Readout, orders: NDArray[np.int64], sizes: NDArray[np.int64], threads: int, show: bool
) -> dict[str, Array]:
    """Return statistics of the readouts of chunks as (chunk, size)."""
    n_samples = len(layer.features)
    with progress_callback(n_samples * len(orders), show, unit="sample") as advance:
        correct, loss = _core.chunk_readout(
            layer.features,
            head.weights,
            head.bias,
            head.targets,
            orders,
            sizes,
            n_threads=threads,
            cpu_path=active_cpu_path(),
            progress=advance,
        )
    accuracy = correct / n_samples
    return {"accuracy": accuracy, "error": 1.0 - accuracy, "loss": loss / n_samples}


def _dataset(
    values: dict[str, Array], orders: NDArray[np.int64], sizes: NDArray[np.int64], scatter: Scatter, first_chunk: int
) -> xr.Dataset:
    import xarray as xr

    n_chunks = len(orders)
    variables: dict[str, Any] = {}
    for name, each in values.items():
        attributes = {"units": "nat"} if name == "loss" else {}
        variables[name] = (("chunk_size", "chunk"), each.T, attributes)
        variables[f"{name}_mean"] = ("chunk_size", each.mean(axis=0), attributes)
        spread = each.std(axis=0, ddof=1) if n_chunks > 1 else np.full(len(sizes), np.nan)
        variables[f"{name}_standard_error"] = ("chunk_size", spread / math.sqrt(n_chunks), attributes)
    variables["order"] = (("chunk", "neuron"), orders)
    variables["covariance"] = (("neuron", "other_neuron"), scatter.products / (scatter.n_samples - 1))
    variables["eigenvalue"] = ("neuron", scatter.eigenvalues / (scatter.n_samples - 1))
    return xr.Dataset(variables, {"chunk_size": sizes, "chunk": first_chunk + np.arange(n_chunks)})
