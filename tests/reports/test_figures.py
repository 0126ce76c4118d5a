"""Figures are valid, repeatable files, and drawing leaves matplotlib as it was."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wideangle.reports import DARK, LIGHT, Theme, render
from wideangle.reports.figures import DASHES, label_line_ends, render_formats, spread


def draw_line(figure: Any, theme: Theme) -> None:
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], **theme.line("finite-width"))
    axes.set_title("A line")


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_png(theme: Theme) -> None:
    content = render(draw_line, size=(3, 2), theme=theme, file_format="png", dpi=100)
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")) == (300, 200)
    assert content.endswith(b"IEND\xaeB`\x82")


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_svg_is_well_formed_repeatable_and_in_the_colours_of_its_theme(theme: Theme) -> None:
    content = render(draw_line, size=(3, 2), theme=theme)
    assert ElementTree.fromstring(content).tag == "{http://www.w3.org/2000/svg}svg"
    assert content == render(draw_line, size=(3, 2), theme=theme)
    assert theme.methods["finite-width"].encode() in content
    assert b"<text" not in content  # Outlines: no font of the reader's machine is asked for.


def test_unknown_format() -> None:
    with pytest.raises(ValueError, match="file_format must be one of 'png', 'svg', got 'gif'"):
        render(draw_line, size=(3, 2), file_format="gif")


def test_formats_of_one_drawing_are_those_of_drawings_of_their_own() -> None:
    found = render_formats(draw_line, ("svg", "png"), size=(3, 2), dpi=100)
    assert found == [render(draw_line, size=(3, 2), file_format=kind, dpi=100) for kind in ("svg", "png")]


def test_the_settings_of_the_user_neither_change_nor_matter() -> None:
    import matplotlib as mpl

    expected = render(draw_line, size=(3, 2))
    with mpl.rc_context({"font.size": 31.0, "xtick.major.size": 20.0}):
        before = dict(mpl.rcParams)
        assert render(draw_line, size=(3, 2)) == expected
        assert dict(mpl.rcParams) == before


def test_no_backend_is_chosen() -> None:
    code = (
        "import sys; from wideangle.reports import render; render(lambda f, t: f.subplots(), size=(2, 1));"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def luminance(colour: str) -> float:
    """Relative luminance of the Web Content Accessibility Guidelines 2.2."""
    from matplotlib.colors import to_rgb

    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("theme", "page"), [(LIGHT, "#ffffff"), (DARK, "#12161b")])
def test_every_method_stands_out_from_the_page_and_has_its_own_look(theme: Theme, page: str) -> None:
    # 3 : 1 is what the guidelines ask of graphics, 4.5 : 1 of text.
    def contrast(colour: str) -> float:
        low, high = sorted([luminance(colour), luminance(page)])
        return (high + 0.05) / (low + 0.05)

    assert min(contrast(colour) for colour in theme.methods.values()) > 3.0
    assert min(contrast(theme.ink), contrast(theme.muted)) > 4.5
    assert theme.methods.keys() == DASHES.keys()
    assert len(set(theme.methods.values())) == len(theme.methods)


@given(st.lists(st.floats(-2.0, 2.0), max_size=8), st.floats(0.01, 0.5))
def test_spread_labels_keep_their_order_and_distance(positions: list[float], spacing: float) -> None:
    positions = sorted(positions)
    placed = spread(positions, spacing)
    assert all(b - a >= spacing - 1e-9 for a, b in itertools.pairwise(placed))
    assert math.fsum(placed) == pytest.approx(math.fsum(positions), abs=1e-9)
    if all(b - a >= spacing for a, b in itertools.pairwise(positions)):
        assert placed == pytest.approx(positions, abs=1e-9)


def test_line_ends_are_labelled_in_place() -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    axes.set_ylim(0.0, 10.0)
    label_line_ends(axes, [(5.0, "low", "k"), (5.0, "high", "k"), (9.0, "far", "k")], x=1.0, spacing=0.1)
    heights = {text.get_text(): text.get_position()[1] for text in axes.texts}
    assert heights == pytest.approx({"low": 4.5, "high": 5.5, "far": 9.0})
