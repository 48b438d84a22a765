"""README.md of a repository on the hub: its metadata and its text, from the model cards of the weight files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from fastscnn.base.arguments import hxw
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.hub.address import Address
from fastscnn.model.card import Card
from fastscnn.version import __version__

_TASK = "image-segmentation"
_UNSTATED = "not stated"
_LICENSES = {  # in the terms of data -> identifier on the hub
    r"CC[ -](?P<kind>BY(?:-NC)?(?:-SA|-ND)?)[ -](?P<version>\d\.\d)": r"cc-\g<kind>-\g<version>",
    r"CC0[ -]1\.0": "cc0-1.0",
    r"Apache(?: License)?(?:,? Version)?[ -]2\.0": "apache-2.0",
    r"MIT(?: Licen[sc]e)": "mit",
}
_PURPOSE = {
    "float32": "runs without PyTorch",
    "float16": "runs without PyTorch, half the size",
    "int8": "runs without PyTorch, for CPUs",
}


@dataclass(frozen=True)
class Weights:
    """A weight file and its place in a repository.

    Attributes:
        path: the file.
        name: its name in the repository.
        card: its model card.
    """

    path: Path
    name: str
    card: Card


def model_card(hub: ModuleType, address: Address, weights: Sequence[Weights], license_id: str | None) -> str:
    """Return the text of README.md.

    Args:
        hub: huggingface_hub, which writes the metadata.
        address: the repository.
        weights: the files in it, all of the same weights. What holds for all is taken from the first.
        license_id: identifier of a licence on the hub, for weights whose card states no terms of the training data.

    Raises:
        ArgumentError: a licence for weights whose card states terms, or one that is no identifier.
        FastSCNNError: no licence at all.
    """
    first = weights[0]
    metadata = hub.ModelCardData(
        **_license(first, license_id),
        library_name="fastscnn",
        pipeline_tag=_TASK,
        tags=["fast-scnn", "semantic-segmentation", "onnx"],
        datasets=[first.card.data.name] if first.card.data else None,
        model_name=address.name,
        eval_results=[hub.EvalResult(**result) for result in _results(weights)] or None,
    )
    return f"---\n{metadata.to_yaml()}\n---\n\n" + "\n\n".join(_sections(address, weights)) + "\n"


def _license(weights: Weights, given: str | None) -> dict[str, Any]:
    """Return the fields of the metadata that state the licence."""
    terms = weights.card.data.terms if weights.card.data else ""
    stated = bool(terms.strip()) and _UNSTATED not in terms
    if given is not None and stated:
        raise ArgumentError(f"license: the card of {weights.path} states the terms of its training data ({terms}), which hold "
                            "for the weights; omit the licence.")
    if given is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", given):
        raise ArgumentError(f"license: expected an identifier of the hub, such as cc-by-4.0, not {given!r}.")
    if given is not None:
        return {"license": given}
    if not stated:
        raise FastSCNNError(f"{weights.path}: its model card states no terms of the training data, so the licence is unknown; "
                            "give one, such as --license cc-by-4.0, if the data is yours.")
    known = {found.expand(name).lower() for pattern, name in _LICENSES.items() for found in re.finditer(pattern, terms, re.I)}
    if len(known) == 1:
        return {"license": known.pop()}
    return {"license": "other", "license_name": "terms-of-the-training-data", "license_link": "README.md#training-data"}


def _scores(weights: Sequence[Weights]) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    """Yield the precision, the split, the input size HxW and the scores in percent of every entry in the cards' metrics."""
    cards: dict[str, Card] = {}
    for each in weights:
        cards.setdefault(each.card.precision, each.card)  # scores of float32 in another format are the same
    for card in cards.values():
        for name, scores in card.metrics.items():
            split, _, size = name.partition(" at ")
            yield card.precision, split, size or hxw(card.size), scores


def _results(weights: Sequence[Weights]) -> Iterator[dict[str, Any]]:
    """Yield the fields of each result in the hub's model-index."""
    data = weights[0].card.data
    dataset = data.name if data else "unknown"
    for precision, split, size, scores in _scores(weights):
        yield {
            "task_type": _TASK,
            "dataset_type": dataset,
            "dataset_name": f"{dataset} {split}",
            "dataset_split": split,
            "metric_type": "mean_iou",
            "metric_name": f"mIoU in percent, input {size}, {precision}",
            "metric_value": round(float(scores["miou"]), 2),
        }


def _sections(address: Address, weights: Sequence[Weights]) -> Iterator[str]:
    """Yield the paragraphs of the text, in Markdown."""
    card = weights[0].card
    channels = "RGB images" if card.channels == 3 else f"images of {card.channels} channels"
    yield f"# {address.name}"
    yield (f"Fast-SCNN ({_text(card.variant)}) for semantic segmentation of {channels} into {len(card.label_set)} classes, "
           f"trained for inputs of {hxw(card.size)} (height x width).")
    yield "## Use"
    code = ("import fastscnn", f'segmenter = fastscnn.Segmenter.load("hf://{address.repository}")  # needs fastscnn[hub]',
            'segmenter("street.jpg").save("out")')
    yield "\n".join(("```python", *code, "```"))
    yield "## Files"
    yield _table(("file", "precision", "use"), [
        (each.name, each.card.precision, "training, export and PyTorch" if each.path.suffix.lower() == ".safetensors"
         else _PURPOSE[each.card.precision]) for each in weights
    ])
    rows = [
        (precision, _text(split), size, *(f"{scores[key]:.2f}" if key in scores else "" for key in ("miou", "pixel_accuracy")))
        for precision, split, size, scores in _scores(weights)
    ]
    head = ("precision", "split", "input", "mIoU %", "pixel accuracy %")
    yield "## Accuracy"
    yield _table(head, rows) if rows else "The model card has no scores."
    yield from _classes(weights)
    yield "## Training data"
    yield _data(card)
    yield f"Written by fastscnn {__version__} from the model card in the files."


def _classes(weights: Sequence[Weights]) -> Iterator[str]:
    """Yield the classes, with the IoU of the first entry of the metrics."""
    _, split, size, scores = next(_scores(weights), ("", "", "", {}))
    iou = scores.get("iou", {})
    yield "## Classes"
    yield _table(("id", "class", *([f"IoU % ({_text(split)}, {size})"] if iou else ())), [
        (str(index), _text(name), *([f"{iou[name]:.2f}" if iou.get(name) is not None else "absent"] if iou else ()))
        for index, name in enumerate(weights[0].card.label_set.names)
    ])


def _data(card: Card) -> str:
    """Return the training data and its terms."""
    if card.data is None:
        return "The model card states no training data."
    data = card.data
    return (f"{_text(data.name)}, {_text(data.splits)}, {data.images} images. Terms of use: {_text(data.terms)}\n\n"
            f"Fingerprint of the images and labels (sha256): `{_text(data.fingerprint)}`")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def _text(text: str) -> str:
    """Return a text from a card for Markdown: on one line, without markup."""
    return re.sub(r"([\\`*_{}\[\]<>#|!])", r"\\\1", " ".join(text.split()))
