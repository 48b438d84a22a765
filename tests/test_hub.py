"""Weights on the hub: which file an address means, the cache, errors, uploads and the model card. The hub is a stand-in."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import WriteOnnx
from made import hub as standin
from made.hub import TOKEN, Hub

import fastscnn
from fastscnn import cli
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.data.synthetic import Scene
from fastscnn.hub import download
from fastscnn.hub.address import Address, is_address, parse
from fastscnn.hub.download import weight_file
from fastscnn.hub.push import readme
from fastscnn.media import images
from fastscnn.model import onnx_file
from fastscnn.model.card import Data
from fastscnn.model.weights import bundled

ADDRESS = "hf://town/streets"
LOG_IN = r"log in with `hf auth login`, or set HF_TOKEN\.$"
TERMS = "Town, CC BY-SA 4.0 (the town)"
OTHER = "license: other\nlicense_name: terms-of-the-training-data\nlicense_link: LICENSE\n"
needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="needs the extra train")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """The stand-in; huggingface_hub reads its address when it is imported, which is here for the first time."""
    with standin.running() as hub, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", hub.url)
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))
        patch.setenv("HF_HUB_DISABLE_XET", "1")  # uploads by Git LFS, which the stand-in has
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
            patch.delenv(name, raising=False)
        with pytest.raises(FastSCNNError, match="no such repository"):
            weight_file(ADDRESS)  # imports it with the settings of the package
        yield hub


@pytest.fixture
def hub(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The stand-in without repositories, and an empty cache."""
    from huggingface_hub import constants

    assert server.url == constants.ENDPOINT, "huggingface_hub was imported before"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    server.repositories.clear()
    server.requests.clear()
    return server


@pytest.fixture
def logged_in(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return hub


def go_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def town_onnx(tiny_onnx: Path, tmp_path: Path, write_onnx: WriteOnnx) -> Path:
    """A weight file whose card states training data and scores."""
    return with_card(write_onnx, tiny_onnx, tmp_path / "town.onnx", data=Data("town", "train", 9, TERMS, "0" * 64), metrics={
        "val": {"miou": 50.126, "pixel_accuracy": 80.0, "iou": {"red": 60.0, "green": 40.25, "blue": None}, "dataset": "town"},
        "val at 32x48": {"miou": 40.0, "pixel_accuracy": 70.0, "iou": {}, "dataset": "suburb"},
    })


def with_card(write_onnx: WriteOnnx, like: Path, path: Path, **fields: Any) -> Path:
    """Write the network of a file with another card."""
    described = replace(onnx_file.load(like)[1], **fields)
    return write_onnx(path, described.label_set.names, {"fastscnn.card": described.to_json()})


def asked(hub: Hub) -> list[str]:
    """Method and path of the requests so far."""
    return [f"{method} {path}" for method, path, _ in hub.requests]


# addresses


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf://town/streets", Address("town/streets")),
        ("hf://town/streets/", Address("town/streets")),
        ("hf://Town-1/a.b_c@v1.0", Address("Town-1/a.b_c", "v1.0")),
        ("hf://town/streets/sub/a b.onnx", Address("town/streets", None, "sub/a b.onnx")),
        ("hf://town/streets@refs/pr/3/a.onnx", Address("town/streets", "refs/pr/3", "a.onnx")),
    ],
)
def test_addresses(text: str, expected: Address) -> None:
    assert is_address(text)
    assert parse(text) == parse(Path(text)) == expected  # Path drops a slash
    assert str(expected) == text.rstrip("/")


@pytest.mark.parametrize("text", ["hf://", "hf://town", "hf://town/../a.onnx", "hf://town/s/../a.onnx", "hf://datasets/town/s",
                                  "hf://town/streets@", "hf://to wn/streets", "hf://town/streets?x=1", "hf://a--b/c"])
def test_wrong_addresses(text: str) -> None:
    assert is_address(text)
    with pytest.raises(ArgumentError, match=r"an address of weights on the hub is hf://OWNER/NAME, "):
        weight_file(text)


def test_other_paths_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert not any(is_address(path) for path in ("https://town/a", "C:/hf", "town/hf:/a", "hf"))
    assert weight_file("~/a.onnx") == tmp_path / "a.onnx"
    assert weight_file(Path("a.pth")) == Path("a.pth")  # refused by what opens it


# download


def test_weights_of_the_hub_segment_as_those_of_the_file(hub: Hub, tiny_onnx: Path, stripes: Scene) -> None:
    hub.add("town/streets", {"model.onnx": tiny_onnx.read_bytes(), "model-int8.onnx": b"", "README.md": b"# streets"})
    segmenter = fastscnn.Segmenter.load(ADDRESS, "onnx", threads=1)
    assert (segmenter.segment(stripes.image).labels == stripes.labels).all()
    assert segmenter.path
    assert segmenter.path.read_bytes() == tiny_onnx.read_bytes()
    assert segmenter.verified
    file = "/town/streets/resolve/main/model.onnx"
    assert asked(hub) == [f"HEAD {file}", f"HEAD {file}", f"GET {file}"]
    assert fastscnn.Segmenter.load(Path(ADDRESS), "onnx", threads=1).path == segmenter.path
    assert asked(hub)[3:] == [f"HEAD {file}", f"HEAD {file}"]  # current, so not downloaded again


def test_requests_carry_no_more_than_versions(hub: Hub, tiny_onnx: Path) -> None:
    hub.add("town/streets", {"model.onnx": tiny_onnx.read_bytes()})
    weight_file(ADDRESS)
    agents = [{name.lower(): value for name, value in headers.items()}["user-agent"] for *_, headers in hub.requests]
    for agent in agents:
        assert {part.strip().partition("/")[0] for part in agent.split(";")} <= {"fastscnn", "hf_hub", "python"}


def test_a_changed_file_is_downloaded_again_and_a_commit_is_not(
    hub: Hub, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = hub.add("town/streets", {"model.onnx": b"first"})
    commit = repository.branches["main"]
    assert weight_file(ADDRESS).read_bytes() == b"first"
    repository.commit({"model.onnx": b"second"})
    assert weight_file(ADDRESS).read_bytes() == b"second"
    assert weight_file(f"{ADDRESS}@{commit}").read_bytes() == b"first"
    before = len(hub.requests)
    assert weight_file(f"{ADDRESS}@{commit}").read_bytes() == b"first"
    assert len(hub.requests) == before  # a commit cannot change
    repository.branches["v1"] = commit
    assert weight_file(f"{ADDRESS}@v1/model.onnx").read_bytes() == b"first"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "model.onnx"), ({"precision": "int8"}, "model-int8.onnx"), ({"precision": "bfloat16"}, "model.onnx"),
        ({"backend": "torch"}, "model.safetensors"), ({"backend": "cuda", "precision": "float16"}, "model.safetensors"),
    ],
)  # fmt: skip
def test_the_default_file(hub: Hub, options: dict[str, Any], expected: str) -> None:
    hub.add("town/streets", dict.fromkeys(("a.onnx", "model.onnx", "model-int8.onnx", "model.safetensors"), b"1"))
    assert weight_file(ADDRESS, **options).name == expected


@pytest.mark.parametrize(
    ("names", "options", "expected"),
    [
        (["street.onnx", "street.safetensors", "b.bin"], {}, "street.onnx"),
        (["deep/street.onnx"], {"precision": "int8"}, "street.onnx"),
        (["a.safetensors"], {}, "a.safetensors"),
        (["a.onnx", "a.safetensors"], {"backend": "torch"}, "a.safetensors"),
    ],
)
def test_the_only_file_is_taken(
    hub: Hub, names: list[str], options: dict[str, Any], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("town/streets", dict.fromkeys(names, b"1"))
    found = weight_file(ADDRESS, **options)
    assert found.name == expected
    go_offline(monkeypatch)
    assert weight_file(ADDRESS, **options) == found


@pytest.mark.parametrize(
    ("names", "address", "message"),
    [
        (["a.onnx", "b/c.onnx"], ADDRESS, rf"no model\.onnx, but a\.onnx, b/c\.onnx; name one, such as {ADDRESS}/a\.onnx\."),
        (["model.bin", "a.pth"], ADDRESS, r"has no \.onnx or \.safetensors file; other files, such as pickles, are not"),
        (["model.onnx", "x.bin"], f"{ADDRESS}/other.onnx", r"has no such file; its weight files: model\.onnx\.$"),
        ([], f"{ADDRESS}/other.onnx", r"has no such file; its weight files: none\.$"),
        (["a.pth"], f"{ADDRESS}/a.pth", r"weights are \.onnx or \.safetensors files; others, such as pickles, are not read"),
        (["model.onnx"], f"{ADDRESS}@v9", r"there is no branch, tag or commit 'v9'; check the part after @\.$"),
        (["model.onnx"], "hf://town/other", rf"no such repository, or it is private; check the name, or {LOG_IN}"),
    ],
)  # fmt: skip
def test_no_fitting_file(hub: Hub, names: list[str], address: str, message: str) -> None:
    hub.add("town/streets", dict.fromkeys(names, b"1"))
    with pytest.raises(FastSCNNError, match=rf"^{address}: .*{message}"):
        fastscnn.Segmenter.load(address)


def test_private_and_gated_repositories(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("town/private", {"model.onnx": b"1"}, private=True)
    hub.add("town/gated", {"model.onnx": b"1"}, gated=True)
    with pytest.raises(FastSCNNError, match=rf"^hf://town/private: .*no such repository, or it is private; .*{LOG_IN}"):
        weight_file("hf://town/private")
    with pytest.raises(FastSCNNError, match=rf"^hf://town/gated: its terms must be accepted first, at {hub.url}/town/gated"):
        weight_file("hf://town/gated")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert weight_file("hf://town/private").read_bytes() == weight_file("hf://town/gated").read_bytes() == b"1"


@pytest.mark.parametrize("suffix", [".onnx", pytest.param(".safetensors", marks=needs_torch)])
def test_a_pickle_under_another_name_is_refused(hub: Hub, suffix: str) -> None:
    hub.add("town/streets", {f"model{suffix}": pickle.dumps({"weight": np.zeros(9)})})
    with pytest.raises(FastSCNNError, match=rf"model{suffix}: (is a pickle, which can run code|is not an ONNX model)"):
        fastscnn.Segmenter.load(ADDRESS, threads=1)


def test_large_files_are_refused_before_they_are_downloaded(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 50_000)
    hub.add("town/streets", {"model.onnx": bytes(50_000)})
    with pytest.raises(FastSCNNError, match=r"/model\.onnx: has 50000 bytes; weight files have less than 2 GiB"):
        weight_file(ADDRESS)
    assert asked(hub) == ["HEAD /town/streets/resolve/main/model.onnx"]
    hub.repositories["town/streets"].commit({"model.onnx": bytes(49_999)})
    assert weight_file(ADDRESS).stat().st_size == 49_999


def test_the_cache_is_used_without_a_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("town/streets", {"model.onnx": b"1", "other.onnx": b"2"})
    found = weight_file(ADDRESS)
    hub.broken = 503
    try:
        assert weight_file(ADDRESS) == found
        with pytest.raises(FastSCNNError, match=r"^hf://town/streets/other\.onnx: the hub answered with status 503; try again"):
            weight_file(f"{ADDRESS}/other.onnx")
    finally:
        hub.broken = None
    go_offline(monkeypatch)
    before = len(hub.requests)
    assert weight_file(ADDRESS) == found
    for address in (f"{ADDRESS}/other.onnx", "hf://town/none", f"{ADDRESS}@v2"):
        with pytest.raises(FastSCNNError, match=rf"^{address}: is not in the cache, and HF_HUB_OFFLINE forbids to ask the hub"):
            weight_file(address)
    assert len(hub.requests) == before


def test_offline_another_cached_file_does_not_stand_in_for_the_default(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("town/streets", {"model.onnx": b"1", "other.onnx": b"2"})
    weight_file(f"{ADDRESS}/other.onnx")
    go_offline(monkeypatch)
    with pytest.raises(FastSCNNError, match="is not in the cache"):
        weight_file(ADDRESS)


def test_a_cache_that_cannot_be_written(hub: Hub, tmp_path: Path) -> None:
    hub.add("town/streets", {"model.onnx": b"1"})
    (tmp_path / "cache").touch()
    with pytest.raises(FastSCNNError, match=rf"^{ADDRESS}: {tmp_path}/cache.* cannot be read or written \(.*\)\.$"):
        weight_file(ADDRESS)


def test_progress_is_reported_and_nothing_is_printed(hub: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    hub.add("town/streets", {"model.onnx": bytes(30_000)})
    steps: list[tuple[int, int]] = []
    with warnings.catch_warnings(record=True) as warned:
        weight_file(ADDRESS, on_progress=lambda done, total: steps.append((done, total)))
    assert steps[-1] == (30_000, 30_000)
    assert (warned, *capfd.readouterr()) == ([], "", "")


def test_no_network(tmp_path: Path) -> None:
    with socket.socket() as closed:  # bound and not listening: connections are refused
        closed.bind(("127.0.0.1", 0))
        site = f"http://127.0.0.1:{closed.getsockname()[1]}"
        code = f"import sys; from fastscnn import cli; sys.exit(cli.main(['demo', '--weights', '{ADDRESS}']))"
        environment = {**os.environ, "HF_ENDPOINT": site, "HF_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, env=environment, capture_output=True,
                              text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    message = f"{ADDRESS}: {site} cannot be reached (ConnectError); check the network, or give a file of this machine."
    assert done.stderr == f"fastscnn: {message}\n"


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(FastSCNNError, match=r"^hf://town/streets: .*The hub needs the extra 'hub': install fastscnn\[hub\]"):
        fastscnn.Segmenter.load(ADDRESS)


def test_huggingface_hub_is_imported_only_for_an_address() -> None:
    code = "import sys, fastscnn.cli; fastscnn.push; fastscnn.Segmenter.load(); assert 'huggingface_hub' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# push


def test_what_is_pushed_is_loaded(logged_in: Hub, town_onnx: Path, stripes: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    address = fastscnn.push(town_onnx, ADDRESS)
    repository = logged_in.repositories["town/streets"]
    assert address == f"{ADDRESS}@{repository.branches['main']}"
    assert set(repository.files()) == {".gitattributes", "README.md", "model.onnx"}
    assert repository.files()["model.onnx"] == town_onnx.read_bytes()
    assert not repository.private
    for each in (ADDRESS, address):
        segmenter = fastscnn.Segmenter.load(each, "onnx", threads=1)
        assert (segmenter.segment(stripes.image).labels == stripes.labels).all()
        assert segmenter.card.data == Data("town", "train", 9, TERMS, "0" * 64)
    assert capfd.readouterr() == ("", "")


def test_the_model_card_as_the_hub_reads_it(logged_in: Hub, town_onnx: Path) -> None:
    from huggingface_hub import ModelCard

    fastscnn.push(town_onnx, ADDRESS)
    read = ModelCard.load("town/streets")
    assert read.data.license == "cc-by-sa-4.0"
    assert (read.data.library_name, read.data.pipeline_tag, read.data.datasets) == ("fastscnn", "image-segmentation", ["town"])
    assert {"fast-scnn", "semantic-segmentation"} <= set(read.data.tags)
    assert read.data.model_name == "streets"
    assert [each.dataset_name for each in read.data.eval_results] == ["town val", "suburb val"]
    results = {each.metric_name: (each.dataset_type, each.dataset_split, each.metric_type, each.metric_value)
               for each in read.data.eval_results}
    assert results == {
        "mIoU in percent, input 64x96, float32": ("town", "val", "mean_iou", 50.13),
        "mIoU in percent, input 32x48, float32": ("suburb", "val", "mean_iou", 40.0),
    }
    assert f"Terms of use: {TERMS}\n" in read.text
    assert "| float32 | town | val | 64x96 | 50.13 | 80.00 |\n| float32 | suburb | val | 32x48 | 40.00 | 70.00 |" in read.text
    assert "| id | class | IoU % (town val, 64x96) |" in read.text
    assert "| 1 | green | 40.25 |\n| 2 | blue | absent |" in read.text
    assert f'fastscnn.Segmenter.load("{ADDRESS}")' in read.text
    assert readme(town_onnx, ADDRESS) == read.content


@needs_torch
def test_the_bundled_weights(logged_in: Hub) -> None:
    files = [bundled("torch"), bundled(), bundled(precision="float32")]
    fastscnn.push(files, "hf://me/camvid", private=True)
    repository = logged_in.repositories["me/camvid"]
    assert repository.private
    written = repository.files()
    for name, file in zip(("model.safetensors", "model-int8.onnx", "model.onnx"), files, strict=True):
        assert written[name] == file.read_bytes()
    text = written["README.md"].decode()
    assert OTHER in text
    data = onnx_file.load(files[1])[1].data
    assert data
    terms = written["LICENSE"].decode()
    assert [part in terms for part in data.terms.split("; ")] == [True, True]
    assert "name: camvid test\n" in text
    assert "name: mIoU in percent, input 360x480, int8" in text
    assert "| int8 | camvid | test | 360x480 |" in text
    assert text.index("| model.onnx | float32 |") < text.index("| model-int8.onnx |") < text.index("| model.safetensors |")
    fastscnn.push(files, "hf://me/camvid", private=True)  # the same again


@pytest.mark.parametrize(
    ("terms", "license_id", "expected"),
    [
        ("CamVid, CC BY-NC 4.0: research", None, "license: cc-by-nc-4.0\n"),
        ("town: CC BY 4.0; facade: CC BY 4.0 (the facades)", None, "license: cc-by-4.0\n"),
        ("CamVid, CC BY-NC 4.0: research; LabelMeFacade: research only", None, OTHER),
        ("not stated; and of earlier weights: CamVid, CC BY-NC 4.0", None, OTHER),
        ("town: CC BY 4.0; facade: CC BY-NC 4.0", None, OTHER),
        ("Town, CC BY-ND 3.0", None, OTHER),  # the hub has no identifier for it
        ("Apache License, Version 2.0", None, "license: apache-2.0\n"),
        ("images CC BY 4.0, labels CC BY-NC 4.0", None, OTHER),
        ("Cityscapes: non-commercial research", None, OTHER),
        ("not stated", "cc-by-4.0", "license: cc-by-4.0\n"),
        ("", "mit", "license: mit\n"),
    ],
)
def test_the_licence(
    server: Hub, town_onnx: Path, tmp_path: Path, write_onnx: WriteOnnx, terms: str, license_id: str | None, expected: str
) -> None:
    data = Data("town", "train", 9, terms, "0" * 64)
    assert expected in readme(with_card(write_onnx, town_onnx, tmp_path / "a.onnx", data=data), ADDRESS, license_id)


def test_the_licence_file_has_all_terms(logged_in: Hub, town_onnx: Path, tmp_path: Path, write_onnx: WriteOnnx) -> None:
    data = Data("town+old\nfacade", "train", 9, "town: CC BY 4.0;\nold facade: research\nonly", "0" * 64)
    fastscnn.push(with_card(write_onnx, town_onnx, tmp_path / "a.onnx", data=data), ADDRESS)
    written = logged_in.repositories["town/streets"].files()
    assert written["LICENSE"].decode().splitlines()[-2:] == ["- town: CC BY 4.0", "- old facade: research only"]
    assert b"\ndatasets:\n- town\nlibrary_name:" in written["README.md"]  # the other name is no identifier


def test_a_score_of_an_older_card_is_of_no_dataset(server: Hub, town_onnx: Path, tmp_path: Path, write_onnx: WriteOnnx) -> None:
    metrics = {"val": {"miou": 50.126, "pixel_accuracy": 80.0, "iou": {"red": 60.0}}}
    text = readme(with_card(write_onnx, town_onnx, tmp_path / "a.onnx", metrics=metrics), ADDRESS)
    assert "| float32 | not recorded | val | 64x96 | 50.13 | 80.00 |" in text
    assert "| id | class | IoU % (val, 64x96) |" in text
    assert "model-index" not in text  # it needs the dataset of each score


def test_text_of_a_card_is_no_markup(server: Hub, town_onnx: Path, tmp_path: Path, write_onnx: WriteOnnx) -> None:
    data = Data("---\na: b", "x|y", 9, "CC BY 4.0 <script>alert(1)</script>\n# [a](http://b)", "0" * 64)
    text = readme(with_card(write_onnx, town_onnx, tmp_path / "a.onnx", data=data), ADDRESS)
    assert r"x\|y, 9 images. Terms of use: CC BY 4.0 \<script\>alert(1)\</script\> \# \[a\](http://b)" in text
    assert text.count("\n---\n") == 1


def test_no_licence(logged_in: Hub, tiny_onnx: Path, town_onnx: Path, tmp_path: Path, write_onnx: WriteOnnx) -> None:
    with pytest.raises(FastSCNNError, match=rf"^{tiny_onnx}: its model card states no terms of the training data, so "):
        fastscnn.push(tiny_onnx, ADDRESS)
    with pytest.raises(ArgumentError, match=r"^license: the card of .*town\.onnx states the terms .*; omit the licence"):
        fastscnn.push(town_onnx, ADDRESS, license_id="mit")
    data = Data("a+b", "train", 9, f"not stated; {TERMS}", "0" * 64)
    partly = with_card(write_onnx, town_onnx, tmp_path / "partly.onnx", data=data)
    with pytest.raises(ArgumentError, match=r"^license: the card of .*partly\.onnx states the terms .*; omit the licence"):
        fastscnn.push(partly, ADDRESS, license_id="mit")
    with pytest.raises(ArgumentError, match=r"^license: expected an identifier .* cc-by-4\.0, not 'My licence'"):
        fastscnn.push(tiny_onnx, ADDRESS, license_id="My licence")
    assert logged_in.requests == []
    with pytest.raises(FastSCNNError, match=r'^hf://town/streets: the hub refuses it .*"license" must not be my-own'):
        fastscnn.push(tiny_onnx, ADDRESS, license_id="my-own")
    assert set(logged_in.repositories["town/streets"].files()) == {".gitattributes"}


def test_files_that_do_not_belong_together(hub: Hub, town_onnx: Path, tmp_path: Path, write_onnx: WriteOnnx) -> None:
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(town_onnx.read_bytes())
    other = with_card(write_onnx, town_onnx, tmp_path / "other.onnx", parameters_sha256="1" * 64, precision="int8")
    labels = with_card(write_onnx, town_onnx, tmp_path / "labels.onnx", output="labels")
    pickled = tmp_path / "a.pth"
    for files, message in {
        (town_onnx, copy): rf"^{copy}: would be model\.onnx on the hub, as {town_onnx}; push one of them",
        (town_onnx, other): rf"^{other}: holds other weights than {town_onnx}; push them to another repository",
        (labels,): rf"^{labels}: returns labels, and fastscnn needs logits; export it with --output logits",
        (pickled,): rf"^{pickled}: weights are \.onnx or \.safetensors files; others, such as pickles, are not read",
        (tmp_path / "no.onnx",): r"no\.onnx: cannot be read",
        (): r"^push: give at least one weight file",
    }.items():
        with pytest.raises(FastSCNNError, match=message):
            fastscnn.push(files, ADDRESS)
    with pytest.raises(ArgumentError, match=r"^hf://town/streets/a\.onnx: names a file, .*; give hf://town/streets\.$"):
        fastscnn.push(town_onnx, f"{ADDRESS}/a.onnx")
    assert hub.requests == []


def test_uploads_that_are_refused(logged_in: Hub, town_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged_in.add("town/public", {"a": b"1"})
    with pytest.raises(FastSCNNError, match=r"^hf://town/public: exists and is public; .*, or omit --private\.$"):
        fastscnn.push(town_onnx, "hf://town/public", private=True)
    with pytest.raises(FastSCNNError, match=r"^hf://others/a: the token does not allow this; .* write access\.$"):
        fastscnn.push(town_onnx, "hf://others/a")
    with pytest.raises(FastSCNNError, match=r"^hf://town/public@v2: there is no branch, tag or commit 'v2'"):
        fastscnn.push(town_onnx, "hf://town/public@v2")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(FastSCNNError, match=rf"^hf://town/public: the hub does not accept the token; {LOG_IN}"):
        fastscnn.push(town_onnx, "hf://town/public")
    assert logged_in.repositories["town/public"].files() == {"a": b"1"}
    logged_in.requests.clear()
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(FastSCNNError, match=r"^hf://town/public: an upload needs a token with write access; log in"):
        fastscnn.push(town_onnx, "hf://town/public")
    assert logged_in.requests == []


# the command line


def test_the_commands(
    logged_in: Hub, town_onnx: Path, stripes: Scene, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    card = tmp_path / "card.md"
    assert cli.main(["push", str(town_onnx), "--to", ADDRESS, "--card", str(card)]) == 0
    assert logged_in.requests == []
    assert capfd.readouterr() == (f"Wrote {card}\n", "")
    assert cli.main(["push", str(town_onnx), "--to", ADDRESS, "--quiet"]) == 0
    commit = logged_in.repositories["town/streets"].branches["main"]
    assert card.read_bytes() == logged_in.repositories["town/streets"].files()["README.md"]
    expected = f"Uploaded to {ADDRESS}@{commit}\nNext: fastscnn segment IMAGE --weights {ADDRESS}\n"
    assert capfd.readouterr() == (expected, "")
    images.write(tmp_path / "a.png", stripes.image)
    words = ["segment", str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--threads", "1", "-q"]
    for weights in (["--weights", ADDRESS], [f"--weights={ADDRESS}@{commit}/model.onnx"]):
        assert cli.main([*words, *weights]) == 0
        assert (images.read_values(tmp_path / "out/a.labels.png")[0] == stripes.labels).all()
    assert capfd.readouterr().err == ""
    assert cli.main([*words, "--weights", "hf://town/none"]) == 1
    assert capfd.readouterr().err.startswith("fastscnn: hf://town/none: there is no such repository")
    assert cli.main(["push", str(town_onnx), "--to", "streets"]) == 2
    assert "streets: an address of weights on the hub is hf://OWNER/NAME" in capfd.readouterr().err


def test_the_token_is_never_printed(logged_in: Hub, town_onnx: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for status in (400, 401, 403, 404, 500):
        logged_in.broken = status
        try:
            assert cli.main(["push", str(town_onnx), "--to", ADDRESS, "--verbose"]) == 1
        finally:
            logged_in.broken = None
    printed = "".join(capfd.readouterr())
    assert "Traceback" in printed
    assert TOKEN not in printed


def test_images_on_the_hub_are_no_inputs(hub: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["segment", f"{ADDRESS}/a.png"]) == 1
    assert "Addresses are not fetched: download the file first." in capfd.readouterr().err
    assert hub.requests == []


@needs_torch
def test_export_and_fine_tuning(hub: Hub, tiny_dataset: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from fastscnn.network import checkpoint

    repository = hub.add("town/streets", {"model.onnx": b""})
    assert cli.main(["export", ADDRESS, "--out", str(tmp_path / "a.onnx")]) == 1
    assert capfd.readouterr().err.startswith(f"fastscnn: {ADDRESS}: the repository has no .safetensors file")
    repository.commit({"model.safetensors": bundled("torch").read_bytes()})
    words = ["train", "debug", str(tiny_dataset), "--out", str(tmp_path / "run"), "--init", ADDRESS, "--quiet"]
    assert cli.main([*words, "--iterations", "2", "--batch", "2", "--crop", "64x96", "--validation", "none"]) == 0
    trained = checkpoint.load(tmp_path / "run/best.safetensors")[1]
    assert trained.data is not None
    assert "CamVid, CC BY-NC 4.0" in trained.data.terms  # the terms of the weights that it started from
