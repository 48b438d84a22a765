"""Sentences about label files that several modules say."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from fastscnn.data.init.values import Values

LOSSY = ("the label files are JPEGs, whose compression changes values near edges, so labels are read wrong there; export them "
         "as PNG.")
NAMES = "write the names of the classes in `classes`"
NOT_LEARNED = "a network does not learn classes without pixels"
UNLABELLED = 0.3  # share of the pixels up to which 0 or black, without a name, is taken as unlabelled; above, as background
_SHOWN = 8  # values or names in one sentence


def listed(texts: Iterable[object]) -> str:
    """Return the first values, and the number of the others."""
    shown = [str(text) for text in texts]
    return ", ".join(shown[:_SHOWN]) + (f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else "")


def number(count: int, noun: str) -> str:
    """Return a number of things, such as "1 image" or "6 images"."""
    return f"{count} {noun}{'s' * (count != 1)}"


def files_read(values: Values) -> str:
    """Return how many label files were read."""
    return f"{number(values.files, 'label file')} read"


def spans(ids: Sequence[int]) -> str:
    """Return sorted ids, such as "0 to 7, 255"."""
    starts = [place for place, one in enumerate(ids) if not place or one != ids[place - 1] + 1]
    runs = [ids[start:end] for start, end in zip(starts, [*starts[1:], len(ids)], strict=True)]
    return listed(text for run in runs for text in ([f"{run[0]} to {run[-1]}"] if len(run) > 2 else run))


def percent(share: float) -> str:
    """Return a share of 0 to 1 in percent, such as "0.3 %" or "71 %"."""
    value = 100 * share
    return "under 0.01 %" if 0 < value < 0.01 else f"{value:.0f} %" if value >= 9.95 else f"{value:.2g} %"


def ignored(things: Iterable[object]) -> str:
    """Return the sentence about values or names that are ignored."""
    found = list(things)
    return f"{listed(found)} {'is' if len(found) == 1 else 'are'} ignored."


def about_rest(what: str, share: float) -> str:
    """Return what pixels without a name are taken as: 0, or black."""
    taken = "unlabelled and ignored" if share <= UNLABELLED else 'the class "background"'
    return f"{what} has no name and is taken as {taken} ({percent(share)} of the pixels)."


def absent(names: Iterable[str]) -> list[str]:
    """Return the sentence about classes that no label file holds."""
    missing = list(names)
    return [f"No label file that was read holds {listed(missing)}; {NOT_LEARNED}."] if missing else []


def alike(names: Iterable[str], numbered: bool = False) -> list[str]:
    """Return what is left open about names that differ in case or separators only, or also in a number at their end."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        key = re.sub(r"[\s_-]+", "", name.lower())
        found[key.rstrip("0123456789") or key if numbered else key].append(name)
    what = "case, separators or numbers" if numbered else "case or separators"
    return [f"the classes {listed(map(repr, of_key))} differ in {what} only; if they are one class, give them one name in "
            "`classes` and in [map]." for of_key in found.values() if len(of_key) > 1]
