"""Segment many images on the workers of a Ray cluster, so that the same call continues after any stop."""

from __future__ import annotations

import json
import logging
import os
import secrets
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any

from fastscnn.base import files, machine
from fastscnn.base.errors import ArgumentError, FastSCNNError, missing_extra
from fastscnn.cluster.worker import FAILED, FINISHED, SEGMENTED, STOP, Work, Worker

SETTINGS, FAILURES = "cluster.json", "failures.jsonl"  # in the output folder
_IMAGES = 64  # of a task at most: a worker that dies repeats no more
_TASKS = 8  # of each worker at least, so that none waits long for the others at the end
_DEATHS = 5  # of workers on the same task; then its images fail, since one of them may be the cause
_MEMORY = 256 << 20  # bytes for Ray's objects on this machine: paths and sentences only
_PROGRESS = Callable[[int, int], None]


@dataclass
class Summary:
    """What became of the images.

    Attributes:
        images: all of the source.
        finished: those with results from an earlier call.
        segmented: those with results from this call.
        failed: image -> sentence; also in the file FAILURES.
        workers: processes that segmented.
        seconds: of the segmentation, without the start of Ray.
    """

    images: int
    finished: int = 0
    segmented: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    workers: int = 0
    seconds: float = 0.0


def label(
    results: Mapping[str, str],
    work: Work,
    workers: int | None = None,
    address: str | None = None,
    progress: _PROGRESS = lambda done, total: None,
) -> Summary:
    """Segment images on a Ray cluster, and write the results and FAILURES into the output folder.

    An image is finished if all its files exist there; it is not segmented again. SETTINGS records how they were made: other
    settings are refused, because the results would be mixed.

    Args:
        results: path or address of each image -> path of its results in the output folder, without suffixes.
        work: what is done with each.
        workers: processes, each with `work.threads` threads; None: as many as the cluster has CPUs for.
        address: of the cluster; None: $RAY_ADDRESS, else the cluster that this process joined, else this machine alone.
        progress: called with (images done, all images).

    Raises:
        ArgumentError: more workers than the cluster has CPUs for.
        FastSCNNError: an output folder that cannot be written or has other settings, a missing extra, no cluster, or a node
            without the images, the output folder or the same version. Finished images are kept.
    """
    _check_settings(work)
    there = work.out.names()
    left = {image: result for image, result in results.items() if not there.issuperset(work.files(result))}
    summary = Summary(len(results), finished=len(results) - len(left))
    for image in [image for image in left if not _is_text(image)]:
        summary.failed[image] = f"{image}: its name is not UTF-8; rename it."
        del left[image]
    _write_failures(work, summary)  # of an earlier call
    marker = f".{secrets.token_hex(8)}.run" if work.out.local else ""
    try:
        if left:
            with _silent(), _ray(address) as ray:
                if marker:
                    work.out.write(marker, b"")
                summary.workers = _workers(ray, workers, work.threads)
                start = perf_counter()
                for row in _rows(ray, left, work, summary.workers, marker):
                    _count(row, summary, left)
                    progress(len(results) - len(left), len(results))
                summary.seconds = perf_counter() - start
            summary.failed |= {image: f"{image}: its worker died {_DEATHS + 1} times, on it or on an image beside it; "
                                      "look for an image that needs too much memory." for image in left}
    finally:
        _clean(work, marker)
        _write_failures(work, summary)
    return summary


def _is_text(image: str) -> bool:
    try:
        image.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_settings(work: Work) -> None:
    """Write SETTINGS, or compare it. Raises FastSCNNError if the folder cannot be written or has other settings."""
    own = {
        "fastscnn": work.version, "weights": sha256(work.weights).hexdigest(), "backend": work.backend,
        "precision": work.precision, "size": work.size, "tile": work.tile, "save": work.what, "palette": work.palette,
    }
    text = json.dumps(own, indent=1) + "\n"
    if work.out.exists(SETTINGS):
        try:
            old = json.loads(work.out.read(SETTINGS))
            changed = [name for name, value in json.loads(text).items() if old.get(name) != value]
        except (ValueError, AttributeError) as error:
            raise FastSCNNError(f"{work.out.at(SETTINGS)}: is damaged; remove it to continue with these settings.") from error
        if changed:
            raise FastSCNNError(f"{work.out.root}: holds results with other settings ({', '.join(changed)}; {SETTINGS}); "
                                "choose another output folder, or remove that file to mix them.")
    work.out.write(SETTINGS, text.encode())


@contextmanager
def _ray(address: str | None) -> Iterator[Any]:
    """Join a cluster, or start Ray on this machine for as long as the context lasts."""
    # A new process of Ray reports "restarted" and the like; the sentences here are ours.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise missing_extra("cluster segment", "ray") from error
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    if ray.is_initialized():
        yield ray
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    alone: dict[str, Any] = {"include_dashboard": False, "num_cpus": machine.threads(), "object_store_memory": _MEMORY}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL,
                 **(alone if address == "local" else {}))
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        token = "" if address == "local" or "RAY_AUTH_MODE" in os.environ else (
            "; if the cluster has a token, set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or the file ~/.ray/auth_token")
        raise FastSCNNError(f"{address}: Ray cannot be reached or started there ({reason}){token}.") from error
    try:
        yield ray
    except ray.exceptions.RayError as error:
        reason = str(error).strip().rpartition("\n")[2]
        raise FastSCNNError(f"Ray stopped ({reason}); finished images are kept. Each node needs fastscnn[ray].") from error
    finally:
        ray.shutdown()


@contextmanager
def _silent() -> Iterator[None]:
    """Drop what Ray prints when it starts a worker again, in a thread of its own and at its end; its logs have that."""
    with Path(os.devnull).open("w", encoding="utf-8") as nothing, redirect_stdout(nothing):
        yield


def _workers(ray: Any, wanted: int | None, threads: int) -> int:
    places = sum(int(node["Resources"].get("CPU", 0)) // threads for node in ray.nodes() if node["Alive"])
    if not places or (wanted or 0) > places:
        raise ArgumentError(f"workers: the nodes have CPUs for {places} workers of {threads} threads, not for {wanted or 1}; "
                            "use fewer workers or threads.")
    return wanted or places


def _rows(ray: Any, left: Mapping[str, str], work: Work, workers: int, marker: str) -> Iterator[Mapping[str, Any]]:
    """Yield what the workers return for each image, as it comes."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # their images are counted as failed, and the others go on
    local = next((image for image in left if not files.is_address(image) and files.is_file(files.expand(image))), "")
    tasks = max(-(-len(left) // _IMAGES), min(len(left), _TASKS * workers))
    rows = [{"image": image, "result": result} for image, result in left.items()]
    with warnings.catch_warnings():  # the limit of retries has no other name yet; pyproject.toml excludes Ray 2.64
        warnings.filterwarnings("ignore", message=".*ray_remote_args.*")
        labelled = ray.data.from_items(rows, override_num_blocks=tasks).map_batches(
            Worker, fn_constructor_args=(work, marker, local), batch_size=None, num_cpus=work.threads,
            compute=ray.data.ActorPoolStrategy(size=min(workers, tasks)), max_restarts=-1, max_task_retries=_DEATHS,
        )  # fmt: skip
    yield from labelled.iter_rows()


def _count(row: Mapping[str, Any], summary: Summary, left: dict[str, str]) -> None:
    """Count what became of an image. Raises FastSCNNError if its node can segment none."""
    image, state = str(row["image"]), row["state"]
    if state == STOP:
        raise FastSCNNError(f"{row['message']} Finished images are kept.")
    del left[image]
    if state == FAILED:
        summary.failed[image] = str(row["message"])
    else:  # FINISHED: by a worker that died before it could say so
        assert state in (SEGMENTED, FINISHED)
        summary.segmented += 1


def _clean(work: Work, marker: str) -> None:
    """Remove the marker, and temporary files of workers that were killed while they wrote."""
    if marker:
        work.out.remove(marker)
        for name in work.out.names():
            last = name.rpartition("/")[2]
            if last.startswith(".") and last.endswith(".part"):
                work.out.remove(name)


def _write_failures(work: Work, summary: Summary) -> None:
    """Write a JSON line for each image that failed; an empty file if there is none."""
    lines = [json.dumps({"image": image, "error": message}) + "\n" for image, message in summary.failed.items()]
    work.out.write(FAILURES, "".join(lines).encode())
