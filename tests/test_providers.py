"""Devices: which providers ONNX Runtime gets, what a result names, and one sentence for all that does not run there.

A stand-in takes the place of a package of ONNX Runtime for another device. It runs on the CPU and says what is asked for.
`onnxruntime-openvino` has a provider that also runs on CPUs; where it is installed, the last tests use it.
"""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import onnxruntime
import pytest
from conftest import WriteOnnx

from fastscnn import Segmenter, backends, cli
from fastscnn.backends import DEVICES, providers
from fastscnn.backends.onnx import session
from fastscnn.base import machine
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.benchmark.benchmark import benchmark
from fastscnn.data.synthetic import Scene
from fastscnn.evaluation.evaluate import evaluate
from fastscnn.media import images
from fastscnn.model.weights import bundled

OTHERS = DEVICES[1:]
NAMES = {
    "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider", "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider", "openvino-gpu": "OpenVINOExecutionProvider",
}
CPU = "CPUExecutionProvider"
UNMEASURED = "The accuracy on {} has not been measured: the losses in the model card are those of CPUs."
needs_record = pytest.mark.skipif(
    not hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info"),
    reason="this ONNX Runtime does not say what runs where",
)


class Session(onnxruntime.InferenceSession):  # type: ignore[misc]  # onnxruntime has no types
    """A session that runs on the CPU and claims that it runs on the providers of `request`.

    Attributes:
        asked: the providers of every session, with their options.
        started: whether the first provider starts.
        place: operator -> the provider that runs it; None is the first one.
    """

    asked: ClassVar[list[list[tuple[str, dict[str, str]]]]] = []
    started: ClassVar[bool] = True
    place: ClassVar[Callable[[str], str | None]] = staticmethod(lambda _: None)

    def __init__(self, data: bytes, options: Any, providers: Sequence[Any], enable_fallback: int) -> None:
        super().__init__(data, options, providers=[CPU], enable_fallback=enable_fallback)
        self.wanted = [one for one in providers if one != CPU]
        if self.wanted:
            self.asked.append(self.wanted)

    def get_providers(self) -> list[str]:
        return [name for name, _ in self.wanted[0 if self.started else 1:]] + [CPU]

    def get_provider_graph_assignment_info(self) -> list[Any]:
        parts = [(part, part.get_nodes()) for part in super().get_provider_graph_assignment_info()]
        return [SimpleNamespace(ep_name=type(self).place(node.op_type) or self.wanted[0][0], get_nodes=lambda node=node: [node])
                for _, nodes in parts for node in nodes]


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> type[Session]:
    """The stand-in for an ONNX Runtime that has every provider."""
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [*NAMES.values(), CPU])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("libcudnn.so.9 not found"))  # noqa: T201
    monkeypatch.setattr(Session, "asked", [])
    return Session


# What runs, and what it is called


@needs_record
@pytest.mark.parametrize(
    ("device", "asked"),
    [
        ("cuda", [(NAMES["cuda"], {"use_tf32": "0"})]),
        ("tensorrt", [(NAMES["tensorrt"], {}), (NAMES["cuda"], {"use_tf32": "0"})]),
        ("coreml", [(NAMES["coreml"], {"ModelFormat": "MLProgram"})]),
        ("directml", [(NAMES["directml"], {})]),
        ("openvino-gpu", [(NAMES["openvino-gpu"], {"device_type": "GPU", "precision": "ACCURACY"})]),
    ],
)
def test_a_device(
    runtime: type[Session], tiny_onnx: Path, stripes: Scene, capfd: pytest.CaptureFixture[str], device: Any, asked: Any
) -> None:
    segmenter = Segmenter.load(tiny_onnx, threads=1, device=device)
    backend = segmenter.backend
    assert runtime.asked == [asked]
    assert (backend.name, backend.precision, backend.device) == ("onnx", "float32", device)
    assert backend.notes == (UNMEASURED.format(device),)
    assert repr(segmenter).endswith(f"threads=1, device='{device}')")
    assert backend.hardware() == f"{device}, {machine.processor()}"
    assert (backend.matmul_peak(), backend.bandwidth()) == (None, None)
    np.testing.assert_array_equal(segmenter(stripes.image).labels, stripes.labels)
    assert capfd.readouterr().out == ""  # not what `preload_dlls` prints


def test_the_cpu_is_the_default(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: pytest.fail("a GPU is looked for"))
    monkeypatch.setattr(providers, "request", lambda *_: pytest.fail("a provider is looked for"))
    for device in (None, "cpu"):
        backend = backends.load(tiny_onnx, "onnx", threads=1, device=device)
        assert (backend.device, backend.notes, backend.hardware()) == ("cpu", (), machine.processor())


def test_the_bundled_weights_are_in_float32_on_other_devices() -> None:
    assert {bundled(device=device).name for device in (None, "cpu")} == {"camvid.int8.onnx"}
    assert {bundled(device=device).name for device in OTHERS} == {"camvid.onnx"}
    assert bundled("onnx", "int8", "cuda").name == "camvid.int8.onnx"


@needs_record
def test_a_copy_is_on_the_same_device(runtime: type[Session], tiny_onnx: Path) -> None:
    segmenter = Segmenter.load(tiny_onnx, threads=1, device="coreml")
    assert pickle.loads(pickle.dumps(segmenter)).backend.device == "coreml"
    assert pickle.loads(pickle.dumps(Segmenter.load(tiny_onnx, "onnx", threads=1))).backend.device == "cpu"


@needs_record
@pytest.mark.parametrize(("device", "most"), [("directml", 1), ("cpu", 4)])
def test_calls_on_a_device_run_one_after_another(
    runtime: type[Session], tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch, device: str, most: int
) -> None:
    """DirectML crashes if a session is called by two threads; on the CPU, all calls meet inside."""
    inside, seen, lock, together = 0, 0, threading.Lock(), threading.Barrier(4)
    run = onnxruntime.InferenceSession.run

    def slow(self: Any, *arguments: Any) -> Any:
        nonlocal inside, seen
        with lock:
            inside += 1
            seen = max(seen, inside)
        with suppress(threading.BrokenBarrierError):  # of four calls that never meet, the first one waits
            together.wait(10 if most == 4 else 0.05)
        result = run(self, *arguments)
        with lock:
            inside -= 1
        return result

    monkeypatch.setattr(Session, "run", slow)
    backend = backends.load(tiny_onnx, "onnx", threads=4, streams=4, device=device)
    image = np.zeros((1, 64, 64, 3), np.uint8)
    workers = [threading.Thread(target=backend, args=(image,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (backend.streams, seen) == (4, most)


# What does not run


@pytest.mark.parametrize(
    ("device", "package"),
    [("cuda", "onnxruntime-gpu"), ("tensorrt", "onnxruntime-gpu"), ("coreml", "onnxruntime for macOS"),
     ("directml", "onnxruntime-directml"), ("openvino-gpu", "onnxruntime-openvino")],
)
def test_a_provider_that_is_not_installed(tiny_onnx: Path, device: Any, package: str) -> None:
    installed = onnxruntime.get_available_providers()
    if NAMES[device] in installed:
        pytest.skip(f"this ONNX Runtime has {NAMES[device]}")
    with pytest.raises(FastSCNNError) as caught:
        Segmenter.load(tiny_onnx, device=device)
    assert str(caught.value) == (
        f"device: {device} needs {NAMES[device]}, but the installed ONNX Runtime {onnxruntime.__version__} has only "
        f"{' and '.join(installed)}; install {package} in its place.")


@needs_record
@pytest.mark.parametrize("device", OTHERS)
def test_a_provider_that_cannot_start(
    runtime: type[Session], tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch, device: Any
) -> None:
    """ONNX Runtime then gives a session on the CPU; for TensorRT, on CUDA."""
    monkeypatch.setattr(Session, "started", False)
    with pytest.raises(FastSCNNError, match=rf"^device: ONNX Runtime could not start {NAMES[device]} for {device}, which need"):
        Segmenter.load(tiny_onnx, device=device)


@needs_record
def test_operators_on_the_cpu_are_a_note(
    runtime: type[Session], tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "place", lambda name: None if "Conv" in name else CPU)
    said = f"{tiny_onnx}: 2 of 3 operators run in {CPU}, not on cuda: Cast, Transpose."
    assert backends.load(tiny_onnx, device="cuda").notes == (said, UNMEASURED.format("cuda"))


@needs_record
@pytest.mark.parametrize(("device", "place"), [("cuda", CPU), ("tensorrt", NAMES["cuda"])])
def test_convolutions_elsewhere_are_refused(
    runtime: type[Session], tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch, device: Any, place: str
) -> None:
    monkeypatch.setattr(Session, "place", lambda name: place if "Conv" in name else None)
    with pytest.raises(FastSCNNError, match=rf"tiny\.onnx: {NAMES[device]} leaves 1 of its convolutions to {place}; for"):
        backends.load(tiny_onnx, device=device)


@needs_record
def test_a_provider_that_fails(runtime: type[Session], tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("Exception during initialization: pages\nof types\n\n   length of pads mismatches  \n\n")

    monkeypatch.setattr(onnxruntime.InferenceSession, "__init__", fail)
    with pytest.raises(FastSCNNError, match=r"tiny\.onnx: CUDAExecutionProvider cannot run it \(length of pads mismatches\)"):
        backends.load(tiny_onnx, device="cuda")
    with pytest.raises(FastSCNNError, match=r"tiny\.onnx: is not an ONNX model"):
        backends.load(tiny_onnx, "onnx")


def test_an_onnx_runtime_that_does_not_say_what_runs_where(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        """ONNX Runtime 1.22."""

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [NAMES["cuda"], CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Old)
    with pytest.raises(FastSCNNError, match=r"^device: cuda needs ONNX Runtime 1\.24 or newer, .*; upgrade onnxruntime-gpu\.$"):
        backends.load(tiny_onnx, device="cuda")


@pytest.mark.parametrize(
    ("file", "backend", "device", "message"),
    [
        ("a.onnx", "openvino", "cuda", "the backend openvino runs on the device cpu, not on cuda; .*omit the backend"),
        ("a.safetensors", "torch", "directml", "the backend torch runs on the device cpu, not on directml; .*`fastscnn exp"),
        ("a.safetensors", "auto", "cuda", r"a \.safetensors file runs on the device cpu, not on cuda; .*`fastscnn export`"),
        ("a.safetensors", "cuda", "cpu", "the backend cuda runs on the device cuda, not on cpu; omit the device, or convert"),
        ("a.safetensors", "cuda", "tensorrt", "the backend cuda runs on the device cuda, not on tensorrt"),
    ],
)
def test_backends_without_the_device(tmp_path: Path, file: str, backend: str, device: str, message: str) -> None:
    path = tmp_path / file
    path.write_bytes(b"")
    with pytest.raises(FastSCNNError, match=message):
        backends.load(path, backend, device=device)


def test_an_unknown_device(tiny_onnx: Path) -> None:
    with pytest.raises(ArgumentError, match=r"There is no device 'cude'\. Did you mean 'cuda'\? Known: coreml, cpu, cuda, "):
        backends.load(tiny_onnx, device="cude")


# Results name it


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Calls main with the words, in an empty folder; returns exit code, stdout and stderr on one line."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> tuple[int, str, str]:
        code = cli.main([str(word) for word in words])
        streams = capsys.readouterr()
        return code, streams.out, " ".join(streams.err.split())

    return call


@needs_record
def test_segment(runtime: type[Session], run: Callable[..., Any], tiny_onnx: Path, stripes: Scene) -> None:
    images.write(Path("a.png"), stripes.image)
    words = ["segment", "a.png", "--weights", tiny_onnx, "--threads", 1, "--device", "cuda"]
    code, out, err = run(*words, "--json")
    assert code == 0, err
    assert [json.loads(out)[key] for key in ("backend", "precision", "device")] == ["onnx", "float32", "cuda"]
    assert err == UNMEASURED.format("cuda")
    code, out, err = run(*words, "--quiet")
    assert (code, err) == (0, "")
    assert out.startswith("onnx float32 on cuda, 1 threads\n")


def test_a_device_that_is_missing(run: Callable[..., Any], tiny_onnx: Path, stripes: Scene) -> None:
    images.write(Path("a.png"), stripes.image)
    if NAMES["directml"] in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has DirectML")
    for words in (["segment", "a.png"], ["demo"], ["benchmark", "--sizes", "64x64"]):
        code, out, err = run(*words, "--weights", tiny_onnx, "--device", "directml")
        assert (code, out) == (1, "")
        assert err.startswith("fastscnn: device: directml needs DmlExecutionProvider, but the installed ONNX Runtime ")
    code, _, err = run("segment", "a.png", "--device", "gpu")
    assert code == 2
    assert "There is no device 'gpu'" in err


@needs_record
def test_evaluate(runtime: type[Session], tmp_path: Path, write_onnx: WriteOnnx, partial_dataset: Path) -> None:
    path = write_onnx(tmp_path / "a.onnx", ("road", "construction", "void"))
    report = evaluate(Segmenter.load(path, threads=1, device="coreml"), partial_dataset, "train")
    assert (report.device, report.to_dict()["device"]) == ("coreml", "coreml")


@needs_record
def test_benchmark(
    runtime: type[Session], run: Callable[..., Any], tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def cold(segmenter: Segmenter, *_: Any) -> tuple[float, float]:
        started.append(segmenter.backend.device)
        return 1.0, 50.0

    monkeypatch.setattr("fastscnn.benchmark.benchmark.cold_start", cold)  # a process without the stand-in
    report = benchmark(Segmenter.load(tiny_onnx, threads=2, device="cuda"), (64, 64), runs=2, warmup=0)
    assert (report.device, report.roofline, started) == ("cuda", None, ["cuda"])
    assert report.machine == f"cuda, {machine.processor()}"
    assert len(runtime.asked) == 2  # the frames in parallel are on the device, too
    words = ["--weights", tiny_onnx, "--device", "cuda", "--sizes", "64x64", "--runs", 1, "--warmup", 0, "--threads", 1]
    code, out, err = run("benchmark", *words)
    assert code == 0, err
    assert "64x64, onnx float32 on cuda, 1 threads" in " ".join(out.split())
    assert "% of the limit" not in out


# A provider of another package, on the CPU


@pytest.fixture
def openvino_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The OpenVINO provider of ONNX Runtime, on the CPU in place of a GPU."""
    if NAMES["openvino-gpu"] not in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime-openvino is not installed")
    monkeypatch.setitem(providers.PROVIDERS["openvino-gpu"].options, "device_type", "CPU")


def compare(device: Any, size: str) -> Segmenter:
    """Check that a device gives the logits and labels of the CPU in float32; return its segmenter."""
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3)).astype(np.uint8)
    here = Segmenter.load(None, "onnx", size, threads=1, precision="float32")
    there = Segmenter.load(None, size=size, threads=1, device=device)
    np.testing.assert_allclose(there.logits(image), here.logits(image), atol=1e-3)
    assert np.mean(there(image).labels == here(image).labels) > 0.999
    return there


@pytest.mark.usefixtures("openvino_on_cpu")
@pytest.mark.parametrize("size", ["360x480", "104x128", "33x47"])
def test_a_real_provider(size: str) -> None:
    assert compare("openvino-gpu", size).backend.notes == (UNMEASURED.format("openvino-gpu"),)


@pytest.mark.parametrize("device", OTHERS)
def test_the_devices_of_this_machine(device: str) -> None:
    if NAMES[device] not in onnxruntime.get_available_providers():
        pytest.skip(f"{NAMES[device]} is not installed")
    try:
        compare(device, "104x128")
    except FastSCNNError as error:
        if "could not start" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.mark.usefixtures("openvino_on_cpu")
def test_a_real_provider_that_cannot_run_the_file() -> None:
    """It cannot read the padding of the int8 file."""
    with pytest.raises(FastSCNNError, match=r"camvid\.int8\.onnx: OpenVINOExecutionProvider cannot run it \(length of pads"):
        Segmenter.load(None, precision="int8", device="openvino-gpu")


def test_a_real_provider_that_cannot_start(tiny_onnx: Path) -> None:
    if NAMES["openvino-gpu"] not in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime-openvino is not installed")
    if Path("/dev/dri").exists():
        pytest.skip("there may be an Intel GPU")
    with pytest.raises(FastSCNNError, match="could not start OpenVINOExecutionProvider for openvino-gpu, which needs an Intel"):
        session(tiny_onnx.read_bytes(), 1, "openvino-gpu")
