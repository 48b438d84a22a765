"""Make the clip of the README: zooming into a generated street.

    python benchmarks/clip.py

Writes docs/clip.webp: each frame beside the labels of the bundled weights, with temporal smoothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from fastscnn import Segmenter
from fastscnn.base.types import UInt8Array
from fastscnn.data import synthetic

CLIP = Path(__file__).parents[1] / "docs" / "clip.webp"
SEED, FRAMES, NEAREST, RATE = 3, 24, 1.5, 10  # NEAREST: zoom factor of the last frame
DRAWN, SHOWN = (1080, 1440), (270, 360)  # (height, width) of the street, and of each half of the clip


def drive(street: UInt8Array) -> list[UInt8Array]:
    """Return frames that zoom towards the vanishing point of the street."""
    picture = Image.fromarray(street)
    frames = []
    for zoom in np.geomspace(1, NEAREST, FRAMES):
        height, width = DRAWN[0] / zoom, DRAWN[1] / zoom
        left, top = (DRAWN[1] - width) / 2, 0.45 * (DRAWN[0] - height)
        box = (left, top, left + width, top + height)
        frames.append(np.asarray(picture.resize(SHOWN[::-1], Image.Resampling.LANCZOS, box), np.uint8))
    return frames


def main() -> None:
    segmenter = Segmenter.load(backend="onnx")
    frames = drive(synthetic.draw(*DRAWN, seed=SEED).image)
    halves = [np.hstack([frame, result.blend(frame)]) for frame, result in segmenter.stream(frames, smoothing=True)]
    first, *others = [Image.fromarray(half) for half in halves + halves[::-1]]
    first.save(CLIP, save_all=True, append_images=others, duration=1000 // RATE, loop=0, quality=40, method=6)


if __name__ == "__main__":
    main()
