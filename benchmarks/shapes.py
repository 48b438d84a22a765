"""Two tables in Markdown: images of other shapes than the network's input, and images in tiles. For docs/.

    python benchmarks/shapes.py camvid:ROOT

Each image of another shape is the centre of an image of CamVid test. "keep" is `size.in_shape`, the default; "squeeze" is the
card's size for every image. For the tiles, every fifth image is enlarged, and its labels are compared with those of a single
pass over the whole image.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.data.datasets import load
from fastscnn.evaluation.metrics import Confusion
from fastscnn.inference.segmenter import Segmenter
from fastscnn.inference.tiles import tiled, windows
from fastscnn.media import images
from fastscnn.upsampling import upsample

CROPS = (
    *((height, 480) for height in (340, 320, 300, 270, 240, 200, 180, 120)),
    *((360, width) for width in (440, 400, 360, 320, 270, 240, 180, 120)),
)
OVERLAPS = (0, 1 / 8, 1 / 4, 3 / 8, 1 / 2)


def shapes(keep: Segmenter, data: Sequence[tuple[UInt8Array, UInt8Array]]) -> None:
    """Print the mIoU of crops in other shapes, squeezed and kept."""
    card = keep.card
    print("| image | its shape / input's | squeeze | keep | keep, input |\n| --- | --- | --- | --- | --- |")
    squeeze = Segmenter(keep.backend, card.size)
    for height, width in CROPS:
        scores = []
        for segmenter in (squeeze, keep):
            confusion = Confusion(len(card.label_set))
            for image, truth in data:
                top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
                part = (slice(top, top + height), slice(left, left + width))
                confusion.add(segmenter.segment(np.ascontiguousarray(image[part])).labels, truth[part])
            scores.append(confusion.miou())
        ratio = width * card.size[0] / (height * card.size[1])
        made = "x".join(map(str, keep.input_size((height, width))))
        print(f"| {height}x{width} | {ratio:.2f} | {scores[0]:.2f} | {scores[1]:.2f} | {made} |", flush=True)


def tiles(
    segmenter: Segmenter, data: Sequence[tuple[UInt8Array, UInt8Array]], factor: int, tile: tuple[int, int]
) -> None:
    """Print the accuracy in tiles by their overlap, on images enlarged by a factor."""

    def network(image: UInt8Array) -> Float32Array:
        logits: Float32Array = segmenter.backend(image[None])[0]
        return logits

    size = (factor * segmenter.card.size[0], factor * segmenter.card.size[1])
    scaled = [(images.resize(image, size), np.kron(truth, np.ones((factor, factor), np.uint8))) for image, truth in data]
    whole = [upsample.labels(network(image), size) for image, _ in scaled]
    single = Confusion(len(segmenter.card.label_set))
    for labels, (_, truth) in zip(whole, scaled, strict=True):
        single.add(labels, truth)
    print(f"\n{len(data)} images of {size}, tiles of {tile}, mIoU of a single pass {single.miou():.2f}\n")
    print("| overlap, at least | tiles | equal labels, % | mIoU |\n| --- | --- | --- | --- |")
    for overlap in OVERLAPS:
        confusion, equal = Confusion(len(segmenter.card.label_set)), []
        for labels, (image, truth) in zip(whole, scaled, strict=True):
            made = upsample.labels(tiled(network, image, tile, overlap), size)
            equal.append(100 * (made == labels).mean())
            confusion.add(made, truth)
        count = [len(windows(length, side, int(overlap * side))) for length, side in zip(size, tile, strict=True)]
        print(f"| {overlap:g} | {count[0] * count[1]} | {np.mean(equal):.1f} | {confusion.miou():.2f} |", flush=True)


if __name__ == "__main__":
    dataset = load(sys.argv[1])
    test = [dataset.read(pair) for pair in dataset.pairs("test")]
    bundled = Segmenter.load(backend="onnx", precision="float32")
    shapes(bundled, test)
    for factor, tile in ((2, (360, 480)), (4, (360, 480)), (4, (720, 960))):
        tiles(bundled, test[::5], factor, tile)
