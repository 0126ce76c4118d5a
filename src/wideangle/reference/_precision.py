"""Float32 with all its digits, where PyTorch may have been told to make do with fewer.

Imports PyTorch: only for import within functions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


def _operations() -> list[Any]:
    """Return what has a precision of its own, from PyTorch 2.9 on."""
    backends = (torch.backends.cuda, torch.backends.cudnn, torch.backends.mkldnn)
    parts = [getattr(backend, name, None) for backend in backends for name in ("matmul", "conv", "rnn")]
    return [part for part in parts if hasattr(part, "fp32_precision")]


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Compute in float32 rather than TF32 or bfloat16, and restore PyTorch's settings afterwards.

    Its default for convolutions on CUDA is TF32, in which a step of less than 1e-3 of a weight is lost.
    """
    operations = _operations()
    own = [part.fp32_precision for part in operations]
    # These have no answer where the user has set single operations; then setting those back is all there is to do.
    try:
        common: str | None = torch.get_float32_matmul_precision()
    except RuntimeError:
        common = None
    try:
        convolutions: bool | None = torch.backends.cudnn.allow_tf32
    except RuntimeError:
        convolutions = None
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    for part in operations:
        part.fp32_precision = "ieee"
    try:
        yield
    finally:
        if common is not None:
            torch.set_float32_matmul_precision(common)
        if convolutions is not None:
            torch.backends.cudnn.allow_tf32 = convolutions
        for part, precision in zip(operations, own, strict=True):
            part.fp32_precision = precision
