"""Importing the package, in a fresh interpreter each time."""

from __future__ import annotations


def timeraw_import_wideangle() -> str:
    """The package alone: NumPy's own import and little more."""
    return "import wideangle"


def timeraw_import_numpy() -> str:
    """NumPy, to compare with."""
    return "import numpy"


def timeraw_import_propagation() -> str:
    """The package and the propagation system."""
    return "import wideangle.propagation"
