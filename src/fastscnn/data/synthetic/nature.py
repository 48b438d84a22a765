"""Sky, trees, and gardens."""

from __future__ import annotations

import numpy as np

from fastscnn.data.synthetic.canvas import EYE, Canvas
from fastscnn.data.synthetic.shapes import FENCE, TREE, Rgb, lengthwise, pick, rgb, taper, upright


def sky(canvas: Canvas) -> None:
    """Paint a bright overcast sky: bluish at the top, white at the horizon, soft clouds."""
    height, width = int(canvas.horizon) + 2, canvas.labels.shape[1]
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None] ** 0.7
    zenith, low = rgb((228, 243, 251)), rgb((252, 254, 253))
    clouds = 4 * canvas.grain(height, width, 50 / width)[:, :, None]
    canvas.image[:height] = np.clip(zenith + (low - zenith) * down + clouds, 0, 254).astype(np.uint8)


def tree(canvas: Canvas, x: float, z: float, high: float, bare: bool = False) -> None:
    """Paint trunk, branches and a noisy crown; `bare`: most of the sky is visible through it. All of it is Tree."""
    rng = canvas.rng
    low, half = high * 0.22, high * rng.uniform(0.30, 0.42)
    bark: Rgb = (54, 50, 46)
    canvas.fill(taper((x, 0), (x, high * 0.6), 0.03 * high, z), label=TREE, colour=bark, grain=0.2)
    box = canvas.box(canvas.project(upright(x, z, half, low, high)))
    if box is None:
        return
    top, left, bottom, right = box
    scale = canvas.focal / z
    across = ((np.arange(left, right) - canvas.centre) / scale - x).astype(np.float32)
    up = ((canvas.horizon - np.arange(top, bottom)) / scale + EYE).astype(np.float32)[:, None]
    field = np.full((bottom - top, right - left), -9.0, np.float32)
    shade = np.zeros_like(field)
    for _ in range(9):
        angle, reach, radius = rng.uniform(0, 6.283), rng.uniform(0, 1) ** 0.5, rng.uniform(0.3, 0.5) * half
        dx = (across - np.float32(reach * np.cos(angle) * (half - radius))) / np.float32(radius)
        dy = (up - np.float32((low + high) / 2 + reach * np.sin(angle) * ((high - low) / 2 - radius))) / np.float32(radius)
        lobe = 1 - dx**2 - dy**2
        shade = np.where(lobe > field, dy - np.float32(0.4) * dx, shade)
        field = np.maximum(field, lobe)
    leaves, twigs = canvas.grain(*field.shape, 30 / scale), canvas.grain(*field.shape, 110 / scale)
    crown = field + 0.45 * leaves > 0
    holes = twigs + 0.7 * leaves > (-0.3 if bare else 1.0)
    colour: Rgb = (70, 63, 57) if bare else pick(rng, ((84, 94, 58), (66, 78, 52), (98, 102, 70)))
    light = np.clip(1 + 0.4 * shade + 0.5 * twigs + 0.25 * leaves, 0.12, 2.6)
    solid = crown & ~holes
    canvas.stamp(box, solid, light[solid][:, None] * rgb(colour), label=TREE, depth=z)
    canvas.labels[top:bottom, left:right][crown] = TREE
    for _ in range(26 if bare and z < 45 else 4):
        tip = (x + rng.uniform(-0.6, 0.6) * half, low + rng.uniform(0.35, 0.8) * (high - low))
        canvas.fill(taper((x, rng.uniform(low, high * 0.55)), tip, 0.006 * high, z), label=TREE, colour=bark)


def garden(canvas: Canvas, x: float, side: int, near: float, far: float) -> None:
    """Paint trees on grass behind a railing with a hedge; the gaps of the railing are Fence."""
    rng = canvas.rng
    for z in np.linspace(far - 1, near + 3, 5):
        tree(canvas, x + side * rng.uniform(1.5, 5), float(z), rng.uniform(7, 12), bare=bool(rng.random() < 0.25))
    density = float(np.clip(0.6 * canvas.focal / near, 6, 40))
    width, height = round((far - near) * density), round(1.5 * density)
    leaves = 1 + 0.45 * canvas.grain(height, width, 8 / density) + 0.2 * canvas.grain(height, width, 40 / density)
    hedge = np.clip(leaves, 0.3, 2.2)[:, :, None] * rgb((45, 51, 36))
    along, down = np.arange(width)[None] / density, np.arange(height)[:, None] / density
    bars = (np.mod(along, 0.13) < 0.035) | (np.abs(down - 0.12) < 0.04) | (np.mod(along, 2.0) < 0.1)
    hedge[bars] = hedge[bars] * np.float32(0.2) + rgb((24, 26, 28))
    canvas.texture(lengthwise(x, near, far, 0, 1.5), np.clip(hedge, 0, 255).astype(np.uint8), FENCE)
