"""Run work on a few threads with a bounded queue; refuse more than that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")


class FullError(Exception):
    """The queue is full, or the work waited too long in it."""


class Workers:
    """Threads that segment images for the event loop.

    Args:
        threads: pieces of work that run at the same time.
        queue: pieces of work that wait at most; more are refused.
    """

    def __init__(self, threads: int, queue: int) -> None:
        self.threads, self.places = threads, threads + queue
        self.taken = 0  # changed in the event loop only
        self._pool = ThreadPoolExecutor(threads, "segment")

    def check(self) -> None:
        """Raise FullError if all places are taken."""
        if self.taken >= self.places:
            raise FullError

    async def run(self, work: Callable[[], _T], seconds: float) -> _T:
        """Return what `work` returns.

        Args:
            work: called on another thread.
            seconds: that the caller waits at most, in the queue and for the work. Work that has begun runs to its end, and
                keeps its place until then.

        Raises:
            FullError: all places are taken, or the time is over.
        """
        self.check()
        loop = asyncio.get_running_loop()
        future = self._pool.submit(work)
        self.taken += 1
        future.add_done_callback(lambda done: loop.call_soon_threadsafe(self._release, done))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), seconds)
        except TimeoutError as error:
            raise FullError from error

    def _release(self, _: Future[_T]) -> None:
        self.taken -= 1

    def close(self) -> None:
        """Finish the work that was taken, and end the threads."""
        self._pool.shutdown()
