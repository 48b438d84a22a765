"""Target openvino: an OpenVINO IR, an .xml file with the graph and a .bin file with the weights. The card is in rt_info."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastscnn.exporting.targets.target import Exported, Runner, Target, needs
from fastscnn.model.card import Card

_CARD = ["fastscnn", "card"]  # path of the card in rt_info


def _write(exported: Exported, path: Path) -> None:
    import openvino

    from fastscnn.backends.openvino import read  # first: it keeps OpenVINO from reporting its use

    model = read(exported.content)
    model.set_rt_info(exported.card.to_json(), _CARD)
    openvino.save_model(model, path, compress_to_fp16=False)


def _load(path: Path, _: Card) -> Runner:
    from fastscnn.backends.openvino import core

    # Without the hint, OpenVINO computes in bfloat16 where the processor can.
    compiled = core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = [output.any_name for output in compiled.outputs]
    return lambda images: dict(zip(names, map(np.array, compiled(images).values()), strict=True))


TARGET = Target(
    name="openvino",
    suffix=".xml",
    what="OpenVINO IR (.xml and .bin), with the model card in rt_info",
    check=lambda: needs("openvino", "openvino", "openvino>=2026.1", (2026, 1)),
    write=_write,
    load=_load,
    runtime="OpenVINO",
)
