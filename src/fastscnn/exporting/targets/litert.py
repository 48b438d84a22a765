"""Target litert: a .tflite file for LiteRT (TensorFlow Lite) on phones, in float32 or int8.

The file has one signature, from `images`, uint8 [1, H, W, channels], to `logits`, float32 [1, H/8, W/8, classes], or `labels`,
uint8 [1, H, W]. All layers compute in this layout. The card is in the file's metadata.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fastscnn.base import machine
from fastscnn.base.types import UInt8Array
from fastscnn.exporting.quiet import quiet
from fastscnn.exporting.targets.target import Exported, Runner, Target, needs
from fastscnn.model import card
from fastscnn.model.card import Card

_INPUT = "images"


def _write(exported: Exported, path: Path) -> None:
    content = _converted(exported)
    if exported.form.int8:
        content = _quantised(content, exported.calibration)
    described = replace(exported.card, precision=exported.form.precision, content_sha256="")
    path.write_bytes(_finished(content, described))


def _converted(exported: Exported) -> bytes:
    """Return the float32 .tflite file of the network."""
    import torch

    with quiet():
        import litert_torch

    from fastscnn.network.static import StaticNetwork

    form, size = exported.form, exported.form.static
    assert size is not None  # Target.static
    labels = (form.output_size or size) if form.output == "labels" else None
    network = StaticNetwork(exported.network, size, labels, channels_last=True)

    class Named(torch.nn.Module):
        """Gives the output its name."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            found = self.network(images)
            return {form.output: found.to(torch.uint8) if labels else found}

    example = torch.zeros(1, *size, exported.card.channels, dtype=torch.uint8)
    with quiet():
        return bytes(litert_torch.convert(Named().eval(), sample_kwargs={_INPUT: example}).model_content())


def _quantised(content: bytes, calibration: Sequence[UInt8Array]) -> bytes:
    """Return the file in int8: activations per tensor with measured ranges, weights per channel, the output in float32."""
    with quiet():
        from ai_edge_quantizer import quantizer, recipe_manager
        from ai_edge_quantizer.algorithm_manager import AlgorithmName
        from ai_edge_quantizer.qtyping import TFLOperationName

        recipe = recipe_manager.RecipeManager()
        recipe.add_static_config(".*", TFLOperationName.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8)
        recipe.add_quantization_config(".*", TFLOperationName.OUTPUT, algorithm_key=AlgorithmName.NO_QUANTIZE)
        made = quantizer.Quantizer(content, recipe.get_quantization_recipe())
        ranges = made.calibrate({"serving_default": [{_INPUT: image[None]} for image in calibration]})
        return bytes(made.quantize(ranges, enable_progress_bar=False, enable_progress_report=False).quantized_model)


def _finished(content: bytes, described: Card) -> bytes:
    """Return the file with the card, and with integer arithmetic from the first layer on."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    _read_bytes(model)
    _add_metadata(model, card.KEY, described.to_json().encode())
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _read_bytes(model: Any) -> None:
    """Let the first layer of an int8 network read the uint8 image as a quantised tensor of scale 1, in place.

    The quantiser leaves a conversion to float32 and one to int8 before it.
    """
    from ai_edge_litert import schema_py_generated as schema

    (graph,) = model.subgraphs
    cast, quantise = graph.operators[:2]
    code = model.operatorCodes[quantise.opcodeIndex].builtinCode
    if code != schema.BuiltinOperator.QUANTIZE:
        return
    image, read = graph.tensors[cast.inputs[0]], graph.tensors[quantise.outputs[0]]
    for tensor, zero in ((image, 0), (read, -128)):
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [1.0], [zero]
    quantise.inputs = cast.inputs
    del graph.operators[0]


def _add_metadata(model: Any, name: str, content: bytes) -> None:
    """Add an entry to the metadata, in place."""
    from ai_edge_litert import schema_py_generated as schema

    entry, buffer = schema.MetadataT(), schema.BufferT()
    buffer.data = list(content)
    entry.name, entry.buffer = name, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]


def _load(path: Path, _: Card) -> Runner:
    """Return the file in LiteRT's interpreter."""
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(str(path), num_threads=machine.threads()).get_signature_runner()  # one thread by default

    def runner(images: UInt8Array) -> Mapping[str, Any]:
        found = run(**{_INPUT: images})
        return found if "labels" in found else {"logits": np.ascontiguousarray(found["logits"].transpose(0, 3, 1, 2))}

    return runner


def _check() -> None:
    # litert-torch installs an old typing-extensions, for a part that the conversion does not use; tyro needs a new one.
    needs("litert", "litert-torch", "litert-torch==0.10.*", (0, 10), (0, 11), "pip install --upgrade typing-extensions")


TARGET = Target(
    name="litert",
    suffix=".tflite",
    what="LiteRT (TensorFlow Lite) file for Android, iOS and embedded Linux",
    check=_check,
    write=_write,
    load=_load,
    outputs=("logits", "labels"),
    precisions=("float32", "int8"),
    own_precisions=("int8",),
    static=True,
    runtime="LiteRT",
)
