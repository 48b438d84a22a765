"""The splits of a folder: from lists, from folders, else by fractions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from fastscnn.data.init.guess import SEED, list_name
from fastscnn.data.init.pairing import Pair
from fastscnn.data.init.places import Place, chosen, place
from fastscnn.data.init.sentences import number, percent
from fastscnn.data.init.sequences import by_sequence, frames
from fastscnn.data.init.split_lists import Lists, lists_of, lists_with_labels
from fastscnn.data.init.survey import Survey

FRACTIONS: Mapping[str, float] = {"train": 0.8, "val": 0.2}
_ALL = "all"
_ORDER = ("train", "val", "test")


@dataclass(frozen=True)
class Splits:
    """The splits, and sentences about what was guessed and what is left open."""

    places: Mapping[str, Place]
    guessed: tuple[str, ...] = ()
    left_open: tuple[str, ...] = ()


def splits_of(survey: Survey, pairs: Sequence[Pair]) -> Splits:
    """Return the splits of pairs of image and label files."""
    made = place(survey, pairs)
    lists = lists_of(survey, {pair.image for pair in pairs})
    if lists.paths:
        rest = len(pairs) - sum(map(len, lists.files.values()))
        left_open = f"the lists leave out {number(rest, 'image')} with labels; add them to one, or remove them."
        places = {name: chosen(made, sorted(lists.files[name])) if name in lists.broken or not made.images
                  else replace(made, list=path, listed=()) for name, path in lists.paths.items()}
        return Splits(places, _said_lists(lists, places), (left_open,) if rest > 0 else ())
    groups: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        groups[pair.split].append(pair)
    places = {name: place(survey, group) for name, group in groups.items()}
    images = {name: [pair.image for pair in group] for name, group in groups.items()}
    return by_folder(survey, places, images, made, lists.said)


def splits_of_lists(survey: Survey) -> tuple[Splits | None, dict[str, str]]:
    """Return the splits of lists with an image and its label file in each line, and image -> label file.

    The splits are None if there are no such lists.
    """
    lists = lists_with_labels(survey)
    labels = {image: file for found in lists.files.values() for image, file in found.items()}
    places = {name: Place((), "", _lines(lists.files[name])) if name in lists.broken else Place((), "", list=path)
              for name, path in lists.paths.items()}
    if len(places) != 1:
        return (Splits(places, _said_lists(lists, places)) if places else None), labels
    (name, whole), = places.items()
    made = divided(survey, whole, sorted(labels), name, _lines(labels))
    return replace(made, guessed=(*made.guessed, *lists.said)), labels


def _lines(files: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"{image}\t{labels}" for image, labels in files.items())


def by_folder(
    survey: Survey, places: Mapping[str, Place], images: Mapping[str, Sequence[str]], whole: Place, dropped: Sequence[str] = (),
    *, of: str = "folders",
) -> Splits:  # fmt: skip
    """Return splits by folders, or divide the images if the folders name fewer than two.

    Args:
        survey: the files.
        places: split that the folders name, "" for none -> its files.
        images: split -> its images.
        whole: all files.
        dropped: sentences about lists that are not used.
        of: what names the splits.
    """
    named = {name: found for name, found in places.items() if name}
    if len(named) < 2:
        made = divided(survey, whole, sorted(image for found in images.values() for image in found), next(iter(named), ""))
        return replace(made, guessed=(*made.guessed, *dropped))
    order = [*(name for name in _ORDER if name in named), *(name for name in named if name not in _ORDER)]
    left_open = []
    if "" in places:
        rest = number(len(images[""]), "image")
        left_open.append(f"the {of} of the splits leave out {rest} with labels; move them into one, or remove them.")
    found = {name: named[name] for name in order}
    guessed = [f"The splits {', '.join(order)} are those of the {of}.", *_said_missing(found), *_said_written(found)]
    return Splits(found, (*guessed, *dropped), tuple(left_open))


def divided(survey: Survey, whole: Place, images: Sequence[str], only: str, lines: Sequence[str] = ()) -> Splits:
    """Divide images into train and val: frames of videos by sequences, other images by fractions.

    Args:
        survey: the files.
        whole: all files.
        images: all images.
        only: the only split that folders or lists name; "" if they name none.
        lines: of a list of all images with their label files, if `whole` names a list.
    """
    why = f"The only split with labels is {only}" if only else "No folders and no usable lists divide the images"
    if len(images) == 1:
        return Splits({"train": whole}, tuple(_said_written({"train": whole})), (
            "there is one image with labels, so there is no split val; add images, and run this command again with --force.",))
    sequences = frames(survey, images)
    if not sequences:
        fractions = FRACTIONS if len(images) > 2 else dict.fromkeys(FRACTIONS, 0.5)
        found = {_ALL: replace(whole, fractions=fractions)}
        shares = ", ".join(f"{name} {percent(value)}" for name, value in fractions.items())
        said = f"{why}, so they are divided at random: {shares}, seed {SEED}."
        return Splits(found, (said, *_said_written(found)))
    parts, count = by_sequence(sequences, FRACTIONS)
    found = {name: chosen(Place((), "", tuple(lines)) if lines else whole, part) for name, part in parts.items()}
    share = percent(len(parts["val"]) / len(images))
    how = (f"{count} of {len(sequences)} sequences {'is' if count == 1 else 'are'} val ({share} of the images)" if count else
           f"the last {percent(FRACTIONS['val'])} of each of {len(sequences)} sequences are val" if len(sequences) > 1 else
           f"the last {share} are val")
    return Splits(found, (
        f"{why}. The names are numbered and neighbours look alike, as frames of videos do. At random, val would hold "
        f"neighbours of images in train, and its scores would be too high. So {how}.",
        f"The images are listed in {' and '.join(map(list_name, found))}; add new images there."))


def _said_written(places: Mapping[str, Place]) -> list[str]:
    lists = [list_name(name) for name, place in places.items() if place.listed]
    why = "since patterns alone match other files, too, or do not fit the names; add new images there."
    return [f"The images are listed in {' and '.join(lists)}, {why}"] if lists else []


def _said_missing(names: Collection[str]) -> list[str]:
    """Return the sentence about splits that training uses by default."""
    said = []
    if "train" not in names:
        said.append(f"There is no split train; train with --split {next(iter(names))}.")
    if "val" not in names:
        others = [name for name in names if name != "train"]
        said.append(f"There is no split val; `fastscnn train` needs --validation {' or '.join((*others, 'none'))}.")
    return said


def _said_lists(lists: Lists, places: Mapping[str, Place]) -> tuple[str, ...]:
    splits = ", ".join(f"{name} of {path}" for name, path in lists.paths.items())
    written = [list_name(name) for name, place in places.items() if place.listed]
    said = [f"Their images are listed in {' and '.join(written)}; add new images there."] if written else []
    return f"The splits are those of lists: {splits}.", *lists.said, *said, *_said_missing(lists.paths)
