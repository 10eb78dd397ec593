"""What an evaluation keeps, so that it need not be computed again, within a bound."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from numpy.typing import NDArray

from larvik.array.expression import Constant, Expression, Operation, walk
from larvik.array.operators import OPERATORS
from larvik.array.operators.elementwise import Elementwise
from larvik.array.operators.structure import BroadcastTo
from larvik.array.regions import Region, cut, same, within


class Kept:
    """Blocks of nodes by region, at most `limit` bytes of them.

    Parameters
    ----------
    limit : int
        Bytes.
    repeated : set of Expression
        Nodes whose blocks are wanted again by other tiles.
    """

    def __init__(self, limit: int, repeated: set[Expression]) -> None:
        self._limit = limit
        self._repeated = repeated
        self._size = 0
        self._shared: dict[Expression, tuple[Region, NDArray[Any]]] = {}
        self._recent: OrderedDict[int, tuple[Expression, Region, NDArray[Any]]] = OrderedDict()
        self._by_node: dict[Expression, set[int]] = {}
        self._next = 0

    def has_room(self, size: int) -> bool:
        """Return whether a block of `size` bytes can be kept for this tile; older blocks make room."""
        held = sum(block.nbytes for _, block in self._shared.values())
        return held + size <= self._limit

    def keep_shared(self, node: Expression, region: Region, block: NDArray[Any]) -> None:
        """Keep a block until the tile ends."""
        self._shared[node] = (region, block)
        self._size += block.nbytes
        self._evict()

    def forget_shared(self) -> None:
        """Drop what was kept for the last tile."""
        self._size -= sum(block.nbytes for _, block in self._shared.values())
        self._shared.clear()

    def keep_repeated(self, node: Operation, region: Region, block: NDArray[Any]) -> None:
        """Keep a block that later tiles will ask for, the least recently used ones making room."""
        if node not in self._repeated or block.nbytes > self._limit // 2:
            return
        self._next += 1
        self._recent[self._next] = (node, region, block)
        self._by_node.setdefault(node, set()).add(self._next)
        self._size += block.nbytes
        self._evict()

    def _evict(self) -> None:
        while self._size > self._limit and self._recent:
            number, (node, _, block) = self._recent.popitem(last=False)
            self._by_node[node].discard(number)
            self._size -= block.nbytes

    def find(self, node: Expression, region: Region) -> NDArray[Any] | None:
        """Return the region of a node if all of it is kept."""
        if node in self._shared:
            stored, block = self._shared[node]
            keys = within(region, stored)
            if keys is not None:
                return cut(block, keys)
        for number in self._by_node.get(node, ()):
            _, stored, block = self._recent[number]
            if all(same(a, b) for a, b in zip(region, stored, strict=True)):
                self._recent.move_to_end(number)
                return block
        return None


def shared_nodes(results: Iterable[Expression]) -> set[Expression]:
    """Return the nodes that are used more than once, constants apart."""
    roots = {id(node): node for node in results}
    uses: dict[Expression, int] = dict.fromkeys(roots.values(), 1)
    for node in walk(roots.values()):
        for item in node.inputs:
            uses[item] = uses.get(item, 0) + 1
    return {node for node, count in uses.items() if count > 1 and not isinstance(node, Constant)}


def repeated_nodes(results: Iterable[Expression]) -> set[Expression]:
    """Return the operations whose elements are used many times each, because they are broadcast."""
    found: set[Expression] = set()
    for node in walk(results):
        if isinstance(node, Operation) and isinstance(OPERATORS[node.op], Elementwise | BroadcastTo):
            found |= {item for item in node.inputs if isinstance(item, Operation) and item.size < node.size}
    return found
