"""Findings: what is wrong with a dataset, and how to fix it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

Severity = Literal["error", "warning"]

KINDS = (
    # images and splits
    "unreadable-archive", "no-images", "incomplete", "unreadable-image", "missing-channel", "broken-channel", "missing-soft",
    "unreadable-soft", "too-small", "exif-rotated", "duplicate", "leak",
    # single label files
    "missing-labels", "shared-labels", "unreadable-labels", "size-mismatch", "lossy-labels", "picture-as-labels",
    "swapped-files", "no-mask", "palette-mismatch", "unknown-ids", "unknown-colours", "unknown-names",
    "mostly-unknown", "empty-labels", "outside-shapes", "crossing-outlines", "other-image",
    # files compared with each other
    "palettes-differ", "mixed-masks", "boxes-as-shapes", "one-class", "absent-class", "same-labels", "contradicting-labels",
    # files that are not read
    "extra-labels", "extra-channel", "left-out-images", "hidden-files", "linked-folder",
)


@dataclass(frozen=True)
class Finding:
    """One problem of a dataset.

    Attributes:
        severity: "error": training or its scores would be wrong; "warning": worth a look.
        split: the split with the problem.
        path: the file with the problem; the dataset's root for a problem of a whole split.
        kind: stable identifier, one of `KINDS`.
        message: one sentence that names the file and the problem.
        fix: one imperative sentence, equal for findings with the same cause.
    """

    severity: Severity
    split: str
    path: Path
    kind: str
    message: str
    fix: str


@dataclass(frozen=True)
class FindingGroup:
    """Findings of one kind with the same fix.

    Attributes:
        severity, kind, fix: of all of them.
        findings: in the order of the report.
    """

    severity: Severity
    kind: str
    fix: str
    findings: tuple[Finding, ...]

    @property
    def paths(self) -> list[Path]:
        """The files, each once."""
        return list(dict.fromkeys(finding.path for finding in self.findings))


@dataclass(frozen=True)
class Report:
    """Result of a check.

    Attributes:
        findings: in the order of splits and file names.
    """

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no error. There may be warnings."""
        return all(finding.severity != "error" for finding in self.findings)

    def to_json(self) -> str:
        """Return the report as one JSON object, including `ok`, and without what `repr` leaves out."""
        shown = {item.name for item in fields(self) if item.repr}
        return json.dumps({"ok": self.ok, **{key: value for key, value in asdict(self).items() if key in shown}}, default=str)


def grouped(findings: Iterable[Finding]) -> list[FindingGroup]:
    """Return findings by severity, kind and fix: errors first, then the largest group first."""
    groups: dict[tuple[Severity, str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.severity, finding.kind, finding.fix), []).append(finding)
    ranked = sorted(groups.items(), key=lambda group: (group[0][0] != "error", -len(group[1])))
    return [FindingGroup(*key, tuple(some)) for key, some in ranked]
