"""The package of a tracker, an optional dependency."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from fastscnn.base.errors import missing_extra


@contextmanager
def needed(tracker: str, environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """Import the package of a tracker in this context.

    Args:
        tracker: its name, which its extra has too.
        environment: variables to set before the import, unless they are set.

    Raises:
        FastSCNNError: the extra is not installed.
    """
    for variable, value in (environment or {}).items():
        os.environ.setdefault(variable, value)
    try:
        yield
    except ModuleNotFoundError as error:
        raise missing_extra(tracker, tracker) from error
