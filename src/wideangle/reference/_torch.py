"""What every use of PyTorch in this package needs: its presence, its seeds, its threads."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

WEIGHTS = 0
BATCHES = 1


def require_torch() -> None:
    """Raise an ImportError with the remedy if PyTorch cannot be imported."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"PyTorch builds and trains the reference networks and could not be imported ({error}); install it with "
            f'pip install "wideangle[reference]"'
        ) from error


def is_module(value: Any) -> bool:
    """Whether ``value`` is a PyTorch module; where PyTorch is not imported, nothing is."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def generator(seed: int, purpose: int) -> torch.Generator:
    """Return a generator of its own on the CPU, so that equal seeds for two purposes do not give equal numbers."""
    import torch

    mixed = np.random.SeedSequence(seed, spawn_key=(purpose,)).generate_state(1, np.uint64)
    return torch.Generator("cpu").manual_seed(int(mixed[0]))


@contextmanager
def torch_threads(n_threads: int) -> Iterator[None]:
    """Let PyTorch compute with ``n_threads`` threads and restore its setting afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def on_cpu() -> Iterator[None]:
    """Let PyTorch make tensors on the CPU, whatever the user's default device is."""
    import torch

    if torch.get_default_device().type == "cpu":  # the context makes every call slower
        yield
        return
    with torch.device("cpu"):
        yield


def plain_descent(learning_rate: float) -> Callable[[list[Any]], torch.optim.Optimizer]:
    """Return what makes the optimizer of plain gradient descent from parameters."""
    import torch

    return lambda parameters: torch.optim.SGD(parameters, lr=learning_rate)
