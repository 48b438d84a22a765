"""A ROS 2 node that labels the images of a topic.

This example was not run under ROS. It is type-checked without the types of ROS, and a test runs it with a stand-in for ROS.
It needs ROS 2 Jazzy or newer, since fastscnn needs Python 3.11. In the checkout of fastscnn:

    python3 -m venv --system-site-packages venv && venv/bin/pip install .
    venv/bin/python examples/ros2/fastscnn_node.py --ros-args -r image:=/camera/image_raw -p weights:=street.onnx

It subscribes to `image`: sensor_msgs/Image in rgb8, bgr8 or mono8. With the header of each image, it publishes `labels` (mono8,
a class id per pixel) and `overlay` (rgb8, only while someone subscribes). The parameter `weights` names a weight file (default:
the bundled weights).
"""

from __future__ import annotations

from array import array

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image as Message

from fastscnn import Segmenter
from fastscnn.base.types import UInt8Array

CHANNELS = {"rgb8": 3, "bgr8": 3, "mono8": 1}
LATEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)  # old images are dropped while the network is busy


def pixels(message: Message) -> UInt8Array:
    """Return the image of a message, uint8 [H, W, 3] or, in mono8, [H, W]. Rows may be padded.

    Raises:
        ValueError: another encoding.
    """
    channels = CHANNELS.get(message.encoding)
    if channels is None:
        raise ValueError(f"The encoding {message.encoding!r} is not supported; publish {', '.join(CHANNELS)}.")
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    image = rows[:, : message.width * channels].reshape(message.height, message.width, channels)
    return image[:, :, 0] if channels == 1 else image


def image_message(header: object, encoding: str, image: UInt8Array) -> Message:
    """Return a message with an image, uint8 [H, W] or [H, W, 3]."""
    height, width = image.shape[:2]
    message = Message(header=header, encoding=encoding, height=height, width=width, step=image[0].size)
    message.data = array("B", image.tobytes())  # an array is taken as it is; every byte of a list would be checked
    return message


def create_node() -> Node:
    """Return the node with its subscription and publishers."""
    node = Node("fastscnn")
    weights: str = node.declare_parameter("weights", "").value
    segmenter = Segmenter.load(weights or None)
    labels = node.create_publisher(Message, "labels", 1)
    overlay = node.create_publisher(Message, "overlay", 1)

    def on_image(message: Message) -> None:
        try:
            result = segmenter(pixels(message), bgr=message.encoding == "bgr8")
        except ValueError as error:  # an image that cannot be used must not stop the node
            node.get_logger().error(str(error), throttle_duration_sec=5)
            return
        labels.publish(image_message(message.header, "mono8", result.labels))
        if overlay.get_subscription_count():
            overlay.publish(image_message(message.header, "rgb8", result.blend()))

    node.create_subscription(Message, "image", on_image, LATEST)
    node.get_logger().info(f"Classes: {', '.join(segmenter.card.label_set.names)}")
    return node


def main() -> None:
    """Run the node until ROS shuts down."""
    rclpy.init()
    node = create_node()
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
