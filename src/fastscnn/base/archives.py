"""Files in tar archives, by paths that lead through the archive: `train/000012.tar/0001.jpg`.

Shards of the WebDataset format are such archives. Python's `tarfile` reads the headers of an archive once in each process. A
file is then read from its place in the archive, which costs no more than a file in a folder.
"""

from __future__ import annotations

import errno
import io
import os.path
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from fastscnn.base.errors import FastSCNNError

if TYPE_CHECKING:
    import tarfile

THROUGH = ".tar/"  # in a path or a pattern: what follows is in an archive
_BLOCK = 512  # bytes of a header, and of the zeros at the end
_PADDING = 1 << 16  # bytes behind the end that are looked at
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}  # first bytes


@dataclass(frozen=True)
class Member:
    """A file in an archive.

    Attributes:
        archive: the archive.
        offset: where its content begins, in bytes.
        size: length of its content in bytes.
    """

    archive: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """Return its content.

        Raises:
            OSError: the archive cannot be read.
            FastSCNNError: the archive has become shorter.
        """
        with self.archive.open("rb") as file:
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) < self.size:
            raise FastSCNNError(f"{self.archive}: became shorter while it was read; start again.")
        return data


@dataclass(frozen=True)
class _Index:
    """What an archive holds.

    Attributes:
        files: name -> (offset, size).
        problem: what is wrong with the archive, such as "is truncated"; "" for an intact one.
    """

    files: Mapping[str, tuple[int, int]]
    problem: str


def member(path: Path) -> Member | None:
    """Return the file in an archive that a path names; None if the path does not lead through an archive.

    Raises:
        FileNotFoundError: the archive has no such file.
        FastSCNNError: the archive cannot be read.
    """
    archive, name = _split(path)
    if archive is None or not name:
        return None
    found = _index(archive).files.get(name)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, "no such file in the archive", str(path))
    return Member(archive, *found)


def read(path: Path) -> bytes:
    """Return the content of a file, also of one in an archive.

    Raises:
        OSError: it is missing or cannot be read.
        FastSCNNError: as `member`.
    """
    found = member(path)
    return path.read_bytes() if found is None else found.read()


def opened(path: Path) -> BinaryIO:
    """Open a file for reading; one in an archive is read into memory first. Raises what `read` raises."""
    found = member(path)
    return path.open("rb") if found is None else io.BytesIO(found.read())


def is_member(path: Path) -> bool:
    """Return whether a path names a file that is in an archive.

    Raises:
        FastSCNNError: the archive cannot be read.
    """
    archive, name = _split(path)
    return archive is not None and name in _index(archive).files


def names(archive: Path) -> Iterable[str]:
    """Return the names of the files in an archive.

    Raises:
        FastSCNNError: the archive cannot be read.
    """
    return _index(archive).files


def beside(folder: Path) -> list[Path]:
    """Return the files of a folder in an archive, or of its top, sorted; [] if the path is no such folder.

    Raises:
        FastSCNNError: the archive cannot be read.
    """
    archive, name = _split(folder)
    if archive is None:
        return []
    return sorted(archive / other for other in _index(archive).files if posixpath.dirname(other) == name)


def problem(archive: Path) -> str:
    """Return what is wrong with an archive: a sentence; "" for an intact one. Files before the damage can be read.

    Raises:
        FastSCNNError: it cannot be read.
    """
    found = _index(archive).problem
    return f"{archive}: {found}." if found else ""


def _split(path: Path) -> tuple[Path | None, str]:
    """Return the archive that a path leads through, and the name in it; "" for the archive itself. None if there is none."""
    text = f"{path.as_posix()}/"
    end = text.find(THROUGH)
    while end >= 0:
        archive = Path(text[: end + len(THROUGH) - 1])
        if os.path.isfile(archive):  # noqa: PTH113 - a name may be too long
            return archive, text[end + len(THROUGH) : -1]
        end = text.find(THROUGH, end + 1)
    return None, ""


def _index(archive: Path) -> _Index:
    try:
        status = archive.stat()
        return _scanned(archive, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise FastSCNNError(f"{archive}: cannot be read ({error.strerror or error}).") from error


@cache
def _scanned(archive: Path, size: int, changed: int) -> _Index:
    """Return what the headers of an archive say. It is scanned again after its size or time has changed."""
    del changed
    found: dict[str, tuple[int, int]] = {}
    wrong, last = "", ""
    with archive.open("rb") as file:
        try:
            for entry in _entries(file):
                name = posixpath.normpath(entry.name)
                if entry.isdir():
                    continue
                if not entry.isreg() or entry.issparse():
                    wrong = wrong or f"contains {name!r}, which is a link or a special file; pack plain files"
                elif name in found or name.startswith(("/", "..")) or name == ".":
                    wrong = wrong or f"contains {name!r} {'twice' if name in found else 'outside of it'}; pack it again"
                elif entry.offset_data + entry.size <= size:
                    found[name] = entry.offset_data, entry.size
                    last = name
        except OSError:
            raise
        except Exception:  # tarfile raises errors of half a dozen kinds on damaged headers
            file.seek(0)
            wrong = wrong or _compressed(file.read(6)) or _truncated(last)
    return _Index(found, wrong)


def _entries(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Yield the entries of an archive. Raise an error after the last one unless the archive ends there."""
    import tarfile  # here, because every start of the program imports this module

    with tarfile.open(fileobj=file, mode="r:") as tar:
        end = -1
        while (entry := tar.next()) is not None:
            if tar.offset <= end:  # a negative size
                raise tarfile.ReadError
            end = tar.offset
            yield entry
        file.seek(tar.offset)
    padding = file.read(_PADDING)
    if len(padding) < _BLOCK or any(padding):  # tarfile takes any broken header for the end
        raise tarfile.ReadError


def _compressed(start: bytes) -> str:
    for magic, kind in _COMPRESSED.items():
        if start.startswith(magic):
            return f"is compressed ({kind}), so that no file in it can be read by itself; decompress it"
    return ""


def _truncated(last: str) -> str:
    where = f"after {last!r}" if last else "at its beginning"
    return f"is truncated or damaged {where}; copy it again, or pack it again"
