"""Send images to `fastscnn serve` and print what it sees: python client.py http://localhost:8000 IMAGE ...

Needs httpx. The token of the service, if it has one, is taken from FASTSCNN_TOKEN.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TypedDict, cast

import httpx


class Answer(TypedDict):
    """The parts of the answer that this client uses."""

    size: tuple[int, int]
    class_percentages: dict[str, float]


def segment(client: httpx.Client, image: Path) -> Answer:
    """Return what the service sees in an image; wait while it is busy."""
    headers = {"Content-Type": "application/octet-stream", "Accept": "application/json"}
    while (answer := client.post("/v1/segment", content=image.read_bytes(), headers=headers)).status_code == 503:
        time.sleep(float(answer.headers.get("Retry-After", 1)))
    if answer.is_error:
        raise SystemExit(f"{image}: {answer.json()['error']}")
    return cast(Answer, answer.json())


if __name__ == "__main__":
    token = os.environ.get("FASTSCNN_TOKEN")
    allowed = {"Authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(base_url=sys.argv[1], headers=allowed, timeout=60) as client:
        for name in sys.argv[2:]:
            found = segment(client, Path(name))["class_percentages"]
            print(name, ", ".join(f"{label} {percent:.0f} %" for label, percent in found.items() if percent >= 1))
