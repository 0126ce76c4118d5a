"""The examples in docstrings run and print what they say, and every public function has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import wideangle

MODULES = ["wideangle", *(found.name for found in pkgutil.walk_packages(wideangle.__path__, "wideangle."))]
PUBLIC = [
    "wideangle",
    *(
        f"wideangle.{name}"
        for name in (
            "data",
            "dynamics",
            "integrators",
            "propagation",
            "reference",
            "reports",
            "representation",
            "response",
            "statistics",
            "studies",
        )
    ),
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    report: list[str] = []
    for test in doctest.DocTestFinder().find(module, name):
        runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_functions_have_an_example(name: str) -> None:
    module = importlib.import_module(name)
    finder = doctest.DocTestFinder(recurse=False)
    for public in module.__all__:
        function = getattr(module, public)
        if inspect.isroutine(function):
            examples = [example for test in finder.find(function, public, module=False) for example in test.examples]
            assert examples, f"{name}.{public} has no example"
