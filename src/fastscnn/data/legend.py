"""A legend of classes, to draw below an image."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fastscnn.base.types import UInt8Array
from fastscnn.model.label_set import LabelSet


def legend(label_set: LabelSet, texts: Mapping[str, str], width: int) -> UInt8Array:
    """Return a strip of classes in their colours, uint8 [rows, width, 3].

    Args:
        label_set: the colours of the classes.
        texts: the text beside the colour of each class, by the name of the class, in this order.
        width: in pixels; a full row is continued in the next.
    """
    line = min(max(width // 40, 14), 48)  # pixels: legible on a thumbnail and on a 4K frame
    font = ImageFont.load_default(0.62 * line)
    entries = []  # name, text, x, row
    x = row = 0
    for name, text in texts.items():
        needed = 2 * line + round(font.getlength(text))
        if x and x + needed > width:
            x, row = 0, row + 1
        entries.append((name, text, x, row))
        x += needed
    strip = Image.new("RGB", (width, (row + 1) * line + line // 2), (24, 24, 24))
    draw = ImageDraw.Draw(strip)
    for name, text, x, row in entries:
        left, top = x + line // 2, row * line + line // 4
        colour = label_set.colours[label_set.index(name)]
        draw.rectangle((left, top + line // 6, left + line * 2 // 3, top + line * 5 // 6), fill=colour)
        draw.text((left + line, top + line // 2), text, fill=(235, 235, 235), font=font, anchor="lm")
    return np.array(strip, np.uint8)
