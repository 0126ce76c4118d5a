"""Redundant representations: what random chunks of a wide layer know of the whole.

Source: Doimo, Glielmo, Goldt and Laio, arXiv 2106.03485.
"""

from __future__ import annotations

from wideangle.reference.feature_files import read_features
from wideangle.reference.features import extract_features
from wideangle.representation.chunks import chunk_statistics
from wideangle.representation.groups import find_clones
from wideangle.representation.synthetic import synthetic_clones

__all__ = ["chunk_statistics", "extract_features", "find_clones", "read_features", "synthetic_clones"]
