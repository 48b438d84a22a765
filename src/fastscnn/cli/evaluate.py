"""evaluate: scores of weights on labelled images, and submissions to the Cityscapes server."""

from __future__ import annotations

import json as json_
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.table import Table

from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.cli import classifier
from fastscnn.cli.console import STDOUT, command, configure, printable, progress_bar, show, table
from fastscnn.cli.flags import load
from fastscnn.cli.options import (
    SPLIT,
    Backend,
    Dataset,
    Device,
    Flip,
    Json,
    MoreDatasets,
    Precision,
    Quiet,
    Report,
    Scales,
    Size,
    Threads,
    Verbose,
    Weights,
    described,
    path,
    value,
)  # fmt: skip

if TYPE_CHECKING:
    from fastscnn.data.datasets import DatasetSpec
    from fastscnn.data.mixture import Member
    from fastscnn.evaluation.evaluate import Report as Scores
    from fastscnn.inference.segmenter import Segmenter

USAGE = "[options] DATASET ..."
_CONFUSIONS = 5  # pairs of classes that are printed


def run(
    dataset: Dataset,
    more: MoreDatasets = (),
    *,
    weights: Weights = None,
    split: Annotated[str | None, value("SPLIT", str, "val, else the only one"), SPLIT] = None,
    size: Size = None,
    scales: Scales = (1.0,),
    flip: Flip = False,
    backend: Backend = "auto",
    precision: Precision = "auto",
    device: Device = None,
    threads: Threads = None,
    submit: Annotated[Path | None, path("DIR"), described(
        "Do not score; write label files for the Cityscapes server into this folder.")] = None,
    report: Report = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Score weights on labelled images, through the same pipeline as `segment`.

    Print the IoU of each class, and the pairs of classes that are confused most. Several datasets are scored one by one, with
    the classes of the first.
    """
    from fastscnn.data import datasets, mixture
    from fastscnn.evaluation.report.page import PAGE, check_ours

    configure(quiet, verbose)
    data = mixture.load_any([dataset, *more])
    if isinstance(data, datasets.ClassFolders):
        given = (backend, precision, device, size, scales, flip, threads, submit, report)
        others = given != ("auto", "auto", None, None, (1.0,), False, None, None, None)
        return classifier.evaluate(data, weights, split or "val", json, others)
    if len(data.members) > 1:
        if submit or report:
            raise ArgumentError("submit and report: describe one dataset; evaluate one at a time with these options.")
        splits = [_checked(member.spec.evaluation_split() if split is None else split, member.spec) for member in data.members]
        segmenter = load(weights, backend, size, threads, scales, flip, precision, device=device)
        return max(_score(segmenter, member, chosen, None, json, named=True)
                   for member, chosen in zip(data.members, splits, strict=True))
    spec = data.first
    if submit and report:
        raise ArgumentError("report: --submit scores nothing, so there is nothing to report; omit one of them.")
    if split is None:
        split = "test" if submit else spec.evaluation_split()
    if submit:
        spec.split(split)
    else:
        _checked(split, spec)
    if report:
        check_ours(report / PAGE)
    segmenter = load(weights, backend, size, threads, scales, flip, precision, device=device)
    if submit:
        return _submit(segmenter, spec, split, submit, json)
    return _score(segmenter, data.members[0], split, report, json)


def _checked(split: str, spec: DatasetSpec) -> str:
    """Return a split, or several joined by `+`. Raise FastSCNNError if one is unknown or has no labels."""
    for name in split.split("+"):
        spec.labelled(name)
    return split


def _score(
    segmenter: Segmenter,
    member: Member,
    split: str,
    report: Path | None,
    json: bool,
    named: bool = False,
) -> int:
    """Score the weights, print the result, and write the report; return the exit code.

    With `named`, the JSON has the keys `dataset` and `split`.
    """
    from fastscnn.evaluation.evaluate import evaluate
    from fastscnn.evaluation.report.page import PAGE, write
    from fastscnn.evaluation.report.scores import Examination, by_class, render

    dataset = member.spec
    seen = Examination(dataset) if report else None
    with progress_bar("evaluate", quiet=json) as advance:
        found = evaluate(segmenter, member, split, on_progress=advance, on_image=seen.add if seen else None,
                         confidence=seen is not None)
    scores = found.to_dict()
    if report and seen:
        write(report / PAGE, render(found, seen, segmenter, f"{dataset.name} {split}", command()))
        scores |= {"by_class": by_class(found)} | seen.to_dict()
    if json:
        print(json_.dumps(({"dataset": dataset.name, "split": split} if named else {}) | scores))
        return 0
    STDOUT.print(_scores_table(scores))
    _print_confusions(found)
    passes = f"scales {', '.join(f'{scale:g}' for scale in found.scales)}{' with flip' if found.flip else ''}"
    show(f"{found.images} images of {dataset.name} {split}, {found.backend} {found.precision} on {found.device}, "
         f"input {found.input}, {passes}")
    if found.not_annotated:
        show(f"{dataset.name} does not annotate {', '.join(found.not_annotated)}: these classes have no score, and the "
             f"{found.not_annotated_percentage:.2f} % of the pixels that are predicted as one of them count as wrong")
    if not member.mapped and "class_iiou" not in scores and any(dataset.split(name).instances for name in split.split("+")):
        missing = next(pair.instances for pair in dataset.pairs(split) if pair.instances)
        show(f"iIoU: not computed, because instance files are missing, such as {missing}")
    if "pst900_running_miou" in scores:
        show("The running mIoU of the PST900 authors is the sum of the mIoU after each image, in the order of file names, "
             "divided by the number of images minus one")
    if report:
        show(f"Open {report / PAGE}")
    return 0


def _print_confusions(report: Scores) -> None:
    """Print the pairs of classes that are confused most."""
    pairs = report.confusion.most_confused(_CONFUSIONS)
    if not pairs:
        return
    confused = table("most confused: true -> predicted", "% of the true class")
    for true, predicted, fraction in pairs:
        confused.add_row(printable(f"{report.names[true]} -> {report.names[predicted]}"), f"{100 * fraction:.2f}")
    STDOUT.print(confused)


def _scores_table(scores: Mapping[str, Any]) -> Table:
    """Return a table of the scores by class and their means; with instances, it has a column of iIoU."""
    instances: Mapping[str, float | None] = scores.get("class_iiou", {})
    made = table("class", "IoU %", *(["iIoU %"] if instances else []))
    for name in scores["iou"]:
        made.add_row(printable(name), *(_percent(row[name]) for row in (scores["iou"], instances) if name in row))
    made.add_section()
    means = {
        "mIoU": ("miou", "class_miiou"),
        "pixel accuracy": ("pixel_accuracy",),
        "category mIoU": ("category_miou", "category_miiou"),
        "running mIoU of the PST900 authors": ("pst900_running_miou",),
    }
    for name, keys in means.items():
        if keys[0] in scores:
            made.add_row(name, *(_percent(scores[key]) for key in keys if key in scores))
    return made


def _percent(score: float | None) -> str:
    return "absent" if score is None else f"{score:.2f}"


def _submit(segmenter: Segmenter, dataset: DatasetSpec, split: str, folder: Path, json: bool) -> int:
    """Write the labels of a split as the Cityscapes server takes them; true labels are not needed."""
    from fastscnn.data.builtin import cityscapes
    from fastscnn.evaluation.protocols.cityscapes import write_submission
    from fastscnn.media import images

    if dataset.label_set.names != cityscapes.LABELS.names or segmenter.card.label_set.names != cityscapes.LABELS.names:
        raise FastSCNNError(f"submit: needs weights and images of the {len(cityscapes.LABELS)} Cityscapes classes.")
    found = dataset.image_files(split)
    if not found:
        raise FastSCNNError(f"{dataset.root}: the split {split!r} of {dataset.name} has no images.")
    with progress_bar("segment", quiet=json) as advance:
        for done, image in enumerate(found, start=1):
            write_submission(folder, image, segmenter.segment(images.read(image)).labels, cityscapes.LABELS)
            advance(done, len(found))
    if json:
        print(json_.dumps({"images": len(found), "submission": str(folder)}))
        return 0
    show(f"{len(found)} files of {dataset.name} {split} in {folder}")
    return 0
