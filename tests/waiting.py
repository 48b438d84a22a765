"""Waiting for what another thread or process does, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable

_PAUSE = 0.01  # seconds


def wait_until(holds: Callable[[], object], seconds: float = 60) -> None:
    """Wait until a condition holds.

    Args:
        holds: returns the condition; called often.
        seconds: the deadline, far beyond what a slow machine needs.

    Raises:
        AssertionError: it does not hold at the deadline.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"waited for {seconds} seconds in vain"
        time.sleep(_PAUSE)
