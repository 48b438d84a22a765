"""What stands after `?` in the name of a dataset: `every=30`, several joined by `&`."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from fastscnn.base.errors import FastSCNNError, unknown


def parse(dataset: str, text: str, known: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Option -> value, each once.

    Args:
        dataset: its name, for messages.
        text: what follows the question mark.
        known: option -> its values; none where it takes a whole number from 1.

    Raises:
        FastSCNNError: an option or value that does not exist, with the nearest spelling; one that stands twice or is empty.
    """
    options: dict[str, str] = {}
    for part in text.split("&"):
        key, _, value = part.partition("=")
        if not known:
            raise FastSCNNError(f"{dataset}: takes no options, but {text!r} follows the question mark.")
        if key not in known:
            raise unknown(f"option of {dataset}", key, known)
        if key in options:
            raise FastSCNNError(f"{dataset}: the option {key} stands twice; give it once.")
        if known[key] and value not in known[key]:
            raise unknown(f"value of the option {key} of {dataset}", value, known[key])
        if not known[key] and not (value.isascii() and value.isdigit() and int(value) >= 1):
            raise FastSCNNError(f"{dataset}: the option {key} is {value!r}; it takes a whole number from 1.")
        options[key] = value
    return options
