"""What all formats of shapes share: order, names, encodings, the listed images, the cache, and checks of coordinates."""

from __future__ import annotations

import codecs
import math
import os
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.formats import geometry, text
from fastscnn.data.formats.base import Shape
from fastscnn.data.formats.coco import CocoLabels
from fastscnn.data.formats.listing import Listing


def test_later_shapes_and_later_names_of_the_order_lie_above() -> None:
    shapes = [Shape("shape 0", "car", 0), Shape("shape 1", "road", 1), Shape("shape 2", "tree", 2), Shape("shape 3", "car", 3)]
    ids = {"road": 0, "car": 1, "tree": 255}
    assert CocoLabels(ids).layers(shapes) == ([(1, 0), (0, 1), (255, 2), (1, 3)], {})
    assert CocoLabels(ids, order=("road", "car")).layers(shapes) == ([(255, 2), (0, 1), (1, 0), (1, 3)], {})
    assert pickle.loads(pickle.dumps(CocoLabels(ids))) == CocoLabels(ids)


def test_names_of_no_class_are_counted() -> None:
    shapes = [Shape("shape 0", "cat", 0), Shape("shape 1", "car", 1), Shape("shape 2", "cat", 2)]
    assert CocoLabels({"car": 1}).layers(shapes) == ([(255, 0), (1, 1), (255, 2)], {"cat": 2})
    assert CocoLabels({"car": 1}, rest=0).layers(shapes) == ([(0, 0), (1, 1), (0, 2)], {})


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_text_in_unicode_is_read(tmp_path: Path, encoding: str) -> None:
    mark = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}.get(encoding, b"")
    (tmp_path / "a").write_bytes(mark + '["Straße"]'.encode(encoding))
    assert text.read_json(tmp_path / "a", list) == ["Straße"]


@pytest.mark.parametrize(("data", "message"), [
    ('["Straße"]'.encode("cp1252"), "is not text in UTF-8; save it as UTF-8"),
    (codecs.BOM_UTF16_LE + b"a", "is not text in UTF-16; save it as UTF-8"),
    (b'["a', "is truncated or not JSON"),
    (b"[" * 100_000, "is truncated or not JSON"),
    ('["a"]'.encode("utf-16-le"), "is not text in UTF-8; save it as UTF-8"),
    ('["ß"]'.encode("utf-16-be"), "is not text in UTF-8; save it as UTF-8"),
    (b"", "is truncated or not JSON"),
    (b"9" * 5000, "is truncated or not JSON"),
    (b"{}", "is not a JSON list"),
])  # fmt: skip
def test_other_text_is_an_error(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(FastSCNNError, match=message) as caught:
        text.read_json(tmp_path / "a", list)
    assert str(caught.value).startswith(f"{tmp_path / 'a'}: ")


LISTED = ["a.png", "x/a.png", "y/z/a.png", "./y\\b.png", "w/c.png", "v/c.png", "Ä.png"]


@pytest.mark.parametrize(("image", "found"), [
    ("/r/a.png", "a.png"), ("/r/x/a.png", "x/a.png"), ("/z/a.png", "a.png"), ("/y/z/a.png", "y/z/a.png"),
    ("/r/b.png", "./y\\b.png"), ("/q/v/c.png", "v/c.png"), ("/r/A\u0308.png", "Ä.png"),
])  # fmt: skip
def test_an_image_is_found_by_the_end_of_its_path(image: str, found: str) -> None:
    assert Listing(Path("f"), ((name, [name]) for name in LISTED)).find(Path(image)) == [found]


OTHERWISE_NAMED = ["x/a.png", "b", "http://host/data/c.jpg?v=1", "d.v2", "y/e.png", "z/e.png", "f.png", "f.jpg"]


@pytest.mark.parametrize(("image", "found"), [
    ("a.jpg", "x/a.png"), ("q/a.jpg", "x/a.png"), ("b.tif", "b"), ("c.jpg", "http://host/data/c.jpg?v=1"), ("d.v2.png", "d.v2"),
    ("r/z/e.jpg", "z/e.png"), ("f.jpg", "f.jpg"),
])  # fmt: skip
def test_an_image_is_found_by_its_name_without_suffix_or_query(tmp_path: Path, image: str, found: str) -> None:
    listing = Listing(Path("f"), ((name, [name]) for name in OTHERWISE_NAMED))
    entry, fit = listing.match(tmp_path / image)
    assert entry == [found]
    assert fit[0] == (image == found)
    assert found not in listing.without([tmp_path / image])


@pytest.mark.parametrize(("image", "beside", "message"), [
    ("a.jpg", "a.png", r"lists the image 'a\.png', which may be .*/a\.jpg or a\.png beside it; remove or rename one"),
    ("b.jpg", "b.png", r"lists the image 'b', which may be .*/b\.jpg or b\.png beside it"),
    ("c.png", "c.jpg", r"lists the image 'c.jpg\?v=1', which may be .*/c\.png or c\.jpg beside it"),
    ("f.tif", "g.tif", r"lists 'f\.png' and 'f\.jpg', and the path of .*/f\.tif fits both; give the image the name"),
    ("a.json", "g.tif", r"does not list the image .*/a\.json"),
])  # fmt: skip
def test_a_name_without_its_suffix_may_mean_two_images(tmp_path: Path, image: str, beside: str, message: str) -> None:
    for name in (image, beside):
        (tmp_path / name).touch()
    listing = Listing(Path("f"), ((name.rpartition("/")[2], [name]) for name in OTHERWISE_NAMED if "e.png" not in name))
    with pytest.raises(FastSCNNError, match=message):
        listing.find(tmp_path / image)


@pytest.mark.parametrize(("image", "message"), [
    ("/r/c.png", "lists 'w/c.png' and 'v/c.png', and the path of /r/c.png fits both"),
    ("/r/d.png", "does not list the image /r/d.png"),
    ("/r/A.PNG", "does not list the image /r/A.PNG"),
])  # fmt: skip
def test_an_image_that_is_not_listed_once_is_an_error(image: str, message: str) -> None:
    with pytest.raises(FastSCNNError, match=message):
        Listing(Path("f"), ((name, [name]) for name in LISTED)).find(Path(image))


@pytest.mark.parametrize(("names", "message"), [(["a/b", "a\\b"], "lists the image .* twice"), ([""], "without a file name")])
def test_a_wrong_list_is_an_error(names: list[str], message: str) -> None:
    with pytest.raises(FastSCNNError, match=message):
        Listing(Path("f"), ((name, [name]) for name in names))


def test_a_file_is_parsed_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "TICK", 0)
    parsed = []

    @text.once_per_file
    def parse(path: Path) -> str:
        parsed.append(path)
        if path.read_text() == "broken":
            raise FastSCNNError(f"{path}: broken")
        return path.read_text()

    path = tmp_path / "a"
    path.write_text("one")
    threads = [threading.Thread(target=parse, args=(path,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (parse(path), len(parsed)) == ("one", 1)
    times = path.stat()
    path.write_text("two")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # equal size and time of modification
    assert (parse(path), len(parsed)) == ("two", 2)
    path.write_text("broken")
    for _ in range(2):
        with pytest.raises(FastSCNNError, match="broken"):
            parse(path)
    assert len(parsed) == 3
    with pytest.raises(FastSCNNError, match="no such file"):
        parse(tmp_path / "b")


def test_a_file_that_has_just_been_written_is_not_kept(tmp_path: Path) -> None:
    parse = text.once_per_file(lambda path: path.read_text())
    path = tmp_path / "a"
    for content in ("one", "two", "six"):  # equal sizes, and possibly equal time stamps
        path.write_text(content)
        assert parse(path) == content


def test_kept_files_are_bounded_by_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "TICK", 0)
    monkeypatch.setattr(text, "CACHE_BYTES", 100)
    parsed: list[str] = []
    parse = text.once_per_file(lambda path: parsed.append(path.name))
    for size, names in ((10, "abcdefghij"), (50, "klmnop")):
        for name in names:
            (tmp_path / name).write_text("x" * size)
        for name in names * 2:
            parse(tmp_path / name)
    assert "".join(parsed) == "abcdefghij" + "klmnop" * 2, "ten small files are kept; of large ones, four"
    for name in "nop":
        parse(tmp_path / name)
    assert len(parsed) == 22


@pytest.mark.parametrize(("values", "least", "message"), [
    (None, 1, "has no list of points"),
    ([], 1, "has 0 points, but 1 or more"),
    ([[0, 0], [1, 1]], 3, "has 2 points, but 3 or more"),
    ([[0, 0, 0]], 1, r"has the point \[0, 0, 0\]; a point is two numbers"),
    ([[0, math.nan]], 1, "a point is two numbers"),
    ([[0, math.inf]], 1, "a point is two numbers"),
    ([[0, 1e300]], 1, "at most 100,000 pixels"),
    ([[0, 10**400]], 1, "at most 100,000 pixels"),
    ([[0, True]], 1, "a point is two numbers"),
    ([["0", 1]], 1, "a point is two numbers"),
    ([[0, 0], [99_999, 99_999]] * 50, 1, "is over 4,000,000 pixels long"),
])  # fmt: skip
def test_wrong_points_are_errors(values: Any, least: int, message: str) -> None:
    with pytest.raises(FastSCNNError, match=f"^a: .*{message}"):
        geometry.points(Path("a"), "shape 3", values, least)


@pytest.mark.parametrize("size", [(0, 1), (1, None), (1.0, 1), ("1", 1), (True, 1), (7000, 7000), (10**30, 1)])
def test_wrong_sizes_are_errors(size: tuple[Any, Any]) -> None:
    with pytest.raises(FastSCNNError, match=r"^a: the image"):
        geometry.size(Path("a"), *size)
