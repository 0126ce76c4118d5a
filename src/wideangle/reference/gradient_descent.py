"""Plain gradient descent in PyTorch on all samples at once, for comparison with gradient flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wideangle._checks import check_array, check_integer, check_positive_real
from wideangle.losses import Loss, parse_loss
from wideangle.reference._torch import require_torch, torch_threads

if TYPE_CHECKING:
    import torch


def train_full_batch(
    model: torch.nn.Module,
    x: ArrayLike,
    y: ArrayLike,
    *,
    loss: str | Loss = "cross-entropy",
    learning_rate: float,
    steps: int,
    probabilities: ArrayLike | None = None,
    record: Callable[[torch.nn.Module], torch.Tensor] | None = None,
    n_threads: int = 1,
) -> NDArray[np.float64]:
    r"""Train a classifier in place by gradient descent on the mean loss of all samples.

    Parameters
    ----------
    model
        Maps x (sample, feature) to f (sample) or (sample, 1), on the CPU. Its parameters say in which precision.
    x
        Inputs (sample, feature).
    y
        Labels (sample), -1 or 1.
    loss
        Of the margin :math:`y f(x)`, see :mod:`wideangle.losses`. At its kink the hinge has slope 0.
    learning_rate
        Positive step; learning rate times steps is the time of gradient flow.
    steps
        Number of steps, from 0 on.
    probabilities
        Weights of the samples (sample), with sum 1; default equal.
    record
        What to keep of the model before the first and after every step: a function of the model that returns a vector.
        Default the margins.
    n_threads
        Threads of PyTorch during the call, default 1.

    Returns
    -------
    numpy.ndarray
        What was recorded, (step, entry), with ``steps`` + 1 rows. A run that diverges gives infinities and NaN.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, before any step.
    ImportError
        If PyTorch is missing.

    Examples
    --------
    >>> import torch
    >>> import wideangle as wa
    >>> model = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
    >>> _ = torch.nn.init.zeros_(model.weight)
    >>> margins = wa.reference.train_full_batch(model, [[1.0], [-2.0]], [1, -1], learning_rate=0.1, steps=2)
    >>> margins.round(4)
    array([[ 0.    , -0.    ],
           [ 0.075 ,  0.15  ],
           [ 0.1453,  0.2906]])
    """
    require_torch()
    import torch

    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    kind = parse_loss(loss)
    remedy = "give a positive learning rate, such as 1e-2"
    rate = check_positive_real("learning_rate", learning_rate, remedy=remedy)
    steps = check_integer("steps", steps, low=0, high=10**9, remedy="give a number of steps, such as 1000")
    inputs = check_array("x", x, ndim=(2,), remedy="give inputs (sample, feature)")
    labels = check_array("y", y, ndim=(1,), remedy="give one label, -1 or 1, for each sample")
    if len(labels) != len(inputs) or not np.all(np.abs(labels) == 1):
        raise ValueError(f"y must hold {len(inputs)} labels -1 or 1, one for each sample of x, got {labels.tolist()}")
    shares = np.full(len(labels), 1.0 / len(labels))
    if probabilities is not None:
        shares = check_array("probabilities", probabilities, ndim=(1,), remedy="give a weight for each sample")
        if shares.shape != labels.shape or np.any(shares < 0) or abs(shares.sum() - 1.0) > 1e-9:
            raise ValueError(
                f"probabilities must be {len(labels)} numbers that are not negative and sum to 1, got {shares.tolist()}"
            )
    with torch_threads(n_threads):
        dtype = next(model.parameters()).dtype
        arrays = (np.ascontiguousarray(array, np.float64) for array in (inputs, labels, shares))
        tensors = [torch.tensor(array, dtype=dtype) for array in arrays]
        rows = _descend(model, tensors, kind.name, rate, steps, record)
    return np.stack(rows)


def _descend(
    model: torch.nn.Module, tensors: list[torch.Tensor], loss: str, rate: float, steps: int, record: Any
) -> list[NDArray[np.float64]]:
    import torch

    from wideangle.reference.module_responses import BINARY_LOSSES

    x, y, shares = tensors
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    rows = []
    for step in range(steps + 1):
        outputs = model(x).reshape(len(x), 1)
        with torch.no_grad():
            kept = y * outputs[:, 0] if record is None else record(model)
        rows.append(kept.detach().numpy().astype(np.float64))
        if step == steps:
            break
        optimizer.zero_grad()
        (shares @ BINARY_LOSSES[loss](outputs, y)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return rows
