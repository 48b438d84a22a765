"""The parsers, each with valid files to start from and what calls it."""

from __future__ import annotations

import base64
import io
import json
import pickle
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
from conftest import _write_onnx
from PIL import Image

from fastscnn import backends, cli
from fastscnn.annotations import rle
from fastscnn.base import archives as tars
from fastscnn.base.arguments import height_width
from fastscnn.base.errors import FastSCNNError
from fastscnn.benchmark import latency_budget
from fastscnn.cli import options, recipe_options, segment
from fastscnn.data import datasets, lists, mixture, soft
from fastscnn.data.check.cache import Cache
from fastscnn.data.formats import (
    arrays,
    brush,
    coco,
    colours,
    cvat,
    ids,
    labelme,
    labelstudio,
    panoptic,
    rasterise,
    supervisely,
    yolo,
)
from fastscnn.data.formats.base import Contents, Shapes
from fastscnn.data.init import class_files
from fastscnn.distillation import description
from fastscnn.media import images
from fastscnn.model import card, onnx_file, onnx_hash
from fastscnn.model.card import Calibration, Card, Data
from fastscnn.model.label_set import LabelSet
from fastscnn.training import recipes

CORPUS = Path(__file__).with_name("corpus")
LABELS = LabelSet(("road", "car"))
SIZE = (12, 16)  # of the images
IDS = {"road": 0, "car": 1}
Parse = Callable[[Path], object]


@dataclass(frozen=True)
class Target:
    """A parser.

    Attributes:
        seeds: returns valid files.
        run: parses a file.
        name: of the file; its suffix may decide how it is read.
        beside: writes other files into its folder.
        examples: number of changed files in the test suite; fewer if one takes long.
        needs: a package that is not a dependency of the core.
    """

    seeds: Callable[[], Iterable[bytes]]
    run: Parse
    name: str = "file"
    beside: Callable[[Path], object] = lambda _: None
    examples: int = 25
    needs: str = ""

    def prepared(self, folder: Path) -> Callable[[bytes], None]:
        """Return what parses bytes in a folder, and raises only what is a finding."""
        self.beside(folder)

        def check(data: bytes) -> None:
            path = folder / self.name
            path.write_bytes(data)
            with suppress(FastSCNNError):
                self.run(path)

        return check

    def inputs(self) -> list[bytes]:
        """Return the seeds, and what was found before."""
        found = next(name for name, target in TARGETS.items() if target is self)
        return [*self.seeds(), *(path.read_bytes() for path in sorted((CORPUS / found).glob("*")))]


# Files


def _pixels(seed: int = 0, channels: tuple[int, ...] = (), most: int = 2) -> Any:
    return np.random.default_rng(seed).integers(0, most, (*SIZE, *channels)).astype(np.uint8)


def _images(folder: Path) -> None:
    """Two images with labels, for what refers to them."""
    for name in "ab":
        for below, pixels in (("images", _pixels(0, (3,), 256)), ("labels", _pixels())):
            images.write(folder / below / f"{name}.png", pixels)
            images.write(folder / f"{name}.png", pixels)


def _encoded(kind: str, pixels: Any = None, **more: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(_pixels() if pixels is None else pixels).save(buffer, kind, **more)
    return buffer.getvalue()


def _indexed() -> bytes:
    image, buffer = Image.fromarray(_pixels()), io.BytesIO()
    image.putpalette(bytes(range(12)))
    image.save(buffer, "PNG", transparency=1)
    return buffer.getvalue()


def _saved(save: Callable[..., None], *given: Any, **named: Any) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *given, **named)
    return buffer.getvalue()


def _json(table: Any) -> bytes:
    return json.dumps(table).encode()


_CARD = Card(LABELS, (64, 96), data=Data("d", "train", 3, "none", "0" * 64), recipe={"name": "paper", "lr": 0.1},
             metrics={"val": {"miou": 50.0, "pixel_accuracy": 90.0, "iou": {"road": 50.0, "car": None}},
                      "val at 32x48": {"miou": 40.0}},
             losses={"onnx int8": {"miou": 0.1, "worst": 1.0, "class": "car", "labels": 99.0, "split": "val", "images": 3}},
             calibration=Calibration(1.5, 2.0, "val", 3, 5.0, 1.0), content_sha256="0" * 64)  # fmt: skip
_OLD = {"classes": ["road"], "colours": [[1, 2, 3]], "size": [64, 96], "width": 1.0, "data": None, "recipe": {"decayed": "all"},
        "calibration": {"temperature": 1, "unknown_below": 2, "split": "val", "images": 1, "ece_before": 1, "ece": 1}}
_CLASSIFIER = {"classes": ["cat", "dog"], "size": [32, 32], "shorter": 36, "data": None, "recipe": {},
               "metrics": {"val": {"top1": 50, "top5": 90}}}
_TOML = b"""name = "d"
classes = ["road", "car"]
colours = [[128, 0, 0], [128, 0, 128]]
ignore = [0, 255]
terms = "none"
[map]
7 = "road"
"*" = "ignore"
[splits.train]
images = ["images/*.png", "**/*.png"]
labels = "labels/{1}.png"
soft = "soft/{stem}.npz"
list = "list.txt"
[splits.all]
images = "images/*.png"
labels = "labels/{stem}.png"
window = "64x64"
fractions = { one = 0.5, two = 0.5 }
seed = 1
[soft]
classes = ["wall", "car"]
map = { wall = "road" }
"""
_COLOURS_TOML = b"""name = "d"
classes = ["road", "car"]
labels_are = "colours"
[map]
"128,0,0" = "road"
"#800080" = "car"
[splits.train]
images = "images/*.png"
labels = "labels/{stem}.png"
"""
_SHAPES_TOML = b"""name = "d"
classes = ["road", "car"]
labels_are = "labelme"
background = "road"
order = ["car"]
[splits.train]
images = "images/*.png"
labels = "labels/{stem}.json"
thermal = "labels/{stem}.png"
"""
_MIXTURE = b"""[[datasets]]
data = "dataset.toml"
split = "one"
weight = 1.0
[[datasets]]
data = "dataset.toml"
weight = 2
[datasets.map]
road = "car"
car = "ignore"
"""
_FOREIGN = b"""model = "x.onnx"
classes = ["road", "car"]
size = "native"
multiple = 32
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]
order = "bgr"
layout = "nhwc"
output = "probabilities"
output_name = "y"
terms = "none"
"""
_OUTLINE: list[list[float]] = [[1, 1], [9, 2], [8.5, 9]]
_FLAT = [value for point in _OUTLINE for value in point]
_COCO = {
    "images": [{"id": 1, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}],
    "categories": [{"id": 1, "name": "road"}, {"id": 2, "name": "car"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [_FLAT, _FLAT]},
        {"id": 2, "image_id": 1, "category_id": 2, "segmentation": rle.encode(_pixels() == 1)},
        {"id": 3, "image_id": 1, "category_id": 2, "iscrowd": 1, "segmentation": {"size": list(SIZE), "counts": [10, 100, 82]}},
    ],
}
_PANOPTIC = {
    "images": [{"id": "a", "file_name": "a.jpg"}],
    "categories": [{"id": 1, "name": "road"}],
    "annotations": [{"image_id": "a", "file_name": "a.png", "segments_info": [{"id": 65793, "category_id": 1}]}],
}
_MASK = base64.b64encode(_encoded("PNG", np.ones((3, 4), np.uint8))).decode()
_LABELME = {
    "imageHeight": SIZE[0], "imageWidth": SIZE[1], "imagePath": "b.png",
    "shapes": [{"label": "road", "points": points, "shape_type": kind, "mask": _MASK} for kind, points in (
        ("polygon", _OUTLINE), ("rectangle", _OUTLINE[:2]), ("oriented_rectangle", [*_OUTLINE, [1, 9]]),
        ("circle", _OUTLINE[:2]), ("line", _OUTLINE[:2]), ("linestrip", _OUTLINE), ("point", _OUTLINE[:1]),
        ("mask", [[1, 1], [4, 3]]))],
}  # fmt: skip
_SUPERVISELY = {
    "size": {"height": SIZE[0], "width": SIZE[1]},
    "objects": [
        {"classTitle": "road", "geometryType": "polygon", "points": {"exterior": _OUTLINE, "interior": [_OUTLINE]}},
        {"classTitle": "car", "geometryType": "rectangle", "points": {"exterior": _OUTLINE[:2], "interior": []}},
        {"classTitle": "car", "geometryType": "bitmap", "bitmap": {"origin": [1, 1], "data": _MASK}},
    ],
}
_BITS = f"{16:032b}{7:05b}" + 4 * f"{7:04b}" + f"100{14:08b}{255:08b}" + f"000{0:08b}{0:08b}"  # 15 bytes of 255, and one of 0
_BRUSH = int(_BITS.ljust(-len(_BITS) % 8 + len(_BITS), "0"), 2).to_bytes(-(-len(_BITS) // 8), "big")
_STUDIO = [{
    "id": 1, "data": {"image": "/data/upload/1/0123abcd-a.png"},
    "annotations": [{"result": [
        {"type": kind, "original_height": 2, "original_width": 2, "image_rotation": 0, "value": value} for kind, value in (
            ("polygonlabels", {"polygonlabels": ["road"], "points": [[1, 1], [90, 2], [50, 90]]}),
            ("brushlabels", {"brushlabels": ["car"], "rle": list(_BRUSH)}))
    ]}],
}]  # fmt: skip
_CVAT = b"""<?xml version="1.0" encoding="utf-8"?><annotations><meta><labels><label><name>road</name></label></labels></meta>
<image name="a.png" width="16" height="12"><polygon label="road" points="1,1;9,2;8.5,9" z_order="1"/>
<box label="car" xtl="1" ytl="1" xbr="5" ybr="5" rotation="30"/><ellipse label="car" cx="5" cy="5" rx="3" ry="2"/>
<mask label="car" rle="2,2,2" left="1" top="1" width="3" height="2"/><tag label="road"/></image></annotations>"""
_FACTS = {"pixels": [1, 2], "size": [12, 16], "remarks": [], "image": "a", "labels": "b", "ignored": 0, "unknown": 0,
          "values": [0, 1], "palette": [[0, "#000000"]], "names": [["road", 1]], "outlines": [["far", 1, "x"]], "soft": ""}
_LATENCY = {"choices": [{"size": [64, 96], "milliseconds": 1.5, "frame": [360, 480]}], "day": "2026-01-01"}
_RUN = {"recipe": {"name": "x", "source": "y", "crop": [64, 96], "class_weights": [1.0, 2.0], "lr": 0.1, "width": 1}}
_CLASS_FILES = (
    b"road, car", b"0: road\n1: car\n", b"name,r,g,b\nroad,128,64,128\ncar,0,0,142\n", b"# label:color_rgb:parts:actions\n"
    b"road:128,64,128::\ncar:0,0,142::\n", b"road #804080\ncar #00008e\n", b"id;name;trainId\n0;road;0\n1;car;255\n",
    b'{"classes": [{"title": "road", "color": "#804080"}, {"title": "car", "id": 1}]}', b'{"0": "road", "1": "car"}',
    b"path: x\nnames:\n  0: road\n  1: 'car'  # x\nnc: 2\n", b"names: ['road', \"car\"]\n", b"classes:\n- road\n- car\n",
)  # fmt: skip
_WORDS = b"a.png\n--size=64x96\n--scales\n0.5,1\n--threads\n2\n--flip\n--save\nlabels\n--quality\n90\n--out\n/nowhere/out"


# What calls the parsers


def _read_card(path: Path) -> None:
    read = Card.from_json(path.read_text("utf-8", "surrogateescape"), path)
    assert Card.from_json(read.to_json(), path) == read
    read.inputs()
    for size in (read.size, (32, 48)):
        read.miou(size)
    for name in read.losses:
        read.keeps_accuracy(*name.partition(" ")[::2])
    read.to_dict()


def _read_classifier_card(path: Path) -> None:
    from fastscnn.network.classifier_card import ClassifierCard

    read = ClassifierCard.from_json(path.read_text("utf-8", "surrogateescape"), path)
    assert ClassifierCard.from_json(read.to_json(), path) == read


def _onnx_metadata(path: Path) -> None:
    """Open an ONNX file with a card of any bytes."""
    model = Path(backends.__file__).with_name("matmul_peak.float32.onnx").read_bytes()
    entry = _field(1, card.KEY.encode()) + _field(2, path.read_bytes())
    path.with_suffix(".onnx").write_bytes(model + _field(14, entry))
    backends.load(path.with_suffix(".onnx"), "onnx", 1)


def _field(number: int, content: bytes) -> bytes:
    """A field of bytes in protobuf's wire format."""
    length, size = bytearray(), len(content)
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + content


def _networks() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        return [_write_onnx(Path(folder, "tiny.onnx")).read_bytes()]


def _hash(path: Path) -> None:
    with suppress(ValueError):
        onnx_hash.content_sha256(path.read_bytes())
    onnx_hash.check(path, path.read_bytes(), _CARD)


def _weights() -> list[bytes]:
    import safetensors.numpy

    tensors: dict[str, Any] = {"a.weight": np.zeros((2, 3), np.float32), "b": np.zeros(2, np.int64)}
    return [safetensors.numpy.save(tensors, {key: text}) for key, text in (
        (card.KEY, _CARD.to_json()), ("fastscnn.classifier", json.dumps(_CLASSIFIER | {"parameters_sha256": ""})))]


def _load_weights(path: Path) -> None:
    from fastscnn.network import checkpoint

    checkpoint.load_any(path)


def _pickles() -> list[bytes]:
    state = {"conv.weight": np.ones((2, 3), np.float32), "counts": np.zeros(2, ">i8"), "step": 3, "log": [1.5, None, ("a", {})]}
    return [_saved(lambda file, protocol: pickle.dump(state, file, protocol), protocol) for protocol in (2, 4)]


def _tensors(zipped: bool = True) -> bytes:
    import torch

    tensors = {"conv.weight": torch.ones(2, 3), "conv.bias": torch.zeros(2, dtype=torch.half)}
    state = {"state_dict": tensors, "meta": {"x": [1, "a"]}}
    return _saved(lambda file: torch.save(state, file, _use_new_zipfile_serialization=zipped))


def _checkpoints() -> list[bytes]:
    return [*_pickles(), _tensors(), _tensors(zipped=False)]


def _data_pkl() -> list[bytes]:
    with zipfile.ZipFile(io.BytesIO(_tensors())) as archive:
        return [archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))]


def _read_checkpoint(path: Path) -> None:
    from fastscnn.convert import pickles

    pickles.read(path)


def _tars() -> Iterable[bytes]:
    """Two files in an archive of each kind."""
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w", format=kind) as tar:
            for name in ("a.jpg", "folder/" * 10 + "name" * 20 + ".png"):
                entry = tarfile.TarInfo(name)
                entry.size = 600
                tar.addfile(entry, io.BytesIO(bytes(600)))
        yield made.getvalue()


def _read_tar(path: Path) -> None:
    """Read every file of an archive. A problem is a finding, not an error."""
    tars._scanned.cache_clear()  # the archive may have the size and the time of the last one
    for name in tars.names(path):
        assert len(tars.read(path / name)) <= path.stat().st_size
    tars.problem(path)


def _read_archive(path: Path) -> None:
    """Read an archive of PyTorch with a pickle of any bytes."""
    archive = path.with_suffix(".pth")
    with zipfile.ZipFile(archive, "w") as made:
        for name, content in (("data.pkl", path.read_bytes()), ("version", b"3\n"), ("byteorder", b"little"),
                              ("data/0", bytes(24)), ("data/1", bytes(4))):  # fmt: skip
            made.writestr(f"archive/{name}", content)
    _read_checkpoint(archive)


def _read_dataset(path: Path) -> None:
    spec = datasets.load(path)
    for split in spec.splits:
        with suppress(FastSCNNError):
            for pair in spec.pairs(split)[:2]:
                spec.read(pair)


def _shapes(made: Shapes, contents: Callable[[Path], Contents]) -> Parse:
    """Return what reads a file of shapes in every way."""

    def read(path: Path) -> None:
        image = path.parent / "a.png"
        with suppress(FastSCNNError):
            contents(path)
        decoded = made.read(path, image, LABELS)
        for _, corners in made.outlines(path, image, SIZE):
            assert corners.ndim == 2
        made.other_image(path, image)
        made.files(path, image)
        assert decoded.labels.dtype == np.uint8

    return read


def _read_labels(path: Path) -> None:
    """Read an image in every way in which it can hold labels."""
    decoders: tuple[Callable[[], object], ...] = (
        lambda: ids.IdLabels(palette=((0, 1, 2), (3, 4, 5))).read(path, path, LABELS),
        lambda: ids.BinaryLabels(128, "").read(path, path, LABELS),
        lambda: ids.IdLabels(channel="alpha").read(path, path, LABELS),
        lambda: colours.ColourLabels().read(path, path, LABELS),
        lambda: images.read(path), lambda: images.read_grey(path), lambda: images.read_wide_ids(path),
        lambda: images.size(path),
        lambda: images.read_reduced(path, lambda size: (size[0] // 2, size[1] // 2)),
    )  # fmt: skip
    for decoder in decoders:
        with suppress(FastSCNNError):
            decoder()


def _read_list(path: Path) -> None:
    for known in ((), ("images/a.png", "images/b.png")):
        with suppress(FastSCNNError):
            lists.ListFile(path, path.parent, known).read()


def _read_classes(path: Path) -> None:
    for suffix in (".txt", ".csv", ".json", ".yaml"):
        file = path.with_name("classes").with_suffix(suffix)
        file.write_bytes(path.read_bytes())
        with suppress(FastSCNNError):
            class_files.rows_of(file)


def _read_facts(path: Path) -> None:
    """Read the cache of `check`, at the place where it lies for this dataset."""
    spec = datasets.load(path.parent / "dataset.toml")
    cache = Cache(path.parent, spec)
    cache._path.write_bytes(path.read_bytes())
    cache = Cache(path.parent, spec)
    for pair in spec.pairs("one"):
        cache.get(pair, "x")


def _read_flags(path: Path) -> None:
    """Read a word by each reader of a value; tyro turns a ValueError into a message."""
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    readers = (options.milliseconds, options.numbers, options.several_sizes, options._network_size, options._tile,
               options._threads, options.number_within(0, 1), height_width, recipe_options._range,
               recipe_options._class_weights)  # fmt: skip
    for read in readers:
        with suppress(ValueError):
            read(text)


def _call(path: Path) -> None:
    """Parse the words of a call of `fastscnn segment`, one in each line, without running it."""
    words = path.read_bytes().decode("utf-8", "surrogateescape").split("\n")

    @wraps(segment.run)
    def nothing(*_: object, **__: object) -> int:
        return 0

    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        assert cli.parse(nothing, "fastscnn segment", segment.USAGE, words) in (0, 1, 2)


def _with_dataset(folder: Path) -> None:
    _images(folder)
    lines = _TOML.replace(b'list = "list.txt"\n', b"").replace(b'soft = "soft/{stem}.npz"\n', b"").partition(b"[soft]")[0]
    (folder / "dataset.toml").write_bytes(lines)
    (folder / "list.txt").write_bytes(b"images/a.png labels/a.png\n")


def _of(*seeds: Any) -> Callable[[], list[bytes]]:
    return lambda: [seed if isinstance(seed, bytes) else _json(seed) for seed in seeds]


_SHAPES: Mapping[str, tuple[Any, Parse, str]] = {
    "coco": (_COCO, _shapes(coco.CocoLabels(IDS), coco.contents), "x.json"),
    "coco-panoptic": (_PANOPTIC, _shapes(panoptic.PanopticLabels(IDS), panoptic.contents), "x.json"),
    "cvat": (_CVAT, _shapes(cvat.CvatLabels(IDS), cvat.contents), "x.xml"),
    "label-studio": (_STUDIO, _shapes(labelstudio.LabelStudioLabels(IDS), labelstudio.contents), "x.json"),
    "labelme": (_LABELME, _shapes(labelme.LabelMeLabels(IDS), labelme.contents), "x.json"),
    "supervisely": (_SUPERVISELY, _shapes(supervisely.SuperviselyLabels(IDS), supervisely.contents), "x.json"),
    "yolo": (b"0 0.1 0.1 0.9 0.2 0.8 0.9\n1 0.5 0.5 0.6 0.5 0.6 0.9\n",
             _shapes(yolo.YoloLabels({"0": 0, "1": 1}), yolo.contents), "x.txt"),
}  # fmt: skip

TARGETS: Mapping[str, Target] = {
    "card": Target(_of(_CARD.to_json().encode(), _OLD), _read_card),
    "classifier-card": Target(_of(_CLASSIFIER), _read_classifier_card),
    "onnx-metadata": Target(_of(_CARD.to_json().encode(), _OLD), _onnx_metadata),
    "onnx-file": Target(_networks, onnx_file.load, "x.onnx", needs="onnx"),
    "onnx-hash": Target(lambda: [Path(backends.__file__).with_name("matmul_peak.float32.onnx").read_bytes()], _hash),
    "weights": Target(_weights, _load_weights, "x.safetensors", examples=4, needs="torch"),
    "checkpoint": Target(_checkpoints, _read_checkpoint, needs="torch"),
    "checkpoint-pickle": Target(_data_pkl, _read_archive, examples=20, needs="torch"),
    "dataset": Target(_of(_TOML, _COLOURS_TOML, _SHAPES_TOML), _read_dataset, "fuzzed.toml", _with_dataset),
    "mixture": Target(_of(_MIXTURE), lambda path: mixture.load(str(path)), "fuzzed.toml", _with_dataset),
    "teacher": Target(_of(_FOREIGN), description.load, "fuzzed.toml"),
    "list": Target(_of(b"images/a.png labels/a.png\nimages/b.png labels/b.png\n", b"image,label\n/x/images/a.png,b\n", b"a\nb"),
                   _read_list, "fuzzed.txt", _images),
    "class-files": Target(_of(*_CLASS_FILES), _read_classes),
    **{name: Target(_of(seed), run, file, _images) for name, (seed, run, file) in _SHAPES.items()},
    "tar": Target(_tars, _read_tar, "x.tar"),
    "brush": Target(_of(_BRUSH), lambda path: brush.decode(path.read_bytes(), 16)),
    "rle": Target(_of(b"04\\\\5", b"0e0"), lambda path: rasterise.coco_counts(path.read_bytes().decode("latin1"))),
    "image": Target(lambda: [
        _encoded("PNG"), _indexed(), _encoded("PNG", _pixels(1, (4,))), _encoded("PPM"), b"P2\n3 2\n7\n1 2 3\n4 5 7\n",
        b"P5\n3 2\n9\n" + bytes(6), b"P5 2 1 300\n" + bytes(4), b"P1\n2 2\n0 1 1 0\n", _encoded("JPEG", _pixels(0, (3,))),
        _encoded("TIFF", compression="tiff_lzw"), _encoded("BMP"), _encoded("GIF"), _encoded("WEBP", _pixels(0, (3,))),
    ], _read_labels, "x.png"),
    "npy": Target(lambda: [_saved(np.save, _pixels()), _saved(np.save, np.zeros(SIZE))], arrays.npy, "x.npy"),
    "mat": Target(lambda: [_mat(labels=_pixels()), _mat(labels=_pixels(), map={"x": 1})], arrays.mat, "x.mat", needs="scipy"),
    "soft": Target(lambda: [_saved(np.savez_compressed, probabilities=np.full((2, 2, 2), 128, np.uint8),
                                   classes=np.array(["road", "car"]))],
                   lambda path: soft.SoftClasses(LABELS.names, (0, 1)).read(path, SIZE), "x.npz"),
    "recipe": Target(_of(_RUN), recipes.from_run, "run.json"),
    "check-cache": Target(_of({json.dumps(["images/a.png", "labels/a.png", None]): ["x", _FACTS]}), _read_facts, "x.json",
                          _with_dataset),
    "latency-cache": Target(_of(_LATENCY), latency_budget._read),
    "flags": Target(_of(b"33ms", b"0.5,1", b"64x96,32x48", b"native", b"auto", b"4", b"0.5:2", b"log", b"1,2,3"), _read_flags),
    "call": Target(_of(_WORDS), _call, examples=8),
}  # fmt: skip


def _mat(**variables: Any) -> bytes:
    from scipy.io import savemat

    return _saved(savemat, variables)
