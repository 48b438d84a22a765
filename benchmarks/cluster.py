"""Label images with `fastscnn cluster segment`: the rate at 1 and 2 workers, and whether killed workers lose or double any.

    python benchmarks/cluster.py [--images 5000] [--out benchmarks/speed/cluster.json]

It needs the extra `ray` and Linux. Images are generated, 360x480. Results of the run with kills are compared, byte for byte,
with those of `fastscnn segment`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastscnn.base import machine
from fastscnn.cluster.label import FAILURES, SETTINGS
from fastscnn.cluster.stores import Store
from fastscnn.data import synthetic
from fastscnn.media import images
from fastscnn.version import __version__

_TOKEN = "FASTSCNN_CLUSTER_BENCHMARK"
_DRAWN = 50  # different scenes; the files are numbered copies with one changed pixel
_WORDS = ["--backend", "onnx", "--precision", "float32"]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "speed/cluster.json")
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        _draw(photos, given.images)
        rates = {count: _labelled(photos, Path(folder) / f"out{count}", count, 0) for count in (1, 2)}
        killed = _labelled(photos, Path(folder) / "killed", 2, 3)
        start = time.perf_counter()
        one = Path(folder) / "one"
        _command("segment", str(photos), "--out", str(one), *_WORDS, "-q")
        seconds = time.perf_counter() - start
        own, expected = Store(str(Path(folder) / "killed")), Store(str(one))
        names = own.names() - {SETTINGS, FAILURES}
        wanted = expected.names()
        equal = sum(own.read(name) == expected.read(name) for name in names & wanted)
        size = {"image_bytes": _bytes(photos) / given.images, "result_bytes": _bytes(one) / given.images}
    measured = {
        "fastscnn": __version__, "machine": machine.processor(), "cores": machine.threads(), "images": given.images, **size,
        "images_per_second": {count: made["segmented"] / made["seconds"] for count, made in rates.items()},
        "segment_images_per_second": given.images / seconds,
        "killed": {"workers_killed": 3, "results": len(names), "expected": len(wanted), "equal": equal,
                   "segmented": killed["segmented"], "failed": killed["failed"]},
    }  # fmt: skip
    given.out.write_text(json.dumps(measured, indent=1) + "\n")
    print(json.dumps(measured, indent=1))


def _draw(folder: Path, count: int) -> None:
    scenes = [synthetic.draw(360, 480, seed).image for seed in range(_DRAWN)]
    for number in range(count):
        image = scenes[number % _DRAWN].copy()
        image[0, 0] = number % 256, number // 256 % 256, 0
        images.write(folder / f"{number % 100:02}/{number:05}.jpg", image)


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _command(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "fastscnn", *words], check=True)


def _labelled(photos: Path, out: Path, workers: int, kills: int) -> dict[str, Any]:
    """Return the summary of a run in which a worker is killed `kills` times, at equal distances."""
    words = ["cluster", "segment", str(photos), "--out", str(out), *_WORDS, "--workers", str(workers), "--json"]
    total = sum(1 for file in photos.rglob("*") if file.is_file())
    with subprocess.Popen(
        [sys.executable, "-m", "fastscnn", *words], stdout=subprocess.PIPE, text=True, env={**os.environ, _TOKEN: str(out)}
    ) as process:
        for kill in range(1, kills + 1):
            while sum(1 for _ in out.rglob("*.labels.png")) < total * kill // (kills + 1):
                if process.poll() is not None:
                    raise SystemExit("The run ended before all workers were killed.")
                time.sleep(0.2)
            os.kill(_workers(str(out))[0], signal.SIGKILL)
        printed, _ = process.communicate()
    summary: dict[str, Any] = json.loads(printed)
    return summary


def _workers(out: str) -> list[int]:
    """Return the processes that hold the network in the run with this output folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            holds = entry.name.isdigit() and b"MapWorker" in (entry / "cmdline").read_bytes()
            if holds and f"{_TOKEN}={out}\0".encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


if __name__ == "__main__":
    main()
