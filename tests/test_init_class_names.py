"""`dataset init` and the names of classes: forms of files, files that are none, positions, train ids, ids in red."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_dataset_init import COLOURS, NAMES, labelme_in_folders, pairs, text
from test_init_class_files import assert_read

from fastscnn.base.types import UInt8Array
from fastscnn.data import datasets
from fastscnn.data.check.dataset import check
from fastscnn.data.init.class_files import rows_of
from fastscnn.data.init.class_rows import Row
from fastscnn.data.init.folder import init_dataset
from fastscnn.data.init.known import CARLA
from fastscnn.data.scaled_ids import step_of

# The ids of the four classes are not in the order of the files.
SHUFFLED = {name: number for number, name in reversed(list(enumerate(NAMES)))}
PLAIN = [Row(name) for name in NAMES]
IDS = [Row(name, number) for name, number in SHUFFLED.items()]
RGB = [Row(name, None, colour) for name, colour in COLOURS.items()]


def lines(form: str) -> str:
    return "".join(form.format(name=name, id=number) + "\n" for name, number in SHUFFLED.items())


def colour_lines(form: str) -> str:
    return "".join(form.format(name, *rgb, hex=bytes(rgb).hex()) + "\n" for name, rgb in COLOURS.items())


FORMS: dict[str, tuple[str, str, list[Row]]] = {
    "a header of one column": ("classes.csv", "class\n" + "\n".join(NAMES), PLAIN),
    "a title": ("classes.txt", "Classes:\n" + "\n".join(NAMES), PLAIN),
    "names in one line": ("classes.txt", ", ".join(NAMES), PLAIN),
    "a list of Python": ("classes.txt", str(list(NAMES)), PLAIN),
    "a list of Python in lines": ("classes.txt", "[\n" + "".join(f"  '{name}',\n" for name in NAMES) + "]\n", PLAIN),
    "numbers that tell names apart": ("classes.txt", "lane 1\nlane 2\n", [Row("lane 1"), Row("lane 2")]),
    "names with commas and dots": ("classes.txt", "wall, brick\nveg.\n", [Row("wall, brick"), Row("veg.")]),
    "ADE20K": ("objectInfo.txt",
               "Idx\tRatio\tTrain\tStuff\tName\n1\t0.15\t11664\t1\twall\n2\t0.1\t6046\t1\tbuilding, edifice\n",
               [Row("wall", 1), Row("building", 2)]),
    "counts": ("class_counts.csv", "class,count\n" + lines("{name},{id}"), [Row(name) for name in SHUFFLED]),
    **{f"name and id, as in {form}": ("labels.txt", lines(form), IDS)
       for form in ("{name},{id}", "{name};{id}", "{name} {id}", "{name}: {id}", "{name} = {id}", "{id} {name}")},
    **{f"the header {header}": ("classes.csv", f"{header}\n" + lines("{name}" + ",;"[";" in header] + "{id}"), IDS)
       for header in ("label_name,label_id", "names,ids", "Klasse;Wert", "Foo;Bar", "name,grey")},
    "a header between spaces": ("classes.txt", "name id\n" + lines("{name} {id}"), IDS),
    "a hexadecimal colour": ("colors.txt", colour_lines("{0} #{hex}"), RGB),
    "a hexadecimal colour first": ("colors.txt", colour_lines("#{hex} {0}"), RGB),
    "a column rgba": ("classes.csv", "name,rgba\n" + colour_lines('{0},"({1}, {2}, {3}, 255)"'), RGB),
    "a colour with alpha": ("palette.txt", colour_lines("{0} {1} {2} {3} 255"), RGB),
    "a colour in parentheses": ("palette.txt", colour_lines("{0}: ({1}, {2}, {3})"), RGB),
    "parts of Pascal VOC": ("labelmap.txt", colour_lines("{0}:{1},{2},{3}:head,hand:run"), RGB),
    "columns with unknown words": ("classes.csv", "Klasse;Rot;Blau;Gelb\n" + colour_lines("{0};{1};{2};{3}"), RGB),
    "colour to name": ("names.json", json.dumps({f"#{bytes(rgb).hex()}": name for name, rgb in COLOURS.items()}), RGB),
    "tuple to name": ("names.json", json.dumps({str(rgb): name for name, rgb in COLOURS.items()}), RGB),
    "name to numbers": ("names.json", json.dumps({name: ",".join(map(str, rgb)) for name, rgb in COLOURS.items()}), RGB),
    "id to table": ("names.json", json.dumps({number: {"name": name} for name, number in SHUFFLED.items()}), IDS),
    "name to table": ("names.json", json.dumps({name: {"id": number} for name, number in SHUFFLED.items()}), IDS),
    "name to text": ("names.json", json.dumps({name: str(number) for name, number in SHUFFLED.items()}), IDS),
    "label2id": ("config.json", json.dumps({"hidden": 4, "label2id": SHUFFLED}), IDS),
    "classes in YAML": ("data.yaml", "classes:\n" + "".join(f"  - {name}\n" for name in NAMES),
                        [Row(name, place) for place, name in enumerate(NAMES)]),
    "a blank line in YAML": ("data.yaml", "names:\n  0: road\n\n  1: car\nnc: 2\n", [Row("road", 0), Row("car", 1)]),
    "an id before a colour": ("palette.txt", "7 255 0 0 road\n9 0 0 255 car\n",
                              [Row("road", 7, (255, 0, 0)), Row("car", 9, (0, 0, 255))]),
    "train ids": ("labels.csv", "name,id,trainId\nroad,7,0\ncar,26,1\n", [Row("road", 7, None, 0), Row("car", 26, None, 1)]),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_forms(tmp_path: Path, form: str) -> None:
    name, content, rows = FORMS[form]
    text(tmp_path / name, content)
    assert rows_of(tmp_path / name) == tuple(rows)


@pytest.mark.parametrize("form", ["the header Foo;Bar", "name and id, as in {name}: {id}", "name to table"])
def test_a_form_in_a_dataset(tmp_path: Path, form: str) -> None:
    name, content, _ = FORMS[form]
    pairs(tmp_path, "images/{n}.jpg", "labels/{n}.png")
    text(tmp_path / name, content)
    made = init_dataset(tmp_path)
    assert made.left_open == ()
    assert f"{name} names the classes by the ids that it states." in made.guessed
    assert_read(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("labels.txt", "s0.png\ns1.png\ns2.png\ns3.png\n", "it lists files."),
        ("labels.txt", "images/s0.png labels/s0.png\nimages/s1.png labels/s1.png\n", "it lists files."),
        ("config.json", '{"lr": 3, "epochs": 2, "batch": 1, "seed": 0}', "it may hold settings; if it names the classes, "),
        ("classes.txt", "we labelled roads.\nwith a tool\nand cars\nand trees\n", "it has sentences instead of names ('we lab"),
        ("classes.txt", "road\ncar\nroad\n", "it has the name 'road' twice."),
        ("classes.txt", "road,0\ncar\nsky,2\ntree,3\n", "it has more in a line than a name ('road,0'), in no form"),
        ("classes.txt", "1 2 3 road\ncar\n", "it has a colour in some lines only."),
    ],
)  # fmt: skip
def test_files_that_are_not_used(tmp_path: Path, name: str, content: str, said: str) -> None:
    pairs(tmp_path, "images/{n}.jpg", "labels/{n}.png")
    text(tmp_path / name, content)
    made = init_dataset(tmp_path)
    assert made.classes == ("class 0", "class 1", "class 2", "class 3")
    assert any(one.startswith(f"{name} is not used for the names of classes: {said}") for one in made.guessed)
    assert any("no file names the classes" in one for one in made.left_open)


def test_notes_are_no_classes(tmp_path: Path) -> None:
    pairs(tmp_path, "images/{n}.jpg", "labels/{n}.png")
    text(tmp_path / "notes.txt", "we labelled roads\nwith a tool\nand cars\nand trees\n")
    assert init_dataset(tmp_path).classes == ("class 0", "class 1", "class 2", "class 3")


# ids, train ids and positions


TWO = "name,id,trainId\n" + "".join(f"{name},{3 - place},{place}\n" for place, name in enumerate(NAMES))


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_ids_and_train_ids_that_both_fit(tmp_path: Path, suffix: str) -> None:
    pairs(tmp_path, "images/{n}.jpg", "labels/{n}.png")
    table = [{"name": name, "id": 3 - place, "trainId": place} for place, name in enumerate(NAMES)]
    text(tmp_path / f"labels{suffix}", TWO if suffix == ".csv" else json.dumps(table))
    said = (f"labels{suffix} states ids and train ids, and both fit the label files; the ids are used. If the label files hold "
            "the train ids, remove the ids from it and run `fastscnn dataset init --force`.")
    assert said in init_dataset(tmp_path).left_open
    for row in table:
        del row["id"]
    text(tmp_path / f"labels{suffix}", TWO.replace(",id,", ",-,") if suffix == ".csv" else json.dumps(table))
    made = init_dataset(tmp_path, force=True)
    assert made.left_open == ()
    assert_read(tmp_path)


def test_train_ids_if_the_ids_do_not_fit(tmp_path: Path) -> None:
    pairs(tmp_path, "images/{n}.jpg", "labels/{n}.png")
    rows = "".join(f"{name},{7 + place},{place}\n" for place, name in enumerate(NAMES))
    text(tmp_path / "labels.csv", f"name,id,trainId\nvoid,0,255\n{rows}other,1,255\n")
    made = init_dataset(tmp_path)
    assert made.left_open == ()
    assert "labels.csv names the classes by the train ids that it states." in made.guessed
    assert_read(tmp_path)


def test_all_train_ids_and_some_ids(tmp_path: Path) -> None:
    """All train ids are in the label files, and only some of the ids, so the train ids are used."""
    pairs(tmp_path, "images/{n}.jpg", "labels/{n}.png")
    rows = "".join(f"{name},{2 + place},{place}\n" for place, name in enumerate(NAMES))
    text(tmp_path / "labels.csv", f"name,id,trainId\nvoid,0,255\nego,1,255\n{rows}")
    assert any("both fit the label files; the train ids are used." in one for one in init_dataset(tmp_path).left_open)
    assert_read(tmp_path)


@pytest.mark.parametrize(("first", "doubts"), [("dirt", 1), ("background", 0)])
def test_positions_are_said_to_count_from_0(tmp_path: Path, first: str, doubts: int) -> None:
    names = (first, *NAMES)
    pairs(tmp_path, "images/{n}.jpg", "labels/{n}.png", lambda labels: labels + np.uint8(1))
    text(tmp_path / "classes.txt", "\n".join((*names, "more")))
    made = init_dataset(tmp_path)
    assert "classes.txt names the classes by position, counted from 0." in made.guessed
    assert len(made.left_open) == doubts
    assert_read(tmp_path, (*names, "more"), (1, 2, 3, 4))
    if doubts:
        assert "holds 0; if its first class has the id 1, set ignore = [0, 255], or change [map]." in made.left_open[0]
        toml = tmp_path / "dataset.toml"
        toml.write_text(toml.read_text().replace("\nlabels_are", "\nignore = [0, 255]\nlabels_are"))
        assert_read(tmp_path, (*names, "more"), (0, 1, 2, 3))


@pytest.mark.parametrize(("more", "doubts"), [((), 0), (("mud", "ice"), 1)])
def test_positions_times_a_constant(tmp_path: Path, more: tuple[str, ...], doubts: int) -> None:
    pairs(tmp_path, "images/{n}.jpg", "labels/{n}.png", lambda labels: labels * np.uint8(10))
    text(tmp_path / "classes.txt", "\n".join((*NAMES, *more)))
    made = init_dataset(tmp_path)
    assert "classes.txt names the classes; the ids are their positions, multiplied by 10." in made.guessed
    assert ["of which no label file that was read holds the last" in one for one in made.left_open] == [True] * doubts
    assert_read(tmp_path, (*NAMES, *more))


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.integers(3, 60), st.data())
def test_the_step_of_scaled_ids(count: int, data: st.DataObject) -> None:
    """The positions come back from ids that are scaled to 0 to 255, or multiplied, if the last class is there."""
    places = sorted({0, count - 1, *data.draw(st.sets(st.integers(1, count - 2), min_size=1))})
    constants = [one for one in (2, 3, 10) if one * (count - 1) < 255 and math.gcd(*places) == 1]
    for step in (255 / (count - 1), *constants):
        assert step_of([round(place * step) for place in places], count) == step


def test_names_that_are_alike(tmp_path: Path) -> None:
    pairs(tmp_path, "images/{n}.jpg", "labels/{n}.png")
    text(tmp_path / "classes.txt", "traffic light\nTraffic_Light\nsky\nsky 2\n")
    said = ("the classes 'traffic light', 'Traffic_Light' differ in case or separators only; if they are one class, give them "
            "one name in `classes` and in [map].")
    assert init_dataset(tmp_path).left_open == (said,)


def test_names_of_shapes_that_are_alike(tmp_path: Path) -> None:
    labelme_in_folders(tmp_path)
    for path in (tmp_path / "annotations").rglob("*.json"):
        path.write_text(path.read_text().replace('"tree"', '"car-2"'))
    assert any(one.startswith("the classes 'car', 'car-2' differ in case, separators or numbers only; ")
               for one in init_dataset(tmp_path).left_open)


def test_names_that_do_not_fit_masks(tmp_path: Path) -> None:
    pairs(tmp_path, "images/{n}.jpg", "labels/{n}.png", lambda labels: (labels == 1) * np.uint8(255))
    text(tmp_path / "classes.txt", "road\ncar\nsky\n")
    assert any(one.startswith("the classes of classes.txt do not fit the masks; ") for one in init_dataset(tmp_path).left_open)


# ids in the red channel


def red(change: Callable[[UInt8Array], UInt8Array]) -> Callable[[UInt8Array], UInt8Array]:
    return lambda labels: np.dstack([change(labels), 0 * labels, 0 * labels])


def test_a_file_that_names_ids_in_red_comes_before_carla(tmp_path: Path) -> None:
    pairs(tmp_path, "images/{n}.jpg", "labels/{n}.png", red(lambda labels: labels))
    text(tmp_path / "classes.txt", "\n".join(NAMES))
    made = init_dataset(tmp_path)
    assert made.left_open == ()
    assert "The ids are in the red channel; green and blue are 0." in made.guessed
    assert "CARLA" not in made.toml
    assert_read(tmp_path)


def test_a_file_that_names_the_reds_as_colours(tmp_path: Path) -> None:
    pairs(tmp_path, "images/{n}.jpg", "labels/{n}.png", red(lambda labels: labels + np.uint8(1)))
    text(tmp_path / "colors.txt", "".join(f"{name} {place} 0 0\n" for place, name in enumerate(NAMES, 1)))
    assert init_dataset(tmp_path).left_open == ()
    assert_read(tmp_path)


@pytest.mark.parametrize("top", [1, 255])
def test_a_mask_in_red(tmp_path: Path, top: int) -> None:
    pairs(tmp_path, "images/{n}.jpg", "labels/{n}.png", red(lambda labels: (labels == 1) * np.uint8(top)))
    made = init_dataset(tmp_path)
    assert ('labels_are = "binary"\nchannel = "red"\n' in made.toml) == (top == 1)  # 255: black and red are colours
    assert len(made.classes) == 2 or top == 255
    assert check(datasets.load(tmp_path)).ok


@pytest.mark.parametrize(("add", "carla"), [(1, True), (30, False)])
def test_carla_if_the_reds_are_its_tags(tmp_path: Path, add: int, carla: bool) -> None:
    pairs(tmp_path, "images/{n}.jpg", "labels/{n}.png", red(lambda labels: labels + np.uint8(add)))
    text(tmp_path / "classes.txt", "road\ncar\n")
    made = init_dataset(tmp_path)
    assert (made.classes == CARLA[1:]) == carla
    assert 'channel = "red"\n' in made.toml
    doubt = "The classes of classes.txt do not fit the ids." if carla else "the classes of classes.txt do not fit the ids; "
    assert any(doubt in one for one in made.left_open)
