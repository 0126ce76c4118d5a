"""The tree of merges: any order of the work gives the same nodes, and nothing is left out or counted twice."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wideangle.statistics import Moments
from wideangle.studies._blocks import Reduced, Unit, UnitResult
from wideangle.studies._journal import Journal
from wideangle.studies._tree import Node, divided, missing_nodes, root


def blocks_of(node: Node, n_blocks: int) -> set[int]:
    return set(range(node.first, node.end(n_blocks)))


@st.composite
def partly_done(draw: st.DrawFn) -> tuple[int, list[Node]]:
    """Number of blocks, and nodes none of which contains another."""
    n_blocks = draw(st.integers(1, 70))
    chosen: list[Node] = []

    def visit(node: Node) -> Iterator[Node]:
        kind = draw(st.sampled_from(["done", "nothing", "deeper"]))
        if node.first >= n_blocks or kind == "nothing":
            return
        if kind == "done" or node.level == 0:
            yield node
            return
        child = Node(node.level - 1, 2 * node.place)
        yield from visit(child)
        yield from visit(child.sibling)

    chosen = list(visit(root(n_blocks)))
    return n_blocks, chosen


@settings(max_examples=150, deadline=None)
@given(partly_done(), st.integers(0, 7))
def test_missing_nodes_are_what_is_not_done(case: tuple[int, list[Node]], level: int) -> None:
    n_blocks, done = case
    finished = set().union(*(blocks_of(node, n_blocks) for node in done))
    for end in {n_blocks, *(2**k for k in range(7) if 2**k < n_blocks)}:
        missing = missing_nodes(done, n_blocks, end)
        blocks = [block for node in missing for block in blocks_of(node, n_blocks)]
        assert len(blocks) == len(set(blocks))
        assert set(blocks) == set(range(end)) - finished
        parts = [part for node in missing for part in divided(node, level, n_blocks)]
        assert sorted(block for part in parts for block in blocks_of(part, n_blocks)) == sorted(blocks)
        assert all(part.level <= level for part in parts)


@given(st.integers(1, 10**15))
def test_root_holds_all_blocks(n_blocks: int) -> None:
    assert root(n_blocks).first == 0
    assert root(n_blocks).end(n_blocks) == n_blocks
    if n_blocks > 1:
        smaller = Node(root(n_blocks).level - 1, 0)
        assert smaller.end(n_blocks) < n_blocks


def samples(block: int) -> NDArray[np.float64]:
    """Blocks of different lengths, whose moments merged the other way round have other last bits."""
    return np.random.default_rng(block).standard_normal((3 + block % 3, 8)) + 1e3


def numbers(block: int) -> Reduced:
    values = samples(block)
    return Reduced(
        len(values), {"x": ("place",)}, {"x": ((8,), "")}, {"x": {"moments": Moments.from_samples(values)}}, {}
    )


def computed(node: Node, n_blocks: int) -> Reduced:
    if node.level == 0:
        return numbers(node.place)
    child = Node(node.level - 1, 2 * node.place)
    left = computed(child, n_blocks)
    return left.merge(computed(child.sibling, n_blocks)) if child.sibling.first < n_blocks else left


@settings(max_examples=25, deadline=None)
@given(st.data(), st.integers(1, 40))
def test_any_order_of_arrival_gives_the_same_bits(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, n_blocks: int
) -> None:
    """Also where some arrive twice."""
    path = tmp_path_factory.mktemp("journal") / "journal.sqlite"
    journal = Journal.create(path, {"identity": "that of a test"})
    level = data.draw(st.integers(0, 3))
    units = list(divided(root(n_blocks), level, n_blocks))
    twice = data.draw(st.lists(st.sampled_from(units), max_size=5))
    for node in data.draw(st.permutations(units + twice)):
        journal.commit([UnitResult(Unit(0, node), computed(node, n_blocks).to_bytes(), {})], {0: n_blocks})
    assert journal.done() == {0: [root(n_blocks)]}
    assert journal.samples_done() == {0: sum(len(samples(block)) for block in range(n_blocks))}
    assert journal.read(0, root(n_blocks)).to_bytes() == computed(root(n_blocks), n_blocks).to_bytes()
    assert journal.check() == []
    journal.close()


def test_merged_is_single_pass() -> None:
    n_blocks = 37
    merged = computed(root(n_blocks), n_blocks).accumulators["x"]["moments"]
    values = np.concatenate([samples(block) for block in range(n_blocks)])
    single = Moments.from_samples(values)
    assert isinstance(merged, Moments)
    np.testing.assert_array_equal(merged.count, single.count)
    # The variance of numbers about 1000 is known to 1e-16 * 1000**2 relative to 1 at best, in both.
    np.testing.assert_allclose(merged.mean, single.mean, rtol=1e-14)
    np.testing.assert_allclose(merged.variance, single.variance, rtol=1e-12)


def test_a_commit_is_whole_or_not_at_all(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path / "journal.sqlite", {"identity": "that of a test"})
    good = UnitResult(Unit(0, Node(0, 0)), numbers(0).to_bytes(), {})
    with pytest.raises(AttributeError):
        journal.commit([good, "no result"], {0: 4, 1: 4})  # type: ignore[list-item]
    assert journal.done() == {}
    journal.commit([good], {0: 4})
    assert journal.done() == {0: [Node(0, 0)]}
    journal.close()


def test_digests_are_checked(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path / "journal.sqlite", {"identity": "that of a test"})
    journal.commit([UnitResult(Unit(0, Node(0, 0)), numbers(0).to_bytes(), {})], {0: 4})
    with sqlite3.connect(tmp_path / "journal.sqlite") as database:
        database.execute("UPDATE nodes SET data = ?", (numbers(1).to_bytes(),))
    database.close()
    assert journal.check() == ["the results of cell 0, level 0, place 0 are not what was written"]
    with pytest.raises(RuntimeError, match="damaged"):
        journal.read(0, Node(0, 0))
    journal.close()
