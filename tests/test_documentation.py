"""What README.md and the pages say holds: examples run, commands parse, links lead somewhere, versions agree."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

import wideangle as wa
from wideangle.cli import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = (
    'pip install -c constraints.txt ".[all]" && wideangle reproduce propagation',
    'pip install -c constraints.txt ".[all,test]" && pytest',
)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def headings(page: Path) -> set[str]:
    """The anchors that GitHub and MyST give to headings, and labels set by hand."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    labels = re.findall(r"^\((.*)\)=$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found} | set(labels)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_python_blocks_of_a_page_run_in_order(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    namespace: dict[str, object] = {}
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), namespace)
    capsys.readouterr()


def test_readme_example_prints_the_numbers_of_its_comment(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = blocks(ROOT / "README.md", "python")
    assert len(block.splitlines()) == 8
    exec(compile(block, "README.md", "exec"), {})
    stated = [float(number) for number in re.findall(r"-\d+\.\d+", block.rpartition("#")[2])]
    printed = [float(line) for line in capsys.readouterr().out.split()]
    assert printed == pytest.approx(stated, abs=0.005001)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_wideangle_commands_parse(page: Path) -> None:
    for block in blocks(page, "sh"):
        for line in block.splitlines():
            for command in line.split(" && "):
                words = shlex.split(command, comments=True)
                if words[:1] == ["wideangle"]:
                    parse(words[1:])


def parse(words: list[str]) -> None:
    """Parse the options of a subcommand without running it."""
    command: click.Command = cli
    while isinstance(command, click.Group):
        name, *words = words
        assert name in command.commands
        command = command.commands[name]
    with command.make_context(name, words):
        pass


def test_readme_gives_the_two_commands_in_this_order() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert tuple(line for line in lines if line.startswith("pip install")) == COMMANDS
    assert lines.index(COMMANDS[1]) < 25  # the first screen


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_resolve(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.is_relative_to(ROOT)
        assert linked.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in headings(linked), f"{page.name} links to {target}"


def test_versions_agree() -> None:
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    cited = re.search(r"^version: (\S+)", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] in (wa.__version__, "Unreleased")
    assert cited is not None
    assert cited[1] == wa.__version__


def test_constraints_pin_every_dependency_once_for_each_python() -> None:
    from packaging.requirements import Requirement

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    for version in ("3.10", "3.11", "3.12", "3.13"):
        environment = {"python_version": version}
        names = [pin.name for pin in pins if pin.marker is None or pin.marker.evaluate(environment)]
        assert len(names) == len(set(names))
    assert all([specifier.operator for specifier in pin.specifier] == ["=="] for pin in pins)
    assert [str(pin) for pin in pins if pin.name == "torch"] == ["torch==2.13.0"]
