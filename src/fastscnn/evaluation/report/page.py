"""page: HTML elements, and the one page that holds them with its style; text is escaped wherever it comes in."""

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
from fastscnn.media import images
from fastscnn.model.label_set import Colour, LabelSet
from fastscnn.version import __version__

PAGE = "index.html"  # in the folder of a report
_GENERATOR = "fastscnn report"  # by which we know a page of ours
_MARK = f'<meta name="generator" content="{_GENERATOR}">'.encode()
_MARKED_WITHIN = 1024  # bytes
_VOID = frozenset({"img", "meta"})
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # the page can fetch nothing, whatever is in it
_QUALITY = 72  # of JPEG: by eye, edges of labels stay clear at the size of the page
_BRIEF = 6  # names and values that are shown without being asked for


class Markup(str):
    """HTML as it stands; every other text is escaped where it enters an element."""

    __slots__ = ()


@dataclass(frozen=True)
class Section:
    """A part of a page, with its heading."""

    heading: str
    body: Sequence[Markup]


def element(name: str, /, *children: str, **attributes: object) -> Markup:
    """An HTML or SVG element.

    Args:
        name: of the element.
        children: `Markup` as it stands, other text escaped.
        attributes: `class_` stands for class, `text_anchor` for text-anchor, and so on.
    """
    given = "".join(f' {key.strip("_").replace("_", "-")}="{escape(str(value))}"' for key, value in attributes.items())
    return Markup(f"<{name}{given}>" if name in _VOID else f"<{name}{given}>{join(children)}</{name}>")


def join(parts: Iterable[str]) -> Markup:
    """The parts one after the other, those that are no `Markup` escaped."""
    return Markup("".join(part if isinstance(part, Markup) else escape(part) for part in parts))


def page(title: str, lead: str, tiles: Sequence[tuple[str, str, str]], sections: Sequence[Section]) -> str:
    """The whole page.

    Args:
        title: its heading.
        lead: a sentence below it.
        tiles: (what, figure, unit) of the figures that stand at the top.
        sections: the rest, in order; those without a body are left out.
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
    """Raises FastSCNNError where another's file stands at `path`: only pages of ours are replaced."""
    try:
        with path.open("rb") as file:
            ours = _MARK in file.read(_MARKED_WITHIN)
    except FileNotFoundError:
        return
    except OSError as error:
        raise FastSCNNError(f"{path}: cannot be read ({error.strerror}); take another folder.") from error
    if not ours:
        raise FastSCNNError(f"{path}: is there and is no report of fastscnn; it is kept, so take another folder.")


def write(path: Path, text: str) -> None:
    """Writes a page in one piece. Raises FastSCNNError where that cannot be, or where `check_ours` does."""
    check_ours(path)
    files.write(path, text.encode())


def table(head: Sequence[str], rows: Iterable[Sequence[str]], foot: Sequence[str] = (), *, words: int = 1) -> Markup:
    """A table whose first `words` columns are text and the others figures; the first cell of a row is its heading."""

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
    """Names and values as a table; values that have names of their own are fused away until they are asked for."""
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
    """An image, uint8 [H, W, 3] RGB, as a JPEG inside the page, `alt` for those who do not see it."""
    height, width = image.shape[:2]
    data = f"data:image/jpeg;base64,{base64.b64encode(images.jpeg(image, _QUALITY)).decode()}"
    drawn = element("img", src=data, alt=alt, width=width, height=height, decoding="async")
    return element("figure", drawn, element("figcaption", caption)) if caption else element("figure", drawn)


def swatch(colour: Colour) -> Markup:
    """A small field of a colour."""
    return element("span", class_="swatch", style=f"background:rgb({', '.join(map(str, colour))})")


def legend(label_set: LabelSet) -> Markup:
    """The classes with their colours."""
    items = (element("li", swatch(colour), name) for name, colour in zip(label_set.names, label_set.colours, strict=True))
    return element("ul", *items, class_="legend")


def named(label_set: LabelSet, index: int) -> Markup:
    """A class with its colour, for the head of a row."""
    return element("span", swatch(label_set.colours[index]), label_set.names[index], class_="name")


def percent(value: float | None) -> str:
    """A figure in percent as tables show it; a dash where there is none."""
    return "–" if value is None else f"{value:.2f}"
