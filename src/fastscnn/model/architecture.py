"""The network, described once and without PyTorch."""

from __future__ import annotations

MIN_SIDE = 32  # pixels of the network's input: its deepest stage runs at 1/32
