"""cluster segment: sources, names, whole writes, what a node lacks, and workers that are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from made.street import street
from waiting import wait_until

from fastscnn import cli
from fastscnn.base.errors import FastSCNNError
from fastscnn.cluster import label, sources
from fastscnn.cluster.stores import Store
from fastscnn.cluster.worker import FAILED, FINISHED, SEGMENTED, STOP, Work, Worker
from fastscnn.data import synthetic
from fastscnn.media import images


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("a/0.png", "a/1.jpg", "b/0.png", "b/0.jpg"):
        images.write(tmp_path / "photos" / name, street(64, 96, len(name)).image)
    return tmp_path / "photos"


@pytest.fixture
def work(tiny_onnx: Path, tmp_path: Path) -> Work:
    return Work(tiny_onnx.read_bytes(), "tiny.onnx", "onnx", "float32", (64, 96), None, 1, ("labels", "overlay"), False,
                Store(str(tmp_path / "out")))


def test_a_folder_gives_the_names_of_segment(photos: Path, tiny_onnx: Path, work: Work, tmp_path: Path) -> None:
    expected = tmp_path / "expected"
    assert cli.main(["segment", str(photos), "--out", str(expected), "--weights", str(tiny_onnx), "--threads", "1",
                     "--size", "64x96", "--backend", "onnx", "--json"]) == 0
    found = sources.find(str(photos), work.out).results
    rows = Worker(work, "", "")({"image": list(found), "result": list(found.values())})
    assert list(rows["state"]) == [SEGMENTED] * 4
    assert work.out.names() == Store(str(expected)).names()
    assert all(work.out.read(name) == (expected / name).read_bytes() for name in work.out.names())


@pytest.mark.parametrize("kind", ["txt", "parquet"])
def test_a_list_beside_the_images_gives_the_names_of_the_folder(photos: Path, work: Work, kind: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "c.png"
    paths = ["a/0.png", str(photos / "a/1.jpg"), "b/0.png", "b/0.jpg", str(elsewhere)]
    file = photos / f"list.{kind}"
    if kind == "txt":
        file.write_text("# images\n" + "\n".join(paths) + "\n\n")
    else:
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.table({"path": paths, "id": range(5)}), file)
    found = sources.find(str(file), work.out).results
    whole = elsewhere.with_suffix("").relative_to("/").as_posix()
    assert found == sources.find(str(photos), work.out).results | {str(elsewhere): whole}


def test_a_parquet_without_the_column_is_refused(work: Work, tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for table in ({"file": ["a.png"]}, {"path": [1]}):
        pq.write_table(pa.table(table), tmp_path / "t.parquet")
        with pytest.raises(FastSCNNError, match="a column 'path' of strings is needed"):
            sources.find(str(tmp_path / "t.parquet"), work.out)


def test_what_is_finished_is_not_segmented_again_and_failures_are_sentences(photos: Path, work: Work) -> None:
    (photos / "a/0.png").write_bytes(b"\x89PNG nothing")
    found = sources.find(str(photos), work.out).results
    batch = {"image": list(found), "result": list(found.values())}
    assert list(Worker(work, "", "")(batch)["state"]) == [FAILED, SEGMENTED, SEGMENTED, SEGMENTED]
    times = {name: Path(work.out.at(name)).stat().st_mtime_ns for name in work.out.names()}
    rows = Worker(work, "", "")(batch)
    assert list(rows["state"]) == [FAILED, FINISHED, FINISHED, FINISHED]
    assert rows["message"][0].startswith(f"{photos / 'a/0.png'}: ")
    assert times == {name: Path(work.out.at(name)).stat().st_mtime_ns for name in work.out.names()}


def test_a_node_says_what_it_lacks(work: Work, photos: Path) -> None:
    image = str(photos / "a/0.png")
    for marker, first, sentence in ((".x.run", "", "mount the same folder"), ("", "/no.png", "has no /no.png")):
        worker = Worker(work, marker, first)
        rows = worker({"image": [image], "result": ["0"]})
        assert rows["state"][0] == STOP
        assert sentence in rows["message"][0]
    assert not Path(work.out.root).exists()


def test_other_settings_are_refused(work: Work) -> None:
    from dataclasses import replace

    label._check_settings(work)
    label._check_settings(work)
    with pytest.raises(FastSCNNError, match=r"other settings \(save; cluster.json\)"):
        label._check_settings(replace(work, what=("labels",)))


def test_an_output_folder_that_cannot_be_written(work: Work, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = photos.parent / "file"
    file.write_text("")
    assert cli.main(["cluster", "segment", str(photos), "--out", str(file / "out"), "--threads", "1"]) == 1
    assert "cannot be written" in capsys.readouterr().err
    assert file.read_text() == ""


def test_a_cluster_with_a_token(photos: Path, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch,
                                capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray.data")

    def refused(**given: object) -> None:
        raise ConnectionError("no connection")

    monkeypatch.setattr("ray.init", refused)
    command = ["cluster", "segment", str(photos), "--weights", str(tiny_onnx), "--out", str(photos.parent / "out"), "--address",
               "127.0.0.1:1"]
    assert cli.main(command) == 1
    assert "127.0.0.1:1" in (said := capsys.readouterr().err)
    assert "set RAY_AUTH_MODE=token" in said
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert cli.main(command) == 1
    assert "RAY_AUTH_MODE" not in capsys.readouterr().err


def _workers(token: str) -> list[int]:
    """The processes of Ray's workers that hold the network, started by a process with this word in its environment."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            holds = entry.name.isdigit() and b"MapWorker" in (entry / "cmdline").read_bytes()
            if holds and token.encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def _has_labels(out: Store, least: int, process: subprocess.Popen[str]) -> bool:
    """Whether there are so many label files, or will be no more."""
    return sum(name.endswith(".labels.png") for name in out.names()) >= least or process.poll() is not None


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_killed_workers_lose_nothing_and_double_nothing(tiny_onnx: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    scene = synthetic.draw(96, 128).image
    for number in range(300):
        images.write(tmp_path / f"photos/{number % 7}/{number:03}.jpg", np.roll(scene, number, axis=1))
    words = ["--weights", str(tiny_onnx), "--backend", "onnx", "--precision", "float32", "--size", "64x96"]
    assert cli.main(["segment", str(tmp_path / "photos"), "--out", str(tmp_path / "one"), *words, "--threads", "1", "-q"]) == 0
    out = Store(str(tmp_path / "out"))
    with subprocess.Popen(
        [sys.executable, "-m", "fastscnn", "cluster", "segment", str(tmp_path / "photos"), "--out", out.root, *words,
         "--workers", "1", "--json"],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "FASTSCNN_TEST": str(tmp_path)},
    ) as process:  # fmt: skip
        for killed in range(1, 4):
            wait_until(partial(_has_labels, out, 60 * killed, process), 600)
            (worker,) = _workers(str(tmp_path))
            os.kill(worker, signal.SIGKILL)
        printed, _ = process.communicate(timeout=600)
    assert printed, process.returncode
    summary = json.loads(printed)
    assert (process.returncode, summary["segmented"], summary["failed"]) == (0, 300, 0)
    expected = Store(str(tmp_path / "one"))
    assert out.names() - {label.SETTINGS, label.FAILURES} == expected.names()
    assert all(out.read(name) == expected.read(name) for name in expected.names())
