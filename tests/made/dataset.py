"""A dataset of generated scenes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fastscnn.base.types import UInt8Array
from fastscnn.data import synthetic
from fastscnn.media import images


def write_scenes(
    root: Path, name: str, train: int, val: int, classes: Sequence[str] = synthetic.CLASSES,
    labels: Callable[[UInt8Array], UInt8Array] = lambda labels: labels,
) -> Path:  # fmt: skip
    """Write scenes of 96x128 with exact labels, and return their dataset.toml.

    Args:
        root: a folder.
        name: of the dataset.
        train, val: scenes in each split.
        classes: of the dataset.
        labels: makes labels of these classes from those of the scene, uint8 [H, W].
    """
    for seed in range(train + val):
        split, drawn = "train" if seed < train else "val", synthetic.draw(96, 128, seed)
        images.write(root / f"images/{split}/{seed}.png", drawn.image)
        images.write(root / f"labels/{split}/{seed}.png", labels(drawn.labels))
    splits = [f'[splits.{split}]\nimages = "images/{split}/*.png"\nlabels = "labels/{split}/{{stem}}.png"\n'
              for split in ("train", "val")]
    toml = root / "dataset.toml"
    toml.write_text("\n".join([f'name = "{name}"', f"classes = {list(classes)}", 'terms = "none"', *splits]))
    return toml
