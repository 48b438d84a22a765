"""Reading label files that are text: encodings, JSON, and a cache for files that hold the labels of many images."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from fastscnn.base.errors import FastSCNNError

Parsed = TypeVar("Parsed")

_FILES = 4  # label files that stay in memory for each format: the splits of a dataset


def read(path: Path, encoding: Callable[[bytes], str] = lambda _: "utf-8") -> str:
    """Return the text of a file: UTF-8, or UTF-16 with a byte-order mark. Lines end with a line feed.

    Args:
        path: the file.
        encoding: returns the encoding of a file without byte-order mark from its bytes.

    Raises:
        FastSCNNError: a missing or unreadable file, or one in another encoding.
    """
    data = read_bytes(path)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        name = "utf-16"
    elif data.startswith(codecs.BOM_UTF8):
        name = "utf-8-sig"
    else:
        name = encoding(data)
    try:
        return data.decode(name).replace("\r\n", "\n")
    except (ValueError, LookupError):  # the second: an encoding that does not exist
        raise FastSCNNError(f"{path}: is not text in {name.upper()}; save it as UTF-8.") from None


def read_json(path: Path, kind: type[Parsed]) -> Parsed:
    """Return the content of a JSON file, whose outermost value must be of the type `kind`.

    Raises:
        FastSCNNError: as `read`; truncated, not JSON, nested too deeply, or of another type.
    """
    try:
        table: Any = json.loads(read(path))
    except (ValueError, RecursionError) as error:
        raise FastSCNNError(f"{path}: is truncated or not JSON ({error}); copy it again from its source.") from error
    if not isinstance(table, kind):
        wanted = "object" if kind is dict else "list"
        raise FastSCNNError(f"{path}: is not a JSON {wanted}, as its format demands; export it again.")
    return table


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file. Raises FastSCNNError if it is missing or cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise FastSCNNError(f"{path}: no such file.") from None
    except OSError as error:
        raise FastSCNNError(f"{path}: cannot be read ({error.strerror}).") from error


def once_per_file(parse: Callable[[Path], Parsed]) -> Callable[[Path], Parsed]:
    """Make a parser keep its last results, for files that hold the labels of many images.

    A file is parsed again if its size or a time stamp changes. One thread parses at a time. Errors are kept as well. Results
    are shared, so callers must not change them.
    """
    lock = Lock()

    @lru_cache(_FILES)
    def kept(path: Path, _: tuple[int, ...]) -> Parsed | FastSCNNError:
        try:
            return parse(path)
        except FastSCNNError as error:
            return error

    def parsed(path: Path) -> Parsed:
        try:
            status = path.stat()
        except OSError:
            read_bytes(path)  # the error with its reason
            raise
        with lock:
            result = kept(path, (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino))
        if isinstance(result, FastSCNNError):
            raise FastSCNNError(str(result))
        return result

    return parsed
