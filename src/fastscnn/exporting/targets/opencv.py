"""Target opencv: an ONNX file of fixed size that cv2.dnn.readNetFromONNX loads, in OpenCV 4 and 5."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from fastscnn.base.errors import FastSCNNError
from fastscnn.exporting.targets.target import Exported, Runner, Target
from fastscnn.model.card import Card

_LEAST = (4, 10)


def _check() -> None:
    install = "run pip install 'opencv-python-headless>=4.10'"
    if importlib.util.find_spec("cv2") is None:
        raise FastSCNNError(f"target opencv: needs OpenCV, which is not installed; {install}.")
    import cv2

    if tuple(int(part) for part in cv2.__version__.split(".")[:2]) < _LEAST:
        raise FastSCNNError(f"target opencv: does not work with OpenCV {cv2.__version__}; {install}.")


def _write(exported: Exported, path: Path) -> None:
    import onnx

    from fastscnn.exporting.metadata import with_card

    model = onnx.load_from_string(exported.content)
    repeat_single_cells(model)
    path.write_bytes(with_card(model, exported.card))


def repeat_single_cells(model: Any) -> None:
    """Replace each resizing of a 1x1 map by an addition to zeros of the larger size, which has the same result, in place.

    OpenCV 5.0 reads beyond a 1x1 map when it resizes it, and the logits become arbitrary.

    Args:
        model: ONNX graph of fixed size, with inferred shapes.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    shapes = {value.name: [side.dim_value for side in value.type.tensor_type.shape.dim] for value in graph.value_info}
    for node in graph.node:
        if node.op_type == "Resize" and shapes.get(node.input[0], [])[2:] == [1, 1]:
            zeros = f"{node.output[0]}.zeros"
            graph.initializer.append(numpy_helper.from_array(np.zeros((1, 1, *shapes[node.output[0]][2:]), np.float32), zeros))
            node.CopyFrom(helper.make_node("Add", [node.input[0], zeros], list(node.output), node.name))


def _load(path: Path, _: Card) -> Runner:
    import cv2

    network = cv2.dnn.readNetFromONNX(str(path))
    names = sorted(network.getUnconnectedOutLayersNames())

    def run(images: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
        network.setInput(images, "images")
        found = dict(zip(names, network.forward(names), strict=True))
        # OpenCV 4 returns labels in float32.
        return {name: value.astype(np.uint8) if name == "labels" else value for name, value in found.items()}

    return run


TARGET = Target(
    name="opencv",
    suffix=".onnx",
    what="ONNX file of fixed size for the dnn module of OpenCV (Python, C++, Java)",
    check=_check,
    write=_write,
    load=_load,
    precisions=("float32",),
    static=True,
    runtime="OpenCV",
)
