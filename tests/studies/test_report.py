"""The page of a study: self-contained, true to the results, and enough to repeat them."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

import wideangle as wa
from wideangle.reports import LIGHT
from wideangle.studies._citations import PAPERS
from wideangle.studies._reading import read_toml
from wideangle.studies._report_data import Results, chosen, with_error
from wideangle.studies._report_figures import figure_of
from wideangle.studies._toml_text import toml_text
from wideangle.studies.methods import METHODS


class Page(HTMLParser):
    """What a page refers to, its tables, and whether its tags match."""

    void = ("meta", "img", "source", "link", "br")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text = path.read_text(encoding="utf-8")
        self.references: list[str] = []
        self.headings: list[str] = []
        self.rows: list[list[str]] = []
        self._open: list[str] = []
        self.feed(self.text)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "iframe", "object")
        self.references += [value or "" for name, value in attrs if name in ("src", "srcset", "href", "data")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
        if tag not in self.void:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        if self._open and self._open[-1] == "h2":
            self.headings.append(data)

    @property
    def code(self) -> list[str]:
        return [unescape(text) for text in re.findall(r"<pre[^>]*>(.*?)</pre>", self.text, re.DOTALL)]


STUDY = wa.studies.Study(
    "simulate_angles",
    samples=2000,
    seed=7,
    name="angles & <widths>",
    block_size=1000,
    parameters={"theta0": 0.3},
    grid={"width": [8, 64], "depth": [2, 4]},
    statistics={"quantiles": [0.1, 0.5, 0.9], "histograms": {"log_sin2": [-12.0, 0.0, 30]}},
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "angles.zarr"
    wa.studies.run(STUDY, path, progress=False)
    return path


@pytest.fixture(scope="module")
def page(store: Path) -> Page:
    written = wa.studies.write_report(store)
    assert written == store.with_name("angles-report.html")
    return Page(written)


def test_nothing_outside_the_page_is_needed(page: Page) -> None:
    assert len(page.references) == 4  # two variables, light and dark
    for reference in page.references:
        head, _, content = reference.partition(",")
        assert head == "data:image/svg+xml;base64"
        assert ElementTree.fromstring(base64.b64decode(content)).tag.endswith("svg")
    assert "url(" not in page.text
    assert "@import" not in page.text
    assert "http" not in page.text


def test_the_table_has_the_results(page: Page, store: Path) -> None:
    results = wa.studies.load(store)
    header = page.rows[0]
    assert header[:4] == ["cell", "width", "depth", "samples"]
    column = header.index("log_sin2 (mean)")
    for cell, row in enumerate(page.rows[1:5]):
        depth = int(results["depth"][cell])
        mean, error = (float(results[f"log_sin2_{end}"][cell, depth]) for end in ("mean", "mean_standard_error"))
        assert row[:4] == [str(cell), str(int(results["width"][cell])), str(depth), "2000"]
        assert row[column] == with_error(mean, error)
        assert int(row[header.index("survivors")]) == int(results["survivors"][cell, depth])
        shown, spread = map(float, row[column].split(" ± "))
        assert abs(shown - mean) <= 0.05 * error
        assert abs(spread - error) <= 0.05 * error


def test_the_page_says_what_is_needed_to_repeat_it(page: Page, store: Path, tmp_path: Path) -> None:
    toml, command, cite = page.code
    (tmp_path / "study.toml").write_text(toml, encoding="utf-8")
    assert wa.studies.Study.from_toml(tmp_path / "study.toml") == STUDY
    assert command == "wideangle study run study.toml"
    assert "eprint = {2302.09712}" in cite
    assert "@software{wideangle," in cite
    assert cite.count("{") == cite.count("}")
    assert STUDY.identity in page.text
    assert str(store) in page.text
    assert "all files agree with their SHA-256 checksums" in page.text
    assert "angles &amp; &lt;widths&gt;" in page.text
    assert "<widths>" not in page.text
    sections = ["What was studied", "How far it is", "log_norm2", "log_sin2", "Cells"]
    assert page.headings[:5] == sections


def test_an_unfinished_study_says_so(tmp_path: Path, own_module: Callable[[str, str], str]) -> None:
    own_module(
        "dice",
        "import numpy as np\n\n\ndef throw(*, sides, first_sample, n_samples, seed):\n"
        "    if sides == 13:\n        raise ArithmeticError('no <such> die')\n"
        "    return {'points': 1.0 + (first_sample + np.arange(n_samples)) % sides}\n",
    )
    cells = [{"sides": sides} for sides in (6, 13, *range(100, 310))]
    described = wa.studies.Study("dice:throw", samples=12, seed=0, cells=cells, block_size=12)
    with pytest.warns(wa.studies.StudyWarning):
        wa.studies.run(described, tmp_path / "s.zarr", progress=False)
    page = Page(wa.studies.write_report(tmp_path / "s.zarr", tmp_path / "page.html"))
    assert "The study is not complete (failed" in page.text
    assert "no &lt;such&gt; die" in page.text
    table = page.rows[[row[0] for row in page.rows].index("cell", 3) :]
    assert table[0] == ["cell", "sides", "samples", "state", "points (mean)"]
    assert table[1] == ["0", "6", "12", "complete", "3.50 ± 0.51"]
    assert table[2] == ["1", "13", "0", "failed", "-"]
    assert len(table) == 201
    assert "The first 200 of 212 cells" in page.text
    assert 'Study.from_dict(json.loads(attributes["study"]))' in page.code[0]


def test_a_study_of_which_nothing_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: object, **keywords: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wideangle.studies._scheduling.Schedule.go", stop)
    with pytest.raises(KeyboardInterrupt):
        wa.studies.run(STUDY, tmp_path / "s.zarr", progress=False)
    assert wa.studies.status(tmp_path / "s.zarr").state == "not begun"
    page = Page(wa.studies.write_report(tmp_path / "s.zarr"))
    assert "these are the results so far" in page.text
    assert not page.references


def test_it_is_not_written_where_it_cannot_be(store: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="must be a file that can be written"):
        wa.studies.write_report(store, tmp_path)
    with pytest.raises(OSError, match="must be a file that can be written"):
        wa.studies.write_report(store, tmp_path / "none" / "page.html")


@pytest.mark.parametrize(
    ("statistics", "columns", "caption"),
    [
        (
            {"moments": False, "quantiles": [0.5]},
            ["collapsed", "dead", "log_norm2 (quantile 0.5)", "log_sin2 (quantile 0.5)", "survivors"],
            "Quantiles over",
        ),
        (
            {"moments": False, "quantiles": [0.1, 0.2, 0.5, 0.8, 0.9], "variables": ["log_sin2"]},
            [f"log_sin2 (quantile {probability})" for probability in (0.1, 0.5, 0.9)],
            "Quantiles over",
        ),
        ({"moments": False, "samples": True, "variables": ["log_sin2"]}, [], "Cells."),
        ({"moments": False, "samples": True}, ["collapsed", "dead", "survivors"], "Cells, with counts where"),
        ({"variables": ["dead"]}, ["dead"], "Cells, with counts where"),
        ({"quantiles": [0.5], "variables": ["log_sin2"]}, ["log_sin2 (mean)"], "Means ± standard errors over"),
    ],
    ids=str,
)
def test_a_study_without_means(statistics: dict[str, object], columns: list[str], caption: str, tmp_path: Path) -> None:
    study = wa.studies.Study(
        "simulate_angles",
        samples=200,
        seed=1,
        parameters={"theta0": 0.3, "depth": 2},
        grid={"width": [8, 16]},
        statistics=statistics,
    )
    results = wa.studies.run(study, tmp_path / "s.zarr", progress=False)
    page = Page(wa.studies.write_report(tmp_path / "s.zarr"))
    header = next(row for row in page.rows if row[:1] == ["cell"])
    assert header[:3] == ["cell", "width", "samples"]
    assert sorted(header[3:]) == columns
    table = page.rows[page.rows.index(header) + 1 :][:2]
    for number, row in enumerate(table):
        for name, text in zip(header[3:], row[3:], strict=True):
            if "quantile" in name:
                probability = float(name.split()[-1].rstrip(")"))
                expected = results[f"{name.split()[0]}_quantile"].sel(probability=probability)[number, -1]
                assert text == f"{float(expected):.6g}"
    assert caption in page.text
    assert ("Means" in page.text) == (caption == "Means ± standard errors over")
    assert "see the table" not in page.text
    assert ("Every sample is kept in the store, and not shown here, of" in page.text) == ("samples" in statistics)


def test_lines_join_cells_that_differ_in_one_parameter(store: Path) -> None:
    results = Results(wa.studies.load(store))
    assert results.axes == ["width", "depth"]
    assert results.groups("width") == [[0, 2], [1, 3]]
    assert results.groups("depth") == [[0, 1], [2, 3]]
    assert results.label(3) == "width 64, depth 4"
    assert results.label(3, without=("depth",)) == "width 64"
    np.testing.assert_array_equal(results.ends(("layer",)), [2, 4, 2, 4])


def test_variables_of_several_dimensions_and_times_of_their_own(
    tmp_path: Path, own_module: Callable[[str, str], str]
) -> None:
    own_module(
        "waves",
        "import numpy as np\nimport xarray as xr\n\n\ndef wave(*, step, first_sample, n_samples, seed):\n"
        "    values = np.ones((n_samples, 4, 3)) * np.arange(4)[:, None]\n"
        "    return xr.Dataset({'height': (('sample', 'place', 'time'), values)}, {'time': step * np.arange(3.0)})\n",
    )
    described = wa.studies.Study("waves:wave", samples=4, seed=0, grid={"step": [1.0, 2.0]}, block_size=4)
    wa.studies.run(described, tmp_path / "s.zarr", progress=False)
    results = Results(wa.studies.load(tmp_path / "s.zarr"))
    figure = figure_of(results, "height")
    assert figure is not None
    assert figure.caption.startswith(
        "Mean of height by time, at the last place; shades: ± 2 standard errors; against step"
    )
    canvas = Figure()
    figure.draw(canvas, LIGHT)
    along, against = canvas.axes
    np.testing.assert_array_equal([line.get_xdata() for line in along.lines], [[0.0, 1.0, 2.0], [0.0, 2.0, 4.0]])
    np.testing.assert_array_equal([line.get_ydata() for line in along.lines], np.full((2, 3), 3.0))
    np.testing.assert_array_equal(against.lines[0].get_xdata(), [1.0, 2.0])
    legend = along.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["step 1", "step 2"]


def test_numbers_and_their_errors() -> None:
    assert with_error(math.nan, math.nan) == "-"
    assert with_error(2.0, 0.0) == "2"
    assert with_error(2.0, math.nan) == "2"
    assert with_error(0.000123456, 0.0000012) == "0.0001235 ± 0.0000012"
    assert with_error(1.23456e-14, 1.2e-16) == "1.23456e-14 ± 1.2e-16"
    assert with_error(123456.0, 1200.0) == "123456 ± 1.2e+03"
    assert chosen(3, 7) == [0, 1, 2]
    assert chosen(0, 7) == []


def test_every_method_of_the_package_has_a_paper() -> None:
    assert set(METHODS) <= set(PAPERS)


values = st.recursive(
    st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(table=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), values, max_size=4))
def test_toml_reads_back(table: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.getbasetemp() / "table.toml"
    table.pop("cells", None)
    wanted = {"parameters": table, "cells": [table, {"a b": 1}], "seed": 3}
    file.write_text(toml_text(wanted), encoding="utf-8", newline="\n")
    found = read_toml(file)
    assert found == ({} if table else {"cells": wanted["cells"], "seed": 3}) | (wanted if table else {})
    assert json.dumps(found.get("parameters", {})) == json.dumps(table)


def test_toml_has_no_null() -> None:
    with pytest.raises(ValueError, match="None"):
        toml_text({"parameters": {"a": None}})
