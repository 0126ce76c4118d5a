"""The tree of merges of a cell: nodes of blocks, and those that are missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Node(NamedTuple):
    """A node of the tree of merges of a cell: blocks ``place * 2**level`` to ``(place + 1) * 2**level - 1``."""

    level: int
    place: int

    @property
    def first(self) -> int:
        """The first block."""
        return self.place << self.level

    @property
    def parent(self) -> Node:
        """The node that this one and its sibling merge into."""
        return Node(self.level + 1, self.place >> 1)

    @property
    def sibling(self) -> Node:
        """The other node with the same parent."""
        return Node(self.level, self.place ^ 1)

    def end(self, n_blocks: int) -> int:
        """Return the block after the last one, of a cell with so many."""
        return min((self.place + 1) << self.level, n_blocks)


def missing_nodes(done: Iterable[Node], n_blocks: int, end: int) -> list[Node]:
    """Return the largest nodes that have nothing done in them, and together hold what is not done before block ``end``.

    Those done are nodes none of which contains another.
    """
    finished = set(done)
    begun = set()
    for node in finished:
        ancestor = node
        while ancestor.end(n_blocks) - ancestor.first < n_blocks:
            ancestor = ancestor.parent
            begun.add(ancestor)
    result: list[Node] = []

    def visit(node: Node) -> None:
        if node in finished or node.first >= min(end, n_blocks):
            return
        if node not in begun and node.end(n_blocks) <= end:
            result.append(node)
            return
        child = Node(node.level - 1, 2 * node.place)
        visit(child)
        visit(child.sibling)

    visit(root(n_blocks))
    return result


def root(n_blocks: int) -> Node:
    """Return the node of all blocks."""
    return Node((n_blocks - 1).bit_length(), 0)


def divided(node: Node, level: int, n_blocks: int) -> Iterator[Node]:
    """Yield the nodes of at most that level that a node consists of, one by one as there may be very many."""
    shift = max(node.level - level, 0)
    for place in range(node.place << shift, (node.place + 1) << shift):
        part = Node(node.level - shift, place)
        if part.first >= n_blocks:
            return
        yield part
