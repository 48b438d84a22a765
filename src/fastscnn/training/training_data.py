"""The data of a training: what is checked before the first step, and what the card says about it."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import Float32Array, Float64Array, Int64Array
from fastscnn.data.check.dataset import CheckReport, check
from fastscnn.data.datasets import DatasetSpec, Pair
from fastscnn.data.mixture import Member, Mixture
from fastscnn.model.label_set import IGNORE_NAME

_SHOWN = 8  # class names in one sentence


@dataclass(frozen=True)
class TrainingData:
    """Checked datasets.

    Attributes:
        mixture: the datasets.
        splits: the training splits of each dataset, joined by `+`.
        pairs: the training images and labels of each dataset.
        reports: result of the check of each dataset.
    """

    mixture: Mixture
    splits: tuple[str, ...]
    pairs: tuple[Sequence[Pair], ...]
    reports: tuple[CheckReport, ...]

    @property
    def images(self) -> tuple[int, ...]:
        """Number of training images of each dataset."""
        return tuple(len(pairs) for pairs in self.pairs)

    @property
    def soft_images(self) -> int:
        """Number of training images with soft labels."""
        return sum(pair.soft is not None for pairs in self.pairs for pair in pairs)

    @property
    def soft_to_classes(self) -> Float32Array | None:
        """See `Mixture.soft_to_classes`; None if no training image has soft labels."""
        return self.mixture.soft_to_classes if self.soft_images else None

    @property
    def pixels(self) -> Int64Array:
        """Training pixels of each class, of all datasets: int64 [classes]."""
        summed: Int64Array = np.sum(self._pixels(), axis=0)
        return summed

    def classes(self, *, present: bool) -> list[str]:
        """Return the names of the classes with training pixels, or of those without."""
        names = self.mixture.members[0].label_set.names
        return [name for name, count in zip(names, self.pixels.tolist(), strict=True) if bool(count) == present]

    @property
    def expected_pixels(self) -> Int64Array | Float64Array:
        """Pixels of each class in an epoch, [classes]: those of a dataset count as often as it is sampled."""
        if not self.mixture.weighted:
            return self.pixels
        shares = zip(self.mixture.shares(self.images), self.images, self._pixels(), strict=True)
        summed: Float64Array = np.sum([share * sum(self.images) / count * pixels for share, count, pixels in shares], axis=0)
        return summed

    @property
    def fingerprint(self) -> str:
        """Hash of all images and labels, and of how the labels are mapped; of one dataset, that of its check."""
        if len(self.reports) == 1:
            return self.reports[0].fingerprint
        parts = [(report.fingerprint, member.train_ids)
                 for report, member in zip(self.reports, self.mixture.members, strict=True)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def split(self) -> str:
        """The training splits, for the card: "train", or "train of camvid, all of facade" if they differ."""
        if len(set(self.splits)) == 1:
            return self.splits[0]
        named = zip(self.splits, self.mixture.members, strict=True)
        return ", ".join(f"{split} of {member.name}" for split, member in named)

    @property
    def terms(self) -> str:
        """The terms of use of all datasets."""
        every = [
            f"{member.spec.terms}; soft labels: {member.spec.soft.terms}" if member.spec.soft and member.spec.soft.terms
            else member.spec.terms
            for member in self.mixture.members
        ]
        if len(set(every)) == 1:
            return every[0]
        return "; ".join(f"{member.name}: {terms}" for member, terms in zip(self.mixture.members, every, strict=True))

    def identity(self, with_soft: bool) -> dict[str, Any]:
        """Return what decides the outcome of a training beside the files of one dataset, for run.json; {} if nothing does.

        Args:
            with_soft: whether the training uses soft labels.
        """
        found: dict[str, Any] = {}
        if with_soft and (soft := self.mixture.soft) and (to_classes := self.soft_to_classes) is not None:
            found["soft"] = {"classes": list(soft.classes), "to_classes": to_classes.astype(int).tolist()}
        if len(self.splits) == 1:
            return found
        rows = zip(self.mixture.members, self.splits, self.mixture.shares(self.images), strict=True)
        return {**found, "datasets": [
            {"name": member.name, "split": split, "share": share, "map": member.class_map} for member, split, share in rows
        ]}

    def messages(self) -> Iterator[str]:
        """Yield a description of each of several datasets, the classes without pixels, and the number of warnings."""
        yield from self._descriptions() if len(self.splits) > 1 else ()
        if absent := self.classes(present=False):
            more = f" and {len(absent) - _SHOWN} more" if len(absent) > _SHOWN else ""
            yield f"No training pixel is {', '.join(absent[:_SHOWN])}{more}; the network will not learn these classes."
        yield from [self.warnings] if self.warnings else ()

    @property
    def warnings(self) -> str:
        """The number of warnings of the checks and the command that lists them; "" if there are none."""
        count = len({finding for report in self.reports for finding in report.findings})  # errors are refused
        given = dict.fromkeys(member.spec.source for member in self.mixture.members if member.spec.source)
        command = f"fastscnn check {' '.join(map(shlex.quote, given)) or 'DATASET'}"
        return f"The check of the data has {count} warning{'s' * (count != 1)}; list with: {command}" if count else ""

    def _descriptions(self) -> Iterator[str]:
        shares = self.mixture.shares(self.images)
        for member, split, count, share in zip(self.mixture.members, self.splits, self.images, shares, strict=True):
            yield f"{member.name}: {count} images of {split}, {100 * share:.1f} % of the crops; {_described(member)}."
        yield f"Validation and scores are those of the first dataset, {self.mixture.first.name}."

    def _pixels(self) -> list[Int64Array]:
        """Return the training pixels of each class, for each dataset."""
        return [
            np.sum([member.counts(report.pixels[split]) for split in splits.split("+")], axis=0)
            for member, report, splits in zip(self.mixture.members, self.reports, self.splits, strict=True)
        ]


def checked(mixture: Mixture, split: str, validation: str | None) -> TrainingData:
    """Check the splits in use, and return the data.

    Args:
        mixture: the datasets.
        split: training split of datasets that name none.
        validation: split of the first dataset to validate on, or None.

    Raises:
        FastSCNNError: the first error of a check, pixels of fewer than two classes, or images in both training and validation.
    """
    splits = tuple(member.split or split for member in mixture.members)
    first = mixture.first
    both = set(splits[0].split("+")) & set((validation or "").split("+"))
    if both:
        raise FastSCNNError(f"validation: {both.pop()!r} is also a training split; use another one, or none.")
    if validation == "val" and "val" not in first.splits:
        raise FastSCNNError(f"validation: {first.name} has no split 'val'; use one of {', '.join(first.splits)}, or none.")
    held_out = validation.split("+") if validation else []
    reports = tuple(
        _report(member.spec, [*own.split("+"), *(held_out if member is mixture.members[0] else [])])
        for member, own in zip(mixture.members, splits, strict=True)
    )
    pairs = tuple(member.spec.pairs(own) for member, own in zip(mixture.members, splits, strict=True))
    data = TrainingData(mixture, splits, pairs, reports)
    _refuse_less_than_two_classes(data)
    _refuse_leaks(data, validation)
    return data


def _report(spec: DatasetSpec, splits: Sequence[str]) -> CheckReport:
    """Return the report on the splits. Raise FastSCNNError with the first of its errors."""
    report = check(spec, splits, cache=files.cache("check"))
    errors = [finding for finding in report.findings if finding.severity == "error"]
    if not errors:
        return report
    first, others = errors[0], len(errors) - 1
    fix = "" if first.kind.startswith("unreadable") else f" {first.fix}"  # the message of a reader has its own
    more = f" `fastscnn check` lists {others} more {'error' if others == 1 else 'errors'}." if others else ""
    raise FastSCNNError(f"{first.message}{fix}{more}")


def _refuse_less_than_two_classes(data: TrainingData) -> None:
    warnings = f" {data.warnings}" if data.warnings else ""
    for member, split, pixels in zip(data.mixture.members, data.splits, data._pixels(), strict=True):
        if not pixels.any():
            raise FastSCNNError(f"{member.spec.root}: every pixel of the split {split!r} is ignored; correct the label files."
                                f"{warnings}")
    if len(present := data.classes(present=True)) > 1:
        return
    if len(data.splits) > 1:
        raise FastSCNNError(f"{data.mixture.name}: all labelled training pixels of these datasets are {present[0]!r}, so there "
                            f"is nothing to learn; add images of other classes.{warnings}")
    raise FastSCNNError(f"{data.mixture.first.root}: all labelled pixels of the split {data.splits[0]!r} are {present[0]!r}, "
                        "so there is nothing to learn; add images of other classes, or label the rest as a class of its own. "
                        f"If label files hold ids, give those of the other classes in [map].{warnings}")


def _refuse_leaks(data: TrainingData, validation: str | None) -> None:
    """Refuse images of further datasets that are also validated on; within a dataset, its check finds them."""
    if not validation or len(data.pairs) == 1:
        return
    first, known = data.mixture.first, data.reports[0].hashes
    images = [pair.image for pair in first.pairs(validation)]
    held_out = {image.resolve(): image for image in images} | {known[image]: image for image in images}  # a crop changes hashes
    for member, report, pairs in zip(data.mixture.members[1:], data.reports[1:], data.pairs[1:], strict=True):
        for pair in pairs:
            if other := held_out.get(pair.image.resolve()) or held_out.get(report.hashes[pair.image]):
                raise FastSCNNError(f"{pair.image}: this training image of {member.name} is the same image as {other}, a "
                                    f"validation image of {first.name}; remove one of the two.")


def _described(member: Member) -> str:
    """Return the class map of a dataset as a sentence, and which classes it does not annotate."""
    sources: dict[str, list[str]] = {}
    for own, target in member.class_map.items():
        sources.setdefault(target, []).append(own)
    ignored = sources.pop(IGNORE_NAME, [])
    renamed = [f"{', '.join(own)} -> {target}" for target, own in sources.items() if own != [target]]
    parts = [*renamed, *([f"ignored: {', '.join(ignored)}"] if ignored else [])]
    missing = member.not_annotated
    return "; ".join([*parts, f"not annotated: {', '.join(missing)}" if missing else "all classes are annotated"])
