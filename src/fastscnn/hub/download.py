"""Weight files on the hub: which file an address means, and its copy in the cache of huggingface_hub."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError
from fastscnn.hub.address import Address, is_address, parse
from fastscnn.hub.client import client
from fastscnn.version import __version__

FLOAT32, INT8, TRAINED = "model.onnx", "model-int8.onnx", "model.safetensors"  # names that `push` writes
MAX_BYTES = 2**31  # protobuf, and so ONNX, has no larger files
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SUFFIXES = (".onnx", ".safetensors")
OnProgress = Callable[[int, int], None]


def weight_file(
    weights: str | PathLike[str], backend: str = "auto", precision: str = "auto", on_progress: OnProgress | None = None
) -> Path:
    """Return the path of a weight file: a path of this machine with `~` expanded, or the cached copy of a file on the hub.

    The hub is asked whether the copy is current. Without a network, or with HF_HUB_OFFLINE=1, the copy is used as it is.

    Args:
        weights: a path, or hf://OWNER/NAME[@REVISION][/FILE]. Without FILE, it is model.safetensors for the backends "torch"
            and "cuda", model-int8.onnx for the precision "int8", else model.onnx; or the only weight file that fits, if the
            repository has no file of that name.
        backend, precision: what the file is for.
        on_progress: called with (bytes done, all bytes) during a download.

    Raises:
        ArgumentError: not an address of the hub.
        FastSCNNError: the extra `hub` is missing, the hub cannot be reached and the file is not cached, there is no such
            repository, revision or file, several files fit, or the file is no weight file or has 2 GiB or more.
    """
    if not is_address(weights):
        return files.expand(weights)
    address = parse(weights)
    default = TRAINED if backend in ("torch", "cuda") else INT8 if precision == "int8" else FLOAT32
    if address.file and PurePosixPath(address.file).suffix.lower() not in _SUFFIXES:
        raise FastSCNNError(f"{address}: weights are .onnx or .safetensors files; others, such as pickles, are not read.")
    with client(address) as hub:
        try:
            return _download(hub, replace(address, file=address.file or default), on_progress)
        except hub.errors.LocalEntryNotFoundError:
            if address.file or not (names := _cached(hub, address, default)):
                raise
        except hub.errors.EntryNotFoundError as missing:
            names = [each.rfilename for each in hub.model_info(address.repository, revision=address.revision).siblings or ()]
            if address.file:
                others = ", ".join(name for name in names if PurePosixPath(name).suffix.lower() in _SUFFIXES) or "none"
                raise FastSCNNError(f"{address}: the repository has no such file; its weight files: {others}.") from missing
        return _download(hub, replace(address, file=_only(address, default, names)), on_progress)


def _only(address: Address, default: str, names: Sequence[str]) -> str:
    """Return the only weight file among the names of a repository that has no `default`. Raises FastSCNNError."""
    by_suffix = {suffix: [name for name in names if name.lower().endswith(suffix)] for suffix in _SUFFIXES}
    fitting = by_suffix[PurePosixPath(default).suffix] or (by_suffix[".safetensors"] if default == FLOAT32 else [])
    if len(fitting) > 1:
        raise FastSCNNError(f"{address}: has no {default}, but {', '.join(fitting)}; name one, such as {address}/{fitting[0]}.")
    if not fitting:
        wanted = "no .safetensors file" if default == TRAINED else "no .onnx or .safetensors file"
        raise FastSCNNError(f"{address}: the repository has {wanted}; other files, such as pickles, are not read.")
    return fitting[0]


def _download(hub: ModuleType, address: Address, on_progress: OnProgress | None) -> Path:
    """Return the cached copy of a file, downloaded if it is missing or old.

    Raises:
        FastSCNNError: the file is too large.
        EntryNotFoundError: there is no such file; as LocalEntryNotFoundError, if the hub could not be asked.
    """
    errors = hub.errors
    place: dict[str, Any] = {"repo_id": address.repository, "filename": address.file, "revision": address.revision}
    if _COMMIT.fullmatch(address.revision or "") and isinstance(copy := hub.try_to_load_from_cache(**place), str):
        return Path(copy)
    caller = {"library_name": "fastscnn", "library_version": __version__}
    try:  # hf_hub_download would repeat a request that fails for half a minute
        size = hub.get_hf_file_metadata(hub.hf_hub_url(**place), **caller).size
    except errors.EntryNotFoundError:
        hub.hf_hub_download(**place, **caller)  # raises it again, and keeps in the cache that there is no such file
        raise
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
        raise
    except (errors.HTTPError, OSError) as error:
        try:
            return Path(hub.hf_hub_download(**place, local_files_only=True))
        except errors.LocalEntryNotFoundError as missing:
            raise missing from error
    if size is None or size >= MAX_BYTES:
        raise FastSCNNError(f"{address}: has {size or 'an unknown number of'} bytes; weight files have less than 2 GiB.")
    return Path(hub.hf_hub_download(**place, **caller, tqdm_class=_progress(hub, on_progress)))


def _cached(hub: ModuleType, address: Address, default: str) -> list[str]:
    """Return the names of the cached files of a repository that had no `default` when the hub was last asked; else []."""
    place: dict[str, Any] = {"repo_id": address.repository, "revision": address.revision}
    found = hub.try_to_load_from_cache(filename=default, **place)
    if found is None or isinstance(found, str):
        return []
    folder = Path(hub.snapshot_download(**place, local_files_only=True))
    return [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]


def _progress(hub: ModuleType, on_progress: OnProgress | None) -> type:
    """Return the class of a progress bar that shows nothing and reports to `on_progress`."""

    class Silent(hub.utils.tqdm):  # type: ignore[misc,name-defined]  # the module is imported where it is used
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})
            self.done = options.get("initial") or 0

        def update(self, n: float | None = 1) -> None:
            self.done += n or 0
            if on_progress and self.total:
                on_progress(int(self.done), int(self.total))

    return Silent
