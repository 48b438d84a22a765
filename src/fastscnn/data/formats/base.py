"""What a label format is: how the label file of an image becomes train ids."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy.typing as npt

from fastscnn.base.types import Float64Array, UInt8Array
from fastscnn.data.formats.listing import Listing
from fastscnn.media.windows import Box, cropped
from fastscnn.model.label_set import IGNORE_INDEX, LabelSet

Geometry = TypeVar("Geometry")


@dataclass(frozen=True, eq=False)
class Decoded:
    """The labels of one image.

    Attributes:
        labels: train ids, uint8 [H, W]; 255 where a pixel is ignored, and where it is of no class.
        stored: the decoded content of the file, of any type and [H, W, ...]: it identifies the labels before their mapping.
        unknown: what is stored but is of no class: ids and colours with their number of pixels, names with their number of
            shapes.
    """

    labels: UInt8Array
    stored: npt.NDArray[Any]
    unknown: Mapping[str, int] = field(default_factory=dict)


class LabelFormat(ABC):
    """A format of label files. It is plain data, so that a dataset can be compared, pickled and sent to processes.

    Attributes:
        unknown: what unknown content is called in findings: "ids", "colours" or "names".
        lenient: whether pixels of unknown content are ignored (and found by `check`); otherwise they are an error.
        of_many: whether a label file may hold the labels of many images.
    """

    unknown: ClassVar[str] = "ids"
    lenient: ClassVar[bool] = False
    of_many: ClassVar[bool] = False

    @abstractmethod
    def read(self, labels: Path, image: Path, label_set: LabelSet) -> Decoded:
        """Read the labels of one image.

        Args:
            labels: the label file.
            image: the image file, by whose name the labels are found in such a file.
            label_set: the classes, and the mapping from stored ids.

        Raises:
            FastSCNNError: a file that is missing, truncated or malformed, or has no labels for the image.
        """

    def read_window(self, labels: Path, image: Path, label_set: LabelSet, box: Box) -> Decoded:
        """Read the labels of a window of an image; formats of pixels read no more than that where the file allows.

        Raises:
            FastSCNNError: as `read`; also labels of another size than the image.
        """
        whole = self.read(labels, image, label_set)
        drawn, stored = (cropped(pixels, labels, box) for pixels in (whole.labels, whole.stored))
        return Decoded(drawn, stored, whole.unknown)

    def other_image(self, labels: Path, image: Path) -> Path | None:
        """Return the image that the label file names, if it exists and is another one than `image`; else None.

        Args:
            labels, image: as of `read`, which has read them without an error.
        """
        return None

    def files(self, labels: Path, image: Path) -> tuple[Path, ...]:
        """Return the files that `read` reads for one image: the label file, then others beside it. The image is left out.

        Raises:
            FastSCNNError: as `read`.
        """
        return (labels,)

    def listing(self, labels: Path) -> Listing[Any] | None:
        """Return the images that a label file of many images lists; None for other formats.

        Raises:
            FastSCNNError: as `read`.
        """
        return None


@dataclass(frozen=True)
class Contents:
    """What a label file contains, whether its names are classes of a dataset or not.

    Attributes:
        names: stored name -> number of its shapes; 0 for a name that is declared but not used.
        images: the image names that the file lists; () if it holds the labels of one image.
    """

    names: Mapping[str, int]
    images: tuple[str, ...] = ()


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
class Shapes(LabelFormat):
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

    @abstractmethod
    def outlines(self, labels: Path, image: Path, size: tuple[int, int]) -> Iterator[tuple[str, Float64Array]]:
        """Yield the place of each shape of an image, and the corners of a polygon or box, float64 [N, 2] of x and y in pixels.

        Other shapes have no corners: N is 0.

        Args:
            labels, image: as of `read`, which has read them without an error.
            size: (height, width) of the labels.
        """

    def layers(self, shapes: Iterable[Shape[Geometry]]) -> tuple[list[tuple[int, Geometry]], dict[str, int]]:
        """Return (train id, geometry) of shapes, the lowest first; and each name of no class with its number of shapes."""
        level = {name: place for place, name in enumerate(self.order)}
        ordered = sorted(shapes, key=lambda shape: level.get(shape.name, -1))
        rest = IGNORE_INDEX if self.rest is None else self.rest
        unknown = Counter(shape.name for shape in ordered if self.rest is None and shape.name not in self.ids)
        return [(self.ids.get(shape.name, rest), shape.geometry) for shape in ordered], dict(unknown)
