"""Segmentation: shares, colours, the overlay with its legend, and the PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastscnn import Segmentation
from fastscnn.base.errors import FastSCNNError
from fastscnn.data.synthetic import CLASSES, Scene
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
    with pytest.raises(FastSCNNError, match=r"\(200, 150\), its labels \(150, 200\)"):
        Segmentation(LABELS, LABEL_SET).overlay(np.zeros((200, 150, 3), np.uint8))


def test_labels_read_back_equal(tmp_path: Path) -> None:
    labels = np.arange(255, dtype=np.uint8).reshape(15, 17)
    path = tmp_path / "new" / "a.labels.png"
    Segmentation(labels, LabelSet(tuple(map(str, range(255))))).save_labels(path)
    with Image.open(path) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L", (17, 15))
        np.testing.assert_array_equal(np.asarray(image), labels)
    np.testing.assert_array_equal(images.read_ids(path), labels)


def test_times_are_no_part_of_equality(stripes: Scene) -> None:
    first, second = (Segmentation(stripes.labels, LABEL_SET, seconds={"network": time}) for time in (1.0, 2.0))
    assert first == second
