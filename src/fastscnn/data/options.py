"""Options of a dataset, after `?` in its name: `every=30`; `&` joins several."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from fastscnn.base.errors import FastSCNNError, unknown


def parse(dataset: str, text: str, known: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Parse options into option -> value.

    Args:
        dataset: name of the dataset, for messages.
        text: the text after the question mark.
        known: option -> its values; an empty collection stands for a whole number of at least 1.

    Raises:
        FastSCNNError: an unknown option or value, with the nearest spelling; an option that is empty or given twice.
    """
    options: dict[str, str] = {}
    for part in text.split("&"):
        key, _, value = part.partition("=")
        if not known:
            raise FastSCNNError(f"{dataset}: has no options; remove ?{text}.")
        if key not in known:
            raise unknown(f"option of {dataset}", key, known)
        if key in options:
            raise FastSCNNError(f"{dataset}: the option {key} is given twice; give it once.")
        if known[key] and value not in known[key]:
            raise unknown(f"value of the option {key} of {dataset}", value, known[key])
        if not known[key] and not (value.isascii() and value.isdigit() and int(value) >= 1):
            raise FastSCNNError(f"{dataset}: the option {key} is {value!r}; give a whole number of at least 1.")
        options[key] = value
    return options
