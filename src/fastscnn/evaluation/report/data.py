"""data: what a dataset looks like: its classes' shares, sizes, examples of its labels, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.check.dataset import CheckReport, Finding
from fastscnn.data.check.files import relative
from fastscnn.data.datasets import DatasetSpec
from fastscnn.evaluation.report.charts import bar
from fastscnn.evaluation.report.gallery import overlay, small
from fastscnn.evaluation.report.page import Markup, Section, element, facts, legend, named, page, percent, picture, table

_SHOWN = 8  # pairs of each split, evenly spread over it
_WIDTH = 320  # pixels of their pictures, at most
_MOST_SIZES = 12
_MOST_FINDINGS = 500  # more of them are counted, so that the page can still be opened


def render(spec: DatasetSpec, report: CheckReport, command: str) -> str:
    """The page of a dataset that was checked; `command` made it. Unreadable files are findings, and not shown."""
    errors = sum(finding.severity == "error" for finding in report.findings)
    tiles = [
        ("images", f"{sum(report.counts.values()):,}", ""),
        ("classes", str(len(spec.label_set)), ""),
        ("errors", str(errors), ""),
        ("warnings", str(len(report.findings) - errors), ""),
    ]
    splits = ", ".join(f"{split} {count:,}" for split, count in report.counts.items())
    sheet = [part for split in report.counts for part in _sheet(spec, split)]
    known = {"root": str(spec.root), "labels are": spec.labels_are, "terms": spec.terms, "fingerprint": report.fingerprint}
    return page(spec.name, f"Images: {splits}.", tiles, [
        Section("Findings", _findings(report.findings)),
        Section("Share of pixels", [_shares(spec, report)]),
        Section("Image sizes", [_sizes(report)] if any(report.counts.values()) else []),
        Section("Examples", [legend(spec.label_set), *sheet] if sheet else []),
        Section("Dataset", [facts(known), element("pre", command)]),
    ])


def _findings(findings: Sequence[Finding]) -> list[Markup]:
    if not findings:
        return [element("p", "Nothing is wrong with any file.")]
    rows = []
    for finding in findings[:_MOST_FINDINGS]:
        severity = element("span", finding.severity, **({"class": "error"} if finding.severity == "error" else {}))
        rows.append((severity, finding.split, finding.message))
    found = table(("", "split", "what"), rows, words=3)
    left = len(findings) - _MOST_FINDINGS
    return [found, element("p", f"And {left:,} more, which `fastscnn check` lists.", class_="note")] if left > 0 else [found]


def _shares(spec: DatasetSpec, report: CheckReport) -> Markup:
    most = max((share for shares in report.class_percentages.values() for share in shares.values()), default=0.0)
    rows = []
    for index, name in enumerate(spec.label_set.names):
        shares = [report.class_percentages[split][name] for split in report.counts]
        rows.append([named(spec.label_set, index), *(bar(percent(share), share, most) for share in shares)])
    foot = ["ignored, of all", *(percent(report.ignored[split]) for split in report.counts)]
    return table(("class", *(f"{split} %" for split in report.counts)), rows, foot, words=9)


def _sizes(report: CheckReport) -> Markup:
    """How many images have each size, the most frequent ones, and all others together."""
    counts: Counter[str] = Counter()
    for of_split in report.sizes.values():
        counts.update(of_split)
    chosen = [size for size, _ in counts.most_common(_MOST_SIZES)]
    rows = [[size, *(f"{report.sizes[split].get(size, 0):,}" for split in report.counts)] for size in chosen]
    if len(counts) > _MOST_SIZES:
        others = (sum(report.sizes[split].values()) - sum(report.sizes[split].get(size, 0) for size in chosen)
                  for split in report.counts)
        rows.append([f"{len(counts) - _MOST_SIZES} others", *(f"{count:,}" for count in others)])
    return table(("height x width", *report.counts), rows)


def _sheet(spec: DatasetSpec, split: str) -> list[Markup]:
    """Pictures of a split, and their labels over them; those that cannot be read are findings and left out."""
    files = spec.image_files(split)
    shown = []
    for index in range(min(_SHOWN, len(files))):
        pair = spec.pair(split, files[(2 * index + 1) * len(files) // (2 * min(_SHOWN, len(files)))])
        try:
            image, labels = spec.read(pair)
        except FastSCNNError:
            continue
        image, labels = small(image[:, :, :3], _WIDTH), small(labels, _WIDTH)
        name = relative(spec.root, pair.image)
        over = picture(overlay(image, labels, spec.label_set), f"labels of {name}")
        pictures = element("div", picture(image, f"picture {name}"), over, class_="pictures")
        shown.append(element("figure", pictures, element("figcaption", name)))
    return [element("h3", split), element("div", *shown, class_="sheet")] if shown else []
