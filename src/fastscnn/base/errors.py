"""Errors for wrong input: each message says what is wrong, where, and the fix."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class FastSCNNError(Exception):
    """Wrong input: a file, a name or a setting. The command line prints the message and exits with 1."""


class ArgumentError(FastSCNNError, ValueError):
    """A wrong argument: a name, a size, a number or a type that is not accepted. The command line exits with 2."""


def unknown(kind: str, word: object, known: Iterable[str]) -> ArgumentError:
    """Return the error for a name that does not exist, with the nearest name that does and all of them."""
    names = sorted(known)
    spelled = {name.lower(): name for name in names}
    near = get_close_matches(word.lower(), spelled, n=1, cutoff=0.5) if isinstance(word, str) else []
    hint = f" Did you mean {spelled[near[0]]!r}?" if near else ""
    return ArgumentError(f"There is no {kind} {word!r}.{hint} Known: {', '.join(names)}.")


def missing_extra(what: str, extra: str) -> FastSCNNError:
    """Return the error for `what`, which needs an optional dependency that is not installed."""
    return FastSCNNError(f"{what} needs the extra '{extra}': install fastscnn[{extra}], "
                         f"or from a checkout: pip install '.[{extra}]'.")
