"""How is the network run, and which backend is taken?"""

from __future__ import annotations

from fastscnn.backends.protocol import BACKENDS, MAX_STREAMS, PRECISIONS, Backend, LabelBackend
from fastscnn.backends.select import load

__all__ = ["BACKENDS", "MAX_STREAMS", "PRECISIONS", "Backend", "LabelBackend", "load"]
