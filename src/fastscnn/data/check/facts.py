"""Facts about one image and its labels: what the check of a dataset is made of."""

from __future__ import annotations

from dataclasses import dataclass

from fastscnn.data.check.findings import Severity


@dataclass(frozen=True)
class Remark:
    """One problem of a pair; it becomes a Finding once its split is known."""

    severity: Severity
    of_labels: bool  # whether the problem is in the label file
    kind: str
    message: str
    fix: str


@dataclass(frozen=True)
class Facts:
    """Result of reading one pair.

    Attributes:
        remarks: its problems.
        image: sha256 of the decoded pixels; "" if the image cannot be read.
        labels: sha256 of the decoded ids; "" if the labels cannot be read.
        pixels: pixels of each class.
        ignored: ignored pixels.
        unknown: pixels of no class, where the format ignores them, too; `ignored` includes them then.
        size: (height, width) of the image, upright and without crop; (0, 0) if it cannot be read.
        values: the stored ids, each once; () for other formats, and for more than 256 ids.
        palette: (index, "#rrggbb") of the indices that an indexed file uses and that are not ignored; () if the file was
            decoded by its palette.
        names: (name, number of shapes) of the names of no class, in a format of shapes.
        outlines: see `outlines.odd_outlines`.
        soft: sha256 of the soft labels; "" if there are none.
    """

    remarks: tuple[Remark, ...]
    image: str
    labels: str
    pixels: tuple[int, ...]
    ignored: int
    unknown: int
    size: tuple[int, int]
    values: tuple[int, ...]
    palette: tuple[tuple[int, str], ...]
    names: tuple[tuple[str, int], ...] = ()
    outlines: tuple[tuple[str, int, str], ...] = ()
    soft: str = ""
