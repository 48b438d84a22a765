"""Report page of a dataset: findings, class percentages, image sizes and examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fastscnn.base.errors import FastSCNNError
from fastscnn.data.check.dataset import CheckReport
from fastscnn.data.check.findings import FindingGroup, grouped
from fastscnn.data.datasets import DatasetSpec
from fastscnn.data.spec import pair_name
from fastscnn.evaluation.report.charts import bar
from fastscnn.evaluation.report.gallery import overlay, small
from fastscnn.evaluation.report.page import Markup, Section, element, facts, legend, named, page, percent, picture, table

_SHOWN = 8  # pairs of each split, evenly spaced
_WIDTH = 320  # maximum width of their images, in pixels
_MOST_SIZES = 12
_FILES = 3  # of each group of findings, always visible
MAX_FILES = 200  # of each group, in all; the others are counted, to keep the page small


def render(spec: DatasetSpec, report: CheckReport, command: str) -> str:
    """Return the page of a checked dataset.

    Args:
        spec: the dataset.
        report: result of the check.
        command: the command that made the page.
    """
    errors = sum(finding.severity == "error" for finding in report.findings)
    tiles = [
        ("images", f"{sum(report.counts.values()):,}", ""),
        ("classes", str(len(spec.label_set)), ""),
        ("errors", str(errors), ""),
        ("warnings", str(len(report.findings) - errors), ""),
    ]
    splits = ", ".join(f"{split} {count:,}" for split, count in report.counts.items())
    sheet = [part for split in report.counts for part in _sheet(spec, split)]
    known = {"root": str(spec.root), "labels": type(spec.labels).__name__.removesuffix("Labels"), "terms": spec.terms,
             "data fingerprint": report.fingerprint}
    return page(spec.name, f"Images: {splits}.", tiles, [
        Section("Findings", _findings(grouped(report.findings))),
        Section("Class percentages", [_shares(spec, report)]),
        Section("Image sizes", [_sizes(report)] if any(report.counts.values()) else []),
        Section("Examples", [legend(spec.label_set), *sheet] if sheet else []),
        Section("Dataset", [facts(known), element("pre", command)]),
    ])


def _findings(groups: Sequence[FindingGroup]) -> list[Markup]:
    if not groups:
        return [element("p", "No problems were found.")]
    shown = []
    for group in groups:
        severity = element("span", group.severity, **({"class": "error"} if group.severity == "error" else {}))
        title = element("h3", severity, f" {group.kind}: {len(group.findings):,}")
        first, rest = group.findings[:_FILES], group.findings[_FILES:MAX_FILES]
        parts = [title, element("p", group.fix), _messages([finding.message for finding in first])]
        if rest:
            summary = element("summary", f"{len(rest):,} more")
            parts.append(element("details", summary, _messages([finding.message for finding in rest])))
        if len(group.findings) > MAX_FILES:
            left = len(group.findings) - MAX_FILES
            parts.append(element("p", f"And {left:,} more; `fastscnn check --all` lists them.", class_="note"))
        shown.append(element("article", *parts, class_="finding"))
    return shown


def _messages(messages: Sequence[str]) -> Markup:
    return element("ul", *(element("li", message) for message in messages))


def _shares(spec: DatasetSpec, report: CheckReport) -> Markup:
    most = max((share for shares in report.class_percentages.values() for share in shares.values()), default=0.0)
    rows = []
    for index, name in enumerate(spec.label_set.names):
        shares = [report.class_percentages[split][name] for split in report.counts]
        rows.append([named(spec.label_set, index), *(bar(percent(share), share, most) for share in shares)])
    foot = ["ignored, of all pixels", *(percent(report.ignored[split]) for split in report.counts)]
    return table(("class", *(f"{split} %" for split in report.counts)), rows, foot, words=9)


def _sizes(report: CheckReport) -> Markup:
    """Return the number of images of the most frequent sizes, and of all others together."""
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
    """Return images of a split, and overlays of their labels. Unreadable pairs are findings and are left out."""
    files = spec.image_files(split)
    shown = []
    for index in range(min(_SHOWN, len(files))):
        image_file = files[(2 * index + 1) * len(files) // (2 * min(_SHOWN, len(files)))]
        windows = spec.windows(split, spec.pair(split, image_file))
        pair = windows[len(windows) // 2]
        try:
            image, labels = spec.read(pair)
        except FastSCNNError:
            continue
        image, labels = small(image[:, :, :3], _WIDTH), small(labels, _WIDTH)
        name = pair_name(spec.root, pair)
        over = picture(overlay(image, labels, spec.label_set), f"labels of {name}")
        pictures = element("div", picture(image, f"image {name}"), over, class_="pictures")
        shown.append(element("figure", pictures, element("figcaption", name)))
    return [element("h3", split), element("div", *shown, class_="sheet")] if shown else []
