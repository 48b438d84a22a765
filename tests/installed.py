"""Check an installed wheel, by `python tests/installed.py`: its compiled code runs, and gives what NumPy and Pillow give.

It needs nothing but the wheel and its dependencies, and runs on every platform that has one.
"""

from __future__ import annotations

import contextlib
import io
import json
import platform
import sys
import tempfile
from pathlib import Path

import numpy as np

import fastscnn
from fastscnn import cli
from fastscnn.media import label_maps, shrinking
from fastscnn.upsampling import native, upsample


def check_kernels() -> None:
    """Compare the compiled functions with their oracles."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(11, 45, 60)).astype(np.float32)
    image, labels = rng.integers(0, 256, (360, 480, 3), np.uint8), rng.integers(0, 11, (360, 480), np.uint8)
    palette = rng.integers(0, 256, (256, 3), np.uint8)
    for module in (native, shrinking, label_maps):
        assert module.KERNEL is not None, f"{module.LIBRARY} is missing or does not run here"
    for threads in (1, 2):
        assert (upsample.labels(logits, (1024, 2048), threads) == upsample.labels_in_numpy(logits, (1024, 2048))).all()
    assert (shrinking.shrink(image, (100, 99)) == shrinking.shrink_in_pillow(image, (100, 99))).all()
    assert (label_maps.counts(labels) == label_maps.counts_in_numpy(labels)).all()
    blended = np.empty_like(image)
    label_maps.blend(image, labels, palette, 0.5, blended)
    assert (blended == label_maps.blend_in_pillow(image, labels, palette, 0.5)).all()


def check_commands() -> None:
    """Run two commands; the demo scores well."""
    printed = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(printed):
        assert cli.main(["-V"]) == 0
        assert cli.main(["demo", "--json", "--out", str(Path(folder, "größe"))]) == 0
    version, *_, scores = printed.getvalue().splitlines()
    assert version == f"fastscnn {fastscnn.__version__}"
    assert json.loads(scores)["miou"] > 40, scores


if __name__ == "__main__":
    check_kernels()
    check_commands()
    where = f"{platform.platform()}, Python {platform.python_version()}: {Path(fastscnn.__file__).parent}"
    sys.stdout.write(f"{where} has compiled code that runs, and the demo works.\n")
