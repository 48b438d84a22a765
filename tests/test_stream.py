"""stream: order, bounds, and what happens when something goes wrong."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import wait_until

from fastscnn import Segmenter
from fastscnn.base.errors import FastSCNNError
from fastscnn.media.stream import ordered


@given(st.lists(st.integers()), st.integers(1, 4))
def test_every_item_once_and_in_order(items: list[int], workers: int) -> None:
    assert list(ordered(lambda item: item + 1, items, workers)) == [(item, item + 1) for item in items]


def test_order_does_not_follow_speed() -> None:
    done = [threading.Event() for _ in range(6)]

    def work(item: int) -> None:
        assert item % 2 or done[item + 1].wait(20)
        done[item].set()

    assert [item for item, _ in ordered(work, range(6), 3)] == list(range(6))


def test_workers_work_at_the_same_time() -> None:
    barrier = threading.Barrier(3, timeout=20)  # which opens only when three wait at it
    assert len(list(ordered(lambda _: barrier.wait(), range(9), 3))) == 9


def test_reading_overlaps_with_working() -> None:
    worked, read = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 0
        assert worked.wait(20)  # the first item is being worked on while the second is drawn
        read.set()
        yield 1

    def work(item: int) -> bool:
        worked.set()
        return read.wait(20)

    assert [result for _, result in ordered(work, items(), 1)] == [True, True]


def test_the_source_waits_for_a_consumer_that_does_not_take() -> None:
    drawn: list[int] = []
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(60):
            drawn.append(item)
            yield item

    for item, _ in ordered(lambda item: item, items(), 2):
        taken.append(item)
        wait_until(lambda: len(drawn) >= min(len(taken) + 4, 60))  # all that there is room for: two for each worker
        assert len(drawn) <= len(taken) + 4
    assert taken == list(range(60))


def test_realtime_takes_the_latest_of_those_that_come_while_all_are_busy() -> None:
    started, last = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 0
        assert started.wait(20)
        yield from range(1, 50)
        last.set()

    def work(item: int) -> int:
        started.set()
        assert last.wait(20)
        return item

    assert [item for item, _ in ordered(work, items(), 1, realtime=True)] == [0, 49]


def test_nothing_is_dropped_unless_asked() -> None:
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for item in range(60):
            drawn.append(item)
            yield item

    def work(item: int) -> None:
        """Be slower than the source."""
        wait_until(lambda: len(drawn) >= min(item + 2, 60))

    assert [item for item, _ in ordered(work, items(), 1)] == list(range(60))


def take(stream: Iterator[tuple[int, int]], taken: list[int]) -> None:
    """Puts what the stream gives into `taken`, until it ends or breaks."""
    for item, _ in stream:
        taken.append(item)


def test_an_error_of_the_work_stands_in_its_place() -> None:
    def work(item: int) -> int:
        if item == 5:
            raise ValueError("five")
        return item

    taken: list[int] = []
    with pytest.raises(ValueError, match="five"):
        take(ordered(work, range(100), 3), taken)
    assert taken == [0, 1, 2, 3, 4]


def test_an_error_of_the_source_comes_after_all_that_was_drawn() -> None:
    def items() -> Iterator[int]:
        yield from range(7)
        raise OSError("the file ends here")

    taken: list[int] = []
    with pytest.raises(OSError, match="the file ends here"):
        take(ordered(lambda item: item, items(), 2), taken)
    assert taken == list(range(7))


def test_leaving_early_stops_the_source() -> None:
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for item in range(10_000):
            drawn.append(item)
            yield item

    before = threading.active_count()
    stream = ordered(lambda item: item, items(), 2)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    wait_until(lambda: threading.active_count() <= before)
    assert len(drawn) < 20


def test_a_source_that_never_gives_does_not_hang_those_who_leave() -> None:
    blocked = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        blocked.wait(60)

    stream = ordered(lambda item: item, items(), 1)
    assert next(stream) == (0, 0)
    start = time.perf_counter()
    stream.close()  # type: ignore[attr-defined]
    assert time.perf_counter() - start < 5
    blocked.set()


@pytest.mark.parametrize("realtime", [False, True])
def test_leaving_ends_the_threads_of_a_source_that_goes_on(realtime: bool) -> None:
    goes_on = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        goes_on.wait(60)
        yield from range(1, 10_000_000)  # far longer than the test

    before = set(threading.enumerate())
    stream = ordered(lambda _: time.sleep(0.05), items(), 2, realtime)  # meanwhile the next item is waited for
    assert next(stream) == (0, None)
    stream.close()  # type: ignore[attr-defined]
    if realtime:
        wait_until(lambda: {thread.name for thread in set(threading.enumerate()) - before} == {"fastscnn-source"})
    goes_on.set()
    wait_until(lambda: set(threading.enumerate()) <= before)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs signal.setitimer")
def test_a_signal_whose_handler_outlasts_a_wait() -> None:
    """As Ctrl-C on a busy machine: the results end, although the source gives nothing."""
    stop, given_up = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        given_up.wait(20)
        yield 0

    def handler(*_: object) -> None:
        time.sleep(0.3)  # longer than `ordered` waits until it looks at `stop` again
        stop.set()

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.25)
        start = time.perf_counter()
        assert list(ordered(lambda item: item, items(), 1, realtime=True, stop=stop)) == []
        assert time.perf_counter() - start < 10
    finally:
        signal.signal(signal.SIGALRM, before)
        given_up.set()


def test_segmenter(tiny: Segmenter) -> None:
    frames = [np.random.default_rng(seed).integers(0, 256, (64, 96, 3)).astype(np.uint8) for seed in range(7)]
    for (frame, result), expected in zip(tiny.stream(frames), frames, strict=True):
        assert frame is expected
        np.testing.assert_array_equal(result.labels, tiny.segment(expected).labels)


def test_a_bad_frame_stops_the_stream(tiny: Segmenter) -> None:
    frames = [np.zeros((64, 96, 3), np.uint8), np.zeros((64, 96, 2), np.uint8)]
    stream = tiny.stream(frames)
    next(stream)
    with pytest.raises(FastSCNNError, match="An image is uint8"):
        next(stream)
