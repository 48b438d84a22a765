"""Means of probabilities over the area of the cells of soft labels."""

from __future__ import annotations

import numpy as np

from fastscnn.base.types import Float32Array


def area_means(planes: Float32Array, grid: tuple[int, int]) -> Float32Array:
    """Return the mean of each plane over the area of each cell; pixels on the border of two cells count in both, by area.

    Args:
        planes: float32 [C, h, w].
        grid: (rows, columns) of equal cells that divide a plane; a cell may be smaller than a pixel.

    Returns:
        float32 [C, rows, columns].
    """
    means: Float32Array = np.matmul(np.matmul(_shares(planes.shape[1], grid[0]), planes), _shares(planes.shape[2], grid[1]).T)
    return means


def _shares(pixels: int, cells: int) -> Float32Array:
    """Return the share of each pixel in each cell along one axis, float32 [cells, pixels]; the sum of a row is 1."""
    edges = np.arange(cells + 1)[:, None] * (pixels / cells)
    pixel = np.arange(pixels)
    overlap = np.minimum(edges[1:], pixel + 1) - np.maximum(edges[:-1], pixel)
    shares: Float32Array = (np.clip(overlap, 0, None) * (cells / pixels)).astype(np.float32)
    return shares
