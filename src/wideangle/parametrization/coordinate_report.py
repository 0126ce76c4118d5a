"""A coordinate check as text, and as a page with curves beside the verdicts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from wideangle._files import writable_file
from wideangle.parametrization._coordinate_tables import QUANTITIES
from wideangle.parametrization.coordinate_figures import draw_check, figure_size
from wideangle.reports import DARK, render
from wideangle.reports import html as blocks

if TYPE_CHECKING:
    import xarray as xr

_HEADER = ("layer", "size at the start", "change", "update", "verdict")


def coordinate_table(check: xr.Dataset) -> str:
    """Return a coordinate check as text: for each layer predicted and measured exponents, and the verdict.

    Parameters
    ----------
    check
        From :func:`coordinate_check`.

    Returns
    -------
    str
        A table for each depth and activation. Cells hold the predicted exponent, the measured one and its interval; of
        change and update at the step by which the layers are judged.

    Raises
    ------
    TypeError
        If ``check`` is something else.

    Examples
    --------
    >>> import wideangle as wa
    >>> data = wa.data.load_digits(seed=0)
    >>> check = wa.parametrization.coordinate_check("ntk", data, widths=(32, 64, 128), depths=(1,))
    >>> print(wa.parametrization.coordinate_table(check).splitlines()[0])
    1 hidden layer, relu, sgd, ntk: ..., kernel as expected
    """
    check_result(check)
    return "\n\n".join("\n".join([heading(part), *_aligned([_HEADER, *_rows(part)])]) for part in parts(check))


def write_coordinate_report(check: xr.Dataset, path: str | os.PathLike[str]) -> None:
    """Write a coordinate check as one HTML file that needs nothing else: curves, table and verdicts.

    Parameters
    ----------
    check
        From :func:`coordinate_check`.
    path
        File to write; one that is there is replaced.

    Raises
    ------
    TypeError
        If ``check`` is something else.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import wideangle as wa
    >>> data = wa.data.load_digits(seed=0)
    >>> check = wa.parametrization.coordinate_check("mup", data, widths=(32, 64, 128), depths=(1,))
    >>> wa.parametrization.write_coordinate_report(check, "check.html")
    """
    check_result(check)
    target = writable_file(path)
    sections = [_section(part) for part in parts(check)]
    details = {name: value for name, value in check.attrs.items() if name != "function"}
    lead = (
        f"Networks of width {check.width.values[0]} to {check.width.values[-1]} are trained for {check.step.values[-1]}"
        f" steps on {check.attrs['data']}, by {check.attrs['scaling']} and {check.attrs['optimizer']}. Each layer's"
        f" sizes go like a power of the width, and the exponents are judged by those of {check.attrs['expected']}."
    )
    notes = blocks.paragraph(
        "Size: root mean square of pre-activations, or of the output. Change: of their change since the start. Update:"
        " of what the change of the layer's own weights contributes. A layer agrees if the intervals of all three lie"
        f" within {check.attrs['tolerance']:g} of the prediction, and disagrees if one lies outside; what is predicted"
        " to grow only has to grow."
    )
    page = blocks.page(
        "Coordinate check", lead, [notes, *sections, blocks.section("Settings", blocks.definitions(details))]
    )
    target.write_text(page, encoding="utf-8")


def check_result(check: Any) -> None:
    """Raise if something is no result of a coordinate check."""
    name = getattr(check, "attrs", {}).get("function", "")
    if not str(name).endswith(".coordinate_check"):
        raise TypeError(f"check must be the result of coordinate_check, got {type(check).__name__}")


def parts(check: xr.Dataset) -> Iterator[xr.Dataset]:
    """Yield the checks of each depth and activation, without layers that are not there."""
    check = check.expand_dims([name for name in ("depth", "activation") if name not in check.dims])
    for depth in check.depth.values:
        for activation in check.activation.values:
            yield check.sel(depth=depth, activation=activation, layer=slice(1, int(depth) + 1))


def heading(part: xr.Dataset) -> str:
    """Return what a part is and how it came out."""
    depth, attrs = int(part.depth), part.attrs
    which = (
        attrs["scaling"] if attrs["scaling"] == attrs["expected"] else f"{attrs['scaling']} against {attrs['expected']}"
    )
    measured, expected = str(part.regime.values), str(part.regime_expected.values)
    regime = f"{measured} as expected" if measured == expected else f"{measured}, expected {expected}"
    layers = f"{depth} hidden layer{'s' if depth > 1 else ''}"
    return f"{layers}, {part.activation.values}, {attrs['optimizer']}, {which}: {part.overall.values}, {regime}"


def _rows(part: xr.Dataset) -> list[tuple[str, ...]]:
    steps = (0, int(part.judged_step), int(part.judged_step))
    rows = []
    for layer in part.layer.values:
        here = part.sel(layer=layer)
        cells = [
            _cell(*(float(here[f"{name}_{end}"].sel(step=step)) for end in ("predicted", "exponent", "low", "high")))
            for name, step in zip(QUANTITIES, steps, strict=True)
        ]
        name = "output" if layer == part.layer.values[-1] else str(layer)
        rows.append((name, *cells, str(here.verdict.values)))
    return rows


def _cell(predicted: float, exponent: float, low: float, high: float) -> str:
    wanted = "none" if np.isnan(predicted) else str(Fraction(predicted).limit_denominator(1000))
    exponent, low, high = (round(value, 2) + 0.0 for value in (exponent, low, high))  # without minus zero
    return f"{wanted}: {exponent:.2f} [{low:.2f}, {high:.2f}]"


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _section(part: xr.Dataset) -> str:
    draw = partial(draw_check, part)
    size = figure_size(part)
    images = (render(draw, size=size), render(draw, size=size, theme=DARK))
    step = int(part.judged_step)
    caption = (
        "Size at all steps, change and update after each, against the width; dots are networks, lines their mean. "
        f"Dashed: the predicted power of the width, at step {step} (of the size, at the start)."
    )
    diverged = int(part.diverged.sum())
    if diverged:
        caption += f" {diverged} of {part.diverged.size} networks left the range of floats."
    rows = _rows(part)
    alt = "Curves against the width, whose exponents are in the table below."
    table = blocks.numbers(_HEADER, rows, caption=f"Exponents: predicted, measured and interval, at step {step}.")
    return blocks.section(heading(part), blocks.figure(*images, alt=alt, caption=caption), table)
