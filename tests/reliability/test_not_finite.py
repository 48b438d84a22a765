"""NaN and infinity in what is read. tests/test_train.py has those that arise in a training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import Float32Array
from fastscnn.data.formats import arrays
from fastscnn.inference.segmenter import Segmenter
from fastscnn.media import images

Read = Callable[[Any, Path, Float32Array], object]


def tiff(path: Path, values: Float32Array) -> Path:
    Image.fromarray(values).save(path.with_suffix(".tif"))
    return path.with_suffix(".tif")


def npy(path: Path, values: Float32Array) -> Path:
    np.save(path.with_suffix(".npy"), values)
    return path.with_suffix(".npy")


INPUTS: dict[str, Read] = {
    "grey array": lambda segmenter, path, values: segmenter.segment(values),
    "array": lambda segmenter, path, values: segmenter.segment(np.dstack([values] * 3)),
    "PIL image": lambda segmenter, path, values: segmenter.segment(Image.fromarray(values)),
    "image file": lambda segmenter, path, values: segmenter.segment(tiff(path, values)),
    "thermal file": lambda segmenter, path, values: images.read_grey(tiff(path, values)),
    "label image": lambda segmenter, path, values: images.read_values(tiff(path, values)),
    "label array": lambda segmenter, path, values: arrays.npy(npy(path, values)),
}


@pytest.mark.reliability("not-finite")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", INPUTS)
def test_inputs_with_numbers_that_are_not_finite(tiny: Segmenter, tmp_path: Path, kind: str, value: float) -> None:
    values = np.zeros((64, 96), np.float32)
    values[3, 5] = value
    with pytest.raises(FastSCNNError):
        INPUTS[kind](tiny, tmp_path / "a", values)
