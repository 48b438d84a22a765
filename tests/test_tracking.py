"""Experiment trackers: what MLflow and W&B themselves read back, after a resume, a kill and failures of the tracker."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from fastscnn import cli
from fastscnn.base.errors import ArgumentError, FastSCNNError
from fastscnn.training.callbacks import Status
from fastscnn.training.recipes import named
from fastscnn.training.tracking.record import Record

pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload`` loader"),  # SQLAlchemy, of MLflow's code
    pytest.mark.filterwarnings("ignore::DeprecationWarning:wandb"),
]

Line = dict[str, Any]
LOG: list[Line] = [
    {"step": step, "loss": 2.0 / step, "lr": 0.1, "validation": {"miou": 10.0 * step, "iou": {"<b>": 3.0 * step, "sky": None}}}
    for step in (1, 2, 3)
]
KILLED = """
import os, signal, sys
from fastscnn import train
def on_step(progress):
    if progress.step == 3:  # it is validated and recorded
        os.kill(os.getpid(), signal.SIGKILL)
train("debug", sys.argv[1], sys.argv[2], track=[sys.argv[3]], on_step=on_step)
"""


class Fake:
    """A tracker that fails when it is told to."""

    name = "fake"

    def __init__(self) -> None:
        self.lines: list[tuple[int, Mapping[str, float]]] = []
        self.status: list[Status] = []
        self.fails = self.loses_the_answer = False

    def open(self) -> int:
        if self.fails:
            raise ConnectionError("no server.\nmore")
        return self.lines[-1][0] if self.lines else -1

    def write(self, step: int, values: Mapping[str, float]) -> None:
        if not self.fails:
            self.lines.append((step, values))
        if self.fails or self.loses_the_answer:
            raise TimeoutError

    def close(self, status: Status) -> None:
        self.status.append(status)


def record(tracker: Any, *logs: Sequence[Line], status: Status | None = None) -> list[str]:
    """Record a training whose log is that of each call; return the messages."""
    said: list[str] = []
    one = Record(tracker, said.append)
    one.on_begin(logs[0])
    for log in logs[1:]:
        one.on_validation(log)
    if status:
        one.on_end(status)
    return said


def test_a_record_has_each_line_once() -> None:
    fake = Fake()
    assert record(fake, [], LOG[:1], LOG[:2]) == []
    assert record(fake, LOG[:1], LOG[:2], LOG, status="finished") == []  # as if an earlier state was put back
    assert fake.lines == [
        (step, {"training/loss": 2 / step, "training/lr": 0.1, "validation/mIoU": 10 * step, "iou/<b>": 3 * step})
        for step in (1, 2, 3)
    ]
    assert fake.status == ["finished"]


def test_a_tracker_that_fails_gets_what_it_missed() -> None:
    """One message, however often it fails; an answer that is lost doubles no line."""
    fake, said = Fake(), list[str]()
    one = Record(fake, said.append)
    one.on_begin([])
    fake.loses_the_answer = True
    one.on_validation(LOG[:1])
    fake.fails = True
    one.on_validation(LOG[:2])
    assert [step for step, _ in fake.lines] == [1]
    assert said == ["fake: failed (TimeoutError). The training continues. What is missing there is sent after the next "
                    "validation that can, or with --resume."]
    fake.fails = fake.loses_the_answer = False
    one.on_validation(LOG)
    assert [step for step, _ in fake.lines] == [1, 2, 3]
    fake.fails = True
    one.on_end("failed")
    assert len(said) == 1


def test_a_tracker_that_cannot_start_stops_a_new_training_only() -> None:
    fake = Fake()
    fake.fails = True
    with pytest.raises(FastSCNNError, match=r"^fake: cannot start a record \(no server\); check its settings, or train without "
                                            r"--track fake\.$"):
        record(fake, [])
    assert "fake: failed (no server)." in record(fake, LOG[:1])[0]


def test_tensorboard_has_each_step_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra fastscnn[tensorboard]")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from fastscnn.training.tracking.tensorboard import TensorBoard

    record(TensorBoard(tmp_path), [], LOG[:1], LOG[:2], LOG)
    record(TensorBoard(tmp_path), LOG[:2], [*LOG[:2], {**LOG[2], "loss": 0.25}], status="finished")
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == {"training/loss", "training/lr", "validation/mIoU", "iou/<b>"}
    assert [(event.step, event.value) for event in events.Scalars("training/loss")] == [(1, 2), (2, 1), (3, 0.25)]
    assert [event.value for event in events.Scalars("iou/<b>")] == [3, 6, 9]


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_a_tracker_that_is_missing(
    name: str, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, name, None)
    assert cli.main(["train", "debug", str(tiny_dataset), "--out", str(tmp_path / "run"), "--track", name]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"{name} needs the extra '{name}': install fastscnn[{name}]" in said
    assert not (tmp_path / "run").exists()


def test_an_unknown_tracker(tmp_path: Path) -> None:
    from fastscnn.training.train import train

    with pytest.raises(ArgumentError, match=r"no tracker 'mlfow'\. Did you mean 'mlflow'\?"):
        train("debug", tmp_path, tmp_path / "run", track=["mlfow"])  # type: ignore[list-item]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of a store of MLflow."""
    pytest.importorskip("mlflow", reason="needs the extra fastscnn[mlflow]")
    uri = f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        yield uri


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of W&B's files."""
    wandb = pytest.importorskip("wandb", reason="needs the extra fastscnn[wandb]")
    wandb.teardown()  # it has read the environment once
    folder = tmp_path / "offline"
    folder.mkdir()
    for name, value in {"MODE": "offline", "DIR": str(folder), "SILENT": "true", "ERROR_REPORTING": "false"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    yield folder / "wandb"
    wandb.teardown()


def in_mlflow(out: Path) -> tuple[str, dict[str, str], dict[str, list[tuple[int, float]]]]:
    """The status, parameters and metrics of the only run of a folder."""
    from mlflow import MlflowClient

    client = MlflowClient()
    (run,) = client.search_runs(["0"], f"attributes.run_name = '{out.name}'")
    assert run.info.run_id == json.loads((out / "tracking.json").read_text())["mlflow"]
    metrics = {key: [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, key)]
               for key in run.data.metrics}
    return run.info.status, run.data.params, metrics


def in_wandb(folder: Path) -> list[tuple[str, dict[str, Any], list[tuple[int, float]], int | None]]:
    """The id, configuration, steps with their loss, and exit code in each file of W&B, the oldest first."""
    import wandb

    Entry: Any = import_module("wandb.proto.wandb_internal_pb2").Record  # noqa: N806 - a class
    wandb.teardown()  # waits until the files are complete
    found = []
    for path in sorted(folder.glob("offline-run-*/*.wandb")):
        run_id, config, losses, code = "", dict[str, Any](), list[tuple[int, float]](), None
        for text in entries(path.read_bytes()):
            entry = Entry.FromString(text)
            if entry.HasField("run"):
                run_id = entry.run.run_id
                config |= {item.key: json.loads(item.value_json) for item in entry.run.config.update}
            if entry.HasField("history"):
                row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in entry.history.item}
                losses.append((row["_step"], row["training/loss"]))
            if entry.HasField("exit"):
                code = entry.exit.exit_code
        found.append((run_id, config, losses, code))
    return found


def entries(data: bytes) -> Iterator[bytes]:
    """Yield the entries of a file of W&B: a log of LevelDB, whose blocks of 32 KiB hold parts of entries."""
    assert data[:4] == b":W&B"
    place, parts = 7, b""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        _, size, kind = struct.unpack_from("<IHB", data, place)
        if not kind:
            return
        parts += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, last
            yield parts
            parts = b""


def logged(out: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines]


@pytest.mark.slow
def test_mlflow_has_the_log_of_a_paused_and_resumed_training(store: str, tiny_dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "mlflow paused"
    words = ["train", "debug", str(tiny_dataset), "--out", str(out), "--track", "mlflow"]
    assert cli.main([*words, "--pause-after", "3"]) == 0
    status, params, metrics = in_mlflow(out)
    assert (status, metrics["training/loss"]) == ("KILLED", logged(out))
    assert (params["recipe.lr"], params["recipe.crop"]) == (str(named("debug").lr), "[64, 96]")
    assert params["versions.torch"]
    assert cli.main([*words, "--resume"]) == 0
    status, resumed, metrics = in_mlflow(out)
    assert (status, resumed) == ("FINISHED", params)
    assert metrics["training/loss"] == logged(out)
    assert [step for step, _ in metrics["training/loss"]] == [3, 4]
    last = json.loads((out / "log.jsonl").read_text().splitlines()[-1])["validation"]
    assert metrics["validation/mIoU"][-1] == (4, last["miou"])
    assert metrics["iou/Sky"][-1] == (4, last["iou"]["Sky"])


def test_wandb_has_the_log_of_a_paused_and_resumed_training(offline: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    """Each part has the whole log so far, since `wandb sync` replaces a run by the last one."""
    out = tmp_path / "run"
    words = ["train", "debug", str(tiny_dataset), "--out", str(out), "--track", "wandb"]
    assert cli.main([*words, "--pause-after", "3"]) == 0
    assert cli.main([*words, "--resume"]) == 0
    (first, config, before, code), (second, _, whole, finished) = in_wandb(offline)
    assert first == second == json.loads((out / "tracking.json").read_text())["wandb"]
    assert (code, finished) == (255, 0)
    assert config["recipe"]["lr"] == named("debug").lr
    assert whole == logged(out)
    assert before == whole[:1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_after_a_kill_the_same_run_continues(
    name: str, tiny_dataset: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    place = request.getfixturevalue({"mlflow": "store", "wandb": "offline"}[name])
    out = tmp_path / f"{name} killed"
    own = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}  # the process that serves this one
    done = subprocess.run([sys.executable, "-c", KILLED, str(tiny_dataset), str(out), name], env=own, check=False)
    assert done.returncode == -signal.SIGKILL
    kept = json.loads((out / "tracking.json").read_text())[name]
    if name == "mlflow":
        assert in_mlflow(out)[0] == "RUNNING"
    assert cli.main(["train", "debug", str(tiny_dataset), "--out", str(out), "--track", name, "--resume"]) == 0
    if name == "mlflow":
        status, _, metrics = in_mlflow(out)
        assert (status, metrics["training/loss"]) == ("FINISHED", logged(out))
    else:
        assert [(run_id, losses) for run_id, _, losses, _ in in_wandb(place)][-1] == (kept, logged(out))


@pytest.mark.slow
def test_mlflow_after_an_earlier_state_is_put_back(store: str, tmp_path: Path) -> None:
    """Each step once, also of a class whose name MLflow does not accept."""
    from fastscnn.training.tracking.mlflow import MLflow

    out = tmp_path / "mlflow back"
    record(MLflow(out), [], LOG[:1], LOG[:2], status="failed")
    assert in_mlflow(out)[0] == "FAILED"
    record(MLflow(out), LOG[:1], LOG[:2], LOG, status="interrupted")
    status, _, metrics = in_mlflow(out)
    assert status == "KILLED"
    assert metrics["iou/_b_"] == [(1, 3), (2, 6), (3, 9)]


@pytest.mark.slow
def test_mlflow_that_fails_does_not_end_the_training(
    store: str, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The database is gone at the first validation, and there again at the second."""
    from mlflow import MlflowClient

    out, fails, log_batch = tmp_path / "mlflow fails", [False, True], MlflowClient.log_batch

    def failing(*given: Any, **named: Any) -> None:
        if fails and fails.pop(0):
            raise OSError("disk I/O error")
        log_batch(*given, **named)

    monkeypatch.setattr(MlflowClient, "log_batch", failing)
    assert cli.main(["train", "debug", str(tiny_dataset), "--out", str(out), "--track", "mlflow"]) == 0
    assert " ".join(capsys.readouterr().err.split()).count("mlflow: failed (disk I/O error). The training continues.") == 1
    status, _, metrics = in_mlflow(out)
    assert (status, metrics["training/loss"]) == ("FINISHED", logged(out))


@pytest.mark.slow
def test_mlflow_without_a_server(tiny_dataset: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="needs the extra fastscnn[mlflow]")
    words = ["train", "debug", str(tiny_dataset), "--out", str(tmp_path / "run"), "--track", "mlflow"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "fastscnn", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "fastscnn: mlflow: cannot start a record (" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_wandb_whose_process_ends_does_not_end_the_training(offline: Path, tmp_path: Path) -> None:
    """The part that W&B starts again has all lines."""
    from fastscnn.training.tracking.wandb import WandB

    said: list[str] = []
    one = Record(WandB(tmp_path / "run"), said.append)
    one.on_begin([])
    one.on_validation(LOG[:1])
    os.kill(wandb_process(), signal.SIGKILL)
    time.sleep(2)  # until W&B has noticed that its connection is closed, of which it gives no sign
    one.on_validation(LOG[:2])
    assert len(said) == 1
    one.on_validation(LOG)
    one.on_end("finished")
    run_id, _, *last = in_wandb(offline)[-1]
    assert run_id == json.loads((tmp_path / "run/tracking.json").read_text())["wandb"]
    assert last == [[(1, 2.0), (2, 1.0), (3, 2 / 3)], 0]


def wandb_process() -> int:
    """The id of the process of W&B that serves this one."""
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("needs /proc")
    (found,) = [path.parent for path in Path("/proc").glob("[0-9]*/cmdline") if b"wandb-core" in path.read_bytes()
                and f"PPid:\t{os.getpid()}\n" in (path.parent / "status").read_text()]
    return int(found.name)
