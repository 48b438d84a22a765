"""Addresses of live streams, and the name of each without what may be secret in it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from fastscnn.base import files
from fastscnn.base.errors import ArgumentError

_PLAIN = re.compile(r"[\w./-]+", re.ASCII)
SCHEMES = ("rtsp", "http", "https", "udp")


@dataclass(frozen=True)
class Address:
    """The address of a live stream.

    Attributes:
        url: as given; it may contain a password, so it is neither shown nor logged.
        scheme: one of `SCHEMES`.
        host: without brackets; "" for UDP from any sender.
        name: scheme, host and port, for messages. User, password, path and query may be secret: some cameras take the password
            in the path.
    """

    url: str = field(repr=False)
    scheme: str
    host: str
    name: str

    @property
    def place(self) -> str:
        """The whole address if it has no user, password or query, and a path of letters, digits and ._/- only; else `name`."""
        path = self.url.partition("://")[2].partition("/")[2]
        whole = f"{self.name}/{path}"
        return whole if self.url.lower() == whole.lower() and _PLAIN.fullmatch(path) else self.name

    @property
    def stem(self) -> str:
        """The stem of the names of its results, such as "192.168.1.9"."""
        return self.host.replace(":", "-").strip(".-") or self.scheme


def is_stream(text: str) -> bool:
    """Return whether a text starts with one of `SCHEMES` and "://", and no file of that name exists."""
    return text.partition("://")[0].lower() in SCHEMES and files.is_address(text)


def shown(text: str) -> str:
    """Return an address of any scheme without user, password, path and query, for messages."""
    scheme, _, rest = text.partition("://")
    return f"{scheme.lower()}://{re.split('[/?#]', rest.rpartition('@')[2])[0]}"


def read(text: str) -> Address:
    """Return an address in its parts.

    Raises:
        ArgumentError: another scheme, or no host or port that can be read. The message does not contain the address.

    Examples:
        >>> read("rtsp://user:password@camera.local/stream?token=1")
        Address(scheme='rtsp', host='camera.local', name='rtsp://camera.local')
    """
    scheme = text.partition("://")[0].lower()
    if "://" not in text or scheme not in SCHEMES:
        raise ArgumentError(f"The address of a stream starts with {', '.join(f'{known}://' for known in SCHEMES)}.")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ArgumentError(f"{scheme}://: the host or port of this address cannot be read; write special characters in a "
                            "password as %XX.") from None
    if not text.isprintable() or " " in text or "@" in parts.path + parts.query + parts.fragment:
        raise ArgumentError(f"{scheme}://: this address has a character that it cannot contain there; write / @ ? # and spaces "
                            "in a password or path as %2F %40 %3F %23 %20.")
    if not host and scheme != "udp":
        raise ArgumentError(f"{scheme}://: this address has no host; expected {scheme}://HOST[:PORT]/PATH.")
    if not port and scheme == "udp":
        raise ArgumentError("udp://: this address has no port; expected udp://HOST:PORT.")
    return Address(text, scheme, host, shown(text))
