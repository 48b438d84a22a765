"""`dataset init` and the files that name classes: other encodings, label maps without colours, two kinds of masks."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from made.tools import package
from test_dataset_init import (
    COLOURS,
    COUNT,
    NAMES,
    coloured,
    indexed,
    labelme_in_folders,
    pairs,
    photo,
    save,
    text,
    truth,
    yolo,
)

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data import datasets
from fastscnn.data.check.dataset import check
from fastscnn.data.init.class_files import rows_of
from fastscnn.data.init.class_rows import Row
from fastscnn.data.init.folder import Initialised, init_dataset
from fastscnn.data.init.known import voc_colour

STREETS = ("straße", "auto", "himmel", "bäume")


def assert_read(root: Path, names: tuple[str, ...] = NAMES, classes: tuple[int, ...] = (0, 1, 2, 3)) -> None:
    """The label files hold the truth, of which `classes` are the train ids; `check` has no errors."""
    spec = datasets.load(root)
    assert spec.label_set.names == names
    assert [finding.message for finding in check(spec).findings if finding.severity == "error"] == []
    for pair in (pair for split in spec.splits for pair in spec.pairs(split)):
        np.testing.assert_array_equal(spec.read(pair)[1], np.array(classes, np.uint8)[truth(int(pair.image.stem[-1]))])


# encodings


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_names_in_an_encoding_that_is_read(tmp_path: Path, encoding: str) -> None:
    pairs(tmp_path, "images/{n}.jpg", "labels/{n}.png")
    (tmp_path / "classes.txt").write_bytes("\n".join(STREETS).encode(encoding))
    made = init_dataset(tmp_path)
    assert not any("Not read" in sentence for sentence in made.guessed)
    assert_read(tmp_path, STREETS)


@pytest.mark.parametrize(("encoding", "name"), list(product(["cp1252", "utf-16-le"], ["classes.txt", "classes.json"])))
def test_names_in_another_encoding_are_not_skipped_without_a_word(tmp_path: Path, encoding: str, name: str) -> None:
    pairs(tmp_path, "images/{n}.jpg", "labels/{n}.png")
    content = json.dumps(STREETS, ensure_ascii=False) if name.endswith(".json") else "\n".join(STREETS)
    (tmp_path / name).write_bytes(content.encode(encoding))
    with pytest.raises(FastSCNNError, match="is not text in UTF-8; save it as UTF-8"):
        rows_of(tmp_path / name)
    said = (f"Not read: {name}: is not text in UTF-8; save it as UTF-8. If it names the classes, run `fastscnn dataset init "
            "--force` after that.")
    made = init_dataset(tmp_path)
    assert said in made.guessed
    text(tmp_path / name, content)
    assert not any("Not read" in sentence for sentence in init_dataset(tmp_path, force=True).guessed)
    assert_read(tmp_path, STREETS)


def test_a_file_beside_shapes_in_another_encoding(tmp_path: Path) -> None:
    labelme_in_folders(tmp_path)
    (tmp_path / "labels.txt").write_bytes("bäume\n".encode("cp1252"))
    made = init_dataset(tmp_path)
    assert any(sentence.startswith("Not read: labels.txt: is not text in UTF-8; ") for sentence in made.guessed)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le"])
def test_shapes_in_another_encoding_are_named(tmp_path: Path, encoding: str) -> None:
    labelme_in_folders(tmp_path)
    for path in (tmp_path / "annotations").rglob("*.json"):
        path.write_bytes(path.read_text().replace('"tree"', '"bäume"').encode(encoding))
    with pytest.raises(FastSCNNError, match=r"annotations/train/s0\.json: is not text in UTF-8; save it as UTF-8\."):
        init_dataset(tmp_path)


def test_truncated_shapes_are_named(tmp_path: Path) -> None:
    things = [{"classTitle": "road", "geometryType": "rectangle", "points": {"exterior": [[0, 0], [9, 9]], "interior": []}}]
    for number in range(COUNT):
        save(tmp_path / f"img/s{number}.jpg", photo(number))
        text(tmp_path / f"ann/s{number}.jpg.json", json.dumps({"size": {"height": 40, "width": 60}, "objects": things})[:-1])
    with pytest.raises(FastSCNNError, match=r"ann/s0\.jpg\.json: is truncated or not JSON"):
        init_dataset(tmp_path)


# Pascal VOC's labelmap.txt without colours


def voc(root: Path, first: str, colours: bool) -> Initialised:
    """Indices of the four classes from 1, drawn with Pascal VOC's table; the third class is in no label file."""
    table = [voc_colour(index) for index in range(5)]
    text(root / "labelmap.txt", "# label:color_rgb:parts:actions\n" + first + "".join(f"{name}:::\n" for name in NAMES))
    for number in range(COUNT):
        labels = np.where(truth(number) == 2, 0, truth(number) + 1)
        save(root / f"JPEGImages/s{number}.jpg", photo(number))
        path = root / f"SegmentationClass/s{number}.png"
        if colours:
            save(path, np.array(table, np.uint8)[labels])
        else:
            indexed(path, labels.astype(np.uint8), table)
    return init_dataset(root)


@pytest.mark.parametrize("first", ["", "background:::\n", "background::head,hand:run\n"])
@pytest.mark.parametrize("colours", [True, False])
def test_a_label_map_without_colours(tmp_path: Path, first: str, colours: bool) -> None:
    made = voc(tmp_path, first, colours)
    assert made.left_open == ()
    assert "labelmap.txt names them, in the order of Pascal VOC's table." in " ".join(made.guessed)
    assert_read(tmp_path, ("background", *NAMES), (1, 2, 0, 4))


def test_a_label_map_without_colours_and_ids(tmp_path: Path) -> None:
    pairs(tmp_path, "JPEGImages/{n}.jpg", "SegmentationClass/{n}.png", lambda labels: labels + np.uint8(1))
    text(tmp_path / "labelmap.txt", "background:::\n" + "".join(f"{name}:::\n" for name in NAMES))
    init_dataset(tmp_path)
    assert_read(tmp_path, ("background", *NAMES), (1, 2, 3, 4))


def test_the_table_and_the_background_are_those_of_datumaro(tmp_path: Path) -> None:
    voc_format = package("datumaro.plugins.data_formats.voc.format")
    table = voc_format.generate_colormap(256)
    assert [voc_colour(index) for index in range(256)] == [table[index] for index in range(256)]
    content = {"background": [None, [], []], "road": [None, ["head"], []], "car": [None, [], ["run"]]}
    voc_format.write_label_map(str(tmp_path / "labelmap.txt"), content)
    rows = rows_of(tmp_path / "labelmap.txt")
    assert rows == tuple(Row(name, None, table[place]) for place, name in enumerate(content))


# Supervisely's masks for people and for machines


def grey(labels: UInt8Array) -> UInt8Array:
    return np.repeat((labels * 10)[:, :, None], 3, axis=2)


def supervisely_masks(root: Path) -> None:
    pairs(root, "ds/img/{n}.jpg", "ds/masks_machine/{n}.png", lambda labels: grey((labels + 1) % 4))
    pairs(root, "ds/img/{n}.jpg", "ds/masks_human/{n}.png", coloured)


def test_masks_for_people_if_meta_json_is_all_there_is(tmp_path: Path) -> None:
    supervisely_masks(tmp_path)
    classes = [{"title": name, "shape": "bitmap", "color": "#" + bytes(rgb).hex()} for name, rgb in COLOURS.items()]
    text(tmp_path / "meta.json", json.dumps({"classes": classes, "tags": []}))
    assert init_dataset(tmp_path).left_open == ()
    assert_read(tmp_path)


def test_masks_for_machines_if_nothing_names_the_colours_of_the_others(tmp_path: Path) -> None:
    supervisely_masks(tmp_path)
    made = init_dataset(tmp_path)
    assert "masks_machine" in made.toml
    assert made.classes == ("class 0", "class 10", "class 20", "class 30")


# what is said about names and values


def test_ignored_classes_of_yolo_are_said_by_name(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="needs the extra formats")
    yolo(tmp_path)
    text(tmp_path / "data.yaml", "names: ['void', 'sky', 'ignore']\n")
    assert "void, ignore are ignored." in init_dataset(tmp_path).guessed


@pytest.mark.parametrize("names", ["", "background\nroad\n"])
def test_few_grey_values_at_the_edges_of_masks(tmp_path: Path, names: str) -> None:
    def mask(labels: UInt8Array) -> UInt8Array:
        made = np.where(labels == 1, 255, 0).astype(np.uint8)
        made[5, 4:20], made[6, 4:20] = 60, 200
        return made

    pairs(tmp_path, "images/{n}.jpg", "masks/{n}.png", mask)
    if names:
        text(tmp_path / "classes.txt", names)
    assert any("if 60, 200 are antialiased edges of masks, give two names in `classes`, remove [map], and set labels_are = "
               '"binary"; 255 is ignored otherwise.' in sentence for sentence in init_dataset(tmp_path).left_open)
    toml = tmp_path / "dataset.toml"
    before, _, after = toml.read_text().partition("\n[map]")
    written = before.replace('"class 0", "class 60", "class 200"', '"background", "road"').replace('"ids"', '"binary"')
    toml.write_text(written + after[after.index("\n[splits") :])
    assert check(datasets.load(tmp_path)).ok
