"""Reading ahead: a thread produces items while the caller works on those before."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

Item = TypeVar("Item")

_END = object()


@contextmanager
def read_ahead(items: Iterable[Item], ahead: int = 1) -> Iterator[Iterator[Item]]:
    """Give an iterator over `items` that are produced in a thread, at most `ahead` of them unread.

    An error of `items` is raised where its item would have come. When the block ends early, the
    thread stops after the item that it is producing, and is waited for.
    """
    waiting: queue.Queue[object] = queue.Queue(maxsize=max(1, ahead))
    stop = threading.Event()

    def put(item: object) -> bool:
        while not stop.is_set():
            try:
                waiting.put(item, timeout=0.05)
            except queue.Full:
                continue
            return True
        return False

    def produce() -> None:
        try:
            for item in items:
                if not put(item):
                    return
        except BaseException as error:  # whatever it is, the consumer raises it
            put(_Failure(error))
        put(_END)

    def consume() -> Iterator[Item]:
        while (item := waiting.get()) is not _END:
            if isinstance(item, _Failure):
                raise item.error
            yield cast(Item, item)

    thread = threading.Thread(target=produce, name="larvik-read-ahead", daemon=True)
    thread.start()
    try:
        yield consume()
    finally:
        stop.set()
        thread.join()


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error
