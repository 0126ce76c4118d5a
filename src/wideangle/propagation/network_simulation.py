"""Ensembles of random networks with real weights, and the weights of any one of them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wideangle import _core
from wideangle._checks import (
    check_choice,
    check_flag,
    check_integer,
    check_memory,
    check_samples,
    check_seed,
    check_threads,
)
from wideangle._cpu import active_cpu_path, available_threads
from wideangle._progress import progress_callback
from wideangle._provenance import provenance
from wideangle.network import MLP, NetworkWeights
from wideangle.propagation._ensembles import check_index
from wideangle.propagation._inputs import check_inputs
from wideangle.propagation._network import check_network

if TYPE_CHECKING:
    import xarray as xr

SOURCE = "random networks with independent normal weights, drawn and applied one tile at a time"
KEPT = {
    "final": ("outputs",),
    "gram": ("outputs", "gram"),
    "layers": ("outputs", "gram", "layers"),
    "tangent": ("outputs", "tangent_kernel"),
}


def simulate_outputs(
    net: MLP,
    x: ArrayLike,
    *,
    n_networks: int,
    seed: int,
    outputs: int = 1,
    keep: str = "final",
    n_threads: int | None = None,
    progress: bool = False,
    first_network: int = 0,
) -> xr.Dataset:
    r"""Simulate what random networks make of given inputs, with real weights.

    Each network has the hidden layers of ``net`` and a linear readout by the same rule,
    :math:`f = \sqrt{\sigma_w^2/n_L}\, W^{L+1} \phi(z^L) + \sigma_b b^{L+1}`; the input, divided by nothing else, takes
    the place of :math:`\phi(z^0)` with :math:`n_0` features. Weights are drawn in the kernel, a tile of 16 rows and 32
    columns at a time, multiplied with all inputs and forgotten: memory does not grow with the weights. They are
    float32 numbers, as are post-activations between layers; sums are kept in float64, and every input has a power of
    two of its own, so that neither depth nor variance leaves the range of float32.

    Network k is a definite network: :func:`materialize` returns its weights.

    Parameters
    ----------
    net
        Network with any activation, with or without biases.
    x
        Inputs, (input, feature).
    n_networks
        Number of independent networks.
    seed
        Non-negative integer below 2**64. Network k depends on the seed, k and the shape of the network alone, and its
        outputs for one input on that input alone: not on ``n_networks``, ``n_threads``, the processor's instruction set
        or the other inputs. Equality across minor versions of the package is not promised.
    outputs
        Number of outputs of a network, default 1.
    keep
        ``"final"`` (default): the outputs. ``"gram"``: also the Gram matrix of the post-activations of each layer.
        ``"layers"``: also the post-activations themselves. ``"tangent"``: outputs and each network's tangent kernel.
    n_threads
        Threads; default every processor available. Results do not depend on it.
    progress
        Whether to show a progress bar.
    first_network
        Index of the first network, default 0, so that one ensemble can be computed in parts.

    Returns
    -------
    xarray.Dataset
        ``outputs(network, input, output)``. With ``keep="gram"`` or ``"layers"`` also
        ``gram(network, layer, input, input_)``, the mean over the units of a layer of
        :math:`\phi(z_\alpha)\,\phi(z_\beta)`, layers 0 (the input) to L. With ``keep="layers"`` also
        ``layer_1(network, input, unit_1)`` to ``layer_L``, the post-activations in float32. With ``keep="tangent"``
        also ``tangent_kernel(network, input, input_)`` of the first output,
        :math:`\sum_p \partial_p f(x_\alpha)\,\partial_p f(x_\beta)` over all weights and biases p as standard normal
        numbers, before they get their scales.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range, before any work.
    KeyboardInterrupt
        On Ctrl-C, within 0.2 s; nothing is left running.

    References
    ----------
    The law of the outputs at large width is that of :func:`nngp_kernel`: J. Lee et al., arXiv 1711.00165.

    Examples
    --------
    >>> import numpy as np
    >>> import wideangle as wa
    >>> net = wa.MLP((64, 64), activation="tanh", weight_variance=1.0)
    >>> ensemble = wa.propagation.simulate_outputs(net, np.eye(3), n_networks=2000, seed=1, outputs=2)
    >>> dict(ensemble.outputs.sizes)
    {'network': 2000, 'input': 3, 'output': 2}
    >>> bool(abs(ensemble.outputs.mean()) < 0.02)
    True
    """
    check_network(net)
    inputs = check_inputs("x", x)
    n_networks = check_samples("n_networks", n_networks)
    seed = check_seed(seed)
    outputs = _check_outputs(outputs)
    keep = check_choice("keep", keep, tuple(KEPT))
    n_threads = check_threads(n_threads)
    progress = check_flag("progress", progress)
    first_network = check_index("first_network", first_network, of="first network")
    check_float32_weights(net, inputs.shape[1])
    _check_memory(net, len(inputs), n_networks, outputs, keep)

    raw = run_networks(
        net,
        inputs,
        keep=KEPT[keep],
        n_networks=n_networks,
        seed=seed,
        outputs=outputs,
        n_threads=n_threads,
        progress=progress,
        first_network=first_network,
    )
    dataset = _dataset(raw, first_network)
    dataset.attrs = provenance(
        "wideangle.propagation.simulate_outputs",
        source=SOURCE,
        net=net,
        n_networks=n_networks,
        seed=seed,
        outputs=outputs,
        keep=keep,
        first_network=first_network,
    )
    return dataset


def materialize(net: MLP, input_dim: int, k: int, *, seed: int, outputs: int = 1) -> NetworkWeights:
    r"""Return the weights of network ``k`` of the ensembles that :func:`simulate_outputs` runs.

    Parameters
    ----------
    net
        Network with any activation, with or without biases.
    input_dim
        Number of features of an input, :math:`n_0`.
    k
        Index of the network in the ensemble, from 0.
    seed, outputs
        As for :func:`simulate_outputs`.

    Returns
    -------
    NetworkWeights
        The numbers that the kernel uses, bit by bit, in float32: for each layer ``weights`` of shape (units, inputs),
        with the factor :math:`\sqrt{\sigma_w^2/n_l}` in them, and ``biases``, or None where the bias variance is 0.
        Taken as they are by :func:`wideangle.propagation.forward` and :func:`wideangle.reference.to_torch`.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range, or the weights do not fit into memory.

    Examples
    --------
    >>> import numpy as np
    >>> import wideangle as wa
    >>> net, x = wa.MLP((64, 64)), np.eye(3)
    >>> network = wa.propagation.materialize(net, 3, 7, seed=1)
    >>> network
    NetworkWeights(3-64-64-1, relu, float32)
    >>> ensemble = wa.propagation.simulate_outputs(net, x, n_networks=10, seed=1)
    >>> values = x
    >>> for matrix in network.weights[:-1]:
    ...     values = np.maximum(values @ matrix.T, 0)
    >>> bool(np.allclose(values @ network.weights[-1].T, ensemble.outputs.sel(network=7), atol=1e-6))
    True
    """
    check_network(net)
    input_dim = check_integer("input_dim", input_dim, low=1, high=2**31, remedy="give the number of features")
    k = check_index("k", k, of="network")
    seed = check_seed(seed)
    outputs = _check_outputs(outputs)
    check_float32_weights(net, input_dim)
    sizes = (input_dim, *net.widths, outputs)
    needed = 4 * sum(n_in * n_out for n_in, n_out in itertools.pairwise(sizes))
    check_memory(needed, f"widths = {net.widths} has weights that need", remedy="use simulate_outputs")
    layers = _core.network_weights(
        input_dim,
        list(net.widths),
        outputs=outputs,
        weight_variance=net.weight_variance,
        bias_variance=net.bias_variance,
        seed=seed,
        network=k,
        cpu_path=active_cpu_path(),
    )
    return NetworkWeights(
        [weights for weights, _ in layers],
        biases=[biases for _, biases in layers] if net.bias_variance > 0.0 else None,
        activation=net.activation,
    )


def run_networks(
    net: MLP,
    x: NDArray[np.float64],
    *,
    keep: tuple[str, ...],
    n_networks: int,
    seed: int,
    outputs: int,
    n_threads: int,
    progress: bool,
    first_network: int,
    tangent: NDArray[np.float64] | None = None,
) -> dict[str, Any]:
    """Run the kernel on checked arguments: the arrays that ``keep`` names."""
    phi = net.phi
    with progress_callback(n_networks, progress, unit="network") as advance:
        raw: dict[str, Any] = _core.simulate_networks(
            x,
            tangent,
            list(net.widths),
            outputs=outputs,
            activation=phi.code,
            slope=phi.slope,
            weight_variance=net.weight_variance,
            bias_variance=net.bias_variance,
            seed=seed,
            first_network=first_network,
            n_networks=n_networks,
            n_threads=n_threads or available_threads(),
            cpu_path=active_cpu_path(),
            keep=list(keep),
            progress=advance,
        )
    return raw


def _dataset(raw: dict[str, Any], first_network: int) -> xr.Dataset:
    import xarray as xr

    n_networks, n_inputs, _ = raw["outputs"].shape
    dataset = xr.Dataset(
        {"outputs": (("network", "input", "output"), raw["outputs"])},
        {"network": first_network + np.arange(n_networks), "input": np.arange(n_inputs)},
    )
    if "gram" in raw:
        dataset["gram"] = (("network", "layer", "input", "input_"), raw["gram"])
        dataset = dataset.assign_coords(layer=np.arange(raw["gram"].shape[1]), input_=np.arange(n_inputs))
    if "tangent_kernel" in raw:
        dataset["tangent_kernel"] = (("network", "input", "input_"), raw["tangent_kernel"])
        dataset = dataset.assign_coords(input_=np.arange(n_inputs))
    for layer, values in enumerate(raw.get("layers", ()), start=1):
        dataset[f"layer_{layer}"] = (("network", "input", f"unit_{layer}"), values)
    return dataset


def _check_outputs(value: Any) -> int:
    return check_integer("outputs", value, low=1, high=2**31, remedy="give the number of outputs of a network")


def check_float32_weights(net: MLP, input_dim: int) -> None:
    """Refuse variances with which the weights, float32 numbers, would underflow or overflow."""
    for name, variance, fan_in in (
        *(("weight_variance", net.weight_variance, fan_in) for fan_in in (input_dim, *net.widths)),
        ("bias_variance", net.bias_variance or 1.0, 1),
    ):
        if not 1e-35 < variance / fan_in < 1e35:
            raise ValueError(
                f"net.{name} must make weights that float32 can hold, got {variance!r} with fan-in {fan_in}; give a "
                "variance whose ratio to the fan-in lies between 1e-35 and 1e35"
            )


def _check_memory(net: MLP, n_inputs: int, n_networks: int, outputs: int, keep: str) -> None:
    numbers = 8 * outputs * n_inputs
    if keep != "final":
        numbers += 8 * (1 if keep == "tangent" else net.depth + 1) * n_inputs**2
    if keep == "layers":
        numbers += 4 * sum(net.widths) * n_inputs
    # Beside the results, every thread holds one layer's values: doubles, and floats for blocks of eight inputs.
    layer = (8 * n_inputs + 4 * (n_inputs + 7)) * max(net.widths) * available_threads()
    check_memory(layer, f"{n_inputs} inputs through widths = {net.widths} need", remedy="give fewer inputs at a time")
    check_memory(
        n_networks * numbers,
        f"n_networks = {n_networks} with keep={keep!r} needs",
        remedy="keep less, or run parts of the ensemble with first_network",
    )
