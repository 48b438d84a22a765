"""Broken label files, lists and texts: one error with the file and the fix, before any training step."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastscnn.base.errors import FastSCNNError
from fastscnn.data import mixture
from fastscnn.media import images
from fastscnn.training.training_data import TrainingData, checked

pytest.importorskip("pycocotools")

SIZE = (40, 50)
HOUSE, BUS = [[5, 5], [30, 5], [30, 30], [5, 30]], [[20, 20], [38, 20], [38, 38], [20, 38]]
SHAPES = {"straße": HOUSE, "bus": BUS}
TOML = (
    'name = "d"\nclasses = ["straße", "bus"]\nlabels_are = "{}"\n'
    '[splits.train]\nimages = "images/*.png"\nlabels = "labels/{}"\n'
)


def table(**changes: Any) -> dict[str, Any]:
    """COCO's JSON of two images. A change is a value, or a function of each entry."""
    made: dict[str, Any] = {
        "images": [{"id": number, "file_name": f"{name}.png", "height": 40, "width": 50} for number, name in enumerate("ab")],
        "categories": [{"id": 0, "name": "straße"}, {"id": 1, "name": "bus"}],
        "annotations": [
            {"id": 2 * image + kind, "image_id": image, "category_id": kind, "segmentation": [list(chain(*outline))]}
            for image in (0, 1) for kind, outline in enumerate((HOUSE, BUS))
        ],
    }  # fmt: skip
    for key, change in changes.items():
        made[key] = [entry | change(entry) for entry in made[key]] if callable(change) else change
    return made


def labelme(name: str) -> str:
    shapes = [{"label": label, "points": outline, "shape_type": "polygon"} for label, outline in SHAPES.items()]
    return json.dumps({"imageHeight": 40, "imageWidth": 50, "shapes": shapes}, ensure_ascii=False)


def cvat() -> str:
    points = {name: ";".join(f"{x},{y}" for x, y in outline) for name, outline in SHAPES.items()}
    shapes = "".join(f'<polygon label="{name}" points="{joined}"/>' for name, joined in points.items())
    found = "".join(f'<image name="{name}.png" width="50" height="40">{shapes}</image>' for name in "ab")
    return f"<annotations>{found}</annotations>"


def yolo(name: str) -> str:
    return "\n".join(f"{number} " + " ".join(f"{x / 50} {y / 40}" for x, y in outline)
                     for number, outline in enumerate(SHAPES.values()))


FILES: dict[str, tuple[str, Callable[[], str]]] = {
    "dataset.toml": ("ids {stem}.png", lambda: TOML.format("ids", "{stem}.png")),
    "mixture.toml": ("ids {stem}.png", lambda: "# ß\n[[datasets]]\ndata = 'dataset.toml'\n"),
    "train.txt": ("ids {stem}.png", lambda: "# ß\na\nimages/b.png\n"),
    "labels/a.json": ("labelme {stem}.json", lambda: labelme("a")),
    "labels/all.json": ("coco all.json", lambda: json.dumps(table(), ensure_ascii=False)),
    "labels/all.xml": ("cvat all.xml", cvat),
    "labels/a.txt": ("yolo {stem}.txt", lambda: yolo("a")),
}


def made(root: Path, kind: str, labels: str, more: str = "") -> Path:
    """Two images with labels of each kind."""
    for seed, name in enumerate("ab"):
        images.write(root / f"images/{name}.png", np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8))
        images.write(root / f"labels/{name}.png", np.random.default_rng(seed + 9).integers(0, 2, SIZE, np.uint8))
        (root / f"labels/{name}.json").write_text(labelme(name), "utf-8")
        (root / f"labels/{name}.txt").write_text(yolo(name), "utf-8")
    (root / "dataset.toml").write_text(TOML.format(kind, labels) + more, "utf-8")
    return root


def train(data: Path) -> TrainingData:
    """What `train` does before the first step."""
    return checked(mixture.load(str(data)), "train", None)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize("name", FILES)
def test_encodings(tmp_path: Path, name: str, encoding: str) -> None:
    kind, content = FILES[name]
    made(tmp_path, *kind.split(), *(['list = "train.txt"\n'] if name == "train.txt" else []))
    (tmp_path / name).write_bytes(content().encode(encoding))
    data = tmp_path / name if name.endswith(".toml") else tmp_path
    if encoding in ("utf-8-sig", "utf-16") or (encoding == "cp1252" and "yolo" in kind):  # YOLO's files hold digits only
        assert train(data).images == (2,)
        return
    with pytest.raises(FastSCNNError) as caught:
        train(data)
    assert str(caught.value).startswith(f"{tmp_path / name}: is not text in UTF-8; save it as UTF-8.")


@pytest.mark.parametrize("lines", [
    ["{root}/images/{name}.png"], ["{root}/images/{name}.png {root}/labels/{name}.png"],
    ["/home/me/data/images/{name}.png"], ["/home/me/data/images/{name}.png\t/home/me/data/labels/{name}.png"],
    ["C:\\my data\\images\\{name}.png"], ["C:\\my data\\images\\{name}.png,C:\\my data\\labels\\{name}.png"],
    ["\\\\server\\share\\images\\{name}.png \\\\server\\share\\labels\\{name}.png"],
])  # fmt: skip
@pytest.mark.parametrize("chosen", [True, False])
def test_absolute_and_foreign_paths(tmp_path: Path, lines: list[str], chosen: bool) -> None:
    root = made(tmp_path, "ids", "{stem}.png", 'list = "train.txt"\n')
    if not chosen:  # the list is all that names the images
        text = (root / "dataset.toml").read_text("utf-8").replace('images = "images/*.png"\n', "")
        (root / "dataset.toml").write_text(text, "utf-8")
    content = "\r\n".join(line.format(root=root, name=name) for name in "ab" for line in lines)
    (root / "train.txt").write_bytes(content.encode())
    data = train(root)
    assert [pair.image for (pairs,) in [data.pairs] for pair in pairs] == [root / "images/a.png", root / "images/b.png"]


@pytest.mark.parametrize(("line", "message"), [
    ("C:\\data\\images\\x.png", r"line 1 names C:\\data\\images\\x.png, which is no image of"),
    ("C:\\data\\images\\a.png C:\\data\\labels\\x.png", r"line 1 names the label file C:\\data\\labels\\x.png, which does not"),
])  # fmt: skip
def test_foreign_paths_without_a_file(tmp_path: Path, line: str, message: str) -> None:
    root = made(tmp_path, "ids", "{stem}.png", 'list = "train.txt"\n')
    (root / "train.txt").write_text(line)
    with pytest.raises(FastSCNNError, match=message) as caught:
        train(root)
    assert str(caught.value).startswith(f"{root / 'train.txt'}: ")


FAR, BOW_TIE = [60, 60, 90, 60, 90, 90], [5, 5, 35, 35, 35, 5, 5, 35]


@pytest.mark.parametrize(("changes", "message"), [
    ({"images": lambda one: {"file_name": one["file_name"].replace("b", "c")}, "annotations": []},
     "does not list the image .*b.png; annotate the image, or remove it from the split."),
    ({"images": lambda one: {"height": 41}}, "is 41x50, but its image .*a.png is 40x50. Use the images that were annotated"),
    ({"images": lambda one: {"height": 50, "width": 40}}, "is 50x40, but .* in their size and orientation"),
    ({"images": lambda one: {"file_name": "a.png"}}, "lists the image 'a.png' twice; keep one of the two entries."),
    ({"categories": [{"id": 0, "name": "strasse"}, {"id": 1, "name": "bus"}]},
     r"no class of d: 'strasse' \(2 shapes in 2 images, first in labels/all.json; did you mean 'straße'\?\)\. Correct"),
    ({"annotations": lambda one: {"segmentation": {"size": [40, 50], "counts": [0, 1999]}}}, "annotation 0 are damaged or do"),
    ({"annotations": lambda one: {"segmentation": {"size": [40, 50], "counts": "0"}}}, "annotation 0 are damaged or do"),
    ({"annotations": lambda one: {"segmentation": [FAR]}}, "train' is ignored; correct the label files. The .* list with"),
    ({"annotations": lambda one: {"segmentation": [BOW_TIE]}}, "split 'train' are 'bus', so .* warnings; list with: fastscnn"),
])  # fmt: skip
def test_broken_annotations(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    root = made(tmp_path, "coco", "all.json")
    (root / "labels/all.json").write_text(json.dumps(table(**changes)))
    with pytest.raises(FastSCNNError, match=message) as caught:
        train(root)
    assert str(caught.value).startswith(str(root))


def test_a_truncated_file_is_one_error_and_the_number_of_others(tmp_path: Path) -> None:
    root = made(tmp_path, "coco", "all.json")
    (root / "labels/all.json").write_text(json.dumps(table())[:200])
    with pytest.raises(FastSCNNError, match=r"all.json: is truncated or not JSON \(.*\); copy it again from its source. "
                                            "`fastscnn check` lists 1 more error.$"):
        train(root)
