"""Processing of several items at a time, with results in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, Queue
from threading import Condition, Event, Semaphore, Thread
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
_POLL = 0.1  # seconds


def ordered(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    realtime: bool = False,
    stop: Event | None = None,
) -> Iterator[tuple[Item, Result]]:
    """Call `work` on every item, and yield each item with its result, in the items' order.

    One thread reads the items, `workers` threads process them, and the caller takes the results, so that reading,
    processing and writing overlap. At most 2 * `workers` items are read and not yet taken; then the source waits.

    Args:
        work: called from several threads at a time.
        items: read in one other thread.
        workers: items that are processed at a time, at least 1.
        realtime: never let the source wait, as a camera needs it: of the items that arrive while all workers are busy, the
            latest is processed next, and the others are dropped.
        stop: once set, the results end, also while the source gives no item.

    Raises:
        The errors of `items` and `work`, after the results of all earlier items.
    """
    places = Semaphore(workers if realtime else 2 * workers)
    # SimpleQueue.get of CPython 3.11 waits for ever if the handler of a signal outlasts its timeout.
    started: Queue[tuple[Item, Future[Result]] | BaseException | None] = Queue()
    latest = _Latest(items) if realtime else None
    closed = Event()

    def read() -> None:
        try:
            source = iter(items) if latest is None else latest
            while places.acquire() and not closed.is_set():  # before the item is taken, which is the latest then
                item = next(source)
                started.put((item, pool.submit(work, item)))
        except StopIteration:
            started.put(None)
        except BaseException as error:  # any error is raised where the results are taken
            started.put(error)

    def step() -> tuple[Item, Future[Result]] | BaseException | None:
        while stop is None or not stop.is_set():
            with suppress(Empty):
                return started.get(timeout=None if stop is None else _POLL)
        return None

    with ThreadPoolExecutor(workers, "fastscnn") as pool:
        # A daemon: a source that never returns its next item must not keep the process alive.
        Thread(target=read, name="fastscnn-reader", daemon=True).start()
        try:
            while (found := step()) is not None:
                if isinstance(found, BaseException):
                    raise found
                item, future = found
                result = future.result()
                places.release()
                yield item, result
        finally:
            closed.set()
            if latest is not None:
                latest.close()
            places.release()  # for a waiting reader
            pool.shutdown(wait=False, cancel_futures=True)  # drop items not started; the `with` waits for the rest


class _Latest(Iterator[Item]):
    """The latest item each time it is asked; a thread reads all of them until it is closed."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = items
        self._changed = Condition()
        self._slot: list[Item] = []  # of one place
        self._end: BaseException | None = None
        Thread(target=self._read, name="fastscnn-source", daemon=True).start()

    def _read(self) -> None:
        try:
            for item in self._items:
                with self._changed:
                    if self._end is not None:
                        return
                    self._slot[:] = [item]
                    self._changed.notify()
            self.close()
        except BaseException as error:  # any error is raised where the items are taken
            self.close(error)

    def close(self, error: BaseException | None = None) -> None:
        """End the items, after the one that waits."""
        with self._changed:
            self._end = self._end or error or StopIteration()
            self._changed.notify()

    def __next__(self) -> Item:
        with self._changed:
            self._changed.wait_for(lambda: self._slot or self._end)
            if self._slot:
                return self._slot.pop()
        assert self._end is not None
        raise self._end
