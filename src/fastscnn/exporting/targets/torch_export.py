"""Target torch-export: a program of torch.export, run by PyTorch without this package. The card is in its extra files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastscnn.exporting.targets.target import Exported, Runner, Target
from fastscnn.model import card
from fastscnn.model.card import Card

if TYPE_CHECKING:
    import torch

_EXAMPLE = (2, 96, 160)  # batch, height and width; all three are dynamic in the program


def _write(exported: Exported, path: Path) -> None:
    import torch

    form = exported.form
    batch, height, width = (1, *form.static) if form.static else _EXAMPLE
    images = torch.zeros(batch, height, width, exported.card.channels, dtype=torch.uint8)
    sides = None if form.static else {"images": dict.fromkeys(range(3), torch.export.Dim.DYNAMIC)}
    program = torch.export.export(_module(exported), (images,), dynamic_shapes=sides)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    torch.export.save(program, path, extra_files={card.KEY: exported.card.to_json()})


def _module(exported: Exported) -> torch.nn.Module:
    """Return the network with the outputs of the form, as a dictionary."""
    import torch
    from torch.nn import functional

    form, temperature = exported.form, exported.card.temperature

    class WithLabels(torch.nn.Module):
        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            logits = self.network(images)
            if form.output == "logits":
                return {"logits": logits}
            size = form.output_size or images.shape[1:3]
            wide = functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)
            found = {"labels": wide.argmax(1).to(torch.uint8)}
            if form.output == "confidence":
                found["confidence"] = (wide / temperature).softmax(1).amax(1)
            return found

    return WithLabels(exported.network).eval()


def _load(path: Path, _: Card) -> Runner:
    import torch

    network = torch.export.load(path).module()

    def run(images: Any) -> dict[str, Any]:
        with torch.inference_mode():
            return {name: value.numpy() for name, value in network(torch.from_numpy(images)).items()}

    return run


TARGET = Target(
    name="torch-export",
    suffix=".pt2",
    what="program of torch.export, for PyTorch and its compilers (AOTInductor, ExecuTorch)",
    check=lambda: None,  # exporting needs PyTorch anyway
    write=_write,
    load=_load,
    precisions=("float32",),
    runtime="PyTorch",
)
