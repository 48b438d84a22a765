"""The classes of label files, from what the files hold and from the files that name classes."""

from __future__ import annotations

from collections.abc import Sequence

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.init import colour_classes, id_classes, known_ids, mask_classes
from fastscnn.data.init.class_files import ClassFile
from fastscnn.data.init.guess import Classes
from fastscnn.data.init.values import Values


def classes_of(values: Values, files: Sequence[ClassFile], names: str) -> Classes:
    """Return the classes of label files.

    Args:
        values: what a sample of the label files holds.
        files: the files that name classes.
        names: a path of a label file, whose name may say more.

    Raises:
        FastSCNNError: these are no label files.
    """
    if not values.files:
        raise FastSCNNError(f"{values.unread[0]}")
    if values.coloured and (carla := known_ids.carla(values)):
        return carla
    named = values.coloured and colour_classes.file_of_colours(values, files) is not None
    if alpha := mask_classes.of_alpha(values, files, named):
        return alpha
    if values.coloured or values.palettes_differ:
        return colour_classes.of_colours(values, files)
    # Colours that a file names hold in each file. Those of grey files are grey, as in Supervisely's masks.
    coloured = files if values.palettes else [file for file in files if file.is_grey]
    if colour_classes.file_of_colours(values, coloured):
        return colour_classes.of_colours(values, coloured)
    if masks := mask_classes.of_masks(values, files):
        return masks
    return id_classes.of_ids(values, files, names)
