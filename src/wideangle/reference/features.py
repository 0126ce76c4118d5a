"""Activations of a layer of a PyTorch module."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wideangle._checks import check_array, check_choice, check_integer
from wideangle._provenance import provenance
from wideangle.data import LabelledData
from wideangle.reference._torch import require_torch, torch_threads

if TYPE_CHECKING:
    import torch
    import xarray as xr

SOURCE = "forward pass of the module; arXiv 2106.03485 takes the last hidden layer"

_DATA = "give an array or tensor (sample, ...) in the shape that the module takes, or a LabelledData"


def extract_features(
    module: torch.nn.Module,
    data: ArrayLike | torch.Tensor | LabelledData,
    layer: str | torch.nn.Module = "last",
    *,
    part: Literal["test", "train"] = "test",
    batch_size: int = 1000,
    n_threads: int = 1,
) -> xr.Dataset:
    """Compute the activations of a layer of a PyTorch module.

    Parameters
    ----------
    module
        Takes inputs (sample, ...). It computes in evaluation mode and without gradients, on the device where its
        parameters are, and is left as it was: modes, buffers such as the statistics of batch normalisation, and hooks.
    data
        Inputs, an array or tensor of shape (sample, ...), or a :class:`wideangle.data.LabelledData`. Floating-point
        inputs become the type of the module's parameters; integers stay integers, for modules that take indices.
    layer
        The layer whose output is taken: its dotted name, as in ``module.named_modules()``, or the submodule itself. By
        default, "last", what enters the ``torch.nn.Linear`` that runs last in a forward pass: the activations of
        the last hidden layer. For a submodule that has this name give the submodule itself.
    part
        Which part of a LabelledData is taken, "test", the default, or "train"; of no effect on other data.
    batch_size
        Samples that go through the module at once, default 1000.
    n_threads
        Threads of PyTorch during the call, restored afterwards. Default 1.

    Returns
    -------
    xarray.Dataset
        ``features`` (sample, neuron), float32 or float64 as the module computes; half precision becomes float32. Values
        that are not finite stay as they are. A layer's output of shape (sample, channel, 1, 1) has a neuron
        for each channel. With layer "last" also ``readout`` (class, neuron), the weights of the Linear layer, and its
        ``bias`` (class), if it has one: features @ readout.T + bias is its output. With a LabelledData also
        ``targets`` (sample), the labels. Attributes hold the arguments and, as ``readout_layer``, the name of that
        Linear layer.

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    TypeError, ValueError
        If an argument is of the wrong type or out of range; the module fails on the data or has parameters without
        values; there is no such layer; the layer does not run, or runs more than once, in a forward pass; or its
        output is not a floating-point tensor of the shapes above. Choose a layer after pooling and flattening then.

    Notes
    -----
    Arithmetic of different batch sizes and numbers of threads differs in rounding. A module that normalises with the
    statistics of the batch even in evaluation mode depends on ``batch_size`` beyond that.

    Examples
    --------
    >>> import wideangle as wa
    >>> data = wa.data.load_digits(seed=1)
    >>> model = wa.reference.build_mlp((30, 20), n_inputs=64, n_outputs=10, seed=1)
    >>> dataset = wa.representation.extract_features(model, data)
    >>> dict(dataset.sizes)
    {'sample': 450, 'neuron': 20, 'class': 10}
    >>> sorted(dataset.data_vars)
    ['features', 'readout', 'targets']
    """
    require_torch()
    import torch
    import xarray as xr

    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}; give the trained network")
    check_choice("part", part, ("test", "train"))
    size = check_integer("batch_size", batch_size, low=1, high=10**9, remedy="give a number of samples, such as 1000")
    threads = check_integer("n_threads", n_threads, low=1, high=1024, remedy="give 1 or more")
    inputs = _inputs(data, part)
    name, chosen = _find_layer(module, layer)
    watch = _Watch(module, chosen)
    # In inference mode, tensors that a module makes and keeps could not be trained with later.
    with torch_threads(threads), torch.no_grad(), _evaluating(module), watch.hooks():
        features = _run(module, inputs, size, watch)

    variables: dict[str, Any] = {"features": (("sample", "neuron"), features)}
    linear = watch.layer if chosen is None else None
    if linear is not None:
        variables["readout"] = (("class", "neuron"), _array(linear.weight, copy=True))
        if linear.bias is not None:
            variables["bias"] = (("class",), _array(linear.bias, copy=True))
    if isinstance(data, LabelledData):
        variables["targets"] = (("sample",), np.array(getattr(data, f"y_{part}")))
    attributes = provenance(
        "wideangle.representation.extract_features",
        source=SOURCE,
        module=type(module).__name__,
        data=data.name if isinstance(data, LabelledData) else type(data).__name__,
        part=part if isinstance(data, LabelledData) else None,
        layer=name,
        readout_layer=None if linear is None else watch.names[linear],
        batch_size=size,
        n_threads=threads,
    )
    return xr.Dataset(variables, attrs=attributes)


def _inputs(data: Any, part: str) -> NDArray[Any] | torch.Tensor:
    import torch

    if isinstance(data, LabelledData):
        samples: NDArray[Any] = getattr(data, f"x_{part}")
        return samples
    if not isinstance(data, torch.Tensor):
        return check_array("data", data, ndim=range(1, 65), remedy=_DATA)
    if data.is_complex() or data.layout != torch.strided:
        raise TypeError(f"data must be a dense tensor of real numbers, got {data.dtype}, {data.layout}; {_DATA}")
    if data.ndim == 0 or data.numel() == 0:
        raise ValueError(f"data must have a sample or more, got shape {tuple(data.shape)}; {_DATA}")
    return data.detach()


def _find_layer(module: torch.nn.Module, layer: Any) -> tuple[str, torch.nn.Module | None]:
    """Return the name of a layer and the layer, None for what enters the last Linear layer."""
    import torch

    every = dict(module.named_modules(remove_duplicate=False))
    if isinstance(layer, torch.nn.Module):
        for name, candidate in every.items():
            if candidate is layer:
                return name, layer
        raise ValueError(f"layer must be a submodule of module, got another {layer!r}; give one of {_listed(every)}")
    if not isinstance(layer, str):
        raise TypeError(
            f"layer must be the name of a submodule, the submodule itself or 'last', got {layer!r} "
            f"({type(layer).__name__}); names are {_listed(every)}"
        )
    if layer == "last":
        if not any(isinstance(candidate, torch.nn.Linear) for candidate in every.values()):
            raise ValueError(
                f"layer 'last' is what enters the last torch.nn.Linear, and module has none; give one of "
                f"{_listed(every)}"
            )
        return layer, None
    if layer not in every:
        close = difflib.get_close_matches(layer, every, n=5)
        raise ValueError(
            f"layer must be the name of a submodule, got {layer!r}; "
            + (f"close to it are {_listed(close)}" if close else f"give one of {_listed(every)}")
        )
    return layer, every[layer]


def _listed(names: Any) -> str:
    some = [repr(name) for name in names if name]
    return ", ".join(some[:20]) + (f" and {len(some) - 20} more" if len(some) > 20 else "") or "no submodules"


class _Watch:
    """Keeps what leaves one layer, or what enters the Linear layer that runs last."""

    def __init__(self, module: torch.nn.Module, chosen: torch.nn.Module | None) -> None:
        import torch

        self.names = {part: name for name, part in module.named_modules()}
        self.chosen = chosen
        self.watched = (
            [part for part in self.names if isinstance(part, torch.nn.Linear)] if chosen is None else [chosen]
        )
        self.calls: list[torch.nn.Module] = []
        self.kept: Any = None
        self.layer: Any = chosen

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Watch while the context lasts."""
        handles = [part.register_forward_hook(self._keep(), with_kwargs=True) for part in self.watched]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _keep(self) -> Callable[..., None]:
        import torch

        def keep(layer: torch.nn.Module, args: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            self.calls.append(layer)
            value = output if self.chosen is not None else (args[0] if args else named["input"])
            # A layer that works in place may come next.
            self.kept = value.detach().clone() if isinstance(value, torch.Tensor) else value

        return keep

    def take(self, n_samples: int) -> torch.Tensor:
        """Return what was kept in one forward pass as (sample, neuron), or raise."""
        import torch

        calls, value = self.calls, self.kept
        self.calls, self.kept = [], None
        if not calls:
            what = "a torch.nn.Linear" if self.chosen is None else f"layer {self.names[self.chosen]!r}"
            raise ValueError(
                f"{what} must run in a forward pass of module, and does not; choose another layer, and give the module "
                "as it was before torch.compile or torch.jit, which pass hooks over"
            )
        name = self.names[calls[-1]]
        if calls.count(calls[-1]) > 1:
            raise ValueError(
                f"layer {name!r} must run once in a forward pass, ran {calls.count(calls[-1])} times; choose a layer "
                "that is not shared between places of the network"
            )
        if self.layer not in (None, calls[-1]):
            raise ValueError(
                f"the Linear layer that runs last must be the same for all samples, was {self.names[self.layer]!r} and "
                f"then {name!r}; give layer as the name of a submodule"
            )
        self.layer = calls[-1]
        place = f"output of layer {name!r}" if self.chosen is not None else f"input of the last Linear layer {name!r}"
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            kind = str(value.dtype) if isinstance(value, torch.Tensor) else type(value).__name__
            raise TypeError(f"{place} must be a tensor of floating-point numbers, got {kind}; choose another layer")
        shape = tuple(value.shape)
        if value.ndim == 4 and shape[2:] == (1, 1):
            value = value[:, :, 0, 0]
        if value.ndim != 2 or len(value) != n_samples or value.numel() == 0:
            raise ValueError(
                f"{place} must have shape (sample, neuron) or (sample, channel, 1, 1), got {shape} for {n_samples} "
                "sample(s); choose a layer after pooling and flattening, or put torch.nn.Flatten() behind it"
            )
        return value


@contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Put a module in evaluation mode for a while, and bring back modes and buffers whatever happens."""
    import torch

    parameters = list(module.parameters())
    if any(torch.nn.parameter.is_lazy(p) or p.is_meta for p in parameters):
        raise ValueError("module must have values in all its parameters; load its weights or run it once on a sample")
    modes = [(part, part.training) for part in module.modules()]
    buffers = [
        (part, name, buffer, buffer.clone())
        for part in module.modules()
        for name, buffer in part._buffers.items()
        if buffer is not None
    ]
    try:
        module.eval()
        yield
    finally:
        # Some modules change more than the flag, and have to hear of it.
        module.train(modes[0][1])
        for part, training in modes:
            part.training = training
        for part, name, buffer, before in buffers:
            part._buffers[name] = buffer
            if not torch.equal(buffer, before):
                buffer.copy_(before)


def _run(
    module: torch.nn.Module, inputs: NDArray[Any] | torch.Tensor, batch_size: int, watch: _Watch
) -> NDArray[np.floating[Any]]:
    import torch

    like = next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))
    result: NDArray[np.floating[Any]] | None = None
    for start in range(0, len(inputs), batch_size):
        batch = inputs[start : start + batch_size]
        try:
            if not isinstance(batch, torch.Tensor):
                # A copy in the machine's byte order: tensors are neither read-only nor of another.
                batch = torch.from_numpy(np.array(batch, dtype=batch.dtype.newbyteorder("="), order="C"))
            module(batch.to(like) if batch.is_floating_point() else batch.to(like.device))
        except Exception as error:
            raise ValueError(
                f"module must take data of shape {tuple(inputs.shape)} and type {inputs.dtype}, failed with {error}; "
                "give samples of the shape that the module was made for, floating-point where it does not take indices"
            ) from error
        values = _array(watch.take(len(batch)))
        if result is None:
            result = np.empty((len(inputs), values.shape[1]), dtype=values.dtype)
        if values.shape[1] != result.shape[1]:
            raise ValueError(
                f"layer must have as many neurons for all samples, got {result.shape[1]} and {values.shape[1]}; choose "
                "another layer"
            )
        result[start : start + len(batch)] = values
    assert result is not None
    return result


def _array(tensor: torch.Tensor, *, copy: bool = False) -> NDArray[Any]:
    import torch

    plain = tensor.detach().cpu()
    result: NDArray[Any] = (plain if plain.dtype in (torch.float32, torch.float64) else plain.float()).numpy()
    return result.copy() if copy else result
