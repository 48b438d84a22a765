"""Weight files on the hub: which file an address means, and its copy in the cache of huggingface_hub."""

from __future__ import annotations

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

FLOAT32, INT8, TRAINED = "model.onnx", "model-int8.onnx", "model.safetensors"  # names that `push` writes
MAX_BYTES = 2**31  # protobuf, and so ONNX, has no larger files
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
        except hub.errors.EntryNotFoundError as missing:
            names = _names(hub, address, missing)
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
    """Return the cached copy of a file, downloaded if it is missing or old."""
    place: dict[str, Any] = {"repo_id": address.repository, "filename": address.file, "revision": address.revision,
                             "library_name": "fastscnn"}
    size = hub.hf_hub_download(**place, dry_run=True).file_size
    if size is None or size >= MAX_BYTES:
        raise FastSCNNError(f"{address}: has {size or 'an unknown number of'} bytes; weight files have less than 2 GiB.")
    return Path(hub.hf_hub_download(**place, tqdm_class=_progress(hub, on_progress)))


def _names(hub: ModuleType, address: Address, missing: Exception) -> list[str]:
    """Return the names of the files in a repository; of those in the cache, if the hub could not be asked."""
    place: dict[str, Any] = {"repo_id": address.repository, "revision": address.revision}
    if not isinstance(missing, hub.errors.LocalEntryNotFoundError):
        return [each.rfilename for each in hub.model_info(**place).siblings or ()]
    try:
        folder = Path(hub.snapshot_download(**place, local_files_only=True))
    except hub.errors.LocalEntryNotFoundError:
        raise missing from None
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    if address.file or not names:
        raise missing
    return names


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
