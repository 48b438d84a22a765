"""Label files of ids, colours and masks, however they are stored; and the [map] of a dataset.toml."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data import datasets
from fastscnn.data.check.dataset import check
from fastscnn.data.datasets import DatasetSpec
from fastscnn.data.formats import colours
from fastscnn.data.formats.ids import BinaryLabels
from fastscnn.media import images
from fastscnn.media.windows import Box
from fastscnn.model.label_set import LabelSet

IDS = np.random.default_rng(0).integers(0, 3, (40, 50)).astype(np.uint8)
COLOURS = np.array([(0, 0, 255), (128, 64, 128), (255, 0, 0)], np.uint8)
_SPLIT = '[splits.train]\nimages = "images/*.png"\nlabels = "labels/{{stem}}.{suffix}"\n'


def made(root: Path, labels: dict[str, bytes], extra: str = "", suffix: str = "png", classes: str = '["sky", "road", "car"]',
         table: str = "") -> DatasetSpec:
    """A dataset with an image for each label file."""
    for name, content in labels.items():
        for folder in ("images", "labels"):
            (root / folder).mkdir(exist_ok=True, parents=True)
        seed = np.random.default_rng(sum(name.encode()))
        images.write(root / f"images/{name}.png", seed.integers(0, 256, (*IDS.shape, 3)).astype(np.uint8))
        (root / f"labels/{name}.{suffix}").write_bytes(content)
    (root / "dataset.toml").write_text(f'name = "d"\nclasses = {classes}\n{extra}\n{_SPLIT.format(suffix=suffix)}{table}')
    return datasets.load(root)


def encoded(pixels: npt.NDArray[Any], kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def npy(array: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npz(array: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, array)
    return buffer.getvalue()


def indexed(ids: UInt8Array, order: list[int]) -> bytes:
    """An indexed PNG in which class k has the index order[k], and the colour of the class."""
    palette = np.zeros((256, 3), np.uint8)
    palette[order] = COLOURS
    image = Image.fromarray(np.array(order, np.uint8)[ids])
    image.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def read(spec: DatasetSpec, name: str = "a") -> UInt8Array:
    """The labels as training reads them; checked to be those that `check` counts."""
    (pair,) = (pair for pair in spec.pairs("train") if pair.image.stem == name)
    labels = spec.read(pair)[1]
    counted = check(spec)
    assert not [finding for finding in counted.findings if finding.severity == "error"]
    return labels


STORED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "grey": ("png", lambda: encoded(IDS)),
    "indexed": ("png", lambda: indexed(IDS, [0, 1, 2])),
    "grey with alpha": ("png", lambda: encoded(np.dstack([IDS, np.full_like(IDS, 255)]))),
    "grey in RGB": ("png", lambda: encoded(np.dstack([IDS] * 3))),
    "grey in RGBA": ("png", lambda: encoded(np.dstack([IDS] * 3 + [np.full_like(IDS, 7)]))),
    "16 bits": ("png", lambda: encoded(IDS.astype(np.uint16))),
    "32 bits": ("tif", lambda: encoded(IDS.astype(np.int32), "TIFF")),
    "float": ("tif", lambda: encoded(IDS.astype(np.float32), "TIFF")),
    "bmp": ("bmp", lambda: encoded(IDS, "BMP")),
    "npy": ("npy", lambda: npy(IDS)),
    "npy int64": ("npy", lambda: npy(IDS.astype(np.int64))),
    "npy float, Fortran order": ("npy", lambda: npy(np.asfortranarray(IDS.astype(np.float64)))),
}


@pytest.mark.parametrize("name", STORED)
def test_ids_are_read_as_stored(tmp_path: Path, name: str) -> None:
    suffix, content = STORED[name]
    np.testing.assert_array_equal(read(made(tmp_path, {"a": content()}, suffix=suffix)), IDS)


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        ("png", encoded(np.dstack([IDS, IDS])), "has transparent parts"),
        ("png", encoded(COLOURS[IDS]), "is a colour image"),
        ("tif", encoded(IDS + np.float32(0.5), "TIFF"), "holds the value [0-9.]+, which is no class id"),
        ("tif", encoded(np.where(IDS == 1, np.nan, IDS).astype(np.float32), "TIFF"), "holds the value nan"),
        ("tif", encoded(np.where(IDS == 1, np.nan, IDS).astype(np.float32), "TIFF"), "save an id in its place, such as 255"),
        ("npy", npy(IDS + 0.5), "holds the value [0-9.]+, which is no class id"),
        ("npy", npy(np.dstack([IDS, IDS])), r"has the shape \[40, 50, 2\]; labels are \[height, width\]"),
        ("npy", npy(np.zeros((0, 5), np.uint8)), r"has the shape \[0, 5\]"),
        ("npy", npy(IDS)[:-1], "is truncated"),
        ("npy", npz(IDS), "is no .npy file of numbers"),
        ("npy", npy(np.array([[{}]])), "is no .npy file of numbers"),
        ("npy", npy(IDS.astype(complex)), "holds complex128"),
        ("npy", npy(IDS.astype(np.uint64) + (1 << 40)), "holds the value 1.09951e\\+12, which is no class id"),
        ("npy", npy(IDS.astype(np.int64) - (1 << 40)), "holds the value -1.09951e\\+12, which is no class id"),
        ("npy", b"no", "is no .npy file"),
        ("npy", npy(IDS.astype(np.int16) - 1), "contains the id -1, which is no class"),
        ("npy", npy(IDS.astype(np.int32) * 100_000), "contains the id 100000, which is no class"),
    ],
)
def test_what_is_no_id_is_refused(tmp_path: Path, suffix: str, content: bytes, message: str) -> None:
    spec = made(tmp_path, {"a": content}, suffix=suffix)
    with pytest.raises(FastSCNNError, match=message) as caught:
        spec.read(spec.pairs("train")[0])
    assert str(tmp_path / "labels") in str(caught.value)
    report = check(spec)
    assert {finding.kind for finding in report.findings} & {"unreadable-labels", "unknown-ids"}


def test_mat_files(tmp_path: Path) -> None:
    io_ = pytest.importorskip("scipy.io")
    buffer = io.BytesIO()
    io_.savemat(buffer, {"labels": IDS.astype(float), "camera": 7, "name": "street"})
    np.testing.assert_array_equal(read(made(tmp_path / "one", {"a": buffer.getvalue()}, suffix="mat")), IDS)
    buffer = io.BytesIO()
    io_.savemat(buffer, {"labels": IDS, "depth": IDS * 2.5})
    spec = made(tmp_path / "two", {"a": buffer.getvalue()}, suffix="mat")
    with pytest.raises(FastSCNNError, match=r"has 2 matrices \(depth, labels\); name one with variable in dataset.toml"):
        spec.read(spec.pairs("train")[0])
    named = made(tmp_path / "two", {"a": buffer.getvalue()}, 'variable = "labels"', suffix="mat")
    np.testing.assert_array_equal(read(named), IDS)
    wrong = made(tmp_path / "two", {"a": buffer.getvalue()}, 'variable = "label"', suffix="mat")
    with pytest.raises(FastSCNNError, match=r"There is no matrix 'label'\. Did you mean 'labels'"):
        wrong.read(wrong.pairs("train")[0])
    hdf = b"\x89HDF\r\n\x1a\n" + b"0" * 600
    for content, message in ((hdf, "is a file of Matlab 7.3; save it with"), (b"x" * 99, "is no .mat")):
        broken = made(tmp_path / "two", {"a": content}, suffix="mat")
        with pytest.raises(FastSCNNError, match=message):
            broken.read(broken.pairs("train")[0])


def test_fields_of_structs_in_mat_files(tmp_path: Path) -> None:
    io_ = pytest.importorskip("scipy.io")
    buffer = io.BytesIO()  # as of the Semantic Boundaries Dataset
    cells = np.array([IDS, "x"], object)
    io_.savemat(buffer, {"GTcls": {"Segmentation": IDS, "CategoriesPresent": [1, 2], "Boundaries": cells}})
    spec = made(tmp_path, {"a": buffer.getvalue()}, suffix="mat")
    message = r"has no matrix but in a struct \(GTcls\.Segmentation\); name one with variable in dataset\.toml"
    with pytest.raises(FastSCNNError, match=message):
        spec.read(spec.pairs("train")[0])
    named = made(tmp_path, {"a": buffer.getvalue()}, 'variable = "GTcls.Segmentation"', suffix="mat")
    np.testing.assert_array_equal(read(named), IDS)
    buffer = io.BytesIO()
    io_.savemat(buffer, {"name": "street", "empty": {}})
    spec = made(tmp_path, {"a": buffer.getvalue()}, suffix="mat")
    with pytest.raises(FastSCNNError, match="has no matrix of numbers; save the labels as a matrix"):
        spec.read(spec.pairs("train")[0])


def pages(kind: str, *pixels: npt.NDArray[Any], **options: Any) -> bytes:
    first, *others = map(Image.fromarray, pixels)
    buffer = io.BytesIO()
    first.save(buffer, kind, save_all=True, append_images=others, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("extra", ["", f'labels_are = "colours"\ncolours = {COLOURS.tolist()}', 'channel = "red"'])
@pytest.mark.parametrize(("kind", "suffix"), [("TIFF", "tif"), ("GIF", "gif"), ("PNG", "png"), ("WEBP", "webp")])
def test_labels_of_several_pages_are_refused(tmp_path: Path, kind: str, suffix: str, extra: str) -> None:
    pixels = IDS if not extra else COLOURS[IDS]
    content = pages(kind, pixels, pixels[::-1], pixels[:, ::-1], **({"lossless": True} if kind == "WEBP" else {}))
    spec = made(tmp_path, {"a": content}, extra, suffix=suffix)
    with pytest.raises(FastSCNNError, match="has 3 pages or frames, but labels are one image; combine the pages into one"):
        spec.read(spec.pairs("train")[0])
    (finding,) = (finding for finding in check(spec).findings if finding.severity == "error")
    assert finding.kind == "unreadable-labels"
    assert finding.fix == "Combine the pages into one image with a class id for each pixel."
    if kind != "WEBP" and not extra:
        (tmp_path / f"labels/a.{suffix}").write_bytes(pages(kind, pixels))
        np.testing.assert_array_equal(read(spec), IDS)
    assert images.read(content).shape == (*IDS.shape, 3)  # of an image, the first page is used


@pytest.mark.parametrize("kind", [1, 4])
def test_overviews_and_masks_in_a_tiff_are_no_pages(tmp_path: Path, kind: int) -> None:
    smaller = Image.fromarray(IDS[::2, ::2])
    smaller.encoderinfo = {"tiffinfo": {254: kind}}  # Pillow's way to describe one page
    buffer = io.BytesIO()
    Image.fromarray(IDS).save(buffer, "TIFF", save_all=True, append_images=[smaller])
    spec = made(tmp_path, {"a": buffer.getvalue()}, suffix="tif")
    with Image.open(tmp_path / "labels/a.tif") as image:
        assert getattr(image, "n_frames", 1) == 2
    np.testing.assert_array_equal(read(spec), IDS)
    window = images.read_values(tmp_path / "labels/a.tif", Box(5, 10, 25, 30, IDS.shape))[0]
    np.testing.assert_array_equal(window, IDS[10:30, 5:25])


def test_windows_of_several_pages_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(pages("TIFF", IDS, IDS))
    with pytest.raises(FastSCNNError, match="has 2 pages or frames"):
        images.read_values(path, Box(5, 10, 25, 30, IDS.shape))
    assert images.read_oriented(path, box=Box(5, 10, 25, 30, IDS.shape))[0].shape == (20, 20, 3)


def test_ids_of_carla_are_in_the_red_channel(tmp_path: Path) -> None:
    pixels = np.dstack([IDS, np.full_like(IDS, 9), IDS[::-1]])
    np.testing.assert_array_equal(read(made(tmp_path / "r", {"a": encoded(pixels)}, 'channel = "red"')), IDS)
    np.testing.assert_array_equal(read(made(tmp_path / "b", {"a": encoded(pixels)}, 'channel = "blue"')), IDS[::-1])
    spec = made(tmp_path / "g", {"a": encoded(IDS)}, 'channel = "red"')
    with pytest.raises(FastSCNNError, match="has the mode L; ids in the channel red need 8-bit RGB or RGBA"):
        spec.read(spec.pairs("train")[0])


def test_orders_of_palettes_are_undone_by_the_colours_of_the_classes(tmp_path: Path) -> None:
    orders = {"a": [0, 1, 2], "b": [1, 0, 2], "c": [2, 7, 1]}
    files = {name: indexed(IDS, order) for name, order in orders.items()}
    spec = made(tmp_path, files, f"colours = {COLOURS.tolist()}")
    for name in orders:
        np.testing.assert_array_equal(read(spec, name), IDS)


def test_indices_count_if_a_palette_has_other_colours(tmp_path: Path) -> None:
    """As in files whose palette is a greyscale, or that of another dataset."""
    image = Image.fromarray(IDS)
    image.putpalette(np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    np.testing.assert_array_equal(read(made(tmp_path, {"a": buffer.getvalue()}, f"colours = {COLOURS.tolist()}")), IDS)


def test_ignored_indices_need_no_colour(tmp_path: Path) -> None:
    order = [1, 0, 2]
    stored = np.where(IDS == 2, 255, np.array(order, np.uint8)[IDS]).astype(np.uint8)
    palette = np.zeros((256, 3), np.uint8)
    palette[order] = COLOURS
    palette[255] = (224, 224, 192)
    image = Image.fromarray(stored)
    image.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    expected = np.where(IDS == 2, 255, IDS)
    np.testing.assert_array_equal(read(made(tmp_path, {"a": buffer.getvalue()}, f"colours = {COLOURS.tolist()}")), expected)


def test_ids_from_one(tmp_path: Path) -> None:
    stored = np.where(IDS == 0, 0, IDS + 1)
    labels = read(made(tmp_path, {"a": encoded(stored)}, "ignore = 0"))
    np.testing.assert_array_equal(labels, np.where(stored == 0, 255, stored - np.uint8(1)))
    np.testing.assert_array_equal(read(made(tmp_path, {"a": encoded(stored)}, "ignore = [0, 0]")), labels)
    both = made(tmp_path, {"a": encoded(np.where(IDS == 2, 255, stored).astype(np.uint8))}, "ignore = [0, 255]")
    np.testing.assert_array_equal(read(both), np.where(IDS == 2, 255, np.where(stored == 0, 255, stored - 1)))
    spec = made(tmp_path, {"a": encoded(np.where(IDS == 2, 255, stored).astype(np.uint8))}, "ignore = 0")
    with pytest.raises(FastSCNNError, match="contains the id 255"):
        spec.read(spec.pairs("train")[0])


def test_a_map_of_ids(tmp_path: Path) -> None:
    stored = np.array([7, 300, 2600], np.uint16)[IDS]
    table = '[map]\n7 = "road"\n2600 = "road"\n300 = "ignore"\n'
    spec = made(tmp_path, {"a": encoded(stored)}, table=table)
    np.testing.assert_array_equal(read(spec), np.array([1, 255, 1])[IDS])
    spec = made(tmp_path, {"a": encoded(np.where(IDS == 1, 9, stored).astype(np.uint16))}, table=table)
    with pytest.raises(FastSCNNError, match="contains the id 9, which is no class"):
        spec.read(spec.pairs("train")[0])
    (finding, *_) = check(spec).findings
    assert (finding.kind, finding.severity) == ("unknown-ids", "error")
    assert f"9 ({(IDS == 1).sum()} pixels)" in finding.message
    rest = made(tmp_path, {"a": encoded(stored)}, table='[map]\n7 = "car"\n"*" = "sky"\n')
    np.testing.assert_array_equal(read(rest), np.array([2, 0, 0])[IDS])
    far = made(tmp_path, {"a": npy(np.array([-1, 5, 1 << 20])[IDS])}, suffix="npy",
               table='[map]\n"-1" = "ignore"\n5 = "sky"\n1048576 = "car"\n')
    np.testing.assert_array_equal(read(far), np.array([255, 0, 2])[IDS])


def test_a_map_of_colours(tmp_path: Path) -> None:
    table = '[map]\n"0,0,255" = "sky"\n"#804080" = "road"\n"[255, 0, 0]" = "ignore"\n'
    spec = made(tmp_path, {"a": encoded(COLOURS[IDS])}, 'labels_are = "colours"', table=table)
    np.testing.assert_array_equal(read(spec), np.array([0, 1, 255])[IDS])
    assert not [finding for finding in check(spec).findings if finding.kind == "unknown-colours"]
    pixels = COLOURS[IDS].copy()
    pixels[0, 0] = (1, 2, 3)
    strange = made(tmp_path, {"a": encoded(pixels)}, 'labels_are = "colours"', table=table)
    assert read(strange)[0, 0] == 255
    assert "[1, 2, 3] (1 pixel)" in next(one.message for one in check(strange).findings if one.kind == "unknown-colours")
    rest = made(tmp_path, {"a": encoded(pixels)}, 'labels_are = "colours"', table=table + '"*" = "car"\n')
    assert read(rest)[0, 0] == 2


@pytest.mark.parametrize(("largest", "expected"), [(1, 1), (2, 0)])
def test_a_window_is_read_as_its_whole_mask(tmp_path: Path, largest: int, expected: int) -> None:
    """A mask of 0 and 1 holds no larger value anywhere; else 1 is far below the threshold."""
    mask = np.ones((40, 50), np.uint8)
    mask[-1, -1] = largest
    path = tmp_path / "a.png"
    path.write_bytes(encoded(mask))
    read_labels = BinaryLabels().read_window(path, path, LabelSet(("no", "yes")), Box(0, 0, 20, 20, mask.shape))
    assert np.unique(read_labels.labels).tolist() == [expected]


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 1, 2), (16, 0, 0), (0, 16, 255), (200, 100, 50)])
def test_colours_as_numbers(colour: tuple[int, int, int]) -> None:
    assert colours.number_of(colour) == int(colours.pack(np.array(colour, np.uint8)))
    assert colours.unpack(colours.number_of(colour)) == colour
    assert colours.hexadecimal(colours.number_of(colour)) == "#" + bytes(colour).hex()


def test_binary_masks(tmp_path: Path) -> None:
    mask = IDS == 1
    antialiased = np.where(mask, 255, 0).astype(np.uint8)
    antialiased[0, :4] = (1, 127, 128, 254)
    files = {
        "a": encoded((mask * 255).astype(np.uint8)), "b": encoded(mask.astype(np.uint8)), "c": encoded(mask),
        "d": encoded(antialiased), "e": encoded(np.zeros_like(IDS)),
        "f": encoded(np.dstack([(mask * 255).astype(np.uint8)] * 3)),
    }  # fmt: skip
    spec = made(tmp_path, files, 'labels_are = "binary"', classes='["background", "road"]')
    for name in "abcf":
        np.testing.assert_array_equal(read(spec, name), mask)
    assert read(spec, "d")[0, :4].tolist() == [0, 0, 1, 1]
    assert not read(spec, "e").any()
    lower = made(tmp_path, files, 'labels_are = "binary"\nthreshold = 1', classes='["background", "road"]')
    assert read(lower, "d")[0, :4].tolist() == [1, 1, 1, 1]


def test_labels_are_turned_by_their_exif_orientation_as_images_are(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    spec = made(tmp_path, {"a": encoded(np.rot90(IDS), exif=exif)})
    np.testing.assert_array_equal(spec.read_labels(tmp_path / "labels/a.png"), IDS)
    kind = f'labels_are = "colours"\ncolours = {COLOURS.tolist()}'
    coloured = made(tmp_path, {"a": encoded(np.rot90(COLOURS[IDS]), exif=exif)}, kind)
    np.testing.assert_array_equal(coloured.read_labels(tmp_path / "labels/a.png"), IDS)


def test_colours_of_16_bits(tmp_path: Path) -> None:
    """As LabelMeFacade ships them: RGBA of 16 bits per channel, and lists of names."""
    cv2 = pytest.importorskip("cv2")
    rgba = np.dstack([COLOURS[IDS][:, :, ::-1], np.full_like(IDS, 255)]).astype(np.uint16) * 257
    content = bytes(cv2.imencode(".png", rgba)[1].tobytes())
    made(tmp_path, dict.fromkeys("abc", content))
    (tmp_path / "train.txt").write_text("a\nb\n")
    (tmp_path / "test.txt").write_text("c\n")
    splits = "".join(f'[splits.{name}]\nimages = "images/*.png"\nlabels = "labels/{{stem}}.png"\nlist = "{name}.txt"\n'
                     for name in ("train", "test"))
    (tmp_path / "dataset.toml").write_text(f'name = "f"\nclasses = ["sky", "road", "car"]\nlabels_are = "colours"\n'
                                           f"colours = {COLOURS.tolist()}\n{splits}")
    spec = datasets.load(tmp_path)
    report = check(spec)
    assert (dict(report.counts), report.ok) == ({"train": 2, "test": 1}, True)
    np.testing.assert_array_equal(spec.read(spec.pairs("test")[0])[1], IDS)
