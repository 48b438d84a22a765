"""Time one system from JPEG files to label files. Run by benchmarks/files.py, by the Python of the system's environment.

    python files_worker.py SYSTEM OPTIONS

SYSTEM is fastscnn, mmseg or openvino. OPTIONS are JSON: the files, the folder of the results, the size, threads, and the way.
Prints the version of the system when ready. Then, for each input line, labels every file once, one after another, and prints
the milliseconds of each as a JSON list.
"""

from __future__ import annotations

import inspect
import json
import logging
import runpy
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of mmsegmentation's config
_Work = Callable[[Path, Path], object]


def fastscnn(options: dict[str, Any]) -> tuple[str, _Work]:
    """Return the version, and what labels a file with fastscnn, installed in this environment."""
    from fastscnn import Segmenter, __version__

    segmenter = Segmenter.load(None, options["backend"], options["size"], options["threads"], precision="int8")
    overlay = options["way"] == "overlay"
    # Without its image, a file may be decoded at a fraction. Here the network runs at the size of the file: it is not.
    forgetful = "keep_image" in inspect.signature(segmenter.segment).parameters and not overlay

    def work(image: Path, result: Path) -> None:
        segmentation = segmenter.segment(image, **({"keep_image": False} if forgetful else {}))
        if overlay:
            segmentation.save(result.parent, result.stem)
        else:
            segmentation.save_labels(result)

    return __version__, work


def mmseg(options: dict[str, Any]) -> tuple[str, _Work]:
    """Return the version, and what labels a file with mmsegmentation's model in its default state, and OpenCV."""
    import cv2
    import mmseg as package
    import torch

    torch.set_num_threads(options["threads"])
    model = runpy.run_path(options["builder"])["build"](options["classes"])
    mean, std = (torch.tensor(values)[None, :, None, None] for values in (_MEAN, _STD))

    def work(image: Path, result: Path) -> None:
        frame = rgb(cv2.imread(str(image)))
        size = frame.shape[:2]
        values = (torch.from_numpy(frame).permute(2, 0, 1)[None].float() - mean) / std
        with torch.inference_mode():
            labels = model.encode_decode(values, [{"ori_shape": size, "img_shape": size, "pad_shape": size}]).argmax(1)
        cv2.imwrite(str(result), labels[0].byte().numpy())

    return package.__version__, work


def openvino(options: dict[str, Any]) -> tuple[str, _Work]:
    """Return the version, and what labels a file with OpenVINO, upsampling and argmax in its graph, and OpenCV."""
    import cv2
    import openvino as package

    core = package.Core()
    compiled = core.compile_model(options["model"], "CPU", {"INFERENCE_NUM_THREADS": options["threads"]})

    def work(image: Path, result: Path) -> None:
        cv2.imwrite(str(result), compiled(rgb(cv2.imread(str(image)))[None])[0][0].astype("uint8"))

    return package.__version__, work


def rgb(bgr: Any) -> Any:
    """Return what OpenCV has read, blue first, with red first."""
    import cv2

    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def main() -> None:
    """Answer requests until the input ends."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    sys.path.remove(str(Path(__file__).parent))  # Python puts it first
    options = json.loads(sys.argv[2])
    answers, sys.stdout = sys.stdout, sys.stderr  # output of libraries must not mix with the answers
    version, work = {"fastscnn": fastscnn, "mmseg": mmseg, "openvino": openvino}[sys.argv[1]](options)
    files, out = [Path(name) for name in options["files"]], Path(options["out"])
    out.mkdir(parents=True, exist_ok=True)
    work(files[0], out / "warm-up.png")
    answers.write(json.dumps(version) + "\n")
    answers.flush()
    for _ in sys.stdin:
        times = []
        for image in files:
            start = perf_counter()
            work(image, out / f"{image.stem}.png")
            times.append(1e3 * (perf_counter() - start))
        answers.write(json.dumps(times) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
