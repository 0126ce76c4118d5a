"""Weights to PyTorch modules and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from wideangle.activations import Activation
from wideangle.network import NetworkWeights
from wideangle.reference._torch import require_torch

if TYPE_CHECKING:
    import torch


def to_torch(
    weights: NetworkWeights | Sequence[Any],
    *,
    biases: Sequence[Any] | None = None,
    activation: str | Activation | Sequence[str | Activation] | None = None,
    dtype: DTypeLike | None = None,
) -> torch.nn.Sequential:
    r"""Build a PyTorch network with given weights.

    Parameters
    ----------
    weights
        A :class:`wideangle.NetworkWeights` of one network, or an array (units, inputs) for each layer.
    biases
        For weights that come as arrays: (units,) or None for each layer. Default none.
    activation
        For weights that come as arrays: one name for every layer but the last, which is linear, or one for each layer.
        Default ``"relu"``.
    dtype
        ``"float32"`` or ``"float64"``; default that of the weights.

    Returns
    -------
    torch.nn.Sequential
        Linear layers with copies of the weights, which can be trained, and a module after each layer whose activation
        is not linear. PyTorch's global generator is neither used nor advanced.

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    TypeError, ValueError
        If an argument is of the wrong type, shapes do not fit, or there are several networks.

    Examples
    --------
    >>> import numpy as np
    >>> import wideangle as wa
    >>> model = wa.reference.to_torch([np.ones((8, 2)), np.ones((1, 8))], activation="tanh", dtype="float32")
    >>> [type(module).__name__ for module in model]
    ['Linear', 'Tanh', 'Linear']
    """
    network = _one_network(weights, biases, activation)
    kind = network.dtype if dtype is None else _check_dtype(dtype)
    require_torch()
    import torch

    from wideangle.reference.modules import activation_module

    modules: list[torch.nn.Module] = []
    vectors = network.biases or (None,) * len(network.weights)
    for matrix, vector, phi in zip(network.weights, vectors, network.activations, strict=True):
        n_out, n_in = matrix.shape
        # PyTorch's own initialisation would draw from the global generator.
        layer = torch.nn.Linear(n_in, n_out, bias=vector is not None, device="meta")
        layer.weight = torch.nn.Parameter(torch.tensor(matrix.astype(kind)))
        if vector is not None:
            layer.bias = torch.nn.Parameter(torch.tensor(vector.astype(kind)))
        modules.append(layer)
        if phi.name != "linear":
            modules.append(activation_module(phi))
    return torch.nn.Sequential(*modules)


def from_torch(modules: torch.nn.Module | Sequence[torch.nn.Module]) -> NetworkWeights:
    r"""Read the weights of a PyTorch network, or of several of one shape.

    Parameters
    ----------
    modules
        A ``torch.nn.Sequential`` of Linear layers, each with at most one activation after it: ReLU, LeakyReLU, Tanh,
        GELU, ELU with alpha 1, SiLU, Sigmoid, and the modules that :func:`to_torch` makes of abs, erf and sin.
        Sequentials within are unpacked; Identity, Flatten of all dimensions but the first, and Dropout in evaluation
        mode are passed over. A single Linear is a network too. Or a sequence of such modules.

    Returns
    -------
    NetworkWeights
        Of one module in float32 or float64, it shares the memory of the parameters: training the module changes it. Of
        a sequence of modules it is a copy, with a dimension for the network. Half precision becomes float32.

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    TypeError, ValueError
        If there is a module that is not known, with its place; or if modules of a sequence differ in shape.

    Examples
    --------
    >>> import wideangle as wa
    >>> wa.reference.from_torch(wa.reference.build_mlp((30, 20), n_inputs=4, n_outputs=2, seed=1))
    NetworkWeights(4-30-20-2, relu, float32)
    """
    require_torch()
    import torch

    if isinstance(modules, torch.nn.Module):
        return _read(modules, "module")
    if not isinstance(modules, (list, tuple)):
        raise TypeError(f"modules must be a torch.nn.Module or a sequence of them, got {type(modules).__name__}")
    if not modules:
        raise ValueError("modules must hold at least one module, got none")
    networks = [_read(module, f"modules[{i}]") for i, module in enumerate(modules)]
    first = networks[0]
    for i, network in enumerate(networks):
        if _shape(network) != _shape(first):
            raise ValueError(
                f"modules[{i}] must be like modules[0], {first!r}, got {network!r}; give modules of one shape, with "
                "the same activations and biases"
            )
    every = list(zip(*(network.biases or () for network in networks), strict=True))
    return NetworkWeights(
        [np.stack(matrices) for matrices in zip(*(network.weights for network in networks), strict=True)],
        biases=[None if vectors[0] is None else np.stack(vectors) for vectors in every] if first.biases else None,
        activation=first.activation,
    )


def _one_network(weights: Any, biases: Any, activation: Any) -> NetworkWeights:
    if isinstance(weights, NetworkWeights):
        if biases is not None or activation is not None:
            raise ValueError("biases and activation must be None with NetworkWeights, which have their own")
        network = weights
    else:
        network = NetworkWeights(weights, biases=biases, activation="relu" if activation is None else activation)
    if network.n_networks is not None:
        raise ValueError(
            f"weights must be those of one network, got {network!r}; choose network k with [w[k] for w in weights]"
        )
    return network


def _check_dtype(dtype: Any) -> np.dtype[Any]:
    try:
        result: np.dtype[Any] = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype must be 'float32' or 'float64', got {dtype!r}") from None
    if result not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
    return result


def _shape(network: NetworkWeights) -> tuple[Any, ...]:
    biased = None if network.biases is None else tuple(bias is not None for bias in network.biases)
    return network.sizes, network.activation, network.dtype, biased


def _read(module: torch.nn.Module, name: str) -> NetworkWeights:
    import torch

    from wideangle.reference.modules import activation_of, passes_through

    weights: list[Any] = []
    biases: list[Any] = []
    activations: list[Activation] = []
    for place, part in _flattened(module, name):
        if isinstance(part, torch.nn.Linear):
            weights.append(_array(part.weight))
            biases.append(None if part.bias is None else _array(part.bias))
            activations.append(Activation("linear", 1.0))
            continue
        if passes_through(part):
            continue
        phi = activation_of(part)
        if phi is None:
            raise TypeError(
                f"{place} must be a Linear layer or a known activation, got {part!r}; give a torch.nn.Sequential of "
                "Linear layers with ReLU, LeakyReLU, Tanh, GELU, ELU, SiLU or Sigmoid between them"
            )
        if not activations or activations[-1].name != "linear":
            raise ValueError(f"{place}, {part!r}, must come after a Linear layer; apply it to the inputs yourself")
        activations[-1] = phi
    if not weights:
        raise ValueError(f"{name} must hold at least one Linear layer, got {module!r}")
    return NetworkWeights(weights, biases=biases, activation=activations)


def _flattened(module: torch.nn.Module, name: str) -> Iterator[tuple[str, torch.nn.Module]]:
    import torch

    if isinstance(module, torch.nn.Sequential):
        for i, part in enumerate(module):
            yield from _flattened(part, f"{name}[{i}]")
    else:
        yield name, module


def _array(parameter: torch.Tensor) -> np.ndarray[Any, Any]:
    import torch

    tensor = parameter.detach().cpu()
    return (tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()).numpy()
