"""The CUDA backend: its code on the CPU, its kernel interpreted by Triton, and, where there is one, on a GPU."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastscnn import backends
from fastscnn.backends import Backend
from fastscnn.backends.cuda import backend as cuda
from fastscnn.backends.cuda import labels_torch
from fastscnn.backends.cuda.backend import CudaBackend
from fastscnn.backends.cuda.streams import Streams, Work, settings
from fastscnn.backends.torch import TorchBackend
from fastscnn.base import machine
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.data import synthetic
from fastscnn.model.card import Card
from fastscnn.model.weights import bundled
from fastscnn.network import checkpoint
from fastscnn.network.fast_scnn import FastSCNN
from fastscnn.network.fuse import FusedNetwork
from fastscnn.upsampling import upsample

HOST = torch.device("cpu")
CASES = [  # classes, inputs, pixels: by 8, by 8 not quite, by 2.7, at their own size, fewer; one class, one input
    (11, (6, 10), (48, 80)), (19, (9, 13), (72, 104)), (20, (5, 7), (37, 53)), (3, (8, 8), (22, 21)), (2, (4, 6), (4, 6)),
    (7, (16, 24), (5, 9)), (1, (4, 4), (32, 32)), (5, (1, 1), (9, 9)), (4, (4, 40), (33, 320)), (6, (7, 5), (200, 201)),
]  # fmt: skip

on_gpu = pytest.mark.skipif(not CudaBackend.available(), reason="needs an NVIDIA GPU")
with_triton = pytest.mark.skipif(find_spec("triton") is None, reason="needs triton, which comes with PyTorch for CUDA")


def network(channels: int = 3, variant: str = "paper", classes: int = 5) -> FastSCNN:
    """A network whose batch norms do something, as after a training."""
    torch.manual_seed(0)
    model = FastSCNN(classes, channels, variant, auxiliary=True, reparam_branches=True).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in ((module.weight, 0.5, 1.5), (module.bias, -0.5, 0.5),
                                      (module.running_mean, -0.5, 0.5), (module.running_var, 0.5, 2.0)):
                assert tensor is not None
                nn.init.uniform_(tensor, low, high)
    return model


def noise(*shape: int) -> UInt8Array:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape).astype(np.uint8)


def smooth(classes: int, inputs: tuple[int, int], seed: int = 0) -> Float32Array:
    """Logits with regions: cells that agree, and borders."""
    steps = np.random.default_rng(seed).normal(size=(classes, *inputs))
    return np.cumsum(np.cumsum(steps, axis=1), axis=2).astype(np.float32)


def ties(got: UInt8Array, expected: UInt8Array, logits: Float32Array, tolerance: float = 1e-5) -> int:
    """How many labels differ; each must be that of a class which nearly ties with the best."""
    assert got.dtype == np.uint8
    assert got.shape == expected.shape
    full = F.interpolate(torch.from_numpy(logits.copy())[None], size=got.shape, mode="bilinear")[0].numpy()
    chosen = np.take_along_axis(full, got[None].astype(np.int64), axis=0)[0]
    assert (chosen >= full.max(axis=0) - tolerance * np.abs(logits).max()).all()
    return int((got != expected).sum())


@pytest.fixture(scope="module")
def street() -> tuple[FastSCNN, Card]:
    """The bundled weights."""
    return checkpoint.load(bundled("torch"))


@pytest.fixture(scope="module")
def frames() -> list[UInt8Array]:
    return [synthetic.draw(96, 128, seed).image for seed in range(5)]


@pytest.fixture
def host(street: tuple[FastSCNN, Card]) -> CudaBackend:
    """The backend on the CPU."""
    return CudaBackend(*street, "float32", "cpu")


# The network


@pytest.mark.parametrize(
    ("channels", "variant", "size"),
    [(3, "paper", (64, 96)), (1, "mmseg", (33, 47)), (4, "paper", (70, 32)), (3, "mmseg", (96, 65))],
)
def test_the_fused_network_computes_the_same(channels: int, variant: str, size: tuple[int, int]) -> None:
    model = network(channels, variant)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images = torch.from_numpy(noise(2, *size, channels))
    fast = FusedNetwork(model)
    with torch.inference_mode():
        expected = model(images)
        got = fast(images, fast.pooling_matrix(*size))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(("dtype", "most"), [(torch.float16, 0.01), (torch.bfloat16, 0.05)])
def test_the_fused_network_in_half_precision(street: tuple[FastSCNN, Card], frames: list[UInt8Array], dtype: torch.dtype,
                                              most: float) -> None:
    fast, image = FusedNetwork(street[0], dtype), torch.from_numpy(frames[0][None])
    with torch.inference_mode():
        expected, got = street[0](image), fast(image, fast.pooling_matrix(96, 128))
    assert got.dtype == dtype
    assert float((got.float() - expected).abs().max() / expected.abs().max()) < most


@pytest.mark.parametrize("size", [(32, 32), (96, 128), (225, 417)])
def test_the_pooling_matrix_is_adaptive_pooling(size: tuple[int, int]) -> None:
    inputs = (-(-size[0] // 32), -(-size[1] // 32))
    x = torch.randn(1, 4, *inputs)
    expected = torch.cat([F.adaptive_avg_pool2d(x, bins).flatten(2) for bins in (1, 2, 3, 6)], dim=2)
    pooling = FusedNetwork(network()).pooling_matrix(*size)
    torch.testing.assert_close((pooling @ x.flatten(2).transpose(1, 2)).transpose(1, 2), expected)


# The labels


@pytest.mark.parametrize(("classes", "inputs", "size"), CASES)
@pytest.mark.parametrize("block", [1, 1 << 24])
def test_labels_in_plain_torch(classes: int, inputs: tuple[int, int], size: tuple[int, int], block: int,
                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels_torch, "BLOCK", block)
    logits = smooth(classes, inputs)
    labels = torch.full(size, 255, dtype=torch.uint8)
    rows, columns = (labels_torch.axis(*ends, HOST) for ends in zip(inputs, size, strict=True))
    labels_torch.fill(torch.from_numpy(logits), rows, columns, labels)
    assert ties(labels.numpy(), upsample.labels(logits, size), logits) <= 1


INTERPRETED = """
import pathlib, sys
import numpy as np, torch
sys.path.insert(0, sys.argv[1])
from test_cuda import CASES, HOST, checkpoint, bundled, smooth, synthetic, ties
from fastscnn.upsampling import upsample
from fastscnn.backends.cuda import labels_torch, labels_triton
from fastscnn.backends.cuda.backend import CudaBackend
found = 0
for classes, inputs, size in CASES:
    for dtype in (torch.float32, torch.float16):
        for rough in (False, True):
            logits = smooth(classes, inputs)
            if rough:
                logits = np.random.default_rng(0).normal(size=logits.shape).astype(np.float32)
            kept = torch.from_numpy(logits).to(dtype)
            logits = kept.float().numpy()
            labels = torch.full((size[0] + 1, size[1]), 255, dtype=torch.uint8)
            rows, columns = (labels_torch.axis(*ends, HOST) for ends in zip(inputs, size))
            order = kept.permute(1, 2, 0).contiguous().permute(2, 0, 1) if rough else kept  # any strides will do
            labels_triton.fill(order, rows, columns, labels[:-1])
            assert (labels[-1] == 255).all(), "written past the end"
            found += ties(labels[:-1].numpy(), upsample.labels(logits, size), logits)
backend = CudaBackend(*checkpoint.load(bundled("torch")), "float32", "cpu")
backend._fill = labels_triton.fill
image = synthetic.draw(96, 128).image
logits = backend(image[None])[0]
found += ties(backend.labels(image, (200, 301)), upsample.labels(logits, (200, 301)), logits)
print(found)
"""

COMPILED = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
import triton
from fastscnn.backends.cuda.labels_triton import _fill
names = _fill.arg_names
pointers = {"row_low": "*i32", "row_weight": "*fp32", "column_low": "*i32", "column_weight": "*fp32", "labels": "*u8"}
for card, dtype in ((75, "fp16"), (80, "bf16"), (90, "fp16"), (90, "fp32")):
    for corners, more in (((4, 8), {}), ((0, 0), {}), ((4, 8), {"inputs_down": 1, "inputs_right": 1})):
        known = {"stride_right": 1, "classes": 19, "tall": 16, "wide": 32, **more}
        known |= {"corners_down": corners[0], "corners_right": corners[1]}
        types = dict.fromkeys(names, "i32") | pointers | {"logits": "*" + dtype} | dict.fromkeys(known, "constexpr")
        constants = {(names.index(name),): value for name, value in known.items()}
        source = ASTSource(_fill, types, constants, {})
        made = triton.compile(source, target=GPUTarget("cuda", card, 32), options={"num_warps": 4, "enable_fp_fusion": False})
        print(card, dtype, len(made.asm["cubin"]))
"""


def child(tmp_path: Path, code: str, **environment: str) -> str:
    """The output of a process that imports Triton anew, because its kernels decide at definition how they run."""
    everything = os.environ | {"TRITON_CACHE_DIR": str(tmp_path)} | environment
    command = [sys.executable, "-W", "error", "-c", code, str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=everything)
    assert done.returncode == 0, done.stderr
    return done.stdout


@with_triton
@pytest.mark.slow
def test_the_kernel_interpreted(tmp_path: Path) -> None:
    assert int(child(tmp_path, INTERPRETED, TRITON_INTERPRET="1")) <= 5  # of a quarter of a million labels


@with_triton
@pytest.mark.slow
def test_the_kernel_compiles_for_gpus(tmp_path: Path) -> None:
    assert len(child(tmp_path, COMPILED, TRITON_INTERPRET="0").splitlines()) == 12


# The backend, on the CPU


@pytest.mark.usefixtures("one_round")
def test_facts(host: CudaBackend, street: tuple[FastSCNN, Card]) -> None:
    backend: Backend = host
    assert backend.card is street[1]
    assert (backend.name, backend.precision, backend.threads, backend.streams) == ("cuda", "float32", 1, 2)
    assert (backend.device, backend.notes) == ("cpu", ())
    assert sorted(host.fallbacks) == ["CUDA graphs: the device is cpu", "the Triton kernel of the labels: the device is cpu"]
    assert host.matmul_peak() > 0
    assert backend.hardware() == machine.processor()


@pytest.mark.parametrize(("count", "size"), [(1, (96, 128)), (2, (33, 47))])
def test_logits(host: CudaBackend, street: tuple[FastSCNN, Card], count: int, size: tuple[int, int]) -> None:
    images = noise(count, *size, 3)[:, ::-1]
    expected, got = TorchBackend(*street)(images), host(images)
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("size", [(96, 128), (720, 960), (101, 77), (12, 16), (1, 1)])
def test_labels(host: CudaBackend, street: tuple[FastSCNN, Card], frames: list[UInt8Array], size: tuple[int, int]) -> None:
    logits = TorchBackend(*street)(frames[0][None])[0]
    got = host.labels(frames[0], size)
    assert got.flags.c_contiguous
    assert got.flags.writeable
    assert ties(got, upsample.labels(logits, size), logits) <= 3


def test_results_are_the_callers(host: CudaBackend, frames: list[UInt8Array]) -> None:
    first = host.labels(frames[0], (96, 128))
    kept = first.copy()
    host.labels(frames[1], (96, 128))
    np.testing.assert_array_equal(first, kept)


def test_many_in_order(host: CudaBackend, frames: list[UInt8Array]) -> None:
    mixed = [frames[0], frames[1][:64], frames[2], frames[3], frames[4]]
    for images in (mixed, mixed[:2], mixed[:1], []):
        got = list(host.labels_many(iter(images), (90, 70)))
        assert len(got) == len(images)
        for labels, image in zip(got, images, strict=True):
            np.testing.assert_array_equal(labels, host.labels(image, (90, 70)))


def test_many_reads_two_images_ahead(host: CudaBackend, frames: list[UInt8Array]) -> None:
    read: list[int] = []

    def camera() -> Iterator[UInt8Array]:
        for index, frame in enumerate(frames):
            read.append(index)
            yield frame

    many = host.labels_many(camera(), (96, 128))
    next(many)
    assert read == [0, 1, 2]


def test_errors_come_after_the_labels_before_them(host: CudaBackend, frames: list[UInt8Array]) -> None:
    def broken(last: Any) -> Iterator[UInt8Array]:
        yield from frames[:3]
        if isinstance(last, Exception):
            raise last
        yield last

    for last, kind, message in ((OSError("camera is gone"), OSError, "camera"), (frames[0][:20], FastSCNNError, "at least 32"),
                                ("no image", AttributeError, "dtype")):
        got: list[UInt8Array] = []
        with pytest.raises(kind, match=message):
            got.extend(host.labels_many(broken(last), (96, 128)))
        assert len(got) == 3


def test_stopping_early_releases_the_buffers(host: CudaBackend, frames: list[UInt8Array]) -> None:
    first, second = (host.labels_many(frames, (96, 128)) for _ in range(2))
    for one, other in zip(first, second, strict=True):  # both at a time, on buffers of their own
        np.testing.assert_array_equal(one, other)
    many = host.labels_many(frames, (96, 128))
    next(many)
    many.close()  # type: ignore[attr-defined]
    (plan,) = host._plans.values()
    assert len(plan.free) == 3  # the second frame of one waited while the other had two in progress
    assert len({buffers.host_in.data_ptr() for buffers in plan.free}) == 3


def test_threads(host: CudaBackend, frames: list[UInt8Array]) -> None:
    expected = [host.labels(frame, (96, 128)) for frame in frames]
    with ThreadPoolExecutor(4) as pool:
        for got, labels in zip(pool.map(lambda frame: host.labels(frame, (96, 128)), frames * 4), expected * 4, strict=True):
            np.testing.assert_array_equal(got, labels)


def test_few_sizes_are_kept(host: CudaBackend) -> None:
    for side in (32, 40, 48, 56, 32, 64):
        host(noise(1, side, 32, 3))
    assert [key[0][1] for key in host._plans] == [48, 56, 32, 64]


def test_broken_weights_are_reported(street: tuple[FastSCNN, Card], frames: list[UInt8Array]) -> None:
    model = network(classes=len(street[1].label_set))
    with torch.no_grad():
        model.classifier[-1].bias[2] = -torch.inf  # type: ignore[operator]
    backend = CudaBackend(model, street[1], "float32", "cpu")
    with pytest.raises(FastSCNNError, match=r"NaN or infinity in float32: the weights are broken\.$"):
        backend.labels(frames[0], (96, 128))
    backend = CudaBackend(model, street[1], "float16", "cpu")
    with pytest.raises(FastSCNNError, match="use bfloat16"):
        list(backend.labels_many(frames, (96, 128)))


@pytest.mark.parametrize("image", [noise(31, 64, 3), noise(64, 64, 1), noise(64, 64), noise(64, 64, 3).astype(np.float32)])
def test_images_of_another_kind(host: CudaBackend, image: UInt8Array) -> None:
    with pytest.raises(FastSCNNError, match=r"An image must be uint8 \[height, width, 3\] of at least 32"):
        host.labels(image, (64, 64))


def test_an_empty_size(host: CudaBackend) -> None:
    with pytest.raises(FastSCNNError, match=r"each at least 1, not \(0, 5\)"):
        host.labels(noise(64, 64, 3), (0, 5))


def test_a_kernel_that_does_not_compile_is_done_without(host: CudaBackend, frames: list[UInt8Array]) -> None:
    expected = host.labels(frames[0], (96, 128))

    def broken(*_: object) -> None:
        raise RuntimeError("Failed to find C compiler\nand more")

    host._fill, host.fallbacks = broken, []
    host._plans.clear()
    np.testing.assert_array_equal(host.labels(frames[0], (96, 128)), expected)
    np.testing.assert_array_equal(host.labels(frames[0], (96, 128)), expected)
    assert host.fallbacks == ["the Triton kernel of the labels: Failed to find C compiler"]


def test_the_settings_of_others_come_back(host: CudaBackend, frames: list[UInt8Array], monkeypatch: pytest.MonkeyPatch) -> None:
    cudnn: Any = torch.backends.cudnn

    def state() -> tuple[object, ...]:
        return cudnn.benchmark, cudnn.conv.fp32_precision if hasattr(cudnn, "conv") else cudnn.allow_tf32

    before, inside = state(), list[tuple[object, ...]]()
    forward = FusedNetwork.forward

    def watched(network: FusedNetwork, images: Tensor, pooling: Tensor) -> Tensor:
        inside.append(state())
        return forward(network, images, pooling)

    monkeypatch.setattr(FusedNetwork, "forward", watched)
    host(frames[0][None])
    assert inside[0] in ((True, "ieee"), (True, False))
    assert state() == before
    with pytest.raises(ZeroDivisionError), settings():
        _ = 1 / 0
    assert state() == before


def test_too_little_memory_is_reported(host: CudaBackend, frames: list[UInt8Array], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(FusedNetwork, "forward", full)
    with pytest.raises(FastSCNNError, match=r"too little free memory for images of shape \[1, 96, 128, 3\]; use a smaller"):
        host(frames[0][None])


@pytest.mark.parametrize(
    ("built", "message"),
    [(None, "is built without CUDA; install a build with CUDA"), ("13.0", "finds no GPU or no driver for it")],
)
def test_no_gpu(built: str | None, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built)
    assert not CudaBackend.available()
    with pytest.raises(FastSCNNError, match=f"needs an NVIDIA GPU, and PyTorch .* {message}.*use the backend torch"):
        CudaBackend.load(bundled("torch"))


def test_it_is_taken_on_request_only(street: tuple[FastSCNN, Card], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def load(path: Path, precision: str) -> CudaBackend:
        asked.append(f"{path.name} {precision}")
        return CudaBackend(*street, "float32", "cpu")

    monkeypatch.setattr(CudaBackend, "available", lambda: True)
    monkeypatch.setattr(CudaBackend, "load", load)
    threads = torch.get_num_threads()
    assert backends.load(bundled("torch"), threads=threads).name == "torch"
    assert asked == []
    assert backends.load(bundled("torch"), "cuda").name == "cuda"
    assert asked == ["camvid.safetensors auto"]


def test_precisions(street: tuple[FastSCNN, Card], monkeypatch: pytest.MonkeyPatch) -> None:
    for make in (lambda: CudaBackend.load(Path("a"), "int8"), lambda: CudaBackend(*street, "int8", "cpu")):
        with pytest.raises(FastSCNNError, match="no precision of the backend cuda 'int8'"):
            make()  # type: ignore[no-untyped-call]
    monkeypatch.setattr(CudaBackend, "available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Old GPU")
    with pytest.raises(FastSCNNError, match="Old GPU does not support bfloat16; use float16"):
        CudaBackend.load(bundled("torch"), "bfloat16")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's own, in its compiler
def test_compiled(street: tuple[FastSCNN, Card], host: CudaBackend, frames: list[UInt8Array]) -> None:
    fused = CudaBackend(*street, "float32", "cpu", compiled=True)
    np.testing.assert_allclose(fused(frames[0][None]), host(frames[0][None]), rtol=1e-3, atol=1e-3)


class FakeGpu:
    """Replacement for `torch.cuda`: computes everything at once on the CPU and records what went to which stream."""

    def __init__(self, patch: pytest.MonkeyPatch, captures: bool = True) -> None:
        self.notes: list[str] = []
        self.streams = 0
        self.current = "none"
        card = self

        class Stream:
            def __init__(self, _: object = None) -> None:
                self.name = ("up", "compute", "down")[card.streams]
                card.streams += 1

            def wait_event(self, event: str) -> None:
                card.notes.append(f"{self.name} waits for {event}")

            def record_event(self) -> Event:
                return Event(self.name)

            def synchronize(self) -> None:
                card.notes.append(f"host waits for the stream {self.name}")

        class Event(str):
            def synchronize(self) -> None:
                card.notes.append(f"host waits for {self}")

        class Graph:
            def replay(self) -> None:
                card.notes.append(f"{card.current} replays")
                self.work()

            work: Any

        @contextmanager
        def stream(of: Stream) -> Iterator[None]:
            before, card.current = card.current, of.name
            yield
            card.current = before

        @contextmanager
        def capture(graph: Graph, pool: str, of: str, capture_error_mode: str) -> Iterator[None]:
            real.bind(graph, pool, of, capture_error_mode=capture_error_mode)
            assert (pool, of) == ("pool", "compute")
            if not captures:
                raise RuntimeError("operation not permitted when stream is capturing\nmore")
            yield

        def pageable(*shape: Any, **how: Any) -> Tensor:
            how.pop("pin_memory", None)
            return empty(*shape, **how)

        empty, real = torch.empty, inspect.signature(torch.cuda.graph)
        patch.setattr(torch, "empty", pageable)
        for name, fake in {"Stream": Stream, "stream": stream, "graph": capture, "CUDAGraph": Graph, "current_stream":
                           lambda: card.current, "graph_pool_handle": lambda: "pool", "synchronize": lambda _: None}.items():
            patch.setattr(torch.cuda, name, fake)
        patch.setattr(torch.Tensor, "copy_", self._copy(torch.Tensor.copy_))

    def _copy(self, copy: Any) -> Any:
        def noted(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
            if non_blocking:
                self.notes.append(f"{self.current} copies")
            result: Tensor = copy(target, source)
            return result

        return noted


def on_fake_gpu(
    street: tuple[FastSCNN, Card], patch: pytest.MonkeyPatch, captures: bool = True
) -> tuple[CudaBackend, FakeGpu]:
    """A backend that takes the CPU for a GPU; its graphs run the work again."""
    card = FakeGpu(patch, captures)
    init = Streams.__init__

    def faked(self: Any, device: torch.device) -> None:
        init(self, torch.device("cuda"))

    patch.setattr(Streams, "__init__", faked)
    backend = CudaBackend(*street, "float32", "cpu")
    captured = backend._captured

    def keeping(work: Work) -> Work:
        run: Any = captured(work)
        if hasattr(run, "__self__"):
            run.__self__.work = work
        return run  # type: ignore[no-any-return]

    patch.setattr(backend, "_captured", keeping)
    backend._fill = labels_torch.fill
    return backend, card


def test_each_stream_waits_for_the_one_before(street: tuple[FastSCNN, Card], host: CudaBackend, frames: list[UInt8Array],
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [host.labels(frame, (96, 128)) for frame in frames]
    backend, card = on_fake_gpu(street, monkeypatch)
    for got, labels in zip(backend.labels_many(frames, (96, 128)), expected, strict=True):
        np.testing.assert_array_equal(got, labels)
    allocated = ["host waits for the stream compute"]  # queued work may still use the memory
    frame = ["up copies", "compute waits for up", "compute replays", "down waits for compute", "down copies"]
    waiting = ["host waits for down"]
    assert card.notes == [*(allocated + frame) * 2, *(waiting + frame) * 3, *waiting * 2]
    assert not any("graphs" in reason for reason in backend.fallbacks)


def test_a_network_that_cannot_be_captured_runs_without_a_graph(
    street: tuple[FastSCNN, Card], host: CudaBackend, frames: list[UInt8Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = host.labels(frames[0], (96, 128))
    backend, card = on_fake_gpu(street, monkeypatch, captures=False)
    np.testing.assert_array_equal(backend.labels(frames[0], (96, 128)), expected)
    np.testing.assert_allclose(backend(frames[0][None]), host(frames[0][None]), rtol=1e-5, atol=1e-5)
    assert backend.fallbacks[-1] == "CUDA graphs: operation not permitted when stream is capturing"
    assert "compute replays" not in card.notes


# The backend, on a GPU


@on_gpu
def test_gpu_uses_graph_and_kernel(frames: list[UInt8Array]) -> None:
    backend = CudaBackend.load(bundled("cuda"))
    backend.labels(frames[0], (96, 128))
    assert backend.fallbacks == []
    assert backend.matmul_peak() > 1e11
    assert backend.hardware() == torch.cuda.get_device_name()


@on_gpu
@pytest.mark.parametrize(("precision", "share"), [("float32", 0.0005), ("float16", 0.01), ("bfloat16", 0.05)])
@pytest.mark.parametrize("size", [(192, 256), (101, 77), (12, 16)])
def test_gpu_labels(street: tuple[FastSCNN, Card], precision: str, share: float, size: tuple[int, int]) -> None:
    backend = CudaBackend(*street, precision)
    for seed in range(3):
        image = synthetic.draw(192, 256, seed).image
        own, expected = backend(image[None])[0], TorchBackend(street[0].cpu(), street[1])(image[None])[0]
        got = backend.labels(image, size)
        assert ties(got, upsample.labels(own, size), own) <= 5
        assert (got != upsample.labels(expected, size)).mean() <= share


@on_gpu
@pytest.mark.parametrize(("classes", "inputs", "size"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_gpu_kernel(classes: int, inputs: tuple[int, int], size: tuple[int, int], dtype: torch.dtype) -> None:
    from fastscnn.backends.cuda import labels_triton

    device = torch.device("cuda")
    for logits in (smooth(classes, inputs), np.random.default_rng(0).normal(size=(classes, *inputs)).astype(np.float32)):
        kept = torch.from_numpy(logits).to(device, dtype)
        rows, columns = (labels_torch.axis(*ends, device) for ends in zip(inputs, size, strict=True))
        for fill in (labels_triton.fill, labels_torch.fill):
            labels = torch.full((size[0] + 1, size[1]), 255, dtype=torch.uint8, device=device)
            fill(kept, rows, columns, labels[:-1])
            assert (labels[-1] == 255).all()
            values = kept.float().cpu().numpy()
            assert ties(labels[:-1].cpu().numpy(), upsample.labels(values, size), values) <= 5


@on_gpu
def test_gpu_graphs_survive_one_another(street: tuple[FastSCNN, Card]) -> None:
    backend = CudaBackend(*street, "float32")
    plain = CudaBackend(*street, "float32")
    plain._graphs = False
    images = [synthetic.draw(height, 128, 3).image for height in (64, 96, 128, 160, 192, 224)]
    for _ in range(3):  # more sizes than are kept: some graphs are used again, some are made again
        for image in (*images, images[0], images[-1]):
            size = (image.shape[0] + 5, 131)
            logits = backend(image[None])[0]
            np.testing.assert_allclose(logits, plain(image[None])[0], rtol=1e-3, atol=1e-3)
            assert ties(backend.labels(image, size), plain.labels(image, size), logits, 1e-4) <= 20
            junk = [torch.full((1 << 20,), 7.0, device="cuda") for _ in range(8)]  # lands in memory that no graph may read
            del junk
    assert len(backend._plans) == cuda._PLANS
    assert backend.fallbacks == []


@on_gpu
def test_gpu_many_and_threads(street: tuple[FastSCNN, Card]) -> None:
    backend = CudaBackend(*street)
    images = [synthetic.draw(96 + 32 * (seed % 3), 160, seed).image for seed in range(12)]
    expected = [backend.labels(image, (200, 300)) for image in images]
    for _ in range(5):
        for got, labels in zip(backend.labels_many(images, (200, 300)), expected, strict=True):
            np.testing.assert_array_equal(got, labels)
    with ThreadPoolExecutor(4) as pool:
        made = pool.map(lambda image: backend.labels(image, (200, 300)), images * 5)
        for got, labels in zip(made, expected * 5, strict=True):
            np.testing.assert_array_equal(got, labels)


@on_gpu
def test_gpu_without_graph_and_kernel(street: tuple[FastSCNN, Card], frames: list[UInt8Array]) -> None:
    backend, plain = CudaBackend(*street), CudaBackend(*street)
    plain._graphs, plain._fill = False, labels_torch.fill
    for frame in frames:
        logits = backend(frame[None])[0]
        assert ties(plain.labels(frame, (200, 300)), backend.labels(frame, (200, 300)), logits, 1e-3) <= 20
