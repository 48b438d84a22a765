"""LabelSet: what it refuses, and its two tables."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.builtin.camvid import LABELS as CAMVID
from fastscnn.model.label_set import Colour, LabelSet


@pytest.mark.parametrize(
    ("names", "colours", "raw_ids", "message"),
    [
        ((), (), (), "1 to 255 classes, not 0"),
        (tuple(map(str, range(256))), (), (), "1 to 255 classes, not 256"),
        (("car", "road", "car"), (), (), "'car' is used twice"),
        (("car", "ro\x1b[2Jad"), (), (), r"'ro\\x1b\[2Jad' contains a control character"),
        (("car", "ro\ud800ad"), (), (), "contains a control character"),
        (("car", "road"), ((0, 0, 0),), (), "2 classes but 1 colours"),
        (("car",), ((0, 0, 256),), (), "colour of 'car' is"),
        (("car",), ((0, -1, 0),), (), "colour of 'car' is"),
        (("car",), ((0, 0),), (), "colour of 'car' is"),
        (("car",), (), ((256, 0),), "id 256 cannot map to 0"),
        (("car",), (), ((-1, 0),), "id -1 cannot map to 0"),
        (("car",), (), ((3, 1),), "id 3 cannot map to 1"),
        (("car",), (), ((3, -1),), "id 3 cannot map to -1"),
    ],
)
def test_refuses(
    names: tuple[str, ...], colours: tuple[Colour, ...], raw_ids: tuple[tuple[int, int], ...], message: str
) -> None:
    with pytest.raises(FastSCNNError, match=message):
        LabelSet(names, colours, raw_ids)


def test_index_names_the_nearest_class() -> None:
    assert CAMVID.index("Car") == 8
    with pytest.raises(FastSCNNError, match=r"no class 'Pedestrain'\. Did you mean 'Pedestrian'"):
        CAMVID.index("Pedestrain")


def test_train_ids_without_raw_ids_are_the_ids() -> None:
    table = LabelSet(("a", "b")).train_ids()
    assert table.shape == (256,)
    assert {raw: int(train) for raw, train in enumerate(table) if train != -1} == {0: 0, 1: 1, 255: 255}


def test_train_ids_map_raw_ids() -> None:
    table = LabelSet(("a", "b"), raw_ids=((7, 0), (8, 0), (11, 1), (0, 255))).train_ids()
    assert {raw: int(train) for raw, train in enumerate(table) if train != -1} == {7: 0, 8: 0, 11: 1, 0: 255}


def test_palette_is_black_where_there_is_no_class() -> None:
    palette = LabelSet(("a", "b"), ((1, 2, 3), (4, 5, 6))).palette()
    assert palette.shape == (256, 3)
    assert palette.dtype == np.uint8
    assert palette[:2].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert not palette[2:].any()


@pytest.mark.parametrize("count", [1, 19, 255])
def test_made_colours_differ(count: int) -> None:
    colours = LabelSet(tuple(map(str, range(count)))).colours
    assert len(set(colours)) == count
    assert (0, 0, 0) not in colours


def test_made_colours_of_neighbouring_classes_differ_most() -> None:
    """Their hues are a golden angle apart, and they are light and dark in turn."""
    colours = LabelSet(tuple(map(str, range(30)))).colours
    hues, _, values = np.array([colorsys.rgb_to_hsv(*(value / 255 for value in colour)) for colour in colours]).T
    np.testing.assert_allclose(np.diff(hues) % 1, (5**0.5 - 1) / 2, atol=0.01)
    np.testing.assert_allclose(values, [0.95, 0.65] * 15, atol=0.01)
