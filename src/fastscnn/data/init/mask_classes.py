"""The classes of label files that are masks: 0, and one other value."""

from __future__ import annotations

from collections.abc import Sequence

from fastscnn.data.init.class_files import ClassFile
from fastscnn.data.init.guess import Classes
from fastscnn.data.init.sentences import NAMES, files_read, ignored, listed, number
from fastscnn.data.init.values import Values

BLENDED = 0.9  # least share of 0 and 255 in an antialiased mask
_TOPS = (1, 255, 65535)  # values of the second class
_MOST_COLOURS = 64  # of label files whose colours are classes although they have transparent parts


def of_masks(values: Values, files: Sequence[ClassFile]) -> Classes | None:
    """Return the two classes of masks: 0, and 1, 255, 65535 or, if a file gives two names, any other value.

    Antialiased masks, and those of which some hold 1 and others 255, are masks too. None for other label files.
    """
    void = sorted(value for value in values.counts if value < 0)
    seen = set(values.counts) - set(void)
    mixed = seen == {0, 1, 255} and not any({1, 255} <= one for one in values.sets)
    blended = _blended(values)
    plain = len(seen) == 2 and 0 in seen and (max(seen) in _TOPS or any(_two_names(file, max(seen)) for file in files))
    if not plain and not blended and not (mixed and not void):
        return None
    if seen == {0, 1} and any(len(file.rows) > 2 for file in files):
        return None  # more classes exist; the sample holds two of them
    stored = "some of 0 and 1, others of 0 and 255" if mixed else "0 and 255" if blended else f"0 and {max(seen)}"
    guessed = [f"The label files are masks of two classes, {stored} ({files_read(values)})."]
    if values.lossy:
        guessed.append("The masks are JPEGs; values from 128 upward are the second class. PNG keeps edges exact.")
    elif blended:
        guessed.append("Values between, as of antialiased edges, belong to the nearer class.")
    names, left_open = _names(files, max(seen), guessed)
    if void or (plain and max(seen) not in (1, 255)):  # labels_are = "binary" reads values from 128 to 255 as the second class
        guessed += [ignored(void)] if void else []
        mapped = {str(value): "ignore" for value in void} | {"0": names[0], str(max(seen)): names[1]}
        return Classes(names, map=mapped, guessed=tuple(guessed),
                       left_open=tuple(said.replace("`classes`", "`classes` and in [map]") for said in left_open))
    return Classes(names, "binary", guessed=tuple(guessed), left_open=left_open)


def of_alpha(values: Values, files: Sequence[ClassFile], named: bool) -> Classes | None:
    """Return the two classes of masks in the alpha channel, of a photograph or of one colour; None for other label files.

    Args:
        values: what a sample of the label files holds.
        files: the files that name classes.
        named: whether a file names the colours.
    """
    if not values.transparent or (len(values.counts) > 1 and (named or len(values.counts) <= _MOST_COLOURS)):
        return None
    guessed = [f"The label files have transparent parts and hold {number(len(values.counts), 'colour')} "
               f"({files_read(values)}), so the alpha channel is taken as a mask of two classes. Transparent parts come first."]
    names, left_open = _names(files, 255, guessed)
    return Classes(names, "binary", keys={"channel": "alpha"}, guessed=tuple(guessed), left_open=left_open)


def _names(files: Sequence[ClassFile], top: int, guessed: list[str]) -> tuple[tuple[str, str], tuple[str, ...]]:
    """Return the names of the two classes, and what is left open about them; add to `guessed` which file gives them."""
    for file in files:
        if two := _two_names(file, top):
            by = " by the ids that it states" if file.has_ids else ", that of 0 first"
            guessed.append(f"{file.path} names the classes{by}.")
            return two, ()
    unfit = "no file names the two classes"
    if files:
        unfit = f"the classes of {listed(file.path for file in files)} do not fit the masks"
    return ("background", "foreground"), (f"{unfit}; {NAMES}, that of 0 first.",)


def _blended(values: Values) -> bool:
    """Return whether nearly all values are those of a mask, and the others lie between, as at antialiased edges."""
    seen = set(values.counts)
    if len(seen) <= 8 or min(seen) < 0 or max(seen) > 255 or values.share(*range(4), *range(252, 256)) < BLENDED:
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
