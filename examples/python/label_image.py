"""Label an image with ONNX Runtime, NumPy and Pillow, without fastscnn.

    pip install onnxruntime numpy pillow
    python label_image.py WEIGHTS.onnx IMAGE LABELS.png

WEIGHTS.onnx is a file of fastscnn, in float32 or int8. Its output is `logits`, which are interpolated here, or `labels`
(`fastscnn export --output labels`). IMAGE is resized to the network's input size, whose shape it should have. LABELS.png has
the size of IMAGE, and one byte per pixel: the class id.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when onnxruntime is imported
import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def input_size(session: onnxruntime.InferenceSession) -> tuple[int, int]:
    """Return (height, width) of the network's input: of the graph if it is static, otherwise of the model card."""
    height, width = session.get_inputs()[0].shape[1:3]  # uint8 [batch, height, width, 3]
    if not isinstance(height, int) or not isinstance(width, int):
        height, width = json.loads(session.get_modelmeta().custom_metadata_map["fastscnn.card"])["size"]
    return height, width


def argmax_at(logits: np.ndarray[Any, Any], size: tuple[int, int]) -> Image.Image:
    """Return the class of each pixel at `size` (width, height), from float32 [C, h, w]: interpolation, then argmax."""
    best = np.full(size[::-1], -np.inf, np.float32)
    labels = np.zeros(size[::-1], np.uint8)
    for class_, plane in enumerate(logits):
        value = np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BILINEAR))
        labels[value > best] = class_
        np.maximum(best, value, out=best)
    return Image.fromarray(labels)


def main(weights: str, source: str, target: str) -> None:
    """Label the image `source` and write `target`."""
    session = onnxruntime.InferenceSession(weights, providers=["CPUExecutionProvider"])
    image = ImageOps.exif_transpose(Image.open(source)).convert("RGB")
    height, width = input_size(session)
    smaller = width * height < image.width * image.height
    resized = image.resize((width, height), Image.Resampling.BOX if smaller else Image.Resampling.BILINEAR)
    (output,) = session.run(None, {session.get_inputs()[0].name: np.asarray(resized)[None]})
    if session.get_outputs()[0].name == "labels":  # uint8 [batch, H, W]
        labels = Image.fromarray(output[0]).resize(image.size, Image.Resampling.NEAREST)
    else:
        labels = argmax_at(output[0], image.size)
    labels.save(target)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
