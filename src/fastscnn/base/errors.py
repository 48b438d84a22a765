"""Errors for wrong input: each message says what is wrong, where, and the fix."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class FastSCNNError(Exception):
    """Wrong input: a file, a name or a setting. The command line prints the message and exits with 1."""


class ArgumentError(FastSCNNError, ValueError):
    """A wrong argument: a name, a size, a number or a type that is not accepted. The command line exits with 2."""


class NotFiniteError(FastSCNNError):
    """The output of a network has NaN or infinity."""


class FailedTrainingError(FastSCNNError):
    """A training that fails because of its settings: a loss that is not finite, or too little memory."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known name whose spelling is nearest to `word`, without regard to case; "" if none is near."""
    spelled = {name.lower(): name for name in sorted(known)}
    near = get_close_matches(word.lower(), spelled, n=1, cutoff=0.5)
    return spelled[near[0]] if near else ""


def unknown(kind: str, word: object, known: Iterable[str]) -> ArgumentError:
    """Return the error for a name that does not exist, with the nearest name that does and all of them."""
    names = sorted(known)
    near = nearest(word, names) if isinstance(word, str) else ""
    hint = f" Did you mean {near!r}?" if near else ""
    return ArgumentError(f"There is no {kind} {word!r}.{hint} Known: {', '.join(names)}.")


def sentence(file: object, error: FastSCNNError) -> str:
    """Return the message of an error with the name of its file in front, unless it begins with it."""
    return str(error) if str(error).startswith(f"{file}: ") else f"{file}: {error}"


def missing_extra(what: str, extra: str) -> FastSCNNError:
    """Return the error for `what`, which needs an optional dependency that is not installed."""
    return FastSCNNError(f"{what} needs the extra '{extra}': install fastscnn[{extra}], "
                         f"or from a checkout: pip install '.[{extra}]'.")
