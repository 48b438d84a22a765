"""Quantise an exported network to int8 with ONNX Runtime, and keep its most sensitive layers in float32 if required.

Activations get ranges measured on calibration images; weights become int8 per channel. There are two kinds:
- For CPUs: uint8 activations with zero points. The first convolution reads the uint8 image directly (`stem`).
- Symmetric, for TensorRT and NPUs: int8 activations, and all zero points 0. The first convolution reads the normalised image,
  and biases stay in float32.
Batch, height and width stay dynamic.
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
from fastscnn.backends import Backend
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.data.datasets import DatasetSpec
from fastscnn.exporting import stem
from fastscnn.exporting.metadata import card_of, with_card
from fastscnn.media import images

_CALIBRATED = 64  # images at most
_COMPARED = 4  # of those, for the error of each layer: layers differ far more than images
_OPERATORS = ("Conv", "Add", "Concat", "Resize")  # on feature maps only: the graph also uses them to compute sizes
_SOURCE = Path("exported.onnx")  # for errors; the network is in memory
_INFERRED = {"onnx.infer": "onnxruntime.quant"}  # tells ONNX Runtime that shapes are inferred; else it does so through files

Stage = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]  # shows a named step, advanced by (done, total)
Ranges = Any  # TensorsData of ONNX Runtime, the range of each activation; it has no types


@dataclass(frozen=True)
class Layer:
    """The unit that is quantised or kept in float32: an operator on feature maps with the ReLU that follows it.

    Attributes:
        name: of its weights, for example "classifier.3"; without weights, its operator and the layer before it.
        nodes: names of its nodes in the graph.
        error: root mean square error of the logits with only this layer quantised, in percent of the root mean square of
            the logits; NaN before it is measured.
    """

    name: str
    nodes: tuple[str, ...]
    error: float = math.nan


@dataclass(frozen=True)
class Quantized:
    """A quantised network.

    Attributes:
        data: content of the ONNX file.
        kept: the layers in float32, largest error first.
        layers: number of all layers.
    """

    data: bytes
    kept: tuple[Layer, ...]
    layers: int


def calibration_images(data: DatasetSpec, split: str, size: tuple[int, int]) -> list[UInt8Array]:
    """Return at most 64 images of a split, evenly spaced, each resized to the network's input.

    Args:
        data: the dataset.
        split: name of the split.
        size: (height, width) of the input.

    Returns:
        uint8 [height, width, channels] each.

    Raises:
        FastSCNNError: the split or one of its files is missing or broken.
    """
    pairs = data.pairs(split)
    chosen = np.linspace(0, len(pairs) - 1, min(len(pairs), _CALIBRATED)).round().astype(int)
    return [images.resize(data.read(pairs[index])[0], size) for index in chosen]


def quantize(
    exported: bytes,
    calibration: Sequence[UInt8Array],
    accept: Callable[[bytes, Sequence[Layer]], bool],
    stage: Stage,
    symmetric: bool = False,
) -> Quantized | None:
    """Quantise an exported network to int8.

    The first attempt quantises all layers. While an attempt is not accepted, the next one keeps more layers in float32:
    those with the largest error, 1, 2, 4 and so on up to half of all layers.

    Args:
        exported: content of the float32 ONNX file that `trace` returns.
        calibration: images uint8 [H, W, channels], similar to those in use.
        accept: called with the content of an attempt's file and its layers in float32; returns whether it is accurate enough.
        stage: shows the progress of a named step.
        symmetric: int8 activations, and all zero points 0.

    Returns:
        The first accepted attempt, or None.

    Raises:
        FastSCNNError: the temporary files for calibration cannot be written.
    """
    layers = _layers(exported)
    ranges = _ranges(exported, calibration, stage)
    for kept in _attempts(len(layers)):
        if kept == 1:
            layers = _by_error(exported, calibration[:: -(-len(calibration) // _COMPARED)], layers, ranges, stage,
                               symmetric)
        data = _quantized(exported, layers[kept:], ranges, symmetric)
        if accept(data, layers[:kept]):
            return Quantized(data, tuple(layers[:kept]), len(layers))
    return None


def _attempts(layers: int) -> list[int]:
    """Number of layers to keep in float32 in each attempt."""
    half = layers // 2
    return sorted({0, *(1 << power for power in range(half.bit_length())), half})


def _layers(exported: bytes) -> list[Layer]:
    """Return the layers that can be quantised, in the order of the graph."""
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(exported)).graph
    types = {value.name: value.type.tensor_type for value in (*graph.value_info, *graph.output)}
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for value in node.input:
            readers.setdefault(value, []).append(node)
    layers: list[Layer] = []
    names: dict[str, str] = {}  # activation -> name of the layer that computes it
    for node in graph.node:
        (output,) = node.output
        feature_map = types[output].elem_type == onnx.TensorProto.FLOAT and len(types[output].shape.dim) == 4
        if node.op_type not in _OPERATORS or not feature_map:
            continue
        before = [names[value] for value in node.input if value in names]
        name = node.input[1].removesuffix(".weight") if node.op_type == "Conv" else f"{node.op_type} after {before[-1]}"
        nodes, following = [node], readers.get(output, [])
        if [reader.op_type for reader in following] == ["Relu"]:
            nodes += following
        names |= {member.output[0]: name for member in nodes}
        layers.append(Layer(name, tuple(member.name for member in nodes)))
    return layers


class _Reader:
    """The calibration images, with the interface that the calibrator of ONNX Runtime requires."""

    def __init__(self, calibration: Sequence[UInt8Array], advance: Callable[[int, int], None]) -> None:
        self._inputs = self._read(calibration, advance)

    def get_next(self) -> dict[str, UInt8Array] | None:
        return next(self._inputs, None)

    @staticmethod
    def _read(calibration: Sequence[UInt8Array], advance: Callable[[int, int], None]) -> Iterator[dict[str, UInt8Array]]:
        for done, image in enumerate(calibration, start=1):
            yield {"images": image[None]}
            advance(done, len(calibration))


def _ranges(exported: bytes, calibration: Sequence[UInt8Array], stage: Stage) -> Ranges:
    """Measure the range of each activation: its minimum and maximum per image, averaged over the images.

    The average keeps a single unusual image from widening the range.
    """
    from onnxruntime.quantization import CalibrationMethod, create_calibrator

    with stage("calibrate int8") as advance:
        try:
            with tempfile.TemporaryDirectory() as folder:  # the calibrator reads and writes files only
                file = Path(folder) / "float32.onnx"
                file.write_bytes(exported)
                calibrator = create_calibrator(
                    file,
                    [*_OPERATORS, "Relu"],
                    augmented_model_path=str(Path(folder) / "calibrated.onnx"),
                    calibrate_method=CalibrationMethod.MinMax,
                    extra_options={"moving_average": True},  # a plain mean, because all images come in one call
                )
        except Exception as error:  # of the disk; a truncated file gives an error of onnx or ONNX Runtime instead
            reason = error.strerror if isinstance(error, OSError) else str(error).partition("\n")[0]
            raise FastSCNNError(f"{_temporary_folder()}: the temporary files of the int8 calibration cannot be written "
                                f"({reason}); free some space, or set TMPDIR to another folder.") from error
        calibrator.collect_data(_Reader(calibration, advance))
        return calibrator.compute_data()


def _temporary_folder() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:  # there is none that can be written to
        return "TMPDIR"


def _quantized(exported: bytes, layers: Sequence[Layer], ranges: Ranges, symmetric: bool = False) -> bytes:
    """Return the network with these layers in int8."""
    from onnxruntime.quantization import QDQQuantizer, QuantType

    model = onnx.load_from_string(exported)
    described = card_of(model)
    nodes = [node for layer in layers for node in layer.nodes]
    reads_bytes = not symmetric and stem.name(model) in nodes and stem.suits(model)
    if reads_bytes:
        model = stem.grouped(model)
        nodes += stem.NODES
    model = onnx.shape_inference.infer_shapes(model)
    onnx.helper.set_model_props(model, _INFERRED)
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        # 7-bit weights: sums of two 8-bit products overflow 16 bits on processors without VNNI.
        reduce_range=not symmetric,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8 if symmetric else QuantType.QUInt8,
        tensors_range=ranges,
        nodes_to_quantize=nodes,
        nodes_to_exclude=[],
        op_types_to_quantize=[*_OPERATORS, "Relu", *stem.OPERATORS],
        # TensorRT takes no int32 biases.
        extra_options={"ActivationSymmetric": True, "QuantizeBias": False} if symmetric else {},
    )
    quantizer.quantize_model()
    proto = quantizer.model.model
    if reads_bytes:
        stem.clear(proto)
    quantizer.model.topological_sort()  # the quantiser appends the nodes of weights, and ONNX demands an order
    return with_card(proto, dataclasses.replace(described, precision="int8"))


def _by_error(
    exported: bytes, pictures: Sequence[UInt8Array], layers: Sequence[Layer], ranges: Ranges, stage: Stage, symmetric: bool
) -> list[Layer]:
    """Measure the error of each layer, and return them with the largest error first."""
    reference = _load(exported)
    expected = [reference(picture[None]) for picture in pictures]
    power = sum(float(np.square(logits).sum()) for logits in expected)
    measured = []
    with stage("compare layers") as advance:
        for done, layer in enumerate(layers, start=1):
            backend = _load(_quantized(exported, [layer], ranges, symmetric))
            errors = (backend(picture[None]) - logits for picture, logits in zip(pictures, expected, strict=True))
            error = 100 * math.sqrt(sum(float(np.square(difference).sum()) for difference in errors) / power)
            measured.append(dataclasses.replace(layer, error=error))
            advance(done, len(layers))
    return sorted(measured, key=lambda layer: -layer.error)


def _load(data: bytes) -> Backend:
    """Load a network into ONNX Runtime, whose arithmetic the quantisation is made for."""
    return backends.load(_SOURCE, "onnx", data=data)
