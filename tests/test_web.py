"""web: the page's JavaScript is compared with Python's labels and Pillow's resizer, and the whole page runs in a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from http.client import HTTPConnection
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from waiting import wait_until

from fastscnn import Segmenter, cli, web
from fastscnn.base import files
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import Float32Array, UInt8Array
from fastscnn.data import synthetic
from fastscnn.data.synthetic import Scene
from fastscnn.inference.size import in_shape
from fastscnn.media import images
from fastscnn.model import weights
from fastscnn.model.card import KEY, Calibration, Card, Data
from fastscnn.model.label_set import LabelSet
from fastscnn.upsampling import upsample
from fastscnn.web import onnxruntime_web
from fastscnn.web import server as web_server
from fastscnn.web.server import HEADERS, server

EXAMPLES = settings(deadline=None, derandomize=True, max_examples=60)
FAKES = {name: name.encode() * 3 for name in onnxruntime_web.FILES}  # instead of 14 MB
DRIVER = Path(__file__).with_name("web.mjs")
CALLS = """
import { createInterface } from "node:readline";
import { labels } from "./lazy.mjs";
import { png } from "./png.mjs";
import { inShape, resize } from "./resize.mjs";
const TASKS = {
  labels: (bytes, from, to) => labels(new Float32Array(bytes.buffer), from, to),
  png: async (bytes, from) => new Uint8Array(await (await png(bytes, from)).arrayBuffer()),
  resize,
  sizes: (bytes) => {
    const all = Array.from(new Int32Array(bytes.buffer));
    const made = [];
    for (let at = 0; at < all.length; at += 4) made.push(...inShape(all.slice(at, at + 2), all.slice(at + 2, at + 4)));
    return new Uint8Array(new Int32Array(made).buffer);
  },
};
for await (const line of createInterface({ input: process.stdin })) {
  const { task, bytes, from, to } = JSON.parse(line);
  let answer;
  try {
    answer = "+" + Buffer.from(await TASKS[task](Uint8Array.from(Buffer.from(bytes, "base64")), from, to)).toString("base64");
  } catch (error) {
    answer = "-" + error.message;
  }
  console.log(answer);
}
"""
Call = Callable[..., bytes]
WriteOnnx = Callable[..., Path]


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Call]:
    """Call functions of the page in Node: (task, array, from, to) -> bytes."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is missing")
    folder = tmp_path_factory.mktemp("modules")
    for name in ("lazy", "png", "resize"):
        shutil.copy(web.PAGE / f"{name}.js", folder / f"{name}.mjs")  # every version of Node treats .mjs files as modules
    (folder / "calls.mjs").write_text(CALLS)
    command = [node, str(folder / "calls.mjs")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        ask, answers = process.stdin, process.stdout

        def called(task: str, array: npt.NDArray[Any], from_: tuple[int, ...], to: tuple[int, ...] = ()) -> bytes:
            line = {"task": task, "bytes": base64.b64encode(array.tobytes()).decode(), "from": from_, "to": to}
            ask.write(json.dumps(line) + "\n")
            ask.flush()
            answer = answers.readline().rstrip("\n")
            if answer[:1] != "+":
                raise ValueError(answer)
            return base64.b64decode(answer[1:])

        yield called
        ask.close()


def made(kind: str, shape: tuple[int, int, int], seed: int) -> Float32Array:
    rng = np.random.default_rng(seed)
    logits: npt.NDArray[Any] = rng.normal(size=shape)
    if kind == "tied":
        logits = rng.integers(-1, 2, shape)
    elif kind == "smooth":
        y, x = np.arange(shape[1])[:, None] / 5, np.arange(shape[2]) / 5
        logits = np.stack([np.sin(rng.normal() * y + rng.normal() * x + rng.uniform(0, 6)) for _ in range(shape[0])])
    elif kind == "nearly tied":  # reveals products that are not rounded before an addition
        logits = logits.astype(np.float32)[:1].repeat(shape[0], axis=0)
        towards = np.where(rng.random(shape) < 0.5, -9, 9).astype(np.float32)
        logits = np.nextafter(logits, towards)
    return logits.astype(np.float32)


@EXAMPLES
@given(
    kind=st.sampled_from(("random", "tied", "smooth", "nearly tied")),
    shape=st.tuples(st.one_of(st.integers(1, 12), st.integers(1, 255)), st.integers(1, 12), st.integers(1, 12)),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    seed=st.integers(0, 2**32 - 1),
)
@example(kind="smooth", shape=(11, 45, 60), size=(360, 480), seed=0)
@example(kind="nearly tied", shape=(2, 30, 30), size=(240, 240), seed=0)
@example(kind="tied", shape=(19, 8, 9), size=(5, 7), seed=0)
def test_labels_in_javascript(call: Call, kind: str, shape: tuple[int, int, int], size: tuple[int, int], seed: int) -> None:
    """Labels equal Python's on every pixel, ties included."""
    logits = made(kind, shape, seed)
    got = np.frombuffer(call("labels", logits, shape, size), np.uint8).reshape(size)
    np.testing.assert_array_equal(got, upsample.labels_in_numpy(logits, size))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_broken_logits_in_javascript(call: Call, value: float) -> None:
    logits = made("random", (3, 4, 5), 0)
    logits[2, 3, 1] = value
    with pytest.raises(ValueError, match="NaN or infinity"):
        call("labels", logits, logits.shape, (2, 2))


@EXAMPLES
@given(
    source=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    target=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    channels=st.sampled_from((3, 4)),
    seed=st.integers(0, 2**32 - 1),
)
@example(source=(720, 960), target=(360, 480), channels=4, seed=0)
@example(source=(437, 582), target=(360, 480), channels=4, seed=0)
@example(source=(101, 599), target=(360, 480), channels=4, seed=0)
@example(source=(36, 48), target=(36, 48), channels=4, seed=0)
def test_resize_in_javascript(
    call: Call, source: tuple[int, int], target: tuple[int, int], channels: int, seed: int
) -> None:
    """The result equals Python's, for any mix of enlargement and reduction."""
    rng = np.random.default_rng(seed)
    pixels = rng.choice(np.array([0, 1, 127, 128, 254, 255, rng.integers(256)], np.uint8), (*source, channels))
    got = np.frombuffer(call("resize", pixels, source, target), np.uint8).reshape(*target, 3)
    expected = images.resize(np.ascontiguousarray(pixels[:, :, :3]), target)
    np.testing.assert_array_equal(got, expected)


def in_javascript(call: Call, asked: npt.NDArray[np.int32]) -> list[tuple[int, int]]:
    """Return the page's input size for rows of (height, width of the card's size, height, width of the picture)."""
    got = np.frombuffer(call("sizes", asked, ()), np.int32).reshape(-1, 2)
    return [(int(height), int(width)) for height, width in got]


@pytest.mark.parametrize(
    ("size", "picture", "made"),
    [
        ((360, 480), (720, 960), (360, 480)),
        ((360, 480), (340, 480), (360, 480)),  # another shape by 6 %
        ((360, 480), (1080, 1920), (296, 544)),  # 16:9
        ((360, 480), (1920, 1080), (552, 320)),
        ((360, 480), (1000, 8000), (136, 1184)),
        ((400, 400), (400, 440), (368, 432)),  # exactly 10 %
        ((48, 48), (100, 400), (48, 112)),  # halves go up; the other side is at its minimum
        ((96, 96), (400, 1600), (64, 192)),
        ((33, 40), (5000, 32), (449, 40)),
    ],
)
def test_the_input_has_the_shape_of_the_picture(
    call: Call, size: tuple[int, int], picture: tuple[int, int], made: tuple[int, int]
) -> None:
    assert in_javascript(call, np.array([[*size, *picture]], np.int32)) == [made] == [in_shape(size, picture)]


@EXAMPLES
@given(seed=st.integers(0, 2**32 - 1), longest=st.sampled_from((64, 300, 2048, 65535)))
def test_the_input_size_of_any_picture(call: Call, seed: int, longest: int) -> None:
    """The page's size equals Python's, for 1,000 pairs of card and picture in each example."""
    rng = np.random.default_rng(seed)
    asked = rng.integers(32, longest, (1000, 4)).astype(np.int32)
    asked[::2, :2] = rng.choice(np.array([360, 480, 1024, 2048, 96, 33], np.int32), (500, 2))
    expected = [in_shape((height, width), (tall, wide)) for height, width, tall, wide in asked.tolist()]
    assert in_javascript(call, asked) == expected


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (64, 200)])
def test_png_in_javascript(call: Call, tmp_path: Path, size: tuple[int, int]) -> None:
    labels = np.random.default_rng(0).integers(0, 256, size).astype(np.uint8)
    (tmp_path / "labels.png").write_bytes(call("png", labels, size))
    np.testing.assert_array_equal(images.read_values(tmp_path / "labels.png")[0], labels)
    with Image.open(tmp_path / "labels.png") as opened:
        assert opened.mode == "L"


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of small files that replace ONNX Runtime's."""
    folder = tmp_path / "dist"
    for name, data in FAKES.items():
        files.write(folder / name, data)
    monkeypatch.setattr(onnxruntime_web, "FILES", {name: hashlib.sha256(data).hexdigest() for name, data in FAKES.items()})
    return folder


def test_the_page_is_written(tmp_path: Path, fakes: Path) -> None:
    written = web.write(tmp_path / "site", fakes)
    assert set(written) == {path for path in (tmp_path / "site").rglob("*") if path.is_file()}
    names = {path.relative_to(tmp_path / "site").as_posix() for path in written}
    sources = {path.name for path in web.PAGE.iterdir()}
    made_here = {"labels.json", "weights.onnx", "weights-terms.txt", "scene.png"}
    assert names == sources | made_here | {f"ort/{name}" for name in onnxruntime_web.FILES}
    card = Segmenter.load(backend="onnx", precision="float32", threads=1).card
    described = json.loads((tmp_path / "site/labels.json").read_text())
    assert described["names"] == list(card.label_set.names)
    assert described["colours"] == [list(colour) for colour in card.label_set.colours]
    assert described["size"] == list(card.size)
    assert card.data is not None
    assert described["terms"] == card.data.terms
    assert described["precision"] == "float32"
    assert described["temperature"] == card.temperature
    licence = weights.bundled("onnx", "float32").with_name("LICENSE.md").read_text()
    assert (tmp_path / "site/weights-terms.txt").read_text() == licence
    path = weights.bundled("onnx", "float32")
    assert described["bytes"] == path.stat().st_size + len(FAKES["ort-wasm-simd-threaded.wasm"])
    assert (tmp_path / "site/weights.onnx").read_bytes() == path.read_bytes()
    np.testing.assert_array_equal(images.read(tmp_path / "site/scene.png"), synthetic.draw(seed=3).image)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_users_own_network(tmp_path: Path, fakes: Path, write_onnx: WriteOnnx, precision: str) -> None:
    """The page takes classes, colours, input size, precision, temperature and terms from the card of the file."""
    label_set = LabelSet(("wall", "door"), ((1, 2, 3), (4, 5, 6)))
    own = Card(label_set, (96, 64), precision=precision, data=Data("facades", "train", 9, "CC0", ""),
               calibration=Calibration(1.25, 0.5, "val", 9, 2.0, 1.0))
    path = write_onnx(tmp_path / "own.onnx", label_set.names, {KEY: own.to_json()})
    web.write(tmp_path / "site", fakes, path)
    assert (tmp_path / "site/weights.onnx").read_bytes() == path.read_bytes()
    described = json.loads((tmp_path / "site/labels.json").read_text())
    size = path.stat().st_size + len(FAKES["ort-wasm-simd-threaded.wasm"])
    assert described == {
        "names": ["wall", "door"], "colours": [[1, 2, 3], [4, 5, 6]], "size": [96, 64], "precision": precision,
        "temperature": 1.25, "terms": "CC0", "bytes": size,
    }
    terms = (tmp_path / "site/weights-terms.txt").read_text()
    assert terms == "Weights: own.onnx\nTraining data: facades, train\nTerms of the training data: CC0\n"


def test_own_weights_without_training_data(tmp_path: Path, fakes: Path, tiny_onnx: Path) -> None:
    web.write(tmp_path / "site", fakes, tiny_onnx)
    expected = "The model card of tiny.onnx states no training data and no terms.\n"
    assert (tmp_path / "site/weights-terms.txt").read_text() == expected
    assert "CamVid" not in "".join(path.read_text("latin-1") for path in (tmp_path / "site").rglob("*") if path.is_file())


def test_own_weights_without_a_hash_are_named(
    tmp_path: Path, fakes: Path, tiny_onnx: Path, write_onnx: WriteOnnx, capsys: pytest.CaptureFixture[str]
) -> None:
    old = write_onnx(tmp_path / "old.onnx", metadata={KEY: Card(LabelSet(("red", "green", "blue")), (64, 96)).to_json()})
    for path in (old, tiny_onnx):
        assert cli.main(["web", "--out", str(tmp_path / "site"), "--ort", str(fakes), "--weights", str(path)]) == 0
    assert re.findall(r"(\S+): unverified", capsys.readouterr().err) == [str(old)]


def test_weights_that_the_page_cannot_run(tmp_path: Path, fakes: Path, write_onnx: WriteOnnx) -> None:
    with pytest.raises(FastSCNNError, match=r"a\.safetensors: the page runs \.onnx files only; run `fastscnn export "):
        web.write(tmp_path / "site", fakes, tmp_path / "a.safetensors")
    thermal = Card(LabelSet(("a", "b")), (64, 96), channels=4)
    path = write_onnx(tmp_path / "thermal.onnx", ("a", "b"), {KEY: thermal.to_json()})
    with pytest.raises(FastSCNNError, match=r"thermal\.onnx: takes 4 channels, but a browser provides RGB only"):
        web.write(tmp_path / "site", fakes, path)
    (tmp_path / "broken.onnx").write_bytes(b"text")
    with pytest.raises(FastSCNNError, match=r"broken\.onnx: is not an ONNX model"):
        web.write(tmp_path / "site", fakes, tmp_path / "broken.onnx")
    assert not (tmp_path / "site").exists()


def test_another_build_has_another_cache(tmp_path: Path, fakes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing twice gives equal files; a changed file changes the name of the browser cache."""
    web.write(tmp_path / "site", fakes)
    first = (tmp_path / "site/sw.js").read_text()
    web.write(tmp_path / "site", fakes)
    assert (tmp_path / "site/sw.js").read_text() == first
    assert re.search(r"\$\{OURS\}[0-9a-f]{16}`", first)
    shutil.copytree(web.PAGE, tmp_path / "page")
    with (tmp_path / "page/style.css").open("a") as style:
        style.write("/* new */")
    monkeypatch.setattr(web, "PAGE", tmp_path / "page")
    web.write(tmp_path / "site", fakes)
    assert (tmp_path / "site/sw.js").read_text() != first


def test_the_page_keeps_to_itself() -> None:
    """The policy comes before all resources, and no other server is referenced."""
    page = (web.PAGE / "index.html").read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src 'none';")
    assert not re.search(r"src=|href=", page[: policy.start()])
    sources = "".join(path.read_text() for path in web.PAGE.iterdir())
    assert re.findall(r"https?://[^\s\"]*", sources) == ["http://www.w3.org/2000/svg"]  # an XML namespace


@pytest.fixture(scope="module")
def kept() -> dict[str, Any]:
    """Report of the service worker in a simulated browser: see web_sw.mjs."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is missing")
    command = [node, str(DRIVER.with_name("web_sw.mjs")), str(web.PAGE / "sw.js")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def small_and_large() -> tuple[set[str], set[str]]:
    """Return the files that the service worker of a first visit caches, and those that a newer one caches."""
    sources = {path.name for path in web.PAGE.iterdir()} - {"index.html", "old.js", "sw.js"}
    small = sources | {"", "weights-terms.txt"}
    return small, small | {"labels.json", "scene.png", "weights.onnx"} | {f"ort/{name}" for name in onnxruntime_web.FILES}


def test_the_service_worker_answers_for_our_files_alone(kept: dict[str, Any]) -> None:
    bodies = ["", "", "", "labels.json", "scene.png", "ort/ort.wasm.min.mjs"]
    assert kept["ours"] == [
        {"status": 200, "type": "default", "body": f"/copy/{name}", "policy": "require-corp"} for name in bodies
    ]
    assert kept["others"] == [None] * 6
    assert kept["posted"] is None


def test_the_service_worker_keeps_every_file(kept: dict[str, Any]) -> None:
    """The first worker caches the small files, and the large ones as the page loads them; a newer worker caches all files
    before it takes control. Each is revalidated: the browser's own cache may be old."""
    small, every = small_and_large()
    for name, expected in (("first", small), ("newer", every)):
        assert sorted(kept[name]) == sorted([f"/copy/{file}", "no-cache"] for file in expected)
    assert kept["askedAgain"] == 0
    assert kept["large"] == ["/copy/weights.onnx"]


def test_the_service_worker_does_not_interfere(kept: dict[str, Any]) -> None:
    """Redirects and missing files are passed on, a full disk has no effect while online, and only older caches of the same
    copy of the page are deleted."""
    assert (kept["redirected"]["status"], kept["redirected"]["type"]) == (0, "opaqueredirect")
    assert kept["missing"]["status"] == 404
    assert kept["full"]["body"] == "/copy/labels.json"
    assert kept["left"] == ["fastscnn http://host/copy/nested/ old", "fastscnn http://host/ a", "mine"]


def test_other_folders_are_left_alone(tmp_path: Path, fakes: Path) -> None:
    site = tmp_path / "site"
    files.write(site / "index.html", b"<p>mine")
    for before in ({}, {"thesis.txt": b"mine"}):
        for name, data in before.items():
            files.write(site / name, data)
        with pytest.raises(FastSCNNError, match=r"site: holds other files; give --out"):
            web.write(site, fakes)
        assert (site / "index.html").read_bytes() == b"<p>mine"
    with pytest.raises(FastSCNNError, match=r"index\.html: is a file"):
        web.write(site / "index.html", fakes)
    web.write(tmp_path / "new", fakes)
    files.write(tmp_path / "new" / "robots.txt", b"mine")
    web.write(tmp_path / "new", fakes)
    assert (tmp_path / "new" / "robots.txt").read_bytes() == b"mine"


def test_wrong_files_of_onnx_runtime_are_refused(tmp_path: Path, fakes: Path) -> None:
    files.write(fakes / "ort.wasm.min.mjs", b"other")
    with pytest.raises(FastSCNNError, match=rf"ort\.wasm\.min\.mjs: is not the file of {onnxruntime_web.PACKAGE}; run `npm"):
        web.write(tmp_path / "site", fakes)
    (fakes / "ort.wasm.min.mjs").unlink()
    with pytest.raises(FastSCNNError, match=r"ort\.wasm\.min\.mjs: no such file; run `npm install .* --ort"):
        web.write(tmp_path / "site", fakes)
    assert not (tmp_path / "site").exists()


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Replace npm by a shell script, with an empty cache; return the file that records its calls."""

    def place(script: str) -> Path:
        program = tmp_path / "bin" / "npm"
        files.write(program, f'#!/bin/sh\necho "$@" >> "{tmp_path}/calls"\n{script}\n'.encode())
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
        return tmp_path / "calls"

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return place


def archive(path: Path, contents: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as packed:
        for name, data in contents.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(data)
            packed.addfile(member, BytesIO(data))
    return path


def test_npm_downloads_once(tmp_path: Path, fakes: Path, npm: Callable[[str], Path]) -> None:
    packed = archive(tmp_path / "a.tgz", {"other.js": b"x", **FAKES})
    calls = npm(f'cp "{packed}" "$5"/')
    assert onnxruntime_web.find() == FAKES
    assert onnxruntime_web.find() == FAKES
    assert len(calls.read_text().splitlines()) == 1
    assert calls.read_text().startswith(f"pack {onnxruntime_web.PACKAGE} ")
    (tmp_path / "cache/fastscnn/web" / onnxruntime_web.PACKAGE / "ort.wasm.min.mjs").write_bytes(b"broken")
    assert onnxruntime_web.find() == FAKES
    assert len(calls.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo first >&2; echo no network >&2; exit 1", r"failed \(no network\); run `npm install"),
        ("exit 3", r"failed \(exit code 3\)"),
        ("exit 0", r"failed \(exit code 0\)"),
        ('cp "$ROOT/other.tgz" "$5"/', "The files that npm downloaded are not those of onnxruntime-web@"),
        ('cp "$ROOT/lacking.tgz" "$5"/', "The files that npm downloaded are not those of onnxruntime-web@"),
        ('head -c 150 "$ROOT/other.tgz" > "$5"/a.tgz', "The files that npm downloaded are not those of onnxruntime-web@"),
        ('echo text > "$5"/a.tgz', "The files that npm downloaded are not those of onnxruntime-web@"),
    ],
)
def test_npm_fails(
    tmp_path: Path, fakes: Path, npm: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    archive(tmp_path / "other.tgz", {**FAKES, "ort.wasm.min.mjs": b"other"})
    archive(tmp_path / "lacking.tgz", {name: data for name, data in FAKES.items() if name != "ort.wasm.min.mjs"})
    monkeypatch.setenv("ROOT", str(tmp_path))
    npm(script)
    with pytest.raises(FastSCNNError, match=message):
        onnxruntime_web.find()


def test_npm_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(FastSCNNError, match=r"npm is not installed.* run `npm install onnxruntime-web@.* --ort"):
        onnxruntime_web.find()


@contextmanager
def running(serving: ThreadingHTTPServer) -> Iterator[int]:
    """Run a server in a thread; yield its port."""
    with serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield serving.server_port
        finally:
            serving.shutdown()
            thread.join()


def test_the_server(tmp_path: Path) -> None:
    types = {"a.mjs": "text/javascript", "a.js": "text/javascript", "a.wasm": "application/wasm", "a.html": "text/html"}
    for name in types:
        (tmp_path / name).write_text(name)
    with running(server(tmp_path, 0)) as port:
        for name, type_ in types.items():
            with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
                connection.request("GET", f"/{name}")
                response = connection.getresponse()
                assert (response.read().decode(), response.getheader("Content-Type")) == (name, type_)
                assert {key: response.getheader(key) for key in HEADERS} == HEADERS
        with pytest.raises(FastSCNNError, match=f"port: {port} cannot be used"):
            server(tmp_path, port)
    with pytest.raises(FastSCNNError, match="port: 70000 cannot be used"):
        server(tmp_path, 70000)


def asked(port: int, request: bytes) -> bytes:
    """The answer to the bytes of a request."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(1 << 16), b""))


def test_what_the_server_refuses(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    site = tmp_path / "site"
    for name in ("index.html", "ort/a.mjs", "names.json"):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(f"hello from {name}")
    (tmp_path / "secret").write_text("hush")
    (site / "out").symlink_to(tmp_path / "secret")
    (site / "circle").symlink_to(site / "circle")
    (site / "folder").symlink_to(tmp_path)
    (site / "inside").symlink_to(site / "names.json")
    (site / "linked").mkdir()
    (site / "linked" / "index.html").symlink_to(tmp_path / "secret")

    def get(path: str, host: str = "Host: localhost\r\n", method: str = "GET") -> bytes:
        return asked(port, f"{method} {path} HTTP/1.0\r\n{host}\r\n".encode())

    with running(server(site, 0)) as port:
        for host in ("localhost", f"localhost:{port}", f"127.0.0.1:{port}", "LOCALHOST"):
            assert b" 200 " in get("/names.json", f"Host: {host}\r\n")[:20]
        for path in ("/", "/inside", "/names.json?a=1"):
            assert b"hello from" in get(path)
        folders = ("/ort/", "/linked/")
        for path in ("/%00", *folders, "/out", "/circle", "/folder/secret", "/..%2fsecret", "/../secret", "//etc/passwd"):
            for method in ("GET", "HEAD"):
                assert b" 404 " in get(path, method=method)[:20], path
        assert b" 414 " in get("/a" * 30_000)[:20]  # resolving it would take seconds
        for host in ("Host: evil.example\r\n", "Host: localhost.evil.example\r\n", "Host: 192.168.0.1\r\n", ""):
            assert b" 421 " in get("/names.json", host)[:20]
    assert capfd.readouterr() == ("", "")


def refused(port: int) -> bool:
    """Return whether a whole request gets no answer, because its connection is closed at once."""
    try:
        return b" 200 " not in asked(port, b"HEAD /large.wasm HTTP/1.0\r\nHost: localhost\r\n\r\n")[:20]
    except ConnectionError:
        return True


def until_answered(port: int) -> None:
    """Wait until the server has noticed that connections were closed."""
    wait_until(lambda: not refused(port))


def test_clients_that_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Half a request is given up, a client that hangs up is no news, and the number of connections is limited."""
    (tmp_path / "large.wasm").write_bytes(bytes(1 << 24))
    monkeypatch.setattr(web_server.Handler, "timeout", 0.5)
    monkeypatch.setattr(web_server, "CONNECTIONS", 3)
    with running(server(tmp_path, 0)) as port:
        for _ in range(5):
            client = socket.create_connection(("127.0.0.1", port), timeout=10)
            client.sendall(b"GET /large.wasm HTTP/1.0\r\nHost: localhost\r\n\r\n")
            assert client.recv(10)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            until_answered(port)
        assert asked(port, b"GET") == b""
        until_answered(port)
        held: list[socket.socket] = []
        while not refused(port):
            assert len(held) <= 3, "the fourth is closed"
            held.append(socket.create_connection(("127.0.0.1", port), timeout=10))
        assert held
        for client in held:
            client.close()
        until_answered(port)
    assert capfd.readouterr() == ("", "")


def test_a_client_that_sends_byte_by_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_server.Handler, "timeout", 0.5)
    with running(server(tmp_path, 0)) as port, socket.create_connection(("127.0.0.1", port), timeout=0.1) as client:
        client.sendall(b"GET / HTTP/1.0\r\nX: ")
        for _ in range(30):
            with suppress(TimeoutError, ConnectionError):
                client.sendall(b"a")
                if client.recv(1) == b"":
                    return
        pytest.fail("it holds its connection for ever")


def test_the_command(
    tmp_path: Path, fakes: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["web", "--out", str(tmp_path / "site"), "--ort", str(fakes)]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert f"in {tmp_path / 'site'}" in out
    assert "--port 8000" in out

    def interrupt(_: ThreadingHTTPServer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ThreadingHTTPServer, "serve_forever", interrupt)
    assert cli.main([*words, "--port", "0"]) == 0
    assert re.search(r"http://localhost:\d+ \(stop with Ctrl-C\)", capsys.readouterr().out)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/a.txt").touch()
    assert cli.main(["web", "--out", str(tmp_path / "other"), "--port", "0"]) == 1
    assert "holds other files" in capsys.readouterr().err


class Plain(SimpleHTTPRequestHandler):
    """A server without special headers, like simple hosts; it records requests."""

    asked: list[str]

    def do_GET(self) -> None:
        if self.path != "/count":
            self.asked.append(self.path)
            return super().do_GET()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(self.asked).encode())
        return None

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture(scope="module")
def tools() -> dict[str, str]:
    """Paths of Node, Chromium, and a folder node_modules with playwright-core and onnxruntime-web."""
    modules = os.environ.get("FASTSCNN_NODE_MODULES", "")
    found = {"node": shutil.which("node"), "chromium": shutil.which("chromium") or shutil.which("google-chrome")}
    for name, path in found.items():
        if path is None:
            pytest.skip(f"{name} is missing")
    for package in ("playwright-core", "onnxruntime-web"):
        if not (Path(modules) / package).is_dir() or not modules:
            pytest.skip(f"{package} is missing: FASTSCNN_NODE_MODULES names the folder node_modules that holds it")
    return {**{name: str(path) for name, path in found.items()}, "modules": modules}


@pytest.fixture(scope="module")
def browsed(tools: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """The orders and the report of a browser session: see web.mjs."""
    folder = tmp_path_factory.mktemp("web")
    web.write(folder / "site", Path(tools["modules"]) / "onnxruntime-web" / "dist")
    frames = [folder / f"{seed}.jpg" for seed in range(4)]
    for seed, path in enumerate(frames):
        images.write(path, synthetic.draw(360, 480, seed).image)
    (folder / "camera.mjpeg").write_bytes(b"".join(path.read_bytes() for path in frames))
    pictures = [("same.png", 360, 480), ("large.png", 720, 1280), ("tall.png", 500, 333), ("wide.png", 200, 900),
                ("photo.jpg", 720, 960)]
    for seed, (name, height, width) in enumerate(pictures):
        images.write(folder / name, synthetic.draw(height, width, seed).image)
    turned = Image.fromarray(synthetic.draw(300, 400, 5).image)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(folder / "turned.png", exif=exif)
    images.write(folder / "tiny.png", np.zeros((31, 40, 3), np.uint8))
    (folder / "notes.txt").write_text("no picture")
    (folder / "site/other.html").write_text("<!doctype html><link rel=icon href=data:,><body>other")
    names = [*(name for name, _, _ in pictures), "turned.png"]
    orders = {
        **tools,
        "profile": str(folder / "profile"),
        "camera": str(folder / "camera.mjpeg"),
        "text": str(folder / "notes.txt"),
        "tiny": str(folder / "tiny.png"),
        "overlay": str(folder / "overlay.jpg"),
        "pictures": [
            {"path": str(folder / name), "type": f"image/{name[-3:]}", "labels": str(folder / f"{name}.labels.png")}
            for name in names
        ],
    }
    asked: list[str] = []
    handler = type("Counting", (Plain,), {"asked": asked})
    with running(ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder / "site")))) as port:
        orders["url"] = f"http://localhost:{port}/"
        done = subprocess.run(
            [tools["node"], str(DRIVER)], input=json.dumps(orders), capture_output=True, text=True, check=False, timeout=240
        )
    assert done.returncode == 0, done.stderr
    return orders, json.loads(done.stdout)


Browsed = tuple[dict[str, Any], dict[str, Any]]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_users_own_network_in_the_browser(
    tools: dict[str, str], tmp_path: Path, tiny_onnx: Path, stripes: Scene, precision: str
) -> None:
    """Labels equal Python's; legend and footer are those of the file's card."""
    path = tiny_onnx if precision == "float32" else weights.bundled("onnx", "int8")
    web.write(tmp_path / "site", Path(tools["modules"]) / "onnxruntime-web" / "dist", path)
    images.write(tmp_path / "stripes.png", stripes.image)
    orders = {**tools, "profile": str(tmp_path / "profile"), "camera": str(tmp_path / "stripes.png"),
              "picture": str(tmp_path / "stripes.png"), "labels": str(tmp_path / "labels.png")}
    with running(server(tmp_path / "site", 0)) as port:
        orders["url"] = f"http://localhost:{port}/"
        done = subprocess.run([tools["node"], str(DRIVER.with_name("web_own.mjs"))], input=json.dumps(orders),
                              capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    segmenter = Segmenter.load(path, "onnx", threads=1)
    expected = segmenter.segment(stripes.image).labels
    assert (images.read_values(tmp_path / "labels.png")[0] == expected).mean() >= 0.999
    assert report["legend"] == list(segmenter.card.label_set.names)
    height, width = segmenter.card.size
    assert f"{precision}, input {height}x{width} in the shape of each picture;" in report["footer"]
    assert ("not stated" in report["footer"]) == (precision == "float32")


@pytest.mark.slow
def test_labels_of_the_page(browsed: Browsed) -> None:
    """Saved labels of dropped pictures equal those of ONNX Runtime in Python, at an input of the same size."""
    orders, report = browsed
    segmenter = Segmenter.load(backend="onnx", precision="float32", threads=1)
    assert report["inputs"] == ["360x480", "296x544", "520x352", "200x896", "360x480", "488x352"]
    for picture, shown in zip(orders["pictures"], report["inputs"], strict=True):
        image = images.read(picture["path"])
        height, width = image.shape[:2]
        assert shown == "{}x{}".format(*segmenter.input_size((height, width)))
        expected: UInt8Array = segmenter.segment(image).labels
        got = images.read_values(picture["labels"])[0]
        assert got.shape == expected.shape
        assert (got == expected).mean() >= 0.999, (picture["path"], (got == expected).mean())
    stems = [Path(picture["path"]).stem for picture in orders["pictures"]]
    assert report["names"] == [*(f"{stem}.labels.png" for stem in stems), "turned.overlay.jpg"]
    assert images.read(orders["overlay"]).shape == images.read(orders["pictures"][-1]["path"]).shape


@pytest.mark.slow
def test_nothing_leaves_the_page(browsed: Browsed) -> None:
    """After loading there are no requests; the page works and loads offline; and every kind of request is blocked."""
    _, report = browsed
    assert report["requested"] == []
    assert set(report["atEnd"][len(report["atReady"]) :]) <= {"/sw.js"}  # browsers check for a newer worker on their own
    assert report["atReady"].count("/weights.onnx") == 1  # even on a first visit, which loads the page twice
    assert report["offline"].startswith("Ready")
    assert report["plain"] == [False, 0]  # no service worker
    assert report["blocked"] == {"page": [], "worker": [], "plainPage": [], "plainWorker": []}
    assert report["free"] == ["get", "post", "foreign", "old", "kept", "nested", "image"]  # on pages that are not ours


@pytest.mark.slow
def test_other_pages_on_the_server(browsed: Browsed) -> None:
    """The service worker does not affect other pages; it cached all files in one visit."""
    _, report = browsed
    assert report["other"] == ["other", False]
    assert report["kept"] == sorted(f"/{file}" for file in small_and_large()[1])


@pytest.mark.slow
def test_the_page_works(browsed: Browsed) -> None:
    _, report = browsed
    assert report["complaintsAtEnd"] == []
    assert report["isolated"] is True  # on a server without headers: the service worker adds them
    assert re.search(r"\d+ ms.*read .* network .* thread", report["meter"])
    assert report["late"].startswith("Labelled scene.png")
    assert report["refused"] == "notes.txt is not a picture or video that this browser can read."
    assert report["small"] == "The picture has 31x40 pixels; each side needs at least 32."
    assert report["legend"] == list(Segmenter.load(backend="onnx", threads=1).card.label_set.names)
    assert sum(float(share.strip("<% ")) for share in report["shares"]) == pytest.approx(100, abs=2)
    assert report["solid"] == 255
    assert report["dimmed"] < 255
    assert report["restored"] == 255
    assert report["opacity"] == "0.2"
    assert report["over"][0] == report["over"][1]
    assert report["beside"][0] < report["beside"][1]
    assert report["video"] == [160, 90, "296x544"]
    assert report["badVideo"] == "notes.txt is not a video that this browser can play."
    assert re.search(r"frames/s.* input 360x480 ", report["camera"][1])
    assert report["camera"][0].startswith("Labelling the camera")
    assert report["unplugged"] == ["The camera was disconnected; connect it again, or open a picture.", "Use camera", False]
    assert report["left"][0].startswith("Labelled scene.png")
    assert report["left"][1] == "Use camera"
    assert (report["paused"], report["off"]) == ("Play", ["The camera is off.", False])
    assert report["refusedCamera"].startswith("Access to the camera was denied; allow it")
    assert "without SIMD" in report["noSimd"]


@pytest.mark.slow
def test_the_page_without_a_mouse(browsed: Browsed) -> None:
    orders, report = browsed
    labels = images.read_values(orders["pictures"][-1]["labels"])[0]
    names = report["legend"]
    height, width = labels.shape
    assert names[labels[int(0.52 * height), width // 2]] == report["probe"] == report["here"]
    assert report["probeAfter"] is False
    assert report["pointed"] == names[labels[height // 4, width // 4]]
    assert report["unnamed"] == []
    order = report["order"]
    assert order[:4] == ["open", "camera", "example", "stage"]
    assert order.index("opacity") < order.index("save-labels") < order.index("save-overlay")
