"""Load `fastscnn serve` beyond its capacity, beside `Segmenter.stream` on the same images.

    python benchmarks/serving.py IMAGES [--size 1024x2048] [--seconds 60] [--clients 32] [--out benchmarks/speed/serving.json]

IMAGES is a folder of photographs; 16 of them are resized and written as JPEG files of quality 92 by Pillow. Each request asks
for a label PNG. First the capacity: `Segmenter.stream` from these files in memory to label PNGs in memory, on all threads,
before and after the load. Then the load: every client sends a request whenever its next time has come, together three times the
capacity, and does not repeat a refused one. Clients and service share the processors, as no second machine is at hand.

- statuses: answers by status; "none" counts connections that were closed without an answer.
- milliseconds: from the first byte of a request to the last of its answer, of status 200.
- share: images per second of status 200, in percent of those of the stream.
- processor_seconds: of the service and of the clients, during the load.
- share_of_processor: images of status 200 per processor second of the service, in percent of those of the stream.
- memory_mib: resident memory of the service after 10 % and at the end of the load.
- recovery_s: from the end of the load until an answer takes at most twice as long as before it.
- after_sigterm: requests that had been sent when SIGTERM came under the same load, by status.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import tyro
from PIL import Image

from fastscnn import Segmenter
from fastscnn.base import files, machine
from fastscnn.base.arguments import height_width
from fastscnn.media import png
from fastscnn.version import __version__

RESULT = Path(__file__).parent / "speed" / "serving.json"
IMAGES, QUALITY, LOAD = 16, 92, 3.0
_PROBES = 10  # requests one after another, for the time without load
_HEAD = "\r\n".join((
    "POST /v1/segment HTTP/1.1", "Host: localhost", "Accept: image/png", "Content-Type: image/jpeg", "Content-Length: {}",
    "", "",
))  # fmt: skip


def main(
    images: Path, /, size: str = "1024x2048", seconds: float = 60.0, clients: int = 32, stream_images: int = 400,
    out: Path = RESULT,
) -> None:  # fmt: skip
    """Run it.

    Args:
        images: Folder of photographs.
        size: Size of the images; the network runs at the size of its card.
        seconds: Length of the load.
        clients: Clients at the same time.
        stream_images: Images that the stream is timed with.
        out: JSON file; the results of other sizes in it are kept.
    """
    bodies = made(images, height_width(size))
    before = streamed(bodies, stream_images)
    found = asyncio.run(loaded(bodies, LOAD * before[0], seconds, clients))
    after = streamed(bodies, stream_images)
    rate, own_rate = ((first + last) / 2 for first, last in zip(before, after, strict=True))
    served = found["statuses"]["200"] / found["processor_seconds"]["service"]
    found = {"stream_images_per_second": [before[0], after[0]], "share": 100 * found["images_per_second"] / rate,
             "share_of_processor": 100 * served / own_rate, **found}
    result: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    result["machine"] = {"processor": machine.processor(), "threads": machine.threads(), "fastscnn": __version__}
    result[size] = found
    print(json.dumps(found, indent=1))
    files.write(out, json.dumps(result, indent=1).encode() + b"\n")


def made(folder: Path, size: tuple[int, int]) -> list[bytes]:
    """Return photographs of a size as JPEG files."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".png"))[:IMAGES]
    contents = []
    for path in paths:
        stored = io.BytesIO()
        with Image.open(path) as image:
            image.convert("RGB").resize(size[::-1], Image.Resampling.BICUBIC).save(stored, "JPEG", quality=QUALITY)
        contents.append(stored.getvalue())
    return contents


def streamed(bodies: Sequence[bytes], count: int) -> tuple[float, float]:
    """Return the images of `Segmenter.stream` per second and per processor second, from JPEG files to label PNGs in memory."""
    threads = machine.threads()
    segmenter = Segmenter.load(threads=threads, streams=threads)
    frames = itertools.islice(itertools.cycle(bodies), count + 1)
    for number, (_, result) in enumerate(segmenter.stream(frames, keep_image=False)):
        png.encoded(result.labels)
        if number == 0:
            begin, own_begin = perf_counter(), process_time()
    return count / (perf_counter() - begin), count / (process_time() - own_begin)


@dataclass
class Seen:
    """What the clients have seen."""

    statuses: Counter[str] = field(default_factory=Counter)
    taken: list[float] = field(default_factory=list)  # seconds, of status 200
    sent: int = 0


async def loaded(bodies: Sequence[bytes], rate: float, seconds: float, clients: int) -> dict[str, Any]:
    """Start the service, load it, and end it under the load."""
    process = subprocess.Popen([sys.executable, "-m", "fastscnn", "serve", "--port", "0"], stderr=subprocess.PIPE, text=True)
    try:
        port = await asyncio.to_thread(_port, process)
        asyncio.get_running_loop().run_in_executor(None, _drain, process)
        idle = await _probe(port, bodies[0])
        seen = Seen()
        begin, service, own = perf_counter(), _processor_seconds(process.pid), process_time()
        load = asyncio.gather(
            *(_client(port, bodies, rate / clients, begin + seconds, seen, number / clients) for number in range(clients))
        )
        await asyncio.sleep(seconds / 10)
        early = _memory(process.pid)
        await load
        lasted, late, end = perf_counter() - begin, _memory(process.pid), perf_counter()
        used = {"service": _processor_seconds(process.pid) - service, "clients": process_time() - own}
        while await _answer_time(port, bodies[0]) > 2 * idle:
            await asyncio.sleep(0.05)
        recovery = perf_counter() - end
        last = await _stopped(process, port, bodies, rate, clients)
    finally:
        process.kill()
        process.communicate()
    percentiles = np.percentile(seen.taken, (50, 95, 99)) * 1e3
    return {
        "clients": clients, "seconds": lasted, "offered_per_second": seen.sent / lasted,
        "images_per_second": seen.statuses["200"] / lasted, "statuses": dict(seen.statuses),
        "milliseconds": dict(zip(("p50", "p95", "p99"), map(float, percentiles), strict=True)), "idle_milliseconds": 1e3 * idle,
        "processor_seconds": used, "memory_mib": [early, late], "recovery_s": recovery, "after_sigterm": last,
        "exit_code": process.returncode,
    }  # fmt: skip


async def _stopped(
    process: subprocess.Popen[str], port: int, bodies: Sequence[bytes], rate: float, clients: int
) -> dict[str, int]:
    """Send SIGTERM under load. Return the statuses of the requests that had been sent whole."""
    seen = Seen()
    load = [
        asyncio.create_task(_client(port, bodies, rate / clients, perf_counter() + 3, seen, number / clients, once=True))
        for number in range(clients)
    ]
    await asyncio.sleep(0.2)
    while seen.sent < clients:
        await asyncio.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    await asyncio.gather(*load)
    await asyncio.to_thread(process.wait, 60)
    return dict(seen.statuses)


async def _client(
    port: int, bodies: Sequence[bytes], rate: float, until: float, seen: Seen, phase: float, once: bool = False
) -> None:
    """Send requests at a rate over one connection, which is made again when the service has closed it."""
    reader = writer = None
    due = perf_counter() + phase / rate
    for body in itertools.cycle(bodies):
        await asyncio.sleep(max(0.0, due - perf_counter()))
        if perf_counter() >= until:
            break
        due = max(due + 1 / rate, perf_counter())  # a late client does not catch up
        begin = perf_counter()
        try:
            if writer is None or writer.is_closing():
                reader, writer = await asyncio.open_connection("localhost", port)
            assert reader is not None
            writer.write(_HEAD.format(len(body)).encode() + body)
            await writer.drain()
            seen.sent += 1
            status, closes = await _answer(reader)
        except (OSError, asyncio.IncompleteReadError):
            status, closes = "none", True
        seen.statuses[status] += 1
        if status == "200":
            seen.taken.append(perf_counter() - begin)
        if closes and writer is not None:
            writer.close()
            writer = None
        if once:
            break
    if writer is not None:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[str, bool]:
    """Return the status of the next answer, and whether the service closes the connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = re.search(r"content-length: (\d+)", head)
    assert length is not None
    await reader.readexactly(int(length[1]))
    return head.split(" ", 2)[1], "connection: close" in head


async def _answer_time(port: int, body: bytes) -> float:
    seen = Seen()
    begin = perf_counter()
    await _client(port, [body], 1e9, begin + 60, seen, 0.0, once=True)
    return seen.taken[0] if seen.taken else float("inf")


async def _probe(port: int, body: bytes) -> float:
    """Return the median seconds of an answer without load."""
    return float(np.median([await _answer_time(port, body) for _ in range(_PROBES)]))


def _port(process: subprocess.Popen[str]) -> int:
    """Return the port that the service has printed."""
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"http://[^/]*:(\d+)", line):
            return int(found[1])
    raise RuntimeError("The service did not start.")


def _drain(process: subprocess.Popen[str]) -> None:
    """Read the log, so that the service can write it."""
    assert process.stderr is not None
    process.stderr.read()


def _processor_seconds(pid: int) -> float:
    """Return the processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> float:
    """Return the resident memory of a process in MiB."""
    resident = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert resident is not None
    return int(resident[1]) / 1024


if __name__ == "__main__":
    tyro.cli(main)
