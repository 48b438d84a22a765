"""Label files whose names or ids are those of a known dataset: Cityscapes, CARLA, Pascal VOC."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fastscnn.data.builtin import cityscapes
from fastscnn.data.init import known
from fastscnn.data.init.guess import Classes
from fastscnn.data.init.sentences import files_read
from fastscnn.data.init.values import Values
from fastscnn.model.label_set import IGNORE_INDEX

_VOC_NAME = re.compile(r"20(0[7-9]|1[0-2])_\d{6}")
_CARLA_MOST = 40  # ids of CARLA are below this


def carla(values: Values) -> Classes | None:
    """Return CARLA's classes if all colours are red below 40."""
    reds = {packed >> 16 for packed in values.counts}
    if any(packed & 0xFFFF for packed in values.counts) or max(reds) >= _CARLA_MOST or len(reds) < 2:
        return None
    before = max(reds) < len(known.CARLA_BEFORE) and values.share(7 << 16, 6 << 16) > values.share(1 << 16, 24 << 16)
    names = known.CARLA_BEFORE if before else known.CARLA
    if max(reds) >= len(names):
        names = (*names, *(f"class {number}" for number in range(len(names), max(reds) + 1)))
    version = "0.9.13 and earlier" if before else "0.9.14 and later"
    return Classes(
        names[1:], keys={"channel": "red", "ignore": 0},
        guessed=(f"The ids are in the red channel, as in CARLA's files ({files_read(values)}); 0 is unlabelled and ignored.",),
        left_open=(f"the names are those of CARLA {version}, chosen by the most frequent ids; compare them with the contact "
                   "sheet.",),
    )  # fmt: skip


def of_cityscapes(ids: Sequence[int], name: str) -> Classes | None:
    """Return Cityscapes' classes if the name of a label file says so, and the ids fit."""
    used = set(ids) - {-1, IGNORE_INDEX}
    if "labelTrainIds" in name and used and used <= set(range(len(cityscapes.LABELS))):
        keys = {"ignore": [-1, IGNORE_INDEX]} if -1 in ids else {}
        return Classes(cityscapes.LABELS.names, colours=cityscapes.LABELS.colours, keys=keys, guessed=(
            f"The file names say train ids of Cityscapes: its 19 classes; {'-1 and ' if keys else ''}255 is ignored.",))
    if "labelIds" in name and set(ids) <= {raw for raw, _ in cityscapes.LABELS.raw_ids}:
        names = [*cityscapes.LABELS.names, "ignore"]
        return Classes(
            cityscapes.LABELS.names, colours=cityscapes.LABELS.colours,
            map={str(raw): names[min(train, len(names) - 1)] for raw, train in sorted(cityscapes.LABELS.raw_ids)},
            guessed=("The file names say ids of Cityscapes: its 19 classes; its other ids are ignored.",),
        )  # fmt: skip
    return None


def is_voc(ids: Sequence[int], name: str) -> bool:
    """Return whether the name of a label file says Pascal VOC, and the ids are those of its 21 classes."""
    named = "SegmentationClass" in name and ("VOC20" in name or bool(_VOC_NAME.match(name.rpartition("/")[2])))
    return named and set(ids) <= set(range(len(known.VOC)))
