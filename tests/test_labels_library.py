"""The labels library in C, compiled as its users compile it: the NumPy form of the labels is the oracle."""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import fastscnn
from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.upsampling import upsample

SOURCE = Path(fastscnn.__file__).parent / "upsampling" / "lazy.c"
OK, NOT_FINITE, NO_MEMORY, WRONG_ARGUMENT = range(4)
SIZES = [
    ((11, 45, 60), (360, 480)), ((19, 7, 9), (53, 71)), ((2, 1, 1), (5, 3)), ((255, 6, 5), (41, 47)), ((3, 30, 41), (7, 5)),
    ((1, 4, 4), (32, 32)),
]
USE = r"""
#include "fastscnn_labels.h"
#include <cstdio>
#include <vector>
int main() {
  const std::vector<float> logits{0, 1, 1, 0};  // two classes, 1x2
  std::vector<uint8_t> labels(6);
  const int status = fastscnn_labels(logits.data(), 2, 1, 2, 2, 3, 0, 1, labels.data());
  for (const int label : labels) std::printf("%d", label);
  return status == FASTSCNN_OK ? 0 : 1;
}
"""


def compiler(variable: str, name: str) -> list[str]:
    """The command of the system's compiler; skips the test without one."""
    command = shlex.split(os.environ.get(variable, name))
    if shutil.which(command[0]) is None:
        pytest.skip(f"no compiler: {shlex.join(command)}")
    return command


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """With fused operations, by GCC's default, so that the source itself must prevent them; for this very processor."""
    path = tmp_path_factory.mktemp("library") / "libfastscnn_labels.so"
    flags = ("-O3", "-march=native", "-shared", "-fPIC")
    subprocess.run([*compiler("CC", "cc"), *flags, "-o", str(path), str(SOURCE)], check=True)
    return ctypes.CDLL(str(path))


def call(function: Callable[..., int], logits: Float32Array | None, result: UInt8Array | Float32Array | None,
         numbers: tuple[int, ...]) -> int:
    """Call a function of the library: numbers are classes, height, width, out_height, out_width, part, parts."""
    pointers = [ctypes.c_void_p(None if array is None else array.ctypes.data) for array in (logits, result)]
    return function(pointers[0], *map(ctypes.c_int64, numbers), pointers[1])


def made(kind: str, shape: tuple[int, int, int]) -> Float32Array:
    rng = np.random.default_rng(sum(shape))
    logits = rng.normal(size=shape).astype(np.float32)
    if kind == "nearly tied":  # shows products that are not rounded before they are added
        logits = logits[:1].repeat(shape[0], axis=0)
        return np.nextafter(logits, np.where(rng.random(shape) < 0.5, -9, 9).astype(np.float32))
    return logits if kind == "random" else np.round(logits)


@pytest.mark.parametrize("kind", ["random", "tied", "nearly tied"])
@pytest.mark.parametrize(("shape", "size"), SIZES)
@pytest.mark.parametrize("parts", [1, 3, 1000])
def test_labels_equal_pythons(
    library: ctypes.CDLL, kind: str, shape: tuple[int, int, int], size: tuple[int, int], parts: int
) -> None:
    logits, labels = made(kind, shape), np.full(size, 255, np.uint8)

    def fill(part: int) -> int:
        return call(library.fastscnn_labels, logits, labels, (*shape, *size, part, parts))

    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(fill, reversed(range(parts)))) == {OK}
    np.testing.assert_array_equal(labels, upsample.labels_in_numpy(logits, size))
    np.testing.assert_array_equal(labels, upsample.labels(logits, size))


def test_labels_at_full_size_equal_pythons(library: ctypes.CDLL) -> None:
    logits, labels = made("nearly tied", (2, 128, 256)), np.empty((1024, 2048), np.uint8)
    assert call(library.fastscnn_labels, logits, labels, (2, 128, 256, 1024, 2048, 0, 1)) == OK
    np.testing.assert_array_equal(labels, upsample.labels_in_numpy(logits, labels.shape))


@pytest.mark.parametrize(("shape", "size"), SIZES)
@pytest.mark.parametrize("parts", [1, 3])
def test_confidence_equals_pythons(
    library: ctypes.CDLL, shape: tuple[int, int, int], size: tuple[int, int], parts: int
) -> None:
    logits, confidence = 5 * made("random", shape), np.empty(size, np.float32)
    for part in range(parts):
        assert call(library.fastscnn_confidence, logits, confidence, (*shape, *size, part, parts)) == OK
    above = confidence - upsample.confidence_in_numpy(logits, size)
    assert above.min() > -2e-5
    assert above.max() < 3.4e-4 * (shape[0] - 1) + 2e-5


@pytest.mark.parametrize("name", ["fastscnn_labels", "fastscnn_confidence"])
@pytest.mark.parametrize(
    ("place", "values"),
    [
        (0, (-1, 0, 256, 2**62)),  # classes
        *((place, (-1, 0, 2**31, 2**62)) for place in (1, 2, 3, 4)),  # sides
        (5, (-1, 2, 2**62)),  # part
        (6, (-1, 0, 2**31, 2**62)),  # parts
    ],
)
def test_wrong_numbers(library: ctypes.CDLL, name: str, place: int, values: tuple[int, ...]) -> None:
    """They are refused before an array is read or written."""
    for value in values:
        numbers = [3, 4, 5, 6, 7, 0, 2]
        numbers[place] = value
        logits, result = np.full((3, 4, 5), np.nan, np.float32), np.full((6, 7), 9, np.float32)
        assert call(getattr(library, name), logits, result, tuple(numbers)) == WRONG_ARGUMENT
        assert (result == 9).all()


@pytest.mark.parametrize("numbers", [(255, 2**31 - 1, 2**31 - 1, 8, 8, 0, 1), (1, 2, 2, 2**31 - 1, 2**31 - 1, 0, 1)])
def test_arrays_larger_than_memory_can_be(library: ctypes.CDLL, numbers: tuple[int, ...]) -> None:
    logits, labels = np.zeros((1, 2, 2), np.float32), np.zeros((8, 8), np.uint8)
    assert call(library.fastscnn_labels, logits, labels, numbers) == WRONG_ARGUMENT


@pytest.mark.parametrize("name", ["fastscnn_labels", "fastscnn_confidence"])
def test_null_pointers(library: ctypes.CDLL, name: str) -> None:
    logits, result = np.zeros((3, 4, 5), np.float32), np.full((6, 7), 9, np.float32)
    numbers = (3, 4, 5, 6, 7, 0, 1)
    assert call(getattr(library, name), None, result, numbers) == WRONG_ARGUMENT
    assert call(getattr(library, name), logits, None, numbers) == WRONG_ARGUMENT
    assert (result == 9).all()


@pytest.mark.parametrize("name", ["fastscnn_labels", "fastscnn_confidence"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [(32, 40), (2, 2)])
def test_logits_that_are_not_finite(library: ctypes.CDLL, name: str, value: float, size: tuple[int, int]) -> None:
    """One part of three finds them, wherever they are; also in rows that no pixel of a small result needs."""
    for place in np.ndindex(3, 4, 5):
        logits, result = np.zeros((3, 4, 5), np.float32), np.zeros(size, np.float32)
        logits[place] = value
        found = {call(getattr(library, name), logits, result, (3, 4, 5, *size, part, 3)) for part in range(3)}
        assert NOT_FINITE in found
        assert found <= {OK, NOT_FINITE}


def test_the_header_in_cpp(tmp_path: Path) -> None:
    (tmp_path / "use.cpp").write_text(USE)
    strict = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")
    command = [*compiler("CC", "cc"), "-std=c11", *strict, "-O3", "-c", "-o", "lazy.o", str(SOURCE)]
    subprocess.run(command, cwd=tmp_path, check=True)
    command = [*compiler("CXX", "c++"), "-std=c++11", *strict, f"-I{SOURCE.parent}", "-o", "use", "use.cpp", "lazy.o"]
    subprocess.run(command, cwd=tmp_path, check=True)
    done = subprocess.run(["./use"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "100100")


def test_fast_math_is_refused(tmp_path: Path) -> None:
    """Its code would not find NaN."""
    command = [*compiler("CC", "cc"), "-O3", "-ffast-math", "-c", "-o", "lazy.o", str(SOURCE)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "Compile without -ffast-math" in done.stderr


@pytest.mark.slow
def test_64_bit_arm_computes_the_same_bytes() -> None:
    """All kernels, under emulation: ARM fuses multiplication and addition unless the sources prevent it."""
    script = Path(__file__).parents[1] / ".ci" / "aarch64"
    for tool in (compiler("CC", "cc")[0], "bash", "aarch64-linux-gnu-gcc", "qemu-aarch64", str(script)):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is missing")
    done = subprocess.run([script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "bytes of results are equal" in done.stdout
