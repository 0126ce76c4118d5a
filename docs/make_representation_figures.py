"""Draw the figure of docs/representation.md: ``python docs/make_representation_figures.py`` writes to docs/images."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import wideangle as wa
from wideangle.reports import render
from wideangle.representation.chunk_figures import draw_chunks, figure_size

IMAGES = Path(__file__).parent / "images"


if __name__ == "__main__":
    # The layer of the page's section on the number of clones.
    layer = wa.representation.synthetic_clones(10_000, latent_dim=16, n_clones=8, width=32, noise=0.3, seed=1)
    chunks = wa.representation.chunk_statistics(
        layer.features, seed=1, readout=layer.readout, bias=layer.bias, targets=layer.targets
    )
    fit = wa.representation.fit_clones(chunks, asymptotic_error=0.0)
    draw = partial(draw_chunks, chunks, fit=fit)
    (IMAGES / "representation.svg").write_bytes(render(draw, size=figure_size(chunks)))
