"""States of trained networks: one row of parameters for each network and time, and what belongs to them."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import check_array
from wideangle.activations import Activation, parse_activation
from wideangle.losses import Loss, parse_loss
from wideangle.network import NetworkWeights

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]

_PROVENANCE = ("wideangle_version", "function", "source")
# Of a parameter: what a network that diverges still has in its last record can be any number.
_LARGEST = 1e130
_REMEDY = "give what wideangle.response.simulate_training returns, or a wideangle.NetworkWeights with one output"


class LayerSlices(NamedTuple):
    """Where the weights, row by row, and the biases of a layer stand among the parameters of a network."""

    weights: slice
    biases: slice
    shape: tuple[int, int]  # units, inputs


def layer_slices(sizes: tuple[int, ...]) -> list[LayerSlices]:
    """Return the places of the layers of a network of these sizes: input, hidden layers, output."""
    result, start = [], 0
    for inputs, units in itertools.pairwise(sizes):
        middle = start + units * inputs
        result.append(LayerSlices(slice(start, middle), slice(middle, middle + units), (units, inputs)))
        start = middle + units
    return result


@dataclass(frozen=True, eq=False, slots=True)
class States:
    r"""Networks :math:`z^l = W^l \phi(z^{l-1}) + b^l` of one shape with a linear output, several of them.

    Attributes
    ----------
    parameters
        (state, parameter), C-contiguous: :math:`W^1` row by row, :math:`b^1`, :math:`W^2`, ... of each network;
        NaN where a network has diverged.
    sizes
        Features, widths of the hidden layers, and 1.
    activation
        :math:`\phi` of the hidden layers.
    weight_rates, bias_rates
        Factors of the learning rate for each layer, the readout last.
    dims, shape, coords
        What the axis of states stands for: dimensions, their lengths, and the coordinates along them, among them those
        without dimension that a selection has left.
    learning_rate, loss, x, y
        Of the training, or None where there was none.
    attrs
        What the Dataset says of the training: its attributes, but for those of its provenance.
    """

    parameters: Array
    sizes: tuple[int, ...]
    activation: Activation
    weight_rates: tuple[float, ...]
    bias_rates: tuple[float, ...]
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    coords: dict[str, Any]
    learning_rate: float | None = None
    loss: Loss | None = None
    x: Array | None = None
    y: Array | None = None
    attrs: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of states."""
        return len(self.parameters)

    @property
    def size(self) -> int:
        """Number of parameters of a network."""
        return int(self.parameters.shape[1])

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Which states have not diverged: all parameters are numbers, of sizes that products of some can hold."""
        return np.asarray((np.abs(self.parameters) < _LARGEST).all(axis=1))

    @property
    def layers(self) -> list[tuple[Array, Array]]:
        """Weights (state, units, inputs) and biases (state, units) of each layer, as views."""
        return [
            (self.parameters[:, place.weights].reshape(-1, *place.shape), self.parameters[:, place.biases])
            for place in layer_slices(self.sizes)
        ]

    def variable(self, values: NDArray[Any], *dims: str) -> tuple[tuple[str, ...], NDArray[Any]]:
        """Return values (state, ...) as a variable of a Dataset, the axis of states unfolded before ``dims``."""
        return (*self.dims, *dims), values.reshape((*self.shape, *values.shape[1:]))


def read_state(state: Any, *, name: str = "state") -> States:
    """Return the networks in a Dataset of :func:`wideangle.response.simulate_training` or in weights.

    Any selection of networks and times will do, and one of either without the dimension. Weights as such have rates
    of 1, and neither loss nor training data.

    Raises
    ------
    TypeError, ValueError
        If it is neither, or lacks something, which the message names, and the argument by its ``name``.
    """
    if isinstance(state, NetworkWeights):
        return _of_weights(state, name)
    import xarray as xr

    if not isinstance(state, xr.Dataset):
        raise TypeError(f"{name} must be a Dataset of trained networks, got {type(state).__name__}; {_REMEDY}")
    return _of_dataset(state, name)


def check_trained(states: States) -> tuple[Loss, Array, Array]:
    """Return the loss, the inputs and the labels of the training, which weights as such do not have."""
    if states.loss is None or states.x is None or states.y is None:
        raise ValueError(
            "state must hold its loss and its training data x and y, and lacks them; "
            "give what wideangle.response.simulate_training returns"
        )
    return states.loss, states.x, states.y


def _of_weights(network: NetworkWeights, name: str) -> States:
    if not isinstance(network.activation, str):
        raise ValueError(
            f"{name} must have one activation in all hidden layers and a linear output, got activations "
            f"{network.activation}; {_REMEDY}"
        )
    _check_sizes(network.sizes, name)
    several = network.n_networks is not None
    number = network.n_networks or 1
    biases = network.biases or (None,) * len(network)
    parts = []
    for weights, bias in zip(network.weights, biases, strict=True):
        units = weights.shape[-2]
        parts.append(weights.reshape(number, -1))
        parts.append(np.zeros((number, units)) if bias is None else bias.reshape(number, units))
    ones = (1.0,) * len(network)
    return States(
        parameters=np.ascontiguousarray(np.concatenate(parts, axis=1), dtype=np.float64),
        sizes=network.sizes,
        activation=network.activations[0],
        weight_rates=ones,
        bias_rates=ones,
        dims=("network",) if several else (),
        shape=(number,) if several else (),
        coords={"network": np.arange(number)} if several else {},
    )


def _of_dataset(state: xr.Dataset, name: str) -> States:
    n_layers = next(layer for layer in itertools.count() if f"weights_{layer + 1}" not in state)
    needed = [f"{kind}_{layer}" for layer in range(1, max(n_layers, 2) + 1) for kind in ("weights", "biases")]
    missing = [each for each in needed if each not in state]
    if missing:
        raise ValueError(f"{name} must hold {', '.join(needed)}, and lacks {', '.join(missing)}; {_REMEDY}")
    attributes = [each for each in ("activation", "weight_rates", "bias_rates") if each not in state.attrs]
    if attributes:
        raise ValueError(
            f"{name} must have the attributes activation, weight_rates and bias_rates, and lacks "
            f"{', '.join(attributes)}; {_REMEDY}"
        )
    units = ["feature", *(f"unit_{layer}" for layer in range(1, n_layers)), "output"]
    dims = tuple(str(dim) for dim in state["weights_1"].dims if dim not in units)
    parts, sizes = [], []
    for layer, (below, here) in enumerate(itertools.pairwise(units), start=1):
        weights = _ordered(state, f"weights_{layer}", (*dims, here, below), name)
        biases = _ordered(state, f"biases_{layer}", (*dims, here), name)
        shape = biases.shape[:-1]
        sizes.append(weights.shape[-1])
        parts += [weights.reshape(math.prod(shape), -1), biases.reshape(math.prod(shape), -1)]
    sizes.append(state.sizes["output"])
    _check_sizes(tuple(sizes), name)
    learning_rate, loss = (state.attrs.get(each) for each in ("learning_rate", "loss"))
    return States(
        parameters=np.ascontiguousarray(np.concatenate(parts, axis=1), dtype=np.float64),
        sizes=tuple(sizes),
        activation=parse_activation(state.attrs["activation"], name=f"attribute activation of {name}"),
        weight_rates=_rates(state, "weight_rates", n_layers, name),
        bias_rates=_rates(state, "bias_rates", n_layers, name),
        dims=dims,
        shape=shape,
        coords={str(each): coord for each, coord in state.coords.items() if set(coord.dims) <= set(dims)},
        # None is a string in attributes, as NetCDF does not know it.
        learning_rate=None if learning_rate in (None, "None") else float(learning_rate),
        loss=None if loss in (None, "None") else parse_loss(loss, name=f"attribute loss of {name}"),
        x=_ordered(state, "x", ("sample", "feature"), name) if "x" in state else None,
        y=_ordered(state, "y", ("sample",), name) if "y" in state else None,
        attrs={str(each): value for each, value in state.attrs.items() if each not in _PROVENANCE},
    )


def _ordered(state: xr.Dataset, variable: str, dims: tuple[str, ...], name: str) -> Array:
    found = state[variable]
    if set(found.dims) != set(dims):
        raise ValueError(f"{variable} of {name} must have dimensions {dims}, got {tuple(found.dims)}; {_REMEDY}")
    values = found.transpose(*dims).values
    return check_array(f"{variable} of {name}", values, ndim=(len(dims),), remedy=_REMEDY).astype(np.float64, order="C")


def _rates(state: xr.Dataset, attribute: str, n_layers: int, name: str) -> tuple[float, ...]:
    values = np.atleast_1d(np.asarray(state.attrs[attribute]))
    if values.dtype.kind not in "fiu" or values.shape != (n_layers,) or not np.all(np.isfinite(values) & (values >= 0)):
        raise ValueError(
            f"attribute {attribute} of {name} must hold {n_layers} numbers of at least 0, one for each layer, got "
            f"{state.attrs[attribute]!r}; {_REMEDY}"
        )
    return tuple(map(float, values))


def _check_sizes(sizes: tuple[int, ...], name: str) -> None:
    shape = "-".join(map(str, sizes))
    if sizes[-1] != 1:
        raise ValueError(f"{name} must have one output, got a network {shape}; {_REMEDY}")
    if len(sizes) < 3:
        raise ValueError(f"{name} must have a hidden layer, got a network {shape}; {_REMEDY}")
