"""The structure of the package: nothing imports upward, torch has one home, and the import stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import wideangle

PACKAGE = Path(wideangle.__file__).parent

# From the ground to the top, by the first component after ``wideangle``. A new part needs a place here.
FLOORS = (
    ("_version", "_checks", "_core", "_cpu", "_files", "_progress"),
    ("activations", "network", "scalings", "_provenance", "losses", "data", "integrators", "statistics", "reports"),
    ("reference",),
    ("propagation", "parametrization", "dynamics", "representation", "response"),
    ("studies",),
    ("papers",),
    ("cli",),
    ("__main__",),
)
FLOOR = {part: height for height, parts in enumerate(FLOORS) for part in parts}
ROOMS = FLOORS[3]


def imported_modules(source: str, package: str) -> Iterator[str]:
    """Yield the absolute names of all modules that a source imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # ``from wideangle import data`` imports wideangle.data: names count as if they were modules.
            yield from (f"{module}.{alias.name}" for alias in node.names)


def violations(source: str, module: str, package: str) -> list[str]:
    part = module.split(".")[1]
    assert part in FLOOR, f"wideangle.{part} has no floor: give it one in {Path(__file__).name}"
    found = []
    for name in imported_modules(source, package):
        top, *rest = name.split(".")
        if top == "torch" and part != "reference":
            found.append(f"{module} imports torch: only wideangle.reference may")
        if top != "wideangle" or not rest or rest[0] not in FLOOR or rest[0] == part:
            continue
        if FLOOR[rest[0]] > FLOOR[part]:
            found.append(f"{module} imports upward: {name}")
        elif part in ROOMS and rest[0] in ROOMS and rest[0] != "propagation":
            found.append(f"{module} imports another room: {name}")
    return found


def sources() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_imports_upward(path: Path) -> None:
    names = ["wideangle", *path.relative_to(PACKAGE).with_suffix("").parts]
    package = ".".join(names[:-1])
    module = package if names[-1] == "__init__" else ".".join(names)
    assert violations(path.read_text(encoding="utf-8"), module, package) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("wideangle.statistics.moments", "def f():\n    from wideangle.propagation import predict_angles"),
        ("wideangle.statistics.moments", "from ..papers import propagation"),
        ("wideangle.data", "from wideangle import reference"),
        ("wideangle.reference.training", "import wideangle.propagation.simulation as s"),
        ("wideangle.dynamics.modes", "from wideangle.response import age"),
        ("wideangle.propagation.training", "import torch.nn"),
        ("wideangle.network", "if True:\n    from . import cli"),
    ],
)
def test_a_wrong_import_is_found(module: str, source: str) -> None:
    assert len(violations(source, module, module.rpartition(".")[0])) == 1


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("wideangle", ()),
        ("wideangle.propagation", ()),
        ("wideangle.cli", ("click",)),
    ],
)
def test_imports_stay_light(module: str, allowed: tuple[str, ...]) -> None:
    heavy = ("torch", "numba", "matplotlib", "xarray", "scipy", "dask", "sklearn", "click", "tqdm", "pandas")
    code = f"import sys, {module}; print(*(name for name in {heavy!r} if name in sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert set(run.stdout.split()) <= set(allowed)
