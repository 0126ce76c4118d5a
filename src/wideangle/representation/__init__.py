"""Redundant representations: what random chunks of a wide layer know of the whole.

Source: Doimo, Glielmo, Goldt and Laio, arXiv 2106.03485.
"""

from __future__ import annotations

from wideangle.representation.chunks import chunk_statistics

__all__ = ["chunk_statistics"]
