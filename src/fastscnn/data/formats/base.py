"""What a label format is: how the label file of an image becomes train ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy.typing as npt

from fastscnn.base.errors import FastSCNNError, unknown
from fastscnn.base.types import UInt8Array
from fastscnn.data.formats.listing import Listing
from fastscnn.model.label_set import IGNORE_INDEX, LabelSet

Geometry = TypeVar("Geometry")


@dataclass(frozen=True, eq=False)
class Decoded:
    """The labels of one image.

    Attributes:
        labels: train ids, uint8 [H, W]; 255 where a pixel is ignored, and where it is of no class.
        stored: the decoded content of the file, of any type and [H, W, ...]: it identifies the labels before their mapping.
        unknown: what is stored but is of no class (an id, a colour or a name), with its number of pixels.
    """

    labels: UInt8Array
    stored: npt.NDArray[Any]
    unknown: Mapping[str, int] = field(default_factory=dict)


class LabelFormat(Protocol):
    """A format of label files. It is plain data, so that a dataset can be compared, pickled and sent to processes.

    Attributes:
        unknown: what unknown content is called in findings: "ids", "colours" or "names".
        lenient: whether pixels of unknown content are ignored (and found by `check`); otherwise they are an error.
    """

    unknown: ClassVar[str]
    lenient: ClassVar[bool]

    def read(self, labels: Path, image: Path, label_set: LabelSet) -> Decoded:
        """Read the labels of one image.

        Args:
            labels: the label file. One file may hold the labels of many images.
            image: the image file, by whose name the labels are found in such a file.
            label_set: the classes, and the mapping from stored ids.

        Raises:
            FastSCNNError: a file that is missing, truncated or malformed, or has no labels for the image.
        """
        ...


@dataclass(frozen=True)
class Contents:
    """What a label file contains, whether its names are classes of a dataset or not.

    Attributes:
        names: stored name -> number of its shapes; 0 for a name that is declared but not used.
        images: the image names that the file lists; () if it holds the labels of one image.
        listing: finds the name in `images` of an image file, as `LabelFormat.read` does; None if `images` is ().
    """

    names: Mapping[str, int]
    images: tuple[str, ...] = ()
    listing: Listing[str] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Shape(Generic[Geometry]):
    """A shape of a label file.

    Attributes:
        place: what errors call it, such as "shape 3".
        name: its stored name.
        geometry: its outline or mask, in the form of its format.
    """

    place: str
    name: str
    geometry: Geometry


@dataclass(frozen=True)
class Shapes:
    """What all formats of shapes (polygons, masks) share. Later shapes lie over earlier ones.

    Attributes:
        ids: stored name -> train id; 255 is ignored.
        background: train id of pixels without a shape; 255 ignores them.
        order: stored names, the lowest first: shapes are drawn in this order of their names, and within a name in the order
            of the file. () keeps the order of the file. A name that is not listed lies below all others.
        rest: train id of names that are not in `ids`; None makes them an error.
    """

    ids: Mapping[str, int]
    background: int = IGNORE_INDEX
    order: tuple[str, ...] = ()
    rest: int | None = None

    unknown: ClassVar[str] = "names"
    lenient: ClassVar[bool] = False
    of_many: ClassVar[bool] = False

    def layers(self, path: Path, shapes: Iterable[Shape[Geometry]]) -> list[tuple[int, Geometry]]:
        """Return (train id, geometry) of the shapes of the file `path`, the lowest first.

        Raises:
            FastSCNNError: a name that is not in `ids`; it names the nearest one.
        """
        level = {name: place for place, name in enumerate(self.order)}
        ordered = sorted(shapes, key=lambda shape: level.get(shape.name, -1))
        return [(self._train_id(path, shape), shape.geometry) for shape in ordered]

    def _train_id(self, path: Path, shape: Shape[Any]) -> int:
        if shape.name not in self.ids:
            if self.rest is not None:
                return self.rest
            raise FastSCNNError(f"{path}: {shape.place}: {unknown('name', shape.name, self.ids)} "
                                "Correct it, or add it to [map] in dataset.toml.")
        return self.ids[shape.name]
