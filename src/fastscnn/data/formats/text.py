"""Reading label files that are text: encodings, JSON, and a cache for files that hold the labels of many images."""

from __future__ import annotations

import codecs
import json
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from fastscnn.base import archives
from fastscnn.base.errors import FastSCNNError

Parsed = TypeVar("Parsed")

_FILES = 4  # label files of each format that stay in memory, however large: the splits of a dataset
CACHE_BYTES = 256 << 20  # of further ones; parsed, they need about 5 times as much memory
TICK = 2_000_000_000  # nanoseconds: the coarsest time stamps of file systems


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
        text = data.decode(name)
    except (ValueError, LookupError):  # the second: an encoding that does not exist
        text = "\0"
    if "\0" in text:  # also UTF-16 of ASCII letters, without byte-order mark
        raise FastSCNNError(f"{path}: is not text in {name.removesuffix('-sig').upper()}; save it as UTF-8.")
    return text.replace("\r\n", "\n")


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
        return archives.read(path)
    except FileNotFoundError:
        raise FastSCNNError(f"{path}: no such file.") from None
    except OSError as error:
        raise FastSCNNError(f"{path}: cannot be read ({error.strerror}).") from error


def once_per_file(parse: Callable[[Path], Parsed]) -> Callable[[Path], Parsed]:
    """Make a parser keep its last results, for files that hold the labels of many images, and for folders.

    A file is parsed again if its size or a time stamp changes. The result of one that has just been written is not kept, since
    a second change may have the same time stamp. One thread parses at a time. Errors are kept as well. Results are shared,
    so callers must not change them.
    """
    lock = Lock()
    kept: OrderedDict[Path, tuple[tuple[int, ...], Parsed | FastSCNNError]] = OrderedDict()

    def result(path: Path) -> Parsed | FastSCNNError:
        try:
            status = path.stat()
        except OSError:
            read_bytes(path)  # the error with its reason
            raise FastSCNNError(f"{path}: holds the labels of many images and is in an archive; put it beside the archive."
                                ) from None
        stamp = status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
        before = kept.pop(path, None)
        if before and before[0] == stamp:
            kept[path] = before
            return before[1]
        fresh = 0 <= time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < TICK
        try:
            found: Parsed | FastSCNNError = parse(path)
        except FastSCNNError as error:
            found = error
        if fresh:
            return found
        kept[path] = stamp, found
        while len(kept) > _FILES and sum(size for (size, *_), _ in kept.values()) > CACHE_BYTES:
            kept.popitem(last=False)
        return found

    def parsed(path: Path) -> Parsed:
        with lock:
            found = result(path)
        if isinstance(found, FastSCNNError):
            raise FastSCNNError(str(found))
        return found

    return parsed
