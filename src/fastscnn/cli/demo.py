"""demo: labels of a generated test scene, compared with its exact labels."""

from __future__ import annotations

import json as json_
from pathlib import Path
from typing import Annotated

from fastscnn.cli import results
from fastscnn.cli.console import configure, show
from fastscnn.cli.flags import load, weight_file
from fastscnn.cli.options import (
    Backend,
    Device,
    Json,
    Precision,
    Quiet,
    Size,
    Threads,
    Verbose,
    Weights,
    described,
    path,
)  # fmt: skip

USAGE = "[options]"
_SCENE = 3  # a seed whose people, cyclist, signs and trees are close enough to see


def run(
    *,
    out: Annotated[Path, path("DIR"), described("Folder of the results.")] = Path("segmented"),
    weights: Weights = None,
    size: Size = None,
    backend: Backend = "auto",
    precision: Precision = "auto",
    device: Device = None,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Segment a generated test scene, and compare the result with its exact labels.

    Write scene.png, scene.labels.png and scene.overlay.jpg. No file or network is needed.
    """
    from fastscnn.data import synthetic
    from fastscnn.evaluation.metrics import Confusion
    from fastscnn.media import images, inputs

    configure(quiet, verbose)
    weights = weights and weight_file(weights, backend, precision)
    if backend == precision == "auto" and (weights is None or weights.suffix.lower() == ".onnx"):
        backend = "onnx"  # for one image, compiling the network for OpenVINO takes longer than it saves
    segmenter = load(weights, backend, size, threads, precision=precision, device=device)
    scene = synthetic.draw(seed=_SCENE)
    job = inputs.Job(out / "scene.png", out / "scene")
    images.write(job.image, scene.image)
    segmentation = segmenter.segment(scene.image)
    line = {"image": str(job.image), **results.write(segmentation, job, ("labels", "overlay"), False, out, segmenter)}
    if segmenter.card.label_set.names == synthetic.CLASSES:
        confusion = Confusion(len(synthetic.CLASSES))
        confusion.add(segmentation.labels, scene.labels)
        line |= {"miou": round(confusion.miou(), 2), "pixel_accuracy": round(confusion.pixel_accuracy(), 2)}
    if json:
        print(json_.dumps(line))
        return 0
    results.print_summary(segmenter, [line["milliseconds"]], [line["class_percentages"]], out)
    if "miou" in line:
        show(f"Against the scene's exact labels: mIoU {line['miou']}, pixel accuracy {line['pixel_accuracy']} %")
    show(f"Open {job.beside('.overlay.jpg')}")
    return 0
