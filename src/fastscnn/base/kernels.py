"""Compiled code that an installation may lack: the names of its libraries, and loading them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")  # of libraries, as hatch_build.py writes them
_Kernel = TypeVar("_Kernel")


def load(kernel: Callable[[Path], _Kernel], path: Path) -> _Kernel | None:
    """Return the kernel of a shared library; None if it is missing or not for this process and version.

    Args:
        kernel: makes it of the path of the library. It raises OSError if this process cannot load the library, and
            AttributeError if the library has the interface of another version.
        path: the library.
    """
    try:
        return kernel(path)
    except (OSError, AttributeError):
        return None
