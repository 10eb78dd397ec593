"""Long work in threads: its progress is a stream, and a stream that is left ends it quietly."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from larvik.connection import Cancelled, Progress
from larvik.errors import CallCancelledError
from larvik_server.rpc.threads import Step, Threads


def test_work_that_is_left_ends_and_nothing_calls_its_end_lost() -> None:
    begun, ended = threading.Event(), threading.Event()
    lost: list[dict[str, Any]] = []

    def work(progress: Progress, cancelled: Cancelled) -> None:
        progress(1, 2)
        begun.set()
        while not cancelled():
            threading.Event().wait(0.001)
        ended.set()
        raise CallCancelledError("The caller is gone.")

    async def leave() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
        threads = Threads(1, 1)
        steps = threads.steps(work)
        assert await anext(steps) == Step(1, 2)
        await steps.aclose()
        assert ended.is_set()
        threads.stop()

    asyncio.run(leave())
    assert begun.is_set()
    assert not lost
