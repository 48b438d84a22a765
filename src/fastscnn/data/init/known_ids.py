"""Label files whose names or ids are those of a known dataset: Cityscapes, CARLA, Pascal VOC."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from fastscnn.data.builtin import cityscapes
from fastscnn.data.init import known
from fastscnn.data.init.class_files import ClassFile
from fastscnn.data.init.guess import Classes
from fastscnn.data.init.sentences import files_read, listed
from fastscnn.data.init.values import Values
from fastscnn.model.label_set import IGNORE_INDEX

_VOC_NAME = re.compile(r"20(0[7-9]|1[0-2])_\d{6}")
_RED_MOST = 40  # ids in the red channel are below this; darker reds of palettes begin with 64


def in_red(values: Values) -> Values | None:
    """Return the ids in the red channel of files whose green and blue are 0; None for other files."""
    reds = {packed >> 16 for packed in values.counts}
    if not values.coloured or any(packed & 0xFFFF for packed in values.counts):
        return None
    if not 0 < max(reds - {IGNORE_INDEX}, default=0) < _RED_MOST:
        return None
    counts = Counter({packed >> 16: count for packed, count in values.counts.items()})
    sets = tuple(frozenset(packed >> 16 for packed in one) for one in values.sets)
    return replace(values, coloured=False, counts=counts, sets=sets, palettes=())


def carla(values: Values, files: Sequence[ClassFile]) -> Classes | None:
    """Return CARLA's classes if the ids in the red channel are among its tags.

    Args:
        values: the ids.
        files: the files that name classes, none of which fits.
    """
    if not set(values.counts) <= set(range(len(known.CARLA))):
        return None
    before = max(values.counts) < len(known.CARLA_BEFORE) and values.share(7, 6) > values.share(1, 24)
    names = known.CARLA_BEFORE if before else known.CARLA
    unfit = f" The classes of {listed(file.path for file in files)} do not fit the ids." if files else ""
    version = "0.9.13 and earlier" if before else "0.9.14 and later"
    return Classes(
        names[1:], keys={"ignore": 0},
        guessed=(f"The ids are among the tags of CARLA ({files_read(values)}); 0 is unlabelled and ignored.",),
        left_open=(f"the names are those of CARLA {version}, chosen by the most frequent ids; compare them with the contact "
                   f"sheet. If CARLA did not write the files, write the names of their ids from 0 in `classes`, and remove "
                   f"ignore = 0.{unfit}",),
    )  # fmt: skip


def of_cityscapes(ids: Sequence[int], name: str) -> Classes | None:
    """Return Cityscapes' classes if the name of a label file says so, and the ids fit."""
    used = set(ids) - {-1, IGNORE_INDEX}
    if "labelTrainIds" in name and used and used <= set(range(len(cityscapes.LABELS))):
        keys = {"ignore": [-1, IGNORE_INDEX]} if -1 in ids else {}
        return Classes(cityscapes.LABELS.names, colours=cityscapes.LABELS.colours, keys=keys, guessed=(
            f"The file names contain labelTrainIds: the 19 classes of Cityscapes; {'-1 and ' if keys else ''}255 is ignored.",))
    if "labelIds" in name and set(ids) <= {raw for raw, _ in cityscapes.LABELS.raw_ids}:
        names = [*cityscapes.LABELS.names, "ignore"]
        return Classes(
            cityscapes.LABELS.names, colours=cityscapes.LABELS.colours,
            map={str(raw): names[min(train, len(names) - 1)] for raw, train in sorted(cityscapes.LABELS.raw_ids)},
            guessed=("The file names contain labelIds: the 19 classes of Cityscapes; its other ids are ignored.",),
        )  # fmt: skip
    return None


def is_voc(ids: Sequence[int], name: str) -> bool:
    """Return whether the name of a label file says Pascal VOC, and the ids are those of its 21 classes."""
    named = "SegmentationClass" in name and ("VOC20" in name or bool(_VOC_NAME.match(name.rpartition("/")[2])))
    return named and set(ids) <= set(range(len(known.VOC)))
