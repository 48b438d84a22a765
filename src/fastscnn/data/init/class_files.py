"""Files beside the images that name the classes, with their ids and colours."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.formats import text as text_files
from fastscnn.data.init import known
from fastscnn.data.init.class_rows import NotClasses, Row
from fastscnn.data.init.class_tables import rows_of_json, rows_of_yaml
from fastscnn.data.init.class_text import rows_of_text
from fastscnn.data.init.survey import Survey
from fastscnn.model.label_set import IGNORE_INDEX

_MAX_BYTES = 1 << 20
_SUFFIXES = (".txt", ".csv", ".json", ".yaml", ".yml", ".names", ".tsv")
_NAMED = re.compile(r"class|label|name|palette|colou?r|code|categor|legend|_map|obj", re.IGNORECASE)
_MAYBE = re.compile(r"meta|data|config|map|notes", re.IGNORECASE)  # of files that may name classes among other things
_FILE = re.compile(r".*(?:/.*\.|\.(?:png|jpe?g|tiff?|bmp|gif|webp|npy|mat|json|xml|txt)$).*", re.IGNORECASE)
_SAID = 3  # files of which it is said why they are not used


@dataclass(frozen=True)
class ClassFile:
    """The classes that a file names, in its order."""

    path: str
    rows: tuple[Row, ...]

    @property
    def has_colours(self) -> bool:
        """Whether the file states the colour of each class."""
        return all(row.colour is not None for row in self.rows)

    @property
    def in_voc_order(self) -> bool:
        """Whether the colours are those of Pascal VOC's table, in its order."""
        return all(row.colour == known.voc_colour(place) for place, row in enumerate(self.rows))

    @property
    def is_grey(self) -> bool:
        """Whether the colours of all classes are grey."""
        return all(row.colour is not None and len(set(row.colour)) == 1 for row in self.rows)

    @property
    def has_ids(self) -> bool:
        """Whether the file states the id of each class."""
        return all(row.id is not None for row in self.rows)

    @property
    def by_id(self) -> dict[int, Row]:
        """Stored id -> class; {} if not all classes have one."""
        return {row.id: row for row in self.rows if row.id is not None} if self.has_ids else {}

    @property
    def by_train_id(self) -> dict[int, Row]:
        """Train id -> class, without those that are ignored; {} if two classes share one, or none has one."""
        rows = [row for row in self.rows if row.train_id is not None and 0 <= row.train_id < IGNORE_INDEX]
        found = {row.train_id: row for row in rows if row.train_id is not None}
        return found if len(found) == len(rows) else {}


def class_files(survey: Survey) -> tuple[list[ClassFile], list[str]]:
    """Return the files that name classes, those nearest to the root first; and sentences about others.

    Equal files are returned once. The sentences name files that cannot be read, or are not used.
    """
    found: dict[tuple[Row, ...], ClassFile] = {}
    unread, unused = [], []
    paths = [path for path in survey.of(*_SUFFIXES) if _is_named(path) or _MAYBE.search(PurePosixPath(path).stem)]
    for path in sorted(paths, key=lambda path: (path.count("/"), path))[:100]:
        try:
            rows = _read(survey.root / path)
        except NotClasses as reason:
            if _is_named(path) or path.lower().endswith(".json"):
                unused.append(f"{path} is not used for the names of classes: it {reason}.")
            continue
        except FastSCNNError as error:
            unread.append(f"Not read: {str(error).replace(str(survey.root / path), path, 1)} If it names the classes, run "
                          "`fastscnn dataset init --force` after that.")
            continue
        if rows:
            found.setdefault(rows, ClassFile(path, rows))
    return list(found.values()), [*unread, *unused[:_SAID]]


def rows_of(path: Path) -> tuple[Row, ...]:
    """Return the classes that a file names; () if it is no such file.

    Raises:
        FastSCNNError: a file in another encoding than UTF-8, or UTF-16 with a byte-order mark; or one that cannot be read.
    """
    try:
        return _read(path)
    except NotClasses:
        return ()


def _is_named(path: str) -> bool:
    """Return whether the name of a file says that it holds the names of classes, and little else."""
    return bool(_NAMED.search(PurePosixPath(path).stem)) or path.lower().endswith(".names")


def _read(path: Path) -> tuple[Row, ...]:
    """Return the classes that a file names; () if it is no such file.

    Raises:
        FastSCNNError: as `rows_of`.
        NotClasses: a file that seems to be one, but is not used, and the reason.
    """
    named = _is_named(path.name)
    try:
        if path.stat().st_size > _MAX_BYTES:
            return ()
        text = text_files.read(path)
        suffix = path.suffix.lower()
        if suffix == ".json":
            rows = rows_of_json(json.loads(text), named)
        else:
            rows = list(rows_of_yaml(text) if suffix in (".yaml", ".yml") else rows_of_text(text))
    except NotClasses:
        raise
    except (OSError, ValueError, RecursionError, csv.Error):
        return ()
    rows = [row for row in rows if row.name]
    if not 1 <= len(rows) <= IGNORE_INDEX + 1 or any(_no_name(row.name) for row in rows):
        return ()
    if any(_FILE.fullmatch(row.name) for row in rows):
        raise NotClasses("lists files")
    _refuse_twice("name", [row.name for row in rows])
    _refuse_twice("id", [row.id for row in rows if row.id is not None])
    is_plain = suffix not in (".json", ".yaml", ".yml") and all(row.id is None and row.colour is None for row in rows)
    return () if is_plain and not named else tuple(rows)


def _no_name(name: str) -> bool:
    return len(name) > 60 or not name.isprintable() or not any(character.isalpha() for character in name)


def _refuse_twice(what: str, stated: Iterable[object]) -> None:
    seen: set[object] = set()
    for one in stated:
        if one in seen:
            raise NotClasses(f"has the {what} {one!r} twice")
        seen.add(one)
