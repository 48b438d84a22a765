"""Scores of weights on labelled images, measured with the same Segmenter that labels a user's images."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any, overload

from fastscnn.base import files
from fastscnn.base.arguments import hxw
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data import mixture
from fastscnn.data.datasets import DatasetSpec, Pair
from fastscnn.data.mixture import Member, Mixture, SourceLike
from fastscnn.evaluation.metrics import Confusion
from fastscnn.evaluation.protocols.dataset_metrics import dataset_scores
from fastscnn.inference.segmentation import Segmentation
from fastscnn.inference.segmenter import Segmenter

OnImage = Callable[[UInt8Array, Segmentation, UInt8Array, Pair], None]
OnProgress = Callable[[int, int], None]
_CONFUSED = 10  # pairs of classes in a report


@dataclass(frozen=True)
class Report:
    """Scores in percent.

    Attributes:
        confusion: pixels by true and predicted class.
        names: class names.
        images: number of images.
        backend, precision, device: of the segmenter.
        size: network input size, "native" or "HxW".
        shape_kept: the input has the shape of each image and about the area of `size`; see `Segmenter.shape_kept`.
        scales, flip: the passes over each image whose probabilities are averaged; see `Segmenter`.
        weights_sha256: hash of the weight file; "" for weights that are in no file.
        verified: the weights equal those that the card was written for (`Segmenter.verified`).
        not_annotated: classes that the labels do not contain. They have no score. A pixel that is predicted as one of them
            counts as a miss of its true class, although the labels cannot prove it wrong; so the scores are lower bounds.
        dataset_metrics: scores that the dataset's authors report beside these, by their JSON keys.
    """

    confusion: Confusion
    names: tuple[str, ...]
    images: int
    backend: str
    precision: str
    device: str
    size: str
    shape_kept: bool
    scales: tuple[float, ...]
    flip: bool
    weights_sha256: str
    verified: bool = True
    not_annotated: tuple[str, ...] = ()
    dataset_metrics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def input(self) -> str:
        """The network's input in words, such as "360x480 in the shape of each image"."""
        return f"{self.size} in the shape of each image" if self.shape_kept and self.size != "native" else self.size

    @property
    def miou(self) -> float:
        """Mean IoU in percent over the classes that are present or predicted."""
        return self.confusion.miou()

    @property
    def not_annotated_percentage(self) -> float:
        """Percentage of the pixels that are predicted as a class that the labels do not contain."""
        matrix = self.confusion.matrix
        found = int(matrix[:, [self.names.index(name) for name in self.not_annotated]].sum())
        return 100 * found / max(1, int(matrix.sum()))

    def to_dict(self) -> dict[str, Any]:
        """Return the report for JSON.

        Scores are in percent, `iou` is by class name, `confusion` has a row for each true class. `most_confused` lists up
        to 10 pairs of classes with the percentage of the true class. `dataset_metrics` are added under their own keys.
        `not_annotated` and `not_annotated_percentage` are present if the labels lack classes.
        """
        confused = self.confusion.most_confused(_CONFUSED)
        return {
            "miou": self.confusion.miou(),
            "pixel_accuracy": self.confusion.pixel_accuracy(),
            "iou": dict(zip(self.names, self.confusion.iou(), strict=True)),
            "images": self.images,
            "backend": self.backend,
            "precision": self.precision,
            "device": self.device,
            "size": self.size,
            "shape_kept": self.shape_kept,
            "scales": list(self.scales),
            "flip": self.flip,
            "weights_sha256": self.weights_sha256,
            "verified": self.verified,
            "confusion": self.confusion.matrix.tolist(),
            "most_confused": [
                {"truth": self.names[true], "predicted": self.names[predicted], "percent": 100 * fraction}
                for true, predicted, fraction in confused
            ],
            **({"not_annotated": list(self.not_annotated), "not_annotated_percentage": self.not_annotated_percentage}
               if self.not_annotated else {}),
            **self.dataset_metrics,
        }

    def to_json(self) -> str:
        """Return `to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=1)


@overload
def evaluate(  # type: ignore[overload-overlap]  # a str is a sequence, too, but this overload comes first
    weights: str | Path | Segmenter | None,
    data: str | Path | DatasetSpec | Member,
    split: str | None = None,
    *,
    on_progress: OnProgress | None = None,
    on_image: OnImage | None = None,
    confidence: bool = False,
) -> Report: ...


@overload
def evaluate(
    weights: str | Path | Segmenter | None,
    data: Mixture | Sequence[SourceLike],
    split: str | None = None,
    *,
    on_progress: OnProgress | None = None,
    on_image: OnImage | None = None,
    confidence: bool = False,
) -> tuple[Report, ...]: ...


def evaluate(
    weights: str | Path | Segmenter | None,
    data: str | Path | DatasetSpec | Member | Mixture | Sequence[SourceLike],
    split: str | None = None,
    *,
    on_progress: OnProgress | None = None,
    on_image: OnImage | None = None,
    confidence: bool = False,
) -> Report | tuple[Report, ...]:
    """Evaluate weights on the labelled images of a dataset, each at the size of its label file.

    Args:
        weights: a weight file; a `Segmenter`, for another backend, device, size or scales; None for the bundled weights.
        data: "camvid:ROOT" or another built-in dataset, a dataset.toml or its folder, or a `DatasetSpec`. Its classes must
            be those of the weights. A list of them, or of one mixture file, has a report for each dataset: the classes of the
            first must be those of the weights, and the others are mapped as in training; see `data.mixture`.
        split: a split, or several joined by `+`. Default: `val`, or the only split with labels.
        on_progress: called with (images done, all images) after each image.
        on_image: called with each image uint8 [H, W, channels], its segmentation, its true train ids uint8 [H, W], and its
            pair, in the order of the file names.
        confidence: compute the confidence of each segmentation, for `on_image`.

    Raises:
        FastSCNNError: unknown dataset or split, other classes than those of the weights, or a broken file.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import fastscnn
        >>> from fastscnn.data import synthetic
        >>> from fastscnn.media import images
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     root = Path(folder)
        ...     scene = synthetic.draw(360, 480)
        ...     images.write(root / "images" / "a.png", scene.image)
        ...     images.write(root / "labels" / "a.png", scene.labels)
        ...     _ = (root / "dataset.toml").write_text(
        ...         f'name = "scene"\\n'
        ...         f'classes = {list(synthetic.CLASSES)}\\n'
        ...         '[splits.val]\\n'
        ...         'images = "images/*.png"\\n'
        ...         'labels = "labels/{stem}.png"\\n'
        ...     )
        ...     report = fastscnn.evaluate(None, root)
        >>> report.images
        1
        >>> report.miou > 50
        True
    """
    segmenter = weights if isinstance(weights, Segmenter) else Segmenter.load(weights)
    members = (data,) if isinstance(data, Member) else mixture.load(data).members
    one = isinstance(data, str | PathLike | DatasetSpec | Member)
    if one and len(members) > 1:
        raise ArgumentError(f"{data}: is a mixture of datasets; give it in a list, for a report of each.")
    reports = tuple(_evaluate(segmenter, member, split, on_progress, on_image, confidence) for member in members)
    return reports[0] if one else reports


def _evaluate(
    segmenter: Segmenter,
    member: Member,
    split: str | None,
    on_progress: OnProgress | None,
    on_image: OnImage | None,
    confidence: bool,
) -> Report:
    """Evaluate on one dataset, with the dataset's own metrics if its classes are not mapped."""
    spec = member.spec
    pairs = spec.pairs(spec.evaluation_split() if split is None else split)
    extra = dataset_scores(spec, pairs) if not member.mapped else None

    def observe(image: UInt8Array, result: Segmentation, truth: UInt8Array, pair: Pair) -> None:
        if extra:
            extra.add(result.labels, truth, pair)
        if on_image:
            on_image(image, result, truth, pair)

    report = evaluate_pairs(segmenter, member, pairs, on_progress, observe, confidence)
    return replace(report, dataset_metrics=extra.to_dict()) if extra else report


def evaluate_pairs(
    segmenter: Segmenter,
    spec: DatasetSpec | Member,
    pairs: Sequence[Pair],
    on_progress: OnProgress | None = None,
    on_image: OnImage | None = None,
    confidence: bool = False,
) -> Report:
    """Evaluate a segmenter on pairs of a dataset, without the dataset's own metrics.

    Args:
        segmenter: the segmenter.
        spec: the dataset, or the member of a mixture, with the classes of the segmenter in the same order.
        pairs: the images and labels.
        on_progress, on_image, confidence: see `evaluate`.

    Raises:
        FastSCNNError: other classes than those of the weights, a broken file, or image and labels of different sizes.
    """
    names = segmenter.card.label_set.names
    if names != spec.label_set.names:
        ours, theirs = (f"{len(known)} classes ({', '.join(known)})" for known in (names, spec.label_set.names))
        raise FastSCNNError(f"{segmenter.path or 'The weights'}: have {ours} but {spec.name} has {theirs}; "
                            "use weights that were trained on its classes.")
    missing = spec.not_annotated if isinstance(spec, Member) else ()
    confusion = Confusion(len(names), tuple(map(names.index, missing)))
    for done, pair in enumerate(pairs, start=1):
        image, truth = spec.read(pair)
        try:
            result = segmenter.segment(image, confidence=confidence)
        except ArgumentError as error:
            raise FastSCNNError(f"{pair.image}: {error}") from error
        confusion.add(result.labels, truth)
        if on_image:
            on_image(image, result, truth, pair)
        if on_progress:
            on_progress(done, len(pairs))
    size = segmenter.size if isinstance(segmenter.size, str) else hxw(segmenter.size)
    digest = files.digest(segmenter.path) if segmenter.path else ""
    backend = segmenter.backend
    return Report(
        confusion, names, len(pairs), backend.name, backend.precision, backend.device, size, segmenter.shape_kept,
        segmenter.scales, segmenter.flip, digest, segmenter.verified, missing,
    )
