"""Label Studio's JSON export, and its PNG masks beside it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeGuard
from urllib.parse import unquote

import numpy as np

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import BoolArray, Float64Array, UInt8Array
from fastscnn.data.formats import brush, rasterise, text
from fastscnn.data.formats.base import Contents, Decoded, Shape, Shapes
from fastscnn.data.formats.geometry import Size, is_coordinate, is_whole, points, size
from fastscnn.data.formats.listing import Listing
from fastscnn.media import images
from fastscnn.media.decoding import SUFFIXES, embedded
from fastscnn.model.label_set import LabelSet

_LABELS = ("brushlabels", "polygonlabels", "labels")  # keys that hold the names of a region
_OF_THE_IMAGE = ("choices", "textarea", "rating", "number", "datetime", "taxonomy", "pairwise")  # results without a region
_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")  # what Label Studio puts before the name of an uploaded file
_MASK_FILE = re.compile(r"task-(\d+)-annotation-(\d+)-by-([^-]*)-(.+)-(\d+)\.png")

_Shape = Shape[Callable[[UInt8Array, int], None]]  # geometry: a function that draws on labels with a value


@dataclass(frozen=True)
class LabelStudioLabels(Shapes):
    """Label Studio's export "JSON": brushes, and polygons drawn as in its COCO export. Polygons need the extra `formats`.

    A name is the label of a region. Regions lie over each other in the order of the file. A brush covers the pixels
    whose opacity is over 0. If the file has no regions of a task, they are read from masks of the export "PNG" in its folder,
    `task-ID-annotation-N-by-U-TAG-NAME-K.png`, which lie over each other in the order of their names.
    """

    of_many: ClassVar[bool] = True

    def read(self, labels: Path, image: Path, label_set: LabelSet) -> Decoded:
        """Read the labels of one image; see `LabelFormat`. The parsed file is kept for the next image."""
        task = self.listing(labels).find(image)
        shapes, extent = _regions(labels, task)
        if not shapes:
            shapes, extent = _mask_files(labels, task, tuple(self.ids))
        if not shapes and task.results is None:
            raise FastSCNNError(f"{labels}: the task {task.number} has no annotation; annotate it, or remove its image {image} "
                                "from the split.")
        drawn = np.full(extent or images.size(image), self.background, np.uint8)
        layers, unknown = self.layers(shapes)
        for value, draw in layers:
            draw(drawn, value)
        return Decoded(drawn, drawn, unknown)

    def files(self, labels: Path, image: Path) -> tuple[Path, ...]:
        """Return the label file, and the masks beside it that are read for an image; see `LabelFormat.files`."""
        task = self.listing(labels).find(image)
        masks = () if task.results else _masks_of(labels, task)
        return (labels, *(labels.parent / mask.string for mask in masks))

    def listing(self, labels: Path) -> Listing[_Task]:
        """Return the images that a file lists; see `LabelFormat.listing`."""
        return _parsed(labels)

    def outlines(self, labels: Path, image: Path, size: tuple[int, int]) -> Iterator[tuple[str, Float64Array]]:
        """Yield the polygons of an image; see `Shapes.outlines`."""
        task = self.listing(labels).find(image)
        for number, result in enumerate(task.results or ()):
            corners = np.array(result["value"].get("points", []), np.float64).reshape(-1, 2)
            yield _place(task, number), corners / 100 * size[::-1]


def contents(path: Path) -> Contents:
    """Return the labels and images of a file; uploaded images have their original names. Raises like `LabelStudioLabels.read`.

    The labels of masks beside the file are not counted: see `mask_names`.
    """
    tasks = _parsed(path).entries
    names = Counter(shape.name for task in tasks for shape in _regions(path, task)[0])
    return Contents(names, tuple(task.names[-1] for task in tasks))


def mask_names(path: Path) -> Counter[str]:
    """Return the names in the file names of the masks beside a file, each with its number of masks.

    The tag and the name are joined by "-": the name is taken to begin behind the first one.
    """
    return Counter(_names_of(mask)[0] for masks in _mask_files_in(path.parent).values() for mask in masks)


@dataclass(eq=False)
class _Task:
    """A task: its id, the names that its image may have, and the results of its annotation, None if it has none."""

    number: int
    names: tuple[str, ...]
    results: list[dict[str, Any]] | None


@text.once_per_file
def _parsed(path: Path) -> Listing[_Task]:
    tasks: dict[int, _Task] = {}
    for number, thing in enumerate(text.read_json(path, list)):
        if not isinstance(thing, dict) or not is_whole(thing.get("id")) or not isinstance(thing.get("data"), dict):
            raise FastSCNNError(f'{path}: task {number} has no id or no data; export it as "JSON", not as "JSON-MIN".')
        task = _Task(thing["id"], _image_names(path, thing), _results(path, thing))
        if tasks.setdefault(task.number, task) is not task:
            raise FastSCNNError(f"{path}: two tasks have the id {task.number}; keep one.")
    count = Counter(name for task in tasks.values() for name in task.names)
    listed = ((name, task) for task in tasks.values() for name in task.names if name == task.names[0] or count[name] == 1)
    return Listing(path, listed)


def _image_names(path: Path, thing: dict[str, Any]) -> tuple[str, ...]:
    """Return the stored path of the image of a task, and the path with the original name of an uploaded file."""
    data = thing["data"]
    found = [data["image"]] if "image" in data else [
        value for value in data.values() if isinstance(value, str) and Path(unquote(value)).suffix.lower() in SUFFIXES
    ]
    if len(found) != 1 or not isinstance(found[0], str):
        count = len(found) if len(found) > 1 else "no"
        raise FastSCNNError(f"{path}: the task {thing['id']} has {count} images in its data, not one; export it again.")
    stored = unquote(found[0].rpartition("?d=")[2])
    folder, slash, base = stored.rpartition("/")
    original = folder + slash + _UPLOADED.sub("", base, count=1)
    return tuple(dict.fromkeys((stored, original)))


def _results(path: Path, thing: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Return the results of the only annotation of a task that is not cancelled; None if it has none."""
    given = thing.get("annotations", [])
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise FastSCNNError(f"{path}: the annotations of the task {thing['id']} are not a list of objects; export it again.")
    made = [one for one in given if not one.get("was_cancelled")]
    if len(made) > 1:
        raise FastSCNNError(f"{path}: the task {thing['id']} has {len(made)} annotations; keep one in Label Studio.")
    if not made:
        return None
    results = made[0].get("result")
    if not isinstance(results, list) or not all(isinstance(one, dict) and isinstance(one.get("type"), str) for one in results):
        raise FastSCNNError(f"{path}: the result of the task {thing['id']} is not a list of regions; export it again.")
    return [one for one in results if one["type"].lower() not in _OF_THE_IMAGE]


def _regions(path: Path, task: _Task) -> tuple[list[_Shape], Size | None]:
    """Return the regions of a task, and the size of its image if it has regions."""
    shapes: list[_Shape] = []
    extent = None
    for number, result in enumerate(task.results or ()):
        place = _place(task, number)
        own = size(path, result.get("original_height"), result.get("original_width"), f"the image of {place}")
        if own != (extent or own):
            raise FastSCNNError(f"{path}: the regions of the task {task.number} state different sizes of the image; "
                                "export it again.")
        extent, value = own, result.get("value")
        if result.get("image_rotation") or not isinstance(value, dict):
            raise FastSCNNError(f"{path}: {place} is on a rotated image, or has no value; rotate the image back "
                                "in Label Studio.")
        names = next((value[key] for key in _LABELS if key in value), None)
        if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
            raise FastSCNNError(f"{path}: {place} has the type {result['type']!r} and the labels {names!r}, but a brush or "
                                "polygon with one label is needed; correct or delete it in Label Studio.")
        if "rle" in value:
            shapes.append(Shape(place, names[0], partial(_brush, path, place, value["rle"])))
        elif "points" in value:
            shapes.append(Shape(place, names[0], partial(_polygon, path, place, value["points"])))
        else:
            raise FastSCNNError(f"{path}: {place} is neither a brush nor a polygon ({result['type']!r}); replace it in Label "
                                "Studio.")
    return shapes, extent


def _place(task: _Task, number: int) -> str:
    return f"region {number} of the task {task.number}"


def _polygon(path: Path, place: str, outline: object, labels: UInt8Array, value: int) -> None:
    """Draw a polygon whose coordinates are percentages of the image."""
    if not isinstance(outline, list) or not all(
        isinstance(point, list) and len(point) == 2 and all(map(is_coordinate, point)) for point in outline
    ):
        raise FastSCNNError(f"{path}: {place} has no list of points, x and y in percent; export it again.")
    height, width = labels.shape
    corners = [(x / 100 * width, y / 100 * height) for x, y in outline]
    rasterise.paint_polygons(labels, [points(path, place, corners, least=3)], value)


def _brush(path: Path, place: str, encoded: object, labels: UInt8Array, value: int) -> None:
    """Draw a brush, whose run lengths encode RGBA."""
    height, width = labels.shape
    rgba = brush.decode(bytes(encoded), labels.size * 4) if _are_bytes(encoded) else None
    if rgba is None:
        raise FastSCNNError(f"{path}: the run lengths (RLE) of {place} are damaged or do not cover its image of "
                            f"{height}x{width} (HxW); export it again.")
    labels[np.frombuffer(rgba, np.uint8).reshape(height, width, 4)[:, :, 3] > 0] = value


def _are_bytes(encoded: object) -> TypeGuard[list[int]]:
    return isinstance(encoded, list) and all(is_whole(value) and 0 <= value <= 255 for value in encoded)


def _mask_files(path: Path, task: _Task, known: Sequence[str]) -> tuple[list[_Shape], Size | None]:
    """Return the masks of a task beside the file, in the order of their names, and their size."""
    shapes: list[_Shape] = []
    extent = None
    for found in _masks_of(path, task):
        file = path.parent / found.string
        mask = embedded(text.read_bytes(file)) != 0
        if mask.ndim != 2 or (extent and mask.shape != extent):
            raise FastSCNNError(f"{file}: is not a grey mask of the size of the other masks of its task; export it again.")
        extent = size(file, *mask.shape)
        names = _names_of(found)
        name = next((name for name in names if name in known), names[0])
        shapes.append(Shape(f"the mask {found.string}", name, partial(_paste, mask)))
    return shapes, extent


def _masks_of(path: Path, task: _Task) -> Sequence[re.Match[str]]:
    """Return the masks of a task beside the file, in the order of their names."""
    found = _mask_files_in(path.parent).get(str(task.number), ())
    if len({mask[2] for mask in found}) > 1:
        raise FastSCNNError(f"{path.parent}: has masks of several annotations of the task {task.number}; keep those of one.")
    return found


@text.once_per_file
def _mask_files_in(folder: Path) -> Mapping[str, Sequence[re.Match[str]]]:
    """Return the masks in a folder, by their task."""
    found = defaultdict(list)
    for file in folder.glob("task-*.png"):
        if match := _MASK_FILE.fullmatch(file.name):
            found[match[1]].append(match)
    return {task: sorted(masks, key=lambda mask: (mask[4], int(mask[5]))) for task, masks in found.items()}


def _names_of(mask: re.Match[str]) -> list[str]:
    """Return the names that the file name of a mask may hold: its tag and its name are joined by "-" and may contain it."""
    words = mask[4].split("-")
    return ["-".join(words[start:]) for start in range(1, len(words))] or [mask[4]]


def _paste(mask: BoolArray, labels: UInt8Array, value: int) -> None:
    labels[mask] = value
