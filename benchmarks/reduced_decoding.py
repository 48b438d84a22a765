"""How many labels change if a JPEG file is decoded at a fraction of its size, beside another resizer and another quality.

    python benchmarks/reduced_decoding.py IMAGES [--count 61]

IMAGES is a folder of photographs, which are enlarged to each size and written as JPEG files of quality 92 by Pillow. The
labels of `segment --save labels` are compared with those of the whole file, and so are the labels of two other changes:
Pillow's bilinear filter in place of area averages, and a file of quality 88. The network is the bundled one, in float32.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

from fastscnn import Segmenter
from fastscnn.upsampling import upsample

SIZES = ((1200, 2400), (2160, 3840), (4320, 7680))
QUALITY, OTHER_QUALITY = 92, 88


def main(images: Path, /, count: int = 61) -> None:
    """Print the agreement for each size.

    Args:
        images: Folder of photographs.
        count: How many of them, evenly spaced.
    """
    segmenter = Segmenter.load(backend="onnx", precision="float32")
    paths = sorted(path for path in images.iterdir() if path.suffix.lower() in (".jpg", ".png"))
    chosen = [paths[index] for index in np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int)]
    for size in SIZES:
        same: dict[str, list[float]] = {}
        decoded = None
        for path in chosen:
            with Image.open(path) as image:
                large = image.convert("RGB").resize(size[::-1], Image.Resampling.LANCZOS)
            file = saved(large, QUALITY)
            whole = segmenter.segment(file)
            reduced = segmenter.segment(file, keep_image=False)
            decoded = reduced.decoded_size
            assert whole.image is not None
            filtered = Image.fromarray(whole.image).resize(segmenter.input_size(size)[::-1], Image.Resampling.BILINEAR)
            logits = segmenter.backend(np.array(filtered, np.uint8)[None])[0]
            changed = {
                "decoded at a fraction": reduced.labels,
                "bilinear filter": upsample.labels(logits, size),
                f"quality {OTHER_QUALITY}": segmenter.segment(saved(large, OTHER_QUALITY)).labels,
            }
            for name, labels in changed.items():
                same.setdefault(name, []).append(100 * float((labels == whole.labels).mean()))
        print(f"{size}, decoded at {decoded}: " + ", ".join(f"{name} {np.mean(each):.2f} %" for name, each in same.items()))


def saved(image: Image.Image, quality: int) -> bytes:
    """Return a JPEG file."""
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return content.getvalue()


if __name__ == "__main__":
    tyro.cli(main)
