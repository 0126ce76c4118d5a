"""The compiled flow of networks: what makes it be compiled anew, and where its memory lies."""

from __future__ import annotations

import ast
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")

from wideangle.dynamics import _flow, _flow_running
from wideangle.dynamics._network_arguments import Control

FOLDER = Path(_flow.__file__).parent


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("wideangle."):
            yield node.module or ""


def compiled_modules() -> set[str]:
    found, left = set(), ["_flow"]
    while left:
        name = left.pop()
        found.add(name)
        for module in imports(FOLDER / f"{name}.py"):
            package, _, last = module.rpartition(".")
            if package == "wideangle.integrators":
                continue
            assert package == "wideangle.dynamics", f"{module} is not in the digest"
            if last not in found:
                left.append(last)
    return found


@pytest.mark.parametrize("name", sorted(compiled_modules()))
def test_the_digest_covers_every_module_that_is_compiled(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(FOLDER, tmp_path / "dynamics")
    monkeypatch.setattr(_flow, "__file__", str(tmp_path / "dynamics" / "_flow.py"))
    before = _flow.digest()
    changed = tmp_path / "dynamics" / f"{name}.py"
    changed.write_text(changed.read_text() + "\n")
    assert _flow.digest() != before


def test_the_digest_is_in_the_key_of_the_cache() -> None:
    for driver in (_flow.follow, _flow.descend):
        assert _flow.digest() in [cell.cell_contents for cell in driver.py_func.__closure__]


def test_arrays_lie_apart() -> None:
    """Vectorised loops must not take another branch, with sums in another order, where arrays are close."""
    x, times = np.eye(3), np.array([0.0, 1.0])
    flow = _flow_running._make_flow(
        x, np.ones(3), np.ones(3) / 3, 4, times, "hinge", 1.0, 1.0, Control(1e-8, 1e-12, 100), False
    )
    work = _flow.make_work(flow, 12, 7)
    arrays = [array for array in (*flow, *work) if isinstance(array, np.ndarray)]
    assert len(arrays) > 40
    assert all(array.flags.c_contiguous and array.ndim == 1 for array in arrays)
    spans = sorted((array.ctypes.data, array.ctypes.data + array.nbytes) for array in arrays)
    assert all(later - end >= 512 for (_, end), (later, _) in itertools.pairwise(spans))
    np.testing.assert_array_equal(flow.x.reshape(3, 3), x.T)
