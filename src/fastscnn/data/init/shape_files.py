"""Files of shapes: which formats there are, and which files are of them."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fastscnn.data.formats import coco, cvat, labelme, labelstudio, panoptic, supervisely, yolo
from fastscnn.data.formats.base import Contents, Shapes
from fastscnn.data.init.survey import Survey
from fastscnn.data.init.values import spread
from fastscnn.media import images

_SMALL = 1 << 20  # bytes of a JSON file that is parsed to see what it is
_YOLO = re.compile(rb"\s*\d+(?:\s+-?[\d.]+(?:e-?\d+)?){4,}\s*(?:\n|$)")


@dataclass(frozen=True)
class Kind:
    """A format of shapes.

    Attributes:
        labels_are: its name in dataset.toml.
        title: its name in sentences.
        contents: reads the names and images of a file.
        make: the label format, which is called with the stored names and their train ids.
    """

    labels_are: str
    title: str
    contents: Callable[[Path], Contents]
    make: type[Shapes]


KINDS = (  # those of one file for many images come first, since they list their images
    Kind("coco", "COCO's JSON", coco.contents, coco.CocoLabels),
    Kind("coco-panoptic", "COCO's panoptic JSON", panoptic.contents, panoptic.PanopticLabels),
    Kind("cvat", "CVAT's XML", cvat.contents, cvat.CvatLabels),
    Kind("label-studio", "Label Studio's JSON", labelstudio.contents, labelstudio.LabelStudioLabels),
    Kind("supervisely", "Supervisely's JSON", supervisely.contents, supervisely.SuperviselyLabels),
    Kind("labelme", "LabelMe's JSON", labelme.contents, labelme.LabelMeLabels),
    Kind("yolo", "YOLO's text files of polygons", yolo.contents, yolo.YoloLabels),
)


def shape_files(survey: Survey) -> dict[str, list[str]]:
    """Return the files of each format. Of the files in one folder with one name for each image, a few are looked at."""
    found: dict[str, list[str]] = defaultdict(list)
    stems = {PurePosixPath(path).stem for path in survey.of(*images.SUFFIXES)}
    by_series: dict[object, list[str]] = defaultdict(list)
    for path in survey.of(".json", ".txt", ".xml"):
        place = PurePosixPath(path)
        of_image = place.stem in stems or PurePosixPath(place.stem).stem in stems
        by_series[(place.parent, place.suffix) if of_image else path].append(path)
    for paths in by_series.values():
        kinds = Counter(_kind(survey.root / path) for path in spread(paths, 5))
        kinds.pop("", None)
        if kinds:
            found[kinds.most_common(1)[0][0]] += paths
    return found


def _kind(path: Path) -> str:
    """Return the format of a file; "" if it is none of these."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
        data = path.read_bytes() if path.suffix.lower() == ".json" else b""
    except OSError:
        return ""
    if path.suffix.lower() == ".txt":
        return "yolo" if _YOLO.match(head) else ""
    if path.suffix.lower() == ".xml":
        return "cvat" if b"<annotations" in head else ""
    return _kind_of_bytes(data) if len(data) > _SMALL else _kind_of_json(data)


def _kind_of_bytes(data: bytes) -> str:
    """Return the format of a JSON file that is large, truncated or in another encoding, without parsing it."""
    if all(key in data for key in (b'"categories"', b'"images"', b'"segments_info"')):
        return "coco-panoptic"
    if all(key in data for key in (b'"categories"', b'"images"', b'"segmentation"')):
        return "coco"
    if b'"shapes"' in data and b'"imagePath"' in data:  # with the image in it
        return "labelme"
    if b'"objects"' in data and b'"classTitle"' in data:
        return "supervisely"
    return "label-studio" if data.lstrip()[:1] == b"[" and b'"annotations"' in data else ""


def _kind_of_json(data: bytes) -> str:
    try:
        table = json.loads(data)
    except (ValueError, RecursionError):  # the format's own reader says what is wrong
        return _kind_of_bytes(data)
    if isinstance(table, list):
        return "label-studio" if table and isinstance(table[0], dict) and "data" in table[0] and "id" in table[0] else ""
    if not isinstance(table, dict):
        return ""
    if isinstance(table.get("images"), list) and isinstance(table.get("categories"), list):
        return _kind_of_coco(table.get("annotations"))
    if isinstance(table.get("shapes"), list):
        return "labelme"
    return "supervisely" if isinstance(table.get("objects"), list) and isinstance(table.get("size"), dict) else ""


def _kind_of_coco(annotations: object) -> str:
    """Return which of COCO's formats a list of annotations is of; "" for boxes, keypoints and captions."""
    first = [one for one in annotations[:20] if isinstance(one, dict)] if isinstance(annotations, list) else []
    if any("segments_info" in one for one in first):
        return "coco-panoptic"
    return "coco" if any("segmentation" in one for one in first) else ""
