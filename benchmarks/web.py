"""Measure the web page in headless Chromium: its frame rate, and the agreement of its labels with Python's.

    python benchmarks/web.py NODE_MODULES [IMAGE ...] [--seconds 20] [--out benchmarks/web.json]

NODE_MODULES is a folder node_modules with playwright-core and onnxruntime-web. The camera is a file of generated scenes
at the card's input size. The frame rate is that of the whole pipeline, from the frame to its drawn labels, as shown on
the page. Pictures (without IMAGE: generated scenes) are opened as PNG and as JPEG of quality 92; their saved labels are
compared with those of ONNX Runtime in Python on the same weights and file.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastscnn import Segmenter, web
from fastscnn.base import machine
from fastscnn.data import synthetic
from fastscnn.media import images
from fastscnn.web import onnxruntime_web, server


def drive(modules: Path, folder: Path, pictures: list[Path], seconds: int, threads: int) -> dict[str, Any]:
    """Return the threads and readings of the browser; it saves labels beside the pictures."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with server.server(folder / "site", 0) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        orders = {
            "modules": str(modules.resolve()),
            "chromium": chromium,
            "profile": str(folder / f"profile-{threads}"),
            "camera": str(folder / "camera.mjpeg"),
            "url": f"http://localhost:{serving.server_port}/",
            "pictures": [{"path": str(path), "labels": str(path.with_suffix(path.suffix + ".labels"))} for path in pictures],
            "seconds": seconds,
            "threads": threads,
            "version": subprocess.run([str(chromium), "--version"], capture_output=True, text=True, check=True).stdout.strip(),
        }
        try:
            command = ["node", str(Path(__file__).with_suffix(".mjs"))]
            done = subprocess.run(command, input=json.dumps(orders), stdout=subprocess.PIPE, text=True, check=True)
        finally:
            serving.shutdown()
            thread.join()
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def main() -> None:
    """Print and write one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", type=Path, metavar="NODE_MODULES")
    parser.add_argument("images", nargs="*", type=Path, metavar="IMAGE")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    segmenter = Segmenter.load(backend="onnx", precision="float32")
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        web.write(folder / "site", arguments.modules / "onnxruntime-web" / "dist")
        for seed in range(8):
            images.write(folder / f"frame-{seed}.jpg", synthetic.draw(*segmenter.card.size, seed).image)
        (folder / "camera.mjpeg").write_bytes(b"".join(path.read_bytes() for path in sorted(folder.glob("frame-*.jpg"))))
        loaded = {path.stem: images.read(path) for path in arguments.images}
        loaded = loaded or {f"scene-{seed}": synthetic.draw(seed=seed).image for seed in range(4)}
        pictures = [folder / f"{name}{suffix}" for name in loaded for suffix in (".png", ".jpg")]
        for path in pictures:
            images.write(path, loaded[path.stem])
        speed = []
        for threads in (1, 2):
            load = os.getloadavg()[0]  # other programs slow the page down
            run = drive(arguments.modules, folder, pictures, arguments.seconds, threads)
            medians = {key: round(statistics.median(row[key] for row in run["readings"]), 2) for key in run["readings"][0]}
            medians["best_rate"] = max(row["rate"] for row in run["readings"])
            speed.append({"threads": run["threads"], "browser": run["browser"], "load_before": round(load, 1), **medians})
        agreement = [
            {
                "picture": path.stem,
                "format": path.suffix[1:],
                "size": list(loaded[path.stem].shape[:2]),
                "equal": round(100 * float((segmenter.segment(images.read(path)).labels == images.read_values(
                    path.with_suffix(path.suffix + ".labels"))[0]).mean()), 4),
            }
            for path in pictures
        ]
    result = {
        "machine": machine.processor(),
        "processors": machine.threads(),
        "backend": onnxruntime_web.PACKAGE,
        "input": segmenter.card.size,
        "speed": speed,
        "agreement": agreement,
    }
    print(json.dumps(result, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
