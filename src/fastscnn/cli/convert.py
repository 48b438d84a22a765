"""convert: a checkpoint of another implementation as a weight file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from fastscnn.base.arguments import height_width
from fastscnn.cli.console import configure, show
from fastscnn.cli.flags import learning, parse_classes
from fastscnn.cli.options import Quiet, Verbose, described, path, required, value, write_size

USAGE = "[options] FILE --out FILE --classes CLASSES"


def run(
    file: Annotated[Positional[Path], path("FILE"), required("Checkpoint, .pth or .pdparams.")],
    *,
    out: Annotated[Path, path("FILE"), required("The .safetensors file to write.")],
    classes: Annotated[str, required("Classes of the logits: cityscapes, camvid, or a dataset (NAME:ROOT, or the path of a "
                                     "dataset.toml).", "CLASSES")],
    layout: Annotated[Literal["auto", "mmseg", "tramac", "paddleseg"], described(
        "Implementation the checkpoint comes from. auto: recognised by the names of its tensors.", name="from")] = "auto",
    size: Annotated[tuple[int, int], value("HxW", height_width, write=write_size), described(
        "Network input size, HxW: the one it was trained at. It runs at others too.")] = (1024, 2048),
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Convert a checkpoint of mmsegmentation, Tramac's Fast-SCNN-pytorch or PaddleSeg. Code in it is never run."""
    configure(quiet, verbose)
    card = learning("convert", "convert").convert(file, out, layout, parse_classes(classes), size)
    show(f"Wrote {out}: variant {card.variant}, {len(card.label_set)} classes")
    show(f"Next: fastscnn export {out} --out {out.with_suffix('.onnx')}")
    return 0
