"""What an evaluation keeps, so that it need not be computed again, within a bound."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

from numpy.typing import NDArray

from larvik.array.expression import Constant, Expression, Operation, walk
from larvik.array.operators import OPERATORS
from larvik.array.operators.elementwise import Elementwise
from larvik.array.operators.structure import BroadcastTo
from larvik.array.regions import Region, cut, within

Block = NDArray[Any]
_Key = tuple[object, ...]


class Kept:
    """Blocks of the nodes that one tile uses several times, at most `limit` bytes of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._blocks: dict[Expression, tuple[Region, Block]] = {}

    def has_room(self, size: int) -> bool:
        """Return whether a block of `size` bytes can be kept."""
        return self._size + size <= self._limit

    def keep(self, node: Expression, region: Region, block: Block) -> None:
        """Keep a block until the tile ends."""
        self._blocks[node] = (region, block)
        self._size += block.nbytes

    def forget(self) -> None:
        """Drop what was kept for the last tile."""
        self._size = 0
        self._blocks.clear()

    def find(self, node: Expression, region: Region) -> Block | None:
        """Return the region of a node if all of it is kept."""
        if node not in self._blocks:
            return None
        stored, block = self._blocks[node]
        keys = within(region, stored)
        return None if keys is None else cut(block, keys)


class Repeated:
    """Blocks that other tiles will ask for again; the least recently used make room. Thread-safe.

    Parameters
    ----------
    limit : int
        Bytes that are kept.
    nodes : set of Expression
        Whose blocks are wanted again.
    """

    def __init__(self, limit: int, nodes: set[Expression]) -> None:
        self._limit = limit
        self._nodes = nodes
        self._size = 0
        self._blocks: OrderedDict[_Key, Block] = OrderedDict()
        self._computing: dict[_Key, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, node: Expression, region: Region, compute: Callable[[], Block]) -> Block:
        """Return a block, kept or computed; what another thread computes just now is waited for.

        Threads wait for inputs of what they compute alone, so that they cannot wait for each other.
        """
        if node not in self._nodes:
            return compute()
        key = (node, *(picks if isinstance(picks, range) else picks.tobytes() for picks in region))
        with self._lock:
            if key in self._blocks:
                self._blocks.move_to_end(key)
                return self._blocks[key]
            turn = self._computing.setdefault(key, threading.Lock())
        with turn:
            with self._lock:
                found = self._blocks.get(key)
            if found is None:
                found = compute()
                self._keep(key, found)
        return found

    def _keep(self, key: _Key, block: Block) -> None:
        with self._lock:
            self._computing.pop(key, None)
            if block.nbytes > self._limit // 2:
                return
            self._blocks[key] = block
            self._size += block.nbytes
            while self._size > self._limit:
                _, oldest = self._blocks.popitem(last=False)
                self._size -= oldest.nbytes


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
