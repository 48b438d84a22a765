"""The classes of label files that are masks: 0, and one other value."""

from __future__ import annotations

from collections.abc import Sequence

from fastscnn.data.init.class_files import ClassFile
from fastscnn.data.init.guess import Classes
from fastscnn.data.init.sentences import NAMES, files_read, listed
from fastscnn.data.init.values import Values

_BLENDED = 0.9  # least share of 0 and 255 in an antialiased mask
_TOPS = (1, 255, 65535)  # values of the second class


def of_masks(values: Values, files: Sequence[ClassFile]) -> Classes | None:
    """Return the two classes of masks of 0 and 1, 255 or 65535, antialiased or mixed ones too; None for other label files."""
    void = sorted(value for value in values.counts if value < 0)
    seen = set(values.counts) - set(void)
    mixed = seen == {0, 1, 255} and not any({1, 255} <= one for one in values.sets)
    blended = _blended(values)
    if not (len(seen) == 2 and 0 in seen and max(seen) in _TOPS) and not blended and not (mixed and not void):
        return None
    if seen == {0, 1} and any(len(file.rows) > 2 for file in files):
        return None  # more classes exist; the sample holds two of them
    stored = "some of 0 and 1, others of 0 and 255" if mixed else "0 and 255" if blended else f"0 and {max(seen)}"
    guessed = [f"The label files are masks of two classes, {stored} ({files_read(values)})."]
    if values.lossy:
        guessed.append("The masks are JPEGs; values from 128 upward are the second class. PNG keeps edges exact.")
    elif blended:
        guessed.append("Values between, as of antialiased edges, belong to the nearer class.")
    names, left_open = ("background", "foreground"), f"no file names the two classes; {NAMES}, that of 0 first."
    if found := next(((two, file) for file in files if (two := _two_names(file, max(seen)))), None):
        names, left_open = found[0], ""
        guessed.append(f"{found[1].path} names the classes.")
    if void or max(seen) > 255:  # labels_are = "binary" reads 0 to 255
        guessed += [f"{listed(void)} {'is' if len(void) == 1 else 'are'} ignored."] if void else []
        mapped = {str(value): "ignore" for value in void} | {"0": names[0], str(max(seen)): names[1]}
        return Classes(names, map=mapped, guessed=tuple(guessed),
                       left_open=(left_open.replace("`classes`", "`classes` and in [map]"),) if left_open else ())
    return Classes(names, "binary", guessed=tuple(guessed), left_open=(left_open,) if left_open else ())


def _blended(values: Values) -> bool:
    """Return whether nearly all values are those of a mask, and the others lie between, as at antialiased edges."""
    seen = set(values.counts)
    if len(seen) <= 8 or min(seen) < 0 or max(seen) > 255 or values.share(*range(4), *range(252, 256)) < _BLENDED:
        return False
    return (255 in seen and any(200 < value < 255 for value in seen)) or (values.lossy and max(seen) > 200)


def _two_names(file: ClassFile, top: int) -> tuple[str, str] | None:
    """Return the names of 0 and of the other value that a file gives; None if it gives other classes."""
    rows = sorted(file.rows, key=lambda row: row.id or 0) if file.has_ids else list(file.rows)
    if file.has_colours or len(rows) not in (1, 2) or (len(rows) == 2 and file.has_ids and rows[1].id not in (1, top)):
        return None
    if len(rows) == 1:
        return None if rows[0].name.lower() == "background" else ("background", rows[0].name)
    return rows[0].name, rows[1].name
