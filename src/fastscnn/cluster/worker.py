"""What a worker does on a node: it holds the network, and segments the images that Ray sends it."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np

from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError, sentence
from fastscnn.base.types import BackendName, PrecisionName, ResultName
from fastscnn.cluster import sources
from fastscnn.cluster.stores import Store
from fastscnn.inference.segmentation import RESULTS
from fastscnn.inference.segmenter import Segmenter
from fastscnn.inference.size import NetworkSize
from fastscnn.media.stream import ordered
from fastscnn.version import __version__

SEGMENTED, FINISHED, FAILED, STOP = "segmented", "finished", "failed", "stop"


@dataclass(frozen=True)
class Work:
    """What is done with each image, the same on every node.

    Attributes:
        weights: the content of the weight file, since a node may not have the file.
        name: its file name.
        backend, precision: as chosen where the command runs, so that all nodes use the same.
        size, tile: of the network's input.
        threads: of each worker, which segments as many images at a time.
        what: the results to write.
        palette: see `Segmentation.save_labels`.
        out: the output folder.
    """

    weights: bytes
    name: str
    backend: str
    precision: str
    size: NetworkSize
    tile: tuple[int, int] | None
    threads: int
    what: tuple[ResultName, ...]
    palette: bool
    out: Store
    version: str = __version__

    def files(self, result: str) -> list[str]:
        """Return the files of an image in the output folder, in the order in which they are written."""
        return [result + suffix for name, suffix in RESULTS.items() if name in self.what]

    def load(self) -> Segmenter:
        """Return the segmenter. Raises FastSCNNError if this machine cannot run it."""
        with TemporaryDirectory() as folder:
            file = Path(folder) / self.name
            file.write_bytes(self.weights)
            return Segmenter.load(file, cast(BackendName, self.backend), self.size, self.threads, tile=self.tile,
                                  precision=cast(PrecisionName, self.precision), streams=self.threads)


class Worker:
    """The class that Ray starts on the nodes.

    Args:
        work: what is done.
        marker: a file in a local output folder, which shows whether this node has the same one; "": not checked.
        first: an image that every node must have; "" if it lies on no local file system.
    """

    def __init__(self, work: Work, marker: str, first: str) -> None:
        self.work, self.segmenter = work, None
        self.problem = self._missing(marker, first)
        if not self.problem:
            try:
                self.segmenter = work.load()
            except FastSCNNError as error:
                self.problem = f"{_node()}: {error}"

    def _missing(self, marker: str, first: str) -> str:
        """Return a sentence about what this node lacks; "" if it has all."""
        if self.work.version != __version__:
            return f"{_node()}: has fastscnn {__version__}, not {self.work.version}; install the same version on every node."
        if marker and not self.work.out.exists(marker):
            return f"{_node()}: has another {self.work.out.root}; mount the same folder on every node, or give an address."
        if first and not files.is_file(Path(first)):
            return f"{_node()}: has no {first}; mount the images at the same path on every node, or give addresses."
        return ""

    def __call__(self, batch: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Segment some images.

        Args:
            batch: "image", a path or address of each, and "result", the path of its results in the output folder.

        Returns:
            For each image, "image", "state" (SEGMENTED, FINISHED before, FAILED, or STOP: this node can segment none) and
            "message".
        """
        jobs = [(str(image), str(result)) for image, result in zip(batch["image"], batch["result"], strict=True)]
        done = [row for _, row in ordered(self._segmented, jobs, self.work.threads)]
        states, messages = zip(*done, strict=True)
        return {"image": np.array([image for image, _ in jobs], object), "state": np.array(states, object),
                "message": np.array(messages, object)}

    def _segmented(self, job: tuple[str, str]) -> tuple[str, str]:
        image, result = job
        if self.segmenter is None:
            return STOP, self.problem
        work = self.work
        try:
            # Written last, so the others are there, too. After a worker died, Ray sends its images to another one.
            if work.out.exists(work.files(result)[-1]):
                return FINISHED, ""
            made = self.segmenter.segment(sources.opened(image), "confidence" in work.what, "ood_mask" in work.what,
                                          keep_image="overlay" in work.what)
            if work.out.local:
                made.save_files(Path(work.out.at(result)), work.what, work.palette)
                return SEGMENTED, ""
            with TemporaryDirectory() as folder:
                saved = made.save_files(Path(folder) / "image", work.what, work.palette)
                for name, file in zip(work.files(result), saved.values(), strict=True):
                    work.out.write(name, file.read_bytes())
        except FastSCNNError as error:
            return FAILED, sentence(image, error)
        return SEGMENTED, ""


def _node() -> str:
    return f"node {platform.node()}"
