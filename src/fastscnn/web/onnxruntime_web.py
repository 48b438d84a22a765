"""ONNX Runtime for browsers. It is too large to bundle: npm downloads it once, and every file is verified."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError

VERSION = "1.30.0"  # of npm's onnxruntime-web
PACKAGE = f"onnxruntime-web@{VERSION}"
FILES = {  # name in the package's folder dist -> sha256
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
_FIX = f"run `npm install {PACKAGE}` on a machine with npm, and give --ort node_modules/onnxruntime-web/dist"


def find(folder: Path | None = None) -> dict[str, bytes]:
    """Return the contents of `FILES` by name, about 14 MB.

    Args:
        folder: folder that holds the files; None: the cache folder, which npm fills if they are missing.

    Raises:
        FastSCNNError: a file is missing or is not that of `VERSION`; npm is missing or fails.
    """
    if folder is None:
        folder = files.cache("web") / PACKAGE
        if not all(_is(folder / name, sha256) for name, sha256 in FILES.items()):
            _download(folder)
    for name, sha256 in FILES.items():
        if not (folder / name).is_file():
            raise FastSCNNError(f"{folder / name}: no such file; {_FIX}.")
        if not _is(folder / name, sha256):
            raise FastSCNNError(f"{folder / name}: is not the file of {PACKAGE}; {_FIX}.")
    return {name: (folder / name).read_bytes() for name in FILES}


def _is(path: Path, sha256: str) -> bool:
    return path.is_file() and files.digest(path) == sha256


def _download(folder: Path) -> None:
    """Download the package with npm, and write `FILES` into `folder`."""
    npm = shutil.which("npm")
    if npm is None:
        raise FastSCNNError(f"npm is not installed, so {PACKAGE} cannot be downloaded; {_FIX}.")
    with TemporaryDirectory() as scratch:
        command = [npm, "pack", PACKAGE, "--silent", "--pack-destination", scratch]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
        archives = list(Path(scratch).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            reason = done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"
            raise FastSCNNError(f"`npm pack {PACKAGE}` failed ({reason}); {_FIX}.")
        contents = _unpack(archives[0])
    if {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()} != FILES:
        raise FastSCNNError(f"The files that npm downloaded are not those of {PACKAGE}; {_FIX}.")
    for name, data in contents.items():
        files.write(folder / name, data)


def _unpack(archive: Path) -> dict[str, bytes]:
    """Return the contents of `FILES` in an npm archive, or {} if it is broken.

    Members are read, not extracted: no path in the archive is followed.
    """
    try:
        with tarfile.open(archive) as package:
            members = {name: package.extractfile(f"package/dist/{name}") for name in FILES}
            return {name: member.read() for name, member in members.items() if member is not None}
    except (tarfile.TarError, KeyError, EOFError, zlib.error):
        return {}
