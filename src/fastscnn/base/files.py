"""Paths, the cache folder, digests, and atomic writes: a full disk or a kill leaves the old file whole."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from functools import cache as once
from pathlib import Path
from tempfile import TemporaryDirectory

import platformdirs

from fastscnn.base import archives
from fastscnn.base.errors import ArgumentError, FastSCNNError

_NAME = 200  # bytes of a name that stay in that of its temporary file: file systems allow 255
_URL = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # one slash: Path drops the other


def cache(name: str) -> Path:
    """Return the folder for cached results of one part of the package. It may not exist yet.

    The folder is $XDG_CACHE_HOME/fastscnn/NAME where that variable holds an absolute path, else the cache folder of the
    operating system. A user without a home folder, as in some containers, gets a temporary one that lasts as long as the
    process.
    """
    candidates = [os.environ.get("XDG_CACHE_HOME", "")]
    with contextlib.suppress(RuntimeError, KeyError):  # there is no home folder
        candidates.append(platformdirs.user_cache_dir())
    candidates.append(str(expand("~/.cache")))  # an XDG_CACHE_HOME that is no absolute path is ignored, as XDG demands
    base = next((Path(path) for path in candidates if Path(path).is_absolute()), None)
    return (Path(_temporary_cache().name) if base is None else base / "fastscnn") / name


@once
def _temporary_cache() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="fastscnn-")


def expand(path: str | os.PathLike[str]) -> Path:
    """Return the path with a leading `~` or `~user` replaced by that home folder; unchanged if there is no such home.

    Raises:
        ArgumentError: another type.
    """
    if not isinstance(path, str | os.PathLike):
        raise ArgumentError(f"A path is needed, not {path!r}.")
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises where the home folder is unknown


def download_hint(path: str | os.PathLike[str]) -> str:
    """Return the sentence for a path that does not exist because it is a URL, else ""."""
    return " Addresses are not fetched: download the file first." if _URL.match(os.fspath(path)) else ""


def is_file(path: Path) -> bool:
    """Return whether a path is a file. `Path.is_file` raises an error if a name is too long for the file system."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder; without an error, as `is_file`."""
    return os.path.isdir(path)  # noqa: PTH112


def is_address(text: str) -> bool:
    """Return whether a text is an address such as https://... or rtsp://..., and no file of that name exists."""
    return bool(_URL.match(text)) and "://" in text and not os.path.exists(text)  # noqa: PTH110


def digest(path: Path) -> str:
    """Return the sha256 of a file, also of one in an archive, in hexadecimal."""
    return hashlib.sha256(archives.read(path)).hexdigest()


def part(path: Path) -> Path:
    """Return a new name beside `path` for the temporary file that becomes `path` when it is complete."""
    name = path.name.encode(errors="surrogateescape")[:_NAME].decode(errors="ignore")
    return path.parent / f".{name}.{secrets.token_hex(8)}.part"


def write(path: Path, data: bytes, durable: bool = True) -> None:
    """Write `data` to a temporary file beside `path`, and rename it to `path`. After a kill, either file is whole.

    Args:
        path: the file. Missing folders are created.
        data: its content.
        durable: first wait until the disk has the content, so that it also survives a power failure. False for results
            that can be made again: the wait takes as long as compressing them.

    Raises:
        FastSCNNError: the file cannot be written; an old file at `path` is kept.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = part(path)
        with temporary.open("xb") as file:  # not tempfile, whose files only their owner can read
            file.write(data)
            if durable:
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


@contextlib.contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Yield a path of the same name in a hidden folder beside `path`, and move all files of that folder into place afterwards.

    It is for converters that write files themselves. After an error, nothing has changed. Files of an existing folder `path`
    are replaced one by one, each as a whole.

    Raises:
        FastSCNNError: the files cannot be written.
    """
    folder = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = part(path)
        folder.mkdir()
        yield folder / path.name
        for file in sorted(each for each in folder.rglob("*") if each.is_file()):
            place = path.parent / file.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            with file.open("rb+") as opened:  # Windows flushes no file that is open for reading only
                os.fsync(opened.fileno())
            file.replace(place)
    except OSError as error:
        raise FastSCNNError(f"{path}: cannot be written ({error.strerror or error}); the old file, if any, is kept.") from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
