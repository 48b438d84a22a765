"""Copy the pages of the repository, and what they link to, to the folder that the site is built from.

Each file keeps its path, so a relative link works in the repository and on the site. The project has no address that the site
could link to: files that are no pages, such as source code, and folders become pages of the site.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
_FENCE = re.compile(r"^(`{3,}).*?^\1`*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)\s#]+)")  # of [text](target#place): the target, if it is no address
_COPIED = {".css", ".jpg", ".png", ".svg", ".webp"}
_LANGUAGES = {
    ".c": "c", ".cpp": "cpp", ".h": "c", ".js": "js", ".json": "json", ".mjs": "js", ".py": "python", ".toml": "toml",
    ".yaml": "yaml",
}
_MOST_BYTES = 1 << 17  # of a file that is shown; longer ones are data
_NOT_SEARCHED = "---\nsearch:\n  exclude: true\n---\n\n"  # the search finds text, not code


class DeadLinkError(Exception):
    """A link to a file that does not exist, or that lies outside the repository."""


def stage(out: Path, root: Path = ROOT) -> set[Path]:
    """Write the README, docs/*.md, and all that they link to, into a folder.

    Args:
        out: the folder.
        root: the repository.

    Returns:
        The files, relative to the repository; folders among them.

    Raises:
        DeadLinkError: see there.
    """
    waiting = [root / "README.md", *sorted(root.glob("docs/*.md")), root / "website" / "site.css"]
    staged: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path.relative_to(root) not in staged:
            staged.add(path.relative_to(root))
            waiting += _write(path, out, root)
    return staged


def links(page: Path, root: Path = ROOT) -> Iterator[Path]:
    """Yield the files and folders of the repository that a page links to.

    Raises:
        DeadLinkError: see there.
    """
    for text in _FENCE.sub("", page.read_text(encoding="utf-8")).splitlines():
        for target in _LINK.findall(text):
            yield _target(page, target, root)


def _target(page: Path, target: str, root: Path) -> Path:
    path = Path(os.path.normpath(page.parent / target))
    if not path.exists() or not path.is_relative_to(root):
        raise DeadLinkError(f"{page.relative_to(root)}: links to {target}, which is no file of the repository; correct it.")
    return path


def _write(path: Path, out: Path, root: Path) -> list[Path]:
    """Write a file or folder; return what it links to."""
    place = out / _page_of(path, root).relative_to(root)
    place.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in _COPIED:
        shutil.copyfile(path, place)
        return []
    if path.is_dir():
        readme = path / "README.md"
        return [readme] if readme.exists() else _write_folder(path, place, root)
    if path.suffix != ".md":
        place.write_text(f"{_NOT_SEARCHED}# `{path.relative_to(root)}`\n\n{_fenced(path)}\n", encoding="utf-8")
        return []

    def staged(match: re.Match[str]) -> str:
        page = _page_of(_target(path, match[0], root), root)
        return Path(os.path.relpath(page, _page_of(path, root).parent)).as_posix()

    text, end, parts = path.read_text(encoding="utf-8"), 0, []
    for fence in _FENCE.finditer(text):
        parts += [_LINK.sub(staged, text[end : fence.start()]), fence[0]]
        end = fence.end()
    place.write_text("".join([*parts, _LINK.sub(staged, text[end:])]), encoding="utf-8")
    return list(links(path, root))


def _page_of(path: Path, root: Path) -> Path:
    """Return the file of the site that stands for a file or folder, as a path in the repository.

    The site has no hidden pages: `.ci/run` becomes `dot.ci/run.md`.
    """
    if path.is_dir() or path.name == "README.md":
        page = (path if path.is_dir() else path.parent) / "index.md"
    else:
        page = path if path.suffix in {".md", *_COPIED} else path.with_name(f"{path.name}.md")
    return root.joinpath(*(f"dot{part}" if part.startswith(".") else part for part in page.relative_to(root).parts))


def _write_folder(path: Path, place: Path, root: Path) -> list[Path]:
    """Write a page that lists a folder; return the files that it links to."""
    files, lines = [], []
    for entry in sorted(path.iterdir(), key=lambda entry: (entry.is_file(), entry.name)):
        if entry.is_dir() and not entry.name.startswith((".", "__")):
            lines.append(f"- `{entry.name}/`")
        elif entry.is_file() and _is_shown(entry):
            files.append(entry)
            lines.append(f"- [`{entry.name}`]({_page_of(entry, root).name})")
    title = f"# `{path.relative_to(root)}/`"
    place.write_text("\n".join([_NOT_SEARCHED + title, "", *lines, ""]), encoding="utf-8")
    return files


def _is_shown(path: Path) -> bool:
    """Return whether a file is text, and no data."""
    if path.name.startswith(".") or path.stat().st_size > _MOST_BYTES:
        return False
    try:
        path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _fenced(path: Path) -> str:
    """Return the content of a text file as a block of code."""
    text = path.read_text(encoding="utf-8")
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{_LANGUAGES.get(path.suffix, 'text')}\n{text.rstrip()}\n{fence}"
