"""Files of a reproduction: figures, numbers and the page that shows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from wideangle._files import write_groups
from wideangle._version import __version__
from wideangle.reports import DARK, Theme, claims_dataset, html, render
from wideangle.reports.figures import render_formats

if TYPE_CHECKING:
    import xarray as xr

    from wideangle.papers._frame import Job
    from wideangle.reports import Claim

DPI = 125.0  # Of the PNG files.
Measurements = TypeVar("Measurements")


@dataclass(frozen=True)
class Figure(Generic[Measurements]):
    """A drawing and the files NAME.svg and NAME.png that it goes to.

    Parameters
    ----------
    name
        Of the files.
    draw
        Called with the measurements, an empty figure and the theme.
    size
        Width and height in inches.
    """

    name: str
    draw: Callable[[Measurements, Any, Theme], None]
    size: tuple[float, float]

    def render(self, measurements: Measurements, **options: Any) -> bytes:
        """Return the contents of a file; the options are those of :func:`wideangle.reports.render`."""
        return render(partial(self.draw, measurements), size=self.size, **options)

    def render_files(self, measurements: Measurements) -> list[bytes]:
        """Return the contents of both files, drawn once."""
        return render_formats(partial(self.draw, measurements), ("svg", "png"), size=self.size, dpi=DPI)


@dataclass(frozen=True)
class Panel(Generic[Measurements]):
    """A section of the page with one figure.

    Parameters
    ----------
    heading
        Of the section.
    figure
        What it shows.
    alt
        What a reader who cannot see the figure needs to know of it.
    caption
        What stands below it.
    table
        HTML below the caption, if any.
    """

    heading: str
    figure: Figure[Measurements]
    alt: str
    caption: str
    table: str = ""


@dataclass(frozen=True)
class Page(Generic[Measurements]):
    """What a reproduction writes.

    Parameters
    ----------
    title, lead
        Heading and first paragraph of the page.
    verdicts
        Caption of the table of claims, see :func:`explain_verdicts`.
    panels
        Sections between the claims and the provenance.
    overview
        All panels in one figure; its name is also that of the NetCDF file.
    numbers
        The Datasets to write, by the name of their group in that file.
    provenance
        What is needed, beside version and seed, to compute the same again; nothing of it may name the machine.
    source
        The papers.
    """

    title: str
    lead: str
    verdicts: str
    panels: Sequence[Panel[Measurements]]
    overview: Figure[Measurements]
    numbers: Mapping[str, xr.Dataset]
    provenance: Mapping[str, Any]
    source: str


def explain_verdicts(remarks: str, *, brackets: str = "five standard errors") -> str:
    """Return the caption of the table of claims: what a verdict means, what brackets hold, and remarks."""
    return (
        f"A claim agrees if the range that the statistical error leaves (in brackets: {brackets}) lies inside what"
        f" is allowed, disagrees if it lies outside, and is not resolved otherwise. {remarks}"
    )


def write(page: Page[Measurements], job: Job, measurements: Measurements, claims: Sequence[Claim]) -> Path:
    """Write everything to ``job.out`` and return the path of report.html."""
    pictures = {}
    for figure in (*(panel.figure for panel in page.panels), page.overview):
        pictures[figure.name], image = figure.render_files(measurements)
        (job.out / f"{figure.name}.svg").write_bytes(pictures[figure.name])
        (job.out / f"{figure.name}.png").write_bytes(image)
    write_groups(job.out / f"{page.overview.name}.nc", {**page.numbers, "claims": claims_dataset(claims)})
    report = job.out / "report.html"
    report.write_text(compose(page, job, measurements, claims, pictures), encoding="utf-8")
    return report


def compose(
    page: Page[Measurements],
    job: Job,
    measurements: Measurements,
    claims: Sequence[Claim],
    pictures: Mapping[str, bytes],
) -> str:
    """Return the HTML document, given the SVG files of the figures for a light page."""
    sections = [html.section("Claims and verdicts", html.claims(claims, caption=page.verdicts))]
    for panel in page.panels:
        dark = panel.figure.render(measurements, theme=DARK)
        picture = html.figure(pictures[panel.figure.name], dark, alt=panel.alt, caption=panel.caption)
        sections.append(html.section(panel.heading, picture, panel.table))
    provenance = {"wideangle": __version__, "Seed": job.seed, **page.provenance, "Sources": page.source}
    sections.append(html.section("Provenance", html.definitions(provenance)))
    return html.page(page.title, page.lead, sections)
