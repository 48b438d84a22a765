"""Lists of classes that have a name, for files that would otherwise repeat them."""

from __future__ import annotations

from collections.abc import Mapping

from fastscnn.data.builtin import camvid, cityscapes

CLASS_LISTS: Mapping[str, tuple[str, ...]] = {"cityscapes": cityscapes.LABELS.names, "camvid": camvid.LABELS.names}
