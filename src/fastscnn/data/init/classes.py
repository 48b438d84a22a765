"""The classes of label files, from what the files hold and from the files that name classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.init import colour_classes, id_classes, known_ids, mask_classes
from fastscnn.data.init.class_files import ClassFile
from fastscnn.data.init.guess import Classes
from fastscnn.data.init.id_files import fitting, ids_of
from fastscnn.data.init.sentences import alike
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
    made = (_of_colours if values.coloured else _of_values)(values, files, names)
    return replace(made, left_open=(*made.left_open, *alike(made.names)))


def _of_colours(values: Values, files: Sequence[ClassFile], names: str) -> Classes:
    """Return the classes of files with colours, which may be ids in the red channel, or masks in the alpha channel."""
    named = colour_classes.file_of_colours(values, files) is not None
    if not named and (red := known_ids.in_red(values)):
        return _of_red(red, files, names)
    return mask_classes.of_alpha(values, files, named) or colour_classes.of_colours(values, files)


def _of_red(red: Values, files: Sequence[ClassFile], names: str) -> Classes:
    """Return the classes of ids in the red channel: those of a file that fits, of masks, or of CARLA."""
    made = mask_classes.of_masks(red, files)
    if not made and not fitting(files, ids_of(red, sorted(red.counts))):
        made = known_ids.carla(red, files)
    made = made or id_classes.of_ids(red, files, names)
    return replace(made, keys={"channel": "red", **made.keys},
                   guessed=("The ids are in the red channel; green and blue are 0.", *made.guessed))


def _of_values(values: Values, files: Sequence[ClassFile], names: str) -> Classes:
    """Return the classes of grey or indexed files."""
    if values.palettes_differ:
        return colour_classes.of_colours(values, files)
    # Colours that a file names hold in each file. Those of grey files are grey, as in Supervisely's masks.
    coloured = files if values.palettes else [file for file in files if file.is_grey]
    if colour_classes.file_of_colours(values, coloured):
        return colour_classes.of_colours(values, coloured)
    return mask_classes.of_masks(values, files) or id_classes.of_ids(values, files, names)
