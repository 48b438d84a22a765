"""Target triton: a model of a repository of the NVIDIA Triton Inference Server, a folder with config.pbtxt and 1/model.onnx."""

from __future__ import annotations

import json
from pathlib import Path

from fastscnn.exporting.targets.onnx import load_onnx
from fastscnn.exporting.targets.target import Exported, Runner, Target
from fastscnn.model.card import Card

_BATCH = 8  # images of the same size that the server may run at once; edit it in config.pbtxt
_MODEL = Path("1", "model.onnx")  # the version is a folder


def _write(exported: Exported, path: Path) -> None:
    (path / _MODEL.parent).mkdir(parents=True)
    (path / _MODEL).write_bytes(exported.content)
    (path / "config.pbtxt").write_text(config(path.name, exported), encoding="utf-8")


def config(name: str, exported: Exported) -> str:
    """Return the configuration of a model: its name, inputs and outputs.

    A network of fixed size takes one image, and its sizes include the batch. Otherwise the server puts images of the same size
    into a batch, which the sizes leave out.
    """
    card, form = exported.card, exported.form
    height, width = form.static or (-1, -1)
    labels = form.output_size or (height, width)
    coarse = tuple(-1 if side < 0 else -(-side // 8) for side in (height, width))
    outputs = {"logits": ("FP32", (len(card.label_set), *coarse))}
    if form.output != "logits":
        outputs = {"labels": ("UINT8", labels)}
    if form.output == "confidence":
        outputs["confidence"] = ("FP32", labels)
    lines = [f"name: {json.dumps(name)}", 'backend: "onnxruntime"', f"max_batch_size: {0 if form.static else _BATCH}"]
    lines += ["input [", _tensor("images", "UINT8", (height, width, card.channels), bool(form.static)), "]", "output ["]
    lines += [",\n".join(_tensor(each, kind, sides, bool(form.static)) for each, (kind, sides) in outputs.items()), "]"]
    return "\n".join([*lines, *([] if form.static else ["dynamic_batching { }"]), ""])


def _tensor(name: str, kind: str, sides: tuple[int, ...], batched: bool) -> str:
    dims = ", ".join(map(str, (1, *sides) if batched else sides))
    return f'  {{ name: "{name}", data_type: TYPE_{kind}, dims: [ {dims} ] }}'


def _load(path: Path, card: Card) -> Runner:
    return load_onnx(path / _MODEL, card)


TARGET = Target(
    name="triton",
    suffix="",
    what="model of an NVIDIA Triton repository, a folder with config.pbtxt and 1/model.onnx",
    check=lambda: None,  # its ONNX Runtime is a dependency of the package
    write=_write,
    load=_load,
    runtime="ONNX Runtime, Triton's backend",
)
