"""Guess: what a folder seems to hold, and its dataset.toml."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fastscnn.base.arguments import hxw
from fastscnn.data import toml_text
from fastscnn.data.init.places import Place
from fastscnn.data.init.survey import MARK, OURS
from fastscnn.model.label_set import Colour

SEED = 0


@dataclass(frozen=True)
class Classes:
    """The classes of a dataset, and how label files store them.

    Attributes:
        names: in the order of train ids.
        labels_are: the value of this key in dataset.toml.
        colours: one for each class; () leaves them out.
        keys: further keys of dataset.toml.
        map: stored id, colour or name -> class or "ignore"; empty if there is no [map].
        guessed: sentences about what was guessed.
        left_open: sentences about what is left open; each says what to do.
    """

    names: tuple[str, ...]
    labels_are: str = "ids"
    colours: tuple[Colour, ...] = ()
    keys: Mapping[str, object] = field(default_factory=dict)
    map: Mapping[str, str] = field(default_factory=dict)
    guessed: tuple[str, ...] = ()
    left_open: tuple[str, ...] = ()


@dataclass(frozen=True)
class Guess:
    """A dataset as guessed from its files.

    Attributes:
        layout: what was recognised, such as "image and label files".
        classes: the classes.
        splits: split -> its files.
        guessed, left_open: further sentences, as in `Classes`, of the splits.
        window: (height, width) of the windows that large images are divided into; None if there are none.
        builtin: "NAME:ROOT" of a built-in dataset, which needs no dataset.toml; "" for others.
    """

    layout: str
    classes: Classes | None = None
    splits: Mapping[str, Place] = field(default_factory=dict)
    guessed: tuple[str, ...] = ()
    left_open: tuple[str, ...] = ()
    window: tuple[int, int] | None = None
    builtin: str = ""

    @property
    def lists(self) -> dict[str, str]:
        """File name -> content of the lists that belong to the dataset.toml."""
        return {list_name(name): "".join(f"{line}\n" for line in place.listed)
                for name, place in self.splits.items() if place.listed}

    def toml(self, name: str, beside: Sequence[str] = ()) -> str:
        """Return the dataset.toml.

        Args:
            name: of the dataset.
            beside: the files that are written beside it, relative to it.
        """
        if self.classes is None:
            raise ValueError(f"{self.builtin} needs no dataset.toml")
        classes = self.classes
        lines = [f"{MARK}{toml_text.value(list(beside))}",
                 "# This is a guess from the files. Check it, then run `fastscnn check`."]
        lines += _comments([f"Layout: {self.layout}.", *self.guessed])
        lines += _todo(self.left_open)
        lines += ["", f"name = {toml_text.value(name)}", *_comments(classes.guessed), *_todo(classes.left_open)]
        lines += ["# Training numbers the classes from 0, in this order.", *toml_text.array("classes", classes.names)]
        if classes.colours:
            lines += toml_text.array("colours", [list(colour) for colour in classes.colours])
        lines += [f"labels_are = {toml_text.value(classes.labels_are)}"]
        lines += [f"{key} = {toml_text.value(value)}" for key, value in classes.keys.items()]
        if classes.map:
            lines += ["", '[map] # what label files hold -> class, or "ignore"']
            lines += [f"{toml_text.key(stored)} = {toml_text.value(to)}" for stored, to in classes.map.items()]
        for split, place in self.splits.items():
            lines += ["", f"[splits.{toml_text.key(split)}]", *_place(split, place)]
            if self.window:
                lines.append(f'window = "{hxw(self.window)}"')
        return "\n".join(lines) + "\n"


def list_name(split: str) -> str:
    """Return the file name of the list of a split."""
    return f"{OURS}-{split}.txt"


def _place(split: str, place: Place) -> list[str]:
    lines = []
    if place.images:
        lines.append(f"images = {toml_text.value(place.images[0] if len(place.images) == 1 else list(place.images))}")
    if place.labels:
        lines.append(f"labels = {toml_text.value(place.labels)}")
    if place.listed or place.list:
        lines.append(f"list = {toml_text.value(list_name(split) if place.listed else place.list)}")
    if place.fractions:
        lines.append(f"fractions = {{ {', '.join(f'{name} = {value}' for name, value in place.fractions.items())} }}")
        lines.append(f"seed = {SEED}")
    return lines


def _comments(sentences: Sequence[str]) -> list[str]:
    return [f"# {line}" for sentence in sentences for line in textwrap.wrap(_printable(sentence), toml_text.WIDTH)]


def _todo(sentences: Sequence[str]) -> list[str]:
    return _comments([f"TODO: {sentence}" for sentence in sentences])


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
