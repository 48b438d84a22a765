"""upsample: PyTorch's interpolation and argmax are the oracle."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.data import synthetic
from fastscnn.upsampling import upsample

EXAMPLES = settings(deadline=None, derandomize=True, max_examples=300)
KINDS = ("random", "constant", "pieces", "tied", "offset", "one hot")
LAYOUTS: dict[str, Callable[[Float32Array], Float32Array]] = {  # logits as they may lie in memory, by what was done to them
    "transposed": lambda logits: logits.transpose(0, 2, 1),
    "reversed": lambda logits: logits[::-1, ::-1, ::-1],
    "every second": lambda logits: logits[::2, ::2, ::2],
    "read-only": lambda logits: np.broadcast_to(logits[:, :1], logits.shape),
    "unaligned": lambda logits: np.frombuffer(b"?" + logits.tobytes(), np.float32, offset=1).reshape(logits.shape),
}


def interpolated(logits: Float32Array, size: tuple[int, int]) -> torch.Tensor:
    """[C, H, W] in float32, as PyTorch gives them."""
    batch = torch.from_numpy(np.array(logits, order="C"))[None]  # a copy: PyTorch takes no array that must not be written to
    return F.interpolate(batch, size=size, mode="bilinear", align_corners=False)[0]


def made(kind: str, shape: tuple[int, int, int], magnitude: float, seed: int) -> Float32Array:
    rng = np.random.default_rng(seed)
    classes, height, width = shape
    logits: npt.NDArray[Any] = rng.normal(size=shape)
    if kind == "constant":
        logits[:] = logits[:, :1, :1]
    elif kind == "pieces":  # few regions, each with one vector of logits
        logits = rng.normal(size=(classes, 3))[:, rng.integers(0, 3, (height // 3 + 1, width // 3 + 1))]
        logits = logits.repeat(3, axis=1).repeat(3, axis=2)[:, :height, :width]
    elif kind == "tied":
        logits = rng.integers(-1, 2, shape)
    elif kind == "offset":
        logits += 100
    elif kind == "one hot":
        logits = np.eye(classes)[rng.integers(0, classes, (height, width))].transpose(2, 0, 1)
    return (logits * magnitude).astype(np.float32)


def assert_labels(got: UInt8Array, logits: Float32Array, size: tuple[int, int]) -> None:
    """Every label is the oracle's, or that of a class which ties with it."""
    reference = interpolated(logits, size).numpy()
    assert got.shape == size
    assert got.dtype == np.uint8
    assert int(got.max()) < len(logits)
    top = np.sort(reference, axis=0)[::-1][:2]
    tolerance = 1e-5 * np.abs(logits).max()
    clear = np.full(size, True) if len(logits) == 1 else top[0] - top[1] > tolerance
    np.testing.assert_array_equal(got[clear], reference.argmax(axis=0)[clear])
    chosen = np.take_along_axis(reference, got[None].astype(np.int64), axis=0)[0]
    assert (chosen >= top[0] - tolerance).all(), "a tied pixel got a class that is not among the tied ones"


@EXAMPLES
@given(
    kind=st.sampled_from(KINDS),
    shape=st.tuples(*(st.integers(1, 12) for _ in range(3))),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    magnitude=st.sampled_from((1.0, 1e-30, 1e30)),
    seed=st.integers(0, 2**32 - 1),
)
@example(kind="random", shape=(255, 6, 7), size=(48, 50), magnitude=1.0, seed=0)
@example(kind="random", shape=(12, 12, 12), size=(5, 7), magnitude=1.0, seed=0)
@example(kind="random", shape=(12, 9, 9), size=(300, 290), magnitude=1.0, seed=0)  # more than one block of cells
def test_labels(kind: str, shape: tuple[int, int, int], size: tuple[int, int], magnitude: float, seed: int) -> None:
    logits = made(kind, shape, magnitude, seed)
    before = logits.copy()
    assert_labels(upsample.labels(logits, size), logits, size)
    np.testing.assert_array_equal(logits, before)


@EXAMPLES
@given(
    kind=st.sampled_from(KINDS),
    shape=st.tuples(*(st.integers(1, 12) for _ in range(3))),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    seed=st.integers(0, 2**32 - 1),
)
def test_confidence(kind: str, shape: tuple[int, int, int], size: tuple[int, int], seed: int) -> None:
    logits = made(kind, shape, 0.1 if kind == "offset" else 3.0, seed)  # 10 beside 1: 1e-5 is what float32 allows
    confidence = upsample.confidence_in_numpy(logits, size)
    assert confidence.shape == size
    assert confidence.dtype == np.float32
    expected = interpolated(logits, size).softmax(dim=0).amax(dim=0).numpy()
    np.testing.assert_allclose(confidence, expected, rtol=0, atol=1e-5)


@EXAMPLES
@given(
    kind=st.sampled_from(KINDS),
    classes=st.integers(1, 12),
    grids=st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=4),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    seed=st.integers(0, 2**32 - 1),
)
@example(kind="random", classes=12, grids=[(9, 9), (7, 12)], size=(300, 290), seed=0)  # more than one block of rows
@example(kind="random", classes=255, grids=[(6, 7)], size=(3, 300), seed=0)  # a row is more than a block
def test_probabilities(kind: str, classes: int, grids: list[tuple[int, int]], size: tuple[int, int], seed: int) -> None:
    magnitude = 0.1 if kind == "offset" else 3.0
    passes = [made(kind, (classes, *grid), magnitude, seed + index) for index, grid in enumerate(grids)]
    before = [logits.copy() for logits in passes]
    probabilities = upsample.probabilities(passes, size)
    assert probabilities.shape == (classes, *size)
    assert probabilities.dtype == np.float32
    expected = torch.stack([interpolated(logits, size).softmax(dim=0) for logits in passes]).mean(dim=0).numpy()
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-5)
    for logits, copy in zip(passes, before, strict=True):
        np.testing.assert_array_equal(logits, copy)


def test_probabilities_are_the_same_on_any_number_of_threads() -> None:
    passes = [made("random", (19, 30, 40), 1.0, seed) for seed in range(2)]
    one = upsample.probabilities(passes, (480, 320))  # twelve blocks of rows
    for threads in (2, 5):
        np.testing.assert_array_equal(upsample.probabilities(passes, (480, 320), threads), one)
    with pytest.raises(FastSCNNError, match="threads: must be at least 1, not 0"):
        upsample.probabilities(passes, (8, 8), 0)


@pytest.mark.parametrize("classes", [(), (2, 3)])
def test_passes_that_cannot_be_averaged(classes: tuple[int, ...]) -> None:
    with pytest.raises(FastSCNNError, match="passes: at least one is needed, and all must have the same number of classes"):
        upsample.probabilities([np.zeros((count, 2, 2), np.float32) for count in classes], (8, 8))


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (255, 7, 4)])
def test_argmax(shape: tuple[int, int, int]) -> None:
    planes = made("tied", shape, 1.0, 0)
    winner = upsample.argmax(planes)
    assert winner.dtype == np.uint8
    np.testing.assert_array_equal(winner, planes.argmax(axis=0))


@pytest.mark.parametrize("size", [(80, 96), (41, 59), (5, 7)])
@pytest.mark.parametrize("threshold", [-0.3, 1.2])
def test_ood_mask(size: tuple[int, int], threshold: float) -> None:
    logits = made("random", (6, 10, 12), 1.0, 0)
    best = interpolated(logits.max(axis=0, keepdims=True), size)[0].numpy()
    clear = np.abs(best - threshold) > 1e-5
    mask = upsample.ood_mask(logits, threshold, size)
    assert mask.dtype == np.bool_
    assert mask.shape == size
    np.testing.assert_array_equal(mask[clear], (best < threshold)[clear])
    assert mask.any() == (threshold > 0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_memory_layouts(layout: str) -> None:
    logits = LAYOUTS[layout](made("random", (6, 10, 12), 1.0, 0))
    assert_labels(upsample.labels(logits, (41, 59)), logits, (41, 59))


@pytest.mark.reliability("not-finite")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0, 0), (1, 2, 3), (2, 3, 3)])
def test_nan_and_infinity_are_refused(value: float, place: tuple[int, int, int]) -> None:
    logits = made("random", (3, 4, 4), 1.0, 0)
    logits[place] = value
    with pytest.raises(FastSCNNError, match="NaN or infinity"):
        upsample.labels(logits, (32, 32))
    with pytest.raises(FastSCNNError, match="NaN or infinity"):
        upsample.confidence(logits, (32, 32))
    with pytest.raises(FastSCNNError, match="NaN or infinity"):
        upsample.probabilities([np.zeros((3, 4, 4), np.float32), logits], (32, 32))


@pytest.mark.parametrize(
    "call",
    [
        upsample.labels,
        upsample.confidence,
        lambda logits, size: upsample.ood_mask(logits, 0.0, size),
        lambda logits, size: upsample.probabilities([logits], size),
    ],
)
@pytest.mark.parametrize(
    ("logits", "size", "message"),
    [
        (np.zeros((3, 4, 4)), (8, 8), "float64 \\[3, 4, 4\\]"),
        (np.zeros((3, 4, 4), np.float16), (8, 8), "float16"),
        (np.zeros((4, 4), np.float32), (8, 8), "\\[4, 4\\]"),
        (np.zeros((1, 3, 4, 4), np.float32), (8, 8), "\\[1, 3, 4, 4\\]"),
        (np.zeros((0, 4, 4), np.float32), (8, 8), "\\[0, 4, 4\\]"),
        (np.zeros((256, 2, 2), np.float32), (8, 8), "1 to 255 classes"),
        (np.zeros((3, 0, 4), np.float32), (8, 8), "\\[3, 0, 4\\]"),
        (np.zeros((3, 4, 4), np.float32), (0, 8), "size: height: must be at least 1, not 0"),
        (np.zeros((3, 4, 4), np.float32), (8, 8, 1), "height, width"),
        (np.zeros((3, 4, 4), np.float32), 8, "height, width"),
        (np.zeros((3, 4, 4), np.float32), "8x8", "height, width"),
        (np.zeros((3, 4, 4), np.float32), (8.0, 8), "size: height: must be a whole number, at least 1, not 8.0"),
        (np.zeros((3, 4, 4), np.float32), (8, True), "size: width: must be a whole number, at least 1, not True"),
    ],
)
def test_wrong_arguments(call: Any, logits: Any, size: Any, message: str) -> None:
    with pytest.raises(FastSCNNError, match=message):
        call(logits, size)


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from([float, np.float32, np.float64, str, lambda value: value + 0.5, lambda value: [value], lambda value: None]),
    st.sampled_from([0, 1]),
)
def test_a_refused_size_changes_no_later_result(size: tuple[int, int], wrong: Callable[[int], Any], place: int) -> None:
    """A cache takes 64.0 for 64, so that one call with a float used to hand floats to the C code ever after."""
    logits = made("random", (3, 4, 5), 1.0, 7)
    refused: list[Any] = [*size]
    refused[place] = wrong(refused[place])
    upsample._axis.cache_clear()
    for call in (upsample.labels, upsample.labels_in_numpy, upsample.confidence, upsample.confidence_in_numpy):
        with pytest.raises(ArgumentError, match=r"size: .* must be a whole number"):
            call(logits, tuple(refused))
    with pytest.raises(ArgumentError, match="must be a whole number"):
        upsample.axis(4, refused[place])
    np.testing.assert_array_equal(upsample.labels(logits, size), upsample.labels_in_numpy(logits, size))
    same: Any = (np.int64(size[0]), np.uint16(size[1]))
    np.testing.assert_array_equal(upsample.labels(logits, same), upsample.labels(logits, size))
    assert {array.dtype for array in vars(upsample.axis(5, size[1])).values()} == {np.dtype(np.int64), np.dtype(np.float32)}


@pytest.mark.parametrize("threads", [1.0, True, None, "2"])
def test_wrong_threads(threads: Any) -> None:
    with pytest.raises(ArgumentError, match="threads: must be a whole number"):
        upsample.labels(np.zeros((3, 4, 4), np.float32), (8, 8), threads)


@pytest.mark.slow
def test_speed_on_a_street() -> None:
    """At 1024x2048 and 19 classes: ten times as fast as PyTorch's interpolation and argmax on two threads, same labels."""
    size, rng = (1024, 2048), np.random.default_rng(0)
    street = torch.from_numpy(synthetic.draw(128, 256).labels.astype(np.int64))
    planes = F.one_hot(street, 19).permute(2, 0, 1).float()[None]
    soft = F.avg_pool2d(planes, 3, stride=1, padding=1)[0].numpy()  # borders that fade over three cells, as a network's do
    logits = (6 * soft + rng.normal(scale=0.3, size=soft.shape)).astype(np.float32)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        ours, theirs = [], []
        for _ in range(7):
            start = perf_counter()
            labels = upsample.labels(logits, size)
            ours.append(perf_counter() - start)
            start = perf_counter()
            interpolated(logits, size).argmax(dim=0)
            theirs.append(perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    assert_labels(labels, logits, size)
    assert median(theirs) >= 10 * median(ours), f"{1e3 * median(ours):.1f} ms against {1e3 * median(theirs):.1f} ms"
