"""What a person did that cannot work, said in one sentence that names the thing and the cure."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class FastSCNNError(Exception):
    """Wrong input: a file, a name or a setting. The command line prints the message and exits with 1."""


def unknown(kind: str, word: str, known: Iterable[str]) -> FastSCNNError:
    """The error for a name that does not exist: shows the nearest one that does, and all of them."""
    names = sorted(known)
    spelled = {name.lower(): name for name in names}
    near = get_close_matches(word.lower(), spelled, n=1, cutoff=0.5)
    hint = f" Did you mean {spelled[near[0]]!r}?" if near else ""
    return FastSCNNError(f"There is no {kind} {word!r}.{hint} Known: {', '.join(names)}.")
