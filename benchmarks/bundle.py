"""Makes the bundled weights of a finished run: scores them on the test split, puts the scores into their card, exports.

    python benchmarks/bundle.py RUN camvid:ROOT

The test split is read to report, never to choose. Writes src/fastscnn/weights/ and benchmarks/accuracy/.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from fastscnn import Segmenter, datasets
from fastscnn.evaluate import Report, evaluate
from fastscnn.learn import checkpoint
from fastscnn.learn.export import export
from fastscnn.weights import bundled

RESULTS = Path(__file__).parent / "accuracy"


def main(run: Path, data: str) -> None:
    """`run` is the folder that `fastscnn train` wrote, `data` the dataset with the test split."""
    spec = datasets.load(data)
    pairs = spec.pairs("test")

    def scores(weights: Path) -> Report:
        report = evaluate(Segmenter.load(weights), spec, pairs)
        print(f"{report.runtime}: mIoU {report.confusion.miou():.3f}")
        return report

    model, card = checkpoint.load(run / "best.safetensors")
    with TemporaryDirectory() as folder:
        candidate = Path(folder) / "candidate.onnx"
        export(run / "best.safetensors", candidate)
        measured = scores(candidate).to_dict()
    metrics = {"test": {key: measured[key] for key in ("miou", "pixel_accuracy", "iou")}}
    checkpoint.save(bundled("torch"), model, dataclasses.replace(card, metrics={**card.metrics, **metrics}))
    for agreement in export(bundled("torch"), bundled("onnx")):
        print(agreement)
    RESULTS.mkdir(exist_ok=True)
    for runtime in ("onnx", "torch"):
        (RESULTS / f"camvid-test-{runtime}.json").write_text(scores(bundled(runtime)).to_json() + "\n")
    shutil.copy(run / "log.jsonl", RESULTS / "camvid-training.jsonl")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
