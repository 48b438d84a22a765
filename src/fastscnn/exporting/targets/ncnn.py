"""Target ncnn: a .param file with the graph and a .bin file with the weights, for ncnn on phones and small processors.

The network takes `in0`, an RGB image in float32 as `ncnn::Mat::from_pixels` makes it: values 0 to 255, without
`substract_mean_normalize`, because the network normalises its input. It returns `out0`, logits float32 [classes, H/8, W/8].
The card is in a .card.json file beside them.
"""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fastscnn.base import machine
from fastscnn.base.errors import FastSCNNError
from fastscnn.base.types import UInt8Array
from fastscnn.exporting.quiet import quiet
from fastscnn.exporting.targets.target import Exported, Runner, Target, needs
from fastscnn.model.card import Card

_INPUT, _OUTPUT = "in0", "out0"  # names that pnnx gives


def _write(exported: Exported, path: Path) -> None:
    half = exported.form.precision == "float16"
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # pnnx writes eight files
        param, weights = _converted(exported, Path(folder), half)
        path.write_bytes(param.read_bytes())
        path.with_suffix(".bin").write_bytes(weights.read_bytes())
    described = replace(exported.card, precision=exported.form.precision, content_sha256="")
    path.with_suffix(".card.json").write_text(described.to_json(), encoding="utf-8")


def _converted(exported: Exported, folder: Path, half: bool) -> tuple[Path, Path]:
    """Convert the network in a folder, and return the .param and the .bin file."""
    import torch

    with quiet():
        import pnnx

    from fastscnn.network.static import StaticNetwork

    size = exported.form.static
    assert size is not None  # Target.static
    shape = (1, exported.card.channels, *size)
    source = folder / "network.onnx"
    with quiet("torch.onnx"):
        program = torch.onnx.export(StaticNetwork(exported.network, size), (torch.zeros(shape),), dynamo=True, verbose=False)
    assert program is not None  # only the legacy exporter returns None
    source.write_bytes(program.model_proto.SerializeToString())
    command = [pnnx.EXEC_PATH, source.name, f"inputshape=[{','.join(map(str, shape))}]f32", f"fp16={int(half)}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", errors="replace", check=False)
    param, weights = folder / "network.ncnn.param", folder / "network.ncnn.bin"
    if done.returncode or not param.exists() or not weights.exists():
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise FastSCNNError(f"target ncnn: pnnx cannot convert the network ({last}); export for another target.")
    return param, weights


def _load(path: Path, _: Card) -> Runner:
    """Return the files in ncnn on the CPU."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = machine.threads()
    if net.load_param(str(path)) or net.load_model(str(path.with_suffix(".bin"))):
        raise FastSCNNError(f"{path}: ncnn cannot load the converted network; export for another target.")

    def runner(images: UInt8Array) -> dict[str, Any]:
        planes = np.ascontiguousarray(images[0].transpose(2, 0, 1), np.float32)
        with net.create_extractor() as extractor:
            extractor.input(_INPUT, ncnn.Mat(planes).clone())  # ncnn's memory is aligned, as its vector instructions need
            _status, logits = extractor.extract(_OUTPUT)
            return {"logits": np.array(logits, np.float32)[None]}

    return runner


def _check() -> None:
    needs("ncnn", "pnnx", "pnnx>=20261020", (20261020,))
    needs("ncnn", "ncnn", "ncnn>=1.0.20261020", (1, 0, 20261020))


TARGET = Target(
    name="ncnn",
    suffix=".param",
    what="ncnn files (.param, .bin) for phones and small processors, with the card in .card.json",
    check=_check,
    write=_write,
    load=_load,
    outputs=("logits",),
    precisions=("float32", "float16"),
    own_precisions=("float16",),
    static=True,
    runtime="ncnn",
)
