"""Every kind of file that is saved: `python saves.py FOLDER SEED` saves each one, over an older one where that is allowed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from fastscnn.annotations.writer import AnnotationWriter
from fastscnn.base import files
from fastscnn.base.types import AnnotationFormat, UInt8Array
from fastscnn.inference.segmentation import Segmentation
from fastscnn.media import images
from fastscnn.model.label_set import LabelSet

CLASSES = LabelSet(("a", "b"))
SIZE = (192, 256)


def noise(seed: int, *shape: int) -> UInt8Array:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def segmented(folder: Path, seed: int) -> None:
    labels = noise(seed, *SIZE) % 2
    image, confidence = noise(seed, *SIZE, 3), np.asarray(noise(seed, *SIZE) / 255, np.float32)
    Segmentation(labels, CLASSES, confidence, labels > 0, image, stem="street").save(folder)


def annotated(kind: AnnotationFormat) -> Callable[[Path, int], None]:
    def save(folder: Path, seed: int) -> None:
        with AnnotationWriter(kind, folder, CLASSES) as writer:
            writer.add("street.jpg", (noise(seed, SIZE[0] // 12, SIZE[1] // 16) % 2).repeat(12, 0).repeat(16, 1))

    return save


def video(suffix: str) -> Callable[[Path, int], None]:
    def save(folder: Path, seed: int) -> None:
        from fastscnn.media.video import Frame, Source
        from fastscnn.media.video_writer import Writer

        frames = [Frame(noise(seed + 10 * number, *SIZE, 3), number, number, 0.0) for number in range(4)]
        source = Source("noise", iter(frames), SIZE, Fraction(1, 25), Fraction(25), len(frames))
        with Writer(folder / f"drive{suffix}", source, SIZE) as writer:
            for frame in frames:
                writer.write(frame.image, frame.pts)

    return save


# Name -> a function of a folder and a seed: other seeds give other content.
SAVES: dict[str, Callable[[Path, int], object]] = {
    "bytes": lambda folder, seed: files.write(folder / "card.json", noise(seed, 40_000).tobytes()),
    "png": lambda folder, seed: images.write(folder / "a.png", noise(seed, *SIZE, 3)),
    "jpeg": lambda folder, seed: images.write(folder / "a.jpg", noise(seed, *SIZE, 3)),
    "segmentation": segmented,
    "coco": annotated("coco"),
    "coco-rle": annotated("coco-rle"),
    "labelme": annotated("labelme"),
    "yolo": annotated("yolo"),
}
if find_spec("av") is not None:
    SAVES |= {suffix: video(suffix) for suffix in (".mp4", ".mov")}
NEW_ONLY = ("coco", "coco-rle", "labelme", "yolo")  # they refuse to replace a file


def save(folder: Path, seed: int) -> None:
    """Save each kind of file in a folder of its own."""
    for name, write in SAVES.items():
        write(folder / name, seed)


def content(folder: Path) -> dict[str, bytes]:
    """The files below a folder, without those that a killed process left unfinished."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*")
            if path.is_file() and path.suffix != ".part"}


if __name__ == "__main__":
    save(Path(sys.argv[1]), int(sys.argv[2]))
