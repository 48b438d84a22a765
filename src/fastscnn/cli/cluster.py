"""cluster: many images on several machines."""

from __future__ import annotations

import json as json_
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional

from fastscnn.base import files
from fastscnn.base.arguments import whole
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import ResultName
from fastscnn.cli import parse, with_commands
from fastscnn.cli.console import complain, configure, note, progress_bar, show
from fastscnn.cli.flags import load
from fastscnn.cli.options import (
    Backend,
    Json,
    Precision,
    Quiet,
    Size,
    Tile,
    Verbose,
    Weights,
    described,
    required,
    switch,
    value,
)
from fastscnn.cli.segment import RESULT_FILES, read_results

if TYPE_CHECKING:
    from fastscnn.cluster.label import Summary
    from fastscnn.cluster.stores import Store

COMMANDS = {"segment": "Segment the images of a folder, a list or a table."}
USAGE = "[options] SRC --out DST"
_SHOWN = 10  # failures on the screen; the file has all


def main(words: Sequence[str]) -> int:
    """Run the command that `words` begin with; return the exit code."""
    return with_commands("cluster", "Work on many images, on several machines.", COMMANDS, words,
                         lambda name, rest: parse(segment, f"fastscnn cluster {name}", USAGE, rest, remote=True))


def segment(
    source: Annotated[Positional[str], required(
        "Folder, searched recursively; list (.txt) with a path in each line; or Parquet (.parquet) with a column 'path'. "
        "A path, or an address that fsspec opens, such as s3://BUCKET/FOLDER.", "SRC")],
    *,
    out: Annotated[str, value("DST", str), required(
        "Folder of the results, a path or an address. Images that are finished there are not segmented again.")],
    weights: Weights = None,
    size: Size = None,
    tile: Tile = None,
    backend: Backend = "auto",
    precision: Precision = "auto",
    workers: Annotated[int | None, value("N", lambda text: whole("workers", int(text), 1, 100_000), "all that fit"), described(
        "Processes on all nodes together.")] = None,
    threads: Annotated[int, value("N", lambda text: whole("threads", int(text), 1, 1024)), described(
        "CPU threads of each worker, which segments as many images at a time.")] = 1,
    save: Annotated[tuple[ResultName, ...] | None, value("LIST", read_results, none="labels,overlay"), described(
        f"What to write: {RESULT_FILES}.")] = None,
    palette: Annotated[bool, switch("Write labels as PNG files that are shown in the colours of the classes.")] = False,
    address: Annotated[str | None, value("ADDRESS", str, "$RAY_ADDRESS, or this machine alone"), described(
        "Ray cluster, HOST:PORT.")] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Segment many images on a Ray cluster.

    The results are those of `fastscnn segment`. After any stop, the same command continues. Images that failed are listed in
    DST/failures.jsonl.
    """
    configure(quiet, verbose)
    from fastscnn.cluster import label, sources
    from fastscnn.cluster.stores import Store
    from fastscnn.cluster.worker import Work

    store = Store(out.rstrip("/") if files.is_address(out) else str(files.expand(out).absolute()))
    found = sources.find(source, store)
    if found.left_out:
        note(found.left_out)
    segmenter = load(weights, backend, size, threads, precision=precision, streams=threads, tile=tile)
    what: tuple[ResultName, ...] = save or ("labels", "overlay")
    if segmenter.card.channels != 3:
        raise FastSCNNError(f"{segmenter.path}: takes {segmenter.card.channels} channels, but cluster segment reads RGB "
                            "images; give weights that were trained on RGB images.")
    if "ood_mask" in what:
        segmenter.check_ood()
    assert segmenter.path is not None
    work = Work(segmenter.path.read_bytes(), segmenter.path.name, segmenter.backend.name, segmenter.backend.precision,
                segmenter.size, segmenter.tile, threads, what, palette, store)
    segmenter.close()
    with progress_bar("cluster segment", quiet=json, rate=True) as advance:
        summary = label.label(found.results, work, workers, address, advance)
    _print(summary, store, json)
    return 1 if summary.failed else 0


def _print(summary: Summary, store: Store, json: bool) -> None:
    if json:
        print(json_.dumps(asdict(summary) | {"failed": len(summary.failed)}), flush=True)
    else:
        if summary.segmented:
            rate = f"{summary.segmented / summary.seconds:.1f} images per second, {summary.workers} workers"
            show(f"{summary.segmented} segmented, {rate}; results in {store.root}")
        if summary.finished:
            show(f"{summary.finished} of {summary.images} images were finished before.")
    for message in list(summary.failed.values())[:_SHOWN]:
        complain(message)
    if summary.failed:
        complain(f"{len(summary.failed)} of {summary.images} images failed; all are listed in {store.at('failures.jsonl')}.")
