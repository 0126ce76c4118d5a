"""A number that stands for the source of the integrators."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path


@cache
def package_digest() -> int:
    """Return a number that changes with the source of the integrators, for the keys of what is cached on disk.

    Numba by itself looks at the one file that a cached function stands in, and at its time, not its content.
    """
    content = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    return int.from_bytes(hashlib.sha256(content).digest()[:7], "little")
