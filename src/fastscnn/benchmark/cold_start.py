"""Cold start: time and peak memory of a new process that processes one frame."""

from __future__ import annotations

import json
import subprocess
import sys

from fastscnn.base.errors import FastSCNNError
from fastscnn.inference.segmenter import Segmenter
from fastscnn.media.inputs import Job

# Prints the seconds from the first import to the first output, and the peak memory in MiB.
_SCRIPT = """
import time; start = time.perf_counter()
import json, sys
import fastscnn
from fastscnn.media import images
from pathlib import Path
image, more, weights, backend, precision, device, size, threads, call = json.loads(sys.argv[1])
segmenter = fastscnn.Segmenter.load(weights, backend, tuple(size), threads, precision=precision, device=device)
getattr(segmenter, call)(images.stack(images.read(image), image, more))
seconds = time.perf_counter() - start
status = Path("/proc/self/status")
if status.is_file():  # on Linux getrusage includes the peak of the parent process
    lines = status.read_text(encoding="utf-8").splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
elif sys.platform == "win32":
    import ctypes
    counters = (ctypes.c_uint64 * 9)(72)  # PROCESS_MEMORY_COUNTERS: its size, then PeakWorkingSetSize and seven more
    assert ctypes.windll.kernel32.K32GetProcessMemoryInfo(ctypes.c_void_p(-1), counters, 72)  # -1: this process
    peak = counters[1] / (1 << 20)
else:
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
print(json.dumps([seconds, peak]))
"""


def cold_start(segmenter: Segmenter, frame: Job, call: str) -> tuple[float, float]:
    """Return the seconds to the first output of a new process, and its peak memory in MiB.

    Args:
        segmenter: the configuration that the new process loads.
        frame: the image files that it reads.
        call: the method of `Segmenter` that it calls.

    Raises:
        FastSCNNError: the process failed; the message holds its last line of output.
    """
    backend = segmenter.backend
    arguments = json.dumps([
        str(frame.image), [str(path) for path in frame.extra_channels], str(segmenter.path), backend.name, backend.precision,
        backend.device, segmenter.size, backend.threads, call,
    ])
    result = subprocess.run([sys.executable, "-c", _SCRIPT, arguments], capture_output=True, encoding="utf-8", errors="replace",
                            check=False)
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1]
        raise FastSCNNError(f"The cold start failed: {reason}")
    seconds, peak = json.loads(result.stdout)
    return seconds, peak
