"""Which host does a request name? For servers that answer this machine only, also where a page of another site asks."""

from __future__ import annotations

from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def host(header: str) -> str | None:
    """Return the host in a Host header, in lower case, without its port; None if it names none.

    Examples:
        >>> host("LOCALHOST:8000"), host("[::1]:8000"), host("")
        ('localhost', '::1', None)
    """
    try:
        return urlsplit(f"//{header}").hostname
    except ValueError:  # brackets that do not match
        return None
