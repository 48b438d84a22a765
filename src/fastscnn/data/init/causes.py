"""Causes: why no labels were recognised, from the files that are there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.formats import text
from fastscnn.data.init.matching import all_matches, roles
from fastscnn.data.init.survey import ARRAYS, Survey
from fastscnn.data.init.values import spread

_SAMPLE = 5  # files of each suffix that are read
_MAX_BYTES = 1 << 26  # of a file that is read
_BOX = re.compile(r"\s*\d+(\s+-?[\d.]+(e-?\d+)?){4}\s*", re.IGNORECASE)
_BOXES = "holds boxes of a detection dataset{}, no areas; export polygons or masks."


def causes(survey: Survey) -> list[str]:
    """Return sentences that each name a file, why it gives no labels, and the fix."""
    found: dict[str, str] = {}  # sentence without the path -> with it
    for suffix, cause in _OF_SUFFIX.items():
        for path in spread(survey.of(suffix), _SAMPLE):
            if said := _read(survey.root / path, cause):
                found.setdefault(said, f"{path} {said}")
    return [*found.values(), *_of_names(survey)]


def _read(path: Path, cause: Callable[[str], str]) -> str:
    try:
        return cause(text.read(path)) if path.stat().st_size <= _MAX_BYTES else ""
    except FastSCNNError:
        return "is not text in UTF-8; save it as UTF-8."
    except (OSError, ValueError, RecursionError):
        return ""


def _of_json(content: str) -> str:
    table = json.loads(content)
    if isinstance(table, list):
        first = table[0] if table and isinstance(table[0], dict) else {}
        return "is Label Studio's JSON-MIN; export JSON instead." if "annotation_id" in first else ""
    return next((said for has, said in _TABLES if has(table)), "") if isinstance(table, dict) else ""


def _coco(table: Mapping[str, Any]) -> bool:
    return isinstance(table.get("images"), list) and isinstance(table.get("annotations", []), list)


_TABLES: tuple[tuple[Callable[[Mapping[str, Any]], bool], str], ...] = (
    (lambda table: "_via_img_metadata" in table or any(
        isinstance(one, dict) and "regions" in one and "filename" in one for one in table.values()),
     "is a project of the VGG Image Annotator (VIA), which is not read; export COCO's JSON."),
    (lambda table: "items" in table and "categories" in table,
     "is datumaro's JSON, which is not read; export COCO's JSON or Pascal VOC."),
    (lambda table: isinstance(table.get("image"), dict) and "annotations" in table,
     "is in the format of SA-1B (Segment Anything), whose masks have no classes; use other labels."),
    (lambda table: "imgHeight" in table and "objects" in table,
     "holds polygons of Cityscapes; write label images from them with cityscapesscripts (createTrainIdLabelImgs)."),
    (lambda table: _coco(table) and not table.get("annotations"), "is COCO's JSON without annotations; export it with them."),
    (lambda table: _coco(table) and not any("segmentation" in one for one in table["annotations"] if isinstance(one, dict)),
     _BOXES.format(" (COCO without segmentation)")),
)


def _of_xml(content: str) -> str:
    if "<bndbox" in content:
        return _BOXES.format(" (Pascal VOC)")
    return "is LabelMe's XML; convert it to LabelMe's JSON or to label images." if "<polygon" in content else ""


def _of_txt(content: str) -> str:
    lines = [line for line in content.splitlines() if line.strip()]
    return _BOXES.format(" (YOLO)") if lines and all(map(_BOX.fullmatch, lines)) else ""


def _of_csv(content: str) -> str:
    header = content.partition("\n")[0]
    found = re.search("encodedpixels|rle", header, re.IGNORECASE)
    return "holds run lengths (RLE); write a label image for each image." if found else ""


_OF_SUFFIX = {".json": _of_json, ".xml": _of_xml, ".txt": _of_txt, ".csv": _of_csv}


def _of_names(survey: Survey) -> Iterator[str]:
    """Yield why label images belong to no image: their names fit several images, or differ by zeros."""
    files = roles(survey, by_words=True)
    images = [file for file in files if file.role == "image" and file.suffix not in ARRAYS]
    labels = [file for file in files if file.role == "label"]
    for one in all_matches(images, labels)[1][:1]:
        yield f"{one.labels} may belong to {' or '.join(one.images[:2])}; give images different names, and label files, too."
    by_number = {file.stem.core.lstrip("0"): file for file in images if file.stem.core.isdecimal()}
    for file in labels:
        if file.stem.core.isdecimal() and (image := by_number.get(file.stem.core.lstrip("0"))):
            yield f"{file.path} and {image.path} differ by zeros; make the names equal."
            return
