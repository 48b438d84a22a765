"""Compile the C files of src/fastscnn into every wheel, including editable ones; without any of them, it is pure Python.

The libraries do not use Python's C API, so one wheel works with every version of Python on its platform. The compiler
is `cc`, or the value of the environment variable CC.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags

PACKAGE = Path("src", "fastscnn")
# The libraries have the suffix .so on every system.
SOURCES = (Path("media", "paint.c"), Path("media", "shrink.c"), Path("upsampling", "lazy.c"))
# Without contraction, a * b + c is rounded twice, as in NumPy; base/kernel.h says it to compilers that obey the source.
FLAGS = ("-std=c99", "-O3", "-ffp-contract=off", "-shared", "-fPIC")


class CompileKernels(BuildHookInterface[Any]):
    """Build hook; see hatchling's documentation of custom hooks."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the libraries: into src/ for an editable install, otherwise into the wheel only."""
        package = Path(self.root) / PACKAGE
        self.folder = TemporaryDirectory()
        editable = version == "editable"
        for source in SOURCES:
            library = (package if editable else Path(self.folder.name)) / source.with_suffix(".so")
            library.parent.mkdir(exist_ok=True)
            if problem := compile_library(package / source, library):
                self.app.display_warning(f"fastscnn is installed without {library.name}, so it is slower: {problem}")
                continue
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{own_platform()}"
            if not editable:
                build_data["force_include"][str(library)] = ("fastscnn" / source.with_suffix(".so")).as_posix()

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the temporary libraries; the wheel contains copies."""
        self.folder.cleanup()


def compile_library(source: Path, library: Path) -> str:
    """Compile a C file. Return "", or the error message; after an error there is no library."""
    # Remove instead of overwriting: a running process keeps the library that it has loaded.
    library.unlink(missing_ok=True)
    command = [*shlex.split(os.environ.get("CC", "cc")), *FLAGS, "-o", str(library), str(source)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"{shlex.join(command)}: {error.strerror}."
    if done.returncode or not library.exists():
        library.unlink(missing_ok=True)
        return f"{shlex.join(command)} ended with {done.returncode}.\n{done.stderr}".rstrip()
    return ""


def own_platform() -> str:
    """Return the platform tag of this system; tools such as auditwheel rename wheels for other distributions."""
    return next(tag for tag in platform_tags() if not tag.startswith(("manylinux", "musllinux")))
