"""Segmentation: shares, colours, the overlay with its legend, and the PNG."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastscnn import Segmentation
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.data.synthetic import CLASSES
from fastscnn.media import images
from fastscnn.model.label_set import LabelSet

COLOURS = ((250, 20, 20), (20, 250, 20), (20, 20, 250), (250, 250, 20))
LABEL_SET = LabelSet(("road", "car", "sky", "tree"), COLOURS)
LABELS = np.repeat(np.array([[0] * 80 + [1] * 119 + [3]], np.uint8), 150, axis=0)  # 40 %, 59.5 %, nothing, 0.5 %


def test_shares() -> None:
    assert Segmentation(LABELS, LABEL_SET).class_percentages() == {"road": 40, "car": 59.5, "sky": 0, "tree": 0.5}


def test_colours() -> None:
    colours = Segmentation(LABELS, LABEL_SET).colours()
    assert colours.shape == (150, 200, 3)
    np.testing.assert_array_equal(colours[0, [0, 79, 80, 198, 199]], np.array(COLOURS)[[0, 0, 1, 1, 3]])


@pytest.mark.parametrize(("opacity", "expected"), [(0, (100, 100, 100)), (1, COLOURS[0]), (0.5, (175, 60, 60))])
def test_overlay_blends(opacity: float, expected: tuple[int, int, int]) -> None:
    image = np.full((150, 200, 3), 100, np.uint8)
    before = image.copy()
    overlay = Segmentation(LABELS, LABEL_SET).overlay(image, opacity)
    np.testing.assert_allclose(overlay[10, 10], expected, atol=1)
    np.testing.assert_array_equal(image, before)


def legend_colours(overlay: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], height: int) -> list[int]:
    """The classes whose colour fills a part of the legend, from left to right and row by row."""
    legend = overlay[height:].reshape(-1, 3).astype(int)
    columns = overlay.shape[1]
    found = {index: np.flatnonzero((legend == colour).all(axis=1)) for index, colour in enumerate(COLOURS)}
    places = {index: (places[0] // columns // 10, places[0] % columns) for index, places in found.items() if len(places) > 9}
    return sorted(places, key=lambda index: places[index])


@pytest.mark.parametrize("width", [40, 200, 1600])
def test_the_legend_names_the_classes_present_largest_first(width: int) -> None:
    labels = np.repeat(LABELS, width // 200, axis=1) if width >= 200 else LABELS[:, 200 - width :]
    overlay = Segmentation(labels, LABEL_SET).overlay(np.zeros((*labels.shape, 3), np.uint8))
    assert overlay.dtype == np.uint8
    assert overlay.shape[1:] == (width, 3)
    assert overlay.shape[0] > 150
    assert legend_colours(overlay, 150) == ([1, 3] if width == 40 else [1, 0, 3])


def test_the_legend_grows_with_the_classes() -> None:
    rows = np.arange(150, dtype=np.uint8)[:, None].repeat(200, axis=1)
    one, many = (Segmentation(rows % np.uint8(count), LabelSet(CLASSES)) for count in (1, len(CLASSES)))
    image = np.zeros((150, 200, 3), np.uint8)
    assert many.overlay(image).shape[0] > one.overlay(image).shape[0] + 50


def test_the_image_must_have_the_labels_size() -> None:
    with pytest.raises(FastSCNNError, match=r"The image is 200x150 \(HxW\) and its labels are 150x200"):
        Segmentation(LABELS, LABEL_SET).overlay(np.zeros((200, 150, 3), np.uint8))


def test_labels_read_back_equal(tmp_path: Path) -> None:
    labels = np.arange(255, dtype=np.uint8).reshape(15, 17)
    path = tmp_path / "new" / "a.labels.png"
    Segmentation(labels, LabelSet(tuple(map(str, range(255))))).save_labels(path)
    with Image.open(path) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L", (17, 15))
        np.testing.assert_array_equal(np.asarray(image), labels)
    np.testing.assert_array_equal(images.read_values(path)[0], labels)


def test_a_segmentation_equals_itself_only() -> None:
    first, second = Segmentation(LABELS, LABEL_SET), Segmentation(LABELS.copy(), LABEL_SET)
    assert first == first  # noqa: PLR0124 - comparing arrays would raise here
    assert first != second
    assert len({first, second}) == 2


def test_repr_is_short() -> None:
    plain = Segmentation(LABELS, LABEL_SET)
    assert repr(plain) == "Segmentation(150x200: car 60 %, road 40 %)"
    full = replace(plain, confidence=np.ones((150, 200), np.float32), ood_mask=np.zeros((150, 200), np.bool_))
    assert repr(full) == "Segmentation(150x200: car 60 %, road 40 %, confidence, ood_mask)"


@pytest.mark.parametrize("width", [200, 3000])
@pytest.mark.parametrize("known", [True, False])
def test_the_picture_in_a_notebook(width: int, known: bool) -> None:
    labels = np.resize(LABELS, (150, width))
    image = np.full((150, width, 3), 100, np.uint8) if known else None
    with Image.open(io.BytesIO(Segmentation(labels, LABEL_SET, image=image)._repr_png_())) as shown:
        assert (shown.format, shown.mode, shown.width) == ("PNG", "RGB", min(width, 1024))
        if width == 200:
            assert (shown.height > 150) == known, "the overlay has a legend"


def test_the_overlay_uses_the_segmented_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (150, 200, 3), np.uint8)
    result = Segmentation(LABELS, LABEL_SET, image=image)
    np.testing.assert_array_equal(result.overlay(), result.overlay(image))
    with pytest.raises(FastSCNNError, match="The image of these labels is unknown; give it"):
        Segmentation(LABELS, LABEL_SET).overlay()


def test_the_overlay_of_an_image_with_extra_channels_or_none() -> None:
    image = np.random.default_rng(0).integers(0, 256, (150, 200, 5), np.uint8)
    result = Segmentation(LABELS, LABEL_SET)
    np.testing.assert_array_equal(result.overlay(image), result.overlay(image[:, :, :3]))
    grey = image[:, :, 0]
    np.testing.assert_array_equal(result.overlay(grey), result.overlay(np.dstack([grey] * 3)))
    wrong: Any
    for wrong in (image[:, :, :2], image.astype(np.float32)):
        with pytest.raises(ArgumentError, match=r"The image must be uint8 \[H, W, 3\]"):
            result.overlay(wrong)
    for opacity in (55, -0.1, float("nan"), "a", None, True):
        with pytest.raises(ArgumentError, match=f"opacity: must be a number from 0 to 1, not {opacity!r}"):
            result.overlay(grey, opacity)  # type: ignore[arg-type]


def test_save_writes_all_that_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    plain = Segmentation(LABELS, LABEL_SET, stem="street")
    assert plain.save("~/plain") == {"labels": tmp_path / "plain" / "street.labels.png"}
    full = replace(
        plain,
        confidence=np.full((150, 200), 0.5, np.float32),
        ood_mask=LABELS == 1,
        image=np.zeros((150, 200, 4), np.uint8),
    )
    written = full.save(tmp_path / "full", "a.b")
    assert {name: path.name for name, path in written.items()} == {
        "labels": "a.b.labels.png", "overlay": "a.b.overlay.jpg", "confidence": "a.b.confidence.png", "ood_mask": "a.b.ood.png",
    }  # fmt: skip
    assert all(path.is_file() and path.parent == tmp_path / "full" for path in written.values())
    np.testing.assert_array_equal(images.read_values(written["labels"])[0], LABELS)
    assert set(np.unique(images.read_values(written["confidence"])[0])) == {128}
    np.testing.assert_array_equal(images.read_values(written["ood_mask"])[0], (LABELS == 1) * np.uint8(255))


@pytest.mark.parametrize("stem", ["", ".", "..", "a/b", "/a", "a\\b", "a\0", 3])
def test_a_stem_is_a_file_name(tmp_path: Path, stem: Any) -> None:
    with pytest.raises(ArgumentError, match="stem: must be a file name without a folder"):
        Segmentation(LABELS, LABEL_SET).save(tmp_path / "new", stem)
    assert not list(tmp_path.iterdir())


def test_what_was_not_requested_cannot_be_saved(tmp_path: Path) -> None:
    result = Segmentation(LABELS, LABEL_SET)
    with pytest.raises(FastSCNNError, match=r"a\.png: there is no confidence to save; segment with confidence=True"):
        result.save_confidence(tmp_path / "a.png")
    with pytest.raises(FastSCNNError, match=r"a\.png: there is no OOD mask to save; segment with ood_mask=True"):
        result.save_ood_mask(tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("result", [
    np.empty((6, 8, 3), np.uint8), np.empty((60, 80, 3), np.float32), np.empty((60, 160, 3), np.uint8)[:, ::2],
    np.frombuffer(bytes(60 * 80 * 3), np.uint8).reshape(60, 80, 3),
])
def test_an_array_that_cannot_be_filled(result: Any) -> None:
    image = np.full((60, 80, 3), 90, np.uint8)
    segmentation = Segmentation(np.zeros((60, 80), np.uint8), LabelSet(("road", "car")), image=image)
    with pytest.raises(ArgumentError, match=r"result: must be uint8 \[60, 80, 3\], contiguous, writeable"):
        segmentation.blend(result=result)
    with pytest.raises(ArgumentError, match="not the image itself"):
        segmentation.blend(result=image)
    filled = np.empty((60, 80, 3), np.uint8)
    assert segmentation.blend(result=filled) is filled
    assert np.array_equal(filled, segmentation.blend())
