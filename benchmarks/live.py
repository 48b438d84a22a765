"""Measure the latency of a live stream from glass to glass: RTSP server, `fastscnn serve --source`, a viewer of /live.

    python benchmarks/live.py [--seconds 600] [--size 540x960] [--rate 30] [--out benchmarks/speed/live.json]

A GStreamer server on loopback (tests/rtsp_server.py; Debian's python3-gi, gir1.2-gst-rtsp-server-1.0 and
gstreamer1.0-plugins-ugly) draws the time of the monotonic clock into each frame and encodes H.264. The viewer decodes the JPEG
of each overlay and reads the time in it. Server, service and viewer share the processors. At the end, the server is killed, and
started again 5 seconds later.

- milliseconds: from the drawing of a frame to the decoded overlay of it: quantiles of all, and the median of each tenth of the
  run, null without an overlay.
- growth_ms: median of the last tenth minus that of the second; null without one of them. The first tenth has the start.
- overlays_per_second: those that the viewer got. The other frames were dropped.
- unreadable: overlays whose time could not be read; they count in no other figure.
- memory_mib: resident memory of the service after a tenth of the run, and at its end.
- restart: seconds from the start of the server to the first overlay of a new frame; the median latency of 10 seconds after it.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
import simplejpeg
import tyro

from fastscnn.base import files, machine
from fastscnn.base.arguments import height_width
from fastscnn.version import __version__

RESULT = Path(__file__).parent / "speed" / "live.json"
SERVER = Path(__file__).parents[1] / "tests" / "rtsp_server.py"
BITS, ROWS = 32, 16  # as the server draws them
PARTS = 10
_PAUSE, _AFTER = 5.0, 10.0  # seconds
_LONGEST = 60.0  # seconds; a longer latency is a wrong reading


def main(seconds: float = 600.0, size: str = "540x960", rate: int = 30, threads: int | None = None, out: Path = RESULT) -> None:
    """Run it.

    Args:
        seconds: Length of the measurement, before the restart.
        size: Size of the frames, HxW.
        rate: Frames per second.
        threads: CPU threads of the service (default: all).
        out: JSON file.
    """
    port = free_port()
    with rtsp_server(port, size, rate) as server, service(port, threads) as (address, pid):
        viewer = HTTPConnection(address, timeout=_LONGEST)
        viewer.request("GET", "/live")
        overlays = read(viewer.getresponse(), height_width(size))
        next(overlays)  # the first one waits for the network
        found = measured(overlays, seconds, pid)
        server.kill()
        sleep(_PAUSE)
        started = monotonic()
        with rtsp_server(port, size, rate):
            found["restart"] = restarted(overlays, started)
        viewer.close()
    found = {"size": size, "rate": rate, "seconds": seconds, **found}
    found["machine"] = {"processor": machine.processor(), "threads": machine.threads(), "fastscnn": __version__}
    print(json.dumps(found, indent=1))
    files.write(out, json.dumps(found, indent=1).encode() + b"\n")


def measured(overlays: Iterator[tuple[float, float | None]], seconds: float, pid: int) -> dict[str, Any]:
    """Return the figures of the run; `overlays` yields (time, time in the frame)."""
    start, memory = monotonic(), list[float]()
    times, latencies, unreadable = list[float](), list[float](), 0
    for now, drawn in overlays:
        if now > start + seconds:
            break
        if not memory and now > start + seconds / PARTS:
            memory.append(resident(pid))
        if drawn is None:
            unreadable += 1
            continue
        times.append(now - start)
        latencies.append(1e3 * (now - drawn))
    memory.append(resident(pid))
    part = np.minimum(np.array(times) / seconds * PARTS, PARTS - 1).astype(int)
    parts = [np.array(latencies)[part == index] for index in range(PARTS)]
    medians = [float(np.median(found)) if len(found) else None for found in parts]
    first, last = medians[1], medians[-1]
    quantiles = {f"p{percent}": float(np.percentile(latencies, percent)) for percent in (50, 95, 99, 100)}
    growth = None if first is None or last is None else last - first
    return {"overlays_per_second": len(times) / seconds, "unreadable": unreadable,
            "milliseconds": {**quantiles, "parts": medians}, "growth_ms": growth, "memory_mib": memory}


def restarted(overlays: Iterator[tuple[float, float | None]], started: float) -> dict[str, float]:
    """Return how long it takes until overlays come again, and their latency."""
    latencies, first = list[float](), 0.0
    for now, drawn in overlays:
        if drawn is None or drawn < started:
            continue
        first = first or now
        latencies.append(1e3 * (now - drawn))
        if now > first + _AFTER:
            break
    return {"seconds": first - started, "p50": float(np.median(latencies))}


def read(answer: HTTPResponse, size: tuple[int, int]) -> Iterator[tuple[float, float | None]]:
    """Yield the time at which each overlay was decoded, and the time in its frame, or None."""
    while answer.readline():  # the boundary
        length = 0
        while (line := answer.readline().strip()):
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        image = simplejpeg.decode_jpeg(answer.read(length))
        answer.readline()
        now = monotonic()
        drawn = time_in(image, size)
        yield now, drawn if now - _LONGEST < drawn <= now else None


def time_in(image: np.ndarray[Any, Any], size: tuple[int, int]) -> float:
    """Return the seconds that a frame shows. The overlay colours both squares of a bit alike, or nearly so."""
    side = size[1] // (2 * BITS)
    squares = image[size[0] - ROWS // 2, side // 2 : 2 * BITS * side : side].sum(axis=-1)
    bits = squares[::2] > squares[1::2]
    return float(np.sum(bits.astype(np.uint64) << np.arange(BITS, dtype=np.uint64))) / 1e3


@contextmanager
def rtsp_server(port: int, size: str, rate: int) -> Iterator[subprocess.Popen[str]]:
    """Run the server, by the system's Python."""
    command = ["/usr/bin/python3", str(SERVER), str(port), size, str(rate)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout is None or process.stdout.readline() != "ready\n":
            sys.exit("The RTSP server does not start; install python3-gi, gir1.2-gst-rtsp-server-1.0 and "
                     "gstreamer1.0-plugins-ugly.")
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def service(port: int, threads: int | None) -> Iterator[tuple[str, int]]:
    """Run `fastscnn serve`; yield its host and port, and its process id."""
    command = [sys.executable, "-m", "fastscnn", "serve", "--port", "0", "--source", f"rtsp://127.0.0.1:{port}/live"]
    process = subprocess.Popen([*command, *(("--threads", str(threads)) if threads else ())], stderr=subprocess.PIPE, text=True)
    try:
        line = next((line for line in process.stderr or () if "http://" in line), None)
        if line is None:
            sys.exit("The service does not start.")
        yield line.split()[0].removeprefix("http://"), process.pid
    finally:
        process.terminate()
        process.communicate()


def free_port() -> int:
    """Return a free TCP port."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def resident(pid: int) -> float:
    """Return the resident memory of a process in MiB."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    tyro.cli(main)
