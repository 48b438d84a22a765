"""dataset: describe the user's own images and labels, and write datasets as shards."""

from __future__ import annotations

import json as json_
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional

from fastscnn.cli import parse, with_commands
from fastscnn.cli.console import configure, progress_bar, show
from fastscnn.cli.options import SPLIT, Dataset, Json, Quiet, Verbose, described, path, required, switch, value

if TYPE_CHECKING:
    from fastscnn.data.init.folder import Initialised

COMMANDS = {
    "init": "Write a dataset.toml for the images and labels in a folder.",
    "shards": "Write a dataset as tar files, for many images or a file server.",
}


def main(words: Sequence[str]) -> int:
    """Run the command that `words` begin with; return the exit code."""
    calls: dict[str, tuple[Callable[..., int], str]] = {
        "init": (init, "[options] FOLDER"),
        "shards": (shards, "[options] DATASET --out DIR"),
    }
    return with_commands("dataset", "Describe your own images and labels, or write a dataset as shards.", COMMANDS, words,
                         lambda name, rest: parse(calls[name][0], f"fastscnn dataset {name}", calls[name][1], rest))


def init(
    folder: Annotated[Positional[Path], path("FOLDER"), required("Folder with images and their labels, in any common layout.")],
    *,
    force: Annotated[bool, switch("Overwrite a dataset.toml.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Recognise the layout of a folder, and write its dataset.toml and a contact sheet.

    Classes, colours, splits and ids are guessed from the files. The contact sheet shows some images beside their labels as
    read. What is left open is marked with TODO in dataset.toml.
    """
    from fastscnn.data.init.folder import init_dataset

    configure(quiet, verbose)
    with progress_bar("dataset init", quiet=json) as advance:
        made = init_dataset(folder, force=force, progress=advance)
    if json:
        print(made.to_json())
    else:
        _print(made)
    return 0


def shards(
    dataset: Dataset,
    *,
    out: Annotated[Path, path("DIR"), required("New folder of the shards and their dataset.toml.")],
    split: Annotated[str | None, value("SPLIT", str, "all with labels"), SPLIT] = None,
    megabytes: Annotated[int, value("N", int), described("Largest size of a shard in 10^6 bytes.")] = 256,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Write a dataset as tar files of the WebDataset format, which `check`, `train` and `evaluate` read in place.

    A folder of many small files is slow to list and to copy on a file server. Images are copied as they are, and labels become
    PNG files of class ids.
    """
    from fastscnn.data.shards import write_shards

    configure(quiet, verbose)
    with progress_bar("dataset shards", quiet=json) as advance:
        made = write_shards(dataset, out, split, megabytes=megabytes, on_progress=advance)
    count = len(list(made.parent.glob("*/*.tar")))
    if json:
        print(json_.dumps({"dataset": str(made), "shards": count}))
    else:
        show(f"{count} shard{'s' * (count != 1)} in {made.parent}")
        show(f"Next: fastscnn train RECIPE {made.parent} --out DIR")
    return 0


def _print(made: Initialised) -> None:
    show(f"Layout: {made.layout}")
    for sentence in made.guessed:
        show(f"  {sentence}")
    show("Images: " + ", ".join(f"{count} in {split}" for split, count in made.images.items()))
    show(f"Classes: {', '.join(made.classes)}")
    for sentence in made.left_open:
        show(f"Left open: {sentence}")
    for file in (made.toml and made.dataset, made.contact_sheet, *made.lists):
        if file:
            show(f"Written: {file}")
    show(f"Next: fastscnn check {made.dataset}")
