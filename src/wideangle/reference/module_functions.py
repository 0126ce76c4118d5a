"""A module as a function of its parameters, sample by sample, or an error that names the layer which is none.

Imports PyTorch: only for import within functions.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from wideangle.reference._precision import full_float32

Tensors = dict[str, torch.Tensor]

_LINEAR = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
_DROPOUT = (
    torch.nn.Dropout,
    torch.nn.Dropout1d,
    torch.nn.Dropout2d,
    torch.nn.Dropout3d,
    torch.nn.AlphaDropout,
    torch.nn.FeatureAlphaDropout,
    torch.nn.RReLU,
)
_ENTRIES_AT_ONCE = 2**24  # of the gradients of a chunk of samples
_SAMPLES_AT_ONCE = 128


@dataclass(frozen=True, eq=False)
class ModuleFunction:
    """Outputs f(x; parameters) of a module, with the parameters that are trained, each once.

    ``readout`` names those of them that belong to the readout; ``n_outputs`` is the number of outputs of a sample.
    """

    module: torch.nn.Module
    names: tuple[str, ...]
    readout: frozenset[str]
    n_outputs: int

    @property
    def parameters(self) -> Tensors:
        """What is trained, as it is now, without a graph."""
        every = dict(self.module.named_parameters())
        return {name: every[name].detach() for name in self.names}

    def outputs(self, x: torch.Tensor, parameters: Tensors) -> torch.Tensor:
        """Return f (sample, output) of x (sample, ...)."""
        output: torch.Tensor = torch.func.functional_call(self.module, parameters, (x,))
        return output.reshape(len(x), -1)

    def outputs_now(self, x: torch.Tensor) -> torch.Tensor:
        """Return f (sample, output) without a graph."""
        with torch.no_grad():
            return torch.cat([self.module(part).reshape(len(part), -1) for part in torch.split(x, 1000)])

    def directional_gradients(self, x: torch.Tensor, directions: torch.Tensor) -> Tensors:
        """Return the gradients (sample, ...) of the outputs along directions (sample, output), for each parameter."""

        def along(parameters: Tensors, sample: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
            return (self.outputs(sample[None], parameters)[0] * direction).sum()

        gradients = torch.func.vmap(torch.func.grad(along), (None, 0, 0), chunk_size=self._chunk(1))
        with _many_gradients():
            result: Tensors = gradients(self.parameters, x, directions)
        return result

    def tangent_products(self, x: torch.Tensor, gradients: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the products of the gradients of f(x) with given ones (other, ...): readout, and all other parameters.

        Both have the shape (other, sample, output).
        """

        def single(parameters: Tensors, sample: torch.Tensor) -> torch.Tensor:
            return self.outputs(sample[None], parameters)[0]

        jacobian = torch.func.vmap(torch.func.jacrev(single), (None, 0))
        n_other = len(next(iter(gradients.values())))
        parts = [x.new_zeros((n_other, len(x), self.n_outputs), dtype=torch.float64, device="cpu") for _ in range(2)]
        start = 0
        for some in torch.split(x, self._chunk(self.n_outputs)):
            with _many_gradients():
                rows: Tensors = jacobian(self.parameters, some)
            for name, row in rows.items():
                rows_of_outputs = wide(row).reshape(len(some) * self.n_outputs, -1)
                product = wide(gradients[name]).reshape(n_other, -1) @ rows_of_outputs.T
                part = parts[0 if name in self.readout else 1]
                part[:, start : start + len(some)] += product.cpu().double().reshape(n_other, len(some), -1)
            start += len(some)
        return parts[0], parts[1]

    def _chunk(self, n_outputs: int) -> int:
        size = sum(parameter.numel() for parameter in self.parameters.values())
        return max(1, min(_SAMPLES_AT_ONCE, _ENTRIES_AT_ONCE // max(1, size * n_outputs)))

    @property
    def samples_at_once(self) -> int:
        """How many samples to ask for gradients of, so that these take a bounded part of the memory."""
        return max(1, 16 * _ENTRIES_AT_ONCE // max(1, sum(value.numel() for value in self.parameters.values())))


def wide(values: torch.Tensor) -> torch.Tensor:
    """Return what sums of products are to be taken of: types of 16 bits would lose digits, or overflow."""
    return values.float() if values.dtype.itemsize < 4 else values


@contextlib.contextmanager
def _many_gradients() -> Iterator[None]:
    """Take attention apart into products, as its fused forms know no batches of gradients, and have no word of loops.

    PyTorch warns where an operation is repeated for each sample instead, which is slow and no less right.
    """
    with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop", category=UserWarning)
        yield


def check_parameters(module: Any) -> torch.nn.Parameter:
    """Return a trainable parameter, whose type and device are those of all, or raise."""
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    for name, value in module.named_parameters():
        if isinstance(value, torch.nn.parameter.UninitializedParameter):
            raise ValueError(f"module must have all its parameters, {name} has no shape yet; call module once before")
    trained = [(name, value) for name, value in module.named_parameters() if value.requires_grad]
    if not trained:
        raise ValueError("module must have parameters with requires_grad=True, got none; there is nothing to train")
    first_name, first = trained[0]
    for name, value in trained:
        if value.device != first.device or value.dtype != first.dtype:
            raise ValueError(
                f"module must have its parameters on one device in one type, got {first_name} in {first.dtype} on "
                f"{first.device} and {name} in {value.dtype} on {value.device}; move it with module.to(...)"
            )
    if not first.is_floating_point():
        raise TypeError(f"module must have real parameters, got {first.dtype}")
    return first


def copy_module(module: torch.nn.Module) -> torch.nn.Module:
    """Return a copy that shares nothing with the module."""
    try:
        return copy.deepcopy(module)
    except Exception as error:
        raise ValueError(f"module must be one that copy.deepcopy can copy, and it failed with: {error}") from error


def check_layers_known(module: torch.nn.Module) -> None:
    """Raise where a layer is one whose output for a sample is random, or depends on the other samples."""
    for name, part in module.named_modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm) and (part.training or part.running_mean is None):
            remedy = (
                "take module.eval(), with which it uses its running statistics, or GroupNorm or LayerNorm in its place"
                if part.running_mean is not None
                else "it keeps no running statistics; take GroupNorm or LayerNorm in its place"
            )
            raise ValueError(
                f"module must treat each sample by itself, and {_called(name, part)} normalises over the batch; "
                f"{remedy}"
            )
        if isinstance(part, _DROPOUT) and part.training and getattr(part, "p", 1.0) > 0.0:
            raise ValueError(
                f"module must not be random, and {_called(name, part)} in training mode is; take module.eval(), or "
                "remove it"
            )


def function_of(module: torch.nn.Module, x: torch.Tensor, readout: Any) -> ModuleFunction:
    """Return the module as a function, tried on two samples x, or raise with the layer that fails.

    ``readout`` has names of parameters or submodules; None stands for the linear layer that is called last.
    """
    watch = _Watch(module)
    with full_float32():
        return _tried(module, x, readout, watch)


def _tried(module: torch.nn.Module, x: torch.Tensor, readout: Any, watch: _Watch) -> ModuleFunction:
    n_outputs, last = _try_forward(module, x, watch)
    trained = {name: value for name, value in module.named_parameters() if value.requires_grad}
    chosen = _readout_parameters(module, last, readout)
    function = ModuleFunction(
        module=module,
        names=tuple(trained),
        readout=frozenset(name for name, value in trained.items() if id(value) in chosen),
        n_outputs=n_outputs,
    )
    with watch.named("torch.func cannot differentiate it sample by sample", _ADVICE):
        directions = x.new_ones((len(x), n_outputs), dtype=next(iter(trained.values())).dtype)
        function.tangent_products(x, function.directional_gradients(x, directions))
    return function


_ADVICE = (
    "put another layer in its place; an autograd.Function needs setup_context and generate_vmap_rule=True or a vmap"
)


def _try_forward(module: torch.nn.Module, x: torch.Tensor, watch: _Watch) -> tuple[int, str | None]:
    """Return the number of outputs, and the name of the linear layer that was called last."""
    before, given = {name: value.clone() for name, value in module.named_buffers()}, x.clone()
    remedy = f"give x of a shape that it takes; here {tuple(x.shape)}, samples first"
    with watch.named("it fails", remedy), torch.enable_grad():
        together = module(x)
    if watch.random is not None:
        raise ValueError(
            f"module must not be random, and {watch.random} draws random numbers; take module.eval(), or remove it"
        )
    for name, value in module.named_buffers():
        if name not in before or not torch.equal(value, before[name]):
            owner = name.rpartition(".")[0]
            raise ValueError(
                f"module must not change its buffers when it is called, and "
                f"{_called(owner, module.get_submodule(owner))} changes {name}; take module.eval(), or put another "
                "layer in its place"
            )
    if not torch.equal(x, given):
        raise ValueError("module must not change its inputs; take inplace=False in its first layers")
    shape = tuple(together.shape) if isinstance(together, torch.Tensor) else type(together).__name__
    if not isinstance(shape, tuple) or len(shape) not in (1, 2) or shape[0] != len(x) or not together.numel():
        raise ValueError(f"module must return outputs (sample,) or (sample, output), got {shape} for {len(x)} samples")
    if not together.requires_grad:
        raise ValueError(
            f"module must have outputs that depend on its parameters, and {watch.lost} lets no gradient through; leave "
            "out detach, torch.no_grad and the like, or put another layer in its place"
        )
    with torch.no_grad():
        alone = torch.cat([module(sample[None]).reshape(1, -1) for sample in x])
        together = together.reshape(len(x), -1)
        tolerance = min(0.1, 100.0 * float(torch.finfo(together.dtype).eps) ** 0.75)
        largest = max(float(together.abs().max()), 1e-30)
        if float((alone - together).abs().max()) > tolerance * largest:
            raise ValueError(
                "module must treat each sample by itself, and its outputs for a sample depend on the other samples "
                "of the batch; put layers that do not mix them in place of those that do"
            )
    return together.shape[1], watch.last_linear


def check_trained(function: ModuleFunction, x: torch.Tensor) -> None:
    """Raise where the outputs at x depend on none of the parameters that are trained."""
    every = {
        name: value.detach().requires_grad_(name in function.names)
        for name, value in function.module.named_parameters()
    }
    with torch.enable_grad():
        outputs = function.outputs(x, every)
    if not outputs.requires_grad:
        raise ValueError(
            f"optimizer_factory must take parameters that the outputs of module depend on, got "
            f"{', '.join(function.names) or 'none'}; let it take all that it is called with"
        )


def _readout_parameters(module: torch.nn.Module, last: str | None, readout: Any) -> set[int]:
    """Return the identities of the parameters of the readout."""
    every = dict(module.named_parameters(remove_duplicate=False))
    remedy = 'name its readout, such as readout="head", or give readout=() if it has none'
    if readout is None:
        if last is None:
            raise ValueError(f"module must call a Linear or convolutional layer, and calls none; {remedy}")
        readout = (last,)
    names: Sequence[Any] = (readout,) if isinstance(readout, str) else readout
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"readout must be the name of a parameter or submodule, or a sequence of them, got {readout!r}")
    found: set[int] = set()
    for prefix in names:
        own = {id(value) for name, value in every.items() if not prefix or f"{name}.".startswith(f"{prefix}.")}
        if not own:
            raise ValueError(f"readout must name parameters of module, among {sorted(every)}, got {prefix!r}; {remedy}")
        found |= own
    return found


class _Call(NamedTuple):
    """A submodule at work, and what was known when it was called."""

    name: str
    part: torch.nn.Module
    generators: list[torch.Tensor]
    n_lost: int


class _Watch:
    """Knows which submodule is at work, which draws random numbers, and which linear layer was called last.

    ``lost`` is the submodule in which the gradient by the parameters has been lost last, the innermost one.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module
        self.device = next(module.parameters()).device
        self.random: str | None = None
        self.last_linear: str | None = None
        self.lost: str | None = None
        self._n_lost = 0
        self._at_work: list[_Call] = []
        self._from_within: bool | None = None

    @contextlib.contextmanager
    def named(self, complaint: str, remedy: str) -> Iterator[None]:
        """Let errors name the innermost submodule in which they came up."""
        handles = []
        for name, part in self.module.named_modules():
            handles.append(part.register_forward_pre_hook(self._entering(name)))
            handles.append(part.register_forward_hook(self._leaving))
        try:
            yield
        except Exception as error:
            where = "module" if not self._at_work else _called(self._at_work[-1].name, self._at_work[-1].part)
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ValueError(f"{where} is no layer that can be measured: {complaint} ({reason}); {remedy}") from error
        finally:
            for handle in handles:
                handle.remove()
            self._at_work.clear()

    def _generator_states(self) -> list[torch.Tensor]:
        on_device = [torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else []
        return [torch.get_rng_state(), *on_device]

    def _entering(self, name: str) -> Any:
        def note(part: torch.nn.Module, _: Any) -> None:
            self._at_work.append(_Call(name, part, self._generator_states(), self._n_lost))
            self._from_within = None

        return note

    def _leaving(self, _: torch.nn.Module, taken: Any, returned: Any) -> None:
        call = self._at_work.pop()
        if self.random is None and any(map(_differ, call.generators, self._generator_states())):
            self.random = _called(call.name, call.part)
        if isinstance(call.part, _LINEAR):
            self.last_linear = call.name
        self._note_gradient(call, taken, returned)

    def _note_gradient(self, call: _Call, taken: Any, returned: Any) -> None:
        """Keep the submodule if the gradient enters it, or comes from its parameters, and does not leave it."""
        leaves = _has_gradient(returned)
        if not leaves and (_has_gradient(taken) or _has_gradient(list(call.part.parameters()))):
            # Lost in the submodule that this one called last, unless what that returned had one.
            lost_within = self._from_within is False and self._n_lost > call.n_lost
            if not lost_within:
                self.lost = _called(call.name, call.part)
                self._n_lost += 1
        self._from_within = leaves


def _has_gradient(values: Any) -> bool:
    if isinstance(values, torch.Tensor):
        return values.requires_grad
    if isinstance(values, dict):
        values = list(values.values())
    return isinstance(values, (tuple, list)) and any(map(_has_gradient, values))


def _differ(one: torch.Tensor, other: torch.Tensor) -> bool:
    return not torch.equal(one, other)


def _called(name: str, part: torch.nn.Module) -> str:
    return f"{name or 'module'} ({type(part).__name__})"
