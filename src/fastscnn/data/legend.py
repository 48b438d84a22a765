"""A legend of classes, to draw below an image."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fastscnn.base.types import UInt8Array
from fastscnn.model.label_set import Colour, LabelSet

_BACKGROUND, _INK = 24, 235  # grey


def legend(label_set: LabelSet, texts: Mapping[str, str], width: int) -> UInt8Array:
    """Return a strip of classes in their colours, uint8 [rows, width, 3].

    Args:
        label_set: the colours of the classes.
        texts: the text beside the colour of each class, by the name of the class, in this order.
        width: in pixels; a full row is continued in the next.
    """
    line = min(max(width // 40, 14), 48)  # pixels: legible on a thumbnail and on a 4K frame
    entries = []  # pixels, x, row
    x = row = 0
    for name, text in texts.items():
        entry = _entry(label_set.colours[label_set.index(name)], text, line)
        if x and x + entry.shape[1] > width:
            x, row = 0, row + 1
        entries.append((entry, x, row))
        x += entry.shape[1]
    strip = np.full(((row + 1) * line + line // 2, width, 3), _BACKGROUND, np.uint8)
    for entry, x, row in entries:
        top = row * line + line // 4
        strip[top : top + line, x : x + entry.shape[1]] = entry[:, : width - x]
    return strip


@lru_cache(512)  # drawing text takes long, and the frames of a video have the same texts
def _entry(colour: Colour, text: str, line: int) -> UInt8Array:
    """Return a square of a colour with a text beside it, uint8 [line, width, 3]."""
    font = ImageFont.load_default(0.62 * line)
    entry = Image.new("RGB", (2 * line + round(font.getlength(text)), line), (_BACKGROUND,) * 3)
    draw = ImageDraw.Draw(entry)
    draw.rectangle((line // 2, line // 6, line // 2 + line * 2 // 3, line * 5 // 6), fill=colour)
    draw.text((line // 2 + line, line // 2), text, fill=(_INK,) * 3, font=font, anchor="lm")
    pixels = np.array(entry, np.uint8)
    pixels.flags.writeable = False  # shared by all callers
    return pixels
