"""How is the network run, and which backend is taken?

ONNX Runtime 1.32 reports its use to its maker, unless a variable forbids it before it is imported. Here it does, if it is not
set already.
"""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from fastscnn.backends.protocol import BACKENDS, DEVICES, MAX_STREAMS, PRECISIONS, Backend, LabelBackend
from fastscnn.backends.select import load

__all__ = ["BACKENDS", "DEVICES", "MAX_STREAMS", "PRECISIONS", "Backend", "LabelBackend", "load"]
