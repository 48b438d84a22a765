"""The canvas of the scene: one camera, an image and its labels painted through the same mask, and noise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.data.synthetic.shapes import SKY, Points, Rgb, rgb

EYE = 1.4  # metres from the road to the camera
HAZE, HAZE_DEPTH = (180.0, 186.0, 190.0), 420.0  # colour of haze, and metres at which 1/e of the contrast is left
TILE = 512  # side of the noise tile
_HORIZON = 0.47  # fraction of the height above the horizon, as in CamVid

Mask = npt.NDArray[np.bool_]
Box = tuple[int, int, int, int]  # top, left, bottom, right


class Canvas:
    """An image and its labels while they are painted, and the camera."""

    def __init__(self, height: int, width: int, rng: np.random.Generator) -> None:
        self.image = np.zeros((height, width, 3), np.uint8)
        self.labels = np.full((height, width), SKY, np.uint8)
        self.rng, self.grains = rng, rng.spawn(1)[0]  # separate, so that a seed gives the same street at every size
        self.sunny = int(rng.choice((-1, 1)))  # side whose house fronts are in the sun
        self.focal, self.horizon, self.centre = float(np.sqrt(height * width)), _HORIZON * height, width / 2
        self.noise, self.speckle = _noise(rng, 0.9), _noise(rng, 0.25)
        self._repeated = np.tile(self.noise, (2, 2))
        self._repeated.flags.writeable = False  # `grain` returns views of it

    def project(self, points: Points) -> Points:
        """Project world points [N, 3] to pixels (column, row) [N, 2]; every z must be positive."""
        scale = self.focal / points[:, 2]
        pixels = np.empty((len(points), 2))
        pixels[:, 0], pixels[:, 1] = self.centre + points[:, 0] * scale, self.horizon + (EYE - points[:, 1]) * scale
        return pixels

    def grain(self, height: int, width: int, scale: float = 1.0) -> Float32Array:
        """Return fractal noise [height, width], mean 0, standard deviation 1; `scale`: tile pixels per pixel."""
        row, column = self.grains.integers(TILE, size=2)
        rows, columns = int(height * scale) + 2, int(width * scale) + 2
        crop = self._repeated[row : row + rows, column : column + columns]
        if crop.shape != (rows, columns):  # larger than the tile
            crop = self.noise[np.ix_((row + np.arange(rows)) % TILE, (column + np.arange(columns)) % TILE)]
        return crop if (rows, columns) == (height, width) else _stretch(crop, height, width)

    def fill(self, *contours: Points, label: int | None, colour: Rgb, light: tuple[float, float] = (1, 1), grain: float = 0.08,
             alpha: float = 1.0) -> None:
        """Fill polygons, each [N, 3], by the even-odd rule. `light`: factors at top and bottom; `alpha`: opacity."""
        shapes = [self.project(contour) for contour in contours]
        box = self.box(np.concatenate(shapes))
        if box is None:
            return
        inside, depth = _inside(shapes, box), float(contours[0][:, 2].mean())
        shade = np.linspace(*light, len(inside), dtype=np.float32)[:, None] * (1 + grain * self.grain(*inside.shape))
        self.stamp(box, inside, shade[inside][:, None] * rgb(colour), label=label, depth=depth, alpha=alpha)

    def texture(self, corners: Points, texture: UInt8Array, label: int) -> None:
        """Map a texture [h, w, 3] onto a wall; corners [4, 3]: top left, top right, bottom right, bottom left."""
        shape = self.project(corners)
        box = self.box(shape)
        if box is None:
            return
        inside, depth = _inside([shape], box), float(corners[:, 2].mean())
        height, width = texture.shape[:2]
        camera = np.array([[self.focal, 0, self.centre], [0, -self.focal, self.horizon], [0, 0, 1]])
        across, down = (corners[1] - corners[0]) / width, (corners[3] - corners[0]) / height
        wall = np.stack([across, down, corners[0] - (0, EYE, 0)], axis=1)  # texture pixel -> world, relative to the camera
        rows, columns = np.nonzero(inside)
        by_column, by_row, start = np.linalg.inv(camera @ wall).T[:, :, None]
        x, y, near = by_column * (columns + box[1]) + by_row * (rows + box[0]) + start
        near = np.maximum(near, 1e-6)  # 1 / metres ahead; an outline can extend beyond the vanishing point
        self.stamp(box, inside, _sample(texture, x / near, y / near), label=label, depth=depth)

    def stamp(self, box: Box, mask: Mask, pixels: Float32Array, *, label: int | None, depth: float, alpha: float = 1) -> None:
        """Paint pixels and label where the mask is set, with haze for the depth in metres; label None keeps the labels."""
        top, left, bottom, right = box
        clear = float(np.exp(-depth / HAZE_DEPTH))
        picture = self.image[top:bottom, left:right]
        seen = pixels * np.float32(clear) + rgb(HAZE) * np.float32(1 - clear)
        if alpha < 1:
            seen = picture[mask] * np.float32(1 - alpha) + seen * np.float32(alpha)
        picture[mask] = np.clip(seen, 0, 255).astype(np.uint8)
        if label is not None:
            self.labels[top:bottom, left:right][mask] = label

    def box(self, shape: Points) -> Box | None:
        """Return the visible bounding box of a shape; None if it is outside the image."""
        height, width = self.labels.shape
        low, high = np.floor(shape.min(0)), np.ceil(shape.max(0)) + 1
        left, right = (int(min(max(value, 0), width)) for value in (low[0], high[0]))
        top, bottom = (int(min(max(value, 0), height)) for value in (low[1], high[1]))
        return (top, left, bottom, right) if left < right and top < bottom else None


def _inside(shapes: list[Points], box: Box) -> Mask:
    """Return the pixels of the box inside the shapes (even-odd rule), including the outline of each shape."""
    top, left, bottom, right = box
    size = (right - left, bottom - top)
    rings = [np.rint(np.clip(shape, -9999, 19999) - (left, top)).astype(np.int32).ravel().tolist() for shape in shapes]
    outline = Image.new("L", size)
    if len(rings) == 1:
        draw = ImageDraw.Draw(outline)
        draw.polygon(rings[0], fill=1)
        draw.polygon(rings[0], outline=1)
        return np.asarray(outline, np.bool_)
    inside = np.zeros(size[::-1], np.uint8)
    for ring in rings:
        filled = Image.new("L", size)
        ImageDraw.Draw(filled).polygon(ring, fill=1)
        ImageDraw.Draw(outline).polygon(ring, outline=1)
        inside ^= np.asarray(filled)
    return np.asarray(inside | np.asarray(outline), np.bool_)


def _stretch(field: Float32Array, height: int, width: int) -> Float32Array:
    """Resample a field bilinearly; reduction does not average, so that the standard deviation is kept."""
    extent = (0, 0, field.shape[1], field.shape[0])
    stretched = Image.fromarray(field).transform((width, height), Image.Transform.EXTENT, extent, Image.Resampling.BILINEAR)
    return np.asarray(stretched, np.float32)


def _sample(texture: UInt8Array, x: Points, y: Points) -> Float32Array:
    """Sample the texture at x [n] and y [n], bilinearly, with its border repeated: [n, 3]."""
    height, width = texture.shape[:2]
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    left, top = np.minimum(x.astype(np.int32), width - 2), np.minimum(y.astype(np.int32), height - 2)
    right, low = ((whole - part).astype(np.float32)[:, None] for whole, part in ((x, left), (y, top)))
    flat, index = texture.reshape(-1, 3).astype(np.float32), top * width + left
    upper, lower = (flat.take(at, 0) * (1 - right) + flat.take(at + 1, 0) * right for at in (index, index + width))
    return np.asarray(upper * (1 - low) + lower * low, np.float32)


def _noise(rng: np.random.Generator, power: float) -> Float32Array:
    """Return a seamless tile of fractal noise, 1/f**power, with mean 0 and standard deviation 1."""
    white = np.fft.rfft2(rng.standard_normal((TILE, TILE)))
    frequency = np.hypot(np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None]) + 1 / TILE
    tile = np.fft.irfft2(white / frequency**power, (TILE, TILE))
    return np.asarray((tile - tile.mean()) / tile.std(), np.float32)


def photograph(canvas: Canvas, height: int, width: int) -> UInt8Array:
    """Return the image at its final size with effects of a camera: sharpening, vignette, sensor noise."""
    half = Image.fromarray(canvas.image).reduce(2)
    small, soft = np.asarray(half, np.float32), half.filter(ImageFilter.GaussianBlur(max(0.6, width / 800)))
    small = small + np.float32(0.6) * (small - np.asarray(soft, np.float32))
    rows, columns = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
    vignette = (1.05 - 0.07 * (rows**2 + columns**2)).astype(np.float32)[:, :, None]
    noise = canvas.grains.standard_normal((height, width, 1), np.float32) * 2.2
    blotches = canvas.grains.standard_normal((height // 2, width // 2, 3), np.float32)
    noise = noise + 1.5 * np.stack([_stretch(blotches[:, :, band], height, width) for band in range(3)], axis=2)
    return np.clip(np.rint(small * vignette + noise), 0, 255).astype(np.uint8)
