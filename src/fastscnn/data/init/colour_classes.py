"""The classes of label files in which each class has a colour."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.formats.colours import hexadecimal, number_of, unpack
from fastscnn.data.init import known
from fastscnn.data.init.class_files import ClassFile
from fastscnn.data.init.class_rows import Row
from fastscnn.data.init.guess import Classes
from fastscnn.data.init.sentences import LOSSY, NAMES, UNLABELLED, about_rest, absent, files_read, listed, spans
from fastscnn.data.init.values import Values
from fastscnn.model.label_set import IGNORE_INDEX, Colour

_COVERED = 0.5  # share of the pixels whose colours a file must name
_MOST_IDS = 64  # grey values below are ids rather than colours
_EXCHANGED = ("the label files hold the colours of {} with red and blue exchanged, as OpenCV orders them. The colours here are "
              "those of the label files; check the names.")
_RARE = 1e-3  # share of the pixels below which a colour is not taken for a class


def file_of_colours(values: Values, files: Sequence[ClassFile]) -> ClassFile | None:
    """Return the file that names the colours of most pixels, not counting black without a name; None if none does.

    If the label files were saved with red and blue exchanged, the file is returned with its colours exchanged.
    """
    seen = values.by_colour()
    shares = {}
    as_they_are = [file for file in files if file.has_colours]
    for file in (*as_they_are, *map(_exchanged, as_they_are)):
        named = {number_of(row.colour) for row in file.rows if row.colour}
        others = seen.total() - (0 if 0 in named else seen[0])
        shares[file] = sum(seen[packed] for packed in named) / max(1, others)
    best = max(shares, key=lambda file: (round(shares[file], 3), file in as_they_are, -len(file.path)), default=None)
    return best if best and shares[best] >= _COVERED else None


def _exchanged(file: ClassFile) -> ClassFile:
    return replace(file, rows=tuple(replace(row, colour=row.colour and row.colour[::-1]) for row in file.rows))


def of_colours(values: Values, files: Sequence[ClassFile]) -> Classes:
    """Return the classes of label files in which each class has a colour.

    Raises:
        FastSCNNError: the files are photographs or overlays, some hold ids and others colours, or no colour is a class.
    """
    seen = values.by_colour()
    file = file_of_colours(values, files)
    known_rows, source = (file.rows, file.path) if file else _of_palette(values)
    frequent = [packed for packed, count in seen.most_common() if count / max(1, seen.total()) >= _RARE]
    if not known_rows:
        _refuse_photographs(values, len(seen), 1 - sum(seen[packed] for packed in frequent) / max(1, seen.total()))
    rows, twins = _distinct(known_rows)
    named = {number_of(row.colour) for row in known_rows if row.colour}
    _refuse_mixed(values, named)
    ignored = {number_of(row.colour): row.name for row in rows if row.colour and row.ignored}
    if (border := number_of(known.VOC_BORDER)) in seen and border not in named and len(seen) > 2:
        ignored[border] = "border"
    black = bool(named) and [packed for packed in frequent if packed not in named and packed not in ignored] == [0]
    share = seen[0] / seen.total()
    if black and share <= UNLABELLED:
        ignored[0] = "black"
    elif black and not any(row.name == "background" for row in rows):
        rows = [Row("background", None, (0, 0, 0)), *rows]
        named.add(0)
    unnamed = [packed for packed in sorted(frequent) if packed not in named and packed not in ignored]
    rows = [*(row for row in rows if not row.ignored), *(Row(hexadecimal(packed), None, unpack(packed)) for packed in unnamed)]
    rare = [packed for packed in seen if packed not in named and packed not in ignored and packed not in frequent]
    if not rows:
        raise FastSCNNError("no colour of the label files is a class.")
    order = ", in the order of Pascal VOC's table" if file and file.in_voc_order else ""
    by = f"; {source} names {'some of ' if unnamed else ''}them{order}." if source else "."
    left_open = [_EXCHANGED.format(file.path)] if file and file not in files else []
    guessed = [f"The colours of the label files are classes ({files_read(values)}){by}"]
    guessed += [f"{row.name} has the colour of another class, and is left out." for row in twins]
    guessed += absent(row.name for row in rows if row.colour and number_of(row.colour) not in seen)
    guessed += [about_rest("Black", share)] if black else []
    if values.palettes_differ:
        guessed.append("The palettes of the label files differ, so each file is decoded by its own colours.")
    if ignored:
        guessed.append(f"Pixels of {listed(f'{name} {hexadecimal(packed)}' for packed, name in ignored.items())} are ignored.")
    return Classes(
        tuple(row.name for row in rows), "colours", tuple(row.colour for row in rows if row.colour),
        map={",".join(map(str, unpack(packed))): "ignore" for packed in ignored}, guessed=tuple(guessed),
        left_open=(*left_open, *_left_open(values, unnamed, rare)),
    )  # fmt: skip


def _distinct(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Return the rows with a colour, and those whose colour an earlier one has."""
    first: dict[Colour, Row] = {}
    for row in rows:
        if row.colour:
            first.setdefault(row.colour, row)
    return list(first.values()), [row for row in rows if row.colour and first[row.colour] is not row]


def _left_open(values: Values, unnamed: Sequence[int], rare: Sequence[int]) -> Iterator[str]:
    if unnamed:
        yield f"no file names the colours {listed(map(hexadecimal, unnamed))}; {NAMES}."
    if values.lossy:
        yield LOSSY
    elif rare:
        yield (f"{len(rare)} other colours are rare, such as {hexadecimal(rare[0])}, and no class; they are ignored, and "
               "`fastscnn check` lists them. Save label files without blended edges, or add the classes.")


def _of_palette(values: Values) -> tuple[tuple[Row, ...], str]:
    """Return the classes whose colours a known dataset has, and its name."""
    seen = values.by_colour()
    for name, palette in known.PALETTES.items():
        packed = {number_of(colour): text for colour, text in palette.items()}
        found = [colour for colour in seen if colour in packed]
        if len(found) >= 4 and sum(seen[colour] for colour in found) >= 0.95 * seen.total():
            return tuple(Row(text, None, colour) for colour, text in palette.items()), f"the palette of {name}"
    return (), ""


def _refuse_mixed(values: Values, named: Collection[int]) -> None:
    """Refuse label files of which some hold ids, and others colours."""
    for path, found in values.grey.items():
        ids = sorted(value for value in found if value != IGNORE_INDEX)
        if ids and 0 < max(ids) < _MOST_IDS and any(number_of((value,) * 3) not in named for value in ids if value):
            raise FastSCNNError(f"{path} holds the grey values {spans(ids)}, as ids, and other label files hold colours; save "
                                "all of them as ids, or all as colours.")


def _refuse_photographs(values: Values, count: int, lost: float) -> None:
    if count > IGNORE_INDEX and (lost > (0.3 if values.lossy else 0.1) or values.flat < 0.5):
        what = "JPEGs, whose compression changes colours" if values.lossy else "overlays or photographs"
        raise FastSCNNError(f"the files hold {count} colours, so they are no label images, maybe {what}; export the labels as "
                            "PNG, as ids or as one colour for each class.")
