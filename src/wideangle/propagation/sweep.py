"""Inputs through networks with given weights, seen through norms, overlaps and active neurons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wideangle import _core
from wideangle._checks import check_array, check_choice, check_flag, check_memory, check_threads
from wideangle._cpu import active_cpu_path, available_threads
from wideangle._provenance import provenance
from wideangle.activations import Activation
from wideangle.network import NetworkWeights
from wideangle.reference import from_torch
from wideangle.reference._torch import is_module

if TYPE_CHECKING:
    import xarray as xr

SOURCE = "weights of the caller; no paper"
FEW_OVERLAPS = 100_000


def forward(
    weights: NetworkWeights | Sequence[Any] | Any,
    x: ArrayLike,
    *,
    activation: str | Activation | Sequence[str | Activation] | None = None,
    biases: Sequence[Any] | None = None,
    keep: str = "final",
    overlaps: bool | None = None,
    n_threads: int | None = None,
) -> xr.Dataset:
    r"""Send inputs through networks whose weights are given.

    Layer :math:`l` computes :math:`\phi(z^l)` with :math:`z^l = W^l \phi(z^{l-1}) + b^l`, the input taking the place of
    :math:`\phi(z^0)`. The weights are used as they are: nothing is scaled by widths, as it is in
    :class:`wideangle.MLP`. The last layer is linear, unless its activation is named or a module ends with one.

    Parameters
    ----------
    weights
        Of one network: a sequence with an array (units, inputs) for each layer, or a ``torch.nn.Sequential`` of Linear
        layers and known activations (see :func:`wideangle.reference.from_torch`). Of many networks of one shape:
        arrays (network, units, inputs), or a sequence of modules. Or a :class:`wideangle.NetworkWeights`.
        C-contiguous float32 and float64 arrays are not copied.
    x
        Inputs (input, feature), the same for every network. Converted to the type of the weights.
    activation
        Name of :math:`\phi`, or a name for each layer, for weights that come as arrays; default ``"relu"``.
    biases
        :math:`b^l` for weights that come as arrays: (units,), (network, units) or None for each layer. Default none.
    keep
        ``"final"`` (default): activations of the last layer. ``"layers"``: those of every layer.
    overlaps
        Whether to compute overlaps, which takes a time of order inputs\ :sup:`2` · units a layer. Default: where they
        are at most 100,000 numbers.
    n_threads
        At most so many threads; default every processor available. A sweep that is short, or that the
        reading of weights bounds, takes fewer.

    Returns
    -------
    xarray.Dataset
        Layers are 0, the input, to the number of weight arrays, the output. Without ``network`` for one network.

        - ``outputs(network, input, output)``: activations of the last layer, of the type of the weights;
        - ``norms(network, layer, input)``: :math:`|\phi(z^l)|^2/n_l`, float64;
        - ``active_fraction(network, layer, input)``: fraction of units with :math:`z^l > 0`; in layer 0, of positive
          components of x;
        - ``overlaps(network, layer, input, input_)``, if computed: cosines between :math:`\phi(z^l)` of two inputs,
          from sums in float64; NaN where one of them is zero or not finite;
        - ``layer_1(network, input, unit_1)``, ``layer_2`` ... with ``keep="layers"``: activations of the hidden layers.

        NaN and infinity in weights and inputs propagate, and what overflows is infinite, as in PyTorch. The last digits
        may depend on the processor: multiplications and additions are fused where it can do that.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type, or shapes do not fit, before any work.
    KeyboardInterrupt
        On Ctrl-C, within 0.2 s; nothing is left running.

    Examples
    --------
    >>> import numpy as np
    >>> import wideangle as wa
    >>> rng = np.random.default_rng(1)
    >>> weights = [rng.normal(size=(64, 10)), rng.normal(size=(64, 64)), rng.normal(size=(3, 64))]
    >>> sweep = wa.propagation.forward(weights, rng.normal(size=(5, 10)))
    >>> dict(sweep.norms.sizes), dict(sweep.outputs.sizes)
    ({'layer': 4, 'input': 5}, {'input': 5, 'output': 3})
    >>> bool((sweep.overlaps[1:3] >= 0).all())
    True
    """
    network = _as_network(weights, activation, biases)
    inputs = _check_inputs(x, network)
    keep = check_choice("keep", keep, ("final", "layers"))
    n_threads = check_threads(n_threads)
    copies, layers = network.n_networks or 1, len(network.weights)
    n_overlaps = copies * (layers + 1) * len(inputs) ** 2
    overlaps = n_overlaps <= FEW_OVERLAPS if overlaps is None else check_flag("overlaps", overlaps)
    _check_memory(network, len(inputs), n_overlaps if overlaps else 0, keep)

    raw = _core.forward(
        [matrix.reshape(copies, *matrix.shape[-2:]) for matrix in network.weights],
        list(network.biases or [None] * layers),
        inputs,
        activations=[phi.code for phi in network.activations],
        slopes=[phi.slope for phi in network.activations],
        n_threads=n_threads or available_threads(),
        cpu_path=active_cpu_path(),
        keep_layers=keep == "layers",
        overlaps=overlaps,
    )
    dataset = _dataset(raw, network)
    dataset.attrs = provenance(
        "wideangle.propagation.forward",
        source=SOURCE,
        sizes=network.sizes,
        n_networks=network.n_networks,
        activation=network.activation,
        biases=network.biases is not None,
        dtype=str(network.dtype),
        keep=keep,
    )
    return dataset


def _as_network(weights: Any, activation: Any, biases: Any) -> NetworkWeights:
    modules = is_module(weights) or (isinstance(weights, (list, tuple)) and len(weights) > 0 and is_module(weights[0]))
    if not modules and not isinstance(weights, NetworkWeights):
        return NetworkWeights(weights, biases=biases, activation="relu" if activation is None else activation)
    for name, value in (("activation", activation), ("biases", biases)):
        if value is not None:
            raise ValueError(
                f"{name} must be None with weights of type {type(weights).__name__}, which have their own, got "
                f"{value!r}; leave it out, or give the weights as arrays"
            )
    return weights if isinstance(weights, NetworkWeights) else from_torch(weights)


def _check_inputs(x: Any, network: NetworkWeights) -> NDArray[Any]:
    n_features = network.sizes[0]
    remedy = f"give an array (input, feature) with {n_features} features, the last dimension of the first weights"
    array = check_array("x", x, ndim=(2,), remedy=remedy)
    if array.shape[1] != n_features:
        raise ValueError(f"x must have {n_features} features, got shape {array.shape}; {remedy}")
    # Beyond the range of float32, infinity is what is promised.
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, network.dtype)


def _check_memory(network: NetworkWeights, n_inputs: int, n_overlaps: int, keep: str) -> None:
    copies, sizes = network.n_networks or 1, network.sizes
    kept = sum(sizes[1:]) if keep == "layers" else sizes[-1]
    needed = copies * n_inputs * (kept * network.dtype.itemsize + 16 * len(sizes)) + 8 * n_overlaps
    check_memory(
        needed,
        f"{n_inputs} inputs, {copies} network(s), keep={keep!r} and {n_overlaps} overlaps need",
        remedy="give fewer inputs or networks",
    )


def _dataset(raw: dict[str, Any], network: NetworkWeights) -> xr.Dataset:
    import xarray as xr

    many = network.n_networks is not None
    front = ("network",) if many else ()

    def variable(dims: tuple[str, ...], values: NDArray[Any]) -> tuple[tuple[str, ...], NDArray[Any]]:
        return (*front, *dims), values if many else values[0]

    *hidden, outputs = raw["kept"]
    variables = {
        "outputs": variable(("input", "output"), outputs),
        "norms": variable(("layer", "input"), raw["norms"]),
        "active_fraction": variable(("layer", "input"), raw["active"]),
    }
    if "overlaps" in raw:
        variables["overlaps"] = variable(("layer", "input", "input_"), raw["overlaps"])
    for layer, values in enumerate(hidden, start=1):
        variables[f"layer_{layer}"] = variable(("input", f"unit_{layer}"), values)
    return xr.Dataset(variables, {"layer": np.arange(len(network.sizes))})
