"""Scenes of any size, from those that the tests draw anyway: drawing one takes a third of a second."""

from __future__ import annotations

import numpy as np

from fastscnn.data import synthetic
from fastscnn.data.synthetic import Scene


def street(height: int, width: int, seed: int = 0) -> Scene:
    """Return the lower left part of a scene of 96x128, repeated beyond its borders."""
    drawn = synthetic.draw(96, 128, seed)
    rows, columns = np.arange(96 - height, 96) % 96, np.arange(width) % 128
    return Scene(drawn.image[rows][:, columns], drawn.labels[rows][:, columns])
