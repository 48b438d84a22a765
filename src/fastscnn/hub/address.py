"""Addresses of the Hugging Face Hub: hf://OWNER/NAME[@REVISION][/FILE]."""

from __future__ import annotations

import re
from dataclasses import dataclass
from os import PathLike

from fastscnn.base import files
from fastscnn.base.errors import ArgumentError

_SCHEME = re.compile(r"hf:/{1,2}(?!/)")  # one slash: Path drops the other
_NAME = r"(?!.*(?:--|\.\.))[A-Za-z0-9_](?:[\w.-]{0,94}[A-Za-z0-9_])?"  # of an owner or a repository, as the hub accepts it
_ADDRESS = re.compile(
    rf"(?P<owner>{_NAME})/(?P<name>{_NAME})(?:@(?P<revision>refs/pr/\d+|[^/@]+))?(?:/(?P<file>.+))?", re.ASCII
)
_OTHER_KINDS = ("models", "datasets", "spaces", "buckets", "kernels")  # not owners: hf://datasets/OWNER/NAME is a dataset


@dataclass(frozen=True)
class Address:
    """A repository on the hub, or a file of it.

    Attributes:
        repository: OWNER/NAME.
        revision: branch, tag or commit; None for the default branch.
        file: path of a file in the repository; None for the repository.
    """

    repository: str
    revision: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"hf://{self.repository}{revision}{f'/{self.file}' if self.file else ''}"

    @property
    def name(self) -> str:
        """The name of the repository without its owner."""
        return self.repository.partition("/")[2]


def is_address(path: str | PathLike[str]) -> bool:
    """Return whether a path is an address of the hub. It may have passed through `Path`, which drops a slash."""
    return _SCHEME.match(_text(path)) is not None


def parse(path: str | PathLike[str]) -> Address:
    """Parse an address.

    Raises:
        ArgumentError: it is not hf://OWNER/NAME[@REVISION][/FILE].

    Examples:
        >>> parse("hf://town/streets@v2/small/model.onnx")
        Address(repository='town/streets', revision='v2', file='small/model.onnx')
    """
    text = _text(path)
    found = _ADDRESS.fullmatch(_SCHEME.sub("", text, count=1).rstrip("/"))
    if not is_address(text) or not found or found["owner"] in _OTHER_KINDS or ".." in (found["file"] or "").split("/"):
        raise ArgumentError(f"{text}: an address of weights on the hub is hf://OWNER/NAME, hf://OWNER/NAME@REVISION or "
                            "hf://OWNER/NAME/FILE.")
    return Address(f"{found['owner']}/{found['name']}", found["revision"], found["file"])


def _text(path: str | PathLike[str]) -> str:
    return path if isinstance(path, str) else files.expand(path).as_posix()
