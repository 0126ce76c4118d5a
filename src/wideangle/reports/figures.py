"""Drawing: one look for all figures, in a light and a dark theme, without touching matplotlib's global state.

Figures are built from :class:`matplotlib.figure.Figure` directly, so no window system or backend is ever chosen.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wideangle._checks import check_choice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "svg")
_DECIMALS = 9  # Of positions, in units of the figure.


@dataclass(frozen=True)
class Theme:
    """Colours of a figure.

    Parameters
    ----------
    background, ink, muted, rule
        Colours of the page (``"none"`` is transparent), of text and data without a method, of secondary text and of
        grid lines.
    methods
        Colour of each method. Those of the default themes are told apart under the common colour-vision deficiencies
        (after M. Okabe and K. Ito, *Color universal design*, 2008), and every method has its own dash pattern too.
    """

    background: str
    ink: str
    muted: str
    rule: str
    methods: Mapping[str, str]

    def line(self, method: str) -> dict[str, Any]:
        """Return the keywords of a line that stands for ``method``: the same in every panel."""
        return {"color": self.methods[method], "linestyle": DASHES[method], "linewidth": 1.6}


DASHES: Mapping[str, Any] = {
    "simulation": "-",
    "infinite-width": (0, (5, 1.6)),
    "finite-width": "-",
    "finite-width-linear": (0, (3, 1.2, 1, 1.2)),
    "small-angle": (0, (1, 1)),
    "expansion": (0, (7, 1.2, 1, 1.2, 1, 1.2)),
    "exact": "-",
}

LIGHT = Theme(
    background="white",
    ink="#1f2328",
    muted="#59636e",
    rule="#e4e7eb",
    methods={
        "simulation": "#6e7781",
        "infinite-width": "#d55e00",
        "finite-width": "#0072b2",
        "finite-width-linear": "#00805e",
        "small-angle": "#b0458b",
        "expansion": "#8a6100",
        "exact": "#24292f",
    },
)
DARK = Theme(
    background="none",
    ink="#e6edf3",
    muted="#9aa5b1",
    rule="#333b45",
    methods={
        "simulation": "#9aa5b1",
        "infinite-width": "#ff9a4d",
        "finite-width": "#5ab4e6",
        "finite-width-linear": "#3fcfa0",
        "small-angle": "#ec8ecb",
        "expansion": "#e3b341",
        "exact": "#f0f3f6",
    },
)


def render(
    draw: Callable[[Figure, Theme], None],
    *,
    size: tuple[float, float],
    theme: Theme = LIGHT,
    file_format: str = "svg",
    dpi: float = 150.0,
) -> bytes:
    """Draw a figure and return it as a file's content.

    Parameters
    ----------
    draw
        Called with an empty figure and the theme; it adds the axes and their content.
    size
        Width and height in inches.
    theme
        :data:`LIGHT` by default.
    file_format
        ``"svg"`` (default, text as outlines, so that it looks alike everywhere) or ``"png"``.
    dpi
        Pixels per inch of a PNG, 150 by default.

    Returns
    -------
    bytes
        The same for the same drawing and the same version of matplotlib: no date, no random identifiers.

    Raises
    ------
    ValueError
        If the format is unknown.

    Examples
    --------
    >>> content = render(lambda figure, theme: None, size=(2, 1), file_format="png")
    >>> content[1:4]
    b'PNG'
    """
    return render_formats(draw, (file_format,), size=size, theme=theme, dpi=dpi)[0]


def render_formats(
    draw: Callable[[Figure, Theme], None],
    file_formats: Sequence[str],
    *,
    size: tuple[float, float],
    theme: Theme = LIGHT,
    dpi: float = 150.0,
) -> list[bytes]:
    """Draw a figure once and return the contents of files in several formats, each as :func:`render` does."""
    for file_format in file_formats:
        check_choice("file_format", file_format, FORMATS)
    from matplotlib import rc_context, rcdefaults, rcParams
    from matplotlib.figure import Figure

    contents = []
    with rc_context():
        # From the defaults rather than the settings of whoever runs it, so that a report looks the same everywhere.
        rcdefaults()
        rcParams.update(_parameters(theme))
        figure = Figure(figsize=size, layout="constrained")
        draw(figure, theme)
        _fix_layout(figure)
        for file_format in file_formats:
            buffer = io.BytesIO()
            # Without these, SVG files carry the date and PNG files the version of matplotlib.
            metadata = {"Date": None, "Creator": None} if file_format == "svg" else {"Software": None}
            figure.savefig(buffer, format=file_format, dpi=dpi, metadata=metadata)
            contents.append(buffer.getvalue())
    return contents


def _fix_layout(figure: Figure) -> None:
    """Lay the figure out once, without the last bits of positions, which the solver of the layout does not repeat."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    nested = list(figure.subfigs)
    while nested:
        part = nested.pop()
        nested += part.subfigs
        part.bbox_relative.set_points(part.bbox_relative.get_points().round(_DECIMALS))
    for axes in figure.axes:
        place = axes.get_position(original=True)
        place.set_points(place.get_points().round(_DECIMALS))
        axes.set_position(place, which="original")


def _parameters(theme: Theme) -> Any:
    return {
        "axes.axisbelow": True,
        "axes.edgecolor": theme.muted,
        "axes.facecolor": "none",
        "axes.grid": True,
        "axes.labelcolor": theme.ink,
        "axes.labelsize": 9.5,
        "axes.linewidth": 0.7,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlecolor": theme.ink,
        "axes.titlelocation": "left",
        "axes.titlepad": 8.0,
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "figure.facecolor": theme.background,
        "font.family": "DejaVu Sans",
        "font.size": 9.0,
        "grid.color": theme.rule,
        "grid.linewidth": 0.7,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
        "legend.handlelength": 2.4,
        "legend.labelcolor": theme.ink,
        "mathtext.fontset": "dejavusans",
        "savefig.facecolor": theme.background,
        "svg.hashsalt": "wideangle",
        "text.color": theme.ink,
        "xtick.color": theme.muted,
        "xtick.labelcolor": theme.ink,
        "xtick.labelsize": 8.5,
        "ytick.color": theme.muted,
        "ytick.labelcolor": theme.ink,
        "ytick.labelsize": 8.5,
    }


def label_line_ends(axes: Axes, labels: Sequence[tuple[float, str, str]], *, x: float, spacing: float = 0.062) -> None:
    """Write labels beside the right ends of lines, pushed apart where they would overlap.

    Parameters
    ----------
    axes
        Axes whose vertical limits are final.
    labels
        Height of the line's end in data units, text and colour of each.
    x
        Horizontal position in data units at which the labels start.
    spacing
        Least distance between labels as a fraction of the height of the axes.
    """
    low, high = axes.get_ylim()
    order = sorted(range(len(labels)), key=lambda i: labels[i][0])
    heights = spread([(labels[i][0] - low) / (high - low) for i in order], spacing)
    for i, height in zip(order, heights, strict=True):
        _, text, colour = labels[i]
        y = low + height * (high - low)
        axes.text(x, y, text, color=colour, va="center", ha="left", fontsize=8.5, clip_on=False)


def spread(positions: Sequence[float], spacing: float) -> list[float]:
    """Move ascending positions as little as needed to lie at least ``spacing`` apart.

    Overlapping neighbours form a group that is laid out around its own mean, which minimises the sum of the squared
    displacements (the pool-adjacent-violators algorithm for isotonic regression).

    Examples
    --------
    >>> spread([0.0, 0.5, 0.5], 0.2)
    [0.0, 0.4, 0.6]
    """
    groups: list[tuple[float, int]] = []  # Mean of the positions minus their ranks times the spacing, and the size.
    for rank, position in enumerate(positions):
        group = (position - rank * spacing, 1)
        while groups and groups[-1][0] > group[0]:
            mean, size = groups.pop()
            total = size + group[1]
            group = ((mean * size + group[0] * group[1]) / total, total)
        groups.append(group)
    means = [mean for mean, size in groups for _ in range(size)]
    return [round(mean + rank * spacing, 12) for rank, mean in enumerate(means)]
