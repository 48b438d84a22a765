"""Wheels and the sdist: what they hold, where they install, and what is said if that is not enough."""

from __future__ import annotations

import email
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from made.modules import loaded

from fastscnn.base import kernels
from fastscnn.cli import missing
from fastscnn.upsampling import native

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LIBRARIES = ("media/paint", "media/shrink", "upsampling/lazy")
# A compiler that writes its own options into the library.
FAKE = 'import pathlib, sys; options = sys.argv[1:]; pathlib.Path(options[options.index("-o") + 1]).write_text(str(options))'
HOMES = ("HOME", "USERPROFILE", "XDG_CACHE_HOME")
BARE = {name: value for name, value in os.environ.items() if name not in (*HOMES, "PYTHONPATH")}


def build(builder: type[WheelBuilder | SdistBuilder], folder: Path, root: Path = ROOT, **environment: str) -> Path:
    """A wheel or an sdist of a source folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("_PYTHON_HOST_PLATFORM", raising=False)
        for name, value in environment.items():
            patch.setenv(name, value)
        return Path(next(iter(builder(str(root)).build(directory=str(folder), versions=["standard"]))))


def python(code: str) -> str:
    """A compiler in CC that is Python code."""
    return shlex.join([sys.executable, "-c", code])


def run(*words: object, package: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python with the package of a folder, and without a home folder or a cache."""
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, env={**BARE, "PYTHONPATH": str(package), **environment}, cwd=package.parent, check=False,
                          capture_output=True, encoding="utf-8", errors="replace", timeout=300)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(SdistBuilder, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def source(sdist: Path) -> Path:
    """The sdist, unpacked: a source tree without git."""
    with tarfile.open(sdist) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4 and newer
        archive.extractall(sdist.parent)
    return sdist.with_name(sdist.name.removesuffix(".tar.gz"))


@pytest.fixture(scope="module")
def pure(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that the sdist gives without a compiler."""
    return build(WheelBuilder, tmp_path_factory.mktemp("pure"), source, CC="no-such-compiler")


@pytest.fixture(scope="module")
def installed(pure: Path) -> Path:
    """The folder of that wheel, unpacked."""
    with zipfile.ZipFile(pure) as archive:
        archive.extractall(pure.parent / "installed")
    return pure.parent / "installed"


@pytest.fixture(scope="module")
def metadata(pure: Path) -> Message:
    with zipfile.ZipFile(pure) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    """hatch_build.py as a module."""
    module: ModuleType = loaded(ROOT / "hatch_build.py")
    return module


@pytest.mark.parametrize(
    ("host", "tag", "suffix"),
    [
        ("linux-x86_64", "linux_x86_64", ".so"),
        pytest.param("linux-aarch64", "linux_aarch64", ".so", marks=pytest.mark.slow),
        pytest.param("macosx-11.0-arm64", "macosx_11_0_arm64", ".dylib", marks=pytest.mark.slow),
        pytest.param("win-amd64", "win_amd64", ".dll", marks=pytest.mark.slow),
    ],
)
def test_every_platform_has_its_tag_and_names(tmp_path: Path, host: str, tag: str, suffix: str) -> None:
    wheel = build(WheelBuilder, tmp_path, CC=python(FAKE), _PYTHON_HOST_PLATFORM=host)
    assert wheel.name.endswith(f"-py3-none-{tag}.whl")
    with zipfile.ZipFile(wheel) as archive:
        libraries = {name for name in archive.namelist() if name.endswith((".so", ".dylib", ".dll"))}
        assert libraries == {f"fastscnn/{name}{suffix}" for name in LIBRARIES}
        options = archive.read(f"fastscnn/upsampling/lazy{suffix}").decode()
    assert ("-fPIC" in options) == (suffix != ".dll"), "clang for Windows refuses it"
    assert f"'-o', 'lazy{suffix}'" in options, "a folder would get into libraries of macOS"
    assert "'-ffp-contract=off'" in options


def test_the_package_looks_for_the_names_that_the_hook_writes(hook: ModuleType) -> None:
    assert hook.suffix(hook.platform_tag()) == kernels.SUFFIX


@pytest.mark.slow
def test_what_an_sdist_holds(source: Path) -> None:
    for name in ("hatch_build.py", "src/fastscnn/base/kernel.h", *(f"src/fastscnn/{name}.c" for name in LIBRARIES)):
        assert (source / name).is_file(), name
    assert not [path for path in source.rglob("*") if path.suffix in (".so", ".dylib", ".dll", ".pyc")]
    assert not (source / ".git").exists()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(shlex.split(os.environ.get("CC", "cc"))[0]) is None, reason="needs a C compiler")
def test_an_sdist_without_git_gives_the_wheel_of_the_checkout(source: Path, tmp_path: Path) -> None:
    one, other = build(WheelBuilder, tmp_path / "one"), build(WheelBuilder, tmp_path / "other", source)
    assert one.name == other.name
    with zipfile.ZipFile(one) as ours, zipfile.ZipFile(other) as theirs:
        assert sorted(ours.namelist()) == sorted(theirs.namelist())
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.slow
def test_two_sdists_have_equal_bytes(sdist: Path, tmp_path: Path) -> None:
    assert build(SdistBuilder, tmp_path).read_bytes() == sdist.read_bytes()


@pytest.mark.slow
def test_without_a_compiler_the_version_names_each_slow_part_and_the_fix(installed: Path) -> None:
    done = run("-m", "fastscnn", "-V", package=installed)
    assert (done.returncode, done.stderr) == (0, "")
    fix = "is missing; install a wheel of fastscnn for this system, or a C compiler and then fastscnn again."
    assert f"\nLabels are computed by NumPy, about ten times slower: lazy{kernels.SUFFIX} {fix}\n" in done.stdout
    assert done.stdout.count(fix) == len(LIBRARIES)


@pytest.mark.slow
def test_without_a_compiler_the_summary_says_so(installed: Path, tmp_path: Path) -> None:
    """In its title, and in a note with the fix; the results are there all the same."""
    done = run("-m", "fastscnn", "demo", "--threads", 1, "--out", tmp_path, package=installed)
    assert done.returncode == 0, done.stderr
    assert "onnx int8 on cpu, 1 threads, labels by NumPy" in done.stdout
    assert done.stderr.startswith("Labels are computed by NumPy, about ten times slower: ")
    assert "a C compiler and then fastscnn again." in done.stderr


def test_a_library_of_another_platform_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an installation was copied from another machine."""
    foreign = tmp_path / "lazy.so"
    foreign.write_bytes(b"\xcf\xfa\xed\xfe\x0c\x00\x00\x01")  # the first bytes of a library for macOS on ARM
    monkeypatch.setattr(native, "LIBRARY", foreign)
    monkeypatch.setattr(native, "KERNEL", kernels.load(native.Kernel, foreign))
    assert missing.slow_labels() == ("Labels are computed by NumPy, about ten times slower: lazy.so does not run here; "
                                     "install a wheel of fastscnn for this system, or a C compiler and then fastscnn again.")


def snapshot(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


@pytest.mark.slow
def test_a_run_needs_no_home_and_writes_nothing_into_the_installation(installed: Path, tmp_path: Path) -> None:
    """In a terminal of Windows that shows Western European letters only, too."""
    before = snapshot(installed)
    done = run("-m", "fastscnn", "demo", "--out", tmp_path / "größe 路", package=installed, PYTHONDONTWRITEBYTECODE="1",
               PYTHONIOENCODING="cp1252", LC_ALL="C.UTF-8")
    assert done.returncode == 0, done.stderr
    assert snapshot(installed) == before
    assert {path.name for path in (tmp_path / "größe 路").iterdir()} == {"scene.png", "scene.labels.png", "scene.overlay.jpg"}
    assert not [path for path in installed.parent.iterdir() if path != installed and path.suffix != ".whl"]


def pip(*words: object) -> subprocess.CompletedProcess[str]:
    """pip, without a network."""
    command = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", *map(str, words)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False, timeout=120)


def target(folder: Path, **options: str) -> list[object]:
    """The words of a download for another machine."""
    chosen = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    return ["download", "--no-index", "--no-deps", "--only-binary=:all:", "--dest", folder / "got", *chosen]


@pytest.mark.slow
def test_an_old_python_is_refused(pure: Path, metadata: Message, tmp_path: Path) -> None:
    assert metadata["Requires-Python"] == ">=3.11"
    done = pip(*target(tmp_path, python_version="3.10"), pure)
    assert done.returncode
    assert "requires a different Python: 3.10" in done.stderr
    assert "not in '>=3.11'" in done.stderr
    assert pip(*target(tmp_path, python_version="3.11"), pure).returncode == 0


@pytest.mark.slow
def test_a_wheel_of_another_platform_is_refused(tmp_path: Path) -> None:
    wheel = build(WheelBuilder, tmp_path, CC=python(FAKE), _PYTHON_HOST_PLATFORM="win-amd64")
    done = pip(*target(tmp_path, platform="manylinux2014_x86_64"), wheel)
    assert done.returncode
    assert "is not a supported wheel on this platform" in done.stderr
    assert pip(*target(tmp_path, platform="win_amd64"), wheel).returncode == 0


@pytest.mark.slow
def test_the_same_pythons_are_announced_built_and_tested(metadata: Message) -> None:
    known = [value.rpartition(" ")[2] for value in metadata.get_all("Classifier", []) if " :: Python :: 3." in value]
    assert known == ["3.11", "3.12", "3.13", "3.14"]
    configured: dict[str, Any] = PROJECT["tool"]["cibuildwheel"]
    assert configured["build"] == [f"cp{version.replace('.', '')}-*" for version in known]
    tested = Path(configured["test-command"].rpartition("/")[2])
    assert (ROOT / "tests" / tested).is_file()
