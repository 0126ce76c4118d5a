"""Runs that are killed at each thing that they do to their files, and go on to the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Contents = Callable[[Path], dict[str, bytes]]


@pytest.fixture(scope="module")
def small(module: str, children: Any, contents: Contents, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small study with samples, the events of a run of it, and what its store then holds."""
    table = {
        "method": f"{module}:walk",
        "samples": 450,
        "seed": 5,
        "block_size": 100,
        "grid": {"scale": [0.5, 1.0]},
        "statistics": {"quantiles": [0.5], "relative_error": 0.01, "samples": True},
    }
    store = tmp_path_factory.mktemp("small") / "store.zarr"
    answer = children.run(table, store, threads=1)
    assert not answer["error"]
    return table, answer["events"], contents(store)


def assert_kills_do_no_harm(small: Any, children: Any, contents: Contents, folder: Path, points: list[int]) -> None:
    table, _, expected = small
    for point in points:
        store = folder / f"{point}.zarr"
        killed = children.run(table, store, threads=1, action="kill", at=point)
        assert killed["status"] == -9, (point, killed)
        # And again soon after it goes on, where results are written or taken away.
        children.run(table, store, threads=1, action="kill", at=60)
        resumed = children.run(table, store, threads=1)
        assert not resumed["error"], (point, resumed["error"])
        assert contents(store) == expected, point


def test_killed_while_it_finishes(small: Any, children: Any, contents: Contents, tmp_path: Path) -> None:
    _, n_events, _ = small
    assert n_events > 100
    assert_kills_do_no_harm(small, children, contents, tmp_path, list(range(n_events - 5, n_events + 1)))


def test_killed_on_the_way(small: Any, children: Any, contents: Contents, tmp_path: Path) -> None:
    _, n_events, _ = small
    assert_kills_do_no_harm(small, children, contents, tmp_path, list(range(1, n_events - 5, n_events // 6)))


@pytest.mark.slow
def test_killed_everywhere(small: Any, children: Any, contents: Contents, tmp_path: Path) -> None:
    _, n_events, _ = small
    assert_kills_do_no_harm(small, children, contents, tmp_path, list(range(2, n_events + 1, n_events // 40)))
