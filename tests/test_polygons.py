"""Labels drawn from polygons: equal to cityscapesScripts' own, and every sentence about a broken file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.builtin import cityscapes
from fastscnn.data.formats import polygons
from fastscnn.media import images

drawn = st.sampled_from(sorted(cityscapes.IDS))
names = st.one_of(drawn, drawn.map(lambda name: f"{name}group"))
places = st.one_of(st.integers(-20, 70), st.floats(-20, 70, allow_nan=False, width=32))
shapes = st.fixed_dictionaries(
    {"label": names, "polygon": st.lists(st.lists(places, min_size=2, max_size=2), min_size=2, max_size=9)},
    optional={"deleted": st.sampled_from([0, 1]), "user": st.just("x"), "id": st.integers(0, 9)},
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(height=st.integers(1, 50), width=st.integers(1, 50), objects=st.lists(shapes, max_size=12))
def test_random_polygons_equal_json2label(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, objects: list[dict[str, Any]]
) -> None:
    theirs = pytest.importorskip("cityscapesscripts.preparation.json2labelImg", reason="needs PyPI's cityscapesscripts")
    folder = tmp_path_factory.mktemp("polygons")
    path = folder / "a_gtFine_polygons.json"
    path.write_text(json.dumps({"imgHeight": height, "imgWidth": width, "objects": objects}))
    theirs.json2labelImg(str(path), str(folder / "ids.png"))
    np.testing.assert_array_equal(polygons.read(path, cityscapes.IDS), images.read_values(folder / "ids.png")[0])
    theirs.json2labelImg(str(path), str(folder / "train.png"), "trainIds")
    labels = cityscapes.fine(folder).read_labels(path)
    np.testing.assert_array_equal(labels, images.read_values(folder / "train.png")[0])


def test_what_is_drawn(tmp_path: Path) -> None:
    square = [[0, 0], [3, 0], [3, 3], [0, 3]]
    objects = [
        {"label": "road", "polygon": square},
        {"label": "cargroup", "polygon": [[0, 0], [1, 0], [1, 3], [0, 3]]},
        {"label": "polegroup", "polygon": [[3, 0], [3, 3]]},
        {"label": "sky", "polygon": square, "deleted": 1},
        {"label": "license plate", "polygon": square},
        {"label": "no such label", "polygon": "gone", "deleted": True},
    ]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"imgHeight": 4, "imgWidth": 5, "objects": objects}))
    assert polygons.read(path, cityscapes.IDS).tolist() == [[26, 26, 7, 18, 0]] * 4


def file(**changes: object) -> str:
    whole = {"imgHeight": 4, "imgWidth": 5, "objects": [{"label": "car", "polygon": [[0, 0], [2, 0], [2, 2]]}]}
    return json.dumps({key: value for key, value in (whole | changes).items() if value is not None})


def car(polygon: object) -> str:
    return file(objects=[{"label": "car", "polygon": polygon}])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (file()[:-5], "is truncated or not JSON"),
        ("", "is truncated or not JSON"),
        ("\x00", "is not text in UTF-8; save it as UTF-8"),
        ("[" * 100_000, "is truncated or not JSON"),
        ("[]", "is not a JSON object"),
        (file(imgHeight=None), "imgHeight is None; it must be a whole number"),
        (file(imgHeight=4.5), "imgHeight is 4.5"),
        (file(imgWidth=0), "imgWidth is 0"),
        (file(imgWidth=True), "imgWidth is True"),
        (file(imgHeight=100_000, imgWidth=100_000), "over the limit of 40 megapixels"),
        (file(objects=None), "has no list of objects"),
        (file(objects=[3]), "object 0 has no label"),
        (file(objects=[{"polygon": []}]), "object 0 has no label"),
        (file(objects=[{"label": "cars", "polygon": []}]), "There is no label 'cars'. Did you mean 'car'"),
        (car(None), "polygon of object 0 is not a list"),
        (car([[1, 2]]), "polygon of object 0 is not a list"),
        (car([[1, 2], [3]]), "polygon of object 0 is not a list"),
        (car([[1, 2], ["3", 4]]), "polygon of object 0 is not a list"),
        (car([[1, 2], [float("nan"), 4]]), "polygon of object 0 is not a list"),
        (car([[1, 2], [float("inf"), 4]]), "polygon of object 0 is not a list"),
        (car([[1, 2], [1e30, 4]]), "polygon of object 0 is not a list"),
    ],
)
def test_broken_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(FastSCNNError, match=message) as caught:
        polygons.read(path, cityscapes.IDS)
    assert str(caught.value).startswith(f"{path}: ")


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(FastSCNNError, match=r"a\.json: no such file"):
        polygons.read(tmp_path / "a.json", cityscapes.IDS)
    with pytest.raises(FastSCNNError, match="cannot be read"):
        polygons.read(tmp_path, cityscapes.IDS)
