"""Redundant representations: what random chunks of a wide layer know of the whole.

Source: Doimo, Glielmo, Goldt and Laio, arXiv 2106.03485.
"""

from __future__ import annotations

from wideangle.reference.feature_files import read_features
from wideangle.reference.features import extract_features
from wideangle.representation.chunk_report import chunk_table, write_chunk_report
from wideangle.representation.chunks import chunk_statistics
from wideangle.representation.clone_number import fit_clones
from wideangle.representation.comparison import compare
from wideangle.representation.groups import find_clones
from wideangle.representation.synthetic import synthetic_clones
from wideangle.representation.training_comparison import compare_training
from wideangle.representation.width_training import train_widths

__all__ = [
    "chunk_statistics",
    "chunk_table",
    "compare",
    "compare_training",
    "extract_features",
    "find_clones",
    "fit_clones",
    "read_features",
    "synthetic_clones",
    "train_widths",
    "write_chunk_report",
]
