"""Label a camera, or a video file, in an OpenCV loop.

    pip install . opencv-python  # in the checkout of fastscnn
    python camera.py SOURCE [OVERLAY.avi]

SOURCE is the number of a camera, such as 0, or a video file. Each frame is blended with the colours of its labels. It is shown
in a window, until Escape, or written to OVERLAY.avi. Frames of a camera that arrive while the network is busy are dropped.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import cv2
import numpy as np
from cv2.typing import MatLike

from fastscnn import Segmenter
from fastscnn.base.types import UInt8Array

ESCAPE = 27


def frames(capture: cv2.VideoCapture) -> Iterator[UInt8Array]:
    """Yield frames, uint8 [H, W, 3] in OpenCV's order (blue, green, red), until the source ends."""
    while True:
        there, frame = capture.read()
        if not there:
            return
        yield np.asarray(frame, np.uint8)


def overlays(source: str, capture: cv2.VideoCapture) -> Iterator[MatLike]:
    """Yield each frame blended with its labels, in OpenCV's order. `result.labels` has the class ids, uint8 [H, W]."""
    segmenter = Segmenter.load()
    for _, result in segmenter.stream(frames(capture), realtime=source.isdigit(), bgr=True):
        yield cv2.cvtColor(result.blend(), cv2.COLOR_RGB2BGR)


def main(source: str, target: str = "") -> None:
    """Show the overlays of `source`, or write them to the video file `target`."""
    capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
    if not capture.isOpened():
        sys.exit(f"{source}: no camera or video file that OpenCV can open.")
    rate = capture.get(cv2.CAP_PROP_FPS) or 30  # frames/s; some cameras do not say
    writer: cv2.VideoWriter | None = None
    for overlay in overlays(source, capture):
        if not target:
            cv2.imshow(source, overlay)
            if cv2.waitKey(1) == ESCAPE:
                break
            continue
        if writer is None:
            height, width = overlay.shape[:2]
            writer = cv2.VideoWriter(target, cv2.VideoWriter.fourcc(*"MJPG"), rate, (width, height))
            if not writer.isOpened():
                sys.exit(f"{target}: OpenCV cannot write it; use a name that ends in .avi, in a folder that exists.")
        writer.write(overlay)
    if writer:  # `capture` ends with the program: until then, the thread of `stream` may be reading from it
        writer.release()


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
