"""kernel: the NumPy form of the labels is the oracle, PyTorch's interpolation and argmax another."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import pytest
from hatchling.builders.wheel import WheelBuilder
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_upsample import KINDS, LAYOUTS, assert_labels, made

from fastscnn.base import kernels
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.data import synthetic
from fastscnn.upsampling import native, upsample

ROOT = Path(__file__).parent.parent
EXAMPLES = settings(deadline=None, derandomize=True, max_examples=300)
SIZES = st.tuples(st.integers(1, 60), st.integers(1, 60))


def wheel(folder: Path, compiler: str, root: Path = ROOT) -> Path:
    """The package as a wheel holds it, unpacked below `folder`; the wheel lies in `folder`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CC", compiler)
        built = Path(next(iter(WheelBuilder(str(root)).build(directory=str(folder), versions=["standard"]))))
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this very source, whatever is installed, made with the system's compiler."""
    compiler = os.environ.get("CC", "cc")
    if shutil.which(shlex.split(compiler)[0]) is None:
        pytest.skip(f"no C compiler: {compiler}")
    return wheel(tmp_path_factory.mktemp("wheel"), compiler)


@pytest.fixture(scope="module")
def compiled(unpacked: Path) -> native.Kernel:
    return native.Kernel(unpacked / "fastscnn" / "upsampling" / f"lazy{kernels.SUFFIX}")


def labelled(by: native.Kernel | None, logits: Float32Array, size: tuple[int, int], threads: int = 1) -> UInt8Array:
    """What `upsample.labels` gives with a kernel, or without, where every image is worth several threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "KERNEL", by)
        patch.setattr(native, "PIXELS_PER_THREAD", 1)
        return upsample.labels(logits, size, threads)


def smooth(shape: tuple[int, int, int], seed: int) -> Float32Array:
    """Logits that vary as a network's do: few borders, and some corners where three classes and more meet."""
    classes, height, width = shape
    rng = np.random.default_rng(seed)
    y, x = np.arange(height)[:, None] / 5, np.arange(width) / 5
    waves = [np.sin(rng.normal() * y + rng.normal() * x + rng.uniform(0, 6)) for _ in range(classes)]
    return np.stack(waves).astype(np.float32)


@EXAMPLES
@given(
    kind=st.sampled_from((*KINDS, "smooth")),
    shape=st.tuples(st.one_of(st.integers(1, 25), st.integers(1, 255)), st.integers(1, 25), st.integers(1, 40)),
    size=SIZES,
    threads=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
@example(kind="random", shape=(19, 33, 65), size=(264, 520), threads=2, seed=0)
@example(kind="random", shape=(255, 6, 7), size=(48, 50), threads=3, seed=0)
@example(kind="random", shape=(12, 25, 40), size=(5, 7), threads=3, seed=0)
@example(kind="random", shape=(7, 3, 2), size=(300, 290), threads=2, seed=0)  # cells of many chunks
@example(kind="random", shape=(3, 1, 1), size=(1, 1), threads=3, seed=0)
def test_the_kernel_equals_numpy(
    compiled: native.Kernel, kind: str, shape: tuple[int, int, int], size: tuple[int, int], threads: int, seed: int
) -> None:
    """On every pixel, those where classes tie included: both compute the same values and try the classes in one order."""
    logits = smooth(shape, seed) if kind == "smooth" else made(kind, shape, 1.0, seed)
    before = logits.copy()
    np.testing.assert_array_equal(labelled(compiled, logits, size, threads), upsample.labels_in_numpy(logits, size))
    np.testing.assert_array_equal(logits, before)


@EXAMPLES
@given(
    kind=st.sampled_from((*KINDS, "smooth")),
    shape=st.tuples(st.one_of(st.integers(1, 25), st.integers(1, 255)), st.integers(1, 25), st.integers(1, 40)),
    size=SIZES,
    magnitude=st.sampled_from((0.1, 1.0, 5.0, 200.0)),
    threads=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
@example(kind="random", shape=(19, 33, 65), size=(264, 520), magnitude=3.0, threads=2, seed=0)
@example(kind="smooth", shape=(19, 45, 60), size=(270, 480), magnitude=5.0, threads=2, seed=0)
@example(kind="random", shape=(7, 3, 2), size=(300, 290), magnitude=5.0, threads=2, seed=0)  # tall cells of many factors
@example(kind="random", shape=(7, 2, 3), size=(3, 9), magnitude=5.0, threads=1, seed=0)  # odd: pixels on the logits
@example(kind="random", shape=(4, 6, 7), size=(48, 56), magnitude=200.0, threads=1, seed=0)  # powers outside of float32
def test_the_confidence_of_the_kernel(
    compiled: native.Kernel,
    kind: str,
    shape: tuple[int, int, int],
    size: tuple[int, int],
    magnitude: float,
    threads: int,
    seed: int,
) -> None:
    logits = magnitude * (smooth(shape, seed) if kind == "smooth" else made(kind, shape, 1.0, seed))
    exact = upsample.confidence_in_numpy(logits, size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "KERNEL", compiled)
        patch.setattr(native, "PIXELS_PER_THREAD", 1)
        given_ = upsample.confidence(logits, size, threads)
    assert given_.dtype == np.float32
    above = given_ - exact
    assert above.min() > -2e-5
    assert above.max() < 3.4e-4 * (shape[0] - 1) + 2e-5  # what the classes left out could add


@pytest.mark.parametrize("compiled_form", [True, False])
def test_logits_as_large_as_floats_have_a_confidence(
    compiled_form: bool, compiled: native.Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = np.where(made("random", (4, 6, 7), 1.0, 0) > 0, np.float32(1e38), np.float32(-1e38))
    monkeypatch.setattr(native, "KERNEL", compiled if compiled_form else None)
    result = upsample.confidence(logits, (48, 56))
    assert ((result > 0) & (result <= 1)).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_kernel_rounds_as_numpy(compiled: native.Kernel, seed: int) -> None:
    """Where two classes are nearly tied on every pixel, a product that is not rounded before it is added shows."""
    shape = (2, 60, 60)
    logits = np.random.default_rng(seed).normal(size=(1, *shape[1:])).astype(np.float32).repeat(2, axis=0)
    logits[1] = np.nextafter(logits[0], np.where(np.random.default_rng(seed).random(shape[1:]) < 0.5, -9, 9).astype(np.float32))
    np.testing.assert_array_equal(labelled(compiled, logits, (480, 480)), upsample.labels_in_numpy(logits, (480, 480)))


@pytest.mark.parametrize("compiled_form", [True, False])
@EXAMPLES
@given(
    kind=st.sampled_from(KINDS),
    shape=st.tuples(*(st.integers(1, 12) for _ in range(3))),
    size=SIZES,
    magnitude=st.sampled_from((1.0, 1e-30, 1e30)),
    seed=st.integers(0, 2**32 - 1),
)
@example(kind="random", shape=(255, 6, 7), size=(48, 50), magnitude=1.0, seed=0)
@example(kind="random", shape=(12, 9, 9), size=(300, 290), magnitude=1.0, seed=0)  # more than one block of NumPy's cells
def test_both_forms_equal_interpolation_and_argmax(
    compiled_form: bool,
    compiled: native.Kernel,
    kind: str,
    shape: tuple[int, int, int],
    size: tuple[int, int],
    magnitude: float,
    seed: int,
) -> None:
    """On every pixel whose two best classes differ by more than rounding; on others, one of those that tie."""
    logits = made(kind, shape, magnitude, seed)
    assert_labels(labelled(compiled if compiled_form else None, logits, size), logits, size)


@pytest.mark.parametrize("compiled_form", [True, False])
@EXAMPLES
@given(
    value=st.sampled_from((np.nan, np.inf, -np.inf)),
    shape=st.tuples(st.integers(1, 20), st.integers(1, 30), st.integers(1, 30)),
    size=SIZES,
    threads=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_nan_and_infinity_anywhere_are_refused(
    compiled_form: bool,
    compiled: native.Kernel,
    value: float,
    shape: tuple[int, int, int],
    size: tuple[int, int],
    threads: int,
    seed: int,
) -> None:
    """Also in rows and columns that no label of a smaller image looks at."""
    logits = made("random", shape, 1.0, seed)
    logits[tuple(np.random.default_rng(seed).integers(0, shape))] = value
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "KERNEL", compiled if compiled_form else None)
        patch.setattr(native, "PIXELS_PER_THREAD", 1)
        for function in (upsample.labels, upsample.confidence):
            with pytest.raises(FastSCNNError, match="NaN or infinity"):
                function(logits, size, threads)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_memory_layouts(compiled: native.Kernel, layout: str) -> None:
    logits = LAYOUTS[layout](made("random", (6, 10, 12), 1.0, 0))
    expected = upsample.labels_in_numpy(np.ascontiguousarray(logits), (41, 59))
    np.testing.assert_array_equal(labelled(compiled, logits, (41, 59)), expected)


@pytest.mark.parametrize("compiled_form", [True, False])
@pytest.mark.parametrize(
    ("logits", "size", "threads", "message"),
    [
        (np.zeros((3, 4, 4)), (8, 8), 1, "float64 \\[3, 4, 4\\]"),
        (np.zeros((4, 4), np.float32), (8, 8), 1, "\\[4, 4\\]"),
        (np.zeros((256, 2, 2), np.float32), (8, 8), 1, "1 to 255 classes"),
        (np.zeros((3, 0, 4), np.float32), (8, 8), 1, "\\[3, 0, 4\\]"),
        (np.zeros((3, 4, 4), np.float32).astype(">f4"), (8, 8), 1, ">f4 \\[3, 4, 4\\]|float32 \\[3, 4, 4\\]"),
        (np.zeros((3, 4, 4), np.float32), (0, 8), 1, "size: height: must be at least 1, not 0"),
        (np.zeros((3, 4, 4), np.float32), (8, 8), 0, "threads: must be at least 1, not 0"),
    ],
)
def test_wrong_arguments(
    compiled_form: bool, compiled: native.Kernel, logits: Float32Array, size: tuple[int, int], threads: int, message: str
) -> None:
    with pytest.raises(FastSCNNError, match=message):
        labelled(compiled if compiled_form else None, logits, size, threads)


def test_a_size_beyond_the_kernel_is_refused(compiled: native.Kernel) -> None:
    with pytest.raises(FastSCNNError, match="each side must be below 2147483648, not \\[2147483648, 1\\]"):
        labelled(compiled, np.zeros((1, 1, 1), np.float32), (2**31, 1))


@pytest.mark.parametrize(
    ("size", "threads", "helpers"), [((1024, 2048), 1, 0), ((1024, 2048), 2, 1), ((1024, 2048), 3, 2), ((360, 480), 3, 0)]
)
def test_threads_work_where_that_pays(
    compiled: native.Kernel, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], threads: int, helpers: int
) -> None:
    logits, asked, submit = smooth((5, size[0] // 8, size[1] // 8), 0), list[Callable[[], None]](), ThreadPoolExecutor.submit

    def counted(pool: ThreadPoolExecutor, work: Callable[[], None]) -> Future[None]:
        asked.append(work)
        return submit(pool, work)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", counted)
    monkeypatch.setattr(native, "KERNEL", compiled)
    np.testing.assert_array_equal(upsample.labels(logits, size, threads), upsample.labels_in_numpy(logits, size))
    assert len(asked) == helpers


def test_images_labelled_at_once(compiled: native.Kernel) -> None:
    """More callers, and more threads asked for, than there are processors: none waits for another's strips forever."""
    images = [made("random", (7, 20, 30), 1.0, seed) for seed in range(40)]
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(8) as callers:
        patch.setattr(native, "KERNEL", compiled)
        patch.setattr(native, "PIXELS_PER_THREAD", 1)
        results = list(callers.map(lambda logits: upsample.labels(logits, (160, 240), 50), images))
    for logits, result in zip(images, results, strict=True):
        np.testing.assert_array_equal(result, upsample.labels_in_numpy(logits, (160, 240)))


def test_a_failed_allocation_is_said(compiled: native.Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_labels", lambda *_: 2)
    with pytest.raises(MemoryError):
        labelled(compiled, made("random", (3, 4, 4), 1.0, 0), (32, 32))


def run(package: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Python code, with the package of a folder."""
    environment = {**os.environ, "PYTHONPATH": str(package)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


USE = """
import sys, numpy as np
from fastscnn.upsampling import native, upsample
assert native.__file__.startswith(sys.path[1]), native.__file__
logits = np.random.default_rng(0).normal(size=(19, 128, 256)).astype(np.float32)
"""
FORK = """
import os, signal, threading
upsample.labels(logits, (1024, 2048), 2)
child = os.fork()
if child == 0:
    signal.alarm(20)
    same = (upsample.labels(logits, (1024, 2048), 2) == upsample.labels(logits, (1024, 2048))).all()
    own = [thread for thread in threading.enumerate() if thread.name.startswith("fastscnn-labels")]
    os._exit(0 if same and own else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
COUNT = """
asked, labels = [], native.Kernel.labels
native.Kernel.labels = lambda *arguments: asked.append(1) or labels(*arguments)
result = upsample.labels(logits, (1024, 2048))
assert (result == upsample.labels_in_numpy(logits, (1024, 2048))).all()
print(len(asked), native.KERNEL is None)
"""


def test_a_wheel_holds_the_kernel_once_and_uses_it(unpacked: Path) -> None:
    (file,) = unpacked.parent.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        libraries = sorted(name for name in archive.namelist() if name.endswith(kernels.SUFFIX))
        assert libraries == [f"fastscnn/{name}{kernels.SUFFIX}" for name in ("media/paint", "media/shrink", "upsampling/lazy")]
    facts = next(unpacked.glob("*.dist-info/WHEEL")).read_text()
    assert "Root-Is-Purelib: false" in facts
    assert "Tag: py3-none-" in facts
    assert "none-any" not in facts
    done = run(unpacked, USE + COUNT)
    assert (done.stdout, done.stderr) == ("1 False\n", "")


@pytest.mark.slow
def test_wheels_of_equal_sources_have_equal_bytes(unpacked: Path, tmp_path: Path) -> None:
    """Built in another folder, at another time, from files with other time stamps."""
    root = tmp_path / "another folder"
    shutil.copytree(ROOT / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__", f"*{kernels.SUFFIX}"),
                    copy_function=shutil.copy)
    for name in (".gitignore", "hatch_build.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, root)
    wheel(tmp_path, os.environ.get("CC", "cc"), root)
    (one,), (other,) = unpacked.parent.glob("*.whl"), tmp_path.glob("*.whl")
    assert one.name == other.name
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.slow
def test_without_a_compiler_the_wheel_is_pure_and_labels_in_numpy(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pure = wheel(tmp_path, f"{shlex.quote(sys.executable)} -c 1/0")
    assert f"without lazy{kernels.SUFFIX}" in capfd.readouterr().err
    (file,) = tmp_path.glob("*.whl")
    assert file.name.endswith("-py3-none-any.whl")
    assert not list(pure.rglob(f"*{kernels.SUFFIX}"))
    assert "Root-Is-Purelib: true" in next(pure.glob("*.dist-info/WHEEL")).read_text()
    done = run(pure, USE + COUNT)
    assert (done.stdout, done.stderr) == ("0 True\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_has_threads_of_its_own(unpacked: Path) -> None:
    done = run(unpacked, USE + FORK)
    assert done.returncode == 0, done.stderr


def test_this_installation_uses_the_kernel(unpacked: Path) -> None:
    """`unpacked` skips this where there is no compiler."""
    try:
        metadata.distribution("fastscnn")
    except metadata.PackageNotFoundError:
        pytest.skip("not installed but run from src: only an installation compiles the kernel")
    assert native.KERNEL is not None, "installed without the kernel: pip install -v -e . says why"


@pytest.mark.parametrize("name", ["missing.so", "text.so", "other.so"])
def test_what_is_no_kernel_of_this_version_is_not_used(unpacked: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "text.so").write_text("no library")
    library = (unpacked / "fastscnn" / "upsampling" / f"lazy{kernels.SUFFIX}").read_bytes()
    (tmp_path / "other.so").write_bytes(library.replace(b"fastscnn_labels", b"fastscnn_levels"))
    assert kernels.load(native.Kernel, tmp_path / name) is None


@pytest.mark.slow
def test_speed_on_a_street(compiled: native.Kernel) -> None:
    """At 1024x2048 and 19 classes, on one thread: four times as fast as NumPy."""
    street = synthetic.draw(128, 256).labels
    planes = np.eye(19)[street].transpose(2, 0, 1)
    noise = np.random.default_rng(0).normal(scale=0.3, size=planes.shape)
    soft = sum(np.roll(planes, (y, x), (1, 2)) for y in (-1, 0, 1) for x in (-1, 0, 1)) / 9
    logits = (6 * soft + noise).astype(np.float32)
    times: dict[native.Kernel | None, list[float]] = {compiled: [], None: []}
    for _ in range(9):
        for form, taken in times.items():
            start = perf_counter()
            labelled(form, logits, (1024, 2048))
            taken.append(perf_counter() - start)
    ours, theirs = median(times[compiled]), median(times[None])
    assert theirs >= 4 * ours, f"{1e3 * ours:.1f} ms against {1e3 * theirs:.1f} ms"
