"""Compiles src/fastscnn/upsampling/lazy.c into every wheel, editable ones included; where that fails, the wheel is pure Python.

The library knows nothing of Python's own interface, so that one wheel serves every version of Python on its platform.
The compiler is `cc`, or what the environment's CC says.
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

PACKAGE = Path("src", "fastscnn", "upsampling")
LIBRARY = "lazy.so"  # native.py looks for this name on every system
# Contraction would round a * b + c once where NumPy rounds twice: some labels would not be NumPy's.
FLAGS = ("-std=c99", "-O3", "-ffp-contract=off", "-shared", "-fPIC")


class CompileLazy(BuildHookInterface[Any]):
    """The build hook: see hatchling's documentation of custom hooks."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles the library: into src/ for an editable install, which runs from there, else for the wheel alone."""
        source = Path(self.root) / PACKAGE
        self.folder = TemporaryDirectory()
        editable = version == "editable"
        library = (source if editable else Path(self.folder.name)) / LIBRARY
        problem = compile_library(source / "lazy.c", library)
        if problem:
            message = f"fastscnn is installed without its compiled kernel, so labels take about ten times as long: {problem}"
            self.app.display_warning(message)
            return
        if not editable:
            build_data["force_include"][str(library)] = f"fastscnn/upsampling/{LIBRARY}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{own_platform()}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Removes the library that the wheel now holds."""
        self.folder.cleanup()


def compile_library(source: Path, library: Path) -> str:
    """Compiles a C file; says what went wrong, and then leaves no library, or "" where all went well."""
    # Not overwritten: a process that runs it, as an editable install's may, keeps the old one.
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
    """The tag of this very system; wheels for other distributions are made by their own tools, which rename them."""
    return next(tag for tag in platform_tags() if not tag.startswith(("manylinux", "musllinux")))
