"""`dataset init` and the values of label files: ids that are no class, masks, scaled ids, masks in the alpha channel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_dataset_init import (
    COLOURS,
    COUNT,
    NAMES,
    SIZE,
    binary,
    coloured,
    indexed,
    pairs,
    photo,
    save,
    supervisely,
    text,
    truth,
    yolo,
)

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data import datasets
from fastscnn.data.check.dataset import check
from fastscnn.data.init.class_files import ClassFile
from fastscnn.data.init.class_rows import Row
from fastscnn.data.init.folder import Initialised, init_dataset
from fastscnn.data.init.id_classes import of_ids
from fastscnn.data.init.sentences import percent, spans
from fastscnn.data.init.values import Values
from fastscnn.media import images
from fastscnn.model.label_set import IGNORE_INDEX

CLASS = ("class 0", "class 1", "class 2", "class 3")
FOUR = (0, 1, 2, 3)
TWO = (0, 1, 0, 0)  # train ids of the four classes in masks of the second one


def tree(root: Path, encode: Callable[[UInt8Array], np.ndarray], suffix: str = ".png") -> None:
    """Write images and label files."""
    if suffix != ".mat":
        pairs(root, "images/{n}.jpg", f"labels/{{n}}{suffix}", encode)
        return
    savemat = pytest.importorskip("scipy.io", reason="SciPy is not installed").savemat
    pairs(root, "images/{n}.jpg", "images/{n}.jpg")
    (root / "labels").mkdir()
    for number in range(COUNT):
        save(root / f"images/s{number}.jpg", photo(number))
        savemat(root / f"labels/s{number}.mat", {"labels": encode(truth(number))})


def read(root: Path, made: Initialised, train: Sequence[int], void: bool) -> None:
    """Compare every label file with the truth; with `void`, the first row is ignored. `check` has no errors."""
    spec = datasets.load(made.dataset)
    assert [finding.message for finding in check(spec).findings if finding.severity == "error"] == []
    for pair in (pair for split in spec.splits for pair in spec.pairs(split)):
        wanted = np.array(train, np.uint8)[truth(int(pair.image.stem[-1]))]
        if void:
            wanted[0] = IGNORE_INDEX
        np.testing.assert_array_equal(spec.read(pair)[1], wanted)


def void_row(value: int, dtype: type[np.generic], add: int = 0) -> Callable[[UInt8Array], np.ndarray]:
    """Return what stores ids, and `value` in the first row."""

    def encode(labels: UInt8Array) -> np.ndarray:
        stored = (labels.astype(np.int64) + add).astype(dtype)
        stored[0] = value
        return stored

    return encode


@pytest.mark.parametrize(
    ("suffix", "encode", "keys"),
    [
        (".npy", void_row(-1, np.int16), "ignore = [-1, 255]"),
        (".npy", void_row(-1, np.int32), "ignore = [-1, 255]"),
        (".npy", void_row(-1, np.float32), "ignore = [-1, 255]"),
        (".mat", void_row(-1, np.int16), "ignore = [-1, 255]"),
        (".mat", void_row(-1, np.float64), "ignore = [-1, 255]"),
        (".tif", void_row(-1, np.int32), "ignore = [-1, 255]"),
        (".tif", void_row(-1, np.float32), "ignore = [-1, 255]"),
        (".npy", void_row(-1, np.int16, 1), "ignore = [-1, 0, 255]"),
        (".npy", void_row(-100, np.int16), '-100 = "ignore"'),
        (".npy", void_row(65535, np.uint16), "ignore = [255, 65535]"),
        (".png", void_row(65535, np.uint16), "ignore = [255, 65535]"),
    ],
)
def test_values_of_pixels_without_a_label(tmp_path: Path, suffix: str, encode: Callable[..., np.ndarray], keys: str) -> None:
    tree(tmp_path, encode, suffix)
    made = init_dataset(tmp_path)
    assert f"\n{keys}\n" in made.toml
    assert len(made.classes) == 4
    assert any(sentence.endswith(f"{encode(truth(0))[0, 0]:.0f} is ignored.") for sentence in made.guessed)
    read(tmp_path, made, FOUR, True)


def test_an_id_without_a_sign_is_refused(tmp_path: Path) -> None:
    tree(tmp_path, void_row((1 << 32) - 1, np.uint32), ".npy")
    with pytest.raises(FastSCNNError, match="hold the id 4294967295, maybe -1 that was stored without a sign"):
        init_dataset(tmp_path)


@pytest.mark.parametrize("suffix", [".npy", ".mat"])
@pytest.mark.parametrize("top", [1, 255])
@pytest.mark.parametrize("dtype", [np.uint8, np.bool_, np.int32, np.float64])
def test_masks_in_arrays(tmp_path: Path, suffix: str, top: int, dtype: type[np.generic]) -> None:
    tree(tmp_path, lambda labels: (top * binary(labels)).astype(dtype), suffix)
    made = init_dataset(tmp_path)
    assert made.labels_are == "binary"
    assert made.classes == ("background", "foreground")
    read(tmp_path, made, TWO, False)


@pytest.mark.parametrize(("top", "dtype", "void"), [(1, np.int16, True), (255, np.int16, True), (65535, np.uint16, False)])
def test_masks_that_need_a_map(tmp_path: Path, top: int, dtype: type[np.generic], void: bool) -> None:
    def encode(labels: UInt8Array) -> np.ndarray:
        stored = (top * binary(labels).astype(np.int64)).astype(dtype)
        if void:
            stored[0] = -1
        return stored

    tree(tmp_path, encode, ".npy")
    made = init_dataset(tmp_path)
    assert made.labels_are == "ids"
    assert f'\n{top} = "foreground"\n' in made.toml
    assert any("`classes` and in [map], that of 0 first" in sentence for sentence in made.left_open)
    read(tmp_path, made, TWO, void)


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        ("1: car\n0: background\n", ("background", "car")),
        ("0: background\n255: car\n", ("background", "car")),
        ("car\n", ("background", "car")),
        ("sky\ncar\n", ("sky", "car")),
        ("background\n", ("background", "foreground")),
        ("1: car\n2: sky\n", ("background", "foreground")),
    ],
)
def test_names_of_masks(tmp_path: Path, rows: str, names: tuple[str, str]) -> None:
    tree(tmp_path, lambda labels: 255 * binary(labels))
    text(tmp_path / "classes.txt", rows)
    assert init_dataset(tmp_path).classes == names


def test_masks_of_another_value(tmp_path: Path) -> None:
    tree(tmp_path, lambda labels: 100 * binary(labels))
    assert init_dataset(tmp_path).classes == ("class 0", "class 100")
    text(tmp_path / "classes.txt", "background\ncar\n")
    made = init_dataset(tmp_path, force=True)
    assert made.classes == ("background", "car")
    assert made.left_open == ()
    read(tmp_path, made, TWO, False)


def lut(*values: int) -> Callable[[UInt8Array], np.ndarray]:
    return lambda labels: np.array(values, np.uint8)[labels]


@pytest.mark.parametrize(
    "values", [(0, 85, 170, 255), (0, 127, 255, 255), (0, 128, 255, 255), (0, 64, 128, 255), (85, 170, 255, 255)]
)
def test_scaled_ids(tmp_path: Path, values: tuple[int, ...]) -> None:
    """255 is a class if all ids divide 0 to 255 evenly. That is left open, since 255 often is unlabelled."""
    tree(tmp_path, lut(*values))
    made = init_dataset(tmp_path)
    order = sorted(set(values))
    assert made.classes == tuple(f"class {value}" for value in order)
    assert "255 is ignored." not in made.guessed
    assert any(sentence.startswith("the ids divide 0 to 255 evenly, so 255 is taken as a class") for sentence in made.left_open)
    read(tmp_path, made, [order.index(value) for value in values], False)


@pytest.mark.parametrize(
    ("values", "names", "train", "map_line"),
    [
        ((0, 85, 170, 255), NAMES, FOUR, '170 = "sky"'),
        ((0, 85, 255, 0), NAMES, (0, 1, 3, 0), '170 = "sky"'),  # 170 is in no label file
        ((0, 85, 170, 255), ("car", "sky", "tree"), FOUR, '0 = "background"'),
    ],
)
def test_scaled_ids_with_names(
    tmp_path: Path, values: tuple[int, ...], names: Sequence[str], train: Sequence[int], map_line: str
) -> None:
    tree(tmp_path, lut(*values))
    text(tmp_path / "classes.txt", "\n".join(names))
    made = init_dataset(tmp_path)
    assert made.classes == (NAMES if len(names) == 4 else ("background", *names))
    assert made.left_open == ()
    assert f"\n{map_line}\n" in made.toml
    assert "classes.txt names the classes; the ids are their positions, scaled to 0 to 255." in made.guessed
    read(tmp_path, made, train, False)


@pytest.mark.parametrize("values", [(0, 1, 2, 255), (0, 100, 255, 0), (0, 40, 80, 255), (1, 2, 3, 255)])
def test_255_is_ignored_among_other_ids(tmp_path: Path, values: tuple[int, ...]) -> None:
    tree(tmp_path, lut(*values))
    made = init_dataset(tmp_path)
    order = sorted(set(values) - {255})
    assert "255 is ignored." in made.guessed
    assert made.classes == tuple(f"class {value}" for value in order)
    assert ("[map]" in made.toml) == any("255 is taken as unlabelled" in sentence for sentence in made.left_open)
    read(tmp_path, made, [order.index(value) if value < 255 else 255 for value in values], False)


def test_255_that_a_file_names_is_a_class(tmp_path: Path) -> None:
    tree(tmp_path, lut(0, 1, 2, 255))
    text(tmp_path / "classes.csv", "name,id\nroad,0\ncar,1\nsky,2\ntree,255\n")
    made = init_dataset(tmp_path)
    assert made.classes == NAMES
    assert "255 is ignored." not in made.guessed
    read(tmp_path, made, FOUR, False)


@given(st.lists(st.integers(-3, 300) | st.sampled_from([255, 65535, 127, 128]), min_size=1, max_size=8, unique=True),
       st.lists(st.sampled_from([*NAMES, "void", "background"]), max_size=5, unique=True), st.booleans(), st.booleans())
@settings(max_examples=300, derandomize=True, deadline=None)
def test_every_id_is_a_class_or_is_said_to_be_ignored(ids: list[int], names: list[str], numbered: bool, from_one: bool) -> None:
    """No id is lost, no sentence says that a class is ignored, and the keys are those of the classes."""
    from collections import Counter

    values = Values(1, False, Counter(dict.fromkeys(ids, 10)), (frozenset(ids),), 0.9, (), False, False, ())
    rows = tuple(Row(name, place + from_one if numbered else None) for place, name in enumerate(names))
    try:
        made = of_ids(values, [ClassFile("classes.txt", rows)] if rows else [], "labels/a.png")
    except FastSCNNError:
        return
    stored = {int(key): name for key, name in made.map.items()}
    if not stored:
        ignore = made.keys.get("ignore", [255])
        assert isinstance(ignore, list)
        first = 1 if 0 in ignore else 0
        stored = dict(enumerate(made.names, first)) | dict.fromkeys(ignore, "ignore")
        assert len(stored) == len(made.names) + len(ignore)
    assert set(ids) <= stored.keys()
    assert set(made.names) == set(stored.values()) - {"ignore"}
    said = " ".join(sentence for sentence in made.guessed if sentence.endswith(("is ignored.", "are ignored.")))
    for value in ids:
        listed = any(word in said.replace(",", "").split() for word in [str(value)])
        assert listed <= (stored[value] == "ignore")


def cutout(labels: UInt8Array) -> np.ndarray:
    return np.dstack([photo(3), 255 * binary(labels)])


@pytest.mark.parametrize(
    ("encode", "colours"),
    [
        (cutout, "2400 colours"),
        (lambda labels: np.dstack([0 * labels, 0 * labels, 0 * labels, 255 * binary(labels)]), "1 colour"),
        (lambda labels: np.dstack([photo(3)[:, :, 0], 255 * binary(labels)]), "256 colours"),
        (lambda labels: np.dstack([255 + 0 * labels, 255 * binary(labels)]), "1 colour"),
    ],
)
def test_masks_in_the_alpha_channel(tmp_path: Path, encode: Callable[..., np.ndarray], colours: str) -> None:
    pairs(tmp_path, "images/{n}.jpg", "masks/{n}.png", encode)
    made = init_dataset(tmp_path)
    assert any(f"have transparent parts and hold {colours} (6 label files read), so the alpha channel" in said
               for said in made.guessed)
    assert '\nlabels_are = "binary"\nchannel = "alpha"\n' in made.toml
    assert made.classes == ("background", "foreground")
    read(tmp_path, made, TWO, False)


def test_images_that_hold_their_masks(tmp_path: Path) -> None:
    for number in range(COUNT):
        save(tmp_path / f"s{number}.png", cutout(truth(number)))
    with pytest.raises(FastSCNNError, match=r"Some have transparent parts; if these are the masks, put the orig"):
        init_dataset(tmp_path)


def test_colours_above_transparent_parts_are_classes(tmp_path: Path) -> None:
    pairs(tmp_path, "images/{n}.jpg", "labels/{n}.png", lambda labels: np.dstack([coloured(labels), 255 * binary(labels)]))
    made = init_dataset(tmp_path)
    order = sorted(COLOURS.values())
    read(tmp_path, made, [order.index(colour) for colour in COLOURS.values()], False)


def test_the_alpha_channel(tmp_path: Path) -> None:
    save(tmp_path / "a.png", cutout(truth(0)))
    np.testing.assert_array_equal(images.read_channel(tmp_path / "a.png", "alpha"), 255 * binary(truth(0)))
    save(tmp_path / "b.png", photo(0))
    with pytest.raises(FastSCNNError, match=r"has the mode RGB; ids in the channel alpha need 8-bit RGBA"):
        images.read_channel(tmp_path / "b.png", "alpha")


# sentences


def sentences(root: Path) -> tuple[str, ...]:
    made = init_dataset(root)
    return (*made.guessed, *made.left_open)


def test_ids_of_a_file_that_begin_elsewhere(tmp_path: Path) -> None:
    tree(tmp_path, lut(7, 8, 9, 20))
    text(tmp_path / "classes.txt", "7: road\n8: car\n9: sky\n20: tree\n")
    assert "classes.txt names the classes by the ids that it states." in sentences(tmp_path)


def test_a_file_with_other_ids(tmp_path: Path) -> None:
    tree(tmp_path, lut(0, 1, 2, 3))
    text(tmp_path / "classes.txt", "10: road\n11: car\n12: sky\n13: tree\n")
    said = sentences(tmp_path)
    assert any(sentence.startswith("the classes of classes.txt do not fit the ids; ") for sentence in said)


def test_ids_that_no_file_has(tmp_path: Path) -> None:
    tree(tmp_path, lut(1, 2, 4, 5))
    said = sentences(tmp_path)
    assert "No label file that was read holds 0; it is taken as unlabelled and ignored." in said
    assert "No label file that was read holds the id 3; a network does not learn classes without pixels." in said


def test_how_to_ignore_0(tmp_path: Path) -> None:
    """The fix fits the file: a [map] needs another one than ids that count from 0."""
    tree(tmp_path / "dense", lut(0, 1, 2, 3))
    tree(tmp_path / "map", lut(0, 20, 50, 60))
    assert any("remove the first name, and set ignore = [0, 255]" in sentence for sentence in sentences(tmp_path / "dense"))
    assert any("write 0 = \"ignore\" in [map], and remove 'class 0'" in sentence for sentence in sentences(tmp_path / "map"))
    for folder, old, new in (("dense", 'labels_are = "ids"', 'labels_are = "ids"\nignore = [0, 255]'),
                             ("map", '0 = "class 0"', '0 = "ignore"')):
        toml = tmp_path / folder / "dataset.toml"
        toml.write_text(toml.read_text().replace('"class 0", ', "").replace(old, new, 1))
        assert check(datasets.load(tmp_path / folder)).ok


def test_the_colours_of_a_palette(tmp_path: Path) -> None:
    for number in range(COUNT):
        save(tmp_path / f"images/s{number}.jpg", photo(number))
        indexed(tmp_path / f"labels/s{number}.png", truth(number), list(COLOURS.values()))
    made = init_dataset(tmp_path)
    assert "The colours are those of the palette of the label files." in made.guessed
    assert datasets.load(tmp_path).label_set.colours == tuple(COLOURS.values())


def test_colours_of_which_a_file_names_some(tmp_path: Path) -> None:
    tree(tmp_path, coloured)
    rows = [f"{name},{r},{g},{b}\n" for name, (r, g, b) in COLOURS.items()]
    text(tmp_path / "class_dict.csv", "name,r,g,b\n" + "".join(rows[:3]))
    assert "(6 label files read); class_dict.csv names some of them." in " ".join(sentences(tmp_path))
    text(tmp_path / "class_dict.csv", "name,r,g,b\n" + "".join(rows))
    assert "class_dict.csv names them." in " ".join(init_dataset(tmp_path, force=True).guessed)


def test_sentences_about_shapes(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="needs the extra formats")
    supervisely(tmp_path / "supervisely")
    yolo(tmp_path / "yolo")
    text(tmp_path / "yolo/data.yaml", "names: ['car', 'sky', 'tree', 'horse']\n")
    said = sentences(tmp_path / "supervisely")
    assert "The names of the shapes are the classes (6 label files read)." in said
    assert "meta.json gives the colours." in said
    assert any(sentence.endswith('set background = "ignore".') and " % of the pixels are without a shape" in sentence
               for sentence in said)
    said = sentences(tmp_path / "yolo")
    assert "The numbers of the shapes are the classes (6 label files read)." in said
    assert "No shape that was read has horse; a network does not learn classes without pixels." in said


def test_train_ids_of_cityscapes_that_are_all_ignored(tmp_path: Path) -> None:
    pairs(tmp_path, "images/{n}.png", "labels/{n}_labelTrainIds.png", lambda labels: np.full(SIZE, 255, np.uint8))
    with pytest.raises(FastSCNNError, match="the label files hold nothing but 255, which means not labelled"):
        init_dataset(tmp_path)


@pytest.mark.parametrize(("share", "said"), [(0, "0 %"), (1, "100 %"), (0.999, "100 %"), (0.7123, "71 %"), (0.0996, "10 %"),
                                             (0.0312, "3.1 %"), (0.00034, "0.034 %"), (1e-6, "under 0.01 %")])  # fmt: skip
def test_percentages(share: float, said: str) -> None:
    assert percent(share) == said


def test_spans() -> None:
    assert spans([-1, 0, 1, 2, 3, 7, 8, 255]) == "-1 to 3, 7, 8, 255"
    assert spans([5]) == "5"
