"""Cityscapes' label files: `*_labelIds.png`, or the polygon file that they are drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastscnn.data.formats import polygons
from fastscnn.data.formats.base import Decoded, LabelFormat
from fastscnn.data.formats.ids import IdLabels
from fastscnn.model.label_set import LabelSet


@dataclass(frozen=True)
class CityscapesLabels(LabelFormat):
    """Label files of ids; and polygon files, which are drawn.

    Attributes:
        polygon_ids: object name -> id; an object with an id below 0 is not drawn.
    """

    polygon_ids: Mapping[str, int]

    def read(self, labels: Path, image: Path, label_set: LabelSet) -> Decoded:
        """Read a label file or a polygon file; see `LabelFormat.read`."""
        if labels.suffix == ".json":
            return IdLabels().mapped(polygons.read(labels, self.polygon_ids), label_set)
        return IdLabels().read(labels, image, label_set)
