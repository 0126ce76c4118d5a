"""Training of a module, with what its outputs answer to one more sample on the way.

Imports PyTorch: only for import within functions.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from wideangle._checks import check_array
from wideangle.reference._precision import full_float32
from wideangle.reference._torch import BATCHES, generator
from wideangle.reference.module_functions import (
    ModuleFunction,
    check_layers_known,
    check_parameters,
    check_trained,
    copy_module,
    function_of,
    wide,
)
from wideangle.reference.training import DIVERGED, TRAINED, sample_batches

Array = NDArray[np.float64]
Losses = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

_REMEDY = "give an array (sample, ...) of at least one sample"


class Training(NamedTuple):
    """How a module is trained: samples of a step (None for all), seed of their order, steps to measure at."""

    loss: str
    batch: int | None
    seed: int
    steps: tuple[int, ...]


class Responses(NamedTuple):
    r"""What is measured at one step, in float64.

    With C outputs, :math:`u(x)` is the direction of the derivative of the loss by the outputs at x, of length 1, or 1
    for a single output. ``outputs`` (train, output), ``probe_outputs`` (probe, output), ``derivative`` (train, output);
    ``directions`` u (train, output); ``readout``, ``hidden`` (train, probe, output): parts of K(x', x) u;
    ``own`` (train): u K(x, x) u; ``steps`` (train, probe, output) and ``own_steps`` (train, output): change of the
    outputs over the learning rate in a step on the sample, None if none is taken.
    """

    outputs: Array
    probe_outputs: Array
    derivative: Array
    directions: Array
    readout: Array
    hidden: Array
    own: Array
    steps: Array | None
    own_steps: Array | None


class PreparedModule:
    """A module that has passed all checks, with its data and its optimizer."""

    def __init__(
        self, module: Any, x_train: Any, x_probe: Any, optimizer_factory: Any, *, readout: Any, in_place: bool
    ) -> None:
        if torch.is_inference_mode_enabled():
            raise ValueError("module cannot be trained within torch.inference_mode(); call measure outside of it")
        like = check_parameters(module)
        check_layers_known(module)
        self.x_train = _as_samples("x_train", x_train, like)
        self.x_probe = _as_samples("x_probe", x_probe, like)
        if self.x_train.shape[1:] != self.x_probe.shape[1:] or self.x_train.dtype != self.x_probe.dtype:
            raise ValueError(
                f"x_probe must have samples like those of x_train, {tuple(self.x_train.shape[1:])} in "
                f"{self.x_train.dtype}, got {tuple(self.x_probe.shape[1:])} in {self.x_probe.dtype}"
            )
        tried = copy_module(module)
        self._like = like
        with self._forked_generators():
            some = torch.cat([self.x_train, self.x_probe])[:2]
            function = function_of(tried, some, readout)
        trained = module if in_place else tried
        parameters = [value for value in trained.parameters() if value.requires_grad]
        self.optimizer = _check_optimizer(optimizer_factory, parameters)
        inside = {id(value) for group in self.optimizer.param_groups for value in group["params"]}
        names = tuple(name for name, value in trained.named_parameters() if id(value) in inside)
        with self._forked_generators():
            check_trained(dataclasses.replace(function, names=names), some)
        self.function: ModuleFunction = dataclasses.replace(
            function, module=trained, names=names, readout=function.readout & set(names)
        )

    @property
    def learning_rates(self) -> set[float]:
        """Those of the groups of the optimizer."""
        return {float(group["lr"]) for group in self.optimizer.param_groups if "lr" in group}

    def train(
        self, labels: Array, training: Training, measure: Callable[[int], None], watch: Callable[[int], object] | None
    ) -> tuple[int, int]:
        """Train, and call ``measure`` with the place of each step that is to be measured at.

        Returns status and the step of which the loss, or the output in a measurement, was not finite, or -1.
        """
        with self._forked_generators(), torch.enable_grad():
            y = self._labels(labels)
            losses = self.losses(training.loss)
            for step, batch in zip(range(training.steps[-1] + 1), self._batches(training), strict=False):
                if step in training.steps:
                    with full_float32():
                        outputs = self.function.outputs_now(self.x_train)
                    if not torch.isfinite(outputs).all():
                        return DIVERGED, step
                    measure(training.steps.index(step))
                if step == training.steps[-1]:
                    break
                self.optimizer.zero_grad()
                outputs = self.function.module(self.x_train[batch]).reshape(len(y[batch]), -1)
                loss = losses(outputs, y[batch]).mean()
                if not math.isfinite(loss.item()):
                    return DIVERGED, step
                torch.autograd.backward(loss)
                self.optimizer.step()
                if watch is not None:
                    watch(step + 1)
            self.optimizer.zero_grad()
        return TRAINED, -1

    def _labels(self, labels: Array) -> torch.Tensor:
        return torch.tensor(
            labels, dtype=torch.int64 if labels.dtype.kind == "i" else self._like.dtype, device=self._like.device
        )

    def _forked_generators(self) -> contextlib.AbstractContextManager[Any]:
        device = self._like.device
        return torch.random.fork_rng([device] if device.type == "cuda" else [])

    def _batches(self, training: Training) -> Iterator[Any]:
        if training.batch is None:
            while True:
                yield slice(None)
        yield from sample_batches(len(self.x_train), training.batch, generator(training.seed, BATCHES))

    def losses(self, loss: str) -> Losses:
        """Return the loss of outputs (sample, output) for labels, sample by sample."""
        return (BINARY_LOSSES if self.function.n_outputs == 1 else _CLASS_LOSSES)[loss]

    def measure(self, derivative_of: Callable[[Array], Array], learning_rate: float | None) -> Responses:
        """Return the answers at each probe to each training sample, by real steps too if there is a learning rate."""
        with full_float32():
            return self._measure(derivative_of, learning_rate)

    def _measure(self, derivative_of: Callable[[Array], Array], learning_rate: float | None) -> Responses:
        outputs, probe_outputs = (self._numbers(self.function.outputs_now(x)) for x in (self.x_train, self.x_probe))
        derivative = derivative_of(outputs)
        directions = np.ones_like(derivative)
        if self.function.n_outputs > 1:
            norms = np.linalg.norm(derivative, axis=1, keepdims=True)
            directions = np.divide(derivative, norms, out=np.zeros_like(derivative), where=norms > 0.0)
        scale = (derivative * directions).sum(axis=1)
        chunks: list[tuple[Array, ...]] = []
        for start in range(0, len(outputs), self.function.samples_at_once):
            some = slice(start, start + self.function.samples_at_once)
            along = torch.tensor(directions[some], dtype=self._like.dtype, device=self._like.device)
            gradients = self.function.directional_gradients(self.x_train[some], along)
            products = self.function.tangent_products(self.x_probe, gradients)
            squares = [wide(value).reshape(len(value), -1).square().sum(dim=1) for value in gradients.values()]
            chunk = [*map(self._numbers, (*products, torch.stack(squares).sum(dim=0)))]
            if learning_rate is not None:
                chunk += self._step(gradients, scale[some], self.x_train[some], learning_rate)
            chunks.append(tuple(chunk))
        readout, hidden, own, *after = map(np.concatenate, zip(*chunks, strict=True))
        steps = own_steps = None
        if learning_rate is not None:
            steps, own_steps = (after[0] - probe_outputs) / learning_rate, (after[1] - outputs) / learning_rate
        return Responses(outputs, probe_outputs, derivative, directions, readout, hidden, own, steps, own_steps)

    def _step(
        self, gradients: dict[str, torch.Tensor], scale: Array, samples: torch.Tensor, learning_rate: float
    ) -> list[Array]:
        """Return outputs after a step on each sample alone: (sample, probe, output), and its own (sample, output)."""
        parameters = self.function.parameters
        after, own_after = [], []
        for place, sample in enumerate(samples):
            factor = learning_rate * float(scale[place])
            stepped = {name: value - factor * gradients[name][place] for name, value in parameters.items()}
            with torch.no_grad():
                after.append(self._numbers(self.function.outputs(self.x_probe, stepped)))
                own_after.append(self._numbers(self.function.outputs(sample[None], stepped))[0])
        return [np.stack(after), np.stack(own_after)]

    @staticmethod
    def _numbers(values: torch.Tensor) -> Array:
        result: Array = values.detach().cpu().double().numpy()
        return result


def _as_samples(name: str, value: Any, like: torch.Tensor) -> torch.Tensor:
    """Return inputs (sample, ...) on the device of the parameters, in their type unless a tensor of integers."""
    if isinstance(value, torch.Tensor):
        result = value.detach().to(like.device)
        if result.is_complex():
            raise TypeError(f"{name} must hold real numbers, got {result.dtype}; {_REMEDY}")
        result = result.to(like.dtype) if result.is_floating_point() else result.clone()
    else:
        array = np.ascontiguousarray(check_array(name, value, ndim=range(1, 65), remedy=_REMEDY), np.float64)
        result = torch.tensor(array, dtype=like.dtype, device=like.device)
    if result.ndim < 2 or result.numel() == 0:
        raise ValueError(f"{name} must have dimensions (sample, ...), none empty, got {tuple(result.shape)}; {_REMEDY}")
    if not torch.isfinite(result).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity; {_REMEDY}")
    return result


def _check_optimizer(factory: Any, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    example = "lambda parameters: torch.optim.SGD(parameters, lr=0.1)"
    if not callable(factory) or isinstance(factory, torch.optim.Optimizer):
        raise TypeError(
            f"optimizer_factory must be a function of the parameters, got {type(factory).__name__}; give {example}"
        )
    optimizer = factory(parameters)
    if not isinstance(optimizer, torch.optim.Optimizer) or isinstance(optimizer, torch.optim.LBFGS):
        raise TypeError(
            "optimizer_factory must return a torch.optim.Optimizer whose step needs no closure, got "
            f"{type(optimizer).__name__}; give {example}"
        )
    own = {id(value) for value in parameters}
    if not all(id(value) in own for group in optimizer.param_groups for value in group["params"]):
        raise ValueError(
            f"optimizer_factory must return an optimizer of the parameters that it is called with, a copy of those of "
            f"module, got others; give {example}"
        )
    return optimizer


def _one_output(of_margin: Callable[[torch.Tensor], torch.Tensor]) -> Losses:
    return lambda outputs, y: of_margin(y * outputs[:, 0])


def _square(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return 0.5 * (outputs - y.reshape(outputs.shape)).square().sum(dim=1)


# logsigmoid rather than softplus, which PyTorch replaces by a straight line from 20 on, with an error of 2e-9.
BINARY_LOSSES: dict[str, Losses] = {
    "cross-entropy": _one_output(lambda margins: -torch.nn.functional.logsigmoid(margins)),
    "hinge": _one_output(lambda margins: torch.relu(1.0 - margins)),
    "squared": _square,
    "exponential": _one_output(lambda margins: torch.exp(-margins)),
}
_CLASS_LOSSES: dict[str, Losses] = {
    "cross-entropy": lambda outputs, y: torch.nn.functional.cross_entropy(outputs, y, reduction="none"),
    "squared": _square,
}
