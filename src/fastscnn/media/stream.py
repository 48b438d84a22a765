"""Processing of several items at a time, with results in order."""

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
    """Call `work` on every item, and yield each item with its result, in the items' order.

    One thread reads the items, `workers` threads process them, and the caller takes the results, so that reading,
    processing and writing overlap. At most 2 * `workers` + 1 items are read and not yet taken; then the source waits.

    Args:
        work: called from several threads at a time.
        items: read in one other thread.
        workers: items that are processed at a time, at least 1.
        realtime: never let the source wait, as a camera needs it: items that arrive while all workers are busy are dropped.

    Raises:
        The errors of `items` and `work`, after the results of all earlier items.
    """
    places = Semaphore(workers if realtime else 2 * workers)
    started: SimpleQueue[tuple[Item, Future[Result]] | BaseException | None] = SimpleQueue()
    closed = Event()

    def read() -> None:
        try:
            for item in items:
                if not places.acquire(blocking=not realtime):
                    continue
                if closed.is_set():
                    return
                started.put((item, pool.submit(work, item)))
        except BaseException as error:  # any error is raised where the results are taken
            started.put(error)
        else:
            started.put(None)

    with ThreadPoolExecutor(workers, "fastscnn") as pool:
        # A daemon: a source that never returns its next item must not keep the process alive.
        Thread(target=read, name="fastscnn-reader", daemon=True).start()
        try:
            while (step := started.get()) is not None:
                if isinstance(step, BaseException):
                    raise step
                item, future = step
                result = future.result()
                places.release()
                yield item, result
        finally:
            closed.set()
            places.release()  # for a waiting reader
            pool.shutdown(wait=False, cancel_futures=True)  # drop items not started; the `with` waits for the rest
