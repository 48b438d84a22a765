"""Texts of a repository on the hub, from the model cards of the weight files: README.md, and LICENSE where it needs one."""

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

README, LICENSE = "README.md", "LICENSE"  # names that the hub knows
_TASK = "image-segmentation"
_UNSTATED = "not stated"
_LICENSES = {  # in the terms of data -> identifier on the hub, which has not every version of the Creative Commons
    r"CC[ -](?P<kind>BY(?:-NC)?(?:-SA|-ND)?)[ -](?P<version>4\.0)": r"cc-\g<kind>-\g<version>",
    r"CC[ -](?P<kind>BY(?:-NC)?(?:-SA)?)[ -](?P<version>3\.0)": r"cc-\g<kind>-\g<version>",
    r"CC[ -](?P<kind>BY(?:-NC(?:-SA)?)?)[ -](?P<version>2\.0)": r"cc-\g<kind>-\g<version>",
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


@dataclass(frozen=True)
class _Scores:
    """An entry in the metrics of a card.

    Attributes:
        precision: of the file.
        dataset: what was scored; "" if the card, of an earlier version, does not name it.
        split: split of the dataset.
        size: network input size, HxW.
        values: scores in percent.
    """

    precision: str
    dataset: str
    split: str
    size: str
    values: Mapping[str, Any]


def texts(hub: ModuleType, address: Address, weights: Sequence[Weights], license_id: str | None) -> dict[str, str]:
    """Return the texts of the repository: README.md, and LICENSE if the weights are under no single licence of the hub.

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
    licence = _license(first, license_id)
    metadata = hub.ModelCardData(
        **licence,
        library_name="fastscnn",
        pipeline_tag=_TASK,
        tags=["fast-scnn", "semantic-segmentation", "onnx"],
        datasets=_identifiers(hub, first.card) or None,
        model_name=address.name,
        eval_results=[hub.EvalResult(**result) for result in _results(weights)] or None,
    )
    readme = f"---\n{metadata.to_yaml()}\n---\n\n" + "\n\n".join(_sections(address, weights)) + "\n"
    return {README: readme, **({LICENSE: _license_text(first.card)} if licence.get("license_link") else {})}


def _license(weights: Weights, given: str | None) -> dict[str, Any]:
    """Return the fields of the metadata that state the licence: one that the hub knows, if it is that of all data."""
    parts = _terms(weights.card)
    stated = any(_UNSTATED not in part for part in parts)
    if given is not None and stated:
        raise ArgumentError(f"license: the card of {weights.path} states the terms of its training data ({'; '.join(parts)}), "
                            "which hold for the weights; omit the licence.")
    if given is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", given):
        raise ArgumentError(f"license: expected an identifier of the hub, such as cc-by-4.0, not {given!r}.")
    if given is not None:
        return {"license": given}
    if not stated:
        raise FastSCNNError(f"{weights.path}: its model card states no terms of the training data, so the licence is unknown; "
                            "give one, such as --license cc-by-4.0, if the data is yours.")
    named = [_named(part) for part in parts]
    if all(len(each) == 1 for each in named) and len(set.union(*named)) == 1:
        return {"license": named[0].pop()}
    return {"license": "other", "license_name": "terms-of-the-training-data", "license_link": LICENSE}


def _terms(card: Card) -> list[str]:
    """Return the terms of use of each dataset, and of earlier weights, which training joins by a semicolon."""
    return [" ".join(part.split()) for part in (card.data.terms if card.data else "").split(";") if part.strip()]


def _named(terms: str) -> set[str]:
    """Return the identifiers of the licences that terms name."""
    return {found.expand(name).lower() for pattern, name in _LICENSES.items() for found in re.finditer(pattern, terms, re.I)}


def _license_text(card: Card) -> str:
    """Return the content of LICENSE."""
    lines = ("These weights were trained on data whose terms of use hold for the weights, too:", "",
             *(f"- {part}" for part in _terms(card)))
    return "\n".join(lines) + "\n"


def _identifiers(hub: ModuleType, card: Card) -> list[str]:
    """Return the names of the training datasets that the hub accepts as identifiers; it refuses a card with another."""

    def accepted(name: str) -> bool:
        try:
            hub.utils.validate_repo_id(name)
        except hub.errors.HFValidationError:
            return False
        return True

    return [name for name in card.data.name.split("+") if accepted(name)] if card.data else []


def _scores(weights: Sequence[Weights]) -> Iterator[_Scores]:
    """Yield every entry in the cards' metrics."""
    cards: dict[str, Card] = {}
    for each in weights:
        cards.setdefault(each.card.precision, each.card)  # scores of float32 in another format are the same
    for card in cards.values():
        for name, values in card.metrics.items():
            split, _, size = name.partition(" at ")
            yield _Scores(card.precision, values.get("dataset", ""), split, size or hxw(card.size), values)


def _results(weights: Sequence[Weights]) -> Iterator[dict[str, Any]]:
    """Yield the fields of each result in the hub's model-index, where a dataset is required."""
    for scores in _scores(weights):
        if scores.dataset:
            yield {
                "task_type": _TASK,
                "dataset_type": scores.dataset,
                "dataset_name": f"{scores.dataset} {scores.split}",
                "dataset_split": scores.split,
                "metric_type": "mean_iou",
                "metric_name": f"mIoU in percent, input {scores.size}, {scores.precision}",
                "metric_value": round(float(scores.values["miou"]), 2),
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
    yield "## Accuracy"
    yield _accuracy(weights)
    yield from _classes(weights)
    yield "## Training data"
    yield _data(card)
    yield f"Written by fastscnn {__version__} from the model card in the files."


def _accuracy(weights: Sequence[Weights]) -> str:
    """Return the scores, and what they were measured on."""
    rows = [
        (each.precision, _text(each.dataset) or "not recorded", _text(each.split), each.size,
         *(f"{each.values[key]:.2f}" if key in each.values else "" for key in ("miou", "pixel_accuracy")))
        for each in _scores(weights)
    ]
    head = ("precision", "dataset", "split", "input", "mIoU %", "pixel accuracy %")
    return _table(head, rows) if rows else "The model card has no scores."


def _classes(weights: Sequence[Weights]) -> Iterator[str]:
    """Yield the classes, with the IoU of the first entry of the metrics."""
    first = next(_scores(weights), None)
    iou = first.values.get("iou", {}) if first else {}
    measured = [f"IoU % ({_text(f'{first.dataset} {first.split}')}, {first.size})"] if first and iou else []
    yield "## Classes"
    yield _table(("id", "class", *measured), [
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
