"""What every reproduction makes sure of before any work."""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path


def require_training() -> None:
    """Raise ModuleNotFoundError with the remedy if PyTorch is missing."""
    if find_spec("torch") is None:
        raise ModuleNotFoundError('training needs PyTorch; install it with: pip install "wideangle[reference]"')


def make_writable(out: Path) -> None:
    """Make the directory for the results if it does not exist, and raise OSError if nothing can be written there."""
    out.mkdir(parents=True, exist_ok=True)
    # Permissions and read-only file systems show only when something is written.
    with tempfile.TemporaryFile(dir=out):
        pass
