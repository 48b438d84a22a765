"""The programs of examples/ that use the package: the OpenCV loop on a clip, and the ROS 2 node with a stand-in for ROS."""

from __future__ import annotations

import subprocess
import sys
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from made.modules import loaded
from made.street import street

from fastscnn import Segmenter
from fastscnn.base.types import UInt8Array
from fastscnn.data import synthetic

EXAMPLES = Path(__file__).parents[1] / "examples"
CAMERA = EXAMPLES / "python" / "camera.py"
FRAMES = 5


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, timeout=300)


def frames_of(path: Path) -> list[UInt8Array]:
    cv2 = pytest.importorskip("cv2")
    capture, frames = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        frames.append(read[1])
    return frames


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pan over a generated scene: frames of 192x256."""
    cv2 = pytest.importorskip("cv2")
    path = tmp_path_factory.mktemp("clip") / "clip.avi"
    view = street(192, 320).image
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (256, 192))
    for left in range(0, 8 * FRAMES, 8):
        writer.write(np.ascontiguousarray(view[:, left : left + 256, ::-1]))
    writer.release()
    return path


@pytest.mark.slow
def test_camera(clip: Path, tmp_path: Path) -> None:
    target = tmp_path / "overlay.avi"
    done = run("-W", "error", CAMERA, clip, target)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    frames, overlays = frames_of(clip), frames_of(target)
    assert len(overlays) == len(frames) == FRAMES
    segmenter = Segmenter.load()
    for frame, overlay in zip(frames, overlays, strict=True):
        expected = segmenter.segment(frame, bgr=True).blend()[:, :, ::-1].astype(int)
        assert np.abs(overlay - expected).mean() < 6  # the loss of JPEG
        assert np.abs(frame - expected).mean() > 20


def test_camera_shows_a_window_until_escape(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cv2 = pytest.importorskip("cv2")
    shown: list[tuple[int, ...]] = []
    monkeypatch.setattr(cv2, "imshow", lambda title, overlay: shown.append(overlay.shape))  # the tests have no screen
    monkeypatch.setattr(cv2, "waitKey", lambda milliseconds: 27 if len(shown) == 2 else -1)
    loaded(CAMERA).main(str(clip))
    assert shown == [(192, 256, 3)] * 2


@pytest.mark.parametrize("words", [[], ["a", "b", "c"]])
def test_camera_prints_its_usage(words: list[str]) -> None:
    pytest.importorskip("cv2")
    done = run(CAMERA, *words)
    assert done.returncode == 1
    assert "python camera.py SOURCE [OVERLAY.avi]" in done.stderr


def test_camera_names_what_it_cannot_open(clip: Path, tmp_path: Path) -> None:
    missing, nowhere = tmp_path / "none.mp4", tmp_path / "nowhere" / "overlay.avi"
    done = run(CAMERA, missing)
    assert done.returncode == 1
    assert f"{missing}: no camera or video file" in done.stderr
    done = run(CAMERA, clip, nowhere)
    assert done.returncode == 1
    assert f"{nowhere}: OpenCV cannot write it" in done.stderr


@dataclass
class Image:
    """sensor_msgs/Image."""

    header: object = None
    height: int = 0
    width: int = 0
    encoding: str = ""
    is_bigendian: int = 0
    step: int = 0
    data: array[int] = field(default_factory=lambda: array("B"))


@dataclass
class Publisher:
    subscribers: int
    sent: list[Image] = field(default_factory=list)

    def publish(self, message: Image) -> None:
        assert len(message.data) == message.height * message.step
        self.sent.append(message)

    def get_subscription_count(self) -> int:
        return self.subscribers


class Node:
    """What the example uses of rclpy.node.Node."""

    subscribers = 1  # of each topic

    def __init__(self, name: str) -> None:
        assert name == "fastscnn"
        self.publishers: dict[str, Publisher] = {}
        self.callbacks: dict[str, Callable[[Image], None]] = {}
        self.errors: list[str] = []

    def declare_parameter(self, name: str, value: str) -> SimpleNamespace:
        assert name == "weights"
        return SimpleNamespace(value=value)

    def create_publisher(self, kind: type, topic: str, qos_profile: object) -> Publisher:
        assert kind is Image
        return self.publishers.setdefault(topic, Publisher(self.subscribers))

    def create_subscription(self, kind: type, topic: str, callback: Callable[[Image], None], qos_profile: object) -> None:
        assert kind is Image
        self.callbacks[topic] = callback

    def get_logger(self) -> SimpleNamespace:
        return SimpleNamespace(info=str, error=lambda text, throttle_duration_sec: self.errors.append(text))


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the node, with the stand-in for ROS."""
    contents: dict[str, dict[str, Any]] = {
        "rclpy": {}, "rclpy.executors": {"ExternalShutdownException": RuntimeError}, "rclpy.node": {"Node": Node},
        "rclpy.qos": {"QoSProfile": SimpleNamespace, "ReliabilityPolicy": SimpleNamespace(BEST_EFFORT=2)},
        "sensor_msgs": {}, "sensor_msgs.msg": {"Image": Image},
    }  # fmt: skip
    for name, names in contents.items():
        module = ModuleType(name)
        vars(module).update(names)
        monkeypatch.setitem(sys.modules, name, module)
    return loaded(EXAMPLES / "ros2" / "fastscnn_node.py")


def message(picture: UInt8Array, encoding: str, padding: int = 0) -> Image:
    """A message whose rows end with bytes that are no pixels."""
    height, width = picture.shape[:2]
    rows = np.pad(picture.reshape(height, -1), ((0, 0), (0, padding)), constant_values=99)
    return Image("header", height, width, encoding, step=rows.shape[1], data=array("B", rows.tobytes()))


@pytest.mark.parametrize(("encoding", "padding"), [
    ("bgr8", 5), pytest.param("rgb8", 0, marks=pytest.mark.slow), pytest.param("mono8", 5, marks=pytest.mark.slow),
])  # fmt: skip
def test_ros_node(example: Any, encoding: str, padding: int) -> None:
    rgb = synthetic.draw(96, 128, seed=3).image
    sent = {"rgb8": rgb, "bgr8": rgb[:, :, ::-1], "mono8": rgb[:, :, 1]}[encoding]
    expected = Segmenter.load().segment(rgb[:, :, 1] if encoding == "mono8" else rgb)
    node = example.create_node()
    node.callbacks["image"](message(sent, encoding, padding))
    (labels,), (overlay,) = (node.publishers[topic].sent for topic in ("labels", "overlay"))
    assert (labels.header, labels.encoding, labels.height, labels.width) == ("header", "mono8", 96, 128)
    np.testing.assert_array_equal(np.frombuffer(labels.data, np.uint8).reshape(96, 128), expected.labels)
    assert (overlay.header, overlay.encoding, overlay.step) == ("header", "rgb8", 3 * 128)
    np.testing.assert_array_equal(np.frombuffer(overlay.data, np.uint8).reshape(96, 128, 3), expected.blend())


def test_ros_node_goes_on_after_a_picture_that_it_cannot_use(example: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Node, "subscribers", 0)
    picture = synthetic.draw(96, 128, seed=3).image
    node = example.create_node()
    on_image = node.callbacks["image"]
    on_image(message(picture, "32FC1"))
    on_image(message(picture[:16], "rgb8"))
    assert ["32FC1" in node.errors[0], "32 pixels" in node.errors[1], len(node.errors)] == [True, True, 2]
    on_image(message(picture, "rgb8"))
    assert len(node.publishers["labels"].sent) == 1
    assert node.publishers["overlay"].sent == []  # nobody subscribes
