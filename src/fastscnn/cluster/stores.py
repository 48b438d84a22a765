"""A folder, local or on a file system that fsspec opens, such as s3://bucket/folder: listing, reading, and whole writes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError

# Object stores show a file only when it is complete, so that no temporary name is needed.
_WHOLE = ("abfs", "abfss", "adl", "az", "gcs", "gs", "oci", "oss", "s3", "s3a")


@dataclass(frozen=True)
class Store:
    """A folder.

    Attributes:
        root: its path or address, such as s3://bucket/labels.

    Examples:
        >>> store = Store("results")
        >>> store.write("town/street.txt", b"road")
        >>> store.read("town/street.txt"), store.names()
        (b'road', {'town/street.txt'})
    """

    root: str

    @property
    def local(self) -> bool:
        """Whether the folder belongs to the file system of the machine, as one on NFS does."""
        return not files.is_address(self.root)

    def at(self, name: str) -> str:
        """Return the path or address of a file in the folder."""
        return f"{self.root.rstrip('/')}/{name}"

    def names(self) -> set[str]:
        """Return the files in the folder and below it, relative to it; none if it does not exist. One request for many files.

        Raises:
            FastSCNNError: the folder cannot be listed.
        """
        if self.local:
            walked = os.walk(self.root)
            return {Path(place, name).relative_to(self.root).as_posix() for place, _, found in walked for name in found}
        with _as_our_errors(self.root, "listed"):
            system, root_path = _opened(self.root)
            below = f"{root_path.rstrip('/')}/"
            return {found.removeprefix(below) for found in system.find(root_path) if found.startswith(below)}

    def exists(self, name: str) -> bool:
        """Return whether a file is in the folder."""
        if self.local:
            return files.is_file(Path(self.at(name)))
        with _as_our_errors(self.at(name), "reached"):
            system, root = _opened(self.root)
            return bool(system.exists(f"{root.rstrip('/')}/{name}"))

    def read(self, name: str) -> bytes:
        """Return the content of a file. Raises FastSCNNError if it cannot be read."""
        return read(self.at(name))

    def write(self, name: str, data: bytes) -> None:
        """Write a file as a whole: an object store shows it once it is complete; elsewhere it gets a temporary name first.

        Raises:
            FastSCNNError: it cannot be written.
        """
        if self.local:
            files.write(Path(self.at(name)), data, durable=False)
            return
        with _as_our_errors(self.at(name), "written"):
            system, root = _opened(self.root)
            place = f"{root.rstrip('/')}/{name}"
            if self.root.partition("://")[0] in _WHOLE:
                system.pipe_file(place, data)
                return
            folder, _, last = place.rpartition("/")
            temporary = f"{folder}/.{last}.{secrets.token_hex(8)}.part"
            system.makedirs(folder, exist_ok=True)
            system.pipe_file(temporary, data)
            system.mv(temporary, place)

    def remove(self, name: str) -> None:
        """Remove a file of a local folder, if it is there."""
        Path(self.at(name)).unlink(missing_ok=True)


def read(url: str) -> bytes:
    """Return the content of a file, by its path or address. Raises FastSCNNError if it cannot be read."""
    with _as_our_errors(url, "read"):
        if not files.is_address(url):
            return Path(url).read_bytes()
        system, path = _opened(url)
        return bytes(system.cat_file(path))


def filesystem(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of a path or address, and its path there. Raises FastSCNNError if there is none."""
    with _as_our_errors(url, "opened"):
        return _opened(url)


@cache
def _opened(url: str) -> tuple[Any, str]:
    import fsspec.core

    try:
        system, path = fsspec.core.url_to_fs(url, use_listings_cache=False)  # other workers write, too
    except ImportError as error:
        raise FastSCNNError(f"{url}: needs another package on every node ({error}).") from error
    except ValueError as error:
        raise FastSCNNError(f"{url}: fsspec knows no such file system ({error}).") from error
    return system, str(path)


@contextmanager
def _as_our_errors(url: str, what: str) -> Iterator[None]:
    """Raise any error as a FastSCNNError: each file system has errors of its own, which share no class."""
    try:
        yield
    except FastSCNNError:
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        raise FastSCNNError(f"{url}: cannot be {what} ({reason}).") from error
