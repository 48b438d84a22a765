"""Compile the C files of src/fastscnn into every wheel, including editable ones; without any of them, it is pure Python.

The libraries do not use Python's C API, so one wheel works with every version of Python on its platform.

Environment variables:
    CC: the compiler and its options: GCC, Clang or `zig cc` (default: clang on Windows, else cc).
    _PYTHON_HOST_PLATFORM: the platform that CC compiles for, as CPython writes it: macosx-11.0-arm64 (default: this one).
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags

PACKAGE = Path("src", "fastscnn")
SOURCES = (Path("media", "paint.c"), Path("media", "shrink.c"), Path("upsampling", "lazy.c"))
# Without contraction, a * b + c is rounded twice, as in NumPy; base/kernel.h says it to compilers that obey the source.
# Without debug information, no path of this machine gets into the library.
FLAGS = ("-std=c99", "-O3", "-g0", "-ffp-contract=off", "-shared")


class CompileKernels(BuildHookInterface[Any]):
    """Build hook; see hatchling's documentation of custom hooks."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the libraries: into src/ for an editable install, otherwise into the wheel only."""
        package, platform = Path(self.root) / PACKAGE, platform_tag()
        self.folder = TemporaryDirectory()
        editable = version == "editable"
        for source in SOURCES:
            place = source.with_suffix(suffix(platform))
            library = (package if editable else Path(self.folder.name)) / place
            if problem := compile_library(package / source, library):
                self.app.display_warning(f"fastscnn is installed without {library.name}, so it is slower: {problem}")
                continue
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{platform}"
            if not editable:
                build_data["force_include"][str(library)] = ("fastscnn" / place).as_posix()

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the temporary libraries; the wheel contains copies."""
        self.folder.cleanup()


def compile_library(source: Path, library: Path) -> str:
    """Compile a C file. Return "", or the error message; after an error there is no library."""
    library.parent.mkdir(exist_ok=True)
    # Remove instead of overwriting: a running process keeps the library that it has loaded.
    library.unlink(missing_ok=True)
    compiler = os.environ.get("CC", "clang" if os.name == "nt" else "cc")
    flags = FLAGS if library.suffix == ".dll" else (*FLAGS, "-fPIC")
    # The name has no folder: linkers for macOS write it into the library, and equal sources give equal wheels.
    command = [*shlex.split(compiler, posix=os.name != "nt"), *flags, "-o", library.name, str(source.resolve())]
    with TemporaryDirectory() as folder:  # linkers for Windows write more files beside the library
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", errors="replace", check=False)
        except OSError as error:
            return f"{shlex.join(command)}: {error.strerror}."
        made = Path(folder, library.name)
        if done.returncode or not made.exists():
            return f"{shlex.join(command)} ended with {done.returncode}.\n{done.stderr}".rstrip()
        shutil.move(made, library)
    return ""


def platform_tag() -> str:
    """Return the platform tag of the wheel; tools such as auditwheel rename wheels for other distributions of Linux."""
    if host := os.environ.get("_PYTHON_HOST_PLATFORM"):
        return host.replace("-", "_").replace(".", "_")
    return next(tag for tag in platform_tags() if not tag.startswith(("manylinux", "musllinux")))


def suffix(platform: str) -> str:
    """Return the suffix of shared libraries on a platform, given by its tag: that of `fastscnn.base.kernels.SUFFIX` there."""
    return {"win": ".dll", "mac": ".dylib"}.get(platform[:3], ".so")
