"""Where files are kept, their digests, and writing them so that a full disk or a kill leaves the old one whole."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from pathlib import Path

from fastscnn.base.errors import FastSCNNError


def cache(name: str) -> Path:
    """The folder in which a part of fastscnn keeps what it would have to work out again: $XDG_CACHE_HOME/fastscnn/NAME,
    else in ~/.cache."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "fastscnn" / name


def digest(path: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def part(path: Path) -> Path:
    """The name beside `path` under which a file is written until it is whole."""
    return path.parent / f".{path.name}.{secrets.token_hex(8)}.part"


def write(path: Path, data: bytes) -> None:
    """Writes `data` to `path` in one piece: to a temporary file beside it, flushed to the disk, then renamed.

    Raises:
        FastSCNNError: the file cannot be written; what stood at `path` before is untouched.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = part(path)
        with temporary.open("xb") as file:  # not tempfile: its files are private, ours are ordinary ones
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()
        if isinstance(error, OSError):
            reason = error.strerror or error
            raise FastSCNNError(f"{path}: cannot be written ({reason}); the old file, if any, is kept.") from error
        raise
