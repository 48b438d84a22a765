"""stream: work on several items at a time, results in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int, realtime: bool = False
) -> Iterator[tuple[Item, Result]]:
    """Does `work` on every item and gives each item with its result, in the items' order.

    One thread draws the items, `workers` threads work on them, and the caller takes the results: reading, working and
    writing overlap. At most twice as many items as workers, and one, are drawn and not yet taken; then the source waits.

    Args:
        work: called from several threads at a time.
        items: drawn in one other thread.
        workers: items that are worked on at a time, at least 1.
        realtime: do not let the source wait, as a camera asks for: items that come while all workers are busy are dropped.

    Raises:
        What `items` or `work` raise, in its place among the results: those of all items before are given first.
    """
    places = Semaphore(workers if realtime else 2 * workers)
    begun: SimpleQueue[tuple[Item, Future[Result]] | BaseException | None] = SimpleQueue()
    closed = Event()

    def read() -> None:
        try:
            for item in items:
                if not places.acquire(blocking=not realtime):
                    continue
                if closed.is_set():
                    return
                begun.put((item, pool.submit(work, item)))
        except BaseException as error:  # whatever it is, it is raised where the results are taken
            begun.put(error)
        else:
            begun.put(None)

    with ThreadPoolExecutor(workers, "fastscnn") as pool:
        # A daemon: a source that never gives its next item must not keep the process from ending.
        Thread(target=read, name="fastscnn-reader", daemon=True).start()
        try:
            while (step := begun.get()) is not None:
                if isinstance(step, BaseException):
                    raise step
                item, future = step
                result = future.result()
                places.release()
                yield item, result
        finally:
            closed.set()
            places.release()  # for a reader that waits
            pool.shutdown(wait=False, cancel_futures=True)  # what has not begun; the rest is waited for above
