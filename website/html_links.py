"""Check the links of the built site: none is dead, and no page loads anything from another server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADED = {"href": {"link"}, "src": {"audio", "embed", "iframe", "img", "script", "source", "video"}}  # by attribute: tags
_NO_LOAD = {"canonical", "next", "prev"}  # kinds of <link> that only name a page


@dataclass
class Page:
    """What a page has: the names of its places, the addresses it links to, and those that it loads."""

    places: set[str] = field(default_factory=set)
    linked: set[str] = field(default_factory=set)
    loaded: set[str] = field(default_factory=set)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value}
        self.page.places |= {given[name] for name in ("id", "name") if name in given}
        for name, tags in _LOADED.items():
            if tag in tags and name in given and given.get("rel") not in _NO_LOAD:
                self.page.loaded.add(given[name])
        if tag == "a" and "href" in given:
            self.page.linked.add(given["href"])


def read(path: Path) -> Page:
    """Return what an HTML file has."""
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader.page


def faults(site: Path) -> Iterator[str]:
    """Yield a sentence for each dead link of a built site, and for each file that a page loads from another server."""
    pages = {path: read(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}
    for path, page in pages.items():
        name = path.relative_to(site)
        for address in sorted(page.loaded | page.linked):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                if address in page.loaded and parts.scheme != "data":
                    yield f"{name}: loads {address}; add it to the site, or leave it out."
                continue
            target = Path(os.path.normpath(path.parent / unquote(parts.path))) if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.is_file():
                yield f"{name}: links to {address}, which is no file of the site."
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].places:
                yield f"{name}: links to {address}, but {target.relative_to(site)} has no such place."
