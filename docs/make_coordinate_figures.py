"""Draw the figures of docs/coordinate-check.md: ``python docs/make_coordinate_figures.py`` writes to docs/images."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import wideangle as wa
from wideangle.parametrization.coordinate_figures import draw_check, figure_size
from wideangle.parametrization.coordinate_report import parts
from wideangle.reports import render

IMAGES = Path(__file__).parent / "images"


if __name__ == "__main__":
    data = wa.data.load_digits(seed=0)
    for name, scaling in (("coordinate-check", "mup"), ("coordinate-check-wrong", "standard")):
        check = wa.parametrization.coordinate_check(scaling, data, depths=(2,), expected="mup")
        part = next(parts(check))
        (IMAGES / f"{name}.svg").write_bytes(render(partial(draw_check, part), size=figure_size(part)))
