"""One self-contained HTML page: figures inside, no script, no request to anywhere, light and dark."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from string import Template
from typing import Any

from wideangle.reports.claims import AGREES, DISAGREES, NOT_RESOLVED, Claim

_SYMBOLS = {AGREES: "\N{CHECK MARK}", DISAGREES: "\N{MULTIPLICATION SIGN}", NOT_RESOLVED: "?"}

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
:root {
  color-scheme: light dark;
  --page: #ffffff; --ink: #1f2328; --muted: #59636e; --rule: #d8dde3; --shade: #f5f7f9;
  --yes: #0a6b4b; --no: #b03a00; --open: #6b5200;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12161b; --ink: #e6edf3; --muted: #9aa5b1; --rule: #333b45; --shade: #1a2027;
    --yes: #3fcfa0; --no: #ff9a4d; --open: #e3c04f;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 62rem; background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif;
}
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .5rem; text-wrap: balance; }
h2 { font-size: 1.2rem; margin: 2.75rem 0 .75rem; }
p { max-width: 46rem; }
.lead { font-size: 1.08rem; color: var(--muted); }
figure { margin: 1rem 0 0; }
figure img { display: block; width: 100%; height: auto; }
figcaption, caption { color: var(--muted); font-size: .92rem; text-align: left; max-width: 46rem; }
figcaption { margin-top: .5rem; }
caption { padding-bottom: .6rem; }
pre {
  overflow-x: auto; background: var(--shade); border: 1px solid var(--rule); border-radius: .3rem; padding: .8rem 1rem;
  font: .88rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
}
.scroll { overflow-x: auto; margin-top: 1rem; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .5rem .7rem; border-bottom: 1px solid var(--rule); text-align: left; vertical-align: top; }
th { font-weight: 600; }
thead th { color: var(--muted); border-bottom-width: 2px; white-space: nowrap; }
.numbers th, .numbers td { text-align: right; white-space: nowrap; padding: .3rem .7rem; }
.numbers th:first-child, .numbers td:first-child { text-align: left; }
.numbers thead th { white-space: normal; vertical-align: bottom; }
.verdict { font-weight: 600; white-space: nowrap; }
.verdict span { display: inline-block; width: 1.3em; }
.yes { color: var(--yes); } .no { color: var(--no); } .open { color: var(--open); }
summary { cursor: pointer; color: var(--muted); padding: .4rem 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.5rem; font-size: .92rem; }
dt { color: var(--muted); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  dl { grid-template-columns: 1fr; } dd { margin-bottom: .5rem; }
  .claims thead { display: none; } .claims tr, .claims td { display: block; }
  .claims tr { border-bottom: 1px solid var(--rule); padding: .6rem 0; } .claims td { border: 0; padding: .1rem 0; }
  .claims td[data-name]::before { content: attr(data-name) ": "; color: var(--muted); }
}
@media print { body { max-width: none; padding: 0; } figure, tr { break-inside: avoid; } }
</style>
</head>
<body>
<main>
<h1>$title</h1>
<p class="lead">$lead</p>
$body
</main>
</body>
</html>
""")


def page(title: str, lead: str, blocks: Sequence[str]) -> str:
    """Return a complete HTML document.

    Parameters
    ----------
    title, lead
        Heading and first paragraph, plain text.
    blocks
        HTML from the other functions of this module, in order.
    """
    return _PAGE.substitute(title=escape(title), lead=escape(lead), body="\n".join(blocks))


def section(heading: str, *blocks: str) -> str:
    """Return a section with a heading, plain text, around HTML blocks."""
    return f"<section>\n<h2>{escape(heading)}</h2>\n" + "\n".join(blocks) + "\n</section>"


def paragraph(text: str) -> str:
    """Return plain text as a paragraph."""
    return f"<p>{escape(text)}</p>"


def figure(light: bytes, dark: bytes, *, alt: str, caption: str) -> str:
    """Return a figure whose SVG images for light and dark pages are both inside it.

    Parameters
    ----------
    light, dark
        Contents of two SVG files of the same drawing.
    alt
        What a reader who cannot see the figure needs to know of it.
    caption
        What stands below it.
    """
    sources = [f"data:image/svg+xml;base64,{base64.b64encode(image).decode('ascii')}" for image in (light, dark)]
    return (
        "<figure>\n<picture>\n"
        f'<source media="(prefers-color-scheme: dark)" srcset="{sources[1]}">\n'
        f'<img src="{sources[0]}" alt="{escape(alt)}">\n'
        f"</picture>\n<figcaption>{escape(caption)}</figcaption>\n</figure>"
    )


def code(text: str) -> str:
    """Return plain text, such as a command or a file, as it is."""
    return f'<pre tabindex="0">{escape(text)}</pre>'


def claims(items: Sequence[Claim], *, caption: str) -> str:
    """Return a table of claims; the verdict has a symbol and a word, not a colour alone."""
    style = {AGREES: "yes", DISAGREES: "no", NOT_RESOLVED: "open"}
    rows = [
        f'<tr><td class="verdict {style[item.verdict]}"><span aria-hidden="true">{_SYMBOLS[item.verdict]}</span>'
        f"{item.verdict}</td><td>{escape(item.statement)}</td>"
        f'<td data-name="allowed">{escape(item.allowed_text)}</td>'
        f'<td data-name="measured">{escape(item.measured_text)}</td></tr>'
        for item in items
    ]
    return _table(("Verdict", "Claim", "Allowed", "Measured"), rows, caption=caption, kind="claims")


def numbers(header: Sequence[str], rows: Sequence[Sequence[Any]], *, caption: str, folded: str = "") -> str:
    """Return a table of numbers, already formatted; the first column names the rows.

    Parameters
    ----------
    header
        Names of the columns.
    rows
        Cells, as many in each row as there are columns.
    caption
        What the table holds.
    folded
        If not empty, the table is folded away behind this line.
    """
    body = []
    for first, *rest in rows:
        cells = "".join(f"<td>{escape(str(cell))}</td>" for cell in rest)
        body.append(f'<tr><th scope="row">{escape(str(first))}</th>{cells}</tr>')
    table = _table(header, body, caption=caption, kind="numbers")
    return f"<details>\n<summary>{escape(folded)}</summary>\n{table}\n</details>" if folded else table


def definitions(entries: Mapping[str, Any]) -> str:
    """Return names and values as a list, such as the provenance of a result."""
    items = "\n".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in entries.items())
    return f"<dl>\n{items}\n</dl>"


def _table(header: Sequence[str], rows: Sequence[str], *, caption: str, kind: str) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">\n<table class="{kind}">\n'
        f"<caption>{escape(caption)}</caption>\n"
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody>\n</table>\n</div>"
    )
