"""The page is well formed, asks nobody for anything and hides nothing behind a colour."""

from __future__ import annotations

import base64
import math
import re
from html.parser import HTMLParser

from wideangle.reports import Claim, html

VOID = {"meta", "img", "source", "br"}


class Outline(HTMLParser):
    """Collects tags and attributes, and checks that every element is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def outline(document: str) -> Outline:
    parser = Outline()
    parser.feed(document)
    parser.close()
    assert parser.open == []
    return parser


def example_page() -> str:
    claims = [
        Claim("a <b> & c.", 0.2, (0.1, 0.3), (0.0, math.inf)),
        Claim("Not so.", 5.0, (5.0, 5.0), (0.0, 1.0)),
        Claim("Who knows.", 0.5, (0.0, 2.0), (0.0, 1.0)),
    ]
    return html.page(
        "A <title>",
        'A "lead".',
        [
            html.section("Claims", html.claims(claims, caption="What is claimed")),
            html.figure(b"<svg>light</svg>", b"<svg>dark</svg>", alt='A "line" & more', caption="A line."),
            html.numbers(("layer", "mean"), [(1, "-4.6"), (2, "-4.7")], caption="Means"),
            html.numbers(("layer", "mean"), [(1, "-4.6")], caption="Means again", folded="Show"),
            html.definitions({"seed": 3, "<name>": "<value>"}),
            html.paragraph("1 < 2"),
        ],
    )


def test_page_is_well_formed_and_escapes_what_it_is_given() -> None:
    parser = outline(example_page())
    for text in ("A <title>", 'A "lead".', "a <b> & c.", "<name>", "<value>", "1 < 2"):
        assert text in parser.text
    assert ("html", "lang", "en") in parser.attributes


def test_page_asks_nobody_for_anything() -> None:
    document = example_page()
    parser = outline(document)
    assert not [tag for tag, _, _ in parser.attributes if tag in ("script", "link", "iframe", "object")]
    links = [value for _, name, value in parser.attributes if name in ("src", "srcset", "href", "action", "data")]
    assert links
    assert all(link.startswith("data:image/svg+xml;base64,") for link in links)
    assert not re.search(r"https?:|url\(|@import", document)


def test_figure_has_both_themes_and_a_text_for_those_who_cannot_see_it() -> None:
    attributes = outline(example_page()).attributes
    images = {name: value for tag, name, value in attributes if tag == "img"}
    dark = {name: value for tag, name, value in attributes if tag == "source"}
    assert images["alt"] == 'A "line" & more'
    assert base64.b64decode(images["src"].partition(",")[2]) == b"<svg>light</svg>"
    assert base64.b64decode(dark["srcset"].partition(",")[2]) == b"<svg>dark</svg>"
    assert dark["media"] == "(prefers-color-scheme: dark)"


def test_verdicts_are_words() -> None:
    text = outline(example_page()).text
    for verdict in ("agrees", "disagrees", "not resolved"):
        assert verdict in text


def test_code_stays_as_it_is() -> None:
    text = 'a = "<b>"  # & more\n\n  [c]\n'
    parser = outline(html.page("title", "lead", [html.code(text)]))
    assert text in parser.text
    assert ("pre", "tabindex", "0") in parser.attributes
