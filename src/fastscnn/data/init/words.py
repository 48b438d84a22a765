"""What the names of files and folders say: image or label, and which split."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import Literal

Role = Literal["image", "label", ""]

_LABEL = frozenset(
    [
        "label", "labels", "lab", "labelled", "labeled", "labelid", "labelids", "labelmap", "labelmaps", "mask", "masks",
        "msk", "msks", "gt", "gts", "truth", "groundtruth", "annotation", "annotations", "annotated", "annot",
        "annots", "ann", "anns", "anno", "annos", "seg", "segs", "segm", "segmentation", "segmentations", "semseg",
        "semantic", "semantics", "segmap", "segmaps", "target", "targets", "trimap", "trimaps", "bitmask", "bitmasks",
    ]
)  # fmt: skip
_IMAGE = frozenset(
    [
        "image", "images", "img", "imgs", "jpegimages", "jpeg", "jpg", "rgb", "photo", "photos", "picture",
        "pictures", "pic", "pics", "frame", "frames", "input", "inputs", "sat", "original", "originals", "orig", "org",
        "raw",
    ]
)  # fmt: skip
# Label files in a form for people, or of something else. They are the labels only if there are no others.
_LESS = frozenset(
    [
        "color", "colors", "colour", "colours", "rgb", "instance", "instances", "object", "objects", "visualization",
        "visualisation", "visualizations", "vis", "viz", "overlay", "overlays", "preview", "previews", "human",
        "depth", "disparity", "thermal", "edge", "edges", "boundary", "boundaries", "contour", "contours", "panoptic",
        "bbox", "boxes", "blend", "blended", "colormap", "colormaps", "colourmap", "colourmaps",
    ]
)  # fmt: skip
_OF_INSTANCES = frozenset(["instance", "instances", "instancelevel", "panoptic", "ins", "pan"])
_SEMANTIC = frozenset(["semantic", "semantics", "semseg", "sem"])
_FILLER = frozenset([
    "dir", "dirs", "full", "class", "classes", "png", "pngs", "machine", "fine", "coarse", "bit", "left", "data",
    "set", "sets", "file", "files", "id", "ids", "folder", "all", "index", "ground", "only",
])
_OF_LISTS = frozenset(["list", "lists", "split", "aug", "voc", "txt"])
_SPLITS = {
    "train": "train", "training": "train", "trn": "train", "trainset": "train",
    "val": "val", "valid": "val", "validation": "val", "eval": "val", "valset": "val",
    "test": "test", "testing": "test", "testset": "test",
}  # fmt: skip
_BESIDE_ROLE = {"tr": "train", "ts": "test"}  # as in imagesTr of nnU-Net
_GLUED = re.compile(r"(train|trainval|val|test)(.{2,})")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+")
_AFFIX = (
    r"jpe?g|png|bmp|tiff?|webp|gtFine|gtCoarse|leftImg8bit|label_?ids|labelTrainIds|labelIds|instanceIds|"
    r"instanceTrainIds|(?:label|instance)level\dIds|TrainIds|polygons|ids|bw|"
    + "|".join(sorted(_LABEL | _IMAGE | _LESS, key=len, reverse=True))
)
_TAIL = re.compile(rf"(?:[_\-. ]+(?:bin|{_AFFIX}))+$", re.IGNORECASE)  # ApolloScape's x_bin.png
_ONE_LETTER = re.compile(r"[_\-][LP]$")  # as in CamVid's 0001TP_006690_L.png
_HEAD = re.compile(rf"^(?:(?:{_AFFIX})(?:[_\-. ]+|(?=\d)))+", re.IGNORECASE)


@dataclass(frozen=True)
class Folder:
    """What the path of a folder says.

    Attributes:
        role: of the files in it.
        split: "train", "val", "test" or "".
        rest: parts of the path that say neither; equal for images and their labels.
        kind: the parts that say `role`, without the split.
        less: whether the labels in it are for people, or of something else than classes.
    """

    role: Role
    split: str
    rest: tuple[str, ...]
    kind: str
    less: bool


@dataclass(frozen=True)
class Stem:
    """What a file name without its suffix says.

    Attributes:
        text: all of it.
        core: without words such as "mask" at its ends.
        affix: those words, around "*".
        role, less: as of `Folder`.
    """

    text: str
    core: str
    affix: str
    role: Role
    less: bool


def words(text: str) -> list[str]:
    """Return the words of a name in lower case, such as ["segmentation", "class"] of "SegmentationClass"."""
    found: list[str] = []
    for word in _WORDS.findall(text):
        glued = _GLUED.fullmatch(word.lower())
        found += [glued[1], glued[2]] if glued and glued[2] in _LABEL | _IMAGE | {"set"} else [word.lower()]
    return found


@cache
def folder(path: str) -> Folder:
    """Return what the path of a folder relative to the root says, composed (NFC): macOS decomposes accents in file names."""
    role: Role = ""
    split, kind, less = "", "", False
    rest: list[str] = []
    for part in PurePosixPath(unicodedata.normalize("NFC", path)).parts:
        found = words(part)
        other = bool((_LESS | _OF_INSTANCES) & set(found))
        own: Role = "label" if _LABEL & set(found) else "image" if _IMAGE & set(found) else ""
        splits = _SPLITS | (_BESIDE_ROLE if own else {})
        named = next((splits[word] for word in found if word in splits), "")
        left = [word for word in found if word not in splits and word not in _FILLER]
        if own:
            role, kind = own, "_".join(word for word in found if word not in splits)
            less = less or (own == "label" and other)
            left = [word for word in left if word not in _LABEL | _IMAGE | _LESS and not (word == "8" and "bit" in found)]
        elif other and not named:
            less = True
        split = named or split
        if left:
            rest.append("_".join(left) if own or named else part)
        elif not own and not named:
            rest.append(part)
    return Folder(role, split, tuple(rest), kind, less)


def stem(text: str) -> Stem:
    """Return what a file name without its suffix says, composed (NFC)."""
    text = unicodedata.normalize("NFC", text)
    tail = _TAIL.search(text) or _ONE_LETTER.search(text)
    short = text[: tail.start()] if tail else text
    head = _HEAD.search(short)
    core = short[head.end() :] if head else short
    if not core:
        return Stem(text, text, "*", "", False)
    before, after = head[0] if head else "", tail[0] if tail else ""
    said = set(words(f"{before} {after}"))
    one_letter = bool(tail and _ONE_LETTER.fullmatch(tail[0]))
    role: Role = "label" if one_letter or said & (_LABEL | {"ids", "bw"}) else "image" if said & _IMAGE else ""
    return Stem(text, core, f"{before}*{after}", role, bool(said & (_LESS | _OF_INSTANCES) - {"rgb"}))


def of_instances(path: str) -> bool:
    """Return whether the path of a label file says that its values are instances, such as "labels/a_instanceIds.png"."""
    return bool(_OF_INSTANCES & _said(path))


def semantic(path: str) -> bool:
    """Return whether the path of a label file says that its values are classes, such as "labels/sem_seg/masks/a.png"."""
    return bool(_SEMANTIC & _said(path))


def _said(path: str) -> set[str]:
    """Return the words of the folders of a file, and of its name without the core."""
    place = PurePosixPath(path)
    return set(words(f"{place.parent} {stem(place.stem).affix}"))


def split_of(text: str) -> str:
    """Return the split that a name says, such as "train" of "train_list"; "" if it says none, several, or more."""
    found = [word for word in words(text) if word not in _FILLER | _LABEL | _IMAGE | _OF_LISTS]
    return _SPLITS.get(found[0], found[0] if found[0] == "trainval" else "") if len(found) == 1 else ""


def first_split(path: str) -> str:
    """Return the split that the last word for one in a path says, such as "train" of "annotations/instances_train2017"."""
    return next((_SPLITS[word] for word in reversed(words(path)) if word in _SPLITS), "")
