"""soft-labels: class probabilities of a network for the images of a dataset, for distillation."""

from __future__ import annotations

import json as json_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fastscnn.base import files
from fastscnn.cli.console import complain, configure, progress_bar, show
from fastscnn.cli.flags import note_unverified, weight_file
from fastscnn.cli.options import (
    SPLIT,
    Backend,
    DatasetOption,
    Flip,
    Json,
    Precision,
    Quiet,
    Scales,
    Size,
    Threads,
    Verbose,
    Weights,
    path,
    required,
    value,
)  # fmt: skip

if TYPE_CHECKING:
    from fastscnn.data.datasets import DatasetSpec
    from fastscnn.distillation.soft_labels import SoftLabels

USAGE = "[options] --data DATASET --out DIR"


def run(
    *,
    data: DatasetOption,
    out: Annotated[Path, path("DIR"), required("Folder of the soft labels, one .npz file for each image.")],
    weights: Weights = None,
    split: Annotated[str | None, value("SPLIT", str, "all"), SPLIT] = None,
    size: Size = None,
    scales: Scales = (1.0,),
    flip: Flip = False,
    backend: Backend = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Write soft labels for distillation: a network's class probabilities at 1/8 of each image of a dataset.

    Print the lines for dataset.toml that let `train` use them. Files that exist are kept, so repeat an interrupted run as it
    was. For an ONNX file of another network, --weights is a .toml that states its classes and normalisation
    (docs/datasets.md).
    """
    from fastscnn.data import datasets
    from fastscnn.distillation.soft_labels import soft_labels
    from fastscnn.distillation.teacher import Teacher

    configure(quiet, verbose)
    spec = datasets.load(data)
    weights = weights and weight_file(weights, backend, precision)
    teacher = Teacher.load(weights, backend, size, threads, scales, flip, precision)
    if not teacher.verified:
        note_unverified(weights, "the ONNX file has no card with a hash")
    with progress_bar("soft-labels", quiet=json) as advance:
        made = soft_labels(teacher, spec, out, split, on_progress=advance)
    if json:
        print(json_.dumps(made.to_dict()))
    else:
        _print(made, spec)
    for message in made.failed:
        complain(message)
    return 1 if made.failed else 0


def _print(made: SoftLabels, spec: DatasetSpec) -> None:
    """Print what was written, and the lines for dataset.toml."""
    there = f", {made.skipped} existed already" if made.skipped else ""
    show(f"{made.written} files of {len(made.classes)} classes written to {made.out}{there}; made by {made.source}")
    if made.failed:
        show(f"{len(made.failed)} images failed and have no soft labels.")
    source = files.expand(spec.source)
    if source.suffix != ".toml" and not (source / "dataset.toml").is_file():
        show(f"{spec.name} is built in. To train on its soft labels, describe {spec.root} in a dataset.toml.")
    show(f"Lines for {source if source.suffix == '.toml' else spec.root / 'dataset.toml'}:\n\n{made.toml}")
