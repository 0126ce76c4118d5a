"""What a network is: its widths, activation and variances before there are weights, and its weights. No framework."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wideangle._checks import MAX_WIDTH, check_array, check_integer, check_real
from wideangle.activations import Activation, parse_activation


@dataclass(frozen=True, init=False, slots=True)
class MLP:
    r"""A fully connected network at initialisation.

    Hidden layer :math:`l = 1 \dots L` of width :math:`n_l` computes
    :math:`z^l = \sqrt{\sigma_w^2 / n_{l-1}}\, W^l \phi(z^{l-1}) + \sigma_b b^l` with independent standard normal
    weights and biases; the input takes the place of :math:`\phi(z^0)`.

    Parameters
    ----------
    widths
        Widths :math:`n_1 \dots n_L` of the hidden layers, each an integer from 1 to 2**31. The input and output
        dimensions are not part of it: angles at initialisation do not depend on them.
    activation
        Name of :math:`\phi`: ``"relu"`` (default), ``"leaky_relu"`` (slope 0.01 for negative values; another as in
        ``"leaky_relu(0.2)"``), ``"abs"``, ``"linear"``, ``"erf"``, ``"tanh"``, ``"gelu"`` (with the normal distribution
        function), ``"elu"`` (alpha 1), ``"silu"`` (swish), ``"sin"`` or ``"sigmoid"`` (logistic).
    weight_variance
        :math:`\sigma_w^2 > 0`, default 2 (He initialisation, which keeps the mean squared norm for ReLU).
    bias_variance
        :math:`\sigma_b^2 \ge 0`, default 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or outside the ranges above.

    Examples
    --------
    >>> import wideangle as wa
    >>> net = wa.MLP(widths=(256,) * 32)
    >>> net.depth, net.weight_variance
    (32, 2.0)
    """

    widths: tuple[int, ...]
    activation: str
    weight_variance: float
    bias_variance: float

    def __init__(
        self,
        widths: Iterable[int],
        *,
        activation: str | Activation = "relu",
        weight_variance: float = 2.0,
        bias_variance: float = 0.0,
    ) -> None:
        set_field = object.__setattr__
        set_field(self, "widths", check_widths("widths", widths))
        set_field(self, "activation", str(parse_activation(activation)))
        set_field(self, "weight_variance", _check_variance("weight_variance", weight_variance, zero_allowed=False))
        set_field(self, "bias_variance", _check_variance("bias_variance", bias_variance, zero_allowed=True))

    @property
    def depth(self) -> int:
        """Number of hidden layers L."""
        return len(self.widths)

    @property
    def phi(self) -> Activation:
        """The activation with its values and derivatives."""
        return parse_activation(self.activation)


@dataclass(frozen=True, init=False, repr=False, eq=False, slots=True)
class NetworkWeights:
    r"""Weights and biases as they act, of one fully connected network or of several of one shape.

    Layer :math:`l = 1 \dots L+1` computes :math:`z^l = W^l \phi(z^{l-1}) + b^l`, the input taking the place of
    :math:`\phi(z^0)`. Unlike in :class:`MLP` nothing is scaled by widths or variances.

    Parameters
    ----------
    weights
        :math:`W^1 \dots W^{L+1}`, each of shape (units, inputs), or (network, units, inputs) for several networks.
        An array that is C-contiguous and of the common type is kept without a copy, so that changing it changes the
        network. NaN and infinity are allowed, and propagate.
    biases
        :math:`b^l` of each layer, of shape (units,) or (network, units), or None for a layer without; None (default)
        for no biases at all.
    activation
        Name of :math:`\phi`, as for :class:`MLP`. One name (default ``"relu"``) is for every layer but the last,
        which stays linear; a sequence names the activation of each layer, the last included.

    Attributes
    ----------
    weights
        Tuple of arrays, all of one type: float32 if no array is of a wider one than that, else float64.
    biases
        Tuple of arrays and None, or None.
    activation
        Canonical name, or tuple of the names of each layer if these are not one name and a linear last layer.

    Raises
    ------
    TypeError, ValueError
        If an array is empty or does not hold real numbers, or shapes do not fit; the layer is named.

    Examples
    --------
    >>> import numpy as np
    >>> import wideangle as wa
    >>> wa.NetworkWeights([np.ones((8, 2)), np.ones((1, 8))])
    NetworkWeights(2-8-1, relu, float64)
    """

    weights: tuple[NDArray[Any], ...]
    biases: tuple[NDArray[Any] | None, ...] | None
    activation: str | tuple[str, ...]

    def __init__(
        self,
        weights: Sequence[Any],
        *,
        biases: Sequence[Any] | None = None,
        activation: str | Activation | Sequence[str | Activation] = "relu",
    ) -> None:
        matrices = _check_matrices(weights)
        vectors = [None] * len(matrices) if biases is None else _check_biases(biases, matrices)
        dtype = _common_type([*matrices, *(vector for vector in vectors if vector is not None)])
        kept = tuple(None if vector is None else np.ascontiguousarray(vector, dtype) for vector in vectors)
        set_field = object.__setattr__
        set_field(self, "weights", tuple(np.ascontiguousarray(matrix, dtype) for matrix in matrices))
        set_field(self, "biases", None if all(vector is None for vector in kept) else kept)
        set_field(self, "activation", _check_layer_activations(activation, len(matrices)))

    def __len__(self) -> int:
        """Return the number of layers, the readout included."""
        return len(self.weights)

    def __getitem__(self, layer: int) -> NDArray[Any]:
        """Return the weights of a layer, so that the whole can stand for the list of them."""
        return self.weights[layer]

    @property
    def n_networks(self) -> int | None:
        """Number of networks; None if the arrays have no dimension for it."""
        return len(self.weights[0]) if self.weights[0].ndim == 3 else None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Length of the input, widths of the hidden layers, length of the output."""
        return (self.weights[0].shape[-1], *(matrix.shape[-2] for matrix in self.weights))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of all arrays, float32 or float64."""
        return self.weights[0].dtype

    @property
    def activations(self) -> tuple[Activation, ...]:
        """The activation of each layer, the last included."""
        names = self.activation
        if isinstance(names, str):
            names = (*[names] * (len(self.weights) - 1), "linear")
        return tuple(map(parse_activation, names))

    def __repr__(self) -> str:
        """Return shape, activation and type."""
        parts = ["-".join(map(str, self.sizes)), str(self.activation), str(self.dtype)]
        if self.n_networks is not None:
            parts.insert(0, f"{self.n_networks} networks")
        return f"NetworkWeights({', '.join(parts)})"


def _common_type(arrays: list[NDArray[Any]]) -> np.dtype[Any]:
    # Integers, such as biases of zero, do not make float32 weights float64.
    kinds = [array.dtype for array in arrays if array.dtype.kind == "f"]
    return np.dtype(np.float32 if kinds and all(kind.itemsize <= 4 for kind in kinds) else np.float64)


def _check_matrices(weights: Any) -> list[NDArray[Any]]:
    remedy = "give a list with an array (units, inputs) for each layer, or (network, units, inputs) for many networks"
    if isinstance(weights, (str, bytes)) or not isinstance(weights, Sequence):
        raise TypeError(f"weights must be a sequence of arrays, got {type(weights).__name__}; {remedy}")
    if not weights:
        raise ValueError(f"weights must hold at least one layer, got {weights!r}; {remedy}")
    matrices = [check_array(f"weights[{i}]", value, ndim=(2, 3), remedy=remedy) for i, value in enumerate(weights)]
    for i in range(1, len(matrices)):
        below, shape = matrices[i - 1].shape, matrices[i].shape
        where = f"weights[{i}] of shape {shape} does not fit weights[{i - 1}] of shape {below}"
        if shape[:-2] != below[:-2]:
            raise ValueError(f"{where}: every layer must have the same networks; {remedy}")
        if shape[-1] != below[-2]:
            raise ValueError(
                f"{where}: it must take {below[-2]} inputs, one for each unit below; give arrays of shape (units, "
                "inputs), transposed if they are (inputs, units)"
            )
    return matrices


def _check_biases(biases: Any, matrices: list[NDArray[Any]]) -> list[NDArray[Any] | None]:
    remedy = "give a list with an array (units,) or (network, units), or None, for each layer"
    if isinstance(biases, (str, bytes)) or not isinstance(biases, Sequence):
        raise TypeError(f"biases must be None or a sequence of arrays, got {type(biases).__name__}; {remedy}")
    if len(biases) != len(matrices):
        raise ValueError(f"biases must hold {len(matrices)} entries, one for each layer, got {len(biases)}; {remedy}")
    result: list[NDArray[Any] | None] = []
    for i, (value, matrix) in enumerate(zip(biases, matrices, strict=True)):
        if value is None:
            result.append(None)
            continue
        vector = check_array(f"biases[{i}]", value, ndim=(1, 2), remedy=remedy)
        if vector.shape != matrix.shape[:-1]:
            raise ValueError(
                f"biases[{i}] must have shape {matrix.shape[:-1]} to fit weights[{i}] of shape {matrix.shape}, got "
                f"{vector.shape}; {remedy}"
            )
        result.append(vector)
    return result


def _check_layer_activations(activation: Any, n_layers: int) -> str | tuple[str, ...]:
    if isinstance(activation, (str, Activation)) or not isinstance(activation, Sequence):
        return str(parse_activation(activation))
    if len(activation) != n_layers:
        raise ValueError(
            f"activation must be one name or {n_layers}, one for each layer, got {len(activation)}; give one name for "
            "every layer but a linear last one"
        )
    names = tuple(str(parse_activation(name, name=f"activation[{i}]")) for i, name in enumerate(activation))
    hidden = set(names[:-1]) or {"relu"}
    return hidden.pop() if len(hidden) == 1 and names[-1] == "linear" else names


def check_widths(name: str, widths: Any) -> tuple[int, ...]:
    """Return widths as a tuple of ints between 1 and 2**31."""
    remedy = "give the widths of the hidden layers as integers, such as (256,) * 32"
    if isinstance(widths, (str, bytes)) or not isinstance(widths, Iterable):
        raise TypeError(f"{name} must be a sequence of integers, got {widths!r} ({type(widths).__name__}); {remedy}")
    result = []
    for position, width in enumerate(widths):
        where = f"{name}[{position}]"
        # A fractional width is a wrong value rather than a wrong kind of thing: 256.0 reads as a number of neurons.
        if isinstance(width, float):
            raise ValueError(f"{where} must be an integer, got {width!r}; {remedy}")
        result.append(check_integer(where, width, low=1, high=MAX_WIDTH, remedy=remedy))
    if not result:
        raise ValueError(f"{name} must name at least one hidden layer, got {widths!r}; {remedy}")
    return tuple(result)


def _check_variance(name: str, value: Any, *, zero_allowed: bool) -> float:
    bound = "non-negative" if zero_allowed else "positive"
    remedy = f"give a {bound} variance, such as {0.0 if zero_allowed else 2.0}"
    result = check_real(name, value, remedy=remedy)
    if result < 0.0 or (result == 0.0 and not zero_allowed):
        raise ValueError(f"{name} must be {bound}, got {value!r}; {remedy}")
    return result
