"""HTML elements and the page around them. Every text is escaped where it enters an element."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.media import jpeg
from fastscnn.model.label_set import Colour, LabelSet
from fastscnn.version import __version__

PAGE = "index.html"  # file name in the folder of a report
_GENERATOR = "fastscnn report"  # marks a page of ours
_MARK = f'<meta name="generator" content="{_GENERATOR}">'.encode()
_MARKED_WITHIN = 1024  # bytes
_VOID = frozenset({"img", "meta"})
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # the page cannot load or run anything
_QUALITY = 72  # JPEG quality, chosen by eye: edges of labels stay clear
_BRIEF = 6  # entries of a nested value that are shown without a click


class Markup(str):
    """Text that is HTML already. Any other text is escaped where it enters an element."""

    __slots__ = ()


@dataclass(frozen=True)
class Section:
    """A section of a page."""

    heading: str
    body: Sequence[Markup]


def element(name: str, /, *children: str, **attributes: object) -> Markup:
    """Return an HTML or SVG element.

    Args:
        name: name of the element.
        children: content; text that is not `Markup` is escaped.
        attributes: `class_` becomes class, `text_anchor` becomes text-anchor, and so on.
    """
    given = "".join(f' {key.strip("_").replace("_", "-")}="{escape(str(value))}"' for key, value in attributes.items())
    return Markup(f"<{name}{given}>" if name in _VOID else f"<{name}{given}>{join(children)}</{name}>")


def join(parts: Iterable[str]) -> Markup:
    """Concatenate the parts; those that are not `Markup` are escaped."""
    return Markup("".join(part if isinstance(part, Markup) else escape(part) for part in parts))


def page(title: str, lead: str, tiles: Sequence[tuple[str, str, str]], sections: Sequence[Section]) -> str:
    """Return the whole page.

    Args:
        title: heading.
        lead: sentence below the heading.
        tiles: (name, value, unit) of the figures at the top.
        sections: the sections in order; a section without a body is left out.
    """
    shown = [section for section in sections if section.body]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="generator", content=_GENERATOR),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("title", title),
        element("style", Markup(Path(__file__).with_name("style.css").read_text("utf-8"))),
    )
    figures = (
        element("div", element("dt", what), element("dd", figure, element("small", f" {unit}" if unit else "")))
        for what, figure, unit in tiles
    )
    body = element(
        "body",
        element("header", element("h1", title), element("p", lead, class_="soft"), element("dl", *figures, class_="tiles")),
        element("nav", *(element("a", section.heading, href=f"#{_anchor(section)}") for section in shown)),
        element("main", *(element("section", element("h2", section.heading), *section.body, id=_anchor(section))
                          for section in shown)),
        element("footer", f"Made by fastscnn {__version__}."),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _anchor(section: Section) -> str:
    return section.heading.lower().replace(" ", "-")


def check_ours(path: Path) -> None:
    """Check that a page may be written to `path`.

    Raises:
        FastSCNNError: a file that is not a page of ours exists there.
    """
    try:
        with path.open("rb") as file:
            ours = _MARK in file.read(_MARKED_WITHIN)
    except FileNotFoundError:
        return
    except OSError as error:
        raise FastSCNNError(f"{path}: cannot be read ({error.strerror}); choose another folder.") from error
    if not ours:
        raise FastSCNNError(f"{path}: exists and is not a report of fastscnn; it is kept. Choose another folder.")


def write(path: Path, text: str) -> None:
    """Write a page atomically. Raises FastSCNNError if it cannot be written, and like `check_ours`."""
    check_ours(path)
    files.write(path, text.encode())


def table(head: Sequence[str], rows: Iterable[Sequence[str]], foot: Sequence[str] = (), *, words: int = 1) -> Markup:
    """Return a table. Its first `words` columns are text, the others numbers; the first cell of a row is its heading."""

    def row(cells: Sequence[str], kind: str, first: str = "th") -> Markup:
        return element("tr", *(
            cell if isinstance(cell, Markup) and cell.startswith("<td")
            else element(kind if index else first, cell, **({"class": "n"} if index >= words else {}))
            for index, cell in enumerate(cells)
        ))

    body = [row(cells, "td") for cells in rows]
    parts = [element("thead", row(head, "th"))] if any(head) else []
    parts.append(element("tbody", *body))
    if foot:
        parts.append(element("tfoot", row(foot, "td")))
    return element("div", element("table", *parts), class_="wide")


def facts(known: Mapping[str, Any]) -> Markup:
    """Return names and values as a table. Large nested values are collapsed until they are clicked."""
    rows = [(name, value) for name, value in known.items() if value not in (None, "", {}, [], ())]
    return table(("", ""), [(name.replace("_", " "), _value(value)) for name, value in rows], words=2)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        brief = len(value) <= _BRIEF and not any(isinstance(one, Mapping) for one in value.values())
        summary = element("summary", f"{len(value)} entries")
        return facts(value) if brief else element("details", summary, facts(value))
    if isinstance(value, list | tuple):
        inner = " " if value and not isinstance(value[0], list | tuple | str) else ", "
        return inner.join(str(_value(one)) for one in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def picture(image: UInt8Array, alt: str, caption: str = "") -> Markup:
    """Return an image, uint8 [H, W, 3] RGB, as a JPEG inside the page, with an alternative text and a caption."""
    height, width = image.shape[:2]
    data = f"data:image/jpeg;base64,{base64.b64encode(jpeg.encoded(image, _QUALITY)).decode()}"
    drawn = element("img", src=data, alt=alt, width=width, height=height, decoding="async")
    return element("figure", drawn, element("figcaption", caption)) if caption else element("figure", drawn)


def swatch(colour: Colour) -> Markup:
    """Return a small square of a colour."""
    return element("span", class_="swatch", style=f"background:rgb({', '.join(map(str, colour))})")


def legend(label_set: LabelSet) -> Markup:
    """Return the classes with their colours."""
    items = (element("li", swatch(colour), name) for name, colour in zip(label_set.names, label_set.colours, strict=True))
    return element("ul", *items, class_="legend")


def named(label_set: LabelSet, index: int) -> Markup:
    """Return a class with its colour, for the first cell of a row."""
    return element("span", swatch(label_set.colours[index]), label_set.names[index], class_="name")


def percent(value: float | None) -> str:
    """Return a percentage for a table; a dash for None."""
    return "–" if value is None else f"{value:.2f}"
