"""dataset: describe the user's own images and labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional

from fastscnn.cli import parse, with_commands
from fastscnn.cli.console import configure, progress_bar, show
from fastscnn.cli.options import Json, Quiet, Verbose, path, required, switch

if TYPE_CHECKING:
    from fastscnn.data.init.folder import Initialised

COMMANDS = {"init": "Write a dataset.toml for the images and labels in a folder."}
USAGE = "[options] FOLDER"


def main(words: Sequence[str]) -> int:
    """Run the command that `words` begin with; return the exit code."""
    return with_commands("dataset", "Describe your own images and labels.", COMMANDS, words,
                         lambda name, rest: parse(init, f"fastscnn dataset {name}", USAGE, rest))


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
