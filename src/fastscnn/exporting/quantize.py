"""quantize: an exported network in int8 by ONNX Backend, with its most sensitive layers left in float32 where a gate asks.

Activations become uint8 by the ranges they have on calibration images, weights int8 by channel, and ONNX Runtime runs
what lies between them in integers. The image is uint8 already, so the first convolution reads it as it is (`stem`).
Batch, height and width stay as free as they were.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from fastscnn import backends
from fastscnn.base.types import UInt8Array
from fastscnn.data.datasets import DatasetSpec
from fastscnn.exporting import stem
from fastscnn.exporting.exported import with_card
from fastscnn.media import images
from fastscnn.model import card
from fastscnn.model.card import Card

_CALIBRATED = 64  # images at most
_COMPARED = 4  # of those, to compare layers on: layers differ by far more than images do
_OPERATORS = ("Conv", "Add", "Concat", "Resize")  # those that work on feature maps; the same names also do arithmetic on sizes

Stage = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]  # named work; what it gives is told (done, all)
Ranges = Any  # ONNX Runtime's TensorsData: the range of each activation; it carries no types


@dataclass(frozen=True)
class Layer:
    """What is quantised or left in float32 as one: an operator on feature maps and the ReLU behind it.

    Attributes:
        name: of its weights in the network, for example "classifier.3"; where it has none, its kind and what it follows.
        nodes: names of its nodes in the graph.
        error: root mean square error of the logits where it alone is quantised, in percent of the logits' own; NaN until
            it is measured.
    """

    name: str
    nodes: tuple[str, ...]
    error: float = math.nan


@dataclass(frozen=True)
class Quantized:
    """A quantised network.

    Attributes:
        data: the ONNX file.
        kept: the layers left in float32, the largest error first.
        layers: how many layers there are.
    """

    data: bytes
    kept: tuple[Layer, ...]
    layers: int


def calibration_images(data: DatasetSpec, split: str, size: tuple[int, int]) -> list[UInt8Array]:
    """At most 64 images of a split, evenly spread over it, as the Segmenter gives them to a network of (height, width).

    Raises:
        FastSCNNError: what `DatasetSpec.pairs` and `DatasetSpec.read` say of the files.
    """
    pairs = data.pairs(split)
    chosen = np.linspace(0, len(pairs) - 1, min(len(pairs), _CALIBRATED)).round().astype(int)
    return [images.resize(data.read(pairs[index])[0], size) for index in chosen]


def quantize(
    exported: Path, calibration: Sequence[UInt8Array], accept: Callable[[Path, Sequence[Layer]], bool], stage: Stage
) -> Quantized | None:
    """The network of an exported file in int8.

    All layers are quantised first. While that is not accepted, the layers that put the largest error into the logits stay
    in float32: one, then two, four and so on up to half of them.

    Args:
        exported: what `export` made, in float32.
        calibration: images uint8 [H, W, channels] of the kind that the network will see.
        accept: called with the file of an attempt and the layers that it keeps in float32; whether it is good enough.
        stage: shows the progress of a named stage.

    Returns:
        The first attempt that was accepted; None where none was.
    """
    layers = _layers(exported)
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        ranges = _ranges(exported, calibration, room, stage)
        attempt = room / "int8.onnx"
        for kept in _attempts(len(layers)):
            if kept == 1:
                layers = _by_error(exported, calibration[:: -(-len(calibration) // _COMPARED)], layers, ranges, room, stage)
            data = _quantized(exported, layers[kept:], ranges)
            attempt.write_bytes(data)
            if accept(attempt, layers[:kept]):
                return Quantized(data, tuple(layers[:kept]), len(layers))
    return None


def _attempts(layers: int) -> list[int]:
    """How many layers to keep in float32, one attempt after another."""
    half = layers // 2
    return sorted({0, *(1 << power for power in range(half.bit_length())), half})


def _layers(exported: Path) -> list[Layer]:
    """What is worth quantising, in the order of the graph."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(exported)).graph
    types = {value.name: value.type.tensor_type for value in (*graph.value_info, *graph.output)}
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for value in node.input:
            readers.setdefault(value, []).append(node)
    layers: list[Layer] = []
    names: dict[str, str] = {}  # activation -> name of the layer that it comes from
    for node in graph.node:
        (output,) = node.output
        feature_map = types[output].elem_type == onnx.TensorProto.FLOAT and len(types[output].shape.dim) == 4
        if node.op_type not in _OPERATORS or not feature_map:
            continue
        before = [names[value] for value in node.input if value in names]
        name = node.input[1].removesuffix(".weight") if node.op_type == "Conv" else f"{node.op_type} after {before[-1]}"
        nodes, behind = [node], readers.get(output, [])
        if [reader.op_type for reader in behind] == ["Relu"]:
            nodes += behind
        names |= {member.output[0]: name for member in nodes}
        layers.append(Layer(name, tuple(member.name for member in nodes)))
    return layers


class _Reader:
    """Images as ONNX Runtime's calibrator asks for them."""

    def __init__(self, calibration: Sequence[UInt8Array], advance: Callable[[int, int], None]) -> None:
        self._inputs = self._read(calibration, advance)

    def get_next(self) -> dict[str, UInt8Array] | None:
        return next(self._inputs, None)

    @staticmethod
    def _read(calibration: Sequence[UInt8Array], advance: Callable[[int, int], None]) -> Iterator[dict[str, UInt8Array]]:
        for done, image in enumerate(calibration, start=1):
            yield {"images": image[None]}
            advance(done, len(calibration))


def _ranges(exported: Path, calibration: Sequence[UInt8Array], room: Path, stage: Stage) -> Ranges:
    """Least and largest value of each activation in an image, averaged over the images: one odd image widens no range."""
    from onnxruntime.quantization import CalibrationMethod, create_calibrator

    copied = room / "float32.onnx"  # the calibrator writes beside it
    copied.write_bytes(exported.read_bytes())
    with stage("calibrate") as advance:
        calibrator = create_calibrator(
            copied,
            [*_OPERATORS, "Relu"],
            augmented_model_path=str(room / "calibrated.onnx"),
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"moving_average": True},  # the plain mean where all images come in one call
        )
        calibrator.collect_data(_Reader(calibration, advance))
        return calibrator.compute_data()


def _quantized(exported: Path, layers: Sequence[Layer], ranges: Ranges) -> bytes:
    """The network with these layers in int8."""
    from onnxruntime.quantization import QDQQuantizer, QuantType

    model = onnx.load(exported)
    nodes = [node for layer in layers for node in layer.nodes]
    reads_bytes = stem.name(model) in nodes and stem.suits(model)
    if reads_bytes:
        model = stem.grouped(model)
        nodes += stem.NODES
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=True,  # weights of 7 bits: two products of 8 and 8 overflow the 16 bits of processors without VNNI
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=ranges,
        nodes_to_quantize=nodes,
        nodes_to_exclude=[],
        op_types_to_quantize=[*_OPERATORS, "Relu", *stem.OPERATORS],
        extra_options={},
    )
    quantizer.quantize_model()
    proto = quantizer.model.model
    if reads_bytes:
        stem.clear(proto)
    (text,) = (prop.value for prop in proto.metadata_props if prop.key == card.KEY)
    return with_card(proto, dataclasses.replace(Card.from_json(text, exported), precision="int8"))


def _by_error(
    exported: Path, pictures: Sequence[UInt8Array], layers: Sequence[Layer], ranges: Ranges, room: Path, stage: Stage
) -> list[Layer]:
    """The layers with their errors, the largest first."""
    reference = backends.load(exported, "onnx")  # other engines round in other places
    expected = [reference(picture[None]) for picture in pictures]
    power = sum(float(np.square(logits).sum()) for logits in expected)
    measured = []
    with stage("compare layers") as advance:
        for done, layer in enumerate(layers, start=1):
            alone = room / "alone.onnx"
            alone.write_bytes(_quantized(exported, [layer], ranges))
            backend = backends.load(alone, "onnx")
            errors = (backend(picture[None]) - logits for picture, logits in zip(pictures, expected, strict=True))
            error = 100 * math.sqrt(sum(float(np.square(difference).sum()) for difference in errors) / power)
            measured.append(dataclasses.replace(layer, error=error))
            advance(done, len(layers))
    return sorted(measured, key=lambda layer: -layer.error)
