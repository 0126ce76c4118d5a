"""The size of the first step of networks under a width scaling."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike

from wideangle._checks import check_array, check_choice, check_numbers, check_positive_real
from wideangle.reference._torch import require_torch
from wideangle.reference.scaled import scaled_optimizer

if TYPE_CHECKING:
    import torch

    from wideangle.reference.scaled_modules import ScaledMLP


@overload
def calibrate_first_step(
    model: ScaledMLP,
    x: ArrayLike,
    y: ArrayLike,
    *,
    size: float = ...,
    optimizer: Literal["sgd", "adam"] = ...,
) -> float: ...


@overload
def calibrate_first_step(
    model: ScaledMLP,
    x: ArrayLike,
    y: ArrayLike,
    *,
    size: Sequence[float],
    optimizer: Literal["sgd", "adam"] = ...,
) -> tuple[float, ...]: ...


def calibrate_first_step(
    model: ScaledMLP,
    x: ArrayLike,
    y: ArrayLike,
    *,
    size: float | Sequence[float] = 1.0,
    optimizer: Literal["sgd", "adam"] = "sgd",
) -> float | tuple[float, ...]:
    r"""Find the learning rate of the first step with which activations change by a given size, or that of each layer.

    Parameters
    ----------
    model
        From :func:`build_scaled_mlp`, before its first step; left as it is.
    x
        A batch (sample, feature).
    y
        Labels (sample), integers from 0 below the number of outputs. The loss is their cross-entropy.
    size
        A number, default 1: root mean square, over units and samples of the batch, of the change of the pre-activations
        of the last hidden layer, from those after a step of length 0. Or one for each of the L + 1 layers: root mean
        square of what the update of a layer's own weights and biases adds to its pre-activations, given the layers
        before it after their step.
    optimizer
        ``"sgd"`` (default) or ``"adam"``.

    Returns
    -------
    float or tuple of float
        :math:`\eta` for ``first_learning_rate`` of :func:`scaled_optimizer`; one for all layers, to four digits, the
        smallest if several give that size, or one for each layer.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or no learning rate up to 1e30 gives that size.

    Notes
    -----
    Integrable networks begin with activations that vanish with the width, so that the size of what a step leaves of
    them is in the hands of this one number, and small numbers become smaller from layer to layer. Hajjar, Chizat and
    Giraud, arXiv 2110.15596, calibrate each layer for the same reason: inner ones to changes of mean size 1, the output
    layer to 0.1. Under a scaling that has a limit, what is found at one width holds for others.

    Examples
    --------
    >>> import wideangle as wa
    >>> data = wa.data.load_digits(seed=1)
    >>> batch = data.x_train[:100], data.y_train[:100]
    >>> llr = wa.parametrization.scaling("ip-llr", 4)
    >>> for width in (256, 512):
    ...     model = wa.reference.build_scaled_mlp(llr, width, n_inputs=64, n_outputs=10, seed=1)
    ...     print(3.0 < wa.reference.calibrate_first_step(model, *batch) < 30.0)
    True
    True
    >>> len(wa.reference.calibrate_first_step(model, *batch, size=(1, 1, 1, 1, 0.1)))
    5
    """
    require_torch()
    import torch

    kind = check_choice("optimizer", optimizer, ("sgd", "adam"))
    sizes = _check_sizes(size)
    unit_rates = scaled_optimizer(model, learning_rate=1.0, optimizer=kind).learning_rates()  # type: ignore[arg-type]
    step = _FirstStep.of(model, *_check_batch(x, y, model), unit_rates, kind)
    if isinstance(sizes, tuple):
        if len(sizes) != len(model.weights):
            raise ValueError(
                f"size must hold {len(model.weights)} numbers, one for each layer, got {len(sizes)}; "
                "give one number for the last hidden layer, or one for every layer with the output's last"
            )
        with torch.no_grad(), step.restored():
            return tuple(step.rates_of_layers(sizes))
    n_layers = len(model.weights)

    def last_hidden(rate: float) -> torch.Tensor:
        step.take([rate] * n_layers)
        return model.preactivations(step.inputs)[-2]

    with torch.no_grad(), step.restored():
        standing = last_hidden(0.0)
        return _solve(lambda rate: float((last_hidden(rate) - standing).square().mean().sqrt()), sizes)


class _FirstStep(NamedTuple):
    """Parameters of a network, their values at the start, and their steps at a learning rate of 1."""

    model: ScaledMLP
    inputs: torch.Tensor
    starts: list[torch.Tensor]
    moves: list[torch.Tensor]

    @classmethod
    def of(
        cls, model: ScaledMLP, inputs: torch.Tensor, labels: torch.Tensor, rates: list[float], kind: str
    ) -> _FirstStep:
        import torch

        parameters = [*model.weights, *model.biases]
        starts = [parameter.detach().clone() for parameter in parameters]
        gradients = torch.autograd.grad(torch.nn.functional.cross_entropy(model(inputs), labels), parameters)
        steps = (gradient if kind == "sgd" else gradient.sign() for gradient in gradients)
        return cls(model, inputs, starts, [-rate * step for rate, step in zip(rates, steps, strict=True)])

    def take(self, rates: Sequence[float]) -> None:
        """Set the parameters to what they are after a step with these learning rates of the layers."""
        dropped = range(1, len(rates) - 1) if self.model.scaling.drops_initial else range(0)
        for place, parameter in enumerate((*self.model.weights, *self.model.biases)):
            rate = rates[place % len(rates)]
            move = rate * self.moves[place]
            parameter.copy_(move if place in dropped else self.starts[place] + move)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Leave the parameters as they were."""
        try:
            yield
        finally:
            for parameter, start in zip((*self.model.weights, *self.model.biases), self.starts, strict=True):
                parameter.copy_(start)

    def rates_of_layers(self, sizes: Sequence[float]) -> Iterator[float]:
        """Yield the learning rate of each layer, with which its own update adds that much to its pre-activations."""
        rates = [0.0] * len(sizes)
        for layer, size in enumerate(sizes):
            values = []
            for rate in (0.0, 1.0):
                rates[layer] = rate
                self.take(rates)
                values.append(self.model.preactivations(self.inputs)[layer])
            added = float((values[1] - values[0]).square().mean().sqrt())
            if not added > 1e-30 * size:
                raise ValueError(
                    f"size must be within reach of a step, got {size!r} for layer {layer + 1}; its update adds "
                    f"{added!r}"
                )
            rates[layer] = size / added
            yield rates[layer]


def _solve(change: Callable[[float], float], wanted: float) -> float:
    """Return the first of the rates, going up from a tiny one, at which a change is as wanted."""
    low, high = 0.0, 1e-12
    while not change(high) >= wanted:
        low, high = high, 2.0 * high
        if high > 1e30:
            raise ValueError(f"size must be within reach of a step, got {wanted!r}; activations do not change by that")
    while high - low > 1e-4 * high:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if change(middle) >= wanted else (middle, high)
    return high


def _check_sizes(value: Any) -> float | tuple[float, ...]:
    remedy = "give a number such as 1.0, or one for each layer"
    several = np.ndim(value) > 0
    items = value if several else [value]
    names = [f"size[{place}]" for place in range(len(items))] if several else ["size"]
    sizes = tuple(check_positive_real(name, item, remedy=remedy) for name, item in zip(names, items, strict=True))
    return sizes if several else sizes[0]


def _check_batch(x: Any, y: Any, model: ScaledMLP) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    n_inputs, n_outputs = model.weights[0].shape[1], model.weights[-1].shape[0]
    remedy = "give a batch (sample, feature)"
    inputs = check_numbers("x", x, ndim=(2,), remedy=remedy)
    if inputs.shape[1] != n_inputs:
        raise ValueError(f"x must have the {n_inputs} features of the model, got shape {inputs.shape}; {remedy}")
    remedy = f"give a label from 0 to {n_outputs - 1} for each sample of x"
    labels = check_array("y", y, ndim=(1,), remedy=remedy)
    if len(labels) != len(inputs) or labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= n_outputs:
        raise ValueError(f"y must hold {len(inputs)} integers from 0 to {n_outputs - 1}, got {labels!r}; {remedy}")
    return torch.tensor(inputs, dtype=model.weights[0].dtype), torch.tensor(labels.astype(np.int64))
